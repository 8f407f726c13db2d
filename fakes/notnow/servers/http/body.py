"""The body of a request: the pieces that the app has not read, and the length and hash of all."""

from __future__ import annotations

import asyncio
import hashlib

from notnow.bounds import BODY_WAITING


class Body:
    """A body as it arrives. `received` counts its bytes, `pieces` are those that wait for the app."""

    __slots__ = ("_hash", "_room", "_waiting", "pieces", "received")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.received = self._waiting = 0
        self._hash: hashlib._Hash | None = None  # most requests have no body
        self._room: asyncio.Event | None = None  # made where somebody waits for it

    def count(self, data: bytes) -> None:
        """These bytes have arrived, whether or not anybody reads them."""
        self._hash = self._hash or hashlib.sha256()
        self._hash.update(data)
        self.received += len(data)

    @property
    def sha256(self) -> str:
        """The hash of all that has arrived."""
        return (self._hash or hashlib.sha256()).hexdigest()

    def keep(self, data: bytes) -> None:
        """Keep bytes for the app."""
        self.pieces.append(data)
        self._waiting += len(data)

    def take(self) -> bytes:
        """The bytes that the app has not read yet."""
        taken = b"".join(self.pieces)
        self.drop()
        return taken

    def drop(self) -> None:
        """Nobody reads the bytes that wait."""
        self.pieces.clear()
        self._waiting = 0
        if self._room is not None:
            self._room.set()

    async def room(self) -> None:
        """Wait until not too many bytes wait for the app."""
        while self._waiting > BODY_WAITING:
            room = self._room = self._room or asyncio.Event()
            room.clear()
            await room.wait()
