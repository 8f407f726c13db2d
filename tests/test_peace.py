"""A Ctrl-C inside `start()` and `stop()`: whatever it meets is done to its end, or never begins, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from notnow.servers.base import peace as _peace
from notnow.servers.base import runner as _runner
from notnow.servers.base.peace import in_peace
from notnow.servers.base.runner import Runner

posix = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself a Ctrl-C there")
in_main = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="a Ctrl-C is for the main thread"
)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_gives_what_the_work_gives_and_raises_what_it_raises():
    assert in_peace(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        in_peace(lambda: 1 // 0)


def test_in_another_thread_it_is_just_called():
    found = []
    thread = threading.Thread(target=lambda: found.append(in_peace(threading.current_thread)))
    thread.start()
    thread.join()
    assert found == [thread]


@posix
@in_main
def test_a_ctrl_c_amid_the_work_is_raised_when_it_is_done():
    done = []

    def work() -> None:
        press()
        time.sleep(0.2)  # by then it would have been raised
        done.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        in_peace(work)
    assert done
    assert done[0] is not threading.main_thread()


def test_a_ctrl_c_before_it_begins_keeps_it_from_beginning(monkeypatch):
    done, begun = [], []

    def later(function: object, arguments: object) -> None:
        """The thread is there, and has not run yet."""
        begun.append(function)
        raise KeyboardInterrupt

    monkeypatch.setattr(_peace._thread, "start_new_thread", later)
    with pytest.raises(KeyboardInterrupt):
        in_peace(lambda: done.append("work"))
    begun[0]()
    assert not done


def test_where_no_thread_can_be_had_it_is_done_here(monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(_peace._thread, "start_new_thread", refuse)
    assert in_peace(threading.current_thread) is threading.current_thread()


# ---- where the loop's thread does it -------------------------------------------------------------


@pytest.fixture
def runner():
    runner = Runner.acquire("asyncio")
    yield runner
    runner.release()


def test_the_loop_gives_what_the_work_gives_and_raises_what_it_raises(runner):
    async def work(n: int) -> tuple[float, threading.Thread]:
        await asyncio.sleep(0)
        return 1 / n, threading.current_thread()

    assert runner.run_in_peace(work(2)) == (0.5, runner._thread)
    with pytest.raises(ZeroDivisionError):
        runner.run_in_peace(work(0))


def test_work_that_waits_for_nothing_needs_no_task(runner, monkeypatch):
    async def work() -> threading.Thread:
        return threading.current_thread()

    def refuse(*_: object) -> None:
        raise AssertionError("a task is made for this")

    monkeypatch.setattr(runner.loop, "create_task", refuse, raising=False)
    assert runner.run_in_peace(work()) is runner._thread


def test_work_that_waits_goes_on_as_a_task(runner):
    async def work() -> int:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, future.set_result, 3)
        first = await future
        async with asyncio.timeout(5):
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 0.001)
        return first + 4

    assert runner.run_in_peace(work()) == 7


@posix
@in_main
def test_a_ctrl_c_amid_the_work_of_the_loop_is_raised_when_it_is_done(runner):
    done = []

    async def work() -> None:
        press()
        await asyncio.sleep(0.2)  # by then it would have been raised
        done.append("work")

    with pytest.raises(KeyboardInterrupt):
        runner.run_in_peace(work())
    assert done


def test_a_ctrl_c_before_the_loop_begins_keeps_it_from_beginning(runner, monkeypatch):
    done, begun = [], []

    async def work() -> None:
        done.append("work")

    def later(function: object) -> None:
        """The loop has heard of it, and has not come to it."""
        begun.append(function)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runner.loop, "call_soon_threadsafe", later)
        with pytest.raises(KeyboardInterrupt):
            runner.run_in_peace(work())
    runner.call(begun[0])
    runner.settle()
    assert not done


def test_a_blocked_loop_is_told_of_and_does_not_begin_later(runner, monkeypatch):
    monkeypatch.setattr(_runner, "PATIENCE", 0.05)
    done, release = [], threading.Event()

    async def work() -> None:
        done.append("work")

    runner.loop.call_soon_threadsafe(release.wait)
    try:
        with pytest.raises(TimeoutError, match=r"did not answer in 0\.05 s: is something blocking it"):
            runner.run_in_peace(work())
    finally:
        release.set()
    runner.settle(5.0)
    assert not done


PRELUDE = """
import gc, os, random, signal, sys, threading
from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.clock import ManualClock
from notnow.servers.base.runner import Runner

def press(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, press)
"""


@posix
@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("fake", ["FakeSMTP()", "FakeFTP()", "FakeHTTP(tls='none')"])
def test_wherever_it_comes_nothing_is_left(fake):
    """Thirty times, from a timer at moments drawn by a seed, in a process of its own."""
    code = f"""{PRELUDE}
with {fake}:
    pass
work = threading.get_ident  # Python looks for signals behind a call of C, and as a function of Python begins
threads, draw, hits = threading.active_count(), random.Random(1), 0
for _ in range(600):
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0001, 0.005))
        with {fake}:
            work()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += 1
    if hits == 30:
        break
signal.setitimer(signal.ITIMER_REAL, 0)
assert hits, "none came amid it"
assert not Runner._shared, Runner._shared
assert threading.active_count() == threads, threading.enumerate()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="it counts in /proc what is open")
@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("fake", ["FakeSMTP(clock=ManualClock())", "FakeFTP()", "FakeHTTP(tls='none')"])
def test_wherever_it_comes_amid_the_start_of_a_fixture_nothing_is_left(fake):
    """Such a fake starts in this thread, since somebody keeps its runner. Two hundred times, at moments drawn by a seed."""
    code = f"""{PRELUDE}
def opened():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

threads = threading.active_count()
runner = Runner.acquire()
draw, hits, before = random.Random(1), 0, None
for _ in range(4000):
    fake = {fake}
    fake._bridge.kept, listens = runner, False
    try:
        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.00001, 0.0006))
        fake.start()
        listens = True
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        hits += not listens
    assert fake.running == listens
    fake.stop()
    assert not getattr(fake.clock, "_servers", None)
    before = before or opened()
    if hits == 200:
        break
assert hits > 20, f"only {{hits}} came amid it"
assert opened() == before
assert runner.users == 1
runner.release()
assert threading.active_count() == threads, threading.enumerate()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
