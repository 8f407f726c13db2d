"""Ports for data connections: the address where one side waits for the other (RFC 959 §3.2).

`PassivePort` and `ActivePort` replace pyftpdlib's `PassiveDTP` and `ActiveDTP`, and have the methods that its commands call.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
import sys
from typing import Protocol

from notnow.journal import Connection, Exchange
from notnow.protocols.ftp import DataEnding
from notnow.servers.base import listener
from notnow.servers.ftp.connection import LocalAddress
from notnow.servers.ftp.host import FileHost

FIRST, PORTS, TRIES = 32_768, 28_232, 100  # the first data port, the number of them, and how often one is tried
CONNECT = 10.0  # real seconds that a client has to accept an active data connection
NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)  # Linux: the socket does not block from the start


class PortOwner(Protocol):
    """The session of a port, as the port uses it."""

    @property
    def host(self) -> FileHost: ...
    @property
    def local(self) -> LocalAddress: ...

    record: Connection
    exchange: Exchange
    next_data_fault: DataEnding | None  # how the next announced data connection ends

    def announce(self, port: int, extended: bool) -> None:
        """A port has been opened: tell the client."""

    def prepared(self, mode: str | None) -> None:
        """The next data connection has this mode; None: there is none to wait for."""

    def respond(self, resp: str) -> None:
        """Send a healthy reply."""

    def verb(self, exchange: Exchange) -> str:
        """The command that an exchange is about, in upper case."""

    def data_arrives(self, sock: socket.socket, port: int, fault: DataEnding | None) -> None:
        """A data connection has been made at this port of ours."""


class PassivePort:
    """A port that waits for one data connection of the client (PASV, EPSV)."""

    def __init__(self, session: PortOwner, extmode: bool = False) -> None:
        self._session, self._loop = session, session.host.loop
        self.fault, session.next_data_fault = session.next_data_fault, None
        self._sock, self.port = _listening(session, 0 if self.fault == "drop" else 5)
        self._plug: socket.socket | None = None
        session.host.ports.add(self.port)
        if self.fault == "drop":
            self._stuff()
        session.announce(self.port, extmode)
        if self._plug is None:
            self._loop.add_reader(self._sock.fileno(), self.look)

    def _stuff(self) -> None:
        """Fill the accept queue of one place: the kernel then drops further connections, as a firewall does."""
        self._plug = socket.socket(self._sock.family)
        self._plug.setblocking(False)
        self._plug.connect_ex(self._sock.getsockname())

    def look(self) -> None:
        """Begin the data connection if the client has made it: the loop may tell us of a later command first."""
        sock = self.accept()
        if sock is not None:
            self.close()
            self._session.data_arrives(sock, self.port, self.fault)

    def accept(self) -> socket.socket | None:
        """The data connection, or None if the client has not made it yet."""
        while self._sock.fileno() >= 0 and self._plug is None:
            try:
                sock, address = listener.accept(self._sock, self._session.local.family)
            except OSError:
                return None
            if address[0] == self._session.record.client:
                return sock
            sock.close()  # another client, which has guessed the port
        return None

    def close(self) -> None:
        """Wait no longer. A connection that is there ends in order; the kernel would reset it."""
        if self._sock.fileno() < 0:
            return
        self._session.prepared(None)
        self._session.host.ports.discard(self.port)
        self._loop.remove_reader(self._sock.fileno())
        while (sock := self.accept()) is not None:
            sock.close()
        self._sock.close()
        if self._plug is not None:
            self._plug.close()


class ActivePort:
    """The address where the client waits for our data connection (PORT, EPRT), which is made when a transfer begins."""

    def __init__(self, ip: str, port: int, session: PortOwner) -> None:
        self._session, self._address = session, (ip, port)
        session.prepared("active")
        session.respond(f"200 {session.verb(session.exchange)} command successful.")

    async def connect(self) -> tuple[socket.socket, int] | None:
        """Connect to the client. Return the connection and its local port; None if the client refuses."""
        sock = None
        try:
            sock, port = bound(self._session)
            async with asyncio.timeout(CONNECT):
                await self._session.host.loop.sock_connect(sock, self._address)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if not isinstance(error, OSError):
                raise
            return None
        finally:
            self.close()
        return sock, port

    def close(self) -> None:
        """Forget the address. There is no socket to close."""
        self._session.prepared(None)


def bound(session: PortOwner) -> tuple[socket.socket, int]:
    """A socket bound to the address of the control connection, on a port of its own. It does not listen yet.

    Raises OSError if all ports are taken.
    """
    sock = socket.socket(session.local.family, socket.SOCK_STREAM | NONBLOCK)
    try:
        if not NONBLOCK:
            sock.setblocking(False)
        return sock, _bind(sock, session.local.address)
    except BaseException:
        sock.close()
        raise


def _listening(session: PortOwner, queue: int) -> tuple[socket.socket, int]:
    """A socket that listens on a port of its own, and the port. Raises OSError if all ports are taken."""
    for _ in range(TRIES):
        sock, port = bound(session)
        try:
            sock.listen(queue)
        except OSError:  # meanwhile, another process has bound the same port, and listens already
            sock.close()
        else:
            return sock, port
    raise OSError(errno.EADDRINUSE, "no port is free")


def _bind(sock: socket.socket, address: str) -> int:
    """Bind to a port, and return it.

    Given port 0, Linux searches for one that had no connection in the last minute, which takes milliseconds after many
    connections. It binds a named port at once, even if that was in use a moment ago.
    """
    if sys.platform == "linux":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for _ in range(TRIES):
            port = FIRST + int(random.random() * PORTS)  # `randrange` would take ten times as long
            try:
                sock.bind((address, port))
            except OSError:
                continue
            return port
    sock.bind((address, 0))
    return int(sock.getsockname()[1])
