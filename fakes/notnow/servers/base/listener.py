"""Accepting connections, and turning clients away without losing the reply that they get.

The engine decides about a connection when it is accepted, before a session is built. A connection that gets one reply and
a close stays a bare socket: the fake sends the reply, closes its sending side, and reads and drops the bytes that the
client still has in flight. Otherwise a reset would overtake the reply. RFC 9112 §9.6 describes this lingering close for
HTTP; SMTP and FTP clients lose their 421 in the same way.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any, Protocol

from notnow.errors import StartError
from notnow.journal import Connection
from notnow.servers.base.runner import begin_to_read, end_reading
from notnow.servers.base.transport import tells_once

LINGER = 2.0  # real seconds that a refused client has to read the reply and close, after the last byte that it sent
PERIODS = 15  # of LINGER; a client that still sends then is cut off
BACKLOG = 1024
_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # a struct linger: on, zero seconds
LOOK = 0.005  # real seconds between two looks at clients that have just been refused
TURNS = 2  # of the loop before a new connection is decided on; each costs a system call
UVLOOP_TURNS = 5  # the same: uvloop needs four to report that a TLS client has closed
MORE = getattr(socket, "MSG_MORE", 0)  # Linux: more follows. The reply leaves in one segment with the FIN behind it
IPV4, IPV6 = int(socket.AF_INET), int(socket.AF_INET6)  # a socket's own `family` makes an enum of it
PAUSE = 0.1  # real seconds until the next try to accept after the file descriptors ran out

Accepted = Callable[[socket.socket, tuple[str, int]], None]


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket; `::` is for both families. Raises StartError, which names the address and what to do.

    `shared`: another socket of this process listens there already, and `share` was called with it.
    """
    try:
        family, address = _resolved(host, port)
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        sock = socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=shared, dualstack_ipv6=both)
    except OverflowError:
        raise StartError(f"port is {port}; allowed: 0 (any free one) to 65535") from None
    except OSError as error:
        raise StartError(error.errno, _why(host, port, error)) from None
    # Accepted sockets inherit it. asyncio sets it only on sockets that are marked as TCP, and these are not.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def _resolved(host: str, port: int) -> tuple[int, Any]:
    """The family and the address to bind. An IPv4 address is one as it stands."""
    try:
        socket.inet_pton(IPV4, host)
    except OSError:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][::4]
    return IPV4, (host, port)


def share(sock: socket.socket) -> None:
    """Let other sockets listen where this one does; Linux then spreads the clients over them.

    It has to come after `bind`, which fails where another program listens already, even one that would share.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _why(host: str, port: int, error: OSError) -> str:
    where = f"cannot listen on {host}:{port}"
    if error.errno == errno.EADDRINUSE and port == 0:
        return f"{where}: no port is free just now; so many connections have ended in the last minute. Try again soon"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is taken; choose another, or 0 for any free one"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: {host!r} is no address of this machine; try 127.0.0.1"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need privileges; choose a higher one, or 0 for any free one"
    return f"{where}: {error.strerror}"


def accept(sock: socket.socket, family: int) -> tuple[socket.socket, Any]:
    """`socket.accept` without its enum look-ups, which take a fifth of the time of a refusal."""
    fd, address = sock._accept()  # type: ignore[attr-defined]
    return socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd), (unmapped(address[0]), *address[1:])


def unmapped(address: str) -> str:
    """The IPv4 address of an IPv4 client, which a socket for both families reports in IPv6 form (RFC 4291 §2.5.5.2)."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


class Listening(Protocol):
    """What accepts the clients of a fake."""

    def close(self) -> None:
        """Accept no more."""


class Listener:
    """Accepts connections in a loop and hands each over with its address. Any thread may make one.

    A new connection is handed over some turns of the loop after it was accepted, unless it is `alone`. By then the loop
    has read what live clients sent or closed before it came, a QUIT and the FIN behind it included: a slot that is free
    counts as free.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        accepted: Accepted,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop, self._sock, self._accepted, self._alone = loop, sock, accepted, alone
        self._new: set[socket.socket] = set()  # accepted, and not handed over
        self._queue = 0  # batches that wait to be handed over
        self._turns = UVLOOP_TURNS if tells_once(loop) else TURNS
        self._family = IPV4 if len(sock.getsockname()) == 2 else IPV6
        self._used = False  # somebody has been accepted
        self._guard = _thread.RLock()  # held while it uses its socket, and never while it calls anybody
        begin_to_read(loop, sock, self._ready)

    def _ready(self) -> None:
        batch: list[tuple[socket.socket, tuple[str, int]]] = []
        for _ in range(BACKLOG):
            try:
                with self._guard:
                    sock, address = accept(self._sock, self._family)
                    self._used = True
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                break
            except OSError:
                self._pause()  # no file descriptors left: new clients wait in the kernel
                break
            sock.setblocking(False)
            if not batch and not self._queue and self._alone():
                self._accepted(sock, address[:2])
                if not self._alone():
                    break  # those behind it are for the next turn
                continue
            self._new.add(sock)
            batch.append((sock, address[:2]))
        if batch:
            self._queue += 1
            self._loop.call_soon(self._hand_on, batch, self._turns)

    def _hand_on(self, batch: list[tuple[socket.socket, tuple[str, int]]], turns: int) -> None:
        """Hand over in so many turns of the loop, this one included."""
        if turns > 1:
            self._loop.call_soon(self._hand_on, batch, turns - 1)
            return
        self._queue -= 1
        self._hand_over(batch)

    def _pause(self) -> None:
        with self._guard:
            if self._sock.fileno() < 0:  # closed meanwhile
                return
            self._loop.remove_reader(self._sock.fileno())
        self._loop.call_later(PAUSE, self._resume)

    def _resume(self) -> None:
        with self._guard:
            if self._sock.fileno() >= 0:
                self._loop.add_reader(self._sock.fileno(), self._ready)

    def _hand_over(self, batch: list[tuple[socket.socket, tuple[str, int]]]) -> None:
        for sock, address in batch:
            if sock in self._new:
                self._new.discard(sock)
                self._accepted(sock, address)

    def close(self) -> None:
        """Stop listening; reset connections that have not been handed over. The second time, nothing happens."""
        self.end()
        for sock in self._new:
            reset(sock)
        self._new.clear()

    def end(self) -> bool:
        """Accept nobody from now on; for any thread if the loop `polls_on`. True if nobody has ever been accepted."""
        with self._guard:
            if self._sock.fileno() >= 0:
                end_reading(self._loop, self._sock)
            self._sock.close()
            return not self._used


class LingeringClose:
    """The lingering close: sockets that have got their last reply, until their clients have read it.

    Nearly all clients close at once. So new sockets are read together, every `LOOK` seconds: adding each to the selector
    would cost more than the whole refusal. A socket that is still open at the second look is then watched on its own, for
    `LINGER` seconds after the last byte. `heard` gets the bytes that a client still sends; without a record, none does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, heard: Callable[[Connection, bytes], None]) -> None:
        self._loop, self._heard = loop, heard
        self._going: dict[socket.socket, Connection | None] = {}
        self._young: list[socket.socket] = []
        self._older: list[socket.socket] = []  # looked at once
        self._watched: dict[socket.socket, asyncio.TimerHandle] = {}
        self._talking: set[socket.socket] = set()  # of those that are watched: they have sent something in this period
        self._looking: asyncio.TimerHandle | None = None

    def part(self, sock: socket.socket, word: bytes, record: Connection | None) -> None:
        """Send `word`, close our sending side, and drain."""
        try:
            if word:
                sock.send(word, MORE)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        self._going[sock] = record
        self._young.append(sock)
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK, self._look)

    def _look(self) -> None:
        """Read from the new sockets; watch those that are still open at the second look."""
        for sock in self._older:
            if self._drain(sock):
                self._watch(sock)
        self._older = [sock for sock in self._young if self._drain(sock)]
        self._young = []
        self._looking = self._loop.call_later(LOOK, self._look) if self._older else None

    def _watch(self, sock: socket.socket) -> None:
        self._linger(sock, PERIODS)
        self._loop.add_reader(sock.fileno(), self._drain, sock)

    def _linger(self, sock: socket.socket, periods: int) -> None:
        self._talking.discard(sock)
        self._watched[sock] = self._loop.call_later(LINGER, self._lingered, sock, periods - 1)

    def _lingered(self, sock: socket.socket, periods: int) -> None:
        if sock in self._talking and periods:
            self._linger(sock, periods)
        else:
            self._end(sock)

    def _drain(self, sock: socket.socket) -> bool:
        """Read the bytes that have arrived. False if the connection has ended."""
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if data:
            self._talking.add(sock)
            if (record := self._going[sock]) is not None:
                self._heard(record, data)
        else:
            self._end(sock)
        return bool(data)

    def _end(self, sock: socket.socket) -> None:
        del self._going[sock]
        if timer := self._watched.pop(sock, None):
            timer.cancel()
            self._loop.remove_reader(sock.fileno())
        self._talking.discard(sock)
        sock.close()

    def __len__(self) -> int:
        return len(self._going)

    def close(self) -> None:
        """End them all now."""
        if self._looking is not None:
            self._looking.cancel()
        for sock in list(self._going):
            self._end(sock)


def reset(sock: socket.socket) -> None:
    """Close with an RST."""
    reset_on_close(sock)
    sock.close()


def reset_on_close(sock: socket.socket) -> None:
    """Make the next close send an RST instead of a FIN. Without effect if the client has already closed."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
