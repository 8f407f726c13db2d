"""A moment: a point in a protocol where a rule may act, with the faults and facts it can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

# Facts that stay known on a connection once an event has brought them.
CONNECTION_FACTS = frozenset({"client", "tls", "sni", "user"})

# Faults that replace the healthy answer, and those that go with it.
REPLY = frozenset({"reply", "close", "stall", "keep", "delay", "drip"})
_HANDSHAKE = frozenset({"certificate", "alert", "close"})
_UNASKED = frozenset({"reply", "close", "delay", "drip"})


class Moment(Struct, frozen=True):
    """A point in a protocol where a rule may act.

    `doc`: when it comes.
    `faults`: the faults that a rule may have here.
    `facts`: the names that `where` may use besides those of the connection.
    `within`: broader moments that cover it, such as `any`.
    `lasts`: it begins something that stays in progress until an `Ended`; `over` counts that.
    `unasked`: the client asked for nothing, so the server says nothing unless a rule fires.
    `body`: it comes in the middle of what the client sends.
    `attempt`: to ask again after a refusal is a new attempt, as a new connection is.
    `anywhere`: such an attempt may come on any connection.
    `placeholders`: the live placeholders that only a reply at this moment may hold.
    `final`: a status here answers everything on the connection, which then closes.
    `verbs`: the commands that come here, where only some do.
    `amid`: a transfer is under way; a refusal ends it.
    `claimed`: `user` may be a name that the client has given and the server has not checked.
    `ends`: the whole transfer has passed; a refusal takes it back.
    """

    doc: str
    faults: frozenset[str] = REPLY
    facts: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()
    lasts: bool = False
    unasked: bool = False
    body: bool = False
    attempt: bool = False
    anywhere: bool = False
    placeholders: frozenset[str] = frozenset()
    final: bool = False
    verbs: tuple[str, ...] = ()
    amid: bool = False
    ends: bool = False
    claimed: bool = False


def command(doc: str, *facts: str, **more: Any) -> Moment:
    """The moment of a command, which `any` covers."""
    return Moment(doc, facts=frozenset({"command", *facts}), within=frozenset({"any"}), **more)


def with_verbs(table: Mapping[str, Moment]) -> dict[str, Moment]:
    """The same moments; a command without verbs of its own gets its name as its verb."""
    return {
        name: replace(m, verbs=m.verbs or (name.upper(),)) if "command" in m.facts else m for name, m in table.items()
    }


EVERYWHERE: Mapping[str, Moment] = {
    "connect": Moment("A connection is accepted; a reply here replaces the greeting.", attempt=True),
    "tls": Moment("The ClientHello of a TLS handshake, with the name that the client asks for.", faults=_HANDSHAKE),
    "enter": Moment("The phase begins: acts on every live connection.", faults=_UNASKED, unasked=True),
    "any": Moment("Every command, unknown ones too.", facts=frozenset({"command"})),
    "error": Moment(
        "A 4yz or 5yz reply has just left; the reply of the rule follows it.",
        faults=_UNASKED,
        facts=frozenset({"command"}),
        unasked=True,
    ),
    "idle": Moment("The client has been silent for the time in `after`.", faults=_UNASKED, unasked=True),
}
