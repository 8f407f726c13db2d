"""HTTP/2 (RFC 9113): hypercorn's protocol, on whose streams ours hang.

Private seams of hypercorn: `H2Protocol`, its attributes `connection`, `streams`, `stream_buffers`, `priority`, `closed`
and `has_data`, its methods `_create_stream`, `_close_stream`, `_handle_events`, `_window_updated`, `send_task` and `stream_send`; the attributes
`buffer`, `_complete`, `_is_empty` and `_paused` of `StreamBuffer`; that it writes through `send`; the events that pass
between streams and protocols. Of h2, that `local_settings` may be replaced, and that bytes may follow what
`data_to_send` gives.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import h2.events
import h2.exceptions
import h2.settings
import priority
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from hypercorn.events import Closed, RawData
from hypercorn.protocol import events
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BUFFER_LOW_WATER, BufferCompleteError, H2Protocol, StreamBuffer

from notnow.bounds import WINDOW
from notnow.journal import ProtocolViolation
from notnow.servers.base.life import Over
from notnow.servers.base.turns import UNITS
from notnow.servers.http import wellformed
from notnow.servers.http.floods import ANSWER, RESET
from notnow.servers.http.head import Head
from notnow.servers.http.http2_connection import Connection
from notnow.servers.http.hypercorn_parts import CONFIG, CONTEXT, NO_LIMIT, Tasks
from notnow.servers.http.interfaces import Fields, Gone, Headers, Owner, Served, authority_of


class _Buffer(StreamBuffer):
    """Bytes that wait for the client's windows. Hypercorn's buffer lets the app continue as soon as a window is closed."""

    ended = False  # END_STREAM has been sent

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


class _Nobody:
    """Stands for a stream that has ended: it drops the frames that still arrive."""

    idle = drops = answered = True

    def cancelled(self) -> None:
        pass

    async def handle(self, event: events.Event) -> None:
        pass


class _Streams(dict[int, "Served | _Nobody"]):
    """The live streams by their numbers."""

    def __missing__(self, number: int) -> _Nobody:
        return _NOBODY


_NOBODY = _Nobody()


class H2(H2Protocol):
    """HTTP/2 (RFC 9113) for one connection."""

    connection: Connection
    streams: _Streams
    stream_buffers: dict[int, _Buffer]
    multiplexes = True
    is_waiting = False  # its 100 (Continue) is one of a stream

    def __init__(self, owner: Owner) -> None:
        super().__init__(None, CONFIG, CONTEXT, Tasks(owner), {}, False, None, None, owner.send)
        self.owner = owner
        self.streams = _Streams()
        self._pieces = 0  # of bodies that were sent since other connections had their turn
        self._handling = False  # collect the frames to send, and send them in one write
        self.connection = Connection(owner.broken, self._drops, owner.turn)
        self.priority = priority.PriorityTree(maximum_streams=NO_LIMIT)

    def _drops(self, number: int) -> bool:
        return self.streams[number].drops

    async def handle(self, event: RawData | Closed) -> None:
        if isinstance(event, RawData) and self.connection.state_machine.state is ConnectionState.CLOSED:
            return  # the connection ended with an error: nothing more is read
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
            for number in list(self.stream_buffers):
                await self._drop_buffer(number)

    async def initiate(self, headers: Headers | None = None, settings: bytes | None = None) -> None:
        told = {
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.owner.cap,
            h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: CONFIG.h2_max_header_list_size,
        }
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=told)
        await super().initiate(headers, settings)
        # The client knows the cap. h2 would end the connection of a client that exceeds it; we refuse one stream.
        told[h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS] = NO_LIMIT
        self.connection.local_settings = h2.settings.Settings(client=False, initial_values=told)
        self.connection.increment_flow_control_window(WINDOW)
        await self._flush()

    # ---- receiving -------------------------------------------------------------------------------

    async def _handle_events(self, found: list[h2.events.Event]) -> None:
        for event in found:
            if isinstance(event, h2.events.RequestReceived):
                await self._create_stream(event)
            elif isinstance(event, h2.events.StreamEnded):
                if (stream := self.streams.get(event.stream_id)) is not None:
                    await stream.handle(events.EndBody(stream_id=event.stream_id))
            else:
                await self._handle_other(event)
        await self._flush()

    async def _handle_other(self, event: h2.events.Event) -> None:
        """What else a client sends. Priorities are ignored, which RFC 9113 §5.3 has dropped."""
        match event:
            case h2.events.DataReceived():
                await self.streams[event.stream_id].handle(events.Body(stream_id=event.stream_id, data=event.data))
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamReset():
                await self._close_stream(event.stream_id)
                await self._window_updated(event.stream_id)
            case h2.events.WindowUpdated():
                await self._window_updated(event.stream_id)
            case h2.events.RemoteSettingsChanged():
                if h2.settings.SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
                    await self._window_updated(None)
            case h2.events.ConnectionTerminated():
                await self.send(Closed())

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        number = request.stream_id
        stream = self.streams[number] = self.owner.stream(self, number)
        await stream.begin(_head(tuple(request.headers)), complete=request.stream_ended is not None)

    async def _close_stream(self, number: int) -> None:
        self.connection.taken(number)
        fault = self.connection.faults.pop(number, None)
        if fault is not None:
            self.owner.malformed(number, *fault)
        elif not self.closed:
            self.streams[number].cancelled()
        if not self.closed and (fault is not None or not self.streams[number].answered):
            await self.count_abuse()  # the client has cancelled it, or it was malformed
        await super()._close_stream(number)
        await self._drop_buffer(number)

    async def count_abuse(self) -> None:
        """Count a request that led to nothing. Raises Over when the client has reached the limit."""
        try:
            self.connection.calm.spend("streams that were cancelled, or opened beyond the cap, or malformed", RESET)
        except h2.exceptions.DenialOfServiceError as flood:
            self.owner.broken(ProtocolViolation("HTTP/2", "ENHANCE_YOUR_CALM", str(flood)))
            self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            await self._flush()
            await self.send(Closed())
            raise Over from flood

    # ---- sending ---------------------------------------------------------------------------------

    async def head(self, number: int, status: int, headers: Fields) -> None:
        """Send the head of a response. Raises ProtocolError for one that HTTP/2 does not know, and Gone."""
        if number not in self.stream_buffers:
            self.stream_buffers[number] = _Buffer(self.context.event_class)
            self.priority.insert_stream(number)
            self.priority.block(number)
        self._send_head(number, status, headers)
        await self._flush()

    def _send_head(self, number: int, status: int, headers: Fields, end: bool = False) -> None:
        try:
            self.connection.send_head(number, _section(status, headers), end)
        except h2.exceptions.StreamClosedError as closed:  # the client has just cancelled it
            raise Gone from closed

    async def body(self, number: int, data: bytes) -> None:
        await self.stream_send(events.Body(stream_id=number, data=data))

    async def drained(self, number: int) -> None:
        """Return when all that was passed to `body` has been sent."""
        if (buffer := self.stream_buffers.get(number)) is not None and buffer.buffer:
            await buffer.drain()

    async def end(self, number: int, trailers: Headers) -> None:
        """Send the end of an answer. Raises Gone where it cannot be sent any more."""
        if trailers:
            await self._end_with(number, trailers)
            return
        buffer = self.stream_buffers.get(number)
        await self.stream_send(events.EndBody(stream_id=number))
        if number in self.stream_buffers and self.stream_buffers[number].complete:
            await self._send_data(number)  # END_STREAM now: the connection may close when this returns
        if buffer is not None and not buffer.ended:
            raise Gone

    async def _end_with(self, number: int, trailers: Headers) -> None:
        await self.drained(number)
        if not self.owner.may_speak:
            raise Gone
        try:
            self.connection.send_headers(number, _for_h2(trailers), end_stream=True)
        except h2.exceptions.StreamClosedError as closed:
            raise Gone from closed
        await self._flush()
        await self._drop_buffer(number)

    def fits(self, number: int, _headers: Fields, body: bytes) -> bool:
        """True if the body fits into the client's windows, and into one frame. Raises Gone."""
        if not body:
            return True
        try:
            window = self.connection.local_flow_control_window(number)
        except h2.exceptions.StreamClosedError as closed:
            raise Gone from closed
        return len(body) <= min(window, self.connection.max_outbound_frame_size)

    async def whole(self, number: int, status: int, headers: Fields, body: bytes) -> None:
        """Send a whole response, which fits, in one go. Raises as `head`."""
        self._send_head(number, status, headers, end=not body)
        if body:
            self.connection.send_data(number, body, end_stream=True)
        if not self._handling:
            await self._flush()

    async def go_on(self, number: int) -> None:
        """Send 100 (Continue): the client may send its body."""
        await self.inform(number, 100, [])

    async def inform(self, number: int, status: int, headers: Headers) -> None:
        await self.stream_send(
            events.InformationalResponse(stream_id=number, headers=_for_h2(headers), status_code=status)
        )

    async def reset(self, number: int, code: int) -> bool:
        """Send RST_STREAM. True, as only the stream ends."""
        try:
            self.connection.reset_stream(number, code)
        except h2.exceptions.ProtocolError:
            return True  # it is closed already
        self.connection.taken(number)
        await self.forget(number)
        await self._flush()
        return True

    async def forget(self, number: int) -> None:
        """Send nothing more on a stream, and drop what arrives."""
        self.streams.pop(number, None)
        self.connection.taken(number)  # give the bytes back to the window that all streams share
        await self._drop_buffer(number)

    async def _drop_buffer(self, number: int) -> None:
        """Send nothing more of a body, and no END_STREAM. Its app no longer waits for a window."""
        if (buffer := self.stream_buffers.pop(number, None)) is not None:
            self.priority.remove_stream(number)
            await buffer.close()

    async def taken(self, number: int) -> None:
        """The app has read the body so far: the client may send more."""
        if self.connection.taken(number):
            await self._flush()

    async def done(self, number: int) -> None:
        """Both sides of the stream have ended."""
        self.connection.calm.earn(ANSWER)
        self.streams.pop(number, None)

    async def send_task(self) -> None:
        """Send the pieces of bodies. Hypercorn's own waits inside an `except`, which keeps the error and its frames alive."""
        while not self.closed:
            if (number := self._ready()) is not None:
                await self._send_data(number)
            else:
                await self.has_data.wait()
                await self.has_data.clear()

    def _ready(self) -> int | None:
        """The stream that may send next."""
        try:
            return int(next(self.priority))
        except priority.DeadlockError:
            return None

    async def _send_data(self, number: int) -> None:
        """Send a piece of a body, or drop it where the connection has closed meanwhile.

        A long body gives other connections their turn, however fast its client reads. Hypercorn's own expects that nobody
        else removes a buffer.
        """
        try:
            if not self.owner.may_speak:
                await self._drop_buffer(number)
                return
            await self._send_piece(number, self.stream_buffers[number])
        except h2.exceptions.ProtocolError:  # the stream or the connection has ended
            await self._drop_buffer(number)
        self._pieces += 1
        if self._pieces >= UNITS:
            self._pieces = 0
            await self.owner.give_way()

    async def _send_piece(self, number: int, buffer: _Buffer) -> None:
        room = min(self.connection.local_flow_control_window(number), self.connection.max_outbound_frame_size)
        if data := await buffer.pop(max(0, room)):
            self.connection.send_data(number, data)
            await self._flush()
        else:
            self.priority.block(number)
        if buffer.complete and number in self.stream_buffers:  # else it was dropped meanwhile
            self.connection.end_stream(number)
            buffer.ended = True
            await self._flush()
            await self._drop_buffer(number)

    @property
    def open(self) -> int:
        """The streams that have not ended on both sides: they count, answered or not (RFC 9113 §5.1.2)."""
        return len(self.streams)

    async def flush(self, raw: bytes = b"") -> None:
        """Send the frames that wait, and the bytes of `raw` frames after them."""
        if data := self.connection.data_to_send() + raw:
            await self.send(RawData(data=data))

    @property
    def highest(self) -> int:
        """The highest stream that the client has opened."""
        return int(self.connection.highest_inbound_stream_id)


@lru_cache(maxsize=64)  # a client repeats most of its requests
def _head(fields: tuple[tuple[bytes, bytes], ...]) -> Head:
    pseudo = {name: value for name, value in fields if name.startswith(b":")}
    headers = [(name, value) for name, value in fields if not name.startswith(b":")]
    method = pseudo.get(b":method", b"").decode("ascii", "replace")
    return Head(
        method, pseudo.get(b":path", b""), authority_of(pseudo.get(b":authority"), headers), tuple(headers), "2"
    )


@lru_cache(maxsize=64)  # so does a fake
def _section(status: int, headers: Fields) -> Fields:
    if status < 200:
        raise h2.exceptions.ProtocolError(f"{status} is the status of no final answer (RFC 9110 §15.2)")
    return ((b":status", b"%d" % status), *_for_h2(headers))


def _for_h2(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without the fields of a connection, which HTTP/2 forbids (RFC 9113 §8.2.2)."""
    return [header for header in headers if header[0] not in wellformed.OF_THE_CONNECTION]
