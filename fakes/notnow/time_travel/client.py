"""The replacements for functions that wait or tell the time.

Each one first checks whether the calling thread takes part: the fakes' thread, pytest's threads, and threads that
existed before get the real function.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import functools
import ipaddress
import os
import select
import selectors
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from notnow.journal import Journal
from notnow.servers.base.fake import Fake
from notnow.time_travel import locks, polls, rebinding, refusals, watchdogs
from notnow.time_travel import world as worlds
from notnow.time_travel.parties import (
    REST,
    WaitResult,
    real_monotonic,
    real_monotonic_ns,
    real_poll,
    real_select,
    real_sleep,
    signalled,
)
from notnow.time_travel.placing import Real, put, wrap
from notnow.time_travel.world import World, seen

_real_start_new = _thread.start_new_thread
_real_start, _real_join, _real_send = threading.Thread.start, threading.Thread.join, socket.socket.send

# ---- time ----------------------------------------------------------------------------------------


def sleep(seconds: float) -> None:
    """time.sleep"""
    world = seen()
    if world is None or not seconds >= 0:
        real_sleep(seconds)
    elif world.park(seconds) is WaitResult.CLOSED:
        real_sleep(min(seconds, REST))  # of a thread that existed before: it goes on where it is


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


def _lives_in_real_time(thread: threading.Thread) -> bool:
    """True for the fakes' thread, which does everything at once, and for watchdogs of the test run."""
    return bool(getattr(thread, "real_time", False)) or watchdogs.is_watchdog(thread)


def start(thread: threading.Thread) -> None:
    """threading.Thread.start"""
    world = seen()
    if world is None or thread.ident is not None:
        if worlds.current is not None:
            worlds.current.starts_really(thread)
        _real_start(thread)
    elif _lives_in_real_time(thread):
        with world.unseen():
            _real_start(thread)
    else:
        world.start(thread, _real_start)


def start_new_thread(function: Any, args: Any, kwargs: Any = None, /) -> int:
    """_thread.start_new_thread. A thread that a party starts is a party from its first step, or the clock might move without it."""
    sound = callable(function) and isinstance(args, tuple) and isinstance(kwargs, (dict, type(None)))
    if seen() is None or not sound:
        return _real_start_new(function, args) if kwargs is None else _real_start_new(function, args, kwargs)
    thread = threading.Thread(target=function, args=args, kwargs=kwargs, daemon=True)
    start(thread)
    return thread.ident or 0


def join(thread: threading.Thread, timeout: float | None = None) -> None:
    """threading.Thread.join"""
    world = seen()
    party = None if world is None else world.party_of(thread)
    if world is None or (party is not None and party is world.party) or not thread.is_alive():
        _real_join(thread, timeout)
    elif _lives_in_real_time(thread) or thread in world.bystanders.excused:
        with world.unseen() if _lives_in_real_time(thread) else world.outside():
            _real_join(thread, timeout)
    else:

        def over() -> bool:
            return not thread.is_alive() if party is None or party.adopted else party.over

        if world.park(timeout if timeout is None else max(0.0, timeout), over=over) is not WaitResult.TIMED_OUT:
            _real_join(thread, None if over() else timeout)


# ---- selectors and sockets -----------------------------------------------------------------------


def _reading(real: Real) -> Real:
    """A method of a socket that waits for something to read; its time-out is scenario time."""

    @functools.wraps(real)
    def read(sock: socket.socket, *args: Any, **options: Any) -> Any:
        world, timeout = seen(), sock.gettimeout()
        if world is not None and timeout != 0 and sock.fileno() >= 0:
            _await(world, sock, select.POLLIN, timeout, "timed out")
        return real(sock, *args, **options)

    return read


def _await(world: World, sock: socket.socket, mask: int, timeout: float | None, complaint: str) -> WaitResult:
    """Wait for a socket. Raises TimeoutError with the text of the real call."""
    result = world.park(timeout, files=[(sock.fileno(), mask)], alone=True)
    if result is WaitResult.TIMED_OUT:
        raise TimeoutError(complaint)
    return result


def _sendall(real: Real) -> Real:
    """socket.sendall, which waits while a fake does not read."""

    @functools.wraps(real)
    def sendall(sock: socket.socket, data: Any, flags: int = 0) -> None:
        world, timeout = seen(), sock.gettimeout()
        if world is None or timeout == 0 or sock.fileno() < 0:
            real(sock, data, flags)  # the system refuses a closed socket: EBADF
            return
        try:
            left = memoryview(data).cast("B")
        except TypeError:
            real(sock, data, flags)
            raise
        if not len(left):
            real(sock, data, flags)  # which also reports a broken connection
        end = None if timeout is None else monotonic() + timeout
        while len(left):
            if not signalled([(sock.fileno(), select.POLLOUT)]):
                _await(world, sock, select.POLLOUT, _until(end), "timed out")
            with contextlib.suppress(BlockingIOError):
                left = left[_real_send(sock, left, flags | socket.MSG_DONTWAIT) :]

    return sendall


def _sending(real: Real) -> Real:
    """A method of a socket that waits until its peer reads."""

    @functools.wraps(real)
    def send(sock: socket.socket, *args: Any, **options: Any) -> Any:
        world, timeout = seen(), sock.gettimeout()
        if world is not None and timeout != 0 and sock.fileno() >= 0:
            room = [(sock.fileno(), select.POLLOUT)]
            if not signalled(room):
                _await(world, sock, select.POLLOUT, timeout, "timed out")
        return real(sock, *args, **options)

    return send


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
    """Make the kernel send small pieces at once: a delay of real milliseconds could become hours of scenario time."""
    with contextlib.suppress(OSError):  # no TCP
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _connecting(real: Real) -> Real:
    """socket.connect. A fake answers at once or never; then the client's time-out is scenario time."""
    outside = _outside(real)

    @functools.wraps(real)
    def connect(sock: socket.socket, address: Any) -> None:
        world, timeout = seen(), sock.gettimeout()
        ours = world is not None and sock.fileno() >= 0 and _is_fake(world, address)
        if world is not None and ours:
            world.refuse_missed()
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
        if (
            not signalled(under_way, worlds.LAST_LOOK)
            and world.park(timeout, over=lambda: bool(signalled(under_way))) is WaitResult.TIMED_OUT
        ):
            raise TimeoutError("timed out")
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))

    return connect


def _until(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - monotonic())


def _tls(real: Real) -> Real:
    """A method of a TLS socket: received bytes need not be data, and a read may have to write."""

    @functools.wraps(real)
    def call(sock: ssl.SSLSocket, *args: Any, **options: Any) -> Any:
        world, timeout = seen(), sock.gettimeout()
        if world is None or timeout == 0 or sock.fileno() < 0 or getattr(sock, "_sslobj", None) is None:
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
                if sock.fileno() >= 0:  # an error here may have closed it, and the caller must see that error
                    sock.settimeout(timeout)
            if _await(world, sock, mask, _until(end), f"The {real.__name__} operation timed out") is WaitResult.CLOSED:
                return real(sock, *args, **options)

    return call


# ---- the outside world, and what is refused ---------------------------------------------------------


def _outside(real: Real) -> Real:
    """A call that waits for other processes or machines, which live in real time."""

    @functools.wraps(real)
    def really(*args: Any, **options: Any) -> Any:
        world = seen()
        if world is None:
            return real(*args, **options)
        with world.outside():
            return real(*args, **options)

    return really


def _looking_up(real: Real) -> Real:
    """A name look-up waits for other machines; addresses and this machine's own names cost no time."""
    outside = _outside(real)

    @functools.wraps(real)
    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        world = seen()
        if world is None or not _is_here(host):
            return outside(host, *args, **options)
        with world.unseen():
            return real(host, *args, **options)

    return look_up


def _is_here(host: Any) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "localhost")
    try:
        return name == "localhost" or bool(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        return False


def _wait_for(real: Real) -> Real:
    """Fake.wait_for, on a visible lock: scenario time may have to pass before its predicate holds."""

    @functools.wraps(real)
    def wait_for(fake: Fake, predicate: Callable[[Journal], object], timeout: Any = 5.0) -> None:
        if seen() is None or asyncio._get_running_loop() is not None:
            real(fake, predicate, timeout)
        else:
            asyncio.run_coroutine_threadsafe(fake.await_for(predicate, timeout), fake._bridge.loop).result()

    return wait_for


def _popen(real: Real) -> Real:
    @functools.wraps(real)
    def init(child: subprocess.Popen[bytes], *args: Any, **options: Any) -> None:
        real(child, *args, **options)
        if (world := seen()) is not None:
            world.children.add(child)

    return init


# ---- on and off ----------------------------------------------------------------------------------

_READS = ("recv", "recv_into", "recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "accept")
_SELECTORS = ("EpollSelector", "KqueueSelector", "PollSelector", "SelectSelector")
_PROCESSES = ("waitpid", "wait", "wait3", "wait4", "system", *(("waitid",) if hasattr(os, "waitid") else ()))
_SIGNALS = ("pause", "sigwait", "sigwaitinfo")
_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyaddr")


def install(stack: ExitStack) -> None:
    """Put all of this in place until `stack` closes."""
    wrap(stack, socket.socket, _reading, *_READS)
    wrap(stack, socket.socket, _sendall, "sendall")
    wrap(stack, socket.socket, _sending, "send", "sendto", "sendmsg")
    wrap(stack, socket.socket, _connecting, "connect")
    wrap(stack, socket.socket, _accepting, "accept")
    wrap(stack, socket.socket, _outside, "connect_ex")
    wrap(stack, ssl.SSLSocket, _tls, "read", "write", "send", "do_handshake", "unwrap")
    wrap(stack, socket, _looking_up, *_LOOKUPS)
    wrap(stack, os, _outside, *_PROCESSES)
    wrap(stack, signal, _outside, *(name for name in _SIGNALS if hasattr(signal, name)))
    wrap(stack, subprocess.Popen, _outside, "wait", "communicate")
    wrap(stack, subprocess.Popen, _popen, "__init__")
    wrap(stack, Fake, _wait_for, "wait_for")
    for name in _SELECTORS:
        if hasattr(selectors, name):
            wrap(stack, getattr(selectors, name), polls.selector_select, "select")
    refusals.install(stack)
    put(stack, threading, "_allocate_lock", locks.allocate_lock)
    for name, real in (("select", real_select), ("poll", real_poll), ("epoll", polls.real_epoll)):
        if real is not None:
            put(stack, select, name, polls.SUBSTITUTES[real])
    put(stack, _thread, "start_new", start_new_thread)  # its older name
    put(stack, threading, "Lock", locks.Lock)
    put(stack, threading, "RLock", locks.rlock)
    put(stack, threading.Thread, "start", start)
    put(stack, threading.Thread, "join", join)
    rebinding.rebind(stack, _SUBSTITUTES)


_SUBSTITUTES: dict[Any, Any] = {
    real_sleep: sleep,
    real_monotonic: monotonic,
    real_monotonic_ns: monotonic_ns,
    _real_start_new: start_new_thread,
    **locks.SUBSTITUTES,
    **polls.SUBSTITUTES,
}
