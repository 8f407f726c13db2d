"""Hypercorn's protocol stack without its server: HTTP/2 and HTTP/1.1 as state machines that our streams hang on.

Every private seam of hypercorn that notnow uses is in this module: the classes `H2Protocol` and `H11Protocol` with
their attributes `connection`, `streams`, `stream_buffers`, `priority`, `closed`, `has_data`, `stream` and
`keep_alive_requests`, their methods `_create_stream`, `_close_stream`, `_priority_updated` and `stream_send`; the
attributes `buffer`, `_complete`, `_is_empty` and `_paused` of `StreamBuffer`; that they write through `send` and begin
tasks by `task_group.spawn` only; the errors with which HTTP/1.1 hands over to HTTP/2; the events that pass between
streams and protocols; `Config` and `WorkerContext`. Of h2, that `local_settings` may be replaced, that bytes may follow
what `data_to_send` gives, `highest_inbound_stream_id`, that it reads field sections by its `decoder` alone, and its
methods `_receive_goaway_frame`, `_receive_headers_frame`, `_receive_data_frame` and `_receive_priority_frame`, and that
it finds the method for a frame in its `_frame_dispatch_table`; of its
`H2Stream`, `_expected_content_length`, `_actual_content_length` and `state_machine.headers_received`; of its
`FrameBuffer`, that it reads `_data` by `__next__`, and keeps an unfinished header block in `_headers_buffer`. Of h11, `_receive_buffer`, its `_data` and `maybe_extract_at_most`.
tests/test_http_seams.py has a test for each.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import h2.events
import h2.exceptions
import h2.settings
import h11
import priority
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol

from notnow.bounds import H1_HEAD, H2_HEAD, WINDOW
from notnow.engine.actions import phrase, status_line
from notnow.servers.base.connection import Over
from notnow.servers.base.turns import UNITS, Turn
from notnow.servers.http import wellformed
from notnow.servers.http.floods import ANSWER, PIECE, RESET, Calm, Decoder, Frames
from notnow.servers.http.strict import FaultyFrame, is_preface, look_at, upgrade_settings

__all__ = [
    "H2",
    "H11",
    "Closed",
    "Gone",
    "Head",
    "Headers",
    "RawData",
    "Switch",
    "Updated",
    "Work",
    "encoded",
    "events",
    "failures",
    "lifespan",
]

if TYPE_CHECKING:
    from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PriorityFrame
    from typing_extensions import Buffer

Work = Callable[[], Coroutine[Any, Any, None]]  # begun by the task that does it, or never
Headers = list[tuple[bytes, bytes]]
NO_LIMIT = 2**31 - 1
H11_STREAM = 1  # hypercorn's number for whatever an HTTP/1.1 connection carries
failures = (h11.LocalProtocolError, h2.exceptions.ProtocolError)  # what is to be said cannot be said


class Gone(ConnectionError):  # noqa: N818 (no error)
    """Nobody waits for the answer any more."""


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

    @property
    def drops(self) -> bool:
        """What still comes of the body is of no use."""

    @property
    def answered(self) -> bool:
        """All of the answer has been sent."""

    async def begin(self, head: Head) -> None:
        """The head of the request is in."""

    async def handle(self, event: events.Event) -> None:
        """A piece of its body, the end of it, or the end of the stream."""


class Owner(Protocol):
    """What a protocol asks of its connection."""

    cap: int  # streams at a time that HTTP/2 clients are told
    closing: bool  # no further request is wanted
    secure: bool  # in TLS
    turn: Turn

    def stream(self, protocol: H2 | H11, number: int) -> Served: ...
    async def send(self, event: RawData | Closed | Updated) -> None: ...
    def spawn(self, work: Work) -> object: ...
    async def give_way(self) -> None: ...
    def broken(self, why: str) -> None: ...
    def malformed(self, number: int, said: str, why: str, code: str) -> None: ...


def _config() -> Config:
    made = Config()
    made.errorlog = made.accesslog = None
    made.include_server_header = made.include_date_header = False
    made.shutdown_timeout = 10  # seconds for an app to end; whoever stops the fake waits no longer than 30
    made.h11_max_incomplete_size, made.h2_max_header_list_size = H1_HEAD, H2_HEAD
    made.keep_alive_max_requests = NO_LIMIT  # or it sends a GOAWAY of its own, and loses what is in flight
    return made


_CONFIG = _config()


class _Tasks:
    """Hypercorn's group of tasks, in which errors would be swallowed: ours are told to the fake."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._owner.spawn(partial(function, *args))


class _Connection(H2Connection):
    """h2's, but it says what is wrong with what a client sends, ends a stream alone where only that is malformed
    (RFC 9113 §8.1.1), and gives credit for a body when that has been taken.
    """

    decoder: Decoder

    def __init__(self, broken: Callable[[str], None], drops: Callable[[int], bool], turn: Turn) -> None:
        # Field sections are judged by `Decoder`: h2 would end the connection.
        super().__init__(H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False))
        self._broken, self._drops = broken, drops
        # The streams that have just ended so: what was asked, why, and the code of RST_STREAM.
        self.faults: dict[int, tuple[str, str, str]] = {}
        self.calm = Calm()
        self._owed: dict[int, int] = {}
        self.decoder = Decoder()
        self.decoder.max_header_list_size = self.DEFAULT_MAX_HEADER_LIST_SIZE
        self.incoming_buffer = self.frames = Frames(turn, self.calm)
        self._frame_dispatch_table[FaultyFrame] = self._receive_faulty

    def receive_data(self, data: Buffer) -> list[h2.events.Event]:
        try:
            return super().receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self._broken(f"HTTP/2 {ErrorCodes(error.error_code).name}: {error}")
            if self.state_machine.state is not ConnectionState.CLOSED:  # of a bad preface h2 itself tells nobody
                self.close_connection(error.error_code)
            raise

    def _receive_goaway_frame(self, _frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A client that takes its leave still wants its answers (RFC 9113 §6.8), where h2 would not send them any more."""
        return [], [h2.events.ConnectionTerminated()]

    def _receive_priority_frame(self, frame: HeadersFrame | PriorityFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """Priorities are passed over (RFC 9113 §5.3.2), where h2 ends the connection of one that depends on itself."""
        if frame.depends_on == frame.stream_id:
            frame.depends_on = 0
        received: tuple[list[Frame], list[h2.events.Event]] = super()._receive_priority_frame(frame)
        return received

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A field section that is malformed ends its stream alone; that stream has to begin first."""
        known = self.streams.get(frame.stream_id)
        trailers = known is not None and bool(known.state_machine.headers_received)
        self.decoder.trailers, self.decoder.ends = trailers, "END_STREAM" in frame.flags
        short = None
        if known is not None and trailers:
            frame.flags.add("END_STREAM")  # of trailers without it h2 would end the connection
            short = _short(known._expected_content_length, known._actual_content_length)  # it does not look itself
        received: tuple[list[Frame], list[h2.events.Event]] = super()._receive_headers_frame(frame)
        why = self.decoder.why or short
        return received if why is None else self._end_stream(frame.stream_id, self.decoder.said, why)

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A body that is not of its content-length ends its stream alone (RFC 9113 §8.1.1), where h2 would end all.

        Who has its answer already may stop short, as curl does.
        """
        try:
            received: tuple[list[Frame], list[h2.events.Event]] = super()._receive_data_frame(frame)
        except h2.exceptions.InvalidBodyLengthError as error:
            return self._end_stream(frame.stream_id, "", str(error))
        return received

    def _receive_faulty(self, frame: FaultyFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A stream error (RFC 9113 §5.4.2): of the connection where the stream is idle (§6.4), and nothing on a closed one."""
        number = frame.stream_id
        if number % 2 == 0 or number > self.highest_inbound_stream_id:
            error = h2.exceptions.ProtocolError(f"{frame.why}, and stream {number} is idle")
            error.error_code = frame.code
            raise error
        known = self.streams.get(number)
        return ([], []) if known is None or known.closed else self._end_stream(number, "", frame.why, frame.code)

    def _end_stream(
        self, number: int, said: str, why: str, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR
    ) -> tuple[list[Frame], list[h2.events.Event]]:
        """RST_STREAM, for a malformed request (RFC 9113 §8.1.1) or a frame that is an error of its stream."""
        try:
            self.reset_stream(number, code)
        except h2.exceptions.StreamClosedError:  # its end came with what was wrong: both sides have ended it
            return [], []
        self.faults[number] = said, why, code.name
        return [], [h2.events.StreamReset(stream_id=number)]

    def send_data(
        self, stream_id: int, data: bytes | memoryview, end_stream: bool = False, pad_length: int | None = None
    ) -> None:
        super().send_data(stream_id, data, end_stream, pad_length)
        if data:
            self.calm.earn(PIECE)

    def acknowledge_received_data(self, acknowledged_size: int, stream_id: int) -> None:
        self._owed[stream_id] = self._owed.get(stream_id, 0) + acknowledged_size
        if self._drops(stream_id):
            self.taken(stream_id)

    def taken(self, stream_id: int) -> bool:
        """What has come of a body has been taken. True if the client is to be told so."""
        owed = self._owed.pop(stream_id, 0)
        if owed:
            super().acknowledge_received_data(owed, stream_id)
        return owed > 0


def _short(expected: int | None, actual: int) -> str | None:
    """What is wrong with a body that ends with trailers, where it is not of its content-length (RFC 9113 §8.1.1)."""
    return None if expected in (None, actual) else f"content-length is {expected}, and {actual} bytes have come"


class _Buffer(StreamBuffer):
    """What waits for the client's windows. Hypercorn's lets an app go on as soon as a window is closed."""

    cut = False  # no END_STREAM is to make it look whole

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        if len(self.buffer) >= BUFFER_HIGH_WATER:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data

    @property
    def complete(self) -> bool:
        return self._complete and not self.buffer and not self.cut


class _Nobody:
    """The stream that is over already: what still comes for it, in the same breath perhaps, is dropped."""

    idle = drops = answered = True

    async def handle(self, event: events.Event) -> None:
        pass


class _Streams(dict[int, "Served | _Nobody"]):
    """The live streams by their numbers."""

    def __missing__(self, number: int) -> _Nobody:
        return _NOBODY


_NOBODY = _Nobody()


class H2(H2Protocol):
    """HTTP/2 (RFC 9113) for one connection."""

    connection: _Connection
    streams: _Streams
    stream_buffers: dict[int, _Buffer]
    waits = False  # for what has come of one stream to be taken: others would wait with it

    def __init__(self, owner: Owner) -> None:
        super().__init__(None, _CONFIG, WorkerContext(None), _Tasks(owner), {}, False, None, None, owner.send)
        self.owner = owner
        self.streams = _Streams()
        self._pieces = 0  # of bodies, since others have had their turn
        self._handling = False  # what is said meanwhile leaves in one go
        self.connection = _Connection(owner.broken, self._drops, owner.turn)
        self.priority = priority.PriorityTree(maximum_streams=NO_LIMIT)

    def _drops(self, number: int) -> bool:
        return self.streams[number].drops

    async def handle(self, event: RawData | Closed) -> None:
        if isinstance(event, RawData) and self.connection.state_machine.state is ConnectionState.CLOSED:
            return  # a GOAWAY with an error has been said: the client is not listened to any more
        await self._handle(event)
        while self.connection.frames.held:
            self.connection.frames.held = False
            await self.owner.give_way()
            await self._handle(RawData(data=b""))

    async def _handle(self, event: RawData | Closed) -> None:
        self._handling = True
        try:
            await super().handle(event)
        finally:
            self._handling = False
        if isinstance(event, Closed):
            for buffer in list(self.stream_buffers.values()):
                await buffer.close()  # who waits for windows would wait for ever

    async def initiate(self, headers: Headers | None = None, settings: bytes | None = None) -> None:
        told = {
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.owner.cap,
            h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: _CONFIG.h2_max_header_list_size,
        }
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=told)
        await super().initiate(headers, settings)
        # The cap has been told; h2 would end the connection of who exceeds it, where one stream is to be refused.
        told[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = NO_LIMIT
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=told)
        self.connection.increment_flow_control_window(WINDOW)
        await self._flush()

    # ---- what the client does --------------------------------------------------------------------

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        pseudo = {name: value for name, value in request.headers if name.startswith(b":")}
        headers = [(name, value) for name, value in request.headers if not name.startswith(b":")]
        number = request.stream_id
        stream = self.streams[number] = self.owner.stream(self, number)
        method = pseudo.get(b":method", b"").decode("ascii", "replace")
        authority = _authority(pseudo.get(b":authority"), headers)
        await stream.begin(Head(method, pseudo.get(b":path", b""), authority, headers, "2"))

    async def _close_stream(self, number: int) -> None:
        self.connection.taken(number)
        fault = self.connection.faults.pop(number, None)
        if fault is not None:
            self.owner.malformed(number, *fault)
        if not self.closed and (fault is not None or not self.streams[number].answered):
            await self.annoyed()  # the client has cancelled it, or it was malformed
        await super()._close_stream(number)

    async def annoyed(self) -> None:
        """A client has done what it may do, but not a thousand times. Raises Over when that is reached."""
        try:
            self.connection.calm.spend("streams that were cancelled, or opened beyond the cap, or malformed", RESET)
        except h2.exceptions.DenialOfServiceError as flood:
            self.owner.broken(f"HTTP/2 ENHANCE_YOUR_CALM: {flood}")
            self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            await self._flush()
            await self.send(Closed())
            raise Over from flood

    async def _priority_updated(self, event: h2.events.PriorityUpdated) -> None:
        """Priorities of HTTP/2 are a thing of the past (RFC 9113 §5.3), and of who would fill our memory with them."""

    # ---- what is said ----------------------------------------------------------------------------

    async def head(self, number: int, status: int, headers: Headers) -> None:
        """Send the head of a response. Raises ProtocolError for one that HTTP/2 does not know, and Gone."""
        if number not in self.stream_buffers:
            self.stream_buffers[number] = _Buffer(self.context.event_class)
            self.priority.insert_stream(number)
            self.priority.block(number)
        self._send_head(number, status, headers)
        await self._flush()

    def _send_head(self, number: int, status: int, headers: Headers, end: bool = False) -> None:
        try:
            self.connection.send_headers(number, [(b":status", b"%d" % status), *_for_h2(headers)], end_stream=end)
        except h2.exceptions.StreamClosedError as closed:  # cancelled in the same breath
            raise Gone from closed

    async def body(self, number: int, data: bytes) -> None:
        await self.stream_send(events.Body(stream_id=number, data=data))

    async def drained(self, number: int) -> None:
        """All that has been given of a body is on its way to the client."""
        if (buffer := self.stream_buffers.get(number)) is not None:
            await buffer.drain()

    async def end(self, number: int) -> None:
        await self.stream_send(events.EndBody(stream_id=number))

    async def whole(self, number: int, status: int, headers: Headers, body: bytes) -> bool:
        """A whole response in one go; False where it does not fit into what the client lets us send. Raises as `head`."""
        connection = self.connection
        try:
            window = connection.local_flow_control_window(number)
        except h2.exceptions.StreamClosedError as closed:
            raise Gone from closed
        if len(body) > min(window, connection.max_outbound_frame_size):
            return False
        self._send_head(number, status, headers, end=not body)
        if body:
            connection.send_data(number, body, end_stream=True)
        if not self._handling:
            await self._flush()
        return True

    async def go_on(self, number: int) -> None:
        """100 (Continue): the client may send its body."""
        await self.stream_send(events.InformationalResponse(stream_id=number, headers=[], status_code=100))

    async def reset(self, number: int, code: int) -> bool:
        """RST_STREAM. True: it is the stream alone that ends."""
        try:
            self.connection.reset_stream(number, code)
        except h2.exceptions.ProtocolError:
            return True  # it is closed already
        self.connection.taken(number)
        await self.forget(number, cut=False)
        await self._flush()
        return True

    async def forget(self, number: int, cut: bool = True) -> None:
        """Nothing more is sent on a stream, and what comes is dropped; `cut`: without an RST_STREAM."""
        self.streams.pop(number, None)
        self.connection.taken(number)  # the connection's window is for all of its streams
        if (buffer := self.stream_buffers.get(number)) is not None:
            buffer.cut = cut
            await buffer.close()
            self.priority.unblock(number)  # so that hypercorn finds it closed, and puts it away
            await self.has_data.set()

    async def taken(self, number: int) -> None:
        """What has come of a body has been taken: the client may send more."""
        if self.connection.taken(number):
            await self._flush()

    async def done(self, number: int) -> None:
        """A stream is through, in both directions."""
        self.connection.calm.earn(ANSWER)
        self.streams.pop(number, None)

    async def _send_data(self, stream_id: int) -> None:
        """A piece of a body leaves. Who has much to send gives way to others, however fast the client reads."""
        await super()._send_data(stream_id)
        self._pieces += 1
        if self._pieces >= UNITS:
            self._pieces = 0
            await self.owner.give_way()

    async def flush(self, raw: bytes = b"") -> None:
        """Send what waits, and `raw` frames behind it."""
        if data := self.connection.data_to_send() + raw:
            await self.send(RawData(data=data))

    @property
    def highest(self) -> int:
        """The highest stream that the client has opened."""
        return int(self.connection.highest_inbound_stream_id)


_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")


class _H11Connection(h11.Connection):
    """h11's, but it looks closer at a request, and says what is wrong with what a client sends."""

    held = False  # there may be more events, for the next turn
    _paused = False

    def __init__(self, broken: Callable[[str], None], turn: Turn, clear: bool = True) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=_CONFIG.h11_max_incomplete_size)
        self._broken, self._turn, self._clear = broken, turn, clear
        self._refused = False  # nothing is read any more

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self._refused or (self.their_state is h11.IDLE and self._only_an_empty_line()):
            return h11.NEED_DATA
        if self._paused:  # and has gone on: an answer has left meanwhile
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
            self._broken(f"HTTP/1.1 {status_line(error.error_status_hint)}: {error}")
            raise

    def _only_an_empty_line(self) -> bool:
        """Skip empty lines before a request (RFC 9112 §2.2). True where one may still be under way."""
        buffer = self._receive_buffer
        if size := _EMPTY_LINES.match(buffer._data).end():  # type: ignore[union-attr]
            buffer.maybe_extract_at_most(size)
        return bool(buffer._data == b"\r")


class H11(H11Protocol):
    """HTTP/1.1 (RFC 9112) for one connection. It may turn out to be HTTP/2: `Switch` sees to that."""

    connection: _H11Connection
    waits = True  # for what has come of a body to be taken: there is nothing else

    def __init__(self, owner: Owner) -> None:
        super().__init__(None, _CONFIG, WorkerContext(None), _Tasks(owner), {}, False, None, None, owner.send)
        self.owner = owner
        self.connection = _H11Connection(owner.broken, owner.turn, clear=not owner.secure)

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
        authority = _authority(None, headers)
        if wellformed.framed_twice(headers):
            self.owner.closing = True
        if request.method == b"CONNECT":  # authority-form (RFC 9112 §3.2.3)
            authority, target = target.decode("latin-1"), b""
        elif (absolute := wellformed.ABSOLUTE.fullmatch(target)) is not None:
            authority, path = absolute[1].decode("latin-1"), absolute[2]
            target = path if path.startswith(b"/") else b"/" + path
            # What Host says does not count then.
            headers = [(b"host", absolute[1]), *(header for header in headers if header[0] != b"host")]
        self.stream = self.owner.stream(self, self.keep_alive_requests)
        method = request.method.decode("ascii", "replace")
        await self.stream.begin(Head(method, target, authority, headers, request.http_version.decode()))

    @property
    def is_waiting(self) -> bool:
        """True if the client holds back its body for a 100 (Continue)."""
        return bool(self.connection.they_are_waiting_for_100_continue)

    async def head(self, _number: int, status: int, headers: Headers) -> None:
        """Send the head of a response. Raises LocalProtocolError for one that HTTP/1.1 does not know."""
        await self._send_h11_event(_h11_head(status, headers))

    async def body(self, _number: int, data: bytes) -> None:
        await self.stream_send(events.Body(stream_id=H11_STREAM, data=data))

    async def drained(self, _number: int) -> None:
        """It has been handed on as it came."""

    async def end(self, _number: int) -> None:
        """The end of a response. Raises LocalProtocolError where its content-length has promised more."""
        await self.stream_send(events.EndBody(stream_id=H11_STREAM))

    async def whole(self, _number: int, status: int, headers: Headers, body: bytes) -> bool:
        """A whole response in one go; False where its content-length says otherwise."""
        if any(name == b"content-length" and int(value) != len(body) for name, value in headers if value.isdigit()):
            return False
        parts = [_h11_head(status, headers), h11.Data(data=body), h11.EndOfMessage()]
        await self.send(RawData(data=b"".join(self.connection.send(part) or b"" for part in parts)))
        return True

    async def go_on(self, _number: int) -> None:
        """Hypercorn has done it."""

    async def reset(self, _number: int, _code: int) -> bool:
        return False

    async def forget(self, _number: int) -> None:
        """It ends with its connection."""

    async def taken(self, _number: int) -> None:
        """The client is told by TCP."""

    async def done(self, _number: int) -> None:
        """A request is through, in both directions: the next one, or the end."""
        await self.stream_send(events.StreamClosed(stream_id=H11_STREAM))


class Switch:
    """The protocol that a connection speaks: what ALPN has agreed on, else what it begins with."""

    def __init__(self, owner: Owner, alpn: str | None) -> None:
        self._owner = owner
        self.protocol: H2 | H11 = H2(owner) if alpn == "h2" else H11(owner)

    async def initiate(self) -> None:
        await self.protocol.initiate()

    async def handle(self, data: bytes) -> None:
        try:
            await self.protocol.handle(RawData(data=data))
        except H2ProtocolAssumedError as assumed:  # prior knowledge (RFC 9113 §3.3)
            await self._upgrade(assumed.data)
        except H2CProtocolRequiredError as required:  # RFC 7540 §3.2
            await self._upgrade(required.data, required.headers, required.settings)

    async def _upgrade(self, rest: bytes, headers: Headers | None = None, settings: bytes | None = None) -> None:
        self.protocol = H2(self._owner)
        await self.protocol.initiate(headers, settings)
        if rest:
            await self.protocol.handle(RawData(data=rest))

    async def end(self) -> None:
        """The connection is gone: all streams are."""
        await self.protocol.handle(Closed())


def lifespan(app: Any, loop: asyncio.AbstractEventLoop, state: dict[str, Any]) -> Lifespan:
    """Hypercorn's way of telling an app that it begins and ends; an app may have no ear for it."""
    return Lifespan(ASGIWrapper(app), _CONFIG, loop, state)


def _authority(pseudo: bytes | None, headers: Headers) -> str:
    found = pseudo if pseudo is not None else next((v for n, v in headers if n.lower() == b"host"), b"")
    return found.decode("latin-1")


def _h11_head(status: int, headers: Headers) -> h11.Response:
    return h11.Response(status_code=status, headers=headers, reason=phrase(status))


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


def _for_h2(headers: Headers) -> Headers:
    """Without what is about the connection: that is not HTTP/2's to say (RFC 9113 §8.2.2)."""
    return [header for header in headers if header[0] not in wellformed.OF_THE_CONNECTION]
