"""The private seams of hypercorn and h2 that notnow stands on, each asked of the libraries themselves.

When one of these fails after an upgrade, this is the seam that has moved; the modules of `notnow.servers.http` name theirs.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import h2.events
import h2.exceptions
import h11
import hpack
import priority
import pytest
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings
from hpack import Decoder
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol import events
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, BufferCompleteError, H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol
from hyperframe.frame import DataFrame, HeadersFrame

from notnow.servers.base.turns import Turn, Turns
from notnow.servers.http import floods, http2, http2_connection, http11, hypercorn_parts

HEADERS = [(b":method", b"GET"), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"a")]


class Told:
    """Stands for a stream: what it was told."""

    idle = False

    def __init__(self) -> None:
        self.got: list[Any] = []

    async def handle(self, event: Any) -> None:
        self.got.append(event)


class Tasks:
    """Stands for a group of tasks: what it was to begin."""

    def __init__(self) -> None:
        self.begun: list[tuple[Any, ...]] = []

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self.begun.append((function, *args))


def config() -> Config:
    made = Config()
    made.errorlog = made.accesslog = None
    made.include_server_header = made.include_date_header = False
    return made


class Server:
    """A protocol of hypercorn's, whose streams are ours; and what it has sent."""

    def __init__(self, kind: type[Any]) -> None:
        self.sent: list[Any] = []
        self.tasks, self.requests = Tasks(), list[Any]()
        server = self

        class Ours(kind):  # type: ignore[misc]
            async def _create_stream(self, request: Any) -> None:
                server.requests.append(request)
                if isinstance(self, H2Protocol):
                    self.streams[request.stream_id] = Told()
                else:
                    self.stream = Told()

        self.protocol = Ours(None, config(), WorkerContext(None), self.tasks, {}, False, None, None, self.send)

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    async def hear(self, data: bytes) -> None:
        await self.protocol.handle(RawData(data=data))

    @property
    def said(self) -> bytes:
        return b"".join(event.data for event in self.sent if isinstance(event, RawData))


def client() -> H2Connection:
    made = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    made.initiate_connection()
    return made


async def two(body: bool = False) -> tuple[Server, H2Connection]:
    """HTTP/2 with a request on stream 1."""
    server, peer = Server(H2Protocol), client()
    await server.protocol.initiate()
    peer.send_headers(1, HEADERS, end_stream=not body)
    await server.hear(peer.data_to_send())
    return server, peer


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


# ---- H2Protocol ----------------------------------------------------------------------------------


def test_h2_create_stream_is_given_each_request():
    async def main() -> None:
        server, _ = await two()
        (request,) = server.requests
        assert (request.stream_id, [tuple(h) for h in request.headers]) == (1, HEADERS)

    run(main())


def test_h2_streams_get_bodies_their_end_and_their_close():
    async def main() -> None:
        server, peer = await two(body=True)
        told = server.protocol.streams[1]
        peer.send_data(1, b"abc", end_stream=True)
        await server.hear(peer.data_to_send())
        assert [type(event) for event in told.got] == [events.Body, events.EndBody]
        assert told.got[0].data == b"abc"
        peer.send_headers(3, HEADERS)
        peer.reset_stream(3)
        await server.hear(peer.data_to_send())
        assert 3 not in server.protocol.streams  # by _close_stream

    run(main())


def test_h2_close_stream_is_called_for_each_reset_and_at_the_end():
    closed = []

    async def main() -> None:
        server, peer = await two(body=True)
        told = server.protocol.streams[1]

        async def close(number: int) -> None:
            closed.append(number)
            await type(server.protocol)._close_stream(server.protocol, number)

        server.protocol._close_stream = close
        peer.send_headers(3, HEADERS)
        peer.reset_stream(3)
        await server.hear(peer.data_to_send())
        assert closed == [3]
        await server.protocol.handle(Closed())
        assert closed == [3, 1]
        assert server.protocol.closed
        assert [type(event) for event in told.got] == [events.StreamClosed]

    run(main())


def test_h2_missing_streams_are_looked_up_by_their_number():
    """So that `_Streams` can say `_Nobody`; and `idle` asks those that there are."""

    async def main() -> None:
        server, peer = await two(body=True)
        server.protocol.streams = http2._Streams()
        peer.send_data(1, b"abc", end_stream=True)
        await server.hear(peer.data_to_send())
        assert server.protocol.idle

    run(main())


def test_h2_acknowledges_what_has_been_handled_by_a_method_of_the_connection():
    async def main() -> None:
        server, peer = await two(body=True)
        got = []
        server.protocol.connection.acknowledge_received_data = lambda size, number: got.append((size, number))
        peer.send_data(1, b"abc")
        await server.hear(peer.data_to_send())
        assert got == [(3, 1)]

    run(main())


def test_h2_priority_updated_is_what_fills_the_tree():
    async def main() -> None:
        server, peer = await two()
        got = []

        async def updated(event: Any) -> None:
            got.append(event)

        server.protocol._priority_updated = updated
        peer.prioritize(5, weight=3)
        await server.hear(peer.data_to_send())
        assert [event.stream_id for event in got] == [5]
        with pytest.raises(priority.DeadlockError):
            next(server.protocol.priority)

    run(main())


def test_h2_task_group_is_used_for_the_send_task_only():
    async def main() -> None:
        server, peer = await two()
        assert server.tasks.begun == [(server.protocol.send_task,)]
        assert all(isinstance(event, RawData | Updated | Closed) for event in server.sent)
        names = inspect.getsource(H2Protocol)
        assert names.count("task_group.spawn") == 1

    run(main())


def test_h2_stream_buffers_priority_and_has_data_are_how_a_body_is_sent():
    async def main() -> None:
        server, peer = await two()
        protocol = server.protocol
        protocol.stream_buffers[1] = StreamBuffer(protocol.context.event_class)
        protocol.priority.insert_stream(1)
        protocol.priority.block(1)
        protocol.connection.send_headers(1, [(b":status", b"200")])
        task = asyncio.create_task(protocol.send_task())
        await protocol.stream_send(events.Body(stream_id=1, data=b"abc"))
        await protocol.stream_send(events.EndBody(stream_id=1))
        for _ in range(10):
            await asyncio.sleep(0)
        got = peer.receive_data(server.said)
        assert b"".join(e.data for e in got if isinstance(e, h2.events.DataReceived)) == b"abc"
        assert any(isinstance(e, h2.events.StreamEnded) for e in got)
        assert protocol.stream_buffers == {}
        protocol.closed = True
        await protocol.has_data.set()
        await task

    run(main())


def test_h2_informational_response_is_sent_by_stream_send():
    async def main() -> None:
        server, peer = await two(body=True)
        await server.protocol.stream_send(events.InformationalResponse(stream_id=1, headers=[], status_code=100))
        got = peer.receive_data(server.said)
        assert any(isinstance(event, h2.events.InformationalResponseReceived) for event in got)

    run(main())


def test_h2_initiate_of_an_upgrade_begins_stream_1():
    async def main() -> None:
        server = Server(H2Protocol)
        await server.protocol.initiate(HEADERS[:2], b"")
        assert [request.stream_id for request in server.requests] == [1]
        assert [type(event) for event in server.protocol.streams[1].got] == [events.EndBody]

    run(main())


def test_h2_a_protocol_error_is_flushed_and_closes():
    async def main() -> None:
        server, peer = await two()
        await server.hear(b"\0\0\x08\6\0\0\0\0\1abcdefgh")  # PING on a stream
        assert isinstance(server.sent[-1], Closed)
        assert any(isinstance(e, h2.events.ConnectionTerminated) for e in peer.receive_data(server.said))

    run(main())


class TestStreamBuffer:
    def test_its_attributes(self):
        async def main() -> None:
            buffer = StreamBuffer(WorkerContext.event_class)
            assert (buffer.buffer, buffer._complete) == (bytearray(), False)
            assert {"set", "clear", "wait", "is_set"} <= set(dir(buffer._is_empty)) & set(dir(buffer._paused))
            buffer.set_complete()
            assert buffer._complete
            assert buffer.complete
            with pytest.raises(BufferCompleteError):
                await buffer.push(b"x")

        run(main())

    def test_of_it_the_protocol_asks_nothing_else(self):
        source = inspect.getsource(H2Protocol)
        asked = {part.split("(")[0].split(":")[0] for part in source.split("self.stream_buffers[stream_id].")[1:]}
        asked |= {
            part.split("(")[0].split(":")[0] for part in source.split("self.stream_buffers[event.stream_id].")[1:]
        }
        assert asked == {"pop", "complete", "close", "push", "set_complete", "drain"}

    def test_ours_holds_an_app_back_while_a_window_is_closed(self):
        """Which is why there is one: hypercorn's lets it go on with the first look at a closed window."""

        async def waits(kind: type[StreamBuffer]) -> bool:
            buffer = kind(WorkerContext.event_class)
            pushing = asyncio.create_task(buffer.push(b"x" * BUFFER_HIGH_WATER))
            await asyncio.sleep(0)
            await buffer.pop(0)
            await asyncio.sleep(0)
            waiting = not pushing.done()
            await buffer.pop(BUFFER_HIGH_WATER)
            await pushing
            return waiting

        assert asyncio.run(waits(http2._Buffer))
        assert not asyncio.run(waits(StreamBuffer))  # when this fails, ours may go


# ---- H11Protocol ---------------------------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_h11_create_stream_is_given_each_request_and_streams_get_their_bodies():
    async def main() -> None:
        server = Server(H11Protocol)
        await server.protocol.initiate()
        await server.hear(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
        (request,) = server.requests
        assert (request.method, request.target) == (b"POST", b"/x")
        assert [type(event) for event in server.protocol.stream.got] == [events.Body, events.EndBody]

    run(main())


def test_h11_stream_send_says_bodies_and_recycles():
    async def main() -> None:
        server = Server(H11Protocol)
        await server.hear(GET)
        await server.protocol._send_h11_event(h11.Response(status_code=200, headers=[(b"content-length", b"3")]))
        await server.protocol.stream_send(events.Body(stream_id=1, data=b"abc"))
        await server.protocol.stream_send(events.EndBody(stream_id=1))
        told = server.protocol.stream
        await server.protocol.stream_send(events.StreamClosed(stream_id=1))
        assert server.said.endswith(b"\r\n\r\nabc")
        assert isinstance(told.got[-1], events.StreamClosed)
        assert server.protocol.stream is None
        await server.hear(GET)
        assert len(server.requests) == 2

    run(main())


def test_h11_pipelined_requests_wait_inside_handle():
    async def main() -> None:
        server = Server(H11Protocol)
        task = asyncio.create_task(server.hear(GET * 2))
        for _ in range(5):
            await asyncio.sleep(0)
        assert (len(server.requests), task.done()) == (1, False)
        await server.protocol._send_h11_event(h11.Response(status_code=204, headers=[]))
        await server.protocol.stream_send(events.EndBody(stream_id=1))
        await server.protocol.stream_send(events.StreamClosed(stream_id=1))
        await task
        assert len(server.requests) == 2

    run(main())


def test_h11_what_cannot_go_on_is_closed():
    async def main() -> None:
        server = Server(H11Protocol)
        await server.hear(b"GET / HTTP/1.0\r\n\r\n")
        await server.protocol._send_h11_event(h11.Response(status_code=204, headers=[]))
        await server.protocol.stream_send(events.EndBody(stream_id=1))
        await server.protocol.stream_send(events.StreamClosed(stream_id=1))
        assert isinstance(server.sent[-1], Closed)
        await server.protocol.handle(Closed())

    run(main())


def test_h11_connection_may_be_replaced_and_its_errors_are_answered():
    async def main() -> None:
        why = []
        server = Server(H11Protocol)
        server.protocol.connection = http11.Connection(why.append, Turn(Turns(asyncio.get_running_loop())))
        await server.hear(b"garbage\r\n\r\n")
        assert server.said.startswith(b"HTTP/1.1 400 ")
        assert isinstance(server.sent[-1], Closed)
        assert str(why[0]).startswith("HTTP/1.1 400 Bad Request: ")

    run(main())


def test_h11_says_100_continue_by_itself_once_the_stream_has_begun():
    async def main() -> None:
        server = Server(H11Protocol)
        await server.hear(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert server.said.startswith(b"HTTP/1.1 100 ")
        assert not server.protocol.connection.they_are_waiting_for_100_continue

    run(main())


def test_h11_hands_over_to_http_2():
    async def main() -> None:
        server = Server(H11Protocol)
        with pytest.raises(H2ProtocolAssumedError) as assumed:
            await server.hear(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest")
        assert assumed.value.data == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest"
        server = Server(H11Protocol)
        with pytest.raises(H2CProtocolRequiredError) as required:
            await server.hear(b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\nrest")
        assert server.said.startswith(b"HTTP/1.1 101 ")
        assert (required.value.data, required.value.settings) == (b"rest", b"AAAA")
        assert {(b":method", b"GET"), (b":path", b"/x"), (b":authority", b"a")} <= set(required.value.headers)

    run(main())


# ---- what they are made with ---------------------------------------------------------------------


def test_the_two_are_made_alike():
    names = list(inspect.signature(H2Protocol.__init__).parameters)
    assert names == list(inspect.signature(H11Protocol.__init__).parameters)
    assert names[1:] == [
        "app",
        "config",
        "context",
        "task_group",
        "connection_state",
        "ssl",
        "client",
        "server",
        "send",
    ]


def test_config_has_what_is_set():
    made = hypercorn_parts.config()
    plain = vars(Config) | Config.__annotations__
    for name in ("include_server_header", "include_date_header", "keep_alive_max_requests", "shutdown_timeout"):
        assert name in plain, name
    assert made.response_headers("h2") == []
    assert made.h2_max_header_list_size > 0
    assert made.h11_max_incomplete_size > 0


def test_worker_context_needs_no_loop_and_counts_nothing():
    context = WorkerContext(None)
    asyncio.run(context.mark_request())
    assert not context.terminated.is_set()


def test_lifespan():
    assert list(inspect.signature(Lifespan.__init__).parameters) == ["self", "app", "config", "loop", "lifespan_state"]
    assert {"handle_lifespan", "wait_for_startup", "wait_for_shutdown"} <= set(dir(Lifespan))


def test_what_we_override_is_what_we_mean_to():
    """No name of ours stands in the way of one of theirs by accident."""

    def ours(mine: type[Any], theirs: type[Any]) -> set[str]:
        return {name for name in vars(mine) if hasattr(theirs, name) and not name.startswith("__")}

    assert ours(http2.H2, H2Protocol) == {
        "_close_stream",
        "_create_stream",
        "_handle_events",
        "_send_data",
        "send_task",
        "handle",
        "initiate",
    }
    assert ours(http11.H11, H11Protocol) == {"_check_protocol", "_create_stream", "handle"}
    assert ours(http2_connection.Connection, H2Connection) == {
        "_receive_data_frame",
        "_receive_goaway_frame",
        "_receive_headers_frame",
        "_receive_priority_frame",
        "acknowledge_received_data",
        "receive_data",
        "send_data",
    }
    assert ours(http11.Connection, h11.Connection) == {"next_event"}
    assert ours(http2._Buffer, StreamBuffer) == {"pop", "push"}
    assert ours(floods.Frames, FrameBuffer) == set()  # but for __next__
    assert ours(floods.Decoder, hpack.Decoder) == {"_update_encoding_context", "decode"}


# ---- h2 ------------------------------------------------------------------------------------------


def test_a_frame_buffer_may_keep_frames_back_for_later():
    class One(FrameBuffer):
        given = 0

        def __next__(self):
            if self.given == 1:
                raise StopIteration
            frame = super().__next__()
            self.given += 1
            return frame

    server, peer = served()
    server.incoming_buffer = buffer = One(server=True)
    peer.clear_outbound_data_buffer()
    peer.ping(b"12345678")
    server.receive_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert server.receive_data(peer.data_to_send() * 2)[0].ping_data == b"12345678"
    assert not server.receive_data(b"")
    buffer.given = 0
    assert len(server.receive_data(b"")) == 1


def test_a_decoder_is_told_of_each_table_size_update():
    decoder = floods.Decoder()
    decoder.decode(b"\x20\x3f\xe1\x1f" + hpack.Encoder().encode(HEADERS), raw=True)
    with pytest.raises(h2.exceptions.ProtocolError, match="table size updates") as raised:
        decoder.decode(b"\x20\x20\x20")
    assert raised.value.error_code == ErrorCodes.COMPRESSION_ERROR


def served() -> tuple[H2Connection, H2Connection]:
    server, peer = H2Connection(H2Configuration(client_side=False, header_encoding=None)), client()
    server.initiate_connection()
    peer.receive_data(server.data_to_send())
    return server, peer


def test_local_settings_may_be_replaced_once_they_are_told():
    server, peer = served()
    server.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    for number in (1, 3):
        peer.send_headers(number, HEADERS)
    with pytest.raises(h2.exceptions.TooManyStreamsError):
        server.receive_data(peer.data_to_send())
    server, peer = served()
    server.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 2**31 - 1})
    peer.remote_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: 2**31 - 1})
    for number in range(1, 400, 2):
        peer.send_headers(number, HEADERS)
    assert len(server.receive_data(peer.data_to_send())) >= 200


def test_bytes_may_follow_what_data_to_send_gives():
    server, peer = served()
    peer.send_headers(1, HEADERS, end_stream=True)
    server.receive_data(peer.data_to_send())
    said = server.data_to_send() + b"\0\0\x02\x0c\0\0\0\0\0\0\0"
    server.send_headers(1, [(b":status", b"200")], end_stream=True)
    got = peer.receive_data(said + server.data_to_send())
    assert any(isinstance(event, h2.events.UnknownFrameReceived) for event in got)
    assert any(isinstance(event, h2.events.ResponseReceived) for event in got)


def test_highest_inbound_stream_id():
    server, peer = served()
    assert server.highest_inbound_stream_id == 0
    peer.send_headers(5, HEADERS)
    server.receive_data(peer.data_to_send())
    assert server.highest_inbound_stream_id == 5


def test_receive_goaway_frame_is_what_ends_it():
    server, peer = served()
    peer.send_headers(1, HEADERS, end_stream=True)
    peer.close_connection()
    server.receive_data(peer.data_to_send())
    with pytest.raises(h2.exceptions.ProtocolError):  # when this fails, ours may go
        server.send_headers(1, [(b":status", b"200")])


def test_a_stream_that_was_reset_is_a_stream_closed_error():
    server, peer = served()
    peer.send_headers(1, HEADERS, end_stream=True)
    peer.reset_stream(1)
    server.receive_data(peer.data_to_send())
    with pytest.raises(h2.exceptions.StreamClosedError):
        server.send_headers(1, [(b":status", b"200")])


def test_credit_may_be_given_for_a_stream_that_is_closed():
    server, peer = served()
    peer.send_headers(1, HEADERS)
    peer.send_data(1, b"x" * 16_384)
    peer.send_data(1, b"x" * 16_384)
    peer.reset_stream(1)
    server.receive_data(peer.data_to_send())
    server.data_to_send()
    server.acknowledge_received_data(32_768, 1)
    (update,) = [e for e in peer.receive_data(server.data_to_send()) if isinstance(e, h2.events.WindowUpdated)]
    assert (update.stream_id, update.delta) == (0, 32_768)


def test_an_error_closes_it_and_has_a_code():
    server, peer = served()
    server.receive_data(peer.data_to_send())
    with pytest.raises(h2.exceptions.ProtocolError) as caught:
        server.receive_data(b"\0\0\x08\6\0\0\0\0\1abcdefgh")
    assert ErrorCodes(caught.value.error_code) is ErrorCodes.PROTOCOL_ERROR
    assert server.state_machine.state is ConnectionState.CLOSED
    server, _ = served()
    with pytest.raises(h2.exceptions.ProtocolError):  # a bad preface: when the next line fails, ours may go
        server.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert server.state_machine.state is not ConnectionState.CLOSED


def test_receive_data_frame_is_what_sees_that_a_body_is_not_of_its_length():
    server, peer = served()
    peer.send_headers(1, [*HEADERS, (b"content-length", b"9")])
    peer.send_data(1, b"short", end_stream=True)
    got = []

    def receive(frame: Any) -> Any:
        got.append(frame.stream_id)
        return H2Connection._receive_data_frame(server, frame)

    server._frame_dispatch_table[type(DataFrame(1))] = receive
    assert (
        H2Connection(H2Configuration(client_side=False))._frame_dispatch_table[DataFrame].__name__
        == "_receive_data_frame"
    )
    with pytest.raises(h2.exceptions.InvalidBodyLengthError):
        server.receive_data(peer.data_to_send())
    assert got == [1]


def test_the_frame_buffer_keeps_bytes_and_unfinished_header_blocks_where_ours_looks_for_them():
    buffer = FrameBuffer()
    buffer.max_frame_size = 2**14
    buffer.add_data(HeadersFrame(1, b"x").serialize() + b"rest")
    assert list(buffer) == []
    assert ([made.stream_id for made in buffer._headers_buffer], buffer._data) == ([1], b"rest")


def test_a_field_section_is_read_by_the_decoder_alone():
    """What it leaves out, h2 does not know of; and without its own checks, h2 has no complaint about the rest."""

    class Mute(Decoder):
        def decode(self, data: bytes, raw: bool = False) -> Any:
            super().decode(data, raw)
            return []

    _, peer = served()
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None, validate_inbound_headers=False))
    server.decoder = Mute()
    peer.send_headers(1, HEADERS, end_stream=True)
    got = [e for e in server.receive_data(peer.data_to_send()) if isinstance(e, h2.events.RequestReceived)]
    assert [(e.stream_id, e.headers) for e in got] == [(1, [])]
    server.reset_stream(1, ErrorCodes.PROTOCOL_ERROR)


def test_a_stream_knows_its_length_and_that_its_head_is_in():
    server, peer = served()
    peer.send_headers(1, [*HEADERS, (b"content-length", b"9")])
    peer.send_data(1, b"12345")
    server.receive_data(peer.data_to_send())
    stream = server.streams[1]
    assert (stream._expected_content_length, stream._actual_content_length) == (9, 5)
    assert stream.state_machine.headers_received
    peer.send_headers(1, [(b"x", b"1")], end_stream=True)
    server.receive_data(peer.data_to_send())  # when h2 sees that four bytes are missing, ours may go


@pytest.mark.parametrize("end", [True, False])
def test_a_request_and_an_answer_that_are_repeated_change_what_h2_changes(end: bool):
    """The second of two that are alike is read and answered past h2's state machines."""
    loop: Any = None  # nobody waits for a turn
    ours = http2_connection.Connection(lambda _: None, lambda _: False, Turn(Turns(loop)))
    peer, found = client(), list[Any]()
    ours.initiate_connection()
    ours.receive_data(peer.data_to_send())
    peer.receive_data(ours.data_to_send())
    ours.receive_data(peer.data_to_send())
    cookies = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]  # h2 makes one of them, at the end
    for number in (1, 3, 5, 7):
        peer.send_headers(number, [*HEADERS, *cookies, (b"x", b"1")], end_stream=True)
        read = ours.receive_data(peer.data_to_send())
        stream, connection = ours.streams[number].state_machine, ours.state_machine.state
        states = [{**vars(stream), "stream_id": 0}]
        ours.send_head(number, ((b":status", b"204"),), end)
        states.append({**vars(stream), "stream_id": 0})
        said = [(type(one), getattr(one, "headers", None), hasattr(one, "stream_ended")) for one in read]
        found.append((said, states, connection, ours.highest_inbound_stream_id - number))
        heard = {type(one) for one in peer.receive_data(ours.data_to_send())}
        assert heard >= {h2.events.ResponseReceived} | ({h2.events.StreamEnded} if end else set())
    assert found == [found[0]] * 4
    assert ours.decoder.sections._found, "the last ones were read before"


def test_the_frame_buffer_is_asked_for_frame_after_frame():
    seen = []

    class Watched(FrameBuffer):
        def __next__(self) -> Any:
            seen.append(bytes(self._data[:9]))
            return super().__next__()

    server, peer = H2Connection(H2Configuration(client_side=False)), client()
    server.incoming_buffer = Watched(server=True)
    server.receive_data(peer.data_to_send())
    peer.ping(b"12345678")
    server.receive_data(peer.data_to_send())
    assert b"\0\0\x08\6\0\0\0\0\0" in seen


def test_h11_keeps_what_it_has_not_read_where_we_look():
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"\r\nGET")
    assert bytes(connection._receive_buffer._data) == b"\r\nGET"
    connection._receive_buffer.maybe_extract_at_most(2)
    assert connection.trailing_data == (b"GET", False)
    connection.receive_data(b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    empty = h11.Connection(h11.SERVER)
    empty.receive_data(b"\r\n")
    with pytest.raises(h11.RemoteProtocolError):  # when this fails, ours may go
        empty.next_event()


def test_h2_writes_field_sections_by_its_encoder_and_sizes_its_table_as_the_client_allows() -> None:
    """`floods.Encoder` takes its place, and bounds the size in the setter."""
    made = H2Connection(H2Configuration(client_side=False))
    made.encoder = floods.Encoder()
    made.receive_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\6\4\0\0\0\0\0" + b"\0\1\x7f\xff\xff\xff")
    assert made.encoder.header_table_size == 4_096
    assert hpack.Encoder().table_size_changes == []
