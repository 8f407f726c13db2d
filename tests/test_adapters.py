"""The contract of the adapters: one suite over SMTP, FTP, HTTP/1.1 and HTTP/2, on real sockets.

A test says what holds on the wire and in the journal for all of them. `Caller` is a client in the few words that the
protocols share: a question is one that has one answer (NOOP, GET), and a job is one that lasts (a mail transaction, an
upload, a POST).
"""

from __future__ import annotations

import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Self

import pytest

import ftp_client
import http_client
import smtp_client
from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock
from notnow.journal import Connection, Exchange
from notnow.servers.base.fake import Fake
from raw_connection import ExactTLS, RawConnection, trusting
from toml_rules import one, rules

pytestmark = pytest.mark.usefixtures("each_loop")


class Caller:
    """A client of one protocol."""

    protocol: ClassVar[str]
    kind: ClassVar[type[Fake]]
    question: ClassVar[str]  # the moment of a question
    job: ClassVar[str]  # the moment of something that lasts
    yes: ClassVar[str]  # the code of the healthy answer to a question
    no: ClassVar[dict[str, Any]] = {"reply": "421 not now"}
    raw: RawConnection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    @classmethod
    def playing(cls, *texts: str, tls: str = "none", **given: Any) -> Fake:
        """A fake with these rules, whose clock moves by hand."""
        scenario = rules(*texts, protocol=cls.protocol)
        return cls.kind(scenario, tls=tls, clock=ManualClock(), **given)

    @abstractmethod
    def __init__(self, fake: Fake) -> None:
        """Connect, in TLS if the fake wants that first."""

    @abstractmethod
    def greet(self) -> str:
        """What comes before the first question: the code of a greeting, or "" where the protocol has none."""

    @abstractmethod
    def say(self) -> None:
        """Ask the question, and do not wait for the answer."""

    @abstractmethod
    def answer(self) -> str:
        """The code of the next answer."""

    @abstractmethod
    def begin(self) -> str:
        """Begin a job; the code that refuses it, or ""."""

    @abstractmethod
    def finish(self) -> str:
        """Finish the job; the code of its answer."""

    @abstractmethod
    def dripped(self) -> int:
        """How many bytes have come of an answer that drips."""

    def ask(self) -> str:
        self.say()
        return self.answer()

    def end(self) -> str:
        """How the connection ends: "fin" or "reset"."""
        return self.raw.end()


class Lines(Caller):
    """A client of a protocol of commands and replies."""

    half: ClassVar[bytes] = b"NO"  # of a question

    def greet(self) -> str:
        return self.raw.reply()[:3]

    def say(self) -> None:
        self.raw.send("NOOP\r\n")

    def answer(self) -> str:
        return self.raw.reply()[:3]

    def dripped(self) -> int:
        self.raw.silent()
        return len(self.raw.buffer)


class SMTPRaw(ExactTLS, smtp_client.Raw):
    pass


class SMTP(Lines):
    protocol, kind, question, job, yes = "smtp", FakeSMTP, "noop", "mail", "250"

    def __init__(self, fake: Fake) -> None:
        self.raw = SMTPRaw(fake, tls=trusting(fake) if fake.tls == "implicit" else None)

    def begin(self) -> str:
        assert self.raw.say("EHLO client.test").startswith("250")
        code = self.raw.say("MAIL FROM:<a@client.test>")[:3]
        return "" if code == "250" else code

    def finish(self) -> str:
        assert self.raw.say("RCPT TO:<b@server.test>").startswith("250")
        assert self.raw.say("DATA").startswith("354")
        return self.raw.say("Subject: hello\r\n\r\nhello\r\n.")[:3]


class FTPRaw(ExactTLS, ftp_client.Raw):
    pass


class FTP(Lines):
    protocol, kind, question, job, yes = "ftp", FakeFTP, "noop", "transfer", "200"
    raw: FTPRaw

    def __init__(self, fake: Fake) -> None:
        self.raw = FTPRaw(fake, tls=trusting(fake) if fake.tls == "implicit" else None)

    def begin(self) -> str:
        self.raw.login()
        self.raw.private = trusting(self.raw.fake) if self.raw.fake.tls == "implicit" else None
        self.data = self.raw.hold()
        code = self.raw.say("STOR upload.txt")[:3]
        return "" if code in ("125", "150") else code

    def finish(self) -> str:
        self.data.send(b"hello")
        self.data.end()
        return self.answer()


class H1(Caller):
    protocol, kind, question, job, yes = "http", FakeHTTP, "request", "request", "200"
    no: ClassVar[dict[str, Any]] = {"status": 421}
    half: ClassVar[bytes] = b"GET / HT"
    raw: http_client.H1

    def __init__(self, fake: Fake) -> None:
        self.raw = http_client.H1(fake)
        self.head: http_client.Answer | None = None

    def greet(self) -> str:
        return ""

    def say(self) -> None:
        self.raw.ask()

    def answer(self) -> str:
        return str(self.raw.answer().status)

    def begin(self) -> str:
        self.raw.ask(method="POST", headers=[("Content-Length", "5"), ("Expect", "100-continue")])
        status = self.raw.line().split(" ")[1]
        return "" if status == "100" else status

    def finish(self) -> str:
        assert self.raw.line() == ""
        self.raw.send(b"hello")
        return self.answer()

    def dripped(self) -> int:
        if self.head is None:
            self.head = self.raw.head()
        self.raw.silent()
        return len(self.raw.buffer)


class H2(Caller):
    protocol, kind, question, job, yes = "http", FakeHTTP, "request", "request", "200"
    no: ClassVar[dict[str, Any]] = {"status": 421}
    half: ClassVar[bytes] = http_client.frame(1, 5, 1, b"", 50)  # the head of HEADERS
    raw: http_client.H2

    def __init__(self, fake: Fake) -> None:
        self.raw = http_client.H2(fake)
        self.number = 0

    def greet(self) -> str:
        self.raw.ping()
        return ""

    def say(self) -> None:
        self.number = self.raw.request()

    def answer(self) -> str:
        return str(self.raw.answer(self.number).status)

    def begin(self) -> str:
        self.number = self.raw.request(method="POST", headers=[("expect", "100-continue")], end=False)
        answer = self.raw.answer_so_far(self.number)
        self.raw.until(lambda: answer.early or answer.status)
        return "" if answer.early else str(answer.status)

    def finish(self) -> str:
        self.raw.upload(self.number, b"hello")
        return self.answer()

    def dripped(self) -> int:
        self.raw.ping()
        return len(self.raw.answer_so_far(self.number).body)


every = pytest.mark.parametrize("client", [SMTP, FTP, H1, H2])
both_tls = pytest.mark.parametrize("tls", ["none", "implicit"])
each_close = pytest.mark.parametrize("how", [True, "reset", "abrupt"])


def connection(fake: Fake, number: int = 1) -> Connection:
    return fake.journal.connections[number - 1]


def at(fake: Fake, moment: str) -> Exchange:
    """The last exchange at a moment."""
    return [exchange for exchange in fake.journal if exchange.moment == moment][-1]


def left(fake: Fake, number: int = 1) -> bool:
    """True once the journal says that the client has ended this connection."""
    fake.wait_for(lambda journal: connection(fake, number).ended_by is not None)
    return connection(fake, number).ended_by == "client"


def wire(how: object) -> tuple[str, ...]:
    """How a client may see this close."""
    return {True: ("fin",), "reset": ("reset",), "abrupt": ("fin", "reset")}[how]


# ---- connect, ask, leave -------------------------------------------------------------------------


@every
@both_tls
def test_a_healthy_connection(client: type[Caller], tls: str) -> None:
    with client.playing(tls=tls) as fake:
        with client(fake) as caller:
            greeting = caller.greet()
            assert greeting in ("", "220")
            assert [caller.ask() for _ in range(3)] == [client.yes] * 3
            assert caller.begin() == ""
            assert caller.finish() in ("200", "226", "250")
        assert left(fake)
        assert [str(x.code) for x in fake.journal if x.moment == client.question][:3] == [client.yes] * 3
        assert (at(fake, "connect").code, connection(fake).error) == (int(greeting) if greeting else None, None)
        assert (connection(fake).tls is not None) == (tls == "implicit")
        assert all(x.rule is x.fault is x.end is None for x in fake.journal)


# ---- refusals ------------------------------------------------------------------------------------


@every
@both_tls
def test_a_refusal_at_the_connection(client: type[Caller], tls: str) -> None:
    with client.playing(one("connect", nth=1, **client.no), tls=tls) as fake:
        with client(fake) as caller:
            assert (caller.greet() or caller.ask()) == "421"
            assert caller.end() == "fin"
        refused = [x for x in fake.journal if x.code == 421]
        assert [(x.rule, x.closed, x.connection.ended_by) for x in refused] == [("phase[0].rule[0]", True, "fake")]
        with client(fake) as second:
            second.greet()
            assert second.ask() == client.yes


@every
@both_tls
@pytest.mark.parametrize("closes", [True, False])
def test_a_refusal_of_a_question(client: type[Caller], tls: str, closes: bool) -> None:
    with (
        client.playing(one(client.question, nth=2, close=closes, **client.no), tls=tls) as fake,
        client(fake) as caller,
    ):
        caller.greet()
        assert [caller.ask(), caller.ask()] == [client.yes, "421"]
        refused = at(fake, client.question)  # before the client has done anything else
        assert (refused.code, refused.rule) == (421, "phase[0].rule[0]")
        if closes:
            assert caller.end() == "fin"
            assert (refused.closed, connection(fake).ended_by) == (True, "fake")
        else:
            assert caller.ask() == client.yes
            assert connection(fake).ended_by is None


@every
def test_a_refusal_reaches_a_client_that_keeps_talking(client: type[Caller]) -> None:
    """What the client has in flight does not turn the close into a reset, which would take the 421 away."""
    with client.playing(one(client.question, close=True, **client.no)) as fake, client(fake) as caller:
        caller.greet()
        caller.say()
        number = getattr(caller, "number", 0)
        for _ in range(20):
            with contextlib.suppress(OSError):
                caller.say()
        if number:
            caller.number = number
        assert caller.answer() == "421"
        assert caller.end() == "fin"
        assert connection(fake).ended_by == "fake"


# ---- caps ----------------------------------------------------------------------------------------


@every
@both_tls
def test_a_cap_on_connections(client: type[Caller], tls: str) -> None:
    with client.playing(one("connect", over=1, **client.no), tls=tls) as fake:
        with client(fake) as first:
            first.greet()
            for _ in range(2):
                with client(fake) as refused:
                    assert (refused.greet() or refused.ask()) == "421"
            assert first.ask() == client.yes
        with client(fake) as third:  # the slot of a client that has closed is free at once
            third.greet()
            assert third.ask() == client.yes
        assert [x.fault is not None for x in fake.journal if x.moment == "connect"] == [False, True, True, False]


@every
def test_a_cap_on_jobs(client: type[Caller]) -> None:
    with client.playing(one(client.job, over=1, close=False, **client.no)) as fake:
        with client(fake) as first, client(fake) as second:
            first.greet()
            second.greet()
            assert first.begin() == ""
            assert second.begin() == "421"
            assert first.finish() in ("200", "226", "250")
        with client(fake) as third:
            third.greet()
            assert third.begin() == ""
        assert [x.code == 421 for x in fake.journal if x.rule] == [True]


# ---- time ----------------------------------------------------------------------------------------


@every
@both_tls
def test_a_delay(client: type[Caller], tls: str) -> None:
    with client.playing(one(client.question, delay="10s"), tls=tls) as fake, client(fake) as caller:
        caller.greet()
        caller.say()
        fake.wait_for(lambda journal: journal.count(client.question) == 1)
        fake.settle()
        fake.clock.advance("9.9s")
        assert caller.raw.silent()
        assert at(fake, client.question).reply is None
        fake.clock.advance("100ms")
        assert caller.answer() == client.yes
        delayed = at(fake, client.question)
        assert (delayed.at, delayed.answered_at) == (0, pytest.approx(10))


@every
def test_a_drip(client: type[Caller]) -> None:
    with client.playing(one(client.question, drip="1s")) as fake, client(fake) as caller:
        caller.greet()
        caller.say()
        fake.wait_for(lambda journal: journal.count(client.question) == 1)
        fake.settle()
        assert caller.dripped() == 1
        for so_far in (2, 3):
            fake.clock.advance("999ms")
            assert caller.dripped() == so_far - 1
            fake.clock.advance("1ms")
            assert caller.dripped() == so_far
        fake.clock.advance("1h")
        assert caller.dripped() > 3
        assert at(fake, client.question).fault == "drip"


@every
@both_tls
def test_a_stall(client: type[Caller], tls: str) -> None:
    with client.playing(one(client.question, stall=True), tls=tls) as fake:
        with client(fake) as caller:
            caller.greet()
            caller.say()
            fake.wait_for(lambda journal: journal.count(client.question) == 1)
            fake.settle()
            fake.clock.advance("1d")
            assert caller.raw.silent()
        assert left(fake)
        stalled = at(fake, client.question)
        assert (stalled.reply, stalled.end, stalled.rule) == (None, None, "phase[0].rule[0]")


# ---- closes --------------------------------------------------------------------------------------


@every
@both_tls
@each_close
def test_a_close_in_place_of_an_answer(client: type[Caller], tls: str, how: object) -> None:
    with client.playing(one(client.question, nth=2, close=how), tls=tls) as fake, client(fake) as caller:
        caller.greet()
        assert caller.ask() == client.yes
        caller.say()
        assert caller.end() in wire(how)
        closed = at(fake, client.question)
        assert (closed.code, closed.closed, closed.connection.ended_by) == (None, True, "fake")


@every
@both_tls
@each_close
def test_a_close_of_a_new_connection(client: type[Caller], tls: str, how: object) -> None:
    with client.playing(one("connect", nth=1, close=how), tls=tls) as fake:
        with contextlib.suppress(OSError):  # the client may be told in its handshake
            with client(fake) as caller:
                assert caller.end() in (*wire(how), "reset")  # what HTTP/2 has said at once is not read
        assert (at(fake, "connect").code, at(fake, "connect").closed) == (None, True)
        assert connection(fake).ended_by == "fake"
        with client(fake) as second:
            second.greet()
            assert second.ask() == client.yes


@every
@both_tls
@each_close
def test_a_close_that_nobody_has_asked_for(client: type[Caller], tls: str, how: object) -> None:
    """A phase closes the connections that live when it begins, and no later one."""
    with client.playing(tls=tls) as fake:
        with client(fake) as idle, client(fake) as other:
            for caller in (idle, other):
                caller.greet()
                assert caller.ask() == client.yes
            fake.play(rules(one("enter", close=how), protocol=client.protocol))
            assert {idle.end(), other.end()} <= set(wire(how))
        entered = [x for x in fake.journal if x.moment == "enter"]
        assert [(x.request, x.closed, x.connection.ended_by) for x in entered] == [("", True, "fake")] * 2
        with client(fake) as later:
            later.greet()
            assert later.ask() == client.yes


# ---- TLS -----------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("fault", [{"alert": "handshake_failure"}, {"close": True}, {"close": "reset"}])
def test_a_handshake_that_is_refused(client: type[Caller], fault: dict[str, Any]) -> None:
    with client.playing(one("tls", nth=1, **fault), tls="implicit") as fake:
        with pytest.raises(OSError) as error:
            client(fake)
        assert isinstance(error.value, ConnectionResetError) == (fault == {"close": "reset"})
        assert not left(fake)
        assert connection(fake).error is not None
        assert at(fake, "tls").closed
        with client(fake) as second:
            second.greet()
            assert second.ask() == client.yes


def upgraded(caller: Caller) -> None:
    context = trusting(caller.raw.fake)
    (caller.raw.auth if isinstance(caller, FTP) else caller.raw.starttls)(context)  # type: ignore[attr-defined]


@pytest.mark.parametrize("client", [SMTP, FTP])
def test_tls_after_a_command(client: type[Caller]) -> None:
    """HTTP has no such command."""
    with client.playing(one(client.question, nth=3, **client.no), tls="starttls") as fake:
        with client(fake) as caller:
            caller.greet()
            assert caller.ask() == client.yes
            assert connection(fake).tls is None
            upgraded(caller)
            assert [caller.ask(), caller.ask()] == [client.yes, "421"]
            assert caller.end() == "fin"
        tls = connection(fake).tls
        assert tls is not None
        assert (tls.error, connection(fake).ended_by) == (None, "fake")


# ---- the fake stops ------------------------------------------------------------------------------


@every
@both_tls
def test_a_fake_that_stops_says_goodbye(client: type[Caller], tls: str) -> None:
    fake = client.playing(tls=tls).start()
    with client(fake) as caller:
        caller.greet()
        assert caller.ask() == client.yes
        fake.stop()
        assert caller.end() == "fin"
        last = fake.journal.exchanges[-1]
        assert (last.stopped, last.closed, last.connection.ended_by) == (True, True, "fake")
        if isinstance(caller, Lines):
            assert caller.raw.buffer.startswith(b"421")
        elif isinstance(caller, H2):
            assert caller.raw.farewells == [(1, "NO_ERROR")]


# ---- points of a session -------------------------------------------------------------------------


def nothing(_fake: Fake, _caller: Caller) -> None:
    """The client has connected, and says nothing."""


def greeted(_fake: Fake, caller: Caller) -> None:
    caller.greet()


def half_said(_fake: Fake, caller: Caller) -> None:
    caller.greet()
    caller.raw.send(caller.half)  # type: ignore[attr-defined]


def waiting(fake: Fake, caller: Caller) -> None:
    caller.greet()
    caller.say()
    fake.wait_for(lambda journal: journal.count(caller.question) == 1)
    fake.settle()


def working(_fake: Fake, caller: Caller) -> None:
    caller.greet()
    assert caller.begin() == ""


POINTS: dict[str, tuple[dict[str, Any], Callable[[Fake, Caller], None]]] = {
    "connected": ({}, nothing),
    "greeted": ({}, greeted),
    "half a question": ({}, half_said),
    "a delay": ({"delay": "1h"}, waiting),
    "a drip": ({"drip": "1h"}, waiting),
    "a stall": ({"stall": True}, waiting),
    "a job": ({}, working),
}
each_point = pytest.mark.parametrize("point", POINTS)


@contextlib.contextmanager
def at_point(client: type[Caller], point: str, tls: str) -> Iterator[tuple[Fake, Caller]]:
    fault, come = POINTS[point]
    texts = [one(client.question, times=1, **fault)] if fault else []
    with client.playing(one("connect", over=1, **client.no), *texts, tls=tls) as fake, client(fake) as caller:
        come(fake, caller)
        fake.wait_for(lambda journal: journal.count("connect") == 1)
        fake.settle()
        yield fake, caller


@every
@both_tls
@each_point
@pytest.mark.parametrize("way", ["close", "reset"])
def test_a_client_that_leaves(client: type[Caller], tls: str, point: str, way: str) -> None:
    """Its slot is free for the next client at once. A client that has sent a FIN may still read: where an answer is
    delayed, the connection lives until that has been sent.
    """
    with at_point(client, point, tls) as (fake, caller):
        getattr(caller.raw, way)()
        with client(fake) as second:
            second.greet()
            assert second.ask() == client.yes
        if (point, tls, way) == ("a delay", "none", "close"):
            assert connection(fake).ended_by is None
            fake.clock.advance("1h")
        assert left(fake)


@every
@both_tls
@each_point
def test_a_fake_that_stops_at_any_point(client: type[Caller], tls: str, point: str) -> None:
    """It stops at once, and its client sees the end."""
    before = threading.active_count()
    with at_point(client, point, tls) as (fake, caller):
        fake.stop()
        assert caller.end() in ("fin", "reset")
        assert connection(fake).ended_by == "fake"
    assert threading.active_count() <= before + 1  # the fakes' thread is kept


@every
def test_a_client_that_ends_its_side_gets_its_answer(client: type[Caller]) -> None:
    with client.playing() as fake, client(fake) as caller:
        caller.greet()
        caller.say()
        caller.raw.half_close()
        assert caller.answer() == client.yes
        assert caller.end() == "fin"
        assert left(fake)
        assert at(fake, client.question).code == int(client.yes)


@every
def test_a_client_that_ends_its_side_while_its_answer_is_delayed(client: type[Caller]) -> None:
    with client.playing(one(client.question, delay="10s")) as fake, client(fake) as caller:
        waiting(fake, caller)
        caller.raw.half_close()
        fake.settle()
        fake.clock.advance("10s")
        assert caller.answer() == client.yes
        assert caller.end() == "fin"
        assert left(fake)
