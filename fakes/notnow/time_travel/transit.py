"""Is anything in transit between the clients and the fakes of this process? On Linux, the kernel tells.

A socket's queue of output holds what its peer has not acknowledged (tcp(7), SIOCOUTQ), and a FIN counts. A peer that has read
everything may delay its acknowledgement by 40 ms; TCP_QUICKACK sends it at once.
"""

from __future__ import annotations

import array
import contextlib
import socket
import sys
from collections.abc import Collection, Mapping
from typing import NamedTuple

from notnow.time_travel.descriptors import Name, names, open_files, socket_of

if sys.platform == "linux":
    import fcntl
    import termios

_CONNECTED = frozenset({1, 8})  # ESTABLISHED and CLOSE_WAIT, in the order of tcp_states.h
_FIN_CAME = 8


class End(NamedTuple):
    """One end of a connection: its descriptor, and the state of its TCP."""

    fd: int
    state: int


def arrived(files: Collection[int], ports: Collection[int]) -> bool:
    """True if each of these descriptors is a client's end of a connection to a fake, and everything has arrived that clients
    and fakes have sent. False also if the system does not tell.

    `ports` are those of the fakes. The other end of a connection has to be in this process.
    """
    if sys.platform != "linux":
        return False
    ends = _ends(ports)
    known = {end.fd for end in ends.values()}
    both = all(_has_other(pair, end, ends) for pair, end in ends.items())
    return both and known.issuperset(files) and _acknowledged(known)


def _ends(ports: Collection[int]) -> dict[tuple[Name, Name], End]:
    """Both ends of every connection to a fake, by the names of the end and of its peer."""
    found = {}
    for fd in open_files():
        with contextlib.suppress(OSError):
            mine, peer = names(fd)
            if peer is not None and (mine[1] in ports or peer[1] in ports):
                found[mine, peer] = End(fd, _state(fd))
    return found


def _state(fd: int) -> int:
    with socket_of(fd) as sock:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def _has_other(pair: tuple[Name, Name], end: End, ends: Mapping[tuple[Name, Name], End]) -> bool:
    """True if the other end is there as well, or has said that it sends no more."""
    mine, peer = pair
    return end.state == _FIN_CAME or (end.state in _CONNECTED and (peer, mine) in ends)


def _acknowledged(files: Collection[int]) -> bool:
    """True if no end has sent anything that its peer has not acknowledged."""
    try:
        for fd in files:
            with socket_of(fd) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return not any(map(_unacknowledged, files))
    except OSError:  # the fakes' thread has closed one meanwhile
        return False


def _unacknowledged(fd: int) -> int:
    """Bytes in the queue of output."""
    number = array.array("i", [0])
    fcntl.ioctl(fd, termios.TIOCOUTQ, number)
    return number[0]
