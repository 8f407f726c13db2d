"""The UDP port for an advertised HTTP/3 service (RFC 9114 §3.1.1): it counts QUIC's Initials and stays silent.

The fake does not speak QUIC. A client that tries HTTP/3 gets no answer, as behind a firewall that drops UDP, and has to
fall back to TCP.
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
AT_ONCE = 50  # datagrams per turn of the loop
MOST_TOLD = 100  # connections whose first Initial the journal records; all are counted


@dataclass(frozen=True, slots=True)
class Initial:
    """The first packet of a QUIC connection: its version, and the client's connection id for the server."""

    version: int
    id: bytes


def initial(datagram: bytes) -> Initial | None:
    """The Initial at the start of a datagram (RFC 9000 §17.2.2); None if it starts with another packet.

    The packet types of an unknown version are unknown (RFC 8999 §5.1): its long header counts as an Initial.
    """
    if len(datagram) < 6 or not datagram[0] & LONG:
        return None
    version, size = int.from_bytes(datagram[1:5], "big"), datagram[5]
    kind = (datagram[0] & KIND) >> 4
    known = {1: 0, V2: 1}.get(version)  # the type of an Initial
    if version == 0 or len(datagram) < 6 + size:  # only servers send 0 (RFC 8999 §6)
        return None
    if known is not None and (kind != known or not datagram[0] & FIXED or size > LONGEST_ID):
        return None
    return Initial(version, datagram[6 : 6 + size])


class UDPTakenError(StartError):
    """The port is free for TCP but not for UDP."""


class Silent:
    """A UDP socket at the address of a TCP one. Raises UDPTakenError if that address is taken."""

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
            except OSError:  # the kernel reports a closed port for our answer; we send none
                continue
            if (found := initial(datagram)) is not None:
                self._note(found, address[:2], len(datagram))

    def _note(self, found: Initial, address: tuple[str, int], size: int) -> None:
        """Count an Initial. Clients repeat it without an answer, so the journal records only the first of a connection."""
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
    """The place of a listening socket: its family, whether it excludes IPv4, and its address."""
    v6only = sock.family == socket.AF_INET6 and bool(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return sock.family, v6only, sock.getsockname()[:2]
