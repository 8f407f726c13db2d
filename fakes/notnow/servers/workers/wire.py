"""Messages between a fake and its workers, over pairs of Unix sockets that no other process can reach.

A message is a pickle behind its length. Both ends run the same code, and the one has started the other.
"""

from __future__ import annotations

import asyncio
import copyreg
import pickle
import socket
import struct
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, cast

from msgspec import Struct

HEAD = struct.Struct("!I")  # the length of a message, in bytes
PIECE = 1 << 18  # bytes to read at once


def _proxy(mapping: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(mapping)


copyreg.pickle(MappingProxyType, lambda mapping: (_proxy, (dict(mapping),)))  # pickle by itself cannot


class Descriptor(Struct, frozen=True):
    """An answer that is an open file: in the other process, it has another number."""

    number: int


def packed(message: object) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(data)) + data


class Line:
    """A worker's end, which waits. Raises EOFError when the other end is gone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._left = sock, b""

    def send(self, message: object) -> None:
        try:
            self._sock.sendall(packed(message))
        except OSError:
            raise EOFError from None

    def receive(self) -> Any:
        length = HEAD.unpack(self._read(HEAD.size))[0]
        return pickle.loads(self._read(length))

    def _read(self, length: int) -> bytes:
        data = self._left
        while len(data) < length:
            try:
                piece = self._sock.recv(PIECE)
            except OSError:
                piece = b""
            if not piece:
                raise EOFError
            data += piece
        self._left = data[length:]
        return data[:length]

    def call(self, message: object) -> Any:
        """The answer to a message."""
        self.send(message)
        return self.receive()


class Passage:
    """The pair of sockets through which descriptors go. One is sent just before the answer that it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, descriptor: int) -> bool:
        """False if it cannot be sent: the other end is gone, or too many are on their way."""
        try:
            socket.send_fds(self._sock, [b"\0"], [descriptor])
        except OSError:
            return False
        return True

    def receive(self) -> int:
        """The descriptor, or -1 if this process has no room for it."""
        _, found, _, _ = socket.recv_fds(self._sock, 1, 1)
        return found[0] if found else -1

    def close(self) -> None:
        self._sock.close()


class Wire(asyncio.Protocol):
    """The other end, in an event loop."""

    def __init__(self, heard: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._heard, self._lost = heard, lost
        self._data = bytearray()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no base class

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= HEAD.size:
            end = HEAD.size + HEAD.unpack_from(self._data)[0]
            if len(self._data) < end:
                return
            message = pickle.loads(memoryview(self._data)[HEAD.size : end].tobytes())
            del self._data[:end]
            self._heard(message)

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost()

    def send(self, message: object) -> None:
        self._transport.write(packed(message))

    def close(self) -> None:
        self._transport.abort()
