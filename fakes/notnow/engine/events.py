"""What a client did, in the words of the engine.

Adapters say these to `Engine.feed`; the counterpart, what a fake does next, is `notnow.engine.actions`.
`conn` is the connection's id, unique across processes, so that several engines may share one store.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

Facts = Mapping[str, object]
NOTHING: Facts = MappingProxyType({})


class Opened(Struct, frozen=True):
    """A connection was accepted: the moment `connect`. `client` is the peer's address without its port."""

    conn: str
    client: str


class Hello(Struct, frozen=True):
    """A TLS ClientHello has come: the moment `tls`. It must be answered at once, inside the handshake.

    `sni` is the server name that the client asked for (RFC 6066 §3), None when it named none.
    """

    conn: str
    sni: str | None


class Asked(Struct, frozen=True):
    """The client asks for something, at any other moment of the protocol.

    `facts` is what is known of it beyond the connection (sender, recipient, user, command, …);
    `stream` tells apart what one connection carries at a time (0 where it carries one).
    """

    conn: str
    moment: str
    facts: Facts = NOTHING
    stream: int = 0


class Known(Struct, frozen=True):
    """Something has become known of the connection and stays so (who is logged in); None takes it back."""

    conn: str
    facts: Facts


class Reached(Struct, frozen=True):
    """The byte that a `Watch` named has passed."""

    conn: str
    stream: int = 0


class Answered(Struct, frozen=True):
    """A 4yz or 5yz reply has just left: the moment `error`."""

    conn: str
    code: int
    command: str = ""


class Heard(Struct, frozen=True):
    """Bytes came that are no moment of their own (a piece of a body): they only end an idle spell."""

    conn: str


class Ended(Struct, frozen=True):
    """What was in progress since `moment` (a mail transaction, a transfer, a request) is over."""

    conn: str
    moment: str
    stream: int = 0


class Leaving(Struct, frozen=True):
    """The client is going (it said QUIT, or closed its side): its places are free from now on."""

    conn: str


class Closed(Struct, frozen=True):
    """The connection is gone; its id will not be heard again."""

    conn: str


class Tick(Struct, frozen=True):
    """Nothing but time has passed; due at `Engine.due`."""


Event = Opened | Hello | Asked | Known | Reached | Answered | Heard | Ended | Leaving | Closed | Tick
