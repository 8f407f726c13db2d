"""Accepting and turning away: the 421 is seen with data in flight, and a place that is free is seen as free."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from notnow import FakeSMTP, ManualClock, StartError
from notnow.servers import by_protocol
from notnow.servers.base import closing as _closing
from notnow.servers.base import listener as _listener
from notnow.servers.base import runner as _runner
from smtp_client import MESSAGE, Raw, one, rules, trusting

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 4.3.2 Not now, says the test"
TIMES = 20


def test_an_address_is_not_looked_up(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the resolver is asked")

    monkeypatch.setattr(_listener.socket, "getaddrinfo", refuse)
    for host in ("127.0.0.1", "0.0.0.0"):
        _listener.bind(host, 0).close()
    with pytest.raises(AssertionError):
        _listener.bind("localhost", 0)


class TestBeginning:
    """A thread that is not the loop's begins to listen."""

    @pytest.fixture
    def kept(self) -> Iterator[_runner.Runner]:
        runner = _runner.Runner.acquire()
        yield runner
        runner.release()

    @pytest.mark.parametrize("protocol", ["smtp", "ftp", "http"])
    def test_a_ctrl_c_just_after_it_leaves_nothing_that_is_watched(self, protocol, kept, monkeypatch):
        """The next socket has the number of the one that was closed."""

        class Pressed(_listener.Listener):
            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                raise KeyboardInterrupt

        fakes = [by_protocol(protocol)() for _ in range(2)]
        for fake in fakes:
            fake._bridge.kept = kept
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_listener, "Listener", Pressed)
            fakes[0].start()
        assert not fakes[0].running
        with fakes[1] as fake, socket.create_connection((fake.host, fake.port)):
            fake.wait_for(lambda journal: journal.connections)

    def test_all_is_ready_before_a_client_can_come(self, kept, monkeypatch):
        """One that has tried again and again connects at once."""
        found = []

        class Watched(_listener.Listener):
            def __init__(self, *given: Any) -> None:
                found.append((fake.port, [mark.kind for mark in fake.journal.marks]))
                super().__init__(*given)

        monkeypatch.setattr(_listener, "Listener", Watched)
        fake = FakeSMTP()
        fake._bridge.kept = kept
        with fake:
            assert found == [(fake.port, ["play"])]

    @pytest.mark.parametrize("keeps", [True, False])
    def test_listeners_of_the_journal_are_called_in_the_thread_of_the_loop(self, keeps, kept):
        told: list[tuple[str, str]] = []
        fake = FakeSMTP()
        fake._bridge.kept = kept if keeps else None
        fake.journal.subscribe(lambda mark: told.append((mark.kind, threading.current_thread().name)))
        with fake:
            assert told == [("play", "notnow")]


class TestLingering:
    """What was said before a close is seen, whatever the client has in flight."""

    BODY = b"Subject: big\r\n\r\n" + b"x" * 78 + b"\r\n" + b"".join(b"%078d\r\n" % i for i in range(62_500))

    @pytest.fixture(params=["none", "starttls", "implicit"])
    def tls(self, request, monkeypatch) -> str:
        """In TLS the fake closes when nothing has come for a moment: one in which this client runs on a busy machine, too."""
        monkeypatch.setattr(_closing, "QUIET", 0.5)
        return request.param

    def times(self, tls: str) -> int:
        """In TLS, each time takes as long as that moment."""
        return TIMES if tls == "none" else 4

    def test_a_421_amid_a_body_of_five_megabytes(self, tls):
        scenario = rules(one("body", after_bytes=1_000_000, reply=NO))
        with FakeSMTP(scenario, tls=tls) as fake:
            seen = {self.last_word(fake, b"DATA\r\n", self.BODY + b".\r\n") for _ in range(self.times(tls))}
            assert seen == {NO}
            assert not fake.messages

    def test_a_421_amid_twenty_thousand_pipelined_recipients(self, tls):
        recipients = b"".join(b"RCPT TO:<r%d@server.test>\r\n" % i for i in range(20_000))
        with FakeSMTP(rules(one("rcpt", per="connection", nth=3, reply=NO)), tls=tls) as fake:
            seen = {self.last_word(fake, b"", recipients + b"DATA\r\n") for _ in range(self.times(tls))}
            assert seen == {NO}

    @pytest.mark.parametrize("tls", ["starttls", "implicit"])
    @pytest.mark.parametrize("shutdown", [20.0, 0.05])
    def test_a_421_in_tls_to_a_client_that_goes_on_late(self, tls, shutdown, monkeypatch):
        """It gets no processor for so long that the fake has ended TLS, or its socket, and goes on with its body then."""
        monkeypatch.setattr(_closing, "QUIET", 0.005)
        monkeypatch.setattr(_closing, "SHUTDOWN", shutdown)
        part = b"x" * 78 + b"\r\n"
        with FakeSMTP(rules(one("body", after_bytes=5000, reply=NO)), tls=tls) as fake, self.at_data(fake, tls) as raw:
            (session,) = fake._bridge.sessions.values()
            raw.send(part * 100)
            fake.wait_for(lambda _: not session.alive or session.transport.is_closing())
            raw.send(part * 10_000)
            fake.wait_for(lambda _: not fake._bridge.sessions)
            assert len(fake._bridge.lingering) == 1
            raw.send(part * 10_000)
            raw.send(part * 10_000 + b".\r\n")
            assert raw.until_end().splitlines()[-1] == NO
            raw.close()
            fake.wait_for(lambda _: not len(fake._bridge.lingering))

    def at_data(self, fake: FakeSMTP, tls: str) -> Raw:
        """A client that may send its body."""
        raw = Raw(fake, tls=trusting(fake) if tls == "implicit" else None).hello()
        if tls == "starttls":
            raw.starttls(trusting(fake))
            assert raw.say("EHLO x").startswith("250")
        assert raw.say("MAIL FROM:<a@client.test>").startswith("250")
        assert raw.say("RCPT TO:<b@server.test>").startswith("250")
        assert raw.say("DATA").startswith("354")
        return raw

    def test_a_421_at_connect_to_a_client_that_talks_at_once(self):
        with FakeSMTP(rules(one("connect", reply=NO))) as fake:
            for _ in range(TIMES):
                with Raw(fake) as raw:
                    raw.send(b"EHLO x\r\n" + b"NOOP\r\n" * 20_000)
                    assert raw.until_end() == f"{NO}\r\n"

    def test_even_if_reading_was_paused(self):
        """So much has come while the fake took its time that it stopped reading: it must go on, or the client hangs."""
        recipients = b"RCPT TO:<r@server.test>\r\n" * 20_000
        scenario = rules(one("rcpt", delay="1m", reply=NO))
        with FakeSMTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            assert raw.say("MAIL FROM:<a@client.test>").startswith("250")
            raw.send(recipients)
            fake.settle()
            (session,) = fake._bridge.sessions.values()
            assert 65_536 < len(session._inbox) < len(recipients)
            fake.clock.advance("1m")
            assert raw.until_end() == f"{NO}\r\n"
            fake.wait_for(lambda j: j.connections[0].after_bytes == len(recipients) - 25)

    def last_word(self, fake: FakeSMTP, last: bytes, flood: bytes) -> str:
        """What a client sees last that sends all it has before it reads anything."""
        implicit = trusting(fake) if fake.tls == "implicit" else None
        with Raw(fake, tls=implicit).hello() as raw:
            if fake.tls == "starttls":
                raw.starttls(trusting(fake))
                assert raw.say("EHLO x").startswith("250")
            assert raw.say("MAIL FROM:<a@client.test>").startswith("250")
            if last:
                assert raw.say("RCPT TO:<b@server.test>").startswith("250")
                raw.send(last)
                assert raw.reply().startswith("354")
            raw.send(flood)
            return raw.until_end().splitlines()[-1]

    def test_a_close_without_lingering_would_lose_it(self):
        """What the test above guards against: an abrupt close amid the body cuts the sender off."""
        scenario = rules(one("body", after_bytes=1_000_000, close="abrupt"))
        with FakeSMTP(scenario) as fake, Raw(fake).hello().mail() as raw:
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                raw.send(self.BODY)
                raw.until_end()

    def test_who_never_closes_is_cut_off_in_the_end(self, monkeypatch):
        monkeypatch.setattr(_listener, "LINGER", 0.05)
        for on in ("connect", "mail"):
            with FakeSMTP(rules(one(on, reply=NO))) as fake, Raw(fake) as raw:
                if on == "mail":
                    raw.hello()
                    raw.send("MAIL FROM:<a@client.test>\r\n")
                fake.wait_for(lambda j: j.connections and not fake._bridge.sessions and not len(fake._bridge.lingering))
                assert raw.until_end() == f"{NO}\r\n"

    def test_a_client_that_still_sends_has_more_time(self, monkeypatch):
        """As long as it sends, it has not read its reply; it may do so for a while, not for ever."""
        with self.refused(monkeypatch) as (fake, raw, session):
            for number, periods in enumerate((1, 0), 1):
                raw.send("NOOP\r\n")
                fake.wait_for(lambda j, n=number: j.connections[0].after_bytes == 6 * n)
                assert session.alive
                self.let_ring(fake, session, periods)
            fake.wait_for(lambda _: not fake._bridge.sessions)

    def test_a_client_that_no_longer_sends_has_no_more_time(self, monkeypatch):
        with self.refused(monkeypatch) as (fake, _, session):
            self.let_ring(fake, session, _listener.PERIODS)
            fake.wait_for(lambda _: not fake._bridge.sessions)

    def test_a_client_that_has_not_read_all_has_more_time(self, monkeypatch):
        with self.refused(monkeypatch) as (fake, _, session):
            with monkeypatch.context() as unread:
                unread.setattr(type(session.transport), "get_write_buffer_size", lambda _: 1)
                self.let_ring(fake, session, 1)
                assert not session.transport.is_closing()
            self.let_ring(fake, session, 1)
            fake.wait_for(lambda _: not fake._bridge.sessions)

    def test_one_timer_at_a_time(self, monkeypatch):
        """One that the end of the connection does not cancel would ring for a fake that has been stopped."""
        with self.refused(monkeypatch) as (fake, _, session):
            first = session._linger
            with monkeypatch.context() as unread:
                unread.setattr(type(session.transport), "get_write_buffer_size", lambda _: 1)
                fake._bridge.runner.call(session.end)
            fake.wait_for(lambda _: not fake._bridge.sessions)
        assert first.cancelled()
        assert session._linger.cancelled()

    @contextlib.contextmanager
    def refused(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FakeSMTP, Raw, Any]]:
        """A client that has got its last reply and stays, and its session; time is never up by itself."""
        monkeypatch.setattr(_listener, "LINGER", 1000.0)
        with FakeSMTP(rules(one("noop", reply=NO))) as fake, Raw(fake).hello() as raw:
            (session,) = fake._bridge.sessions.values()
            raw.send("NOOP\r\n")
            assert raw.reply() == NO
            fake.settle()
            yield fake, raw, session

    def let_ring(self, fake: FakeSMTP, session: Any, periods: int) -> None:
        """The timer of the lingering close rings now, and so many periods are left."""
        session._linger.cancel()
        fake._bridge.runner.call(lambda: session._lingered(periods))


class _Timer:
    """A timer of `_Loop`."""

    def __init__(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.callback, self.args, self.cancelled = callback, args, False

    def cancel(self) -> None:
        self.cancelled = True

    def ring(self) -> None:
        self.cancelled = True
        self.callback(*self.args)


class _Loop:
    """An event loop that only notes what it is asked to do."""

    def __init__(self) -> None:
        self.timers: list[_Timer] = []
        self.readers: dict[int, Callable[[], object]] = {}

    def call_later(self, _seconds: float, callback: Callable[..., object], *args: object) -> _Timer:
        self.timers.append(_Timer(callback, args))
        return self.timers[-1]

    def add_reader(self, number: int, callback: Callable[..., object], *args: object) -> None:
        self.readers[number] = lambda: callback(*args)

    def remove_reader(self, number: int) -> None:
        del self.readers[number]

    def ring(self) -> None:
        """Let the timers ring that wait now."""
        for timer in [timer for timer in self.timers if not timer.cancelled]:
            timer.ring()

    @property
    def waiting(self) -> list[_Timer]:
        return [timer for timer in self.timers if not timer.cancelled]


class TestLingeringClose:
    """No timer and no reader outlives its socket: a later socket may get the same number."""

    def _watched(self) -> tuple[_Loop, _listener.LingeringClose, socket.socket]:
        """A client that has read its reply and stays: it is watched on its own."""
        loop = _Loop()
        lingering = _listener.LingeringClose(loop, lambda _record, _data: None)  # type: ignore[arg-type]
        ours, client = socket.socketpair()
        ours.setblocking(False)
        lingering.part(ours, b"421 later\r\n", "the record")  # type: ignore[arg-type]
        loop.ring()
        loop.ring()
        assert client.recv(100) == b"421 later\r\n"
        assert (list(loop.readers), len(loop.waiting), len(lingering)) == ([ours.fileno()], 1, 1)
        return loop, lingering, client

    def test_a_client_that_closes(self):
        loop, lingering, client = self._watched()
        client.close()
        (reader,) = loop.readers.values()
        reader()
        assert (loop.readers, loop.waiting, len(lingering)) == ({}, [], 0)

    def test_a_client_that_stays_until_the_timer_rings(self):
        loop, lingering, client = self._watched()
        with client:
            loop.ring()
            assert (loop.readers, loop.waiting, len(lingering)) == ({}, [], 0)
            assert client.recv(100) == b""

    def test_a_client_that_still_sends_has_more_time(self, monkeypatch):
        monkeypatch.setattr(_listener, "PERIODS", 3)
        loop, lingering, client = self._watched()
        with client:
            for _ in range(2):
                client.send(b"NOOP\r\n")
                (reader,) = loop.readers.values()
                reader()
                loop.ring()
                assert (len(loop.readers), len(loop.waiting), len(lingering)) == (1, 1, 1)
            client.send(b"NOOP\r\n")
            reader()
            loop.ring()
            assert (loop.readers, loop.waiting, len(lingering)) == ({}, [], 0)

    def test_a_fake_that_stops(self):
        loop, lingering, client = self._watched()
        with client:
            lingering.close()
            assert (loop.readers, loop.waiting, len(lingering)) == ({}, [], 0)


def test_a_client_that_keeps_talking_in_tls_is_cut_off_when_the_linger_ends(monkeypatch):
    """Each byte of the client puts the end off, but not beyond `LINGER`."""
    monkeypatch.setattr(_listener, "LINGER", 0.3)
    stop = threading.Event()

    def talk(raw: Raw) -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.005):
                raw.send("NOOP\r\n")

    with FakeSMTP(rules(one("noop", reply=NO)), tls="implicit") as fake, Raw(fake, tls=trusting(fake)).hello() as raw:
        raw.send("NOOP\r\n")
        assert raw.reply() == NO
        talking = threading.Thread(target=talk, args=(raw,))
        talking.start()
        try:
            fake.wait_for(lambda _: not fake._bridge.sessions, timeout=10)
        finally:
            stop.set()
            talking.join()
        (connection,) = fake.journal.connections
        assert connection.after_bytes > 0


def test_the_timer_of_a_lingering_close_ends_with_its_connection():
    with FakeSMTP(rules(one("noop", reply=NO))) as fake:
        with Raw(fake).hello() as raw:
            (session,) = fake._bridge.sessions.values()
            raw.send("NOOP\r\n")
            assert raw.until_end() == f"{NO}\r\n"
            assert not session._linger.cancelled()
        fake.wait_for(lambda _: not fake._bridge.sessions)
        assert session._linger.cancelled()


class Client:
    """One sequential client; `leave` is how it ends a connection that was let in."""

    def __init__(self, fake: FakeSMTP, leave: Callable[[Raw], None]) -> None:
        self.fake, self.leave = fake, leave
        self.context = trusting(fake) if fake.tls != "none" else None
        self.kept: list[Raw] = []  # sockets left open after a 421

    def visit(self) -> str:
        raw = Raw(self.fake)
        greeting = raw.reply()
        if greeting.startswith("421"):
            self.kept.append(raw)
            return greeting
        assert raw.say("EHLO x").startswith("250")
        if self.context is not None:
            raw.starttls(self.context)
            assert raw.say("EHLO x").startswith("250")
        self.leave(raw)
        return greeting

    def close(self) -> None:
        for raw in self.kept:
            raw.close()


def _quit(raw: Raw) -> None:
    assert raw.say("QUIT").startswith("221")
    raw.close()


def _quit_unread(raw: Raw) -> None:
    raw.send("QUIT\r\n")
    raw.close()


def _noop_and_close(raw: Raw) -> None:
    """Something is unread before the end: it takes two reads to see it."""
    raw.send("NOOP\r\n")
    raw.close()


LEAVING = {
    "with QUIT": _quit, "with QUIT, unread": _quit_unread, "without a word": Raw.close, "with a reset": Raw.reset,
    "with a command and a close": _noop_and_close,
}  # fmt: skip


class TestPlaces:
    @pytest.mark.parametrize("tls", ["none", "starttls"])
    @pytest.mark.parametrize("leave", LEAVING)
    def test_a_cap_of_one_never_refuses_a_sequential_client(self, tls, leave):
        with FakeSMTP("smtp/too-many-connections", cap=1, tls=tls) as fake:
            client = Client(fake, LEAVING[leave])
            refused = [reply for reply in (client.visit() for _ in range(200)) if reply.startswith("421")]
            client.close()
            assert refused == []

    @pytest.mark.parametrize("tls", ["none", "starttls"])
    def test_a_refused_client_that_leaves_its_socket_open_takes_no_place(self, tls):
        """The 421 comes by a rule of its own; the cap must not count who was told it."""
        scenario = rules(one("connect", every=2, reply=NO), one("connect", over=1, reply="421 4.7.0 too many"))
        with FakeSMTP(scenario, tls=tls) as fake:
            client = Client(fake, _quit)
            said = [client.visit() for _ in range(200)]
            client.close()
            assert said[1::2] == [NO] * 100
            assert [reply[:3] for reply in said[::2]] == ["220"] * 100

    def test_a_place_is_free_when_the_fake_decides_to_close(self):
        with FakeSMTP(rules(one("connect", over=1, reply="421 full"), one("noop", reply=NO))) as fake:
            client_sockets = []
            for _ in range(50):
                raw = Raw(fake).hello()
                assert raw.say("NOOP") == NO
                client_sockets.append(raw)  # and it does not close
            for raw in client_sockets:
                raw.close()

    def test_a_place_is_free_when_the_client_says_quit_and_keeps_its_socket(self):
        with FakeSMTP("smtp/too-many-connections", cap=1) as fake, Raw(fake).hello() as raw:
            with Raw(fake) as refused:
                assert refused.reply().startswith("421")
            raw.send("QUIT\r\n")
            with Raw(fake) as second:
                assert second.reply().startswith("220")

    def test_a_cap_of_five_admits_five_of_fifty_threads(self):
        gate, hold = threading.Barrier(50), threading.Event()

        def visit() -> str:
            gate.wait()
            with Raw(fake) as raw:
                reply = raw.reply()
                if reply.startswith("220"):
                    assert hold.wait(20)
                return reply[:3]

        with FakeSMTP("smtp/too-many-connections", cap=5) as fake:
            with concurrent.futures.ThreadPoolExecutor(50) as pool:
                visits = [pool.submit(visit) for _ in range(50)]
                fake.wait_for(lambda j: j.count("connect") == 50)
                hold.set()
                said = sorted(v.result() for v in visits)
            assert said == ["220"] * 5 + ["421"] * 45

    def test_a_client_that_ends_while_others_wait_to_be_accepted(self):
        """The end of the old connection and the coming of the new one are seen in their order."""
        with FakeSMTP("smtp/too-many-connections", cap=1) as fake:
            for _ in range(100):
                raw = Raw(fake).hello()
                raw.send("NOOP\r\n" * 50)
                raw.close()
                with Raw(fake) as second:
                    assert second.reply().startswith("220")


class TestBinding:
    def test_a_port_in_use_is_named(self):
        with FakeSMTP() as fake, pytest.raises(StartError, match=rf"127\.0\.0\.1:{fake.port}: the port is taken"):
            FakeSMTP(port=fake.port).start()

    def test_a_host_that_is_not_here(self):
        with pytest.raises(StartError, match=r"203\.0\.113\.1:0: '203\.0\.113\.1' is no address of this machine"):
            FakeSMTP(host="203.0.113.1").start()

    def test_a_host_that_is_no_name(self):
        with pytest.raises(StartError, match="no-such-host.invalid"):
            FakeSMTP(host="no-such-host.invalid").start()

    def test_a_fake_that_could_not_start_can_be_started_later(self):
        with FakeSMTP() as first:
            second = FakeSMTP(port=first.port)
            with pytest.raises(StartError):
                second.start()
            assert not second.running
        with second, Raw(second) as raw:
            assert raw.reply().startswith("220")

    def test_another_loopback_address_and_the_same_port(self):
        with FakeSMTP(host="127.0.0.2") as first, FakeSMTP(host="127.0.0.3", port=first.port) as second:
            assert first.port == second.port
            with Raw(second) as raw:
                raw.hello().deliver()
            assert (len(first.messages), len(second.messages)) == (0, 1)

    def test_ipv6(self):
        try:
            fake = FakeSMTP(host="::1").start()
        except StartError:
            pytest.skip("no IPv6 here")
        with fake, Raw(fake) as raw:
            assert raw.hello().deliver().startswith("250")
            assert fake.url == f"smtp://[::1]:{fake.port}"
            assert fake.journal.connections[0].client == "::1"


def test_running_out_of_file_descriptors_makes_clients_wait(monkeypatch):
    """The kernel keeps who cannot be accepted; the listener comes back to them, and does not spin meanwhile."""
    monkeypatch.setattr(_runner, "PATIENCE", 3.0)

    calls, files_left = [], threading.Event()
    with FakeSMTP() as fake:
        real = _listener.accept

        def accept(*listening):
            calls.append(1)
            if not files_left.is_set():
                raise OSError(errno.EMFILE, "no more files")
            return real(*listening)

        monkeypatch.setattr(_listener, "accept", accept)
        with Raw(fake) as raw:
            fake.wait_for(lambda j: calls)
            fake.settle()  # it comes to rest: it would not if it spun
            files_left.set()
            assert raw.reply().startswith("220")


def test_a_listener_that_closes_resets_who_was_not_handed_over():
    with FakeSMTP() as fake:
        raw = Raw(fake)
        fake._bridge.loop.call_soon_threadsafe(lambda: None)
    with raw, pytest.raises((ConnectionResetError, EOFError)) as caught:
        while True:
            raw.line()
    assert caught


def test_replies_are_sent_at_once():
    """Nagle's algorithm would hold the second of two writes up for 40 ms, as after every TLS handshake."""
    with FakeSMTP() as fake, Raw(fake) as raw:
        raw.hello()
        (session,) = fake._bridge.sessions.values()
        assert session.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_sockets_are_not_inherited_half_open():
    """After a stop the port is free at once."""
    with FakeSMTP() as fake, Raw(fake) as raw:
        raw.hello()
        port = fake.port
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_message_taken_is_taken_even_if_the_client_is_gone_before_the_reply():
    with FakeSMTP() as fake:
        with Raw(fake).hello().mail() as raw:
            raw.send(MESSAGE + b".\r\n")
        fake.wait_for(lambda j: j.connections[0].ended_by)
        assert len(fake.messages) == 1


@pytest.mark.parametrize("protocol", ["smtp", "ftp", "http"])
def test_a_reset_behind_some_bytes_is_noticed_by_uvloop_too(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop calls a reader once when that happens, and never again."""
    pytest.importorskip("uvloop")
    monkeypatch.setenv("NOTNOW_LOOP", "uvloop")
    for _ in range(5):
        with by_protocol(protocol)(tls="none") as fake:
            assert type(fake._bridge.loop).__module__ == "uvloop"
            client = socket.create_connection((fake.host, fake.port))
            fake.wait_for(lambda j: len(j) > 0)
            fake.settle()
            client.send(b"NOOP")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            fake.wait_for(lambda j: j.connections[0].ended_by == "client")
