"""Waits of every kind take scenario time under fast_forward, in the same order in every run."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import gc
import importlib
import os
import queue
import sched
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import sleep as imported_sleep

import pytest
import tenacity

from notnow import FastForwardError, ManualClock
from notnow.time_travel import client, parties, roster, watch, world
from notnow.time_travel.effort import Effort, effort
from notnow.time_travel.fast_forward import FastForward, FastForwardWarning
from notnow.time_travel.parties import Party

try:
    import uvloop  # before fast_forward is on: what it has not seen then, it cannot refuse
except ImportError:
    uvloop = None

MINUTE = 60.0
OLD_LOCK = threading.Lock()  # made before fast_forward: waits for it are not seen


pytestmark = pytest.mark.usefixtures("watchdog")


@contextlib.contextmanager
def warned(text: str) -> Iterator[FastForward]:
    """A fast_forward that has something to say at its end."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with FastForward() as on:
            yield on
    assert any(issubclass(w.category, FastForwardWarning) and text in str(w.message) for w in told), told


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


# ---- ways of waiting, each for a minute ----------------------------------------------------------


def a_schedule() -> None:
    schedule = sched.scheduler()
    schedule.enter(MINUTE, 1, lambda: None)
    schedule.run()


async def a_call_later() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(MINUTE, done.set)
    await done.wait()


async def a_wait_for() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), MINUTE)


async def a_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(MINUTE):
            await asyncio.get_running_loop().create_future()


def an_event() -> None:
    assert not threading.Event().wait(MINUTE)


def a_condition() -> None:
    condition = threading.Condition()
    with condition:
        assert not condition.wait_for(lambda: False, MINUTE)


def a_semaphore() -> None:
    assert not threading.Semaphore(0).acquire(timeout=MINUTE)


def a_barrier() -> None:
    with pytest.raises(threading.BrokenBarrierError):
        threading.Barrier(2).wait(MINUTE)


def a_queue() -> None:
    with pytest.raises(queue.Empty):
        queue.Queue[int]().get(timeout=MINUTE)


def a_full_queue() -> None:
    full = queue.Queue[int](1)
    full.put(1)
    with pytest.raises(queue.Full):
        full.put(2, timeout=MINUTE)


def a_simple_queue() -> None:
    with pytest.raises(queue.Empty):
        queue.SimpleQueue[int]().get(timeout=MINUTE)


def a_join() -> None:
    stop = threading.Event()
    thread = in_thread(stop.wait)
    thread.join(MINUTE)
    assert thread.is_alive()
    stop.set()
    thread.join()


def a_joined_sleeper() -> None:
    thread = in_thread(lambda: time.sleep(MINUTE))
    thread.join()
    assert not thread.is_alive()


def a_timer() -> None:
    rung = threading.Event()
    threading.Timer(MINUTE, rung.set).start()
    assert rung.wait(2 * MINUTE)


def a_future() -> None:
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()
        future = pool.submit(stop.wait)
        with pytest.raises(TimeoutError):
            future.result(timeout=MINUTE)
        stop.set()


def a_pool() -> None:
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(time.sleep, seconds) for seconds in (MINUTE, MINUTE / 2)]
        done = [futures.index(future) for future in concurrent.futures.as_completed(futures, timeout=2 * MINUTE)]
    assert done == [1, 0]


def a_selector() -> None:
    one, other = socket.socketpair()
    with one, other, selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        assert selector.select(MINUTE) == []


def a_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(MINUTE)
        with pytest.raises(TimeoutError, match="timed out"):
            one.recv(1)


def an_accept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(MINUTE)
        with pytest.raises(TimeoutError):
            server.accept()


def a_retry() -> None:
    times = iter((False, False, True))  # waits 20 s, then 40 s
    tenacity.Retrying(wait=tenacity.wait_exponential(multiplier=20), retry=tenacity.retry_if_result(lambda r: not r))(
        lambda: next(times)
    )


async def a_retry_in_a_loop() -> None:
    times = iter((False, False, True))
    async for attempt in tenacity.AsyncRetrying(wait=tenacity.wait_exponential(multiplier=20)):
        with attempt:
            assert next(times)


def in_a_loop(work: Callable[[], Awaitable[object]]) -> Callable[[], None]:
    async def main() -> None:
        await work()

    return lambda: asyncio.run(main())


WAYS: dict[str, Callable[[], object]] = {
    "time.sleep": lambda: time.sleep(MINUTE),
    "from time import sleep": lambda: imported_sleep(MINUTE),
    "sched": a_schedule,
    "asyncio.sleep": in_a_loop(lambda: asyncio.sleep(MINUTE)),
    "loop.call_later": in_a_loop(a_call_later),
    "asyncio.wait_for": in_a_loop(a_wait_for),
    "asyncio.timeout": in_a_loop(a_timeout),
    "asyncio.to_thread": in_a_loop(lambda: asyncio.to_thread(time.sleep, MINUTE)),
    "Event": an_event,
    "Condition": a_condition,
    "Semaphore": a_semaphore,
    "Barrier": a_barrier,
    "Queue.get": a_queue,
    "Queue.put": a_full_queue,
    "SimpleQueue": a_simple_queue,
    "Thread.join": a_join,
    "Thread.join of a sleeper": a_joined_sleeper,
    "Timer": a_timer,
    "Future.result": a_future,
    "as_completed": a_pool,
    "selector": a_selector,
    "socket": a_socket,
    "accept": an_accept,
    "tenacity": a_retry,
    "tenacity in a loop": in_a_loop(a_retry_in_a_loop),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_wait_of_a_minute_is_a_minute_on_every_clock_and_nearly_nothing_in_real_time(
    way: Callable[[], object], forward: FastForward
) -> None:
    read = (time.monotonic, time.time, forward.clock.now, lambda: time.monotonic_ns() / 1e9)
    before = [clock() for clock in read]
    today = datetime.datetime.now(datetime.UTC)
    started = time.perf_counter()
    way()
    assert time.perf_counter() - started < MINUTE / 2
    assert [clock() - was for clock, was in zip(read, before, strict=True)] == pytest.approx([MINUTE] * 4, abs=1e-5)
    assert datetime.datetime.now(datetime.UTC) - today == datetime.timedelta(seconds=MINUTE)


def test_the_wall_clock_and_the_scenario_clock_agree(forward: FastForward) -> None:
    for seconds in (0.1, 1 / 3, 86_400, 1e-6):
        time.sleep(seconds)
        assert time.time() == pytest.approx(forward.clock.epoch + forward.clock.now(), abs=1e-6)
    assert forward.clock.now() == pytest.approx(86_400.433334, abs=2e-6)


def test_the_shortest_sleep_takes_a_microsecond(forward: FastForward) -> None:
    """Or a loop that is a float's last bit short of its timer would never get there."""
    time.sleep(1e-12)
    assert forward.clock.now() == 1e-6
    time.sleep(0)
    assert forward.clock.now() == 1e-6


def test_five_days_of_a_schedule(forward: FastForward) -> None:
    """RFC 5321 §4.5.4.1: two tries in the first hour, then one every two or three hours, for 4-5 days."""
    attempts: list[float] = []
    while not attempts or attempts[-1] < 5 * 86_400:
        attempts.append(forward.clock.now())
        time.sleep(1800 if len(attempts) < 3 else 3 * 3600)
    assert len(attempts) == 43
    assert attempts[:4] == [0, 1800, 3600, 14_400]


def test_time_stands_still_while_somebody_computes(forward: FastForward) -> None:
    waiter = in_thread(lambda: time.sleep(1))
    until = time.perf_counter() + 3 * world.TURN  # real, and long enough for the driver to look beside us
    while time.perf_counter() < until:
        pass
    assert forward.clock.now() == 0
    waiter.join()
    assert forward.clock.now() == 1


# ---- order ---------------------------------------------------------------------------------------


def interleaving() -> list[tuple[float, str]]:
    seen: list[tuple[float, str]] = []
    with FastForward() as on:

        def sender(name: str, first: float, factor: float) -> None:
            delay = first
            for _ in range(6):
                time.sleep(delay)
                seen.append((on.clock.now(), name))
                delay *= factor

        threads = [in_thread(partial(sender, *how)) for how in (("slow", 30, 2), ("fast", 10, 3), ("same", 30, 2))]
        for thread in threads:
            thread.join()
    return seen


def test_threads_take_turns_in_the_same_order_in_every_run() -> None:
    first = interleaving()
    assert first[:6] == [(10, "fast"), (30, "slow"), (30, "same"), (40, "fast"), (90, "slow"), (90, "same")]
    assert all(interleaving() == first for _ in range(19))


@pytest.mark.parametrize("gets", [0.0, 0.5], ids=["no processor", "half a processor"])
def test_a_thread_that_waits_for_a_processor_keeps_its_turn(
    gets: float, forward: FastForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine that can take any time, and nobody may go on meanwhile."""
    order: list[str] = []

    def starved() -> None:
        began = parties.real_monotonic()

        def at_a_look(native: int | None) -> Effort:
            waited = parties.real_monotonic() - began
            return Effort(False, (), gets * waited, waited) if native == mine else effort(native)

        mine = threading.get_native_id()
        monkeypatch.setattr(watch, "effort", at_a_look)
        parties.real_sleep(6 * world.TURN)
        order.append("starved")
        monkeypatch.undo()

    monkeypatch.setattr(world, "BUSY", 4 * world.TURN)
    threads = [in_thread(starved), in_thread(lambda: order.append("next"))]
    for thread in threads:
        thread.join()
    assert order == ["starved", "next"]


def test_a_thread_that_starts_another_keeps_its_turn(forward: FastForward, monkeypatch: pytest.MonkeyPatch) -> None:
    """`Thread.start` returns when the new thread has begun, which takes a busy machine any time."""
    order: list[str] = []

    def late(thread: threading.Thread) -> None:
        parties.real_sleep(4 * world.TURN)
        begin(thread)

    begin = client._real_start
    first = in_thread(lambda: order.append("first"))
    monkeypatch.setattr(client, "_real_start", late)
    second = in_thread(lambda: order.append("second"))
    order.append("starter")
    for thread in (first, second):
        thread.join()
    assert order == ["starter", "first", "second"]


def test_the_one_that_parked_first_goes_first(forward: FastForward) -> None:
    order: list[int] = []

    def work(number: int) -> None:
        time.sleep(10 - number)
        time.sleep(number)  # all are due at 10
        order.append(number)

    threads = [in_thread(partial(work, number)) for number in range(5)]
    for thread in threads:
        thread.join()
    assert order == [4, 3, 2, 1, 0]


def test_who_is_notified_goes_on_at_that_instant(forward: FastForward) -> None:
    letters = queue.Queue[str]()
    got: list[tuple[float, str]] = []

    def reader() -> None:
        while (letter := letters.get(timeout=MINUTE)) != "end":
            got.append((forward.clock.now(), letter))

    thread = in_thread(reader)
    for letter in ("a", "b", "end"):
        time.sleep(5)
        letters.put(letter)
    thread.join()
    assert got == [(5, "a"), (10, "b")]
    assert forward.clock.now() == 15


def test_sleep_0_lets_the_others_of_this_instant_run(forward: FastForward) -> None:
    flag: list[int] = []
    thread = in_thread(lambda: flag.append(1))
    assert not flag
    time.sleep(0)
    assert flag
    thread.join()
    assert forward.clock.now() == 0


def test_a_thread_that_holds_a_lock_while_it_sleeps(forward: FastForward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is from before, so that the wait for it is not seen; the sleeper goes on all the same, and a warning tells."""
    monkeypatch.setattr(watch, "GRACE", 0.1)
    lock = OLD_LOCK

    def holder() -> None:
        with lock:
            time.sleep(MINUTE)

    thread = in_thread(holder)
    time.sleep(1)
    with lock:
        assert forward.clock.now() == MINUTE
    thread.join()
    assert "MainThread in test_a_thread_that_holds" in next(iter(forward._world.notes))  # type: ignore[union-attr]
    forward._world.notes.clear()  # type: ignore[union-attr]


def test_a_lock_that_is_made_meanwhile_is_seen(forward: FastForward) -> None:
    lock = threading.Lock()

    def holder() -> None:
        with lock:
            time.sleep(MINUTE)

    thread = in_thread(holder)
    time.sleep(1)
    assert not lock.acquire(timeout=9)
    assert forward.clock.now() == 10
    with lock:
        assert forward.clock.now() == MINUTE
    thread.join()


def test_a_blocked_call_without_a_time_out_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRACE", 0.05)
    OLD_LOCK.acquire()

    def other() -> None:
        time.sleep(MINUTE)
        OLD_LOCK.release()

    with warned("does not see") as on:
        thread = in_thread(other)
        OLD_LOCK.acquire()
        thread.join()
        assert on.clock.now() == MINUTE
    OLD_LOCK.release()


@pytest.mark.skipif(not Path("/proc/self/syscall").exists(), reason="the system does not say who waits with a time-out")
@pytest.mark.parametrize(
    "blocked",
    [
        lambda: OLD_LOCK.acquire(timeout=30),
        lambda: parties.real_select([], [], [], 0.2),
        lambda: parties.real_sleep(0.2),
    ],
    ids=["Lock.acquire", "select.select", "time.sleep"],
)
def test_a_blocked_call_with_a_time_out_fails_the_test_where_the_clock_moves(
    blocked: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GRACE", 0.05)
    OLD_LOCK.acquire()

    def other() -> None:
        time.sleep(MINUTE)
        OLD_LOCK.release()

    with pytest.raises(FastForwardError, match=r"MainThread in .* does not see .*the clock moved on from 0s"):
        with FastForward() as on:
            thread = in_thread(other)
            blocked()
            thread.join()
            assert on.clock.now() == MINUTE
    if OLD_LOCK.locked():
        OLD_LOCK.release()


def test_polling_with_a_call_that_is_not_seen_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRACE", 0.1)
    done: list[int] = []

    def other() -> None:
        time.sleep(MINUTE)
        done.append(1)

    # A warning, turned into an error here, where the driver looks between two of these waits.
    with pytest.raises((FastForwardError, FastForwardWarning), match="does not see"), FastForward():
        thread = in_thread(other)
        while not done:
            parties.real_select([], [], [], 0.005)
        thread.join()


def test_notes_join_the_error_of_a_test_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRACE", 0.05)
    with pytest.raises(ZeroDivisionError) as caught, FastForward():
        thread = in_thread(lambda: time.sleep(1))
        parties.real_select([], [], [], 0.2)
        thread.join()
        raise ZeroDivisionError
    assert "does not see" in caught.value.__notes__[0]


# ---- sockets between threads of the test ---------------------------------------------------------


def test_a_server_of_the_test_itself_may_sleep_before_it_answers(forward: FastForward) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            sock, _ = server.accept()
            with sock:
                time.sleep(MINUTE)
                sock.sendall(sock.recv(100))

        thread = in_thread(serve)
        with socket.create_connection(server.getsockname(), timeout=2 * MINUTE) as client:
            client.sendall(b"ping")
            assert client.recv(100) == b"ping"
        thread.join()
    assert forward.clock.now() == pytest.approx(MINUTE, abs=2)  # real time passes while the socket may be a stranger's


def test_sendall_waits_for_a_reader(forward: FastForward) -> None:
    one, other = socket.socketpair()
    data = bytes(3_000_000)
    got = bytearray()

    def reader() -> None:
        time.sleep(MINUTE)
        while len(got) < len(data):
            got.extend(other.recv(65_536))

    with one, other:
        thread = in_thread(reader)
        one.settimeout(2 * MINUTE)
        one.sendall(data)
        thread.join()
        assert bytes(got) == data
        one.settimeout(MINUTE)
        with pytest.raises(TimeoutError):
            one.sendall(data)
    assert forward.clock.now() == pytest.approx(2 * MINUTE, abs=1)


def test_asyncio_streams(forward: FastForward) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(MINUTE)
        writer.write(await reader.readline())
        writer.close()

    async def main() -> bytes:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"ping\n")
            try:
                return await asyncio.wait_for(reader.read(), 2 * MINUTE)
            finally:
                writer.close()

    assert asyncio.run(main()) == b"ping\n"
    assert forward.clock.now() == pytest.approx(MINUTE, abs=2)


# ---- what is outside -----------------------------------------------------------------------------


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_subprocess_is_waited_for_in_real_time(forward: FastForward) -> None:
    started = time.perf_counter()
    subprocess.run(python("import time; time.sleep(1)"), check=True)
    real = time.perf_counter() - started
    assert real >= 1
    assert 0 < forward.clock.now() <= real


def test_a_subprocess_is_waited_for_with_a_time_out(forward: FastForward) -> None:
    with subprocess.Popen(python("import time; time.sleep(0.2)")) as child:
        assert child.wait(timeout=30) == 0
    assert forward.clock.now() < 30


def test_what_a_subprocess_says_is_waited_for(forward: FastForward) -> None:
    late = in_thread(lambda: time.sleep(MINUTE))
    with subprocess.Popen(python("import time; time.sleep(0.7); print('hi')"), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read() == b"hi\n"
        assert forward.clock.now() < MINUTE
    late.join()


def test_a_subprocess_of_asyncio(forward: FastForward) -> None:
    async def main() -> bytes:
        child = await asyncio.create_subprocess_exec(
            *python("import time; time.sleep(0.2); print('hi')"), stdout=subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(child.communicate(), 30)
        assert child.returncode == 0
        return out

    assert asyncio.run(main()) == b"hi\n"
    assert forward.clock.now() < 30


STRANGER = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
client, _ = server.accept()
client.recv(10)
time.sleep(0.3)
client.sendall(b"pong")
client.recv(10)
"""


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a server in another process, which answers after 0.3 real seconds."""
    with subprocess.Popen(python(STRANGER), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())
        child.kill()


def test_a_server_in_another_process_is_waited_for(stranger: int, forward: FastForward) -> None:
    late = in_thread(lambda: time.sleep(2 * MINUTE))
    with socket.create_connection(("127.0.0.1", stranger), timeout=MINUTE) as client:
        client.sendall(b"ping")
        assert client.recv(10) == b"pong"
    assert forward.clock.now() < MINUTE
    late.join()


def test_a_server_in_another_process_is_waited_for_in_a_loop(stranger: int, forward: FastForward) -> None:
    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", stranger)
        writer.write(b"ping")
        try:
            return await asyncio.wait_for(reader.read(4), MINUTE)
        finally:
            writer.close()

    assert asyncio.run(main()) == b"pong"
    assert forward.clock.now() < MINUTE


def test_an_idle_connection_to_a_stranger_does_not_hold_a_loop_for_long(stranger: int, forward: FastForward) -> None:
    async def main() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", stranger)
        await asyncio.sleep(86_400)
        writer.close()

    asyncio.run(main())
    assert forward.clock.now() == pytest.approx(86_400, abs=1)


DATAGRAMS = """
import socket, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
_, client = server.recvfrom(10)
time.sleep(0.3)
server.sendto(b"pong", client)
"""


def test_an_answer_by_datagram_is_waited_for(forward: FastForward) -> None:
    with subprocess.Popen(python(DATAGRAMS), stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(MINUTE)
            client.sendto(b"ping", ("127.0.0.1", port))
            assert client.recv(10) == b"pong"
    assert forward.clock.now() < MINUTE


def test_outside_by_hand(forward: FastForward) -> None:
    late = in_thread(lambda: time.sleep(0.05))
    started = time.perf_counter()
    with forward.outside():
        late.join()
    assert time.perf_counter() - started >= 0.05
    assert 0.05 <= forward.clock.now() < 30


# ---- refusals ------------------------------------------------------------------------------------


def test_one_at_a_time(forward: FastForward) -> None:
    with pytest.raises(FastForwardError, match="on already"), FastForward():
        pass
    time.sleep(1)
    assert forward.clock.now() == 1


def test_each_is_used_once() -> None:
    once = FastForward()
    with once:
        pass
    with pytest.raises(FastForwardError, match="make a new one"), once:
        pass


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(FastForwardError, match="Windows"), FastForward():
        pass


def test_the_horizon(forward: FastForward) -> None:
    time.sleep(399 * 86_400)
    with pytest.raises(FastForwardError, match="horizon: nothing else is due within 400d"):
        time.sleep(2 * 86_400)
    assert forward.clock.now() == 399 * 86_400


def test_a_horizon_of_ones_own() -> None:
    with FastForward(horizon="1h") as on:
        assert threading.Event().wait(3600) is False
        with pytest.raises(FastForwardError, match="within 1h"):
            asyncio.run(asyncio.sleep(1))
        assert on.clock.now() == 3600


@pytest.mark.parametrize("clock", ["monotonic", "time", "monotonic_ns", "scenario"])
def test_spinning_on_a_clock(clock: str, forward: FastForward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "SPIN", 10_000)
    read = forward.clock.now if clock == "scenario" else getattr(time, clock)
    with pytest.raises(FastForwardError, match="10,000 times without waiting"):
        while read() >= 0:
            pass


def test_spinning_on_sleep_0(forward: FastForward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "SPIN", 10_000)
    late = in_thread(lambda: time.sleep(1))
    with pytest.raises(FastForwardError, match="without waiting"):
        while late.is_alive():
            time.sleep(0)
    late.join()


def test_reading_a_clock_often_is_fine_as_long_as_it_moves(
    forward: FastForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(roster, "SPIN", 1000)
    for _ in range(50):
        for _ in range(100):
            time.monotonic()
        time.sleep(1)


@pytest.mark.skipif(uvloop is None, reason="uvloop is not installed")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")  # uvloop.run() leaves its coroutine alone
@pytest.mark.parametrize("how", ["run", "Runner", "loop"])
def test_uvloop_is_refused(how: str, forward: FastForward) -> None:
    async def main() -> None:
        await asyncio.sleep(1)

    with pytest.raises(FastForwardError, match="uvloop keeps time"):
        if how == "run":
            uvloop.run(main())
        elif how == "Runner":
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        else:
            with contextlib.closing(uvloop.new_event_loop()) as loop:
                loop.run_forever()


def test_a_negative_sleep_is_refused_as_ever(forward: FastForward) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)
    with pytest.raises(TypeError):
        time.sleep("1")  # type: ignore[arg-type]


# ---- the clock -----------------------------------------------------------------------------------


def test_advance_is_a_sleep(forward: FastForward) -> None:
    seen: list[float] = []

    def sleeper() -> None:
        time.sleep(600)
        seen.append(forward.clock.now())

    thread = in_thread(sleeper)
    forward.clock.advance("30m")
    assert seen == [600]
    assert forward.clock.now() == 1800
    thread.join()


def test_advance_from_a_thread_that_takes_no_part(forward: FastForward) -> None:
    errors: list[BaseException] = []

    def foreign() -> None:
        try:
            forward.clock.advance(1)
        except FastForwardError as error:
            errors.append(error)

    with forward.outside():
        thread = in_thread(foreign)
        thread.join()
    assert "takes no part" in str(errors[0])


def test_before_and_after_the_clock_is_a_manual_one() -> None:
    on = FastForward()
    assert isinstance(on.clock, ManualClock)
    on.clock.advance(5)
    with on:
        assert time.time() == pytest.approx(on.clock.epoch + 5, abs=1e-6)
        time.sleep(5)
    on.clock.advance(5)
    assert on.clock.now() == 15


# ---- the end -------------------------------------------------------------------------------------

PLACES = (
    time, threading, threading.Thread, socket, socket.socket, ssl.SSLSocket, selectors.EpollSelector if
    hasattr(selectors, "EpollSelector") else selectors.PollSelector, selectors.PollSelector, selectors.SelectSelector,
    subprocess, subprocess.Popen, os, queue, asyncio.Runner, sched, uuid, sys.modules[__name__],
)  # fmt: skip


def snapshot() -> list[dict[str, object]]:
    return [dict(vars(place)) for place in PLACES] + [{"defaults": sched.scheduler.__init__.__defaults__}]


def test_everything_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_late.py").write_text(
        "from time import monotonic, sleep\ndef nap(how=sleep, *, clock=monotonic): pass\n"
    )
    before, threads = snapshot(), threading.enumerate()
    with FastForward():
        during = snapshot()
        late = importlib.import_module("imported_late")
        assert late.sleep is time.sleep
        time.sleep(1)
    assert during != before
    assert snapshot() == before
    assert threading.enumerate() == threads
    assert (late.sleep, late.monotonic) == (time.sleep, time.monotonic)
    assert late.nap.__defaults__ == (time.sleep,)
    assert late.nap.__kwdefaults__ == {"clock": time.monotonic}
    assert isinstance(time.sleep, types.BuiltinFunctionType)


def test_everything_is_restored_after_an_error_on_the_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    before, threads = snapshot(), threading.enumerate()
    monkeypatch.setattr(gc, "get_referrers", lambda *objects: 1 / 0)
    with pytest.raises(ZeroDivisionError), FastForward():
        pass
    monkeypatch.undo()
    assert snapshot() == before
    assert threading.enumerate() == threads
    with FastForward() as on:
        time.sleep(1)
        assert on.clock.now() == 1


def test_a_sleeper_that_is_left_behind_ends() -> None:
    woken: list[str] = []

    def sleeper() -> None:
        try:
            time.sleep(3600)
        except Exception:
            woken.append("caught")
        woken.append("awake")

    with warned("ended: left"):
        thread = threading.Thread(target=sleeper, name="left")
        thread.start()
        time.sleep(1)
    thread.join()
    assert woken == []


def read_in_vain() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.recv(1)


@pytest.mark.parametrize(
    "wait",
    [
        lambda: threading.Event().wait(3600),
        lambda: asyncio.run(asyncio.sleep(3600)),
        lambda: read_in_vain(),
    ],
    ids=["Event", "asyncio", "recv"],
)
def test_other_waits_that_are_left_behind_end(wait: Callable[[], object]) -> None:
    with warned("were ended: Thread"):
        thread = in_thread(wait)
        time.sleep(1)
    thread.join()


def test_a_thread_that_never_began_does_not_begin_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while everything is put back, slowly."""
    ran: list[int] = []
    install = client.install

    def slow(stack: contextlib.ExitStack) -> None:
        install(stack)
        stack.callback(parties.real_select, [], [], [], 5 * world.TURN)

    monkeypatch.setattr(client, "install", slow)
    with warned("were ended"):
        thread = in_thread(lambda: ran.append(1))
    thread.join()
    assert ran == []


def test_a_pool_that_is_collected_ends(forward: FastForward) -> None:
    """Its finalizer notifies the workers, from whichever thread collects it."""
    pool = ThreadPoolExecutor(1)
    pool.submit(time.sleep, 1).result()
    (worker,) = pool._threads
    del pool
    gc.collect()
    worker.join()
    assert forward.clock.now() == 1


def test_a_pool_that_outlives_the_test_goes_on_in_real_time() -> None:
    with FastForward():
        pool = ThreadPoolExecutor(1)
        assert pool.submit(lambda: 1).result() == 1
    assert pool.submit(lambda: 2).result() == 2
    with FastForward():
        assert pool.submit(lambda: 3).result() == 3
    pool.shutdown()


def test_a_keyboard_interrupt_ends_a_wait(forward: FastForward) -> None:
    with forward.outside():
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        threading.Event().wait()
    time.sleep(MINUTE)
    assert forward.clock.now() == MINUTE


@pytest.mark.parametrize("taken", [True, False])
def test_an_interrupt_at_the_very_moment_of_the_turn(
    taken: bool, forward: FastForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Party.block

    def interrupted(party: Party) -> None:
        if taken:
            block(party)
        while party.wait is not None:
            parties.real_select([], [], [], 0.001)
        raise KeyboardInterrupt

    monkeypatch.setattr(Party, "block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(1)
    monkeypatch.undo()
    started = forward.clock.now()
    time.sleep(MINUTE)
    assert forward.clock.now() - started == MINUTE


def test_a_forked_process_lives_in_real_time(forward: FastForward) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork() in a process with threads
        pid = os.fork()
    if pid == 0:
        started = time.perf_counter()
        time.sleep(0.05)
        os._exit(0 if time.perf_counter() - started >= 0.05 else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_failing_thread_fails_as_ever(forward: FastForward) -> None:
    seen: list[type[BaseException]] = []

    def fail() -> None:
        time.sleep(1)
        raise ZeroDivisionError

    hook, threading.excepthook = threading.excepthook, lambda args: seen.append(args.exc_type)
    try:
        in_thread(fail).join()
    finally:
        threading.excepthook = hook
    assert seen == [ZeroDivisionError]


def test_starting_a_thread_twice_is_refused_as_ever(forward: FastForward) -> None:
    thread = in_thread(lambda: time.sleep(1))
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
    thread.join()
    assert forward.clock.now() == 1


def test_platforms_with_slower_loopback_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "LOOKS", 3)
    with FastForward() as on:
        time.sleep(1)
        a_socket()
        assert on.clock.now() == MINUTE + 1


def test_without_proc_a_blocked_call_is_noted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux only the place in the code tells whether a thread works."""
    monkeypatch.setattr(watch, "effort", lambda native: Effort())
    monkeypatch.setattr(world, "waits_with_timeout", lambda native: False)
    monkeypatch.setattr(watch, "GRACE", 0.05)
    with warned("does not see") as on:
        thread = in_thread(lambda: time.sleep(1))
        parties.real_select([], [], [], 0.2)
        assert on.clock.now() == 1
        thread.join()


def test_a_program_that_has_frozen_its_objects() -> None:
    """`gc.freeze`, as servers that fork call it, hides objects from the search for places that hold `time.sleep`."""
    gc.freeze()
    try:
        with FastForward() as forward:
            time.sleep(3600)
            assert forward.clock.now() >= 3600
    finally:
        gc.unfreeze()
