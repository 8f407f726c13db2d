"""The parts of an HTTP connection, and what each of them asks of the others.

`Owner` is the connection as its protocol sees it, `Carrier` as its streams do. `HTTPProtocol` is the version of HTTP that it speaks, and
`Served` a request on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import h2.exceptions
import h11

from notnow.engine.actions import Ending, Response, Script
from notnow.journal import Connection, Exchange, ProtocolViolation
from notnow.servers.base.turns import Turn
from notnow.servers.http.head import Head

if TYPE_CHECKING:
    from hypercorn.events import Closed, RawData, Updated
    from hypercorn.protocol import events

    from notnow.servers.http.host import AppHost

S = TypeVar("S")
Work = Callable[[], Coroutine[Any, Any, None]]  # begun by the task that does it, or never
Behave = Callable[[Response | tuple[()] | None, float], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Fields = tuple[tuple[bytes, bytes], ...]  # of the head of an answer
failures = (h11.LocalProtocolError, h2.exceptions.ProtocolError)  # the answer cannot be sent as it is


class Gone(ConnectionError):  # noqa: N818 (no error)
    """The client no longer waits for the answer."""


class Served(Protocol):
    """A request, as the protocol sees it."""

    idle: bool

    @property
    def drops(self) -> bool:
        """The rest of the request's body is not needed."""

    @property
    def answered(self) -> bool:
        """The whole answer has been sent."""

    def cancelled(self) -> None:
        """The client has given the request up."""

    async def begin(self, head: Head, complete: bool = False) -> None:
        """The head of the request has arrived; `complete`: it is all of the request."""

    async def handle(self, event: events.Event) -> None:
        """A piece of the body has arrived, its end, or the end of the stream."""


class HTTPProtocol(Protocol):
    """A version of HTTP, as a stream uses it: HTTP/2, or HTTP/1.1."""

    multiplexes: bool  # requests run side by side, each on a stream of its own

    @property
    def open(self) -> int:
        """The requests that have not ended on both sides, answered ones included."""

    @property
    def is_waiting(self) -> bool:
        """True if the client holds back its body for a 100 (Continue), and nothing but that body may follow."""

    async def head(self, number: int, status: int, headers: Fields) -> None:
        """Send the head of a response. Raises one of `failures`, and Gone."""

    async def body(self, number: int, data: bytes) -> None:
        """Send a piece of the body."""

    async def drained(self, number: int) -> None:
        """Return when all that was sent of the body is on its way to the client."""

    async def end(self, number: int, trailers: Headers) -> None:
        """End the response. Raises one of `failures` where its content-length has promised more."""

    def fits(self, number: int, headers: Fields, body: bytes) -> bool:
        """True if a response with this body can be sent in one go. Raises Gone."""

    async def whole(self, number: int, status: int, headers: Fields, body: bytes) -> None:
        """Send a whole response, which fits, in one go. Raises as `head`."""

    async def go_on(self, number: int) -> None:
        """Send 100 (Continue)."""

    async def inform(self, number: int, status: int, headers: Headers) -> None:
        """Send another 1xx."""

    async def reset(self, number: int, code: int) -> bool:
        """Send RST_STREAM; False on HTTP/1.1, which has none."""

    async def forget(self, number: int) -> None:
        """Send nothing more on a stream, and drop what comes."""

    async def taken(self, number: int) -> None:
        """The app has read the body so far: the client may send more."""

    async def done(self, number: int) -> None:
        """Both sides of the stream have ended."""

    async def count_abuse(self) -> None:
        """Count a request that was refused. Raises Over when the client has reached the limit."""


class Owner(Protocol):
    """The connection, as its protocol sees it."""

    cap: int  # streams at a time that HTTP/2 clients are told
    secure: bool  # in TLS
    turn: Turn

    @property
    def may_speak(self) -> bool: ...
    def stream(self, protocol: HTTPProtocol, number: int) -> Served: ...
    async def send(self, event: RawData | Closed | Updated) -> None: ...
    def spawn(self, work: Work) -> object: ...
    async def give_way(self) -> None: ...
    def drain(self) -> None: ...
    def broken(self, how: ProtocolViolation) -> None: ...
    def malformed(self, number: int, said: str, why: str, code: str) -> None: ...


class Carrier(Protocol[S]):
    """The connection, as its streams see it: of what kind they are, it leaves to them."""

    host: AppHost
    record: Connection
    exchange: Exchange  # that was answered last
    names: tuple[str, ...]  # of the certificate that the connection has shown
    live: dict[int, S]  # the requests under way
    secure: bool

    @property
    def may_speak(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    @property
    def ending(self) -> bool: ...

    def note_arrival(self, exchange: Exchange) -> None:
        """A request has been read: note when it arrived, if it had to wait for its turn."""

    async def asked(self, stream: S) -> None:
        """The head of a request has arrived: carry out the engine's script for it."""

    async def perform(
        self, script: Script, exchange: Exchange, stream: S | None = None, behave: Behave | None = None
    ) -> None:
        """Carry out a script. Raises Over where the connection has ended, and Gone where the stream has."""

    async def pause(self, seconds: float) -> None:
        """Wait for seconds of scenario time. Raises Over if the connection ends meanwhile."""

    def finish(self, how: Ending, exchange: Exchange) -> None:
        """Close the connection."""

    def drain(self) -> None:
        """Serve no further request, and close once those under way are answered."""

    def ended_one(self) -> None:
        """A request has ended: close, if it was the last and no further one is wanted."""

    def spawn(self, work: Work) -> object:
        """Begin a task of the connection."""


def authority_of(pseudo: bytes | None, headers: Headers) -> str:
    found = pseudo if pseudo is not None else next((v for n, v in headers if n.lower() == b"host"), b"")
    return found.decode("latin-1")


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
