"""Every way of waiting that CPython has, for a minute: it passes in scenario time, or it is refused aloud.

None waits really in silence. What this file cannot cover is C code of extension modules that sleeps by itself: the
driver notices it after half a second, and the test fails where the clock has moved meanwhile.
"""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import contextlib
import errno
import multiprocessing
import multiprocessing.connection
import multiprocessing.pool
import os
import queue
import re
import select
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import freezegun
import pytest
import trio

from notnow import DeadlockError, FakeSMTP, FastForwardError
from notnow.time_travel import bystanders, parties, watchdogs, world
from notnow.time_travel.fast_forward import FastForward

MINUTE = 60.0
OLD_POOL = ThreadPoolExecutor(2, thread_name_prefix="old-pool")
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says how a thread waits")


pytestmark = pytest.mark.usefixtures("watchdog")


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


# ---- taken in ------------------------------------------------------------------------------------


def a_select() -> None:
    with pair() as (one, _):
        assert select.select([one], [], [one], MINUTE) == ([], [], [])


def a_poll() -> None:
    with pair() as (one, _):
        poll = select.poll()
        poll.register(one, select.POLLIN)
        assert poll.poll(MINUTE * 1000) == []


def an_epoll() -> None:
    with pair() as (one, _), select.epoll() as epoll:
        epoll.register(one, select.EPOLLIN)
        assert epoll.poll(MINUTE) == []


def a_lock() -> None:
    lock = threading.Lock()
    with lock:
        assert not lock.acquire(timeout=MINUTE)


def held_elsewhere(lock: threading.RLock) -> Callable[[], None]:  # type: ignore[valid-type]
    done = threading.Event()

    def hold() -> None:
        with lock:  # type: ignore[attr-defined]
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    time.sleep(0)

    def release() -> None:
        done.set()
        thread.join()

    return release


def an_rlock() -> None:
    lock = threading.RLock()
    release = held_elsewhere(lock)
    assert not lock.acquire(timeout=MINUTE)
    release()


def a_condition_that_is_acquired() -> None:
    condition = threading.Condition()
    release = held_elsewhere(condition)  # type: ignore[arg-type]
    assert not condition.acquire(timeout=MINUTE)
    release()


def a_bounded_semaphore() -> None:
    semaphore = threading.BoundedSemaphore(1)
    with semaphore:
        assert not semaphore.acquire(timeout=MINUTE)


def a_lifo_queue() -> None:
    with pytest.raises(queue.Empty):
        queue.LifoQueue[int]().get(timeout=MINUTE)


def a_futures_wait() -> None:
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()
        future = pool.submit(stop.wait)
        assert concurrent.futures.wait([future], timeout=MINUTE).not_done == {future}
        stop.set()


def an_old_future() -> None:
    stop = threading.Event()
    with pytest.raises(TimeoutError):
        OLD_POOL.submit(stop.wait).result(timeout=MINUTE)
    stop.set()


def an_old_worker() -> None:
    assert OLD_POOL.submit(time.sleep, MINUTE).result() is None


def a_multiprocessing_queue() -> None:
    letters: multiprocessing.Queue[int] = multiprocessing.Queue()
    with pytest.raises(queue.Empty):
        letters.get(timeout=MINUTE)
    letters.close()


def a_connection_poll() -> None:
    one, other = multiprocessing.Pipe()
    with one, other:
        assert not one.poll(MINUTE)


def a_connection_wait() -> None:
    one, other = multiprocessing.Pipe(duplex=False)
    with one, other:
        assert multiprocessing.connection.wait([one], MINUTE) == []


def a_thread_pool() -> None:
    with multiprocessing.pool.ThreadPool(2) as pool:
        assert pool.map(time.sleep, [MINUTE, MINUTE / 2]) == [None, None]


def a_result_of_a_thread_pool() -> None:
    stop = threading.Event()
    with multiprocessing.pool.ThreadPool(1) as pool:
        with pytest.raises(multiprocessing.TimeoutError):
            pool.apply_async(stop.wait).get(timeout=MINUTE)
        stop.set()


def a_recvfrom() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.settimeout(MINUTE)
        with pytest.raises(TimeoutError):
            one.recvfrom_into(bytearray(1))


def a_send() -> None:
    with pair() as (one, _):
        one.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(bytes(65_536))
        one.settimeout(MINUTE)
        with pytest.raises(TimeoutError):
            one.send(b"x")


def a_handshake() -> None:
    with pair() as (one, _):
        one.settimeout(MINUTE)
        with pytest.raises(TimeoutError):
            ssl.create_default_context().wrap_socket(one, server_hostname="a.test")


class Client:
    """Has taken the function where no module holds it."""

    nap = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.sleep = time.sleep


OLD_CLIENT = Client()
OLD_CLOSURE = (lambda sleep: lambda: sleep(MINUTE))(time.sleep)


TAKEN_IN: dict[str, Callable[[], object]] = {
    "select.select": a_select,
    "select.poll": a_poll,
    **({"select.epoll": an_epoll} if hasattr(select, "epoll") else {}),
    "Lock.acquire": a_lock,
    "RLock.acquire": an_rlock,
    "Condition.acquire": a_condition_that_is_acquired,
    "BoundedSemaphore": a_bounded_semaphore,
    "LifoQueue.get": a_lifo_queue,
    "concurrent.futures.wait": a_futures_wait,
    "Future.result of an old pool": an_old_future,
    "sleep in an old pool": an_old_worker,
    "multiprocessing.Queue.get": a_multiprocessing_queue,
    "Connection.poll": a_connection_poll,
    "connection.wait": a_connection_wait,
    "ThreadPool.map": a_thread_pool,
    "AsyncResult.get": a_result_of_a_thread_pool,
    "recvfrom_into": a_recvfrom,
    "send": a_send,
    "TLS handshake": a_handshake,
    "a function in an attribute": lambda: OLD_CLIENT.sleep(MINUTE),
    "a function in a closure": OLD_CLOSURE,
}


@pytest.mark.parametrize("wait", TAKEN_IN.values(), ids=TAKEN_IN)
def test_a_wait_is_taken_in(wait: Callable[[], object], forward: FastForward) -> None:
    began, read = time.perf_counter(), time.monotonic()
    wait()
    assert time.perf_counter() - began < MINUTE / 2
    assert forward.clock.now() == pytest.approx(MINUTE, abs=0.01)
    assert time.monotonic() - read == pytest.approx(MINUTE, abs=0.01)


def test_everything_is_put_back() -> None:
    before = (
        OLD_CLIENT.sleep,
        OLD_CLOSURE.__closure__[0].cell_contents,
        select.select,
        threading.Lock,
        threading.RLock,
    )  # type: ignore[index]
    with FastForward():
        assert OLD_CLIENT.sleep is not before[0]
        time.sleep(1)
    after = (OLD_CLIENT.sleep, OLD_CLOSURE.__closure__[0].cell_contents, select.select, threading.Lock, threading.RLock)  # type: ignore[index]
    assert all(one is other for one, other in zip(before, after, strict=True))


# ---- refused -------------------------------------------------------------------------------------

LIBRARIES = {
    "trio": "import trio; trio.run(trio.sleep, 60)",
    "trio as a guest": "import trio; trio.lowlevel.start_guest_run(trio.sleep, 60, "
    "run_sync_soon_threadsafe=print, done_callback=print)",
    "anyio on trio": "import anyio; anyio.run(anyio.sleep, 60, backend='trio')",
    "gevent.sleep": "import gevent; gevent.sleep(60)",
    "gevent.event": "import gevent.event; gevent.event.Event().wait(60)",
    "uvloop.run": "import asyncio, uvloop; uvloop.run(asyncio.sleep(60))",
    "uvloop in a Runner": "import asyncio, uvloop; "
    "asyncio.Runner(loop_factory=uvloop.new_event_loop).run(asyncio.sleep(60))",
}
LATE = """
import sys, warnings
warnings.simplefilter("ignore")
from notnow import FastForwardError
from notnow.time_travel.fast_forward import FastForward
{before}
try:
    with FastForward() as on:
        {wait}
except FastForwardError as error:
    assert on.clock.now() == 0
    print(error)
"""


@pytest.mark.parametrize("early", [True, False], ids=["imported before", "imported meanwhile"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_loop_with_a_clock_of_its_own_is_refused(library: str, early: bool) -> None:
    name = {"anyio": "trio"}.get(library.split()[0], library.split()[0].split(".")[0])
    pytest.importorskip(name)
    before = LIBRARIES[library].split(";")[0] + (", trio" if library.startswith("anyio") else "") if early else ""
    code = LATE.format(before=before, wait=LIBRARIES[library])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (
        f"{name} keeps time on a clock of its own, which fast_forward cannot move (in thread MainThread)" in done.stdout
    )


REFUSED = {
    "signal.alarm": lambda: signal.alarm(60),
    "signal.setitimer": lambda: signal.setitimer(signal.ITIMER_REAL, 60),
    "signal.sigtimedwait": lambda: signal.sigtimedwait([signal.SIGUSR1], 60),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_timer_of_the_system_is_refused(name: str) -> None:
    with FastForward() as on, pytest.raises(FastForwardError, match=rf"{name}.*in thread MainThread .*in real time"):
        REFUSED[name]()
    assert on.clock.now() == 0


def test_a_library_that_has_replaced_time_sleep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with (
        pytest.raises(FastForwardError, match="time.sleep has been replaced by .*test_fast_forward_waits"),
        FastForward(),
    ):
        pass
    monkeypatch.undo()
    with FastForward() as on:
        time.sleep(1)
        assert on.clock.now() == 1


@pytest.mark.parametrize("name", ["start_new_thread", "start_new"])
def test_a_bare_thread_is_a_party_before_it_runs(name: str) -> None:
    for _ in range(5):
        done: queue.Queue[int] = queue.Queue()

        def work(wait: float, *, result: int, done: queue.Queue[int] = done) -> None:
            time.sleep(wait)
            done.put(result)

        with FastForward() as on:
            assert isinstance(getattr(_thread, name)(work, (30,), {"result": 7}), int)
            assert done.get(timeout=100) == 7
            assert on.clock.now() == 30


def test_a_bare_thread_refuses_what_it_always_refuses() -> None:
    with FastForward():
        for wrong in ((1, ()), (print, []), (print, (), [])):
            with pytest.raises(TypeError):
                _thread.start_new_thread(*wrong)


def test_a_reply_that_the_kernel_has_on_its_way_comes_before_the_time_out_of_its_socket() -> None:
    mine, other = socket.socketpair()
    late = threading.Thread(target=lambda: (parties.real_sleep(0.01), other.send(b"x")))
    late.real_time = True  # type: ignore[attr-defined]
    with mine, other, FastForward() as on:
        mine.settimeout(300)
        late.start()
        assert mine.recv(1) == b"x"
        assert on.clock.now() == 0
        late.join()


def test_such_a_reply_comes_before_the_end_of_another_sleep() -> None:
    mine, other = socket.socketpair()
    late = threading.Thread(target=lambda: (parties.real_sleep(0.01), other.send(b"x")))
    late.real_time = True  # type: ignore[attr-defined]
    sleeper = threading.Thread(target=time.sleep, args=(30,))
    with mine, other, FastForward() as on:
        mine.settimeout(300)
        sleeper.start()
        time.sleep(0)
        late.start()
        assert mine.recv(1) == b"x"
        assert on.clock.now() == 0
        sleeper.join()


def test_a_connection_under_way_in_the_kernel_is_made_before_its_time_out(
    forward: FastForward, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = parties.real_monotonic() + 0.3

    def late(waits: list[parties.FileWait], timeout: float = 0.0) -> list[int]:
        if not timeout and parties.real_monotonic() < made:
            return []  # a look sees nothing; a short wait will do
        return parties.signalled(waits, timeout)

    monkeypatch.setattr("notnow.time_travel.client.signalled", late)
    with FakeSMTP("smtp/healthy", clock=forward.clock) as smtp:
        socket.create_connection((smtp.host, smtp.port), timeout=600).close()
    assert forward.clock.now() == 0


# ---- threads from before -------------------------------------------------------------------------


def refused(fake: FakeSMTP) -> bool:
    try:
        smtplib.SMTP(fake.host, fake.port, timeout=300).quit()
    except smtplib.SMTPException:
        return True
    return False


def patient(fake: FakeSMTP, wait: float, tries: int) -> bool:
    for _ in range(tries):
        if not refused(fake):
            return True
        time.sleep(wait)
    return False


class Worker(threading.Thread):
    """A worker of a session: it waits for work without a time-out, or asks again and again."""

    def __init__(self, poll: float | None) -> None:
        super().__init__(name="session-worker", daemon=True)
        self.work: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self.poll = poll

    def run(self) -> None:
        while True:
            try:
                job = self.work.get(timeout=self.poll)
            except queue.Empty:
                continue
            if job is None:
                return
            job()

    def do(self, job: Callable[[], object]) -> object:
        done: queue.Queue[object] = queue.Queue()
        self.work.put(lambda: done.put(job()))
        return done.get()


@pytest.mark.parametrize("poll", [None, 0.3], ids=["waits", "polls"])
def test_a_worker_of_the_session_is_a_party(poll: float | None) -> None:
    worker = Worker(poll)
    worker.start()
    for _ in range(3):
        with FastForward() as on, FakeSMTP("smtp/overload", outage="1h", clock=on.clock) as fake:
            assert worker.do(lambda: patient(fake, 4, 3)) is False
            assert [round(c.opened_at) for c in fake.journal.connections] == [0, 4, 8]
            assert on.clock.now() == pytest.approx(12, abs=1)
    assert worker.do(lambda: 1) == 1
    worker.work.put(None)
    worker.join(30)
    assert not worker.is_alive()


def test_a_pool_of_the_module_is_a_party_in_each_test() -> None:
    for _ in range(3):
        with FastForward() as on, FakeSMTP("smtp/overload", outage="1h", clock=on.clock) as fake:
            both = [OLD_POOL.submit(patient, fake, wait, 3) for wait in (4, 7)]
            assert [future.result() for future in both] == [False, False]
            assert sorted(round(c.opened_at) for c in fake.journal.connections) == [0, 0, 4, 7, 8, 14]


def test_an_old_pool_may_start_its_threads_within_a_test() -> None:
    """They wait for work at the pool's own queue, which is not seen; nothing is told of that."""
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            with FastForward() as on:
                for wait in (MINUTE, 2 * MINUTE):
                    pool.submit(time.sleep, wait).result()
                    time.sleep(1)
                assert on.clock.now() == 3 * MINUTE + 2


def test_a_loop_from_before_is_a_party() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="old-loop", daemon=True)
    thread.start()
    with FastForward() as on:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(MINUTE), loop).result()
        assert on.clock.now() == pytest.approx(MINUTE, abs=0.01)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


@linux
def test_a_thread_that_was_asleep_while_the_clock_moved_is_told_when_it_comes_to_a_fake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bystanders, "WARM", 0.1)
    told: list[BaseException] = []
    come, asleep = threading.Event(), threading.Event()
    moved, move = os.pipe()

    def sleepy() -> None:
        asleep.set()
        parties.real_select([moved], [], [], 60)
        try:
            with socket.socket() as sock:
                sock.connect((fake.host, fake.port))
        except FastForwardError as error:
            told.append(error)
        come.set()

    thread = threading.Thread(target=sleepy, name="sleepy", daemon=True)
    thread.start()
    asleep.wait()
    with pytest.raises(FastForwardError, match="sleepy in sleepy.* comes at the wrong scenario time"):
        with FastForward() as on, FakeSMTP("smtp/overload", outage="1h", clock=on.clock) as fake:
            time.sleep(3600)
            os.write(move, b"!")
            come.wait()
    assert "sleepy" in str(told[0])
    os.close(moved)
    os.close(move)


def test_a_thread_from_before_that_is_still_waiting_goes_on_afterwards() -> None:
    rounds, stop, again = [0], threading.Event(), threading.Event()

    def heart() -> None:
        while not stop.wait(0.2):
            rounds[0] += 1
            again.set()

    thread = threading.Thread(target=heart, daemon=True)
    thread.start()
    with FastForward() as on:
        time.sleep(10)
        assert on.clock.now() == 10
    again.clear()
    assert again.wait(30)
    stop.set()
    thread.join(30)
    assert rounds[0] > 20


@linux
def test_a_thread_from_before_that_works_for_ever_does_not_hang_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "HELD", 0.5)
    stop: list[int] = []

    def spin() -> None:
        while not stop:
            pass

    thread = threading.Thread(target=spin, name="spinner", daemon=True)
    thread.start()
    try:
        with FastForward(), pytest.raises(FastForwardError, match="spinner in spin.* has been at work for 0.5 s"):
            time.sleep(60)
    finally:
        stop.append(1)
        thread.join()


@pytest.mark.parametrize("module", ["pytest_timeout", "execnet.gateway_base", "pydevd"])
def test_watchdogs_live_in_real_time(module: str, forward: FastForward) -> None:
    def watch() -> None:
        seen.append(time.monotonic())

    seen: list[float] = []
    watch.__module__ = module
    time.sleep(1e7)
    timer = threading.Timer(0.01, watch)
    assert watchdogs.is_watchdog(timer)
    timer.start()
    timer.join()
    assert forward.clock.now() == 1e7
    assert time.monotonic() - seen[0] > 9e6


# ---- one at a time, deadlocks, real time ---------------------------------------------------------


def test_several_threads_at_once_do_not_wait_really() -> None:
    outcomes: list[str] = []
    ready = threading.Barrier(4)

    def one() -> None:
        ready.wait()
        try:
            with FastForward() as on:
                time.sleep(3600)
                outcomes.append(f"{on.clock.now():g}")
        except FastForwardError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4
    assert "3600" in outcomes
    assert all(outcome == "3600" or "on already; one at a time" in outcome for outcome in outcomes)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "SILENCE", 0.3)


def wait_for_nothing() -> None:
    threading.Event().wait()


def read_for_ever() -> None:
    with pair() as (one, _):
        one.recv(1)


def acquire_for_ever() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def join_for_ever() -> None:
    thread = threading.Thread(target=wait_for_nothing, name="the other", daemon=True)
    thread.start()
    thread.join()


@pytest.mark.parametrize("wait", [wait_for_nothing, read_for_ever, acquire_for_ever, join_for_ever])
def test_a_deadlock_is_told_with_each_ones_stack(wait: Callable[[], None], impatient: None) -> None:
    with pytest.raises(DeadlockError, match="deadlock at 0s of scenario time") as caught, FastForward():
        wait()
    assert "MainThread waits here:" in str(caught.value)
    assert f"in {wait.__name__}" in str(caught.value)
    if wait is join_for_ever:
        assert "the other waits here:" in str(caught.value)
        assert "in wait_for_nothing" in str(caught.value)


def test_a_deadlock_with_a_fake_is_told_after_all_that_it_had_to_do(impatient: None) -> None:
    with FastForward() as on, FakeSMTP("smtp/stalled-greeting", outage="1h", clock=on.clock) as fake:
        client = smtplib.SMTP()
        with pytest.raises(DeadlockError, match="deadlock at 1h of scenario time") as caught:
            client.connect(fake.host, fake.port)
        client.close()
        assert "smtplib.py" in str(caught.value)


def test_who_waits_for_the_journal_is_in_no_deadlock(impatient: None) -> None:
    with FastForward() as on, FakeSMTP(clock=on.clock) as fake:
        with pytest.raises(TimeoutError, match="in vain"):
            fake.wait_for(lambda journal: False, timeout=1)


@pytest.mark.parametrize("how", ["a child", "outside"])
def test_real_time_passes_at_its_own_speed(how: str) -> None:
    with FastForward() as on:
        began = time.perf_counter()
        if how == "a child":
            subprocess.run([sys.executable, "-c", "import time; time.sleep(2)"], check=True)
        else:
            with on.outside():
                parties.real_sleep(2)
        took, passed = time.perf_counter() - began, on.clock.now()
    assert 0.8 * took < passed <= took


# ---- sockets fail as ever ------------------------------------------------------------------------


def read_file(sock: socket.socket) -> bytes:
    with sock.makefile("rb") as file:
        return file.read(1)


CALLS: dict[str, Callable[[socket.socket], object]] = {
    "sendall": lambda s: s.sendall(b"x"),
    "sendall of nothing": lambda s: s.sendall(b""),
    "sendall of text": lambda s: s.sendall("x"),  # type: ignore[arg-type]
    "send": lambda s: s.send(b"x"),
    "sendto": lambda s: s.sendto(b"x", ("127.0.0.1", 9)),
    "sendmsg": lambda s: s.sendmsg([b"x"]),
    "recv": lambda s: s.recv(1),
    "recv_into": lambda s: s.recv_into(bytearray(1)),
    "recvfrom": lambda s: s.recvfrom(1),
    "recvmsg": lambda s: s.recvmsg(1),
    "accept": lambda s: s.accept(),
    "connect": lambda s: s.connect(("127.0.0.1", 9)),
    "connect_ex": lambda s: s.connect_ex(("127.0.0.1", 9)),
    "makefile": lambda s: read_file(s),
    "shutdown": lambda s: s.shutdown(socket.SHUT_RDWR),
    "do_handshake": lambda s: s.do_handshake(),  # type: ignore[attr-defined]
    "unwrap": lambda s: s.unwrap(),  # type: ignore[attr-defined]
    "read": lambda s: s.read(1),  # type: ignore[attr-defined]
    "write": lambda s: s.write(b"x"),  # type: ignore[attr-defined]
}


def closed(plain: bool) -> socket.socket:
    sock = socket.socket() if plain else in_tls(socket.socket())
    sock.close()
    return sock


def in_tls(sock: socket.socket) -> socket.socket:
    with sock:  # which has lost its descriptor to the other one, if all is well
        return ssl.create_default_context().wrap_socket(sock, server_hostname="a.test", do_handshake_on_connect=False)


def fresh(plain: bool) -> socket.socket:
    return socket.socket() if plain else in_tls(socket.socket())


def deaf(plain: bool) -> socket.socket:
    """Its own way out is shut."""
    one, other = socket.socketpair()
    one.shutdown(socket.SHUT_WR)
    other.close()
    return one if plain else in_tls(one)


def outcome(make: Callable[[bool], socket.socket], plain: bool, timeout: float | None, call: str) -> object:
    try:
        sock = make(plain)
        if sock.fileno() >= 0:
            sock.settimeout(timeout)
    except Exception as error:
        return type(error)
    try:
        return CALLS[call](sock)
    except Exception as error:
        return type(error), getattr(error, "errno", None), re.sub(r"fd=\d+", "fd", str(error))
    finally:
        sock.close()


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "TLS"])
@pytest.mark.parametrize("make", [closed, fresh, deaf])
def test_each_call_raises_what_it_raises_without(make: Callable[[bool], socket.socket], plain: bool) -> None:
    def all_outcomes() -> dict[object, object]:
        waits = {"accept", "connect"}
        return {
            (call, timeout): outcome(make, plain, timeout, call)
            for call in CALLS
            for timeout in (None, 0, 5)
            if make is not fresh or call not in waits
        }

    without = all_outcomes()
    with FastForward():
        assert all_outcomes() == without
    if make is closed and plain:
        assert without["sendall", None] == (OSError, errno.EBADF, "[Errno 9] Bad file descriptor")


def test_a_client_sees_that_the_certificate_is_wrong_and_no_error_of_a_closed_socket(forward: FastForward) -> None:
    with FakeSMTP("smtp/untrusted-certificate", clock=forward.clock) as fake:
        with pytest.raises(ssl.SSLCertVerificationError):
            with smtplib.SMTP(fake.host, fake.port, timeout=30) as client:
                client.starttls(context=ssl.create_default_context(cafile=fake.ca_file))


def test_freezegun_within_fast_forward_leaves_no_real_clock_behind(forward: FastForward) -> None:
    read = time.monotonic()
    with freezegun.freeze_time("2030-01-01"):
        time.sleep(MINUTE)
        assert forward.clock.now() == MINUTE
    time.sleep(MINUTE)
    assert time.monotonic() - read == pytest.approx(2 * MINUTE, abs=0.01)
    assert time.time() == pytest.approx(forward.clock.epoch + 2 * MINUTE, abs=0.01)


def test_a_worker_of_trio_between_two_jobs_is_nobody_to_wait_for() -> None:
    """Without a job it ends after ten real seconds."""
    trio.run(trio.to_thread.run_sync, int)
    time.sleep(0.1)  # until it waits again
    waiting = bystanders.Bystanders().in_real_waits([threading.get_ident()])
    assert not [place for place in map(bystanders.where, waiting) if "Trio" in place]
