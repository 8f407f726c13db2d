"""A broken FTP client cannot take a fake down, nor make it touch anything: its session suffers, the next one is served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import re
import socket
import ssl
import threading
import time
import tracemalloc
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftp_client import Data, Raw, fds, one, port_of, rules, then, trusting
from notnow import FakeFTP, ManualClock
from notnow.bounds import FTP_WAITING
from notnow.journal import LONGEST, HandshakeFailed
from notnow.servers.base import bridge as _bridge
from notnow.servers.ftp import data_ports
from notnow.servers.ftp import session as session_module
from notnow.servers.ftp.session import FTPSession
from raw_connection import alive

pytestmark = pytest.mark.usefixtures("each_loop")

MEGABYTE = 1024 * 1024
SPACED = (
    "3.45\u202fPM.png",
    "\u5831\u544a\u3000\u66f8",
    "a\u00a0b",
    "\U0001f468\u200d\U0001f469",
)  # no-break, ideographic, joined


@pytest.fixture
def fake():
    with FakeFTP(tls="starttls", journal_limit=20_000) as fake:
        yield fake
        serves_the_next(fake)


@pytest.fixture
def raw(fake):
    with Raw(fake).hello() as raw:
        yield raw


def serves_the_next(fake: FakeFTP) -> None:
    with Raw(fake) as raw:
        assert raw.code() == "220"
        raw.auth(trusting(fake)).login().protect(trusting(fake))
        assert raw.put("STOR last", b"123")[:3] == "226"
        assert raw.get("RETR last", "PORT") == b"123"
        assert raw.code("DELE last") == "250"
        assert raw.code("QUIT") == "221"
    fake._bridge.raise_errors()


def last(fake: FakeFTP):
    """The first connection, once it is over."""
    fake.wait_for(lambda j: j.connections and j.connections[0].ended_by)
    return fake.journal.connections[0]


class TestPaths:
    """Names are those of the tree in memory, whatever they look like."""

    OUT = (
        "../../etc/passwd",
        "/etc/passwd",
        "/../../../etc/passwd",
        "..//..//etc/passwd",
        "./../etc/passwd",
        "//etc/passwd",
    )

    @pytest.mark.parametrize("path", OUT)
    def test_no_way_out(self, fake, raw, path):
        for line in (
            f"SIZE {path}",
            f"MDTM {path}",
            f"DELE {path}",
            f"CWD {path}",
            f"MLST {path}",
            f"RNFR {path}",
            f"STAT {path}",
        ):
            assert raw.code(line) == "550", line
        with raw.data():
            assert raw.code(f"RETR {path}") == "550"
        with raw.data():
            assert raw.code(f"STOR {path}") == "550"  # there is no directory /etc
        fake.files["etc/"] = b""
        assert raw.put(f"STOR {path}", b"mine")[:3] == "226"
        assert fake.files["etc/passwd"] == b"mine"
        assert raw.get(f"RETR {path}") == b"mine"

    @pytest.mark.parametrize(
        "verb",
        ["CWD", "MKD", "DELE", "RMD", "SIZE", "MDTM", "RNFR", "MLST", "STAT", "STOR", "RETR", "APPE", "LIST", "STOU"],
    )
    @pytest.mark.parametrize(
        "name",
        [
            b"a\0b",
            b"a\x01b",
            b"a\x7fb",
            b"a\rb",
            b"a\x1b[2Jb",
            "a\u2028b".encode(),
            "a\u202eb".encode(),
            b"\xff\xfe",
            b"\xed\xa0\x80",
        ],
    )
    def test_control_characters_and_bytes_that_are_no_utf8(self, fake, raw, verb, name):
        with raw.data():
            raw.send(verb.encode() + b" " + name + b"\r\n")
            reply = raw.reply()
            if reply[0] == "1":
                assert [raw.code("ABOR"), raw.code()] == ["426", "226"]
        assert raw.code("NOOP") == "200"
        assert all(name.isprintable() for name in fake.files)
        listing = raw.get("MLSD").decode()
        assert all(line.isprintable() for line in listing.split("\r\n"))

    def test_a_very_long_name(self, fake, raw):
        name = "x" * 4000
        assert raw.put(f"STOR {name}", b"1")[:3] == "226"
        assert raw.get(f"RETR {name}") == b"1"
        assert name.encode() in raw.get("NLST")
        assert raw.code(f"DELE {name}") == "250"
        assert raw.code("CWD " + "d/" * 2000) == "550"
        assert raw.code("MKD " + "../" * 1300 + "up") == "257"
        assert raw.code("CWD /up") == "250"

    @pytest.mark.parametrize("name", ["ä ö ü", "日本", "a;b", 'q"q', "-l", "...", "a\\b", "*", "%2e%2e%2f", *SPACED])
    def test_odd_names_are_names(self, fake, raw, name):
        assert raw.put(f"STOR {name}", b"1")[:3] == "226"
        assert fake.files[name] == b"1"
        assert raw.get(f"RETR {name}") == b"1"
        assert name in raw.get("NLST").decode().split("\r\n")

    def test_the_process_stays_in_its_directory_and_needs_none(self, fake, raw, tmp_path, monkeypatch):
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert raw.code("MKD d") == "257"
        assert raw.code("CWD d") == "250"
        assert raw.code("CDUP") == "250"
        with pytest.raises(FileNotFoundError):
            os.getcwd()

    def test_nothing_is_written_outside_memory(self, fake, raw, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for verb in ("STOR", "APPE", "STOU"):
            raw.put(f"{verb} file", b"x")
        raw.code("MKD dir")
        assert os.listdir(tmp_path) == []


class TestLines:
    @pytest.mark.parametrize("login", [True, False])
    def test_a_command_of_ten_megabytes(self, fake, login):
        with Raw(fake) as raw:
            raw.hello() if login else raw.reply()
            tracemalloc.start()
            raw.send(b"STOR " + b"x" * 10 * MEGABYTE + b"\r\n")
            assert raw.reply() == "500 Command not understood."
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 25 * MEGABYTE  # the line itself, made here, is 20 of them
            assert raw.code("NOOP") == "200"
            (exchange,) = [x for x in fake.journal if x.code == 500]
            assert len(exchange.request) < LONGEST + 100

    def test_ten_megabytes_without_a_line_end(self, fake):
        with Raw(fake).hello() as raw:
            raw.send(b"x" * 10 * MEGABYTE)
        assert last(fake).ended_by == "client"

    @pytest.mark.parametrize("length", [4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 200_000])
    def test_around_the_limits(self, fake, raw, length):
        raw.send(b"SIZE " + b"x" * (length - 5) + b"\r\nNOOP\r\n")
        assert raw.code() == ("550" if length <= 4096 else "500")
        assert raw.code() == "200"

    @pytest.mark.parametrize(
        "line",
        [
            b"", b"\0", b"NOOP \0", b"\0" * 1000, b"\xff\xfe\xfd", b"USER \xff\xff", b"\r\r\r", b" ", b" NOOP", b"NOOP\t", b"TYPE", b"TYPE \xff",
            b"SITE", b"SITE \xff", b"SITE CHMOD", b"SITE CHMOD 999 x", b"SITE CHMOD 644", b"SITE SITE", b"SITE CHMOD 644 ../../x", b"__init__",
            b"ftp_USER", b"HELP __class__", b"HELP \xff", b"MFMT x y", b"MFMT 99999999999999 small.txt", b"MFMT 00010101000000 small.txt",
            b"OPTS MLST " + b"x;" * 500, b"OPTS " + b"a " * 9, b"REST " + b"9" * 4000, b"REST \xd9\xa3", b"ALLO x", b"PORT", b"PORT ,,,,,",
            b"PORT 1,2,3", b"PORT 127,0,0,1,999,999", b"PORT 127,0,0,1,-1,5", b"PORT 256,0,0,1,10,10", b"PORT " + b"9" * 3000 + b",0,0,1,1,1",
            b"EPRT", b"EPRT |", b"EPRT |||||", b"EPRT |1|127.0.0.1|99999|", b"EPRT |1|localhost|9999|", b"EPRT \xff\xff\xff", b"EPRT |1|127.0.0.1|x|",
            b"EPRT x1x127.0.0.1x9999", b"EPSV x", b"PASV x", b"ABOR x", b"QUIT x", b"REIN x", b"AUTH \0", b"PBSZ x", b"PROT", b"STAT \xff*", b"CDUP x",
            b"\xff\xf4\xff\xf2", b"\xff", b"\xff\xfb", b"\xff\xff\xff\xff", b"\xff\xfd\x06NOOP x", b"MODE \xff", b"STRU \xff", b"ACCT x", b"SMNT x",
            b"LIST " + b"-l " * 1000, b"MLST \xff", b"MLSD \xff", b"RETR \xff", b"STOR /", b"STOR .", b"APPE ..", b"STOU /", b"STOU x/y", b"DELE /", b"RNFR /",
        ],
    )  # fmt: skip
    def test_an_odd_line_gets_one_reply_and_the_next_is_heard(self, fake, raw, line):
        raw.send(line + b"\r\n")
        assert raw.code()[0] in "2345"
        assert raw.code("NOOP") == "200"

    def test_telnet_signals_in_the_middle_of_a_command(self, raw):
        raw.send(b"NO\xff\xf4OP\r\n\xff\xfd\x06NOOP\r\nNOOP\xff\xf1\r\n")
        assert [reply[:3] for reply in raw.replies(3)] == ["200", "200", "200"]

    def test_fuzz_before_the_login(self, fake):
        dice = random.Random(7)
        with Raw(fake) as raw:
            raw.reply()
            for _ in range(300):
                line = dice.randbytes(dice.randrange(60)).replace(b"\n", b"").replace(b"\r", b"")
                raw.send(line + b"\r\n")
                assert raw.reply()[:3] in ("500", "501", "530", "503")


class TestBounce:
    """A data connection is to the client itself, and from nobody else (RFC 2577 §3)."""

    @pytest.mark.parametrize(
        "address", ["127.0.0.2", "192.0.2.1", "0.0.0.0", "127.1.1.1", "255.255.255.255", "224.0.0.1"]
    )
    def test_a_foreign_address_is_refused_and_nobody_is_connected(self, fake, raw, address):
        with socket.create_server(("0.0.0.0", 0)) as other:
            port = other.getsockname()[1]
            dotted = address.replace(".", ",")
            assert raw.say(f"PORT {dotted},{port // 256},{port % 256}").startswith(
                "501 Rejected data connection to foreign"
            )
            assert raw.say(f"EPRT |1|{address}|{port}|").startswith("501 Rejected data connection to foreign")
            assert raw.code("RETR small.txt") == "425"
            fake.settle()
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.accept()

    @pytest.mark.parametrize("port", [0, 1, 21, 80, 1023])
    def test_a_privileged_port_is_refused(self, raw, port):
        for line in (f"PORT 127,0,0,1,{port // 256},{port % 256}", f"EPRT |1|127.0.0.1|{port}|"):
            assert raw.say(line) == f'501 PORT against the privileged port "{port}" refused.'
        assert raw.code("RETR small.txt") == "425"

    def test_port_does_not_connect_before_there_is_a_transfer(self, fake, raw):
        data = raw.active()
        fake.settle()
        data._sock.setblocking(False)
        with data, pytest.raises(BlockingIOError):
            data._sock.accept()

    @pytest.mark.parametrize("mode", ["PASV", "EPSV"])
    def test_a_data_connection_of_somebody_else_is_closed_and_the_client_served(self, fake, raw, mode):
        port = port_of(raw.say(mode))
        for _ in range(20):
            with raw.visit(port, source="127.0.0.2") as thief:
                with contextlib.suppress(ConnectionResetError):
                    assert thief.rest() == b""
        assert raw.code("RETR small.txt") == "150"
        with raw.visit(port, source="127.0.0.2") as thief:
            with contextlib.suppress(ConnectionResetError):
                assert thief.rest() == b""
        with raw.visit(port) as data:
            assert data.rest() == b"A small file.\n"
        assert raw.code() == "226"

    def test_port_is_given_to_one(self, fake, raw):
        """The first data connection of the client itself is the one; the port is closed behind it."""
        port = port_of(raw.say("PASV"))
        with raw.visit(port) as data:
            fake.settle()
            with pytest.raises(ConnectionRefusedError):
                raw.visit(port)
            assert raw.code("RETR small.txt") == "125"
            assert data.rest() == b"A small file.\n"


class TestLeaving:
    STAGES = {
        "at once": "",
        "half a command": "USE",
        "amid the login": "USER ann\r\n",
        "logged in": "USER ann\r\nPASS x\r\n",
        "a port": "USER ann\r\nPASS x\r\nPASV\r\n",
        "an active port": "USER ann\r\nPASS x\r\nPORT 127,0,0,1,200,200\r\n",
        "an active transfer": "USER ann\r\nPASS x\r\nPORT 127,0,0,1,200,200\r\nRETR big.bin\r\n",
        "a transfer that waits": "USER ann\r\nPASS x\r\nPASV\r\nRETR big.bin\r\n",
        "an upload that waits": "USER ann\r\nPASS x\r\nEPSV\r\nSTOR x\r\n",
        "a rename": "USER ann\r\nPASS x\r\nRNFR small.txt\r\n",
        "a handshake": "AUTH TLS\r\n",
        "half a handshake": "AUTH TLS\r\n\x16\x03\x01",
        "quit": "QUIT\r\n",
        "much behind quit": "QUIT\r\n" + "NOOP\r\n" * 20_000,
    }

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_at_every_stage(self, fake, stage, how, monkeypatch):
        monkeypatch.setattr(session_module, "LAST", 0.05)
        raw = Raw(fake)
        with contextlib.suppress(OSError):
            raw.send(self.STAGES[stage])
        fake.wait_for(lambda j: j.connections)
        fake.settle()
        getattr(raw, how)()
        last(fake)
        fake.wait_for(lambda j: not fake._bridge.sessions)
        assert not fake._bridge.tasks

    @pytest.mark.parametrize("verb", ["RETR big.bin", "STOR x", "LIST"])
    @pytest.mark.parametrize("mode", ["PASV", "PORT"])
    @pytest.mark.parametrize("first", ["data", "control"])
    @pytest.mark.parametrize("tls", [False, True])
    def test_amid_a_transfer(self, fake, verb, mode, first, tls):
        for _ in range(5):
            raw = Raw(fake)
            if tls:
                raw.reply()
                raw.auth(trusting(fake)).login().protect(trusting(fake))
            else:
                raw.hello()
            data = raw.data(mode)
            assert raw.code(verb)[0] == "1"
            with contextlib.suppress(OSError):
                if verb == "STOR x":
                    data.send(b"12345")
                else:
                    data.exactly(10)
            for one_ in (data, raw) if first == "data" else (raw, data):
                with contextlib.suppress(OSError):
                    one_.reset()
                one_.close()
        fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("how", ["reset", "close", "garbage"])
    def test_amid_a_handshake_on_the_data_connection(self, fake, how, when):
        """The transfer is told so, and the next one is good."""
        for _ in range(20):
            with Raw(fake) as raw:
                raw.reply()
                raw.auth(trusting(fake)).login().protect(trusting(fake))
                port = port_of(raw.say("PASV"))
                if when == "after":
                    assert raw.code("RETR big.bin")[0] == "1"
                raw.private = None
                with raw.visit(port) as data:
                    if how == "garbage":
                        data.send(b"GET / HTTP/1.1\r\n\r\n")
                    elif how == "reset":
                        data.reset()
                if when == "before":
                    fake.settle()
                    reply = raw.say("RETR big.bin")
                    if reply[0] == "1":
                        reply = raw.reply()
                else:
                    reply = raw.reply()
                assert reply[:3] in ("425", "426")
                raw.private = trusting(fake)
                assert raw.get("RETR small.txt") == b"A small file.\n"

    def test_a_reset_while_the_fake_speaks(self, fake, caplog):
        for _ in range(50):
            raw = Raw(fake).hello()
            fake._bridge.loop.call_soon_threadsafe(time.sleep, 0.01)  # until all is said, and the reset there
            raw.send(b"HELP\r\n" * 200)
            raw.reset()
        fake.wait_for(lambda j: j.count("connect") == 50 and all(c.ended_by for c in j.connections))
        assert caplog.records == []  # asyncio complains of who writes on and on to nobody

    @pytest.mark.parametrize("fault", [{"reply": "421 no"}, {"drip": "1ms"}, {"delay": "0s", "drip": "1ms"}])
    @pytest.mark.parametrize("on", ["connect", "user", "login", "auth", "pwd", "retr"])
    def test_a_reset_while_a_rule_acts(self, on, fault):
        """Whatever was about to be done for it is dropped without a word (a warning is an error here)."""
        with FakeFTP(rules(one(on, **fault)), tls="starttls") as fake:
            for _ in range(50):
                raw = Raw(fake)
                raw.send(b"AUTH TLS\r\n" if on == "auth" else b"USER x\r\nPASS y\r\nPWD\r\nPASV\r\nRETR x\r\nNOOP\r\n")
                raw.reset()
            fake.wait_for(
                lambda j: j.count("connect") == 50 and not fake._bridge.sessions and not fake._bridge.lingering
            )
        gc.collect()

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_while_an_active_connection_is_on_its_way(self, fake, raw, how, monkeypatch):
        """To a port where connections are neither taken nor refused."""
        if how == "close":  # who has only ended its side may still read: its reply is waited for
            monkeypatch.setattr(data_ports, "CONNECT", 0.1)
        with full_port() as port:
            assert raw.code(f"PORT 127,0,0,1,{port // 256},{port % 256}") == "200"
            before = fds()
            raw.send("RETR small.txt\r\n")
            fake.wait_for(lambda j: j.count("retr"))
            fake.settle()
            assert fds() == before + 1
            getattr(raw, how)()
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            assert fds() == before - 2  # both ends of the control connection, too
        gc.collect()  # a socket that was left to it would warn

    def test_an_active_connection_that_comes_too_late_for_a_421(self):
        """It was on its way when the session ended: nothing goes over it."""
        scenario = rules(then("down", one("enter", reply="421 down")))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw, full_port() as port:
            assert raw.code(f"PORT 127,0,0,1,{port // 256},{port % 256}") == "200"
            raw.send("RETR small.txt\r\n")
            fake.wait_for(lambda j: j.count("retr"))
            fake.next_phase()
            assert raw.until_end() == "421 down\r\n"
            raw.close()
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)

    def test_an_active_connection_that_is_not_taken_is_given_up(self, fake, raw, monkeypatch):
        monkeypatch.setattr(data_ports, "CONNECT", 0.05)
        with full_port() as port:
            assert raw.code(f"PORT 127,0,0,1,{port // 256},{port % 256}") == "200"
            assert raw.say("RETR small.txt") == "425 Can't open data connection."


@contextlib.contextmanager
def full_port():
    """A port of ours that drops whoever comes: nobody is taken from its queue, which is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        while True:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.05)
            try:
                sock.connect(address)
            except TimeoutError:
                break
        yield address[1]


class TestOtherProtocols:
    @pytest.mark.parametrize("head", ["POST / HTTP/1.1", "GET", "PATCH /x?y HTTP/1.0", "WHAT / HTTP/2"])
    def test_an_http_request(self, fake, head):
        """What a page makes a browser send: the commands in its body are not carried out."""
        with Raw(fake) as raw:
            raw.send(f"{head}\r\nHost: fake\r\n\r\nUSER ann\r\nPASS x\r\nMKD made\r\n".encode())
            raw.reply()
            assert raw.until_end() == "500 HTTP protocol commands not allowed.\r\n"
        assert (last(fake).exchanges[1].request, last(fake).ended_by) == (head, "fake")
        with Raw(fake).hello() as raw:
            assert raw.code("CWD made") == "550"

    def test_a_rule_decides_what_http_gets(self):
        goes_on = one("any", where={"command": "GET"}, reply="502 no")
        with FakeFTP(rules(goes_on)) as fake, Raw(fake).hello() as raw:
            assert raw.say("GET / HTTP/1.1") == "502 no"
            assert raw.say("NOOP").startswith("200")

    def test_a_tls_client_hello_on_a_plain_port(self, fake):
        with socket.create_connection((fake.host, fake.port), timeout=20) as sock:
            with pytest.raises(ssl.SSLError):  # the greeting is no ServerHello
                ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
        assert last(fake).exchanges[0].code == 220

    def test_plain_text_and_random_bytes_where_tls_should_be(self):
        dice = random.Random(1)
        with FakeFTP(tls="implicit") as fake:
            for i in range(30):
                with Raw(fake) as raw, contextlib.suppress(OSError, EOFError):
                    raw.send(b"USER ann\r\n" if i == 0 else dice.randbytes(dice.randrange(1, 3000)))
                    raw.sock.shutdown(socket.SHUT_WR)
                    raw.until_end()
            fake.wait_for(lambda j: j.count("connect") == 30 and all(c.ended_by for c in j.connections))
            assert all(c.error for c in fake.journal.connections)
            with Raw(fake, tls=trusting(fake)).hello() as raw:
                assert raw.code("PWD") == "257"

    def test_plain_text_after_auth_tls(self, fake):
        with Raw(fake) as raw:
            raw.reply()
            assert raw.code("AUTH TLS") == "234"
            raw.send(b"USER ann\r\n" * 10)
            with contextlib.suppress(OSError):
                raw.until_end()
        assert last(fake).failure == HandshakeFailed("WRONG_VERSION_NUMBER")

    def test_garbage_within_tls(self, fake):
        with Raw(fake) as raw:
            raw.reply()
            raw.auth(trusting(fake))
            with socket.socket(fileno=os.dup(raw.sock.fileno())) as below:
                below.settimeout(10)
                below.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # a record that nobody has encrypted
                with contextlib.suppress(ConnectionResetError):
                    while below.recv(1000):
                        pass
        assert re.search("DECRYPTION|RECORD_LAYER", last(fake).error or "")  # the words of OpenSSL 3.0, and of 3.6

    def test_garbage_within_the_tls_of_a_data_connection(self, fake):
        with Raw(fake) as raw:
            raw.reply()
            raw.auth(trusting(fake)).login().protect(trusting(fake))
            with raw.data() as data:
                assert raw.code("STOR x")[0] == "1"
                data.send(b"12345")
                fake.wait_for(lambda j: fake.files["x"] == b"12345")
                with socket.socket(fileno=os.dup(data.sock.fileno())) as below:
                    below.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
                assert raw.code() == "426"
            assert fake.files.partial == ("x",)

    def test_an_upload_in_tls_that_ends_without_a_goodbye_is_taken(self, fake):
        """As vsftpd takes it (strict_ssl_read_eof=NO, its default): many clients know no better."""
        with Raw(fake) as raw:
            raw.reply()
            raw.auth(trusting(fake)).login().protect(trusting(fake))
            with raw.data() as data:
                assert raw.code("STOR x")[0] == "1"
                data.send(b"12345")
                data.close()
                assert raw.code() == "226"
            assert fake.files["x"] == b"12345"


class TestFloods:
    def test_a_hundred_thousand_noops(self, fake, raw):
        reply = b"200 I successfully did nothing'.\r\n"
        for i in range(1, 11):
            raw.send(b"NOOP\r\n" * 10_000)
            fake.wait_for(lambda j, n=i * 10_000: j.count("noop") == n, timeout=60)
            assert raw.exactly(len(reply) * 10_000) == reply * 10_000
        assert len(fake.journal) == 20_000

    def test_a_client_that_never_reads_fills_no_memory_and_holds_nobody_up(self, fake, raw):
        (session,) = fake._bridge.sessions.values()
        for end, option in ((raw.sock, socket.SO_RCVBUF), (session.raw, socket.SO_SNDBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, 4096)
        raw.send(b"HELP\r\n" * 10_000)
        fake.settle()  # it has come to rest with most of it unread
        assert fake.journal.count("help") < 5000
        assert session.transport.get_write_buffer_size() < 200_000
        assert len(session._inbox) < 400_000
        serves_the_next(fake)
        fake.play(rules(one("enter", reply="421 no more")))  # what is said unasked does not wait for it
        fake.settle()
        assert fake.journal.connections[0].ended_by == "fake"
        fake.play("ftp/healthy")

    def test_commands_without_end_while_one_is_carried_out(self):
        with FakeFTP(rules(one("noop", delay="1h")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            (session,) = fake._bridge.sessions.values()
            for end, option in ((raw.sock, socket.SO_RCVBUF), (session.raw, socket.SO_SNDBUF)):
                end.setsockopt(socket.SOL_SOCKET, option, 4096)  # few replies fit in
            raw.send("NOOP\r\n")
            raw.sock.settimeout(0.2)
            with pytest.raises(TimeoutError):  # it is not read any more
                for _ in range(1000):
                    raw.send(b"SYST\r\n" * 10_000)
            assert len(session._inbox) < 400_000
            raw.sock.settimeout(20)
            assert fake.journal.count("syst") == 0
            fake.clock.advance("1h")
            assert raw.code() == "200"
            assert raw.code() == "215"

    def test_more_commands_than_may_wait_and_then_another(self, raw):
        """The fake reads on, though nothing is left of what made it pause."""
        noop = b"NOOP\r\n"
        count = 2 * FTP_WAITING // len(noop) - 100
        raw.send(noop * count)
        assert {raw.code() for _ in range(count)} == {"200"}
        assert raw.code("NOOP") == "200"

    def test_a_pipeline_does_not_keep_others_waiting(self, fake, raw):
        with Raw(fake).hello() as other:
            fake._bridge.loop.call_soon_threadsafe(time.sleep, 0.05)  # until both have said it all
            raw.send(b"NOOP \r\n" * 5000)
            assert other.code("SYST") == "215"
            for _ in range(5000):
                raw.reply()
            asked = [x.request for x in fake.journal]
            assert asked.index("SYST") < len(asked) / 2

    def test_a_download_does_not_keep_others_waiting(self):
        with (
            FakeFTP(files={"x": "50MB"}) as fake,
            Raw(fake).hello() as raw,
            Raw(fake).hello() as other,
            raw.data() as data,
        ):
            assert raw.code("RETR x")[0] == "1"
            got = []
            reader = threading.Thread(target=lambda: got.append(len(data.rest())))
            reader.start()
            assert other.code("NOOP") == "200"
            noop = fake.journal.exchanges[-1]
            reader.join()
            assert raw.code() == "226"
            assert got == [50_000_000]
            retr = next(x for x in fake.journal if x.moment == "retr")
            assert noop.answered_at < retr.answered_at

    def test_a_download_that_is_never_read_takes_no_memory(self):
        with FakeFTP(files={"x": "50MB"}) as fake, contextlib.ExitStack() as stack:
            assert len(fake.files["x"]) == 50_000_000
            raws = [stack.enter_context(Raw(fake).hello()) for _ in range(20)]
            tracemalloc.start()
            for raw in raws:
                raw.hold()
                assert raw.code("RETR x")[0] == "1"
            fake.settle()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 4 * MEGABYTE
            with Raw(fake).hello() as other:
                assert other.get("NLST") == b"x\r\n"

    def test_an_upload_that_is_deleted_meanwhile_is_bounded_all_the_same(self):
        with FakeFTP(rules(head='[server]\nquota = "1MB"')) as fake:
            fake.files.clear()
            with Raw(fake).hello() as raw, raw.data() as data:
                assert raw.code("STOR x")[0] == "1"
                data.send(b"x")
                fake.wait_for(lambda j: "x" in fake.files)
                del fake.files["x"]
                with contextlib.suppress(OSError):
                    for _ in range(5):
                        data.send(b"x" * MEGABYTE)
                data.close()
                assert raw.code() == "552"
                assert fake.files.used == 0

    def test_a_thousand_ports_on_one_connection(self, fake, raw):
        before = fds()
        for i in range(10):
            raw.send(("PASV\r\n" if i % 2 else "EPSV\r\n") * 100)
            for _ in range(100):
                assert raw.code() in ("227", "229")
        assert fds() <= before + 1
        assert len(fake._bridge.ports) == 2
        assert raw.code("ABOR") == "225"
        assert fake._bridge.ports == {fake.port}

    def test_a_thousand_data_connections_for_one_port(self, fake, raw):
        before = fds()
        port = port_of(raw.say("PASV"))
        visitors = []
        for _ in range(1000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((fake.host, port))
            visitors.append(sock)
        fake.settle()
        first = raw.code("RETR small.txt")
        for sock in visitors:
            sock.close()
        assert first == "425" or raw.code() in ("226", "426")
        assert raw.get("RETR small.txt")
        assert fds() == before

    def test_hundreds_of_sessions_with_a_port_each(self):
        before = fds()
        with FakeFTP() as fake, contextlib.ExitStack() as stack:
            raws = [stack.enter_context(Raw(fake).hello()) for _ in range(300)]
            ports = {port_of(raw.say("EPSV")) for raw in raws}
            assert len(ports) == 300
            for raw in raws:
                assert raw.code("RETR big.bin") == "150"
            with Raw(fake).hello() as other:
                assert other.get("RETR small.txt")
        gc.collect()
        assert fds() <= before + 1

    def test_a_thousand_connections_that_say_nothing(self):
        with FakeFTP(tls="starttls", journal_limit=500) as fake:
            tracemalloc.start()
            raws = [Raw(fake) for _ in range(1000)]
            for raw in raws:
                assert raw.code() == "220"
            memory, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert memory / 1000 < 32 * 1024
            serves_the_next(fake)
            for raw in raws:
                raw.close()
            fake.wait_for(lambda j: not fake._bridge.sessions)
            assert len(fake.journal.connections) <= 501

    def test_a_client_that_is_stalled_is_still_drained(self):
        scenario = rules(one("syst", delay="1m"), one("noop", stall=True))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send(b"SYST\r\nNOOP\r\n" + b"x" * 300_000)  # so much comes meanwhile that reading is paused
            fake.settle()
            (session,) = fake._bridge.sessions.values()
            assert len(session._inbox) > 65_536
            fake.clock.advance("1m")
            assert raw.code() == "215"
            raw.send(b"x" * 5 * MEGABYTE)
            raw.close()
            assert last(fake).ended_by == "client"

    def test_no_sockets_left(self, fake, raw, monkeypatch):
        """Whoever asks for a data connection then is told so, and the session goes on."""

        def none_left(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(data_ports, "bound", none_left)
        assert raw.say("PASV") == "425 Can't open data connection."
        assert raw.say("EPSV") == "425 Can't open data connection."
        with raw.listen() as data:
            assert raw.code(raw.where(data)) == "200"
            assert raw.say("RETR small.txt") == "425 Can't open data connection."
        monkeypatch.undo()
        assert raw.get("RETR small.txt")


class TestLeaks:
    """What is open and who runs before a fake and after it is the same."""

    def once(self, i: int) -> None:
        tls = ("none", "starttls", "implicit")[i % 3]
        with FakeFTP(tls=tls) as fake:
            context = trusting(fake) if tls != "none" else None
            raw = Raw(fake, tls=context if tls == "implicit" else None)
            raw.reply()
            if tls == "starttls":
                raw.auth(context).login().protect(context)
            else:
                raw.login().private = context
            if i % 2:
                raw.put("STOR x", b"123", "PORT" if i % 4 == 1 else "PASV")
            self.unfinished(raw, i % 7)
            if i % 5 == 0:
                raw.close()
        raw.close()

    def unfinished(self, raw: Raw, stage: int) -> None:
        if stage == 1:
            raw.code("PASV")
        elif stage == 2:
            raw.code("EPSV")
            raw.code("RETR big.bin")
        elif stage in (3, 4):
            data = raw.hold()
            raw.code("STOR x" if stage == 3 else "RETR big.bin")
            if stage == 3:
                data.send(b"x")
        elif stage == 5:
            raw.hold()
        elif stage == 6:
            raw.send("RETR")

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="file descriptors are counted in /proc")
    def test_a_hundred_fakes_leave_nothing(self, monkeypatch):
        monkeypatch.setattr(_bridge, "GRACE", 0.02)
        for i in range(3):  # with TLS too: what a process has once is no leak
            self.once(i)
        gc.collect()
        threads, files = threading.enumerate(), fds()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(105):
                self.once(i)
            gc.collect()
        assert threading.enumerate() == threads
        assert fds() == files
        assert [str(w.message) for w in caught] == []

    def test_sessions_and_tasks_are_garbage_when_the_connection_is_gone(self):
        with FakeFTP(rules(one("retr", drip="1ms", after_bytes=10, reply="426 cut")), tls="starttls") as fake:
            for _ in range(20):
                with Raw(fake) as raw:
                    raw.reply()
                    raw.auth(trusting(fake)).login().protect(trusting(fake))
                    raw.put("STOR x", b"1")
                    with raw.data() as data:
                        raw.code("RETR big.bin")
                        data.exactly(10)
                        raw.reply()
                    raw.code("QUIT")

            async def tasks() -> int:
                return len(asyncio.all_tasks()) - 1

            fake.wait_for(lambda j: not fake._bridge.sessions)
            assert fake._bridge.runner.run(tasks()) == 0
            assert not fake._bridge.tasks
            assert fake._bridge.ports == {fake.port}

            assert alive(fake, FTPSession, most=1) <= 1  # the loop's last timer may hold one


# ---- invented by machines ------------------------------------------------------------------------

WORDS = [
    b"USER x", b"PASS y", b"TYPE I", b"TYPE A", b"PASV", b"EPSV", b"EPSV ALL", b"PORT 127,0,0,1,200,1", b"PORT 1,2,3,4,5,6", b"EPRT |1|127.0.0.1|51201|",
    b"RETR small.txt", b"RETR big.bin", b"STOR x", b"APPE x", b"STOU", b"LIST", b"NLST", b"MLSD", b"REST 5", b"CWD d", b"CDUP", b"PWD", b"MKD d", b"RMD d",
    b"DELE x", b"RNFR small.txt", b"RNTO y", b"SIZE big.bin", b"MDTM x", b"MLST", b"STAT", b"STAT /", b"ABOR", b"REIN", b"QUIT", b"AUTH TLS", b"PBSZ 0",
    b"PROT P", b"FEAT", b"HELP", b"NOOP", b"x" * 5000, b"\0", b"\xff\xf4\xff\xf2ABOR", b"",
]  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])


@pytest.fixture(scope="module")
def hardened():
    with pytest.MonkeyPatch.context() as patch, FakeFTP(tls="starttls", journal_limit=1000) as fake:
        patch.setattr(session_module, "LAST", 0.01)
        yield fake
        serves_the_next(fake)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), ENDS), max_size=15),
    login=st.booleans(),
    cut=st.integers(0, 400),
    how=st.booleans(),
)
def test_whatever_a_client_says_the_fake_goes_on(hardened, lines, login, cut, how):
    data = b"".join(line + end for line, end in lines)
    raw = Raw(hardened)
    with contextlib.suppress(OSError, EOFError):
        if login:
            raw.hello()
        raw.send(data[:cut])
        raw.send(data[cut:])
        if how:
            raw.reset()
        else:
            raw.sock.shutdown(socket.SHUT_WR)
            hardened.settle()
    raw.close()
    hardened.wait_for(lambda j: not hardened._bridge.sessions and not hardened._bridge.tasks, timeout=3)
    hardened._bridge.raise_errors()
    assert hardened._bridge.ports == {hardened.port}


FAULTS = [
    {"reply": "421 no"}, {"reply": "450 later"}, {"reply": "421 no", "close": False}, {"close": True}, {"close": "reset"}, {"close": "abrupt"},
    {"delay": "1ms"}, {"drip": "1ms"}, {"reply": ["250-a", "250 b", "421 c"]}, {"keep": True, "reply": "421 kept"}, {"stall": True},
    {"reply": "226 sure", "keep": False},
]  # fmt: skip
OF_TRANSFERS = [
    *({"after_bytes": n, **fault} for n in (1, 5, 14, 100_000) for fault in ({"reply": "426 cut"}, {"reply": "421 cut"}, {"stall": True}, {"close": True})),
    *({"data": how, **more} for how in ("fin", "reset", "drain") for more in ({}, {"after_bytes": 7}, {"reply": "421 x", "after_bytes": 5})),
]  # fmt: skip
MOMENTS = [
    "connect",
    "user",
    "pass",
    "login",
    "pasv",
    "epsv",
    "port",
    "type",
    "retr",
    "stor",
    "list",
    "transfer",
    "abor",
    "stat",
    "quit",
    "any",
]


class Client:
    """Does something of everything, whatever it is told."""

    def __init__(self, fake: FakeFTP, dice: random.Random) -> None:
        self.fake, self.dice, self.datas = fake, dice, list[Data]()

    def talk(self) -> Raw | None:
        raw = None
        with contextlib.suppress(OSError, EOFError, AssertionError, ValueError):
            raw = Raw(self.fake, patience=0.3)
            if self.fake.tls == "implicit":
                raw.wrap(trusting(self.fake))
                raw.private = trusting(self.fake)
            raw.reply()
            raw.say("USER x")
            raw.say("PASS y")
            for _ in range(4):
                self.act(raw)
            raw.send("QUIT\r\n")
        if raw is not None and self.dice.random() < 0.3:
            with contextlib.suppress(OSError):
                raw.reset()
        return raw

    def act(self, raw: Raw) -> None:
        if self.dice.random() < 0.5:
            raw.say(self.dice.choice(WORDS[4:-3]).decode())
            return
        data = raw.data(self.dice.choice(["PASV", "EPSV", "PORT"]))
        self.datas.append(data)
        line = self.dice.choice(["RETR small.txt", "RETR big.bin", "STOR x", "LIST", "APPE x"])
        if raw.code(line)[0] != "1":
            return
        data.sock.settimeout(0.3)
        if line[0] in "SA":
            data.send(b"x" * 200_000)
            data.end()
        else:
            data.rest()
        raw.reply()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_scenario_does_the_fake_goes_on(seed, monkeypatch):
    """Random rules with random chances, random clients: nothing fails in our own code, and the journal is whole."""
    monkeypatch.setattr(_bridge, "GRACE", 0.01)
    dice = random.Random(seed)
    texts = []
    for _ in range(dice.randrange(1, 6)):
        on = dice.choice(MOMENTS)
        fault = dice.choice(FAULTS + OF_TRANSFERS if on in ("retr", "stor", "list", "transfer") else FAULTS)
        texts.append(one(on, chance=f"{dice.choice([10, 30, 100])}%", **fault))
    before = fds()
    with FakeFTP(
        rules(*texts, one("enter", reply="421 over")), tls=dice.choice(["none", "implicit"]), seed=seed
    ) as fake:
        clients = [Client(fake, dice) for _ in range(4)]
        raws = [client.talk() for client in clients]
        fake.settle()
        fake.play("ftp/healthy")
    for raw in raws:
        if raw is not None:
            raw.close()
    for client in clients:
        for data in client.datas:
            data.close()
    gc.collect()
    assert fds() <= before + 1
    assert all(c.ended_by for c in fake.journal.connections)
    assert fake._bridge.ports <= {fake.port}
    indexes = [x.index for x in fake.journal]
    assert indexes == sorted(indexes)
    for connection in fake.journal.connections:
        closing = [i for i, x in enumerate(connection.exchanges) if x.closed]
        replied_after = [x for x in connection.exchanges[closing[0] + 1 :] if x.reply] if closing else []
        assert not replied_after, "something was said after a close"
