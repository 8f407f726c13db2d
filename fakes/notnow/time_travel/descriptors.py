"""The descriptors of this process, and the names of the sockets among them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

Name = tuple[str, int]


def open_files() -> list[int]:
    return [int(entry.name) for entry in Path("/dev/fd").iterdir()]


def socket_of(fd: int) -> socket.socket:
    """Another handle of a socket. Raises OSError if the descriptor is not a socket."""
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def names(fd: int) -> tuple[Name, Name | None]:
    """Both ends of a socket. The peer of a socketpair's half, or of a listening socket, is unknown."""
    with socket_of(fd) as sock:
        mine = name(sock.getsockname()) or ("", 0)
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return mine, None
        try:
            return mine, name(sock.getpeername())
        except OSError:
            return mine, ("somewhere", 0)  # a datagram socket, or one that is connecting


def name(address: object) -> Name | None:
    if isinstance(address, tuple):
        return str(address[0]).removeprefix("::ffff:"), int(address[1])
    return (str(address), 0) if address else None
