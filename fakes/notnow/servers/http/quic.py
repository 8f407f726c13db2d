"""The UDP port where an alternative service names HTTP/3 (RFC 9114 §3.1.1): it counts QUIC's Initials, and stays silent.

Nobody speaks QUIC here. A client that is told of HTTP/3 finds nobody who answers, as behind a firewall that drops UDP,
and has to fall back to TCP.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from notnow.errors import StartError

if TYPE_CHECKING:
    from notnow.journal import Recorder

LONG, FIXED, KIND = 0x80, 0x40, 0x30  # bits of the first byte of a packet (RFC 9000 §17.2)
V2 = 0x6B3343CF  # its Initials have another type (RFC 9369 §3.2)
LONGEST_ID = 20  # bytes (RFC 9000 §17.2)
LARGEST = 65_535  # bytes of a datagram
AT_ONCE = 50  # datagrams that are read in one turn of the loop
MOST_TOLD = 100  # connections whose first Initial gets a line in the journal; all are counted


@dataclass(frozen=True, slots=True)
class Initial:
    """The first packet of a QUIC connection: its version, and the id that the client has made up for the server."""

    version: int
    id: bytes


def initial(datagram: bytes) -> Initial | None:
    """The Initial with which a datagram begins (RFC 9000 §17.2.2); None where it begins with something else.

    A version that is unknown says nothing about its types (RFC 8999 §5.1): its long header is taken for an Initial.
    """
    if len(datagram) < 6 or not datagram[0] & LONG:
        return None
    version, size = int.from_bytes(datagram[1:5], "big"), datagram[5]
    kind = (datagram[0] & KIND) >> 4
    known = {1: 0, V2: 1}.get(version)  # the type that an Initial has
    if version == 0 or len(datagram) < 6 + size:  # 0 is what a server says (RFC 8999 §6)
        return None
    if known is not None and (kind != known or not datagram[0] & FIXED or size > LONGEST_ID):
        return None
    return Initial(version, datagram[6 : 6 + size])


class UDPTakenError(StartError):
    """The port is free for TCP, and not for UDP."""


class Silent:
    """A UDP socket at the address of a TCP one. Raises UDPTakenError where that is taken."""

    def __init__(self, loop: asyncio.AbstractEventLoop, beside: tuple[int, bool, tuple[str, int]], recorder: Recorder):
        family, v6only, address = beside
        self._loop, self._recorder = loop, recorder
        self._told: set[tuple[str, int, bytes]] = set()
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
            self._sock.bind(address)
        except OSError as error:
            self._sock.close()
            where = f"{address[0]}:{address[1]}"
            raise UDPTakenError(f"cannot listen on UDP {where}: {error.strerror}; choose another port, or 0") from None
        self._sock.setblocking(False)
        loop.add_reader(self._sock, self._read)

    def _read(self) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram, address = self._sock.recvfrom(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # an answer of ours has met a closed port: we send none
                continue
            if (found := initial(datagram)) is not None:
                self._note(found, address[:2], len(datagram))

    def _note(self, found: Initial, address: tuple[str, int], size: int) -> None:
        """Count it. A client says it again when nobody answers: only the first one of a connection gets a line."""
        self._recorder.also("initial")
        key = (*address, found.id)
        if key in self._told or len(self._told) >= MOST_TOLD:
            return
        self._told.add(key)
        self._recorder.mark("initial", f"from {address[0]}:{address[1]}, version {found.version:#x}, {size} bytes")

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()


def place(sock: socket.socket) -> tuple[int, bool, tuple[str, int]]:
    """Where a listening socket is: its family, whether it leaves IPv4 out, and its address."""
    v6only = sock.family == socket.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return sock.family, v6only, sock.getsockname()[:2]
