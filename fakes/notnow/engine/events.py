"""Events: what a client did. Adapters feed them to `Engine.feed`, which answers with `notnow.engine.actions`.

`conn` is the id of the connection. It is unique across processes, so that several engines may share one store.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

Facts = Mapping[str, object]
NOTHING: Facts = MappingProxyType({})


class Opened(Struct, frozen=True):
    """A connection was accepted: the moment `connect`. `client` is the address of the peer, without its port."""

    conn: str
    client: str


class Hello(Struct, frozen=True):
    """A TLS ClientHello arrived: the moment `tls`. The adapter acts on the answer at once, inside the handshake.

    `sni` is the server name that the client asked for (RFC 6066 §3); None if it named none.
    """

    conn: str
    sni: str | None


class Asked(Struct, frozen=True):
    """The client asked for something, at any other moment of the protocol.

    `facts` are those of the request (sender, recipient, user, command, …), besides those of the connection. All
    of them are hashable, but for `header`, a mapping. `stream` tells requests apart that one connection carries at the
    same time; it is 0 if the protocol carries one.
    """

    conn: str
    moment: str
    facts: Facts = NOTHING
    stream: int = 0


class Known(Struct, frozen=True):
    """Facts of the connection that hold from now on, such as the user who logged in; None withdraws a fact."""

    conn: str
    facts: Facts


class Reached(Struct, frozen=True):
    """The byte that a `Watch` asked for has passed."""

    conn: str
    stream: int = 0


class Answered(Struct, frozen=True):
    """A 4yz or 5yz reply has just been sent: the moment `error`."""

    conn: str
    code: int
    command: str = ""


class Heard(Struct, frozen=True):
    """Bytes arrived that belong to no moment, such as a piece of a body. They only restart the idle timeouts."""

    conn: str


class Ended(Struct, frozen=True):
    """The mail transaction, transfer or request that began at `moment` has ended."""

    conn: str
    moment: str
    stream: int = 0


class Finished(Struct, frozen=True):
    """A script of the moment `idle` has been carried out. Until then, the connection has no further idle timeout."""

    conn: str


class Leaving(Struct, frozen=True):
    """The client is leaving: it sent QUIT or closed its side. Its slots are free from now on."""

    conn: str


class Closed(Struct, frozen=True):
    """The connection has closed. Nothing with its id follows."""

    conn: str


class Tick(Struct, frozen=True):
    """Only time has passed. One is due at `Engine.due`."""


Event = Opened | Hello | Asked | Known | Reached | Answered | Heard | Ended | Finished | Leaving | Closed | Tick
