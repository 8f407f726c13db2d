"""Hypercorn's protocol stack without its server: HTTP/2 and HTTP/1.1 as state machines that our streams hang on.

Every private seam of hypercorn that notnow uses is in this module: the classes `H2Protocol` and `H11Protocol` with
their attributes `connection`, `streams`, `stream_buffers`, `priority`, `closed`, `has_data`, `task_group`, `stream`,
`connection_state`, their methods `_create_stream`, `_close_stream`, `_flush`, `_handle_events`, `_maybe_recycle`,
`_check_protocol` and `stream_send`; the errors with which HTTP/1.1 hands over to HTTP/2; the events that pass
between streams and protocols; `Config` and `WorkerContext`; and of h2 that `local_settings` may be replaced, that
`outbound_flow_control_window` is a number, and that bytes may follow what `data_to_send` gives.
tests/test_http_seams.py has a test for each.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import h2.events
import h2.exceptions
import h2.settings
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol

Headers = list[tuple[bytes, bytes]]
NO_LIMIT = 2**31 - 1
H11_STREAM = 1  # hypercorn's number for whatever an HTTP/1.1 connection carries


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request: `target` is the path with its query, `authority` what :authority or Host says."""

    method: str
    target: bytes
    authority: str
    headers: Headers
    version: str  # "2", "1.1", "1.0"


class Served(Protocol):
    """What a protocol asks of each of its streams."""

    idle: bool

    async def begin(self, head: Head) -> None:
        """The head of the request is in."""

    async def handle(self, event: events.Event) -> None:
        """A piece of its body, the end of it, or the end of the stream."""


class Owner(Protocol):
    """What a protocol asks of its connection."""

    def stream(self, protocol: H2 | H11, number: int) -> Served: ...
    async def send(self, event: RawData | Closed | Updated) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> object: ...


def _config() -> Config:
    made = Config()
    made.errorlog = made.accesslog = None
    made.include_server_header = False
    made.keep_alive_max_requests = NO_LIMIT  # or it sends a GOAWAY of its own, and loses what is in flight
    made.h2_max_concurrent_streams = NO_LIMIT
    return made


_CONFIG = _config()


class _Tasks:
    """Hypercorn's group of tasks, in which errors would be swallowed: ours are told to the fake."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._owner.spawn(function(*args))


class H2(H2Protocol):  # type: ignore[misc]
    """HTTP/2 (RFC 9113) for one connection."""

    def __init__(
        self, owner: Owner, ssl: bool, client: tuple[str, int], server: tuple[str, int], cap: int | None
    ) -> None:
        super().__init__(None, _CONFIG, WorkerContext(None), _Tasks(owner), {}, ssl, client, server, owner.send)
        self.owner, self._cap = owner, cap

    async def initiate(self, headers: Headers | None = None, settings: bytes | None = None) -> None:
        told = dict(self.connection.local_settings)
        if self._cap is not None:
            told[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = self._cap
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=told)
        await super().initiate(headers, settings)
        # The cap has been told; h2 would end the connection of who exceeds it, which is for the scenario to decide.
        told[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = NO_LIMIT
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=told)

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        pseudo = {name: value for name, value in request.headers if name.startswith(b":")}
        headers = [(name, value) for name, value in request.headers if not name.startswith(b":")]
        number = request.stream_id
        stream = self.streams[number] = self.owner.stream(self, number)
        self.stream_buffers[number] = StreamBuffer(self.context.event_class)
        self._prioritize(number)
        await stream.begin(
            Head(
                pseudo.get(b":method", b"").decode("ascii", "replace").upper(),
                pseudo.get(b":path", b""),
                _authority(pseudo.get(b":authority"), headers),
                headers,
                "2",
            )
        )

    def _prioritize(self, number: int) -> None:
        import priority

        try:
            self.priority.insert_stream(number)
        except priority.DuplicateStreamError:
            return  # a PRIORITY frame has come before its HEADERS
        self.priority.block(number)

    def answer_at_once(self, number: int, status: int, headers: Headers, body: bytes) -> bool:
        """A whole response in one go; False where it does not fit into what the client lets us send."""
        connection = self.connection
        size = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size)
        if len(body) > size:
            return False
        connection.send_headers(number, [(b":status", b"%d" % status), *headers], end_stream=not body)
        if body:
            connection.send_data(number, body, end_stream=True)
        self._forget(number)
        return True

    def reset(self, number: int, code: int) -> None:
        """RST_STREAM; `flush` sends it."""
        try:
            self.connection.reset_stream(number, code)
        except h2.exceptions.ProtocolError:
            return  # it is closed already
        self._forget(number)

    def _forget(self, number: int) -> None:
        """Nothing more is sent on a stream."""
        if self.stream_buffers.pop(number, None) is not None:
            self.priority.remove_stream(number)

    def remove(self, number: int) -> None:
        """Nothing more is received on a stream, either."""
        self.streams.pop(number, None)

    async def flush(self, raw: bytes = b"") -> None:
        """Send what waits, and `raw` frames behind it."""
        data = self.connection.data_to_send() + raw
        if data:
            await self.send(RawData(data=data))

    @property
    def highest(self) -> int:
        """The highest stream that the client has opened."""
        return int(self.connection.highest_inbound_stream_id)


class H11(H11Protocol):  # type: ignore[misc]
    """HTTP/1.1 (RFC 9112) for one connection. It may turn out to be HTTP/2: `Switch` sees to that."""

    def __init__(self, owner: Owner, ssl: bool, client: tuple[str, int], server: tuple[str, int]) -> None:
        super().__init__(None, _CONFIG, WorkerContext(None), _Tasks(owner), {}, ssl, client, server, owner.send)
        self.owner = owner
        self._requests = 0

    async def _create_stream(self, request: Any) -> None:
        headers = list(request.headers)
        self.stream = self.owner.stream(self, self._requests)
        self._requests += 1
        await self.stream.begin(
            Head(
                request.method.decode("ascii", "replace").upper(),
                request.target,
                _authority(None, headers),
                headers,
                request.http_version.decode(),
            )
        )


class Switch:
    """The protocol that a connection speaks: what ALPN has agreed on, else what it begins with."""

    def __init__(
        self,
        owner: Owner,
        alpn: str | None,
        ssl: bool,
        client: tuple[str, int],
        server: tuple[str, int],
        cap: int | None,
    ) -> None:
        self._make = lambda: H2(owner, ssl, client, server, cap)
        self.protocol: H2 | H11 = self._make() if alpn == "h2" else H11(owner, ssl, client, server)

    async def initiate(self) -> None:
        await self.protocol.initiate()

    async def handle(self, data: bytes) -> None:
        try:
            await self.protocol.handle(RawData(data=data))
        except H2ProtocolAssumedError as assumed:  # prior knowledge (RFC 9113 §3.3)
            await self._upgrade(assumed.data)
        except H2CProtocolRequiredError as required:
            await self._upgrade(required.data, required.headers, required.settings)

    async def _upgrade(self, rest: bytes, headers: Headers | None = None, settings: bytes | None = None) -> None:
        self.protocol = self._make()
        await self.protocol.initiate(headers, settings)
        if rest:
            await self.protocol.handle(RawData(data=rest))

    async def end(self) -> None:
        """The connection is gone: all streams are."""
        await self.protocol.handle(Closed())


def _authority(pseudo: bytes | None, headers: Headers) -> str:
    found = pseudo if pseudo is not None else next((v for n, v in headers if n.lower() == b"host"), b"")
    return found.decode("latin-1")
