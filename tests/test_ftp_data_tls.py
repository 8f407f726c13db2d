"""Data connections in TLS (PROT P, RFC 4217 §9) of a hostile client: it harms its own transfer alone, and the next is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from itertools import islice

import pytest
from tests.fuzz import mutating

from ftp_client import Data, Raw, port_of, trusting
from notnow import FakeFTP
from notnow.journal import HandshakeFailed
from notnow.servers.base import handshake
from notnow.servers.ftp.data import DataConnection

pytestmark = pytest.mark.usefixtures("each_loop")

SMALL = b"A small file.\n"


@pytest.fixture
def fake() -> Iterator[FakeFTP]:
    with FakeFTP(tls="starttls") as fake:
        yield fake
        fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
        fake._bridge.raise_errors()


@pytest.fixture
def raw(fake: FakeFTP) -> Iterator[Raw]:
    """A client whose transfers are to be in TLS, and whose next one is good."""
    with Raw(fake) as raw:
        assert raw.code() == "220"
        raw.auth(trusting(fake)).login().protect(trusting(fake))
        yield raw
        assert raw.get("RETR small.txt") == SMALL


def in_clear(raw: Raw, port: int, source: str | None = None) -> Data:
    """A connection to a data port by a client that begins no TLS of its own accord."""
    private, raw.private = raw.private, None
    try:
        return raw.visit(port, source)
    finally:
        raw.private = private


class Hello:
    """A client's side of a handshake, in memory."""

    def __init__(self, fake: FakeFTP) -> None:
        self.heard, self.said = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = trusting(fake).wrap_bio(self.heard, self.said, server_hostname="localhost")

    def first(self) -> bytes:
        """The record of its ClientHello."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.said.read()

    def finish(self, data: Data) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.heard.write(data.sock.recv(65_536))
            else:
                data.send(self.said.read())
                return

    def rest(self, data: Data) -> bytes:
        """What is sent until the close_notify."""
        got = bytearray()
        while True:
            try:
                if not (piece := self.tls.read(65_536)):
                    return bytes(got)
                got += piece
            except ssl.SSLWantReadError:
                self.heard.write(data.sock.recv(65_536))


class TestHandshake:
    def test_one_byte_at_a_time_holds_nobody_up(self, fake: FakeFTP, raw: Raw) -> None:
        hello = Hello(fake)
        with in_clear(raw, port_of(raw.say("PASV"))) as data, Raw(fake).hello() as other:
            data.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert raw.code("RETR small.txt")[0] == "1"
            for number, byte in enumerate(hello.first()):
                data.send(bytes([byte]))
                if number % 100 == 0:
                    assert other.get("RETR small.txt") == SMALL
            hello.finish(data)
            assert hello.rest(data) == SMALL
            assert raw.code() == "226"

    @pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x02\x00"], ids=["nothing", "a byte", "a head"])
    def test_one_that_stays_half_open_ends_with_abor(self, fake: FakeFTP, raw: Raw, said: bytes) -> None:
        with in_clear(raw, port_of(raw.say("PASV"))) as data:
            data.send(said)
            assert raw.code("RETR small.txt")[0] == "1"
            assert [raw.code("ABOR"), raw.code()] == ["426", "226"]  # RFC 959 §4.1.3
            with contextlib.suppress(ConnectionResetError):
                assert data.rest() == b""

    @pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "a head"])
    def test_one_that_takes_too_long(
        self, fake: FakeFTP, raw: Raw, said: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with in_clear(raw, port_of(raw.say("PASV"))) as data:
            with monkeypatch.context() as soon:
                soon.setattr(handshake, "HANDSHAKE", 0.05)
                data.send(said)
                assert raw.code("RETR small.txt")[0] == "1"
                reply = raw.reply()
            assert reply == "425 Can't open data connection: TLS handshake failed (it took longer than 0.05 s)."
            with contextlib.suppress(ConnectionResetError):
                assert data.rest() == b""
        failures = [x.transfer.failure for x in fake.journal.connections[0].exchanges if x.transfer is not None]
        assert failures == [HandshakeFailed("it took longer than 0.05 s")]

    def test_one_before_its_transfer_takes_too_long(
        self, fake: FakeFTP, raw: Raw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It has begun, so its time passes; a connection on which nothing is said waits for a command."""
        monkeypatch.setattr(handshake, "HANDSHAKE", 0.05)
        with in_clear(raw, port_of(raw.say("PASV"))) as data:
            data.send(b"\x16\x03\x01")
            with contextlib.suppress(ConnectionResetError):
                assert data.rest() == b""
        monkeypatch.undo()

    def test_a_good_one_has_no_limit_afterwards(self, fake: FakeFTP, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
        limits: list[asyncio.TimerHandle] = []
        begun = DataConnection._limit

        def limit(data: DataConnection) -> None:
            begun(data)
            limits.append(data._late) if data._late is not None else None

        monkeypatch.setattr(DataConnection, "_limit", limit)
        assert raw.get("RETR small.txt") == SMALL
        assert limits
        assert all(one.cancelled() for one in limits)

    def test_many_that_stay_half_open(self, fake: FakeFTP, raw: Raw) -> None:
        """Nothing has been asked for on them: the next PASV closes the one before."""
        for _ in range(100):
            raw.held.append(in_clear(raw, port_of(raw.say("PASV"))))
        fake.settle()
        for data in raw.held[:-1]:
            with contextlib.suppress(ConnectionResetError):
                assert data.rest() == b""

    @pytest.mark.parametrize("verb", ["RETR small.txt", "STOR x"])
    def test_bytes_that_are_nearly_one(self, fake: FakeFTP, verb: str) -> None:
        """A ClientHello that was changed a little, always in the same ways."""
        answers = set[str]()
        for data in islice(mutating.changed([Hello(fake).first()], [b"\x16\x03\x01\x00\x05", b"\xff" * 4]), 40):
            with Raw(fake) as raw:
                raw.reply()
                raw.auth(trusting(fake)).login().protect(trusting(fake))
                with in_clear(raw, port_of(raw.say("PASV"))) as wire:
                    assert raw.code(verb)[0] == "1"
                    with contextlib.suppress(OSError):
                        wire.send(data)
                        wire.sock.shutdown(socket.SHUT_WR)
                    answers.add(raw.code())
                assert raw.get("RETR small.txt") == SMALL
        assert answers == {"425"}
        assert "x" not in fake.files or fake.files["x"] == b""

    def test_a_client_of_another_protocol(self, fake: FakeFTP, raw: Raw) -> None:
        with in_clear(raw, port_of(raw.say("PASV"))) as data:
            assert raw.code("LIST")[0] == "1"
            data.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert raw.code() == "425"
        failures = {x.transfer.failure for x in fake.journal.connections[0].exchanges if x.transfer is not None}
        assert HandshakeFailed("HTTP_REQUEST") in failures

    @pytest.mark.parametrize("mode", ["PASV", "EPSV"])
    def test_of_somebody_else(self, fake: FakeFTP, raw: Raw, mode: str) -> None:
        """It is closed before its first byte, and the client itself is served (RFC 2577 §3)."""
        port = port_of(raw.say(mode))
        for _ in range(5):
            with in_clear(raw, port, source="127.0.0.2") as thief, contextlib.suppress(ConnectionError):
                thief.send(Hello(fake).first())
                assert thief.rest() == b""
        with raw.visit(port) as data:
            assert raw.code("RETR small.txt")[0] == "1"
            assert data.rest() == SMALL
            assert raw.code() == "226"

    def test_a_handshake_before_the_next_command(self, fake: FakeFTP) -> None:
        """Some clients begin TLS as soon as they have connected, and PROT P may come between PASV and the connection."""
        with Raw(fake) as raw:
            assert raw.code() == "220"
            raw.auth(trusting(fake)).login()
            assert raw.code("PBSZ 0") == "200"
            port = port_of(raw.say("PASV"))
            raw.protect(trusting(fake))
            for _ in range(2):
                with raw.visit(port) as data:
                    assert isinstance(data.sock, ssl.SSLSocket)  # it has shaken hands
                    assert raw.code("RETR small.txt")[0] == "1"
                    assert data.rest() == SMALL
                    assert raw.code() == "226"
                port = port_of(raw.say("PASV"))

    @pytest.mark.parametrize("mode", ["PORT", "EPRT"])
    def test_nobody_else_is_connected(self, fake: FakeFTP, raw: Raw, mode: str) -> None:
        """A bounce is refused in TLS as well."""
        with socket.create_server(("127.0.0.2", 0)) as other:
            port = other.getsockname()[1]
            said = f"PORT 127,0,0,2,{port // 256},{port % 256}" if mode == "PORT" else f"EPRT |1|127.0.0.2|{port}|"
            assert raw.code(said) == "501"
            assert raw.code("RETR small.txt") == "425"
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.accept()


class TestEnd:
    def test_a_client_that_never_says_goodbye(self, fake: FakeFTP, raw: Raw) -> None:
        """The transfer is over once our close_notify is sent (RFC 8446 §6.1)."""
        with raw.data() as data:
            assert raw.code("RETR small.txt")[0] == "1"
            assert data.exactly(len(SMALL)) == SMALL
            assert raw.code() == "226"
            assert raw.code("NOOP") == "200"  # and it still holds its end open

    def test_a_stop_amid_a_handshake(self, each_loop: object) -> None:
        with contextlib.ExitStack() as stack:
            with FakeFTP(tls="starttls") as fake:
                raw = stack.enter_context(Raw(fake))
                raw.reply()
                raw.auth(trusting(fake)).login().protect(trusting(fake))
                data = stack.enter_context(in_clear(raw, port_of(raw.say("PASV"))))
                assert raw.code("RETR small.txt")[0] == "1"
                data.send(b"\x16\x03\x01")
            assert "421" in raw.until_end()
