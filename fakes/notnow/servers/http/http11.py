"""HTTP/1.1 (RFC 9112): hypercorn's protocol, on whose streams ours hang, and h11's state machine below it.

Private seams of hypercorn: `H11Protocol`, its attributes `connection`, `stream` and `keep_alive_requests`, its methods
`_check_protocol`, `_create_stream`, `_handle_events`, `_send_h11_event` and `stream_send`; that it writes through `send`.
Of h11, `_receive_buffer`, its `_data` and `maybe_extract_at_most`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import h11
from hypercorn.events import Closed, RawData
from hypercorn.protocol import events
from hypercorn.protocol.h11 import H11Protocol

from notnow.http_words import phrase, status_line
from notnow.journal import ProtocolViolation
from notnow.servers.base.turns import Turn
from notnow.servers.http import wellformed
from notnow.servers.http.head import head_of
from notnow.servers.http.hypercorn_parts import CONFIG, CONTEXT, Tasks
from notnow.servers.http.interfaces import Fields, Headers, Owner, authority_of
from notnow.servers.http.strict import is_preface, look_at, upgrade_settings

STREAM = 1  # hypercorn's number for whatever an HTTP/1.1 connection carries


_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")


class Connection(h11.Connection):
    """h11's connection, which also checks requests more strictly and reports what a client does wrong."""

    held = False  # more events may wait for the next turn
    _paused = False

    def __init__(self, broken: Callable[[ProtocolViolation], None], turn: Turn, clear: bool = True) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=CONFIG.h11_max_incomplete_size)
        self._broken, self._turn, self._clear = broken, turn, clear
        self._refused = False  # stop reading

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self._refused or (self.their_state is h11.IDLE and self._only_an_empty_line()):
            return h11.NEED_DATA
        if self._has_read_the_last():
            self._receive_buffer.maybe_extract_at_most(len(self._receive_buffer))
            return h11.NEED_DATA
        if self._paused:  # the answer to the request before has been sent meanwhile
            self._turn.begin()
        elif self._turn.over():
            self.held = True
            return h11.NEED_DATA
        try:
            event = super().next_event()
            self._paused = event is h11.PAUSED
            if isinstance(event, h11.Request):
                look_at(event, self._clear)
            return event
        except h11.RemoteProtocolError as error:
            self._refused = True
            self._broken(ProtocolViolation("HTTP/1.1", status_line(error.error_status_hint), str(error)))
            raise

    def _has_read_the_last(self) -> bool:
        """True if the client or we have said "close", and the last request is read: what follows is dropped (RFC 9112 §9.6)."""
        ours, theirs = self.our_state, self.their_state
        return theirs is h11.MUST_CLOSE or (ours is h11.MUST_CLOSE and theirs is not h11.SEND_BODY)

    def _only_an_empty_line(self) -> bool:
        """Skip empty lines before a request (RFC 9112 §2.2). True if half of one may have arrived."""
        buffer = self._receive_buffer
        if size := _EMPTY_LINES.match(buffer._data).end():  # type: ignore[union-attr]
            buffer.maybe_extract_at_most(size)
        return bool(buffer._data == b"\r")


class H11(H11Protocol):
    """HTTP/1.1 (RFC 9112) for one connection. `Switch` changes over to HTTP/2 if the client asks for it."""

    connection: Connection
    multiplexes = False
    open = 1  # request at a time

    def __init__(self, owner: Owner) -> None:
        super().__init__(None, CONFIG, CONTEXT, Tasks(owner), {}, False, None, None, owner.send)
        self.owner = owner
        self.connection = Connection(owner.broken, owner.turn, clear=not owner.secure)

    async def handle(self, event: RawData | Closed) -> None:
        await super().handle(event)
        while self.connection.held:
            self.connection.held = False
            await self.owner.give_way()
            await self._handle_events()

    async def _check_protocol(self, request: h11.Request) -> None:
        """Hand over to HTTP/2 where the client wants it, in clear; any other upgrade is passed over (RFC 9110 §7.8)."""
        if is_preface(request) or (not self.owner.secure and upgrade_settings(request) is not None):
            await super()._check_protocol(request)

    async def _create_stream(self, request: h11.Request) -> None:
        self.keep_alive_requests += 1
        headers, target = list(request.headers), request.target
        authority = authority_of(None, headers)
        if wellformed.framed_twice(headers):
            self.owner.drain()
        if request.method == b"CONNECT":  # authority-form (RFC 9112 §3.2.3)
            authority, target = target.decode("latin-1"), b""
        elif (absolute := wellformed.ABSOLUTE.fullmatch(target)) is not None:
            authority, path = absolute[1].decode("latin-1"), absolute[2]
            target = path if path.startswith(b"/") else b"/" + path
            # The server ignores Host then.
            headers = [(b"host", absolute[1]), *(header for header in headers if header[0] != b"host")]
        self.stream = self.owner.stream(self, self.keep_alive_requests)
        method = request.method.decode("ascii", "replace")
        await self.stream.begin(head_of(method, target, authority, tuple(headers), request.http_version.decode()))

    @property
    def unread(self) -> int:
        """The bytes that have arrived behind the last request that was read."""
        return len(self.connection._receive_buffer)

    @property
    def is_waiting(self) -> bool:
        """True if the client holds back its body for a 100 (Continue)."""
        return bool(self.connection.they_are_waiting_for_100_continue)

    async def head(self, _number: int, status: int, headers: Fields) -> None:
        """Send the head of a response. Raises LocalProtocolError for one that HTTP/1.1 does not know."""
        await self._send_h11_event(_head(status, headers))

    async def body(self, _number: int, data: bytes) -> None:
        await self.stream_send(events.Body(stream_id=STREAM, data=data))

    async def drained(self, _number: int) -> None:
        """Nothing waits: `body` writes at once."""

    async def end(self, _number: int, trailers: Headers) -> None:
        """End the response. Raises LocalProtocolError if its content-length has promised more."""
        await self._send_h11_event(h11.EndOfMessage(headers=trailers))

    def fits(self, _number: int, headers: Fields, body: bytes) -> bool:
        """True unless its content-length differs."""
        return all(name != b"content-length" or int(value) == len(body) for name, value in headers if value.isdigit())

    async def whole(self, _number: int, status: int, headers: Fields, body: bytes) -> None:
        """Send a whole response in one go."""
        parts = [_head(status, headers), h11.Data(data=body), h11.EndOfMessage()]
        await self.send(RawData(data=b"".join(self.connection.send(part) or b"" for part in parts)))

    async def go_on(self, _number: int) -> None:
        """Hypercorn sends 100 (Continue) itself."""

    async def inform(self, _number: int, status: int, headers: Headers) -> None:
        await self._send_h11_event(
            h11.InformationalResponse(status_code=status, headers=headers, reason=phrase(status))
        )

    async def reset(self, _number: int, _code: int) -> bool:
        return False

    async def count_abuse(self) -> None:
        """A client gains nothing here: it needs a new connection for each."""

    async def forget(self, _number: int) -> None:
        """A request ends with its connection."""

    async def taken(self, _number: int) -> None:
        """TCP tells the client."""

    async def done(self, _number: int) -> None:
        """Both sides of the request have ended: read the next one, or close."""
        await self.stream_send(events.StreamClosed(stream_id=STREAM))


def _head(status: int, headers: Fields) -> h11.Response:
    return h11.Response(status_code=status, headers=list(headers), reason=phrase(status))
