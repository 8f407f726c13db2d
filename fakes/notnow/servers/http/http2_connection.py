"""h2's state machine, made to keep to RFC 9113 where it ends a connection instead of a stream.

Private seams of h2: its methods `_receive_frame`, `_receive_goaway_frame`, `_receive_headers_frame`, `_receive_data_frame` and
`_receive_priority_frame`, and that it finds the method for a frame in its `_frame_dispatch_table`;
`highest_inbound_stream_id`; that it reads field sections by its `decoder` alone, and writes them by its `encoder`; of its `H2Stream`,
`_expected_content_length`, `_actual_content_length` and `state_machine`; `_begin_new_stream`, and `_open_streams`, which drops closed
ones; what a request without a body, and a response without one, change in a stream's state machine, and that they change
nothing in the connection's once a request was read; the frame that `send_headers` adds to `_data_to_send`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import h2.events
import h2.exceptions
from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionInputs, ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.stream import H2StreamStateMachine, StreamClosedBy, StreamInputs, StreamState
from hyperframe.exceptions import InvalidPaddingError
from hyperframe.frame import HeadersFrame

from notnow.journal import ProtocolViolation
from notnow.servers.base.turns import Turn
from notnow.servers.http.floods import PIECE, Calm, Decoder, Encoder, Frames
from notnow.servers.http.sections import Head
from notnow.servers.http.strict import FaultyFrame, RepeatedRequest

if TYPE_CHECKING:
    from hyperframe.frame import DataFrame, Frame, GoAwayFrame, PriorityFrame
    from typing_extensions import Buffer

_FRAME = struct.Struct(">xHBBL")  # the head of a frame that is shorter than 65,536 bytes (RFC 9113 §4.1)
END_STREAM, END_HEADERS = 0x1, 0x4  # flags of HEADERS (RFC 9113 §6.2)
MANY = 64  # streams, closed ones included, before h2 drops those that are closed


class Connection(H2Connection):
    """h2's connection, which also reports what a client does wrong, ends only the stream where a request is malformed
    (RFC 9113 §8.1.1), and gives credit for a body when that has been taken.
    """

    decoder: Decoder
    encoder: Encoder

    def __init__(self, broken: Callable[[ProtocolViolation], None], drops: Callable[[int], bool], turn: Turn) -> None:
        # Field sections are judged by `Decoder`: h2 would end the connection.
        super().__init__(H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False))
        self._broken, self._drops = broken, drops
        # Streams that were just ended for an error of theirs: the request, the reason, and the code of RST_STREAM.
        self.faults: dict[int, tuple[str, str, str]] = {}
        self._violation: h2.exceptions.ProtocolError | None = None  # ends the connection once all before it is handled
        self.calm = Calm()
        self._owed: dict[int, int] = {}
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.decoder.max_header_list_size = self.DEFAULT_MAX_HEADER_LIST_SIZE
        self.incoming_buffer = self.frames = Frames(turn, self.calm, self.decoder)
        self._frame_dispatch_table[FaultyFrame] = self._receive_faulty
        self._frame_dispatch_table[RepeatedRequest] = self._receive_repeated

    def receive_data(self, data: Buffer) -> list[h2.events.Event]:
        """What has happened in this turn. Raises ProtocolError at a frame that breaks the protocol.

        h2 would also drop what the frames before that one have brought: a request would be lost, or not, by the size of the
        pieces in which it comes. They have a turn first (`frames.held`).
        """
        found: list[h2.events.Event] = []
        try:
            self.frames.add_data(data)
            if self._violation is not None:
                raise self._violation
            self.frames.max_frame_size = self.max_inbound_frame_size
            for frame in self.frames:
                found += self._receive_frame(frame)
        except InvalidPaddingError:
            self._violation = h2.exceptions.ProtocolError("Received frame with invalid padding.")
        except h2.exceptions.ProtocolError as error:
            self._violation = error
        if self._violation is not None:
            self.frames.held = bool(found)
            if not found:
                self._end(self._violation)
        return found

    def _end(self, error: h2.exceptions.ProtocolError) -> NoReturn:
        self._broken(ProtocolViolation("HTTP/2", ErrorCodes(error.error_code).name, str(error)))
        self.close_connection(error.error_code)
        raise error

    def _receive_goaway_frame(self, _frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A client that sends GOAWAY still wants its answers (RFC 9113 §6.8); h2 would send nothing more."""
        return [], [h2.events.ConnectionTerminated()]

    def _receive_priority_frame(self, frame: HeadersFrame | PriorityFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """Ignore priorities (RFC 9113 §5.3.2); h2 would end the connection for a stream that depends on itself."""
        if frame.depends_on == frame.stream_id:
            frame.depends_on = 0
        received: tuple[list[Frame], list[h2.events.Event]] = super()._receive_priority_frame(frame)
        return received

    def _receive_headers_frame(self, frame: HeadersFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A malformed field section ends only its stream, once that has begun."""
        known = self.streams.get(frame.stream_id)
        trailers = known is not None and bool(known.state_machine.headers_received)
        self.decoder.trailers, self.decoder.ends = trailers, "END_STREAM" in frame.flags
        short = None
        if known is not None and trailers:
            frame.flags.add("END_STREAM")  # h2 would end the connection for trailers without it
            short = _short(known._expected_content_length, known._actual_content_length)  # h2 does not check this
        received: tuple[list[Frame], list[h2.events.Event]] = super()._receive_headers_frame(frame)
        why = self.decoder.why or short
        return received if why is None else self._end_stream(frame.stream_id, self.decoder.said, why)

    def _receive_repeated(self, frame: RepeatedRequest) -> tuple[list[Frame], list[h2.events.Event]]:
        """What h2 comes to for a request without a body, whose field section is known to be well-formed."""
        number = frame.stream_id
        if self.state_machine.state is not ConnectionState.SERVER_OPEN or number <= self.highest_inbound_stream_id:
            whole = HeadersFrame(number, frame.block, flags=("END_HEADERS", "END_STREAM"))
            return self._receive_headers_frame(whole)
        if len(self.streams) >= MANY:
            self._open_streams(1)
        stream = self._begin_new_stream(number, AllowedStreamIDs.ODD).state_machine
        stream.state, stream.client, stream.headers_received = StreamState.HALF_CLOSED_REMOTE, False, True
        ended = h2.events.StreamEnded(stream_id=number)
        return [], [h2.events.RequestReceived(stream_id=number, headers=list(frame.fields), stream_ended=ended), ended]

    def _receive_data_frame(self, frame: DataFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A body of the wrong length ends only its stream (RFC 9113 §8.1.1); h2 would end the connection.

        Who has its answer already may stop short, as curl does.
        """
        try:
            received: tuple[list[Frame], list[h2.events.Event]] = super()._receive_data_frame(frame)
        except h2.exceptions.InvalidBodyLengthError as error:
            return self._end_stream(frame.stream_id, "", str(error))
        return received

    def _receive_faulty(self, frame: FaultyFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        """A stream error (RFC 9113 §5.4.2); on an idle stream it ends the connection (§6.4), on a closed one nothing."""
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
        except h2.exceptions.StreamClosedError:  # the faulty frame has also ended it
            return [], []
        self.faults[number] = said, why, code.name
        return [], [h2.events.StreamReset(stream_id=number)]

    def send_head(self, number: int, fields: Head, end_stream: bool) -> None:
        """Send the head of a response: `send_headers`, but what was sent before is not checked and encoded again.

        Raises as that does, and StreamClosedError for each stream that has ended.
        """
        encoder, stream = (
            self.encoder,
            self._get_stream_by_id(number),
        )  # `send_headers` does not know those that h2 has dropped
        block = encoder.sections.find(fields)
        if block is None:
            self._send_new_head(stream.state_machine, number, fields, end_stream)
            encoder.sections.keep(fields, encoder.block, len(encoder.block))
            return
        self._head_sent(stream.state_machine, end_stream)
        flags = END_HEADERS | END_STREAM if end_stream else END_HEADERS
        self._data_to_send += _FRAME.pack(len(block), HeadersFrame.type, flags, number) + block

    def _send_new_head(self, stream: H2StreamStateMachine, number: int, fields: Head, end_stream: bool) -> None:
        before = stream.headers_sent
        try:
            self.send_headers(number, fields, end_stream=end_stream)
        except h2.exceptions.ProtocolError:
            stream.headers_sent = before  # nothing was sent; for h2, the next head would be trailers
            raise

    def _head_sent(self, stream: H2StreamStateMachine, end_stream: bool) -> None:
        if self.state_machine.state is not ConnectionState.SERVER_OPEN:
            self.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        if end_stream and stream.state is StreamState.HALF_CLOSED_REMOTE and not stream.headers_sent:  # nearly always
            stream.state, stream.headers_sent = StreamState.CLOSED, True
            stream.stream_closed_by = StreamClosedBy.SEND_END_STREAM
            return
        stream.process_input(StreamInputs.SEND_HEADERS)
        if end_stream:
            stream.process_input(StreamInputs.SEND_END_STREAM)

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
        """The app has read the body so far. True if there is credit to send to the client."""
        owed = self._owed.pop(stream_id, 0)
        if owed:
            super().acknowledge_received_data(owed, stream_id)
        return owed > 0


def _short(expected: int | None, actual: int) -> str | None:
    """The complaint about a body that ends with trailers and is not as long as its content-length (RFC 9113 §8.1.1)."""
    return None if expected in (None, actual) else f"content-length is {expected}, and {actual} bytes have come"
