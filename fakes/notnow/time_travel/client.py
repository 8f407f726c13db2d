"""What client code meets in place of the functions that wait, or that tell the time.

Each of these asks whether the calling thread takes part: the fakes' thread, pytest's, and all those that were
there before, get the real function.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import functools
import os
import queue
import select
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from notnow.errors import FastForwardError
from notnow.journal import Journal
from notnow.servers._fake import Fake
from notnow.time_travel import rebinding, watchdogs
from notnow.time_travel.parties import FileWait, Verdict, real_monotonic, real_monotonic_ns, real_sleep, signalled
from notnow.time_travel.world import World, seen

Real = Callable[..., Any]

_real_start, _real_join = threading.Thread.start, threading.Thread.join

# ---- time ----------------------------------------------------------------------------------------


def sleep(seconds: float) -> None:
    """time.sleep"""
    world = seen()
    if world is None or not seconds >= 0:
        real_sleep(seconds)
    else:
        world.park(seconds)


def monotonic() -> float:
    """time.monotonic"""
    world = seen()
    reading = None if world is None else world.monotonic()
    return real_monotonic() if reading is None else reading


def monotonic_ns() -> int:
    """time.monotonic_ns"""
    world = seen()
    reading = None if world is None else world.monotonic()
    return real_monotonic_ns() if reading is None else round(reading * 1e9)


# ---- threads and locks ---------------------------------------------------------------------------


class Waiter:
    """Stands for the lock that Condition.wait makes; Event, Semaphore, Queue, Timer and Future wait on it."""

    def __init__(self, world: World) -> None:
        self._world, self._lock = world, _thread.allocate_lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(False):
            return True
        if not blocking:
            return False
        verdict = self._world.park(None if timeout < 0 else timeout, over=lambda: not self._lock.locked())
        if verdict is Verdict.CLOSED:
            return self._lock.acquire(True, timeout)
        return self._lock.acquire(False)

    def release(self) -> None:
        self._lock.release()
        self._world.nudge()

    def locked(self) -> bool:
        return self._lock.locked()


def allocate_lock() -> Any:
    """threading._allocate_lock, of which Condition.wait is the only user after a thread has started."""
    world = seen()
    return _thread.allocate_lock() if world is None else Waiter(world)


class SimpleQueue(queue._PySimpleQueue):  # type: ignore[name-defined,misc]
    """queue.SimpleQueue, on which thread pools wait, as Python code: the other waits on a lock of its own."""


def _lives_in_real_time(thread: threading.Thread) -> bool:
    """The thread of the fakes: what it is asked for is done at once. Or a watchdog of the whole test run."""
    return bool(getattr(thread, "real_time", False)) or watchdogs.is_watchdog(thread)


def start(thread: threading.Thread) -> None:
    """threading.Thread.start"""
    world = seen()
    if world is None or thread.ident is not None:
        _real_start(thread)
    elif _lives_in_real_time(thread):
        with world.unseen():
            _real_start(thread)
    else:
        world.start(thread, _real_start)


def join(thread: threading.Thread, timeout: float | None = None) -> None:
    """threading.Thread.join"""
    world = seen()
    party = None if world is None else world.party_of(thread)
    if world is None or (party is not None and party is world.party):
        _real_join(thread, timeout)
    elif party is None:
        with world.unseen() if _lives_in_real_time(thread) else world.outside():
            _real_join(thread, timeout)
    elif world.park(timeout if timeout is None else max(0.0, timeout), over=lambda: party.over) is not Verdict.LATE:
        _real_join(thread, None if party.over else timeout)


# ---- selectors and sockets -----------------------------------------------------------------------


def _select(real: Real) -> Real:
    """The select method of a selector: asyncio's only wait."""

    @functools.wraps(real)
    def select_(selector: Any, timeout: float | None = None) -> Any:
        world = seen()
        if world is None or (timeout is not None and timeout <= 0):
            return real(selector, timeout)
        verdict = world.park(timeout, files=_files(selector))
        return real(selector, timeout if verdict is Verdict.CLOSED else 0)

    return select_


def _files(selector: selectors.BaseSelector) -> list[FileWait]:
    masks = ((selectors.EVENT_READ, select.POLLIN), (selectors.EVENT_WRITE, select.POLLOUT))
    return [(key.fd, sum(poll for event, poll in masks if key.events & event)) for key in selector.get_map().values()]


def _reading(real: Real) -> Real:
    """A method of a socket that waits for something to read; its time-out is scenario time."""

    @functools.wraps(real)
    def read(sock: socket.socket, *args: Any, **options: Any) -> Any:
        world, timeout = seen(), sock.gettimeout()
        if world is not None and timeout != 0 and sock.fileno() >= 0:
            _await(world, sock, select.POLLIN, timeout, "timed out")
        return real(sock, *args, **options)

    return read


def _await(world: World, sock: socket.socket, mask: int, timeout: float | None, complaint: str) -> Verdict:
    """Wait for a socket. Raises TimeoutError with the words that the real call has for it."""
    verdict = world.park(timeout, files=[(sock.fileno(), mask)], alone=True)
    if verdict is Verdict.LATE:
        raise TimeoutError(complaint)
    return verdict


def _sendall(real: Real) -> Real:
    """socket.sendall, which waits where a fake does not read."""

    @functools.wraps(real)
    def sendall(sock: socket.socket, data: Any, flags: int = 0) -> None:
        world, timeout = seen(), sock.gettimeout()
        if world is None or timeout == 0:
            real(sock, data, flags)
            return
        left = memoryview(data).cast("B")
        end = None if timeout is None else monotonic() + timeout
        while len(left):
            if not signalled([(sock.fileno(), select.POLLOUT)]):
                _await(world, sock, select.POLLOUT, _until(end), "timed out")
            with contextlib.suppress(BlockingIOError):
                left = left[sock.send(left, flags | socket.MSG_DONTWAIT) :]

    return sendall


def _is_fake(world: World, address: Any) -> bool:
    if not isinstance(address, tuple) or address[1] not in world.clock.ports:
        return False
    return address[0] in ("localhost", "::1") or str(address[0]).startswith("127.")


def _accepting(real: Real) -> Real:
    """socket.accept."""

    @functools.wraps(real)
    def accept(sock: socket.socket) -> tuple[socket.socket, Any]:
        new, address = real(sock)
        if seen() is not None:
            _hold_nothing_back(new)
        return new, address

    return accept


def _hold_nothing_back(sock: socket.socket) -> None:
    """Have the kernel send small pieces at once: what it kept for some real milliseconds would be late by hours."""
    with contextlib.suppress(OSError):  # no TCP
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connecting(real: Real) -> Real:
    """socket.connect. A fake answers at once, or lets nobody through: then the client's time-out is scenario time."""
    outside = _outside(real)

    @functools.wraps(real)
    def connect(sock: socket.socket, address: Any) -> None:
        world, timeout = seen(), sock.gettimeout()
        ours = world is not None and _is_fake(world, address)
        if ours:
            _hold_nothing_back(sock)
        if world is None or not timeout or not ours:
            outside(sock, address)
            return
        sock.settimeout(0)
        try:
            with contextlib.suppress(BlockingIOError):
                real(sock, address)
        finally:
            sock.settimeout(timeout)
        under_way = [(sock.fileno(), select.POLLOUT)]
        if not signalled(under_way) and world.park(timeout, over=lambda: bool(signalled(under_way))) is Verdict.LATE:
            raise TimeoutError("timed out")
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))

    return connect


def _until(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - monotonic())


def _tls(real: Real) -> Real:
    """A method of a TLS socket: bytes that come need not be data, and a read may have to write."""

    @functools.wraps(real)
    def call(sock: ssl.SSLSocket, *args: Any, **options: Any) -> Any:
        world, timeout = seen(), sock.gettimeout()
        if world is None or timeout == 0 or getattr(sock, "_sslobj", None) is None:
            return real(sock, *args, **options)
        end = None if timeout is None else monotonic() + timeout
        while True:
            sock.settimeout(0)
            try:
                return real(sock, *args, **options)
            except ssl.SSLWantReadError:
                mask = select.POLLIN
            except ssl.SSLWantWriteError:
                mask = select.POLLOUT
            finally:
                sock.settimeout(timeout)
            if _await(world, sock, mask, _until(end), f"The {real.__name__} operation timed out") is Verdict.CLOSED:
                return real(sock, *args, **options)

    return call


# ---- what is outside, and what cannot be ---------------------------------------------------------


def _outside(real: Real) -> Real:
    """A call that waits for other processes, or for other machines: they live in real time."""

    @functools.wraps(real)
    def really(*args: Any, **options: Any) -> Any:
        world = seen()
        if world is None:
            return real(*args, **options)
        with world.outside():
            return real(*args, **options)

    return really


def _wait_for(real: Real) -> Real:
    """Fake.wait_for, on a lock that is seen: scenario time may have to pass before its predicate holds."""

    @functools.wraps(real)
    def wait_for(fake: Fake, predicate: Callable[[Journal], object], timeout: float = 5.0) -> None:
        if seen() is None or asyncio._get_running_loop() is not None:
            real(fake, predicate, timeout)
        else:
            asyncio.run_coroutine_threadsafe(fake.await_for(predicate, timeout), fake.loop).result()

    return wait_for


def _popen(real: Real) -> Real:
    @functools.wraps(real)
    def init(child: subprocess.Popen[bytes], *args: Any, **options: Any) -> None:
        real(child, *args, **options)
        if (world := seen()) is not None:
            world.children.add(child)

    return init


_refused_loops: weakref.WeakSet[Any] = weakref.WeakSet()  # what is refused once may still be cleaned up


def _no_foreign_loop(real: Real) -> Real:
    @functools.wraps(real)
    def run(runner: asyncio.Runner, *args: Any, **options: Any) -> Any:
        loop = runner.get_loop() if seen() is not None else None
        if loop is not None and not isinstance(loop, asyncio.BaseEventLoop):
            for work in (*args, *options.values()):
                if asyncio.iscoroutine(work):
                    work.close()  # or Python complains that it was never awaited
            _refused_loops.add(loop)
            raise _beyond(type(loop).__module__)
        return real(runner, *args, **options)

    return run


def _not_first(real: Real) -> Real:
    @functools.wraps(real)
    def run_forever(loop: Any) -> Any:
        if seen() is not None and loop not in _refused_loops:
            _refused_loops.add(loop)
            raise _beyond("uvloop")
        return real(loop)

    return run_forever


def _refused(name: str) -> Callable[[Real], Real]:
    def wrap(real: Real) -> Real:
        @functools.wraps(real)
        def refuse(*args: Any, **options: Any) -> Any:
            if seen() is not None:
                raise _beyond(name)
            return real(*args, **options)

        return refuse

    return wrap


def _beyond(name: str) -> FastForwardError:
    return FastForwardError(
        f"{name} keeps time on a clock of its own, which fast_forward cannot move; "
        "run this test on asyncio's own event loop, or without fast_forward"
    )


# ---- on and off ----------------------------------------------------------------------------------

_READS = ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "accept")
_SELECTORS = ("EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector")
_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyaddr")
_OTHERS = (("trio", "run"), ("gevent", "sleep"))


def install(stack: ExitStack) -> None:
    """Put all of this in place until `stack` closes."""
    _wrap(stack, socket.socket, _reading, *_READS)
    _wrap(stack, socket.socket, _sendall, "sendall")
    _wrap(stack, socket.socket, _connecting, "connect")
    _wrap(stack, socket.socket, _accepting, "accept")
    _wrap(stack, socket.socket, _outside, "connect_ex")
    _wrap(stack, ssl.SSLSocket, _tls, "read", "send", "do_handshake", "unwrap")
    _wrap(stack, socket, _outside, *_LOOKUPS)
    _wrap(stack, os, _outside, "waitpid", "wait")
    _wrap(stack, subprocess.Popen, _outside, "wait", "communicate")
    _wrap(stack, subprocess.Popen, _popen, "__init__")
    _wrap(stack, Fake, _wait_for, "wait_for")
    _wrap(stack, asyncio.Runner, _no_foreign_loop, "run")
    for name in _SELECTORS:
        if hasattr(selectors, name):
            _wrap(stack, getattr(selectors, name), _select, "select")
    for module, name in _OTHERS:
        if module in sys.modules:
            _wrap(stack, sys.modules[module], _refused(module), name)
    if "uvloop" in sys.modules:
        _wrap(stack, sys.modules["uvloop"].Loop, _not_first, "run_forever")
    _put(stack, threading, "_allocate_lock", allocate_lock)
    _put(stack, threading.Thread, "start", start)
    _put(stack, threading.Thread, "join", join)
    rebinding.rebind(stack, _SUBSTITUTES)


_SUBSTITUTES: dict[Any, Any] = {
    real_sleep: sleep,
    real_monotonic: monotonic,
    real_monotonic_ns: monotonic_ns,
    queue.SimpleQueue: SimpleQueue,
}


def _wrap(stack: ExitStack, owner: Any, wrapper: Callable[[Real], Real], *names: str) -> None:
    for name in names:
        _put(stack, owner, name, wrapper(getattr(owner, name)))


def _put(stack: ExitStack, owner: Any, name: str, new: object) -> None:
    """Set an attribute; what was inherited before is inherited again afterwards."""
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, new)
