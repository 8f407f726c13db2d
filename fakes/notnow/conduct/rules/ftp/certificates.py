"""The rule about certificates."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, Finding, broken
from notnow.conduct.reading.ftp.commands import verb_of
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.certificates import faults, without_occasion
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import plural


@rule(
    "ftp.verifies-certificate",
    title="The client gives no command over TLS if it must not trust the certificate.",
    level="must",
    source="RFC 4217 §15.1.1; RFC 5280 §6; RFC 9525 §6",
    why="An attacker may be at the other end, and can read the password and the files.",
    occasion="a connection that was shown a certificate of an unknown CA, an expired one, one without its intermediate, or one for another name",
    proof="a command other than QUIT over TLS with such a certificate",
    innocent="QUIT, with which a client that checks the certificate after the handshake ends the session properly; a handshake that failed",
    example="C: AUTH TLS\nS: 234 Go on   (a certificate of an unknown CA)\nC: USER ann",
)
def verifies_certificates(run: Run) -> Finding:
    return over(
        _shown_wrong_ones(run),
        lambda n: f"{plural(n, 'connection')} with a certificate that must not be trusted, and no command over TLS",
        without_occasion(run),
    )


def _shown_wrong_ones(run: Run) -> Iterator[Finding]:
    for connection in run.once(occasions).tls:
        tls = connection.tls
        if tls is None or not tls.defects:
            continue
        if (first := _first_over_tls(run.by_connection[connection])) is not None:
            yield broken(
                f"{verb_of(first.request)} came over TLS with a certificate that {faults(tls)}", connection, first
            )
        elif connection.ended_by == "client":
            yield HELD


def _first_over_tls(exchanges: list[Exchange]) -> Exchange | None:
    """The first command other than QUIT over TLS: after an accepted AUTH, or any on a port for TLS alone."""
    upgraded = next((i for i, x in enumerate(exchanges) if x.moment == "auth" and x.code == 234), None)
    said = exchanges[upgraded + 1 :] if upgraded is not None else exchanges
    return next((x for x in said if x.request and x.moment not in ("tls", "quit")), None)
