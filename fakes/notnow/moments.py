"""The moments of each protocol: where a rule may act, what is known there, and which faults it can have.

This table is the only place that names them. The scenario loader checks against it, the engine compiles
by it, and the reference in the docs is printed from it. To add a moment, add a row here and have the
adapter of that protocol say it (`Asked(conn, "name", facts)`).
"""

from __future__ import annotations

from dataclasses import dataclass

# Facts that stay known on a connection once an event has brought them.
CONNECTION_FACTS = frozenset({"client", "tls", "sni", "user"})

# Faults that replace the healthy answer, and those that go with it.
_REPLY = frozenset({"reply", "close", "stall", "keep", "delay", "drip"})
_HANDSHAKE = frozenset({"certificate", "alert", "close"})
_UNASKED = frozenset({"reply", "close", "delay", "drip"})


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in a protocol where a rule may act.

    `facts`: the names that `where` may use besides those of the connection. `command`: the client's
    command, so that `any` covers it. `lasts`: what it begins stays in progress until an `Ended`, and
    that is what `over` counts here. `unasked`: the client has asked for nothing, so where no rule fires
    nothing is said.
    """

    doc: str
    faults: frozenset[str] = _REPLY
    facts: frozenset[str] = frozenset()
    command: bool = False
    lasts: bool = False
    unasked: bool = False


def _command(doc: str, *facts: str, lasts: bool = False) -> Moment:
    return Moment(doc, facts=frozenset({"command", *facts}), command=True, lasts=lasts)


_EVERYWHERE = {
    "connect": Moment("A connection is accepted; what is said here stands instead of the greeting."),
    "tls": Moment("The ClientHello of a TLS handshake, with the name that it asks for.", faults=_HANDSHAKE),
    "enter": Moment("The phase begins: acts on every live connection.", faults=_UNASKED, unasked=True),
    "any": _command("Every command, the unknown ones too."),
    "error": Moment(
        "A 4yz or 5yz reply has just left; what the rule says comes in addition.",
        faults=_UNASKED,
        facts=frozenset({"command"}),
        unasked=True,
    ),
    "idle": Moment("The client has been silent for the time that `after` says.", faults=_UNASKED, unasked=True),
}

_MAIL = ("sender", "size")

MOMENTS: dict[str, dict[str, Moment]] = {
    "smtp": _EVERYWHERE
    | {
        "starttls": _command("STARTTLS (RFC 3207)."),
        "ehlo": _command("EHLO or HELO."),
        "auth": _command("AUTH, once the credentials are in (RFC 4954).", "user"),
        "mail": _command("MAIL FROM: a mail transaction begins.", *_MAIL, lasts=True),
        "rcpt": _command("RCPT TO, for each recipient.", *_MAIL, "recipient"),
        "data": _command("The DATA command.", *_MAIL, "recipient"),
        "body": Moment(
            "In the middle of the message, after the first bytes of it or after `after_bytes`.",
            faults=(_REPLY | {"after_bytes"}) - {"keep"},
            facts=frozenset({*_MAIL, "recipient"}),
        ),
        "message": Moment("The final dot: the message is all there.", facts=frozenset({*_MAIL, "recipient", "header"})),
        "rset": _command("RSET."),
        "noop": _command("NOOP."),
        "quit": _command("QUIT."),
    },
}

PROTOCOLS = tuple(MOMENTS)


def covering(protocol: str, moment: str) -> frozenset[str]:
    """The values of `on` that cover an event of `moment`: itself, and `any` where it is a command."""
    known = MOMENTS[protocol].get(moment)
    if known is None or known.command:
        return frozenset({moment, "any"})
    return frozenset({moment})


def facts(protocol: str) -> frozenset[str]:
    """Every name that `where` may use in a scenario of this protocol."""
    return CONNECTION_FACTS.union(*(m.facts for m in MOMENTS[protocol].values()))


def facts_at(protocol: str, moment: str) -> frozenset[str]:
    """The names that `where` may use at a moment. A connection that is just accepted has said nothing yet."""
    if moment == "connect":
        return frozenset({"client"})
    if moment == "any":
        return facts(protocol) - {"header"}
    return CONNECTION_FACTS | MOMENTS[protocol][moment].facts


__all__ = ["CONNECTION_FACTS", "MOMENTS", "PROTOCOLS", "Moment", "covering", "facts", "facts_at"]
