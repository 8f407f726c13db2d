"""The thread and the loop that all fakes of a process share."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import threading
import warnings

import pytest

from notnow import FakeSMTP, ManualClock
from notnow.servers.base import runner as _runner
from notnow.servers.base.runner import Runner
from smtp_client import Raw, one, rules

KINDS = [
    "asyncio",
    pytest.param("uvloop", marks=pytest.mark.skipif("not _has_uvloop()", reason="uvloop is not installed")),
]


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


@pytest.fixture(params=KINDS)
def runner(request):
    runner = Runner.acquire(request.param)
    yield runner
    runner.release()


def test_one_thread_for_all_and_it_ends_with_the_last(monkeypatch):
    monkeypatch.setattr(Runner, "_shared", {})  # whatever else lives in this process
    before = threading.active_count()
    first, second = Runner.acquire(), Runner.acquire()
    assert first is second
    assert threading.active_count() <= before + 1
    first.release()
    assert not second.loop.is_closed()
    second.release()
    if threading.active_count() == before:  # no other fake of this process lives
        assert second.loop.is_closed()


def test_call_gives_back_and_raises(runner):
    assert runner.call(lambda: threading.current_thread().name) == "notnow"
    with pytest.raises(ZeroDivisionError):
        runner.call(lambda: 1 / 0)


@pytest.mark.parametrize("runner", ["asyncio"], indirect=True)
@pytest.mark.parametrize("by", [socket.socket.fileno, lambda sock: sock], ids=["number", "object"])
def test_readers_and_writers_of_one_socket_come_and_go_one_by_one(runner, by):
    ours, theirs = socket.socketpair()
    loop = runner.loop

    async def woken(*callbacks: str) -> None:
        """Wait until these are called, and no others are."""
        heard.clear()
        while not set(callbacks) <= set(heard):
            await asyncio.sleep(0.001)
        assert set(heard) == set(callbacks)

    async def watch() -> None:
        theirs.send(b"!")
        loop.add_writer(by(ours), heard.append, "writer")
        await woken("writer")
        loop.add_reader(by(ours), heard.append, "replaced")
        loop.add_reader(by(ours), heard.append, "reader")
        await woken("reader", "writer")
        assert loop.remove_reader(by(ours))
        await woken("writer")
        assert loop.remove_writer(by(ours))
        assert not loop.remove_reader(by(ours))
        loop.add_reader(by(ours), heard.append, "reader")
        await woken("reader")
        assert loop.remove_reader(by(ours))

    heard: list[str] = []
    with ours, theirs:
        runner.run(watch())


def test_call_within_the_loop_is_a_plain_call(runner):
    assert runner.call(lambda: runner.call(lambda: 42)) == 42
    runner.call(runner.settle)


def test_run_gives_back_and_raises(runner):
    async def work(n: int) -> float:
        await asyncio.sleep(0)
        return 1 / n

    assert runner.run(work(2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        runner.run(work(0))


def test_run_within_the_loop_would_wait_for_itself(runner):
    async def work() -> None:
        pass

    with pytest.raises(RuntimeError, match="it would wait for itself"):
        runner.call(lambda: runner.run(work()))


def test_run_on_a_closed_loop_says_so():
    runner = Runner("asyncio")
    runner.users = 1
    Runner._shared[("asyncio", -1)] = runner  # not the one of this process
    runner.release()

    async def work() -> None:
        pass

    with pytest.raises(RuntimeError, match="is closed"):
        runner.run(work())


def test_a_loop_that_is_blocked_is_noticed(runner):
    release = threading.Event()
    runner.loop.call_soon_threadsafe(release.wait)

    async def work() -> None:
        pass

    try:
        with pytest.raises(TimeoutError, match=r"did not answer in 0\.05 s: is something blocking it"):
            runner.run(work(), patience=0.05)
    finally:
        release.set()
    runner.settle()


def test_settle_waits_for_chains_of_callbacks(runner):
    done = []

    def chain(left: int) -> None:
        if left:
            runner.loop.call_soon(chain, left - 1)
        else:
            done.append(1)

    runner.loop.call_soon_threadsafe(chain, 10)
    runner.settle()
    assert done == [1]


def test_settle_does_not_wait_for_timers(runner):
    handle = runner.call(lambda: runner.loop.call_later(3600, lambda: None))
    runner.settle()
    runner.call(handle.cancel)


def test_settle_sees_what_clients_have_sent():
    """When it returns, what was in the sockets has been read and answered."""
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        for n in range(1, 200):
            raw.send("NOOP\r\n")
            fake.settle()
            assert fake.journal.count("noop") == n
            assert raw.sock.recv(100) == b"250 2.0.0 Ok\r\n"


def test_many_threads_may_settle_at_once():
    """None is forgotten: each asks within the loop."""
    with FakeSMTP() as fake:
        threads = [threading.Thread(target=lambda: [fake.settle() for _ in range(200)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_runner.PATIENCE)
            assert not thread.is_alive()


def test_errors_of_the_loop_are_kept_and_clients_that_leave_are_none(runner):
    def fail(error: Exception) -> None:
        raise error

    for error in (ConnectionResetError(), BrokenPipeError(), TimeoutError()):
        runner.loop.call_soon_threadsafe(fail, error)
    runner.settle()
    assert runner.errors == []
    bug = ZeroDivisionError()
    runner.loop.call_soon_threadsafe(fail, bug)
    runner.settle()
    runner.call(lambda: None)
    assert runner.errors == [bug]
    runner.errors.clear()


def test_tasks_that_are_left_are_cancelled_and_not_destroyed():
    ended = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")

    runner = Runner("asyncio")
    runner.users = 1
    Runner._shared[("asyncio", -1)] = runner
    runner.call(lambda: runner.loop.create_task(forever()))
    runner.settle()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runner.release()
        gc.collect()
    assert ended == ["cancelled"]


def test_an_unknown_loop():
    with pytest.raises(ValueError, match="NOTNOW_LOOP is 'twisted'; allowed: asyncio, uvloop"):
        Runner.acquire("twisted")


def test_an_unknown_loop_leaves_no_socket(monkeypatch):
    monkeypatch.setenv("NOTNOW_LOOP", "twisted")
    with pytest.raises(ValueError, match="twisted"):
        FakeSMTP().start()
    gc.collect()


@pytest.mark.skipif("not _has_uvloop()", reason="uvloop is not installed")
def test_fakes_on_uvloop(monkeypatch):
    monkeypatch.setenv("NOTNOW_LOOP", "uvloop")
    scenario = rules(one("noop", delay="1h", reply="421 4.3.2 later"))
    with FakeSMTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
        assert type(fake._bridge.loop).__module__.startswith("uvloop")
        assert raw.deliver().startswith("250")
        raw.send("NOOP\r\n")
        fake.wait_for(lambda j: j.count("noop"))
        fake.clock.advance("1h")
        assert raw.until_end() == "421 4.3.2 later\r\n"


def test_a_forked_child_has_a_loop_of_its_own():
    code = """
import os, warnings
warnings.simplefilter("ignore")
from notnow import FakeSMTP
with FakeSMTP() as parent:
    if (pid := os.fork()) == 0:
        import smtplib
        with FakeSMTP() as child, smtplib.SMTP(child.host, child.port) as client:
            client.sendmail("a@b", "c@d", "hello")
        os._exit(0 if len(child.messages) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    if not hasattr(__import__("os"), "fork"):
        pytest.skip("no fork here")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
