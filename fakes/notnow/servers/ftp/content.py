"""The bytes of a file: given, generated on demand, or uploaded."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
from collections.abc import Iterator
from functools import lru_cache

BLOCK = 65_536  # bytes that are generated at a time
BIG = 262_144  # bytes from which a file is worth a descriptor
MOST_MOVED = 16 * 1024 * 1024  # bytes beyond which generated content is generated anew for each download
HUGE = 2_097_152  # bytes of a huge page
COLLAPSE = 25  # MADV_COLLAPSE of madvise(2), for which Python has no name
MAP_FIXED = 0x10  # of mmap(2): the same


@lru_cache(maxsize=32)
def _block(size: int, number: int) -> bytes:
    """One block of the content of a file of this size."""
    return random.Random(f"{size}/{number}").randbytes(min(BLOCK, size - number * BLOCK))


def filling(size: int, start: int = 0, count: int | None = None) -> bytes:
    """Generated content: always the same for a size, and nowhere repeating, so that a hash shows lost, doubled or moved bytes.

    `start` and `count` select a piece; only this piece is generated.
    """
    end = size if count is None else min(size, start + count)
    pieces = []
    while start < end:
        number, skip = divmod(start, BLOCK)
        piece = _block(size, number)[skip : skip + end - start]
        pieces.append(piece)
        start += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def into_huge_pages(descriptor: int, size: int) -> None:
    """Have Linux (from 6.1 on) move the content of a system file into huge pages, which it sends with a quarter less work.

    An end of less than half a page stays where it is, and a longer one takes a whole page. Where there are no huge pages,
    nothing changes.
    """
    length = round(size / HUGE) * HUGE
    if length > 0:
        with contextlib.suppress(OSError, ImportError):
            if length > size:
                os.ftruncate(descriptor, length)
            with aligned(descriptor, length) as (mapping, start):
                mapping.madvise(COLLAPSE, start, length)


@contextlib.contextmanager
def aligned(descriptor: int, length: int) -> Iterator[tuple[mmap.mmap, int]]:
    """Map a system file at a multiple of HUGE: a mapping with room for it, and where in that it begins. Raises OSError."""
    import ctypes  # here, since it takes milliseconds

    with mmap.mmap(-1, length + HUGE) as room:
        address = ctypes.addressof(ctypes.c_char.from_buffer(room))
        start = -address % HUGE
        place = ctypes.CDLL(None, use_errno=True).mmap  # Python's own cannot say where
        place.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        place.restype = ctypes.c_void_p
        flags = mmap.MAP_SHARED | MAP_FIXED
        if place(address + start, length, mmap.PROT_READ | mmap.PROT_WRITE, flags, descriptor, 0) != address + start:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        yield room, start


def put(descriptor: int, data: bytes, position: int) -> None:
    """Write all of it to a system file. Raises OSError if there is no memory left."""
    if os.pwrite(descriptor, data, position) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Node:
    """A file: its bytes, its modification time (seconds since 1970), its mode, and whether it is complete.

    A file that is given by its size is generated piece by piece (`filling`), and takes no memory. The bytes of a big file
    move to a file of `memfd_create` at the first download, from where the kernel sends them without a copy.
    """

    __slots__ = (
        "__weakref__",
        "_descriptor",
        "base",
        "data",
        "kept",
        "made_up",
        "mode",
        "modified",
        "open",
        "size",
        "whole",
    )

    def __init__(self, data: bytes | bytearray | None, modified: float, size: int = 0) -> None:
        self.data, self.modified = data, modified
        self.size = size if data is None else len(data)
        self.made_up = data is None
        self.mode = 0o644
        self.whole = True
        self.open = False  # an upload to it is under way
        self._descriptor = -1
        self.kept = False  # it is in the tree: not deleted, nor replaced
        self.base: Node | None = None  # the file whose bytes it shares until an upload changes them

    def read(self, start: int, count: int) -> bytes:
        """At most `count` bytes from `start`. Another thread may change the file or move it: it sets the new place first."""
        if (base := self.base) is not None:
            return base.read(start, count)
        if (data := self.data) is not None:
            return bytes(data[start : start + count])  # not a view: an upload could not grow the file meanwhile
        if self._descriptor >= 0:
            return os.pread(self._descriptor, max(0, min(count, self.size - start)), start)
        return filling(self.size, start, count)

    @property
    def content(self) -> bytes:
        """All of it, in memory."""
        data = self.data
        if isinstance(data, bytearray) and not self.open:
            self.data = data = bytes(data)
        return data if isinstance(data, bytes) else self.read(0, self.size)

    def own(self) -> None:
        """Copy the bytes into memory, where an upload can change them."""
        if self.base is not None:
            self.data, self.made_up = bytearray(self.base.content), False
            self.base = None

    def write(self, position: int, data: bytes) -> None:
        """Change bytes of an upload, or add some at its end. `size` is counted by the tree."""
        if self._descriptor >= 0:
            put(self._descriptor, data, position)
            return
        assert isinstance(self.data, bytearray), "it owns its bytes"
        if position == len(self.data):
            self.data += data
        else:
            self.data[position : position + len(data)] = data

    def move(self) -> int:
        """Have an upload continue in a system file, where other processes can write, too: its descriptor, or -1."""
        if self._descriptor < 0 and hasattr(os, "memfd_create"):
            self._move()
        return self._descriptor

    def descriptor(self) -> int:
        """The descriptor of a system file with the content; -1 if the file is small, still being uploaded, or there is none."""
        most = MOST_MOVED if self.made_up else self.size
        if self._descriptor < 0 and BIG <= self.size <= most and not self.open and hasattr(os, "memfd_create"):
            self._move()
            if self._descriptor >= 0 and self.size <= MOST_MOVED:  # more would hold other connections up
                into_huge_pages(self._descriptor, self.size)
        return self._descriptor

    def _move(self) -> None:
        """Move the content to a system file, if possible."""
        try:
            descriptor = os.memfd_create("notnow")
        except OSError:  # no descriptors left, or a sandbox forbids it
            return
        try:
            written = 0
            while written < self.size:
                written += os.write(descriptor, self.read(written, BLOCK))
        except OSError:
            os.close(descriptor)
        else:
            self._descriptor, self.data, self.base = descriptor, None, None

    def release(self) -> None:
        """Close the system file if the content can be generated again."""
        if self._descriptor >= 0 and self.made_up:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
