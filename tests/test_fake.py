"""A fake's life: starting, playing, waiting, stopping; and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import re
import threading
import time
import warnings
from pathlib import Path

import pytest

from notnow import (
    FakeError,
    FakeFTP,
    FakeHTTP,
    FakeSMTP,
    ManualClock,
    NotRunningError,
    RealClock,
    ScenarioError,
    WaitTimeoutError,
)
from notnow.clock import AdjustableClock
from notnow.conduct.pictures.timeline import render
from notnow.engine.course import MOST_REPEATS
from notnow.servers.base import bridge as _bridge
from notnow.servers.base.fake import Fake
from notnow.servers.base.runner import Runner
from notnow.servers.smtp.session import SMTPSession
from raw_connection import alive
from smtp_client import MESSAGE, Raw, one, rules, then, trusting

NO = "421 4.3.2 Not now, says the test"
GOODBYE = "421 4.3.2 fake.notnow.test Service not available, closing transmission channel\r\n"


class TestLife:
    def test_it_listens_when_the_block_begins_and_not_when_it_has_ended(self):
        fake = FakeSMTP()
        assert not fake.running
        with fake:
            assert fake.running
            with Raw(fake) as raw:
                assert raw.reply().startswith("220")
        assert not fake.running
        with pytest.raises(OSError):
            Raw(fake)

    def test_start_and_stop_by_hand_and_more_than_once(self):
        fake = FakeSMTP()
        assert fake.start() is fake
        assert fake.start() is fake
        port = fake.port
        fake.stop()
        fake.stop()
        with fake.start():
            assert fake.port == port
            with Raw(fake) as raw:
                raw.hello().deliver()
        assert len(fake.messages) == 1  # they can be read when it has stopped

    async def _visit(self, fake: FakeSMTP) -> str:
        reader, writer = await asyncio.open_connection(fake.host, fake.port)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line.decode()

    def test_in_an_event_loop(self):
        async def main() -> None:
            async with FakeSMTP() as fake:
                assert (await self._visit(fake)).startswith("220")
                await fake.await_for(lambda j: j.connections[0].ended_by)
            assert not fake.running

        asyncio.run(main())

    def test_what_needs_a_running_fake_says_so(self):
        fake = FakeSMTP()
        for call in (fake.next_phase, fake.settle, fake._bridge.begin, lambda: fake.wait_for(lambda j: True)):
            with pytest.raises(RuntimeError, match=r"this FakeSMTP is not running; use it in a `with` block"):
                call()

    def test_bad_options_and_knobs_start_nothing(self):
        before = threading.active_count()
        for bad in (
            {"port": 70000},
            {"tls": "ssl"},
            {"host": 3},
            {"journal_limit": 0},
            {"clock": 3},
            {"no_such_knob": 1},
            {"files": {}},
        ):
            with pytest.raises(ScenarioError):
                FakeSMTP(**bad)
        with pytest.raises(ScenarioError, match="overlod"):
            FakeSMTP("smtp/overlod")
        assert threading.active_count() == before

    def test_twenty_at_once_do_not_disturb_each_other(self):
        fakes = [
            FakeSMTP("smtp/too-many-connections", cap=1, tls="starttls" if i % 2 else "none").start() for i in range(20)
        ]

        def visit(fake: FakeSMTP, i: int) -> None:
            for n in range(5):
                with Raw(fake).hello() as raw:
                    if i % 2:
                        raw.starttls(trusting(fake))
                        raw.say("EHLO x")
                    assert raw.deliver(b"Subject: %d/%d\r\n\r\n" % (i, n)).startswith("250")
                    assert raw.say("QUIT").startswith("221")

        threads = [threading.Thread(target=visit, args=(fake, i)) for i, fake in enumerate(fakes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, fake in enumerate(fakes):
            assert [m["Subject"] for m in fake.messages] == [f"{i}/{n}" for n in range(5)]
            fake.stop()


class TestStop:
    def test_live_sessions_are_told_421_and_then_the_end(self):
        with FakeSMTP() as fake:
            idle, amid_body, amid_command = Raw(fake).hello(), Raw(fake).hello().mail(), Raw(fake).hello()
            amid_body.send("Subject: half")
            amid_command.send("MAIL FR")
            fake.settle()
        for raw in (idle, amid_body, amid_command):
            with raw:
                assert raw.until_end() == GOODBYE
        assert [x.fault for x in fake.journal if x.moment == "enter"] == ["stopped"] * 3
        assert {c.ended_by for c in fake.journal.connections} == {"fake"}

    @pytest.mark.parametrize("tls", ["starttls", "implicit"])
    def test_live_sessions_in_tls_too(self, tls):
        with FakeSMTP(tls=tls) as fake:
            raw = Raw(fake, tls=trusting(fake) if tls == "implicit" else None).hello()
            if tls == "starttls":
                raw.starttls(trusting(fake))
                raw.say("EHLO x")
        with raw:
            assert raw.until_end() == GOODBYE

    def test_who_was_refused_just_before_is_not_cut_off(self, monkeypatch):
        monkeypatch.setattr(_bridge, "GRACE", 20.0)
        fake = FakeSMTP(rules(one("connect", reply=NO))).start()
        with Raw(fake) as raw:
            fake.wait_for(lambda j: j.count("connect"))
            stop = threading.Thread(target=fake.stop)
            stop.start()
            with contextlib.suppress(OSError):
                while True:  # until nobody listens any more
                    Raw(fake).close()
            raw.send(b"EHLO x\r\n" * 500_000)
            assert raw.until_end() == f"{NO}\r\n"
        stop.join()

    def test_a_stalled_or_dripping_session_is_just_ended(self):
        with FakeSMTP(rules(one("noop", stall=True), one("rset", drip="1s")), clock=ManualClock()) as fake:
            stalled, dripping = Raw(fake).hello(), Raw(fake).hello()
            stalled.send("NOOP\r\n")
            dripping.send("RSET\r\n")
            fake.wait_for(lambda j: j.count("noop") and j.count("rset"))
            fake.settle()
        with stalled, dripping:
            assert stalled.until_end() == ""
            assert dripping.until_end() == "2"

    def test_every_kind_of_session_ends_with_the_fake_and_soon(self):
        slow = one("noop", delay="1h"), one("rset", stall=True)
        head = '[server]\ntls = "starttls"'
        before = threading.active_count()
        with FakeSMTP(
            rules(*slow, then("down", one("enter", delay="1h", reply=NO)), head=head), clock=ManualClock()
        ) as fake:
            raws = [Raw(fake).hello() for _ in range(8)]
            raws[0].send("NOOP\r\n")
            raws[1].send("RSET\r\n")
            raws[2].send("STARTTLS\r\n")
            raws[3].mail().send(MESSAGE)
            raws[4].send("half a comm")
            raws[5].send("AUTH LOGIN\r\n")
            raws[6].starttls(trusting(fake))
            raws.append(Raw(fake))
            fake.wait_for(
                lambda j: j.count("noop") and j.count("rset") and j.count("challenge") and j.count("connect") == 9
            )
            fake.next_phase()  # everybody is about to be told something, in an hour
            fake.settle()
            began = time.monotonic()
        assert time.monotonic() - began < _bridge.PATIENCE
        for raw in raws:
            raw.until_end()
            raw.close()
        assert all(c.ended_by for c in fake.journal.connections)
        assert threading.active_count() == before

    def test_nothing_is_said_after_the_stop_to_who_comes_then(self):
        with FakeSMTP() as fake:
            pass
        with pytest.raises(OSError):
            Raw(fake)


class TestLeaks:
    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="file descriptors are counted in /proc")
    def test_two_hundred_fakes_leave_nothing(self):
        def once(i: int) -> None:
            with FakeSMTP(tls=("none", "starttls", "implicit")[i % 3]) as fake:
                if i % 10 == 0:
                    context = trusting(fake)
                    with Raw(fake, tls=context if fake.tls == "implicit" else None).hello() as raw:
                        if fake.tls == "starttls":
                            raw.starttls(context)
                            raw.say("EHLO x")
                        raw.deliver()

        once(0)
        gc.collect()
        threads, files = threading.enumerate(), sorted(os.listdir("/proc/self/fd"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(200):
                once(i)
            gc.collect()
        assert threading.enumerate() == threads
        assert len(os.listdir("/proc/self/fd")) == len(files)
        assert [str(w.message) for w in caught] == []

    def test_sessions_and_tasks_are_garbage_when_the_connection_is_gone(self):
        with FakeSMTP(tls="starttls") as fake:
            for _ in range(30):
                with Raw(fake).hello() as raw:
                    raw.starttls(trusting(fake))
                    raw.say("EHLO x")
                    raw.say("QUIT")
            fake.wait_for(lambda j: all(c.ended_by for c in j.connections))

            async def tasks() -> int:
                return len(asyncio.all_tasks()) - 1

            fake.wait_for(lambda j: not fake._bridge.sessions)
            assert fake._bridge.runner.run(tasks()) == 0
            assert not fake._bridge.tasks
            assert alive(fake, SMTPSession, most=1) <= 1  # the loop's last timer may hold one

    def test_a_manual_clock_outlives_its_fakes(self):
        """Nothing of a stopped fake is left among the clock's alarms."""
        clock = ManualClock()
        scenario = rules(
            one("idle", after="5m", reply=NO), one("noop", delay="1h"), then("later"), phase='lasts = "1d"'
        )
        with FakeSMTP(clock=clock) as living:
            with FakeSMTP(scenario, clock=clock) as fake:
                raw = Raw(fake).hello()
                raw.send("NOOP\r\n")
                fake.wait_for(lambda j: j.count("noop"))
            raw.close()
            assert clock.due is None
            clock.advance("30d")
            with Raw(living) as other:
                assert other.reply().startswith("220")

    def test_the_thread_ends_with_the_last_fake(self):
        before = threading.active_count()
        with FakeSMTP(), FakeSMTP():
            assert threading.active_count() <= before + 1
        assert threading.active_count() == before


class TestOurOwnErrors:
    """An exception in our adapter is a bug of notnow: it must not pass for a fault of the scenario."""

    def broken(self, monkeypatch, method: str = "smtp_NOOP") -> FakeSMTP:
        async def fail(self, arg):
            raise ZeroDivisionError("our bug")

        monkeypatch.setattr(SMTPSession, method, fail)
        return FakeSMTP()

    def test_it_is_raised_when_the_fake_stops(self, monkeypatch):
        fake = self.broken(monkeypatch).start()
        with Raw(fake).hello() as raw:
            raw.send("NOOP\r\n")
            assert raw.until_end() == ""  # that connection ends
        with Raw(fake).hello() as raw:  # and others do not
            assert raw.deliver().startswith("250")
        with pytest.raises(FakeError, match=r"the smtp fake itself failed: ZeroDivisionError\('our bug'\)") as caught:
            fake.stop()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert not fake.running
        fake.stop()

    def test_it_fails_the_with_block(self, monkeypatch):
        with pytest.raises(FakeError), self.broken(monkeypatch) as fake, Raw(fake).hello() as raw:
            raw.send("NOOP\r\n")
            raw.until_end()

    def test_it_does_not_hide_what_the_test_itself_found(self, monkeypatch):
        with pytest.raises(AssertionError, match="mine") as caught, self.broken(monkeypatch) as fake:
            with Raw(fake).hello() as raw:
                raw.send("NOOP\r\n")
                raw.until_end()
            raise AssertionError("mine")
        assert "the smtp fake itself failed" in caught.value.__notes__[0]

    def test_in_what_is_unasked(self, monkeypatch):
        monkeypatch.setattr(SMTPSession, "finish", lambda *_: 1 / 0)
        with pytest.raises(FakeError), FakeSMTP(rules(then("down", one("enter", reply=NO)))) as fake:
            with Raw(fake).hello() as raw:
                fake.next_phase()
                assert raw.reply() == NO

    def test_at_accept(self, monkeypatch):
        fake = FakeSMTP()
        monkeypatch.setattr(fake._bridge, "admit", lambda *_: 1 / 0)
        with pytest.raises(FakeError), fake, Raw(fake) as raw:
            assert raw.until_end() == ""

    def test_in_a_callback_of_the_loop(self):
        with pytest.raises(FakeError, match="ZeroDivisionError"), FakeSMTP() as fake:
            fake._bridge.loop.call_soon_threadsafe(lambda: 1 / 0)

    def test_in_a_listener_of_the_journal(self):
        with pytest.raises(FakeError, match="ZeroDivisionError"), FakeSMTP() as fake:
            fake.journal.subscribe(lambda entry: 1 / 0)
            with Raw(fake) as raw:  # the client is answered all the same
                assert raw.reply().startswith("220")

    def test_asynchronously(self, monkeypatch):
        async def main() -> None:
            async with self.broken(monkeypatch) as fake:
                reader, writer = await asyncio.open_connection(fake.host, fake.port)
                writer.write(b"EHLO x\r\nNOOP\r\n")
                await reader.read()
                writer.close()
                await writer.wait_closed()

        with pytest.raises(FakeError):
            asyncio.run(main())


class TestPlaying:
    def test_play_swaps_the_scenario(self):
        with FakeSMTP() as fake:
            with Raw(fake) as raw:
                assert raw.reply().startswith("220")
            fake.play("smtp/overload", like="gmail")
            with Raw(fake) as raw:
                assert raw.reply() == "421 4.4.5 Server busy, try again later."
            fake.play(rules(one("connect", reply=NO)))
            with Raw(fake) as raw:
                assert raw.reply() == NO

    def test_playing_brings_the_one_before_back(self):
        with FakeSMTP("smtp/overload", like="gmail") as fake:
            with fake.playing("smtp/overload", like="exim-load") as same:
                assert same is fake
                with Raw(fake) as raw:
                    assert raw.reply() == "421 Too much load; please try again later."
            with Raw(fake) as raw:
                assert raw.reply() == "421 4.4.5 Server busy, try again later."
            with pytest.raises(ZeroDivisionError), fake.playing("smtp/healthy"):
                raise ZeroDivisionError
            assert fake.scenario.name == "smtp/overload"

    def test_kick_cuts_off_the_clients_that_are_there(self):
        with FakeSMTP() as fake, Raw(fake).hello() as first, Raw(fake).hello() as second:
            assert fake.kick() == 2
            assert [first.until_end(), second.until_end()] == [GOODBYE, GOODBYE]
            with Raw(fake).hello() as again:
                again.deliver()
            assert [(x.fault, x.rule, x.closed) for x in fake.journal if x.fault] == [("kicked", None, True)] * 2
            assert "[kicked, by hand]" in render([fake.journal])

    def test_kick_frees_the_slots(self):
        with FakeSMTP("smtp/too-many-connections", cap=1) as fake, Raw(fake).hello():
            fake.kick()
            with Raw(fake) as raw:
                assert raw.reply().startswith("220")

    def test_live_connections_keep_their_places_and_get_enter(self):
        with FakeSMTP("smtp/too-many-connections", cap=2) as fake, Raw(fake).hello() as raw:
            fake.play("smtp/too-many-connections", cap=1)
            with Raw(fake) as second:
                assert second.reply().startswith("421")
            fake.play(rules(one("enter", reply=NO)))
            assert raw.until_end() == f"{NO}\r\n"

    def test_a_bad_scenario_changes_nothing(self):
        with FakeSMTP("smtp/overload") as fake:
            for bad, knobs in (("smtp/nothing", {}), ("smtp/overload", {"outage": "soon"})):
                with pytest.raises(ScenarioError):
                    fake.play(bad, **knobs)
            with Raw(fake) as raw:
                assert raw.reply().startswith("421")

    def test_the_journal_is_marked_and_not_erased(self):
        with FakeSMTP() as fake:
            with Raw(fake) as raw:
                raw.hello().deliver()
            fake.play("smtp/overload")
            assert [m.text for m in fake.journal.marks if m.kind == "play"] == ["smtp/healthy", "smtp/overload"]
            assert fake.journal.count("connect") == 1
            assert fake.journal.since_play() == ()
            assert len(fake.messages) == 1

    def test_phases_by_hand_and_by_time_are_marked(self):
        scenario = rules(then("two", lasts="10s"), then("three"), phase='lasts = "1h"')
        with FakeSMTP(scenario, clock=ManualClock()) as fake:
            assert fake.phase == "one"
            fake.next_phase()
            assert fake.phase == "two"
            fake.clock.advance("10s")
            assert fake.phase == "three"
            fake.next_phase()
            assert fake.phase == "three"
            assert [m.text for m in fake.journal.marks if m.kind == "phase"] == ["two", "three"]

    def test_play_before_the_start(self):
        fake = FakeSMTP()
        fake.play("smtp/overload")
        with fake, Raw(fake) as raw:
            assert raw.reply().startswith("421")

    def test_reset_forgets_journal_and_messages_and_not_live_connections(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            raw.deliver()
            fake.reset()
            assert fake.messages == []
            assert fake.journal.exchanges == ()
            assert raw.deliver().startswith("250")
            assert len(fake.messages) == 1
            assert [x.moment for x in fake.journal] == ["mail", "rcpt", "data", "message"]

    def test_a_change_of_tls_is_for_those_who_come_after_it(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            fake.play("smtp/plain-on-tls-port")
            assert raw.deliver().startswith("250")
            with Raw(fake, tls=trusting(fake)) as other:
                assert other.hello().deliver().startswith("250")


class TestWaiting:
    def test_until_it_holds(self):
        with FakeSMTP("smtp/overload") as fake:
            visits = threading.Timer(0.05, lambda: [Raw(fake).close() for _ in range(3)])
            visits.start()
            fake.wait_for(lambda j: j.count("connect") >= 3)
            visits.join()
            assert fake.journal.count("connect") == 3

    def test_for_what_is_not_answered_yet(self):
        """A count can be waited for although the clock stands still and no answer comes."""
        with FakeSMTP(rules(one("connect", delay="1h")), clock=ManualClock()) as fake:
            visitor: list[Raw] = []
            visit = threading.Timer(0.05, lambda: visitor.append(Raw(fake)))
            late = threading.Timer(3, lambda: fake._bridge.recorder.mark("late", ""))
            visit.start()
            late.start()
            fake.wait_for(lambda j: j.count("connect") == 1)
            late.cancel()
            visit.join()
            visitor[0].close()
            assert not [mark for mark in fake.journal.marks if mark.kind == "late"]

    def test_in_vain_with_a_picture(self):
        with FakeSMTP("smtp/overload") as fake, Raw(fake) as raw:
            raw.until_end()
            with pytest.raises(WaitTimeoutError) as caught:
                fake.wait_for(lambda j: False, timeout=0.05)
        text = str(caught.value)
        assert text.startswith("waited 0.05 s in vain")
        assert "connect: 421 4.3.2 All server ports are busy" in text
        assert "transcript" in text
        assert isinstance(caught.value, TimeoutError)

    def test_longer_than_the_loop_may_take_for_anything_else(self, monkeypatch):
        with FakeSMTP() as fake:
            monkeypatch.setattr(Runner.run, "__defaults__", (0.01,))
            timer = threading.Timer(0.2, lambda: Raw(fake).close())
            timer.start()
            fake.wait_for(lambda j: j.count("connect"), timeout=20)
            timer.join()
            monkeypatch.undo()

    def test_what_the_predicate_raises_is_raised(self):
        with FakeSMTP() as fake, pytest.raises(IndexError):
            fake.wait_for(lambda j: j.connections[7])

    def test_not_in_a_running_loop(self):
        async def main() -> None:
            async with FakeSMTP() as fake:
                with pytest.raises(RuntimeError, match=r"await fake\.await_for"):
                    fake.wait_for(lambda j: True)
                await fake.await_for(lambda j: True)
                with pytest.raises(WaitTimeoutError):
                    await fake.await_for(lambda j: False, timeout=0.01)

        asyncio.run(main())

    def test_a_fake_that_stops_meanwhile(self):
        fake = FakeSMTP().start()
        stopping = threading.Timer(0, fake.stop)
        with pytest.raises(NotRunningError, match="smtp was stopped while somebody waited for it"):
            fake.wait_for(lambda j: stopping.start() if not stopping.ident else False, timeout=20)
        stopping.join()

    def test_what_comes_with_the_end_is_waited_for(self):
        with FakeSMTP() as fake, Raw(fake) as raw:
            raw.reply()
            stopping = threading.Timer(0, fake.stop)
            fake.wait_for(lambda j: (stopping.ident or stopping.start(), j.connections[0].ended_by)[1], timeout=20)
            stopping.join()

    @pytest.mark.filterwarnings("error")
    def test_a_fake_that_does_not_run_cannot_be_awaited(self):
        with pytest.raises(NotRunningError, match="this FakeSMTP is not running"):
            asyncio.run(FakeSMTP().await_for(lambda j: True))

    def test_nobody_listens_any_more_afterwards(self):
        with FakeSMTP() as fake:
            with pytest.raises(WaitTimeoutError):
                fake.wait_for(lambda j: False, timeout=0.01)
            assert fake.journal._listeners == []


class TestClocks:
    @pytest.mark.parametrize("clock", [ManualClock, lambda: AdjustableClock(speed=0)])
    def test_threads_that_advance_at_the_same_time_move_it_by_the_sum(self, clock):
        with FakeSMTP(clock=clock()) as fake:
            threads = [threading.Thread(target=fake.clock.advance, args=(10,)) for _ in range(40)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert fake.clock.now() == 400
            fake.clock.advance(1)
            assert fake.clock.now() == 401

    def test_advance_returns_when_all_is_on_the_wire(self):
        scenario = rules(then("down", one("enter", reply=NO)), phase='lasts = "10s"')
        with FakeSMTP(scenario, clock=ManualClock()) as fake:
            raws = [Raw(fake).hello() for _ in range(30)]
            fake.clock.advance("10s")
            for raw in raws:
                raw.sock.setblocking(False)
                assert raw.sock.recv(1000) == f"{NO}\r\n".encode()
                assert raw.sock.recv(1) == b""
                raw.close()

    def test_advance_passes_every_stop_in_order(self):
        scenario = rules(
            then("two", one("enter", reply="250 two"), lasts="10s"),
            then("three", one("enter", reply=NO)),
            phase='lasts = "10s"',
        )
        with FakeSMTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            fake.clock.advance("1h")
            assert raw.until_end() == f"250 two\r\n{NO}\r\n"
            assert [x.at for x in fake.journal if x.moment == "enter"] == [10, 20]

    def test_time_begins_with_the_first_connection_or_advance(self):
        scenario = rules(one("connect", reply=NO), then("two"), phase='lasts = "10s"')
        clock = ManualClock()
        with FakeSMTP(clock=clock), FakeSMTP(scenario, clock=RealClock()) as real:
            assert real.phase == "one"
        with FakeSMTP(scenario, clock=clock) as fake:
            clock.advance("9s")
            assert fake.phase == "one"
            clock.advance("1s")
            assert fake.phase == "two"

    def test_a_fast_clock(self):
        scenario = rules(one("connect", reply=NO), then("two"), phase='lasts = "1h"')
        with FakeSMTP(scenario, clock=RealClock(speed=100_000)) as fake:
            with Raw(fake) as raw:
                assert raw.reply() == NO
            fake.wait_for(lambda j: fake.phase == "two")
            assert fake.clock.now() >= 3600

    def test_a_timeout_shorter_than_its_reply_takes_does_not_pile_up(self):
        scenario = rules(one("idle", after="1ms", reply="450 hello?"))
        with FakeSMTP(scenario, clock=RealClock(speed=1000)) as fake, Raw(fake) as raw:
            raw.reply()
            fake.wait_for(lambda j: j.count("idle") >= 2000)
            assert len(fake._bridge.tasks) <= MOST_REPEATS + 1

    def test_two_fakes_of_one_clock_share_one_order(self):
        clock = ManualClock()
        with FakeSMTP(clock=clock, name="a") as a, FakeSMTP(clock=clock, name="b") as b:
            for fake in (a, b, b, a):
                with Raw(fake) as raw:
                    raw.reply()
            order = sorted((x.index, x.connection.server) for f in (a, b) for x in f.journal)
            assert [server for _, server in order] == ["a", "b", "b", "a"]


class TestJournal:
    def test_it_is_bounded_and_says_so(self):
        with FakeSMTP(journal_limit=10) as fake, Raw(fake).hello() as raw:
            for i in range(20):
                raw.say(f"NOOP {i}")
            assert len(fake.journal) == 10
            assert fake.journal.dropped == 12
            assert fake.journal.count("noop") == 20
            assert [x.request for x in fake.journal] == [f"NOOP {i}" for i in range(10, 20)]
            assert len(fake.journal.connections[0].exchanges) == 10
            with pytest.raises(WaitTimeoutError, match="12 older exchanges were dropped: journal_limit is 10"):
                fake.wait_for(lambda j: False, timeout=0.01)

    def test_connections_are_bounded_too(self):
        with FakeSMTP("smtp/overload", journal_limit=5) as fake:
            long_one = Raw(fake)
            for _ in range(50):
                with Raw(fake) as raw:
                    raw.until_end()
            long_one.close()
            fake.wait_for(lambda j: not fake._bridge.lingering)
            assert len(fake.journal.connections) <= 6

    def test_a_connection_that_outlives_its_exchanges_goes_when_it_ends(self):
        with FakeSMTP(journal_limit=5) as fake:
            for _ in range(20):
                with Raw(fake).hello() as quiet, Raw(fake).hello() as loud:
                    for _ in range(6):
                        loud.say("NOOP")
                    del quiet
            fake.wait_for(lambda j: not fake._bridge.sessions)
            assert len(fake.journal.connections) <= 5

    def test_export_is_json_lines(self):
        with FakeSMTP("smtp/too-many-errors", errors=2, journal_limit=30) as fake:
            with Raw(fake) as raw:
                raw.send(b"EHLO x\r\n\xff\xfe\0\x01 bytes\r\nMAIL FROM:<\xff@x.test>\r\nBOGUS\r\nBOGUS\r\nQUIT\r\n")
                raw.until_end()
            for _ in range(30):
                with Raw(fake).hello() as raw:
                    raw.send("NOOP \u00fc\r\n".encode())
                    raw.reply()
                    raw.deliver(MESSAGE)
            fake.wait_for(lambda j: not fake._bridge.sessions)
            out = io.StringIO()
            fake.journal.export(out)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        assert lines[0] == {"event": "dropped", "count": fake.journal.dropped}
        assert {line["event"] for line in lines} == {"dropped", "play", "exchange", "closed"}
        assert [line["index"] for line in lines[1:]] == sorted(line["index"] for line in lines[1:])
        assert out.getvalue().endswith("\n")

    def test_reading_it_while_it_is_written(self):
        with FakeSMTP(journal_limit=50) as fake:
            done = threading.Event()

            def talk() -> None:
                while not done.is_set():
                    with Raw(fake).hello() as raw:
                        raw.deliver()

            thread = threading.Thread(target=talk)
            thread.start()
            for _ in range(200):
                list(fake.journal.as_dicts())
                assert len(fake.messages) >= 0
                [x.code for c in fake.journal.connections for x in c.exchanges]
            done.set()
            thread.join()


def test_a_fake_that_was_never_stopped_does_not_keep_the_process(tmp_path):
    import subprocess
    import sys

    code = "from notnow import FakeSMTP; FakeSMTP().start(); print('end')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "end\n"


def test_the_runner_is_shared():
    with FakeSMTP() as one_, FakeSMTP() as two:
        assert one_._bridge.runner is two._bridge.runner
        assert isinstance(one_._bridge.runner, Runner)


ASSERTIONS = {
    "assert_amplification", "assert_conduct", "assert_delivered", "assert_drained", "assert_expected", "assert_fell_back_to", "assert_gave_up",
    "assert_never_exceeded", "assert_new_connection_after", "assert_no_duplicates", "assert_not_delivered",
    "assert_retried",
}  # fmt: skip
OF_EVERY_FAKE = ASSERTIONS | {
    "await_for", "ca_file", "catch_up", "client", "clock", "explain", "fired", "host", "journal", "kick", "name", "next_phase", "phase", "play", "playing", "port",
    "protocol", "reset", "result", "running", "scenario", "seed", "service", "settle", "start", "stop", "storm", "tls", "url", "users", "wait_for",
}  # fmt: skip
MORE_FOR_HTTP = {
    "assert_body_replayed", "assert_not_coalesced", "assert_retry_after_honoured", "assert_sni_matches_authority",
    "hosts", "resolving", "ssl_context", "url_for",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (FakeSMTP, {"message", "messages"}),
        (FakeFTP, {"assert_no_partial_files", "assert_stored", "files"}),
        (FakeHTTP, MORE_FOR_HTTP),
    ],
)
def test_a_fake_shows_its_users_what_the_reference_documents_and_no_more(kind: type[Fake], more: set[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "python.md").read_text()
    shown = {name for name in dir(kind()) if not name.startswith("_")}
    assert shown == OF_EVERY_FAKE | more
    assert not {name for name in shown - ASSERTIONS if not re.search(rf"\b{name}\b", page)}
