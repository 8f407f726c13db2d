"""One client cannot hold up the others of a process, whatever it sends and however much: pieces of work are bounded.

A neighbour waits for one turn of the loop that all fakes share. A turn is measured in calls that the loop's thread makes in
it, of Python and of C: that number depends neither on the machine nor on how busy it is.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from tests.ftp_client import Raw
from tests.http_client import H1, H2

from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.bounds import CALM, CANCELLED, ECHO, ENTRIES, NONSENSE, RECIPIENTS, SMTP_LINE
from notnow.servers.base import turns as _turns
from notnow.servers.base.fake import Fake

MOST = 20_000  # calls in one turn of the loop
MANY = 5_000

DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, UPDATE, CONTINUATION, UNKNOWN = 0, 1, 2, 3, 4, 6, 8, 9, 0x42
GET, POST = b"\x82\x84\x86\x41\x01a", b"\x83\x84\x86\x41\x01a"
FLOOD = CALM + 2_000


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def streams(*frames: Callable[[int], bytes], n: int) -> bytes:
    """These frames, for `n` streams."""
    return b"".join(make(2 * i + 1) for i in range(n) for make in frames)


def h2(*parts: bytes) -> bytes:
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + b"".join(parts)


@dataclass
class Flood:
    """What a client says, and how its connection ends: the error of the journal, or what is said last."""

    fake: type[Fake]
    said: Callable[[], bytes]
    error: str | None = None
    last: bytes | None = None
    step: int = 1_000_000  # bytes at a time
    most: int = MOST  # calls in one turn of the loop


def ftp(commands: bytes) -> bytes:
    return b"USER a\r\nPASS b\r\n" + commands


CALM_DOWN = "HTTP/2 ENHANCE_YOUR_CALM: "
FLOODS = {
    "smtp: commands": Flood(FakeSMTP, lambda: b"NOOP\r\n" * MANY + b"QUIT\r\n", last=b"221 "),
    "smtp: recipients": Flood(
        FakeSMTP,
        lambda: (
            b"EHLO a\r\nMAIL FROM:<a@a.test>\r\n"
            + b"".join(b"RCPT TO:<%d@b.test>\r\n" % i for i in range(MANY))
            + b"QUIT\r\n"
        ),
        last=b"221 ",
    ),
    "smtp: nonsense": Flood(FakeSMTP, lambda: b"\r\n" * MANY, f"{NONSENSE} commands in a row", b"421 "),
    "smtp: a line without end": Flood(FakeSMTP, lambda: b"x" * 4_000_000 + b"\r\nQUIT\r\n", last=b"221 "),
    "smtp: single bytes": Flood(FakeSMTP, lambda: b"NOOP\r\n" * 500 + b"QUIT\r\n", last=b"221 ", step=1),
    "ftp: commands": Flood(FakeFTP, lambda: ftp(b"NOOP\r\n" * MANY + b"QUIT\r\n"), last=b"221 "),
    "ftp: refused listings": Flood(FakeFTP, lambda: ftp(b"LIST\r\n" * MANY + b"QUIT\r\n"), last=b"221 "),
    "ftp: listings on the control connection": Flood(
        FakeFTP, lambda: ftp(b"STAT /\r\n" * MANY + b"QUIT\r\n"), last=b"221 "
    ),
    "ftp: nonsense": Flood(FakeFTP, lambda: ftp(b"X\r\n" * MANY), f"{NONSENSE} commands in a row", b"421 "),
    "ftp: a line without end": Flood(FakeFTP, lambda: ftp(b"x" * 4_000_000 + b"\r\nQUIT\r\n"), last=b"221 "),
    "http/1.1: requests": Flood(
        FakeHTTP,
        lambda: (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1_000 + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ),
    ),
    "http/1.1: chunks of one byte": Flood(
        FakeHTTP,
        lambda: (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * 20_000
            + b"0\r\n\r\n"
        ),
    ),
    "http/1.1: empty lines": Flood(
        FakeHTTP, lambda: b"\r\n" * 500_000 + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ),
    "http/1.1: a big body": Flood(
        FakeHTTP,
        lambda: (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20000000\r\n\r\n"
            + b"\x00\xff" * 10_000_000
        ),
    ),
    "http/2: SETTINGS": Flood(
        FakeHTTP, lambda: h2(frame(SETTINGS, 0, 0, struct.pack("!HI", 4, 65_535)) * FLOOD), CALM_DOWN
    ),
    "http/2: PING": Flood(FakeHTTP, lambda: h2(frame(PING, 0, 0, b"12345678") * FLOOD), CALM_DOWN),
    "http/2: PING ACK": Flood(FakeHTTP, lambda: h2(frame(PING, 1, 0, b"12345678") * FLOOD), CALM_DOWN),
    "http/2: WINDOW_UPDATE": Flood(FakeHTTP, lambda: h2(frame(UPDATE, 0, 0, struct.pack("!I", 1)) * FLOOD), CALM_DOWN),
    "http/2: PRIORITY": Flood(
        FakeHTTP,
        lambda: h2(b"".join(frame(PRIORITY, 0, 3 + 2 * (i % 999), b"\0\0\0\0\1") for i in range(FLOOD))),
        CALM_DOWN,
    ),
    "http/2: frames that nobody knows": Flood(FakeHTTP, lambda: h2(frame(UNKNOWN, 0, 0) * FLOOD), CALM_DOWN),
    "http/2: empty DATA": Flood(FakeHTTP, lambda: h2(frame(HEADERS, 4, 1, POST), frame(DATA, 0, 1) * FLOOD), CALM_DOWN),
    "http/2: DATA that is all padding": Flood(
        FakeHTTP, lambda: h2(frame(HEADERS, 4, 1, POST), frame(DATA, 8, 1, b"\0") * FLOOD), CALM_DOWN
    ),
    "http/2: rapid reset": Flood(
        FakeHTTP,
        lambda: h2(
            streams(lambda n: frame(HEADERS, 4, n, POST), lambda n: frame(RST, 0, n, b"\0\0\0\x08"), n=CANCELLED + 200)
        ),
        CALM_DOWN,
    ),
    "http/2: CONTINUATION": Flood(
        FakeHTTP, lambda: h2(frame(HEADERS, 1, 1, GET), frame(CONTINUATION, 0, 1) * MANY), "HTTP/2 PROTOCOL_ERROR: "
    ),
    "http/2: table size updates": Flood(
        FakeHTTP,
        lambda: h2(streams(lambda n: frame(HEADERS, 5, n, b"\x20\x3f\xe1\x1f" * 4_000 + GET), n=9)),
        "HTTP/2 COMPRESSION_ERROR: ",
    ),
    "http/2: header lists": Flood(
        FakeHTTP,
        lambda: h2(streams(lambda n: frame(HEADERS, 5, n, GET + b"\x00\x01x\x00" * 1_500), n=90), frame(DATA, 0, 0)),
        "HTTP/2 PROTOCOL_ERROR: ",  # at last
        most=20
        * MOST,  # as many streams as the fake allows, with the longest lists: each is a task, and all may be ready
    ),
}


class Turns:
    """Counts the calls that the fakes' thread makes in each turn of its loop, while its block runs."""

    def __init__(self, fake: Fake) -> None:
        assert fake._bridge.runner is not None
        self._runner = fake._bridge.runner
        self._calls = 0
        self._over = False
        self.longest = 0

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        if event in ("call", "c_call"):
            self._calls += 1

    def _beat(self) -> None:
        """Once in each turn of the loop."""
        self.longest, self._calls = max(self.longest, self._calls), 0
        if not self._over:
            self._runner.loop.call_soon(self._beat)

    def _begin(self) -> None:
        sys.setprofile(self._count)
        self._runner.loop.call_soon(self._beat)

    def _end(self) -> None:
        self._over = True
        sys.setprofile(None)

    def __enter__(self) -> Turns:
        self._runner.call(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.call(self._end)


class Flooder(threading.Thread):
    """A client that says all it has while it reads what it is told, and stays until the other side closes."""

    def __init__(self, fake: Fake, flood: Flood) -> None:
        super().__init__(daemon=True)
        self._said, self._step = flood.said(), flood.step
        self._sock = socket.create_connection((fake.host, fake.port), timeout=60)
        if flood.step == 1:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard = bytearray()
        self.ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)

    def run(self) -> None:
        self._reader.start()
        with contextlib.suppress(OSError):
            for start in range(0, len(self._said), self._step):
                self._sock.sendall(self._said[start : start + self._step])
        self._reader.join()
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionError):  # what was under way meets a closed socket
            while data := self._sock.recv(65_536):
                self.heard += data
        self.ended = True


def longest_turn(fake: Fake, flood: Flood) -> tuple[int, Flooder]:
    """The calls in the longest turn of the loop while a client floods, and that client when it is over."""
    with Turns(fake) as turns:
        flooder = Flooder(fake, flood)
        flooder.start()
        flooder.join()
    return turns.longest, flooder


def made(flood: Flood) -> Fake:
    return flood.fake(tls="none", journal_limit=1_000)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_holds_nobody_up(name, each_loop):
    flood = FLOODS[name]
    with made(flood) as fake:
        longest, flooder = longest_turn(fake, flood)
        assert longest < flood.most
        assert flooder.ended
        connection = fake.journal.connections[0]
        assert (connection.error or "").startswith(flood.error or "")
        assert flood.error is None or connection.ended_by == "fake"
        assert flood.last is None or bytes(flooder.heard).splitlines()[-1].startswith(flood.last)
        if flood.error == CALM_DOWN:
            goaway = flooder.heard.index(b"\0\0\x08\x07\0\0\0\0\0")
            assert flooder.heard[goaway + 13 : goaway + 17] == b"\0\0\0\x0b"  # ENHANCE_YOUR_CALM (RFC 9113 §7)
        fake._bridge.raise_errors()


@pytest.mark.parametrize("name", ["smtp: commands", "ftp: commands", "http/2: PING", "http/1.1: chunks of one byte"])
def test_that_is_because_pieces_are_bounded(name, monkeypatch):
    """The measure measures: with no bound for a piece of work the flood is one turn."""
    monkeypatch.setattr(_turns, "PIECE", 1e9)
    monkeypatch.setattr(_turns, "UNITS", 10**9)
    monkeypatch.setattr(_turns, "AT_ONCE", 10**9)
    flood = FLOODS[name]
    with made(flood) as fake:
        assert longest_turn(fake, flood)[0] > MOST


def test_requests_are_work_and_no_flood(each_loop):
    """As a load test makes them, forty at a time, and more than may be cancelled: all are answered."""
    with FakeHTTP("http/healthy", tls="none", journal_limit=1_000) as fake, H2(fake) as client:
        for _ in range(2 * CANCELLED // 40):
            heads = [client.head("/") for _ in range(40)]
            client.send(b"".join(said for _, said in heads))
            for number, _ in heads:
                assert client.answer(number).status == 200
            client.frames.clear()
            client.answers.clear()
        client.ping()
        assert fake.journal.connections[0].error is None


def test_work_gives_credit():
    """A client that pings with every request may go on for ever."""
    with FakeHTTP(tls="none", journal_limit=1_000) as fake, H2(fake) as client:
        for _ in range(CALM // 500):
            client.send(frame(PING, 1, 0, b"12345678") * 600)
            for _ in range(30):
                assert client.get("/").status == 200
        assert fake.journal.connections[0].error is None


class TestBounds:
    def test_of_recipients(self):
        with FakeSMTP() as fake, socket.create_connection((fake.host, fake.port), timeout=60) as sock:
            lines = sock.makefile("rb")
            said = [b"EHLO a", b"MAIL FROM:<a@a.test>", *(b"RCPT TO:<%d@b.test>" % i for i in range(RECIPIENTS + 1))]
            sock.sendall(b"\r\n".join([*said, b"DATA", b".", b"QUIT", b""]))
            replies = [line for line in lines if line[3:4] == b" "]
            assert [reply[:3] for reply in replies[3 : 3 + RECIPIENTS]] == [b"250"] * RECIPIENTS
            assert replies[3 + RECIPIENTS] == b"452 4.5.3 Error: no more than %d recipients\r\n" % RECIPIENTS
            assert len(fake.messages[0].envelope.recipients) == RECIPIENTS

    @pytest.mark.parametrize("more", [b"MKD one", b"STOR one"])
    def test_of_files_and_directories(self, more, monkeypatch):
        monkeypatch.setattr("notnow.servers.ftp.files.ENTRIES", 10)
        given = {f"given/{i}": b"" for i in range(20)}
        with FakeFTP(files=given) as fake, socket.create_connection((fake.host, fake.port), timeout=60) as sock:
            lines = sock.makefile("rb")
            made = [b"MKD %d" % i for i in range(10)]
            pasv = b"EPSV\r\n" if more.startswith(b"STOR") else b""
            sock.sendall(b"\r\n".join([b"USER a", b"PASS b", *made, pasv + more, b"RMD 1", b"MKD two", b"QUIT", b""]))
            replies = [line for line in lines if not line.startswith((b"229", b"2-"))]
            assert [reply[:3] for reply in replies[3:]] == [b"257"] * 10 + [b"550", b"250", b"257", b"221"]
            assert b"No space left" in replies[13]
            assert len(fake.files) == 20

    def test_of_a_path(self):
        """Ten thousand directories, each in the one before, would fill gigabytes with their paths alone."""
        with FakeFTP(files={}) as fake, Raw(fake).hello() as raw:
            for _ in range(16):
                assert raw.code(f"MKD {'d' * 255}") == "257"
                assert raw.code(f"CWD {'d' * 255}") == "250"
            assert raw.say("MKD d").startswith("550 File name too long")
            assert raw.put("STOR d", b"x").startswith("550 File name too long")
            raw.code("CWD /")
            assert raw.code("MKD e") == "257"
            assert raw.code(f"RNFR {'d' * 255}") == "350"
            assert raw.say(f"RNTO e/{'d' * 255}").startswith("550 File name too long"), "of what is in it"
            assert raw.code(f"RNFR {'d' * 255}") == "350"
            assert raw.code("RNTO e/d") == "250"
            assert raw.code(f"RNFR e/d/{'d' * 255}") == "350"
            assert raw.say(f"RNTO e/{'é' * 2_040}").startswith("550 File name too long")

    def test_of_the_bound_itself(self):
        assert ENTRIES < 12_000

    def test_of_the_echo(self, monkeypatch):
        monkeypatch.setattr("notnow.servers.http.echo.ECHO", 100_000)
        text = "ä€😀x" * 20_000
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            said = client.get("/", text.encode()).said
            assert said["body_bytes"] == len(text.encode())
            assert said["body"] == text.encode()[:100_000].decode("utf-8", "replace")

    def test_a_body_up_to_it_comes_back_whole(self):
        text = "ä€😀x" * 30_000
        assert 65_536 < len(text.encode()) < ECHO
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            said = client.get("/", text.encode()).said
            assert said["body"] == text
            assert "body_bytes" not in said

    def test_of_mail_counts_messages_without_content_too(self, monkeypatch):
        monkeypatch.setattr("notnow.servers.smtp.mailbox.KEPT_BODIES", 10_500)
        one = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n.\r\n"
        with FakeSMTP() as fake, socket.create_connection((fake.host, fake.port), timeout=60) as sock:
            sock.sendall(b"EHLO a\r\n" + one * 50 + b"QUIT\r\n")
            assert sock.makefile("rb").readlines()[-1].startswith(b"221")
            assert 5 < len(fake.messages) <= 10

    def test_of_a_path_in_the_journal(self):
        paths = ["/" + "x" * 10_000 + end for end in "ab"]
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            for path in paths:
                assert client.get(path).said["path"] == path
            kept = [x.http.path for x in fake.journal if x.moment == "request"]
            assert len(set(kept)) == 2
            assert max(map(len, kept)) < 1_100

    def test_nonsense_is_counted_in_a_row(self):
        with FakeSMTP() as fake, socket.create_connection((fake.host, fake.port), timeout=60) as sock:
            sock.sendall((b"X\r\n" * NONSENSE + b"NOOP\r\n") * 2 + b"QUIT\r\n")
            assert sock.makefile("rb").readlines()[-1].startswith(b"221")
            assert fake.journal.connections[0].error is None
            assert SMTP_LINE > 512
