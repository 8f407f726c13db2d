"""A broken client cannot take a fake down: it ends its own connection at most, and the next client is served."""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
import ssl
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notnow import FakeSMTP, ManualClock
from notnow.journal import LONGEST
from notnow.servers.base import bridge as _bridge
from smtp_client import MESSAGE, Raw, one, rules, trusting

pytestmark = pytest.mark.usefixtures("each_loop")

MEGABYTE = 1024 * 1024
MAIL = (b"MAIL FROM:<a@x.test>\r\n", b"RCPT TO:<b@x.test>\r\n", b"DATA\r\n", b"hello\r\n.\r\n", b"QUIT\r\n")


@pytest.fixture
def fake():
    with FakeSMTP(tls="starttls", journal_limit=20_000) as fake:
        yield fake
        serves_the_next(fake)


def serves_the_next(fake: FakeSMTP) -> None:
    before = len(fake.messages)
    with Raw(fake).hello() as raw:
        raw.starttls(trusting(fake))
        assert raw.say("EHLO x").startswith("250")
        assert raw.deliver().startswith("250")
        assert raw.say("QUIT").startswith("221")
    assert len(fake.messages) == before + 1
    fake._bridge.raise_errors()


def last(fake: FakeSMTP):
    """The first connection, once it is over."""
    fake.wait_for(lambda j: j.connections and j.connections[0].ended_by)
    return fake.journal.connections[0]


class TestLines:
    def test_a_line_of_ten_megabytes(self, fake):
        with Raw(fake).hello() as raw:
            tracemalloc.start()
            raw.send(b"MAIL FROM:<" + b"x" * 10 * MEGABYTE + b"\r\n")
            assert raw.reply() == "500 5.5.2 Error: line too long"
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 25 * MEGABYTE  # the line itself, made here, is 20 of them
            assert raw.say("NOOP").startswith("250")
            (exchange,) = [x for x in fake.journal if x.code == 500]
            assert len(exchange.request) < LONGEST + 100

    def test_ten_megabytes_without_a_line_end(self, fake):
        with Raw(fake).hello() as raw:
            raw.send(b"x" * 10 * MEGABYTE)
        assert last(fake).ended_by == "client"

    @pytest.mark.parametrize("length", [12_288, 12_289, 65_535, 65_536, 65_537, 131_072, 200_000])
    def test_around_the_limits(self, fake, length):
        with Raw(fake).hello() as raw:
            raw.send(b"NOOP " + b"x" * (length - 5) + b"\r\nNOOP\r\n")
            assert raw.reply()[:3] == ("250" if length <= 12_288 else "500")
            assert raw.reply() == "250 2.0.0 Ok"

    def test_a_long_line_of_credentials(self, fake):
        with Raw(fake).hello() as raw:
            assert raw.say("AUTH PLAIN " + "secret" * 20_000).startswith("500")
            assert "secret" not in str(list(fake.journal.as_dicts()))
            assert raw.say("AUTH PLAIN").startswith("334")
            assert raw.say("QUJD" * 30_000)[:9] == "500 5.5.6"  # RFC 4954 §6
            assert raw.say("AUTH XOAUTH2 dXNlcj1hAWF1dGg9QmVhcmVyIHgBAQ==").startswith("235")
            assert raw.say("NOOP").startswith("250")

    @pytest.mark.parametrize(
        "line",
        [
            b"", b"\0", b"NOOP \0", b"\0" * 1000, b"MAIL FROM:<\0@\0>", b"\xff\xfe\xfd", b"EHLO \xff\xff", b"\r\r\r", b" ", b" NOOP",
            b"MAIL\tFROM:<a@b>", b"MAIL FROM:<a@[", b"MAIL FROM:<" + b"(" * 5000 + b">", b"RCPT TO:<" + b'"' * 500,
            b"MAIL FROM:" + b"<" * 1000, b"MAIL FROM:<a@b> " + b"A=B " * 2000, b"AUTH \xff", b"AUTH PLAIN \xff",
            b"SMTP_EHLO", b"__init__", b"HELP __class__", b"VRFY \xff", b"VRFY a\rb", b"STARTTLS \0", b"DATA x", b"QUIT\0", b"handle_DATA",
        ],
    )  # fmt: skip
    def test_an_odd_line_gets_one_reply_and_the_next_is_heard(self, fake, line):
        with Raw(fake).hello() as raw:
            raw.send(line + b"\r\n")
            assert raw.line()[0] in "25"
            assert raw.say("NOOP").startswith("250")

    def test_bare_line_feeds(self, fake):
        with Raw(fake) as raw:
            raw.send(b"EHLO x\nNOOP\n\nNOOP\n")
            assert [reply[:3] for reply in raw.replies(5)] == ["220", "250", "250", "500", "250"]


class TestLeaving:
    @pytest.mark.parametrize(
        "said",
        [
            "",
            "EHL",
            "EHLO x",
            "EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\nhalf",
            "EHLO x\r\nAUTH LOGIN\r\n",
            "EHLO x\r\nSTARTTLS\r\n",
        ],
    )
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_half_a_command_and_gone(self, fake, said, how):
        raw = Raw(fake)
        raw.send(said)
        fake.wait_for(lambda j: j.connections)
        fake.settle()
        getattr(raw, how)()
        connection = last(fake)
        assert connection.ended_by == "client"
        assert not fake.messages

    def test_a_reset_while_the_fake_speaks(self, fake):
        for _ in range(50):
            raw = Raw(fake)
            raw.send(b"NOOP\r\n" * 200)
            raw.reset()
        fake.wait_for(lambda j: j.count("connect") == 50 and all(c.ended_by for c in j.connections))

    def test_a_reset_of_who_is_being_turned_away(self):
        for on in ("connect", "ehlo"):
            with FakeSMTP(rules(one(on, reply="421 no"))) as fake:
                for _ in range(50):
                    raw = Raw(fake)
                    raw.send(b"EHLO x\r\nNOOP\r\n")
                    raw.reset()
                fake.wait_for(
                    lambda j: j.count("connect") == 50 and not fake._bridge.sessions and not fake._bridge.lingering
                )


class TestOtherProtocols:
    def test_an_http_request(self, fake):
        """What a page makes a browser send: the commands in its body are not carried out."""
        with Raw(fake) as raw:
            raw.send(b"POST / HTTP/1.1\r\nHost: fake\r\n\r\nEHLO x\r\n" + b"".join(MAIL))
            raw.reply()
            assert raw.until_end() == "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n"
        assert fake.messages == []
        assert (last(fake).exchanges[1].request, last(fake).ended_by) == ("POST / HTTP/1.1", "fake")

    @pytest.mark.parametrize("line", ["Subject: hi", "Host:x", "GET /"])
    def test_a_line_of_a_header_amid_a_session(self, fake, line):
        """A client that sends its message although DATA was refused is told so at its first line."""
        with Raw(fake).hello() as raw:
            assert raw.say("DATA").startswith("503")
            raw.send(f"{line}\r\nNOOP\r\n".encode())
            assert raw.until_end() == "221 2.7.0 Error: I can break rules, too. Goodbye.\r\n"

    def test_a_rule_decides_what_http_gets(self):
        goes_on = one("any", where={"command": ["GET", "*:"]}, reply="500 5.5.2 Error: command not recognized")
        with FakeSMTP(rules(goes_on)) as fake, Raw(fake) as raw:
            raw.send(b"GET / HTTP/1.1\r\nHost: fake\r\nNOOP\r\n")
            assert [reply[:3] for reply in raw.replies(4)] == ["220", "500", "500", "250"]

    def test_a_tls_client_hello_on_a_plain_port(self, fake):
        with socket.create_connection((fake.host, fake.port), timeout=20) as sock:
            context = ssl.create_default_context()
            with pytest.raises(ssl.SSLError):  # the greeting is no ServerHello
                context.wrap_socket(sock, server_hostname="localhost")
        assert last(fake).exchanges[0].code == 220

    def test_random_bytes_where_tls_should_be(self):
        random_ = random.Random(1)
        with FakeSMTP(tls="implicit") as fake:
            for _ in range(30):
                with Raw(fake) as raw, contextlib.suppress(OSError, EOFError):
                    raw.send(random_.randbytes(random_.randrange(1, 3000)))
                    raw.sock.shutdown(socket.SHUT_WR)
                    raw.until_end()
            fake.wait_for(lambda j: j.count("connect") == 30 and all(c.ended_by for c in j.connections))
            assert all(c.error for c in fake.journal.connections)
            with Raw(fake, tls=trusting(fake)) as raw:
                assert raw.hello().deliver().startswith("250")

    def test_garbage_within_tls(self, fake):
        with Raw(fake).hello() as raw:
            raw.starttls(trusting(fake))
            raw.say("EHLO x")
            with socket.socket(fileno=os.dup(raw.sock.fileno())) as below:
                below.settimeout(10)
                below.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # a record that nobody has encrypted
                with contextlib.suppress(ConnectionResetError):
                    while below.recv(1000):
                        pass
        assert re.search("DECRYPTION|RECORD_LAYER", last(fake).error or "")  # the words of OpenSSL 3.0, and of 3.6

    def test_a_renegotiation_and_a_plain_command_within_tls(self, fake):
        with Raw(fake).hello() as raw:
            raw.starttls(trusting(fake))
            raw.say("EHLO x")
            with socket.socket(fileno=os.dup(raw.sock.fileno())) as below:
                below.settimeout(10)
                below.sendall(b"NOOP\r\n")
                with contextlib.suppress(ConnectionResetError):
                    while below.recv(1000):
                        pass
        assert last(fake).error


class TestFloods:
    def test_a_hundred_thousand_noops(self, fake):
        with Raw(fake).hello() as raw:
            for i in range(1, 11):
                raw.send(b"NOOP\r\n" * 10_000)
                fake.wait_for(lambda j, n=i * 10_000: j.count("noop") == n, timeout=60)
                assert raw.exactly(len(b"250 2.0.0 Ok\r\n") * 10_000) == b"250 2.0.0 Ok\r\n" * 10_000
            assert fake.journal.count("noop") == 100_000
            assert len(fake.journal) == 20_000
            assert fake.journal.dropped == 80_002

    def test_a_client_that_never_reads_fills_no_memory_and_holds_nobody_up(self, fake):
        """The fake stops reading what it cannot answer."""
        with Raw(fake).hello() as deaf:
            (session,) = fake._bridge.sessions.values()
            for end, option in (
                (deaf.sock, socket.SO_RCVBUF),
                (session.transport.get_extra_info("socket"), socket.SO_SNDBUF),
            ):
                end.setsockopt(socket.SOL_SOCKET, option, 4096)
            deaf.send(b"HELP\r\n" * 10_000)
            fake.settle()  # it has come to rest with most of it unread
            assert fake.journal.count("help") < 5000
            assert session.transport.get_write_buffer_size() < 200_000
            assert len(session._inbox) < 200_000
            serves_the_next(fake)
            fake.play(rules(one("enter", reply="421 no more")))  # what is said unasked does not wait for it
            fake.settle()
            assert fake.journal.connections[0].ended_by == "fake"
            fake.play("smtp/healthy")

    def test_a_pipeline_does_not_keep_others_waiting(self, fake):
        """Others have their turn between the commands of a flood."""
        with Raw(fake).hello() as flood, Raw(fake).hello() as other:
            fake._bridge.loop.call_soon_threadsafe(time.sleep, 0.05)  # until both have said it all
            flood.send(b"NOOP flood\r\n" * 5000)
            assert other.say("NOOP other").startswith("250")
            flood.exactly(len(b"250 2.0.0 Ok\r\n") * 5000)
            asked = [x.request for x in fake.journal]
            assert asked.index("NOOP other") < len(asked) / 2

    def test_a_thousand_connections_that_say_nothing(self):
        with FakeSMTP(tls="starttls", journal_limit=500) as fake:
            tracemalloc.start()
            raws = [Raw(fake) for _ in range(1000)]
            for raw in raws:
                assert raw.reply().startswith("220")
            memory, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert memory / 1000 < 32 * 1024
            assert len(fake.journal) == 500
            assert fake.journal.dropped == 500
            serves_the_next(fake)
            for raw in raws:
                raw.close()
            fake.wait_for(lambda j: not fake._bridge.sessions)
            assert len(fake.journal.connections) <= 501

    def test_a_client_that_is_stalled_is_still_drained(self):
        """Else its leaving would not be seen: it keeps its place for ever."""
        scenario = rules(one("rset", delay="1m"), one("noop", stall=True))
        with FakeSMTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send(b"RSET\r\nNOOP\r\n" + b"x" * 300_000)  # so much comes meanwhile that reading is paused
            fake.settle()
            (session,) = fake._bridge.sessions.values()
            assert len(session._inbox) > 65_536
            fake.clock.advance("1m")
            assert raw.reply().startswith("250")
            raw.send(b"x" * 5 * MEGABYTE)
            raw.close()
            assert last(fake).ended_by == "client"


# ---- invented by machines ------------------------------------------------------------------------

WORDS = [
    b"EHLO x", b"HELO x", b"MAIL FROM:<a@b.c>", b"MAIL FROM:<>", b"RCPT TO:<d@e.f>", b"DATA", b"RSET", b"NOOP", b"QUIT", b"AUTH LOGIN",
    b"AUTH PLAIN", b"AUTH PLAIN AGEAYg==", b"*", b"YQ==", b"STARTTLS", b"VRFY x", b"HELP", b".", b"..", b"x" * 2000, b"\0", b"\xff\xfe", b"",
]  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])


@pytest.fixture(scope="module")
def hardened():
    with FakeSMTP(tls="starttls", journal_limit=1000) as fake:
        yield fake
        serves_the_next(fake)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.tuples(st.one_of(st.sampled_from(WORDS), st.binary(max_size=40)), ENDS), max_size=12),
    cut=st.integers(0, 400),
    how=st.booleans(),
)
def test_whatever_a_client_says_the_fake_goes_on(hardened, lines, cut, how):
    data = b"".join(line + end for line, end in lines)
    raw = Raw(hardened)
    with contextlib.suppress(OSError, EOFError):
        raw.send(data[:cut])
        raw.send(data[cut:])
        if how:
            raw.reset()
        else:
            raw.sock.shutdown(socket.SHUT_WR)
            raw.until_end()
    raw.close()
    hardened.settle()
    hardened._bridge.raise_errors()


FAULTS = [
    {"reply": "421 4.3.2 no"}, {"reply": "451 later"}, {"reply": "421 no", "close": False}, {"close": True}, {"close": "reset"},
    {"close": "abrupt"}, {"delay": "1ms"}, {"drip": "1ms"}, {"reply": ["250-a", "250 b", "421 c"]}, {"keep": True, "reply": "421 kept"}, {"stall": True},
]  # fmt: skip
MOMENTS = ["connect", "ehlo", "auth", "mail", "rcpt", "data", "message", "rset", "noop", "quit", "any"]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_scenario_does_the_fake_goes_on(seed, monkeypatch):
    """Random rules with random chances, random clients: nothing fails in our own code, and the journal is whole."""
    monkeypatch.setattr(_bridge, "GRACE", 0.01)
    dice = random.Random(seed)
    texts = [
        one(dice.choice(MOMENTS), chance=f"{dice.choice([10, 30, 100])}%", **dice.choice(FAULTS)) for _ in range(dice.randrange(1, 6))
    ]  # fmt: skip
    tls = dice.choice(["none", "starttls", "implicit"])
    with FakeSMTP(rules(*texts, one("enter", reply="421 over")), tls=tls, seed=seed) as fake:
        raws = []
        for _ in range(6):
            with contextlib.suppress(OSError, EOFError):
                raw = Raw(fake)
                raws.append(raw)
                if tls == "implicit":
                    raw.wrap(trusting(fake))
                raw.send(b"EHLO x\r\n")
                for word in dice.choices(WORDS, k=dice.randrange(6)):
                    raw.send(word + b"\r\n")
                raw.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n" + MESSAGE + b".\r\nQUIT\r\n")
                if dice.random() < 0.3:
                    raw.reset()
        fake.settle()
        fake.play("smtp/healthy")
    for raw in raws:
        raw.close()
    assert all(c.ended_by for c in fake.journal.connections)
    indexes = [x.index for x in fake.journal]
    assert indexes == sorted(indexes)
    for connection in fake.journal.connections:
        closing = [i for i, x in enumerate(connection.exchanges) if x.closed]
        replied_after = [x for x in connection.exchanges[closing[0] + 1 :] if x.reply] if closing else []
        assert not replied_after, "something was said after a close"
