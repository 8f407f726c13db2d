"""A broken HTTP client cannot take a fake down: its connection suffers, is told why, and the next one is served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import socket
import ssl
import struct
import threading
import tracemalloc
import warnings

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from http_client import H1, H2, HTTP, PREFACE, frame, one, rules, then
from notnow import FakeHTTP, RealClock
from notnow.bounds import STREAMS
from notnow.journal import HandshakeAbandoned
from notnow.servers.base import bridge as _bridge
from notnow.servers.base import closing as _wire
from notnow.servers.http.session import HTTPSession
from notnow.servers.http.stream import Stream
from raw_connection import alive

pytestmark = pytest.mark.usefixtures("each_loop")

MEGABYTE = 1024 * 1024
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, UPDATE, CONTINUATION = range(10)
NOTHING = SettingsFrame(0).serialize()


@pytest.fixture(params=["none", "implicit"])
def fake(request):
    with FakeHTTP(tls=request.param, journal_limit=20_000) as fake:
        yield fake
        serves_the_next(fake)


@pytest.fixture
def clear():
    with FakeHTTP(tls="none", journal_limit=20_000) as fake:
        yield fake
        serves_the_next(fake)


def serves_the_next(fake: FakeHTTP) -> None:
    with H2(fake) as client:
        assert client.get("/next", b"x" * 100_000).said["path"] == "/next"
    with H1(fake) as client:
        assert client.get("/next").said["path"] == "/next"
    fake._bridge.raise_errors()


def ended(fake: FakeHTTP):
    """The first connection, once it is over."""
    fake.wait_for(lambda j: j.connections and j.connections[0].ended_by)
    return fake.journal.connections[0]


def told(fake: FakeHTTP, client: H2, why: str) -> None:
    """The client gets a GOAWAY with this code, the journal a line, and that is the end."""
    with contextlib.suppress(ConnectionResetError):
        client.rest()
    assert [code for _, code in client.farewells] == [why]
    record = ended(fake)
    assert record.ended_by == "fake"
    assert record.error.startswith(f"HTTP/2 {why}: ")
    assert "0x" not in record.error, "an address in memory"


class TestFrames:
    WRONG = {
        "a settings frame that is an ACK with a payload": (frame(SETTINGS, 1, 0, b"\0" * 6), "FRAME_SIZE_ERROR"),
        "bad HPACK": (frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"),
        "an index that HPACK does not have": (frame(HEADERS, 5, 1, b"\x82\xfe"), "COMPRESSION_ERROR"),
        "bad HPACK in trailers": (
            frame(HEADERS, 4, 1, b"\x83\x84\x86\x41\x01a") + frame(HEADERS, 5, 1, b"\x80"),
            "COMPRESSION_ERROR",
        ),
        "the head of a frame that would be oversize": (frame(DATA, 0, 1, b"", length=2**24 - 1), "FRAME_SIZE_ERROR"),
        "settings of an odd length": (frame(SETTINGS, 0, 0, b"\0" * 5), "FRAME_SIZE_ERROR"),
        "settings on a stream": (frame(SETTINGS, 0, 1, b""), "PROTOCOL_ERROR"),
        "a window beyond all bounds": (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), "FLOW_CONTROL_ERROR"),
        "a frame size below all bounds": (frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)), "PROTOCOL_ERROR"),
        "an oversize frame": (frame(DATA, 0, 1, b"x" * 16_385), "FRAME_SIZE_ERROR"),
        "a ping of seven bytes": (frame(PING, 0, 0, b"x" * 7), "FRAME_SIZE_ERROR"),
        "a ping on a stream": (frame(PING, 0, 1, b"x" * 8), "PROTOCOL_ERROR"),
        "data on stream 0": (frame(DATA, 0, 0, b"x"), "PROTOCOL_ERROR"),
        "headers on stream 0": (frame(HEADERS, 5, 0, b"\x82\x84\x86"), "PROTOCOL_ERROR"),
        "headers on an even stream": (frame(HEADERS, 5, 2, b"\x82\x84\x86\x41\x01a"), "PROTOCOL_ERROR"),
        "data on an idle stream": (frame(DATA, 0, 5, b"x"), "PROTOCOL_ERROR"),
        "a reset of an idle stream": (frame(RST, 0, 5, b"\0" * 4), "PROTOCOL_ERROR"),
        "a window of an idle stream": (frame(UPDATE, 0, 5, struct.pack(">I", 1)), "PROTOCOL_ERROR"),
        "a window update of nothing": (frame(UPDATE, 0, 0, b"\0" * 4), "PROTOCOL_ERROR"),
        "a window update of five bytes": (frame(UPDATE, 0, 0, b"\0" * 5), "FRAME_SIZE_ERROR"),
        "a window that overflows": (frame(UPDATE, 0, 0, struct.pack(">I", 2**31 - 1)), "FLOW_CONTROL_ERROR"),
        "a continuation of nothing": (frame(CONTINUATION, 4, 1, b""), "PROTOCOL_ERROR"),
        "a push": (frame(PUSH, 4, 1, struct.pack(">I", 2) + b"\x82"), "PROTOCOL_ERROR"),
        "padding that is longer than the frame": (frame(HEADERS, 0xD, 1, b"\xff\x82"), "PROTOCOL_ERROR"),
        "other frames within headers": (
            frame(HEADERS, 1, 1, b"\x82") + frame(PING, 0, 0, b"x" * 8),
            "PROTOCOL_ERROR",
        ),
        "a reset of three bytes": (frame(RST, 0, 1, b"\0" * 3), "FRAME_SIZE_ERROR"),
    }

    @pytest.mark.parametrize("what", WRONG)
    def test_what_is_wrong_is_told(self, fake, what):
        wrong, why = self.WRONG[what]
        with H2(fake) as client:
            client.send(wrong)
            told(fake, client, why)

    @pytest.mark.parametrize("length", ["3", "9"])
    @pytest.mark.parametrize("at_once", [True, False])
    def test_a_body_that_is_not_of_its_length_is_that_stream_s_end(self, fake, length, at_once):
        """RFC 9113 §8.1.1."""
        with H2(fake) as client:
            number, head = client.head("/", method="POST", end=False, headers=[("content-length", length)])
            body = DataFrame(number, b"12345", flags=["END_STREAM"]).serialize()
            if at_once:
                client.send(head + body)
            else:
                client.send(head)
                client.ping()
                client.send(body)
            assert client.answer(number).reset == "PROTOCOL_ERROR"
            assert client.get().status == 200

    def test_a_body_beyond_the_window(self):
        with FakeHTTP(rules(one("request", delay="1h")), tls="none") as fake, H2(fake) as client:
            number = client.request(method="POST", end=False)
            client.ping()
            for _ in range(5):
                client.data(number, b"x" * 16_384)
            with contextlib.suppress(ConnectionResetError):
                client.rest()
            assert client.farewells == [(number, "FLOW_CONTROL_ERROR")]

    def test_a_stream_window_that_overflows_is_that_stream_s_end(self, clear):
        with H2(clear) as client:
            number = client.request(method="POST", end=False)
            client.more(2**31 - 1, number)
            assert client.answer(number).reset == "FLOW_CONTROL_ERROR"
            assert client.get().status == 200

    def test_a_stream_that_is_used_again(self, fake):
        with H2(fake) as client:
            assert client.get().status == 200
            client.next = 1
            client.request()
            with contextlib.suppress(ConnectionResetError):
                client.rest()
            assert client.farewells[0][1] in ("STREAM_CLOSED", "PROTOCOL_ERROR")

    def test_what_is_not_known_is_passed_over(self, fake):
        with H2(fake) as client:
            client.send(
                frame(0x42, 0xFF, 0, b"x" * 100) + frame(0x0C, 0, 0, b"") + frame(PRIORITY, 0, 9, b"\0\0\0\0\x10")
            )
            client.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 7)))
            assert client.get().status == 200

    @pytest.mark.parametrize(
        "preface", [PREFACE[:-2] + b"XX", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
    )
    def test_a_bad_preface_where_http_2_was_agreed_on(self, preface):
        with FakeHTTP(tls="implicit") as fake:
            with H2(fake, hello=False) as client:
                client.send(preface)
                told(fake, client, "PROTOCOL_ERROR")
            serves_the_next(fake)

    def test_what_is_under_way_is_over(self, fake):
        with H2(fake) as client:
            client.request(method="POST", end=False)
            client.ping()
            client.send(frame(PING, 0, 1, b"x" * 8))
            told(fake, client, "PROTOCOL_ERROR")
        fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)


class TestHTTP11:
    @pytest.mark.parametrize(
        ("said", "status"),
        [
            (b"\0\0\0\0\r\n\r\n", 400),
            (b"GET\r\n\r\n", 400),
            (b"GET / HTTP/9\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
            (b"x" * 100_000, 431),
            (b"EHLO client.test\r\nMAIL FROM:<a@b>\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        ],
    )
    def test_what_is_no_request_is_told_so(self, fake, said, status):
        with H1(fake) as client:
            with contextlib.suppress(OSError):
                client.send(said)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            with contextlib.suppress(ConnectionResetError):
                assert client.ended
        record = ended(fake)
        assert record.error.startswith(f"HTTP/1.1 {status} ")
        assert record.ended_by == "fake"

    def test_a_bad_chunk_amid_an_answer_ends_it(self, fake):
        began = []

        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            began.append(1)
            while (await receive())["type"] == "http.request":
                pass

        with FakeHTTP(app=app, tls=fake.tls) as other:
            with H1(other) as client:
                client.ask(method="POST", headers=[("transfer-encoding", "chunked")])
                other.wait_for(lambda j: began)
                client.send(b"zz\r\n")
                assert ended(other).error.startswith("HTTP/1.1 400 ")
            other.wait_for(lambda j: not other._bridge.tasks)

    def test_a_request_that_comes_byte_by_byte(self, fake):
        with H1(fake) as client:
            for byte in b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n123":
                client.send(bytes([byte]))
            assert client.answer().said["body"] == "123"


class TestTLS:
    def test_plain_text_on_a_tls_port(self):
        with FakeHTTP(tls="implicit") as fake:
            with H1(fake, tls=False) as client:
                client.ask()
                with contextlib.suppress(ConnectionResetError):
                    assert b"HTTP" not in client.until_end().encode()
            record = ended(fake)
            assert record.tls.error == "HTTP_REQUEST"
            assert "HTTP_REQUEST" in record.error
            serves_the_next(fake)

    def test_a_client_hello_on_a_clear_port(self, clear):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            H1(clear, tls=True)
        assert ended(clear).error.startswith("HTTP/1.1 400 ")

    def test_random_bytes_for_a_handshake(self):
        dice = random.Random(7)
        with FakeHTTP(tls="implicit") as fake:
            for _ in range(50):
                with H1(fake, tls=False) as client, contextlib.suppress(OSError):
                    client.send(dice.randbytes(200))
                    client.until_end()
            fake.wait_for(lambda j: j.count("connect") == 50 and all(c.error for c in j.connections))
            serves_the_next(fake)

    @pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"])
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_half_a_handshake(self, said, how):
        with FakeHTTP(tls="implicit") as fake:
            for _ in range(20):
                client = H1(fake, tls=False)
                client.send(said)
                getattr(client, how)()
            fake.wait_for(lambda j: j.count("connect") == 20 and not fake._bridge.sessions and not fake._bridge.tasks)
            assert {c.failure for c in fake.journal.connections} == {HandshakeAbandoned(done=False)}
            serves_the_next(fake)

    def test_many_that_stay_in_half_a_handshake(self):
        with FakeHTTP(tls="implicit") as fake, contextlib.ExitStack() as stack:
            for _ in range(100):
                client = stack.enter_context(H1(fake, tls=False))
                client.send(b"\x16\x03\x01")
            serves_the_next(fake)
        assert fake._bridge.errors == []

    def test_garbage_behind_a_handshake(self):
        dice = random.Random(7)
        with FakeHTTP(tls="implicit") as fake:
            for version in (H1, H2) * 10:
                with version(fake, **({"hello": False} if version is H2 else {})) as client:
                    with contextlib.suppress(OSError, EOFError):
                        client.send(dice.randbytes(300) + b"\r\n\r\n")
                        client.until_end()
            fake.wait_for(lambda j: all(c.error for c in j.connections))
            serves_the_next(fake)

    def test_bytes_below_tls(self):
        with FakeHTTP(tls="implicit") as fake:
            with H2(fake) as client:
                client.ping()
                with socket.socket(fileno=os.dup(client.sock.fileno())) as below:
                    below.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    with contextlib.suppress(OSError, EOFError):
                        client.rest()
            ended(fake)
            serves_the_next(fake)


class TestFloods:
    def flat(self, flood, limit: float = 8) -> None:
        """So many megabytes more, at most, whatever was sent."""
        gc.collect()
        tracemalloc.start()
        try:
            flood()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < limit * MEGABYTE

    def test_a_header_bomb(self, clear):
        """A few bytes that stand for many, by the table of HPACK."""
        with H2(clear) as client:
            block = client.encoder.encode([*client.headers("GET", "/", "a"), ("x", "y" * 3500)])
            again = client.encoder.encode([("x", "y" * 3500)])
            assert len(again) < 5
            client.send(HeadersFrame(1, block + again * 2000, flags=["END_HEADERS", "END_STREAM"]).serialize())
            self.flat(lambda: told(clear, client, "ENHANCE_YOUR_CALM"))

    def test_a_head_of_many_continuations(self, clear):
        with H2(clear) as client:
            client.send(HeadersFrame(1, b"", flags=["END_STREAM"]).serialize())
            flood = ContinuationFrame(1, b"\x40\x01x\x7f" + b"\x01y" * 10).serialize() * 10_000
            with contextlib.suppress(OSError):
                client.send(flood)
            told(clear, client, "PROTOCOL_ERROR")

    @pytest.mark.parametrize("status", [None, 421])
    @pytest.mark.parametrize("at_once", [True, False])
    def test_rapid_reset(self, status, at_once):
        """CVE-2023-44487: streams that are opened and cancelled, as fast as it goes."""
        rule = [one("request", status=status)] if status else []
        with FakeHTTP(rules(*rule), tls="none", journal_limit=100) as fake:
            with H2(fake) as client:

                def flood() -> None:
                    with contextlib.suppress(OSError):
                        for _ in range(100):
                            batch = bytearray()
                            for _ in range(20):
                                number, head = client.head(end=False)
                                batch += head + RstStreamFrame(number, error_code=8).serialize()
                                if not at_once:
                                    client.send(head)
                                    batch = batch[len(batch) - 13 :]
                                    client.send(bytes(batch))
                                    batch.clear()
                            client.send(bytes(batch))
                            fake.settle()
                        client.rest()

                self.flat(flood)
                record = ended(fake)
                assert record.error.startswith("HTTP/2 ENHANCE_YOUR_CALM: ")
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            fake.play(rules())
            serves_the_next(fake)

    def test_streams_beyond_the_cap(self):
        with FakeHTTP(rules(head="[server]\nmax_streams = 1\n"), tls="none", journal_limit=100) as fake:
            with H2(fake) as client:
                client.request(method="POST", end=False)
                with contextlib.suppress(OSError):
                    for _ in range(1100):
                        client.request()
                with contextlib.suppress(OSError):
                    client.rest()
                assert ended(fake).error.startswith("HTTP/2 ENHANCE_YOUR_CALM: ")
            serves_the_next(fake)

    def test_requests_that_never_end_though_they_were_answered(self):
        """Streams that are half-closed count (RFC 9113 §5.1.2)."""
        with FakeHTTP(rules(one("request", status=421)), tls="none", journal_limit=100) as fake:
            with H2(fake) as client:
                numbers = [client.request(method="POST", end=False) for _ in range(STREAMS + 10)]
                answers = [client.outcome(number) for number in numbers]
                assert [answer.status for answer in answers] == [421] * STREAMS + [None] * 10
                assert {answer.reset for answer in answers[STREAMS:]} == {"REFUSED_STREAM"}
                client.data(numbers[0], b"x", end=True)
                client.rst(numbers[1])
                assert [client.get().status, client.get().status] == [421, 421]

    @pytest.mark.parametrize(
        "what",
        [
            PingFrame(0, b"x" * 8).serialize(),
            SettingsFrame(0, settings={3: 100}).serialize(),
            SettingsFrame(0, flags=["ACK"]).serialize(),
            WindowUpdateFrame(0, window_increment=1).serialize(),
            PriorityFrame(3, depends_on=0, stream_weight=1, exclusive=False).serialize(),
            frame(0x42, 0, 0, b""),
            DataFrame(1, b"").serialize(),
        ],
        ids=["ping", "settings", "ack", "window", "priority", "unknown", "empty data"],
    )
    def test_cheap_frames(self, what):
        """They cost the fake a while, and nothing that stays."""
        with FakeHTTP(tls="none") as fake:
            with H2(fake) as client:
                if what[3] == DATA:
                    client.request(method="POST", end=False)
                client.ping()
                self.flat(lambda: self.send_and_read(client, what * 450, 10), 6)
                if what[3] != SETTINGS or what[4]:
                    client.ping()
            serves_the_next(fake)

    def send_and_read(self, client: H2, data: bytes, times: int) -> None:
        for _ in range(times):
            client.send(data)
            client.ping()
            client.frames.clear()

    def test_priorities_of_streams_that_never_come(self, clear):
        with H2(clear) as client:
            for first in range(1, 8_000, 2000):
                made = (
                    PriorityFrame(n, depends_on=0, stream_weight=1, exclusive=False)
                    for n in range(first, first + 2000, 2)
                )
                client.send(b"".join(frame.serialize() for frame in made))
            client.ping()
            (session,) = clear._bridge.sessions.values()
            assert len(session.switch.protocol.priority._streams) < 10
            client.next = 10_001
            assert client.get("/").status == 200

    def test_ten_thousand_streams_on_a_connection(self):
        with FakeHTTP(rules(one("request", where={"path": "/421"}, status=421)), tls="none", journal_limit=100) as fake:
            with H2(fake) as client:

                def many(path: str, n: int) -> None:
                    for _ in range(n // 50):
                        heads = [client.head(path) for _ in range(50)]
                        client.send(b"".join(sent for _, sent in heads))
                        for number, _ in heads:
                            assert client.answer(number).ended
                        client.frames.clear()
                        client.answers.clear()

                many("/421", 8000)
                many("/", 500)
                self.flat(lambda: (many("/421", 1200), many("/", 300)), 2)
                fake.settle()
                (session,) = fake._bridge.sessions.values()
                protocol = session.switch.protocol
                assert not protocol.streams
                assert not protocol.stream_buffers
                assert not protocol.connection._owed
                assert len(protocol.connection.streams) < 200
            serves_the_next(fake)

    @pytest.mark.parametrize("version", [H1, H2])
    def test_a_client_that_says_much_and_never_reads(self, version):
        # No window holds up a head, and this one is too long for HPACK's table: a few hundred fill all buffers.
        long = one("request", status=204, headers={"x-long": "x" * 8000})
        scenario = rules(long) if version is H2 else rules()
        with FakeHTTP(scenario, tls="none", journal_limit=100) as fake:
            with version(fake) as client:
                client.sock.setblocking(False)
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # Linux would take 4 MB of requests
                get = b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"x" * 8000)
                fake.wait_for(lambda _: fake._bridge.sessions)
                (session,) = fake._bridge.sessions.values()
                said = b""
                while True:
                    said = said or (get * 10 if version is H1 else b"".join(client.head()[1] for _ in range(200)))
                    try:
                        said = said[client.sock.send(said) :]
                    except BlockingIOError:
                        if not session._writable.is_set():
                            break  # and not because the fake has not come to read it
                    fake.settle()
                assert len(session._inbox) + session.transport.get_write_buffer_size() < MEGABYTE
                with H2(fake) as other:
                    assert other.get().status == (204 if version is H2 else 200)
            fake.wait_for(lambda j: not fake._bridge.sessions)
            fake.play("http/healthy")
            serves_the_next(fake)

    def test_a_client_that_never_reads_a_big_answer(self):
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200})
            piece = b"x" * 10_000
            while True:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        for version in (H1, H2):
            with FakeHTTP(app=app, tls="none") as fake:
                with version(fake, **({"window": 2**31 - 1} if version is H2 else {})) as client:

                    def begin(client=client, fake=fake) -> None:
                        if isinstance(client, H2):
                            client.more(2**30)
                            for _ in range(20):
                                client.request()
                        else:
                            client.ask()
                        fake.wait_for(lambda j: any(not s._writable.is_set() for s in fake._bridge.sessions.values()))
                        fake.settle()

                    self.flat(begin)
                fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)

    def test_a_thousand_connections_that_say_nothing(self, clear):
        with contextlib.ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(H1(clear))
            clear.wait_for(lambda j: j.count("connect") == 300)
            serves_the_next(clear)


class TestLeaving:
    STAGES = {
        "at once": b"",
        "half a preface": PREFACE[:10],
        "a preface": PREFACE,
        "half a frame": PREFACE + NOTHING[:5],
        "settings": PREFACE + NOTHING,
        "half headers": PREFACE + NOTHING + frame(HEADERS, 1, 1, b"\x82"),
        "a request": PREFACE + NOTHING + frame(HEADERS, 5, 1, b"\x82\x84\x86\x41\x01a"),
        "a request with a body to come": PREFACE + NOTHING + frame(HEADERS, 4, 1, b"\x83\x84\x86\x41\x01a"),
        "half a body": PREFACE + NOTHING + frame(HEADERS, 4, 1, b"\x83\x84\x86\x41\x01a") + frame(DATA, 0, 1, b"x" * 10_000),
        "a request of HTTP/1.1": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "half a request of HTTP/1.1": b"GET / HTTP/1.1\r\nHo",
        "half a body of HTTP/1.1": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n123",
        "an upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        "a bad upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: !!\r\n\r\n",
    }  # fmt: skip

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("how", ["close", "reset", "shutdown"])
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @pytest.mark.parametrize(
        "rule", [{}, {"delay": "1h", "status": 421}, {"stall": True}, {"drip": "1ms", "status": 421, "body": "x" * 50}]
    )
    def test_at_every_stage(self, stage, how, tls, rule):
        texts = [one("request", **rule)] if rule else []
        with FakeHTTP(rules(*texts), tls=tls) as fake:
            client = HTTP(fake, alpn=("h2",) if self.STAGES[stage].startswith(b"PRI") else ())
            client.send(self.STAGES[stage])
            if stage != "at once":
                fake.settle()
            if "delay" in rule and tls == "none" and how != "reset":
                client.close()
                return  # for all that can be seen, it may still be there to read
            if how == "shutdown" and tls == "none":
                client.sock.shutdown(socket.SHUT_WR)
                client.until_end()
                client.close()
            else:
                getattr(client, how if how != "shutdown" else "close")()
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            assert not fake._bridge.errors


class TestLeaks:
    def once(self, i: int) -> None:
        with FakeHTTP(tls=("none", "implicit")[i % 2]) as fake:
            client = (H1, H2)[i // 2 % 2](fake)
            stage = i % 7
            if stage == 1:
                client.get()
            elif stage == 2:
                client.send(b"garbage\r\n\r\n")
            elif stage == 3 and isinstance(client, H2):
                client.request(method="POST", end=False)
            elif stage == 4:
                client.reset()
            elif stage == 5 and isinstance(client, H2):
                client.go_away()
            if i % 5 == 0:
                client.close()
        client.close()

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="file descriptors are counted in /proc")
    def test_a_hundred_fakes_leave_nothing(self, monkeypatch):
        monkeypatch.setattr(_bridge, "GRACE", 0.02)
        self.once(0)
        gc.collect()
        threads, files = threading.enumerate(), sorted(os.listdir("/proc/self/fd"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(140):
                self.once(i)
            gc.collect()
        assert threading.enumerate() == threads
        assert sorted(os.listdir("/proc/self/fd")) == files
        assert [str(w.message) for w in caught] == []

    def test_connections_and_streams_are_garbage_when_they_are_gone(self):
        with FakeHTTP(
            rules(one("request", where={"path": "/drip"}, drip="1ms", status=200, body="1234")), tls="implicit"
        ) as fake:
            for _i in range(20):
                with H2(fake) as client:
                    client.get("/drip")
                    client.get("/", b"x")
                    client.request(method="POST", end=False)

            async def tasks() -> int:
                return len(asyncio.all_tasks()) - 1

            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            assert fake._bridge.runner.run(tasks()) == 0

            assert alive(fake, HTTPSession, Stream, most=4) <= 4  # the loop's last timer may hold one


# ---- invented by machines ------------------------------------------------------------------------

PIECES = [
    PREFACE, NOTHING, frame(SETTINGS, 1, 0, b""), frame(HEADERS, 5, 1, b"\x82\x84\x86\x41\x01a"), frame(HEADERS, 4, 3, b"\x83\x84\x86\x41\x01a"),
    frame(DATA, 0, 3, b"x" * 100), frame(DATA, 1, 3, b"x"), frame(RST, 0, 1, b"\0\0\0\x08"), frame(RST, 0, 3, b"\0\0\0\x08"), frame(GOAWAY, 0, 0, b"\0" * 8),
    frame(PING, 0, 0, b"x" * 8), frame(UPDATE, 0, 0, b"\0\0\1\0"), frame(UPDATE, 0, 3, b"\0\0\1\0"), frame(CONTINUATION, 4, 1, b""), frame(PRIORITY, 0, 5, b"\0\0\0\0\1"),
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /421 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", b"12345", b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\n12345\r\n0\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n", b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"Expect: 100-continue\r\n", b"\r\n", b"\x16\x03\x01\x00\x05",
]  # fmt: skip


@pytest.fixture(scope="module", params=["none", "implicit"])
def hardened(request):
    texts = [
        one("request", where={"path": "/421"}, status=421),
        one("request", every=3, drip="1ms", status=200, body="x"),
        one("request", every=5, after_bytes=3, status=421),
        one("response", every=4, close=True),
        one("request", every=7, goaway=True),
    ]
    with pytest.MonkeyPatch.context() as patch, FakeHTTP(rules(*texts), tls=request.param, journal_limit=1000) as fake:
        patch.setattr(_wire, "QUIET", 0.005)
        yield fake
        fake.play("http/healthy") if request.param == "implicit" else fake.play(rules())
        serves_the_next(fake)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=15),
    h2=st.booleans(),
    cut=st.integers(0, 300),
    how=st.booleans(),
)
def test_whatever_a_client_says_the_fake_goes_on(hardened, pieces, h2, cut, how):
    data = (PREFACE + NOTHING if h2 else b"") + b"".join(pieces)
    client = HTTP(hardened, alpn=("h2",) if h2 else ())
    with contextlib.suppress(OSError, EOFError):
        client.send(data[:cut])
        client.send(data[cut:])
        if how:
            client.reset()
        else:
            hardened.settle()
    client.close()
    hardened.wait_for(lambda j: not hardened._bridge.sessions and not hardened._bridge.tasks, timeout=3)
    hardened._bridge.raise_errors()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.lists(
        st.tuples(
            st.integers(0, 12), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1]), st.binary(max_size=30)
        ),
        max_size=10,
    )
)
def test_whatever_frames_a_client_sends_the_fake_goes_on(hardened, frames):
    with HTTP(hardened, alpn=("h2",)) as client, contextlib.suppress(OSError, EOFError):
        client.send(PREFACE + NOTHING + PIECES[3] + PIECES[4] + b"".join(frame(*one_) for one_ in frames))
        hardened.settle()
    hardened.wait_for(lambda j: not hardened._bridge.sessions and not hardened._bridge.tasks, timeout=3)
    hardened._bridge.raise_errors()


FAULTS = [
    {"status": 421}, {"status": 503, "close": True}, {"close": True}, {"close": "reset"}, {"close": "abrupt"}, {"delay": "1ms"}, {"drip": "1ms"}, {"stall": True},
    {"reset_stream": "CANCEL"}, {"goaway": True}, {"goaway": {"last": "previous"}}, {"goaway": {"last": 1}}, {"altsvc": 'h2=":1"'}, {"origin": ["https://a"]},
    {"after_bytes": 5, "status": 421}, {"after_bytes": 5, "close": True}, {"after_bytes": 50, "reset_stream": "CANCEL"}, {"after_bytes": 20, "stall": True},
    {"headers": {"x": "1"}}, {"body": "mine"}, {"status": 200, "drip": "1ms", "body": "abc"}, {"after_bytes": 10, "goaway": {"last": "previous"}},
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_scenario_does_the_fake_goes_on(seed, monkeypatch):
    """Random rules with random chances, random clients: nothing fails in our own code, and the journal is whole."""
    monkeypatch.setattr(_bridge, "GRACE", 0.01)
    dice = random.Random(seed)
    texts = []
    for _ in range(dice.randrange(1, 6)):
        fault = dice.choice(FAULTS)
        late = "after_bytes" in fault and not fault.keys() & {"reset_stream", "close", "stall"}
        on = "request" if late else dice.choice(["request", "response", "any"])
        texts.append(one(on, chance=f"{dice.choice([10, 30, 100])}%", **fault))
    texts.append(one("error", chance="20%", **dice.choice([{"close": True}, {"goaway": True}])))
    with FakeHTTP(
        rules(*texts, then("two", one("enter", goaway=True))),
        tls=dice.choice(["none", "implicit"]),
        seed=seed,
        clock=RealClock(1000),
    ) as fake:
        clients = []
        for _ in range(4):
            version = dice.choice([H1, H2])
            with contextlib.suppress(OSError, EOFError, ValueError, AssertionError):
                clients.append(client := version(fake, patience=0.1))
                for _ in range(5):
                    body = dice.choice([None, b"x" * 10, b"x" * 100_000])
                    if isinstance(client, H2) and dice.random() < 0.3:
                        client.rst(client.request("/", end=False))
                    elif isinstance(client, H2) and dice.random() < 0.5:
                        client.request("/", body)
                    else:
                        client.get("/", body)
        fake.settle()
        fake.next_phase()
        fake.settle()
    for client in clients:
        client.close()
    assert all(c.ended_by for c in fake.journal.connections)
    indexes = [x.index for x in fake.journal]
    assert indexes == sorted(indexes)
