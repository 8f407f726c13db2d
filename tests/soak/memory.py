"""Whether memory is flat: what is in use after each round, when nothing is connected and all is forgotten.

A leak takes some memory for each connection, so it shows in every part of a run. A cache that fills up, a module that is
imported late, and an allocator that keeps a page do not. Therefore what counts is the part of a run with the least growth.

Two caches fill up so slowly that they show in all parts of a short run. They are emptied, or are not there:

- CPython's cache of attributes by type and name keeps the name, and C code that makes its names anew each time (`open` with an
  encoding, `Generic`) leaves a copy in each of 4096 places: 2 to 5 blocks for each look at memory.
- malloc of glibc keeps what a thread has freed for that thread, and counts it as in use: up to a few KiB more after each look,
  as the scheduler has it.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import re
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MANY = 16  # places of a cache that may be emptied: the two CAs of this process are in one, too
PARTS = 3  # of a run, after its first third, in which caches fill up
FEWEST = 30  # rounds for which memory is judged: seven for a slope of each part
NO_CACHES = "glibc.malloc.tcache_count=0"


@dataclass(frozen=True)
class Figure:
    """Something that is measured after each round; `allowed` a connection (None: shown, and not judged)."""

    what: str
    measured: Callable[[], float]
    allowed: float | None


@dataclass
class Memory:
    """A table with a row for each round: the number of connections until then, and the figures.

    Its columns are arrays, because each number in a list would be one more block in use.
    """

    table: Sequence[array[float]] = field(default_factory=lambda: [array("d") for _ in range(1 + len(FIGURES))])

    @property
    def rounds(self) -> int:
        return len(self.table[0])

    def look(self, connections: int) -> None:
        _empty_caches()
        gc.collect()
        for column, value in zip(self.table, (connections, *(f.measured() for f in FIGURES)), strict=True):
            column.append(value)

    def growth(self, figure: Figure) -> float:
        """How much a connection adds, by least squares, in the part of the run with the least growth."""
        connections, values = self.table[0], self.table[1 + FIGURES.index(figure)]
        start = self.rounds // 3
        size = max(1, (self.rounds - start) // PARTS)
        return min(
            slope(connections[i : i + size], values[i : i + size]) for i in range(start, start + PARTS * size, size)
        )

    def faults(self) -> list[str]:
        """What grows. Too few rounds tell nothing."""
        if self.rounds < FEWEST:
            return []
        return [
            f"{one.what} grow by {self.growth(one):.3f} a connection in each part of the run; allowed: {one.allowed}"
            for one in FIGURES
            if one.allowed is not None and self.growth(one) > one.allowed
        ]

    def per(self, what: str) -> str:
        """The growth of each figure, in a line."""
        return ", ".join(f"{self.growth(one):+.4f} {one.what}" for one in FIGURES) + f" a {what}"

    def __str__(self) -> str:
        if not self.rounds:
            return "no round"
        judged = "judged" if self.rounds >= FEWEST else f"not judged, for want of {FEWEST} rounds"
        end = ", ".join(f"{column[-1]:,.0f} {one.what}" for one, column in zip(FIGURES, self.table[1:], strict=True))
        return f"memory in {self.rounds:,} rounds, {judged}: {self.per('connection')}; at the end {end}"


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the straight line through these points (least squares); 0 where they have no extent."""
    if len(x) < 2 or max(x) == min(x):
        return 0.0
    middle, height = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    return sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / spread


def without_caches_of_threads() -> None:
    """Run this program from its beginning without malloc's caches of threads, which is decided when a process starts."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if _mallinfo2 is not None and NO_CACHES not in tunables:
        os.environ["GLIBC_TUNABLES"] = f"{tunables}:{NO_CACHES}".removeprefix(":")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _empty_caches() -> None:
    """Empty what has room for a number of things and no more. A cache of a few, or without a limit, may be what others rely on.

    The type of each is asked, and not its class: objects that load what they stand for would do so.
    """
    for one in gc.get_objects():
        if type(one) is functools._lru_cache_wrapper and (one.cache_parameters()["maxsize"] or 0) >= MANY:
            one.cache_clear()
    re.purge()
    _clear_type_cache()


def _objects() -> int:
    """The objects that the collector knows: all that can refer to others."""
    return len(gc.get_objects())


def _heap() -> float:
    """KiB that C code has in use: OpenSSL, uvloop, and Python's own objects of more than 512 bytes. 0 without glibc 2.33."""
    if _mallinfo2 is None:
        return 0.0
    found = _mallinfo2()
    return float(found.uordblks + found.hblkhd) / 1024


def _resident() -> int:
    """KiB of resident memory, without what the allocator only keeps for later; 0 where there is no /proc."""
    if _trim is not None:
        _trim(0)
    status = Path("/proc/self/status")
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) if status.exists() else 0


class _MallInfo2(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


# The former since Python 3.13.
_clear_type_cache = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_mallinfo2, _trim = getattr(_libc, "mallinfo2", None), getattr(_libc, "malloc_trim", None)
if _mallinfo2 is not None:
    _mallinfo2.restype = _MallInfo2

# A connection that is not forgotten leaves one object at least; one for 20 connections is allowed. It is hundreds of blocks, and
# 9 KiB when idle. Strings and numbers are blocks only. Pages that the allocator keeps are chance, so that resident memory is not
# judged.
FIGURES = (
    Figure("objects", _objects, 0.05),
    Figure("blocks", sys.getallocatedblocks, 0.5),  # whatever has up to 512 bytes
    Figure("KiB of the heap", _heap, 0.05),
    Figure("KiB resident", _resident, None),
)
