"""Rules about the host for which a connection is made, its certificate, and the hosts for which it is used."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.http.asked import request
from notnow.conduct.reading.http.retries import has_name, host_of_connection
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.certificates import faults, without_occasion
from notnow.conduct.rules.rule import rule
from notnow.journal import TLS, Connection, Exchange
from notnow.units import plural

_NO_SNI = "an address, or a name that is not fully qualified, such as localhost: no SNI can carry it (RFC 6066 §3)"


@rule(
    "http.sni-on-http2",
    title="An HTTP/2 client names its host in the TLS handshake.",
    level="must",
    source="RFC 9113 §9.2",
    why="Without a name the server picks a certificate of its own choice, or none, and answers 421.",
    occasion="an HTTP/2 request over TLS for a host with a fully qualified name",
    proof="such a request on a connection without an SNI",
    innocent=_NO_SNI,
    example="TLS without an SNI\nC: GET a.site.test/",
)
def sends_sni_on_http2(run: Run) -> Finding:
    return _sends_sni(run, "2")


@rule(
    "http.sni-on-http1",
    title="An HTTP/1.1 client over TLS names its host in the handshake.",
    level="should",
    source="RFC 6066 §3 (RECOMMENDED)",
    why="Proxies that send no SNI (nginx without proxy_ssl_server_name) get 421 from Apache 2.4.64 and later.",
    occasion="an HTTP/1 request over TLS for a host with a fully qualified name",
    proof="such a request on a connection without an SNI",
    innocent=_NO_SNI,
    example="TLS without an SNI\nC: GET a.site.test/",
)
def sends_sni_on_http1(run: Run) -> Finding:
    return _sends_sni(run, "1.1", "1.0")


def _sends_sni(run: Run, *versions: str) -> Finding:
    named = 0
    for x in run.requests if run.once(occasions).tls else ():
        tls, asked = x.connection.tls, request(x)
        if tls is None or asked.version not in versions or not has_name(asked.host):
            continue
        if tls.sni is None:
            return broken(f"{asked.host} was asked for on a connection without an SNI", x.connection, x)
        named += 1
    return held(f"{plural(named, 'request')} on connections with an SNI") if named else NOT_EXERCISED


@rule(
    "http.verifies-certificate",
    title="The client sends no request on a connection whose certificate it must not trust.",
    level="must",
    source="RFC 9110 §4.3.4; RFC 5280 §6; RFC 9525 §6",
    why="An attacker may be at the other end, and can read the request with its cookies and passwords.",
    occasion="a connection that was shown a certificate of an unknown CA, an expired one, one without its intermediate, or one for another name",
    proof="a request on such a connection",
    innocent="a certificate for another name that covers the host of the request; a connection that the fake ended",
    example="TLS with a certificate of an unknown CA\nC: GET a.site.test/",
)
def verifies_certificates(run: Run) -> Finding:
    return over(
        _shown_wrong_ones(run),
        lambda n: (
            f"{plural(n, 'connection')} with a certificate that must not be trusted, and nothing asked on {'it' if n == 1 else 'them'}"
        ),
        without_occasion(run),
    )


def _shown_wrong_ones(run: Run) -> Iterator[Finding]:
    for connection in run.once(occasions).tls:
        tls = connection.tls
        if tls is None or not tls.defects:
            continue
        first = next((x for x in run.by_connection[connection] if x.http is not None), None)
        if first is not None and _must_not_trust(tls, first):
            yield broken(
                f"{request(first).host} was asked for on a connection whose certificate {faults(tls)}",
                connection,
                first,
            )
        elif first is None and connection.ended_by == "client":
            yield HELD


def _must_not_trust(tls: TLS, first: Exchange) -> bool:
    """True, except for a certificate that does not cover the SNI but covers the host of the request."""
    return tls.defects != ("name",) or "certificate" in request(first).misdirected


@rule(
    "http.coalesce-only-covered",
    title="The client uses a connection for another host only if its certificate covers that host.",
    level="must",
    source="RFC 9113 §9.1.1; RFC 9110 §4.3.3, §4.3.4",
    why="The server has not proved that it is that host, and the request may go to a stranger.",
    occasion="a request for a host other than that for which its connection was made",
    proof="such a request that the certificate shown does not cover; DNS lookups are not visible here",
    innocent="a request for the host for which the connection was made: http.verifies-certificate judges its certificate",
    example="TLS with SNI a.site.test, certificate for a.site.test\nC: GET b.site.test/",
)
def coalesces_what_is_covered(run: Run) -> Finding:
    return over(_foreign(run), lambda n: f"{plural(n, 'request')} for other hosts, all covered")


def _foreign(run: Run) -> Iterator[Finding]:
    firsts: dict[Connection, Exchange] = {}
    for x in run.requests if run.once(occasions).tls else ():
        first, asked = firsts.setdefault(x.connection, x), request(x)
        if x.connection.tls is None:
            continue
        made_for = host_of_connection(x.connection, first)
        if asked.host in (made_for, ""):
            continue
        if "certificate" in asked.misdirected:
            why = f"{asked.host} was asked for on a connection for {made_for}, whose certificate does not cover it"
            yield broken(why, *([first] if first is not x else []), x)
        else:
            yield HELD
