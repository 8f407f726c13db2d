"""Threads that existed before fast_forward, or that no party has started: are they working or at rest?

The clock must not jump while one of them is busy, say between the queue of a thread pool and its first connection.
Linux counts the context switches of a thread: a sleeping thread whose count does not change has not been woken.
Elsewhere, its position in the code has to serve. At its first wait, such a thread becomes a party.
"""

from __future__ import annotations

import platform
import threading
import weakref
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from notnow.time_travel import watchdogs
from notnow.time_travel.effort import effort
from notnow.time_travel.frames import current_frames
from notnow.time_travel.parties import real_monotonic

RESTED = 0.02  # real seconds without a sign of life after which a thread is at rest
POLLING = 0.5  # real seconds of hardly any work, in small steps, that count as rest
WARM = 2.0  # real seconds for which the clock waits for a thread in a real wait with a time-out

# The number of each system call that may wait with a time-out, and the position of that argument.
_TIMED = {
    "x86_64": {202: 3, 230: 2, 35: 0, 7: 2, 271: 2, 23: 4, 270: 4, 232: 3, 281: 3, 128: 2},
    "aarch64": {98: 3, 115: 2, 101: 0, 73: 2, 72: 4, 22: 3, 137: 2},
}.get(platform.machine(), {})
# Where a worker of a cache of threads waits for its next job, and ends if none comes: nobody waits for it.
_BETWEEN_JOBS = {("trio._core._thread_cache", "_work")}
_ENDLESS = {0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}  # no time-out: a null pointer, or -1


def waits_with_timeout(native: int) -> bool:
    """True if a thread is blocked in the system for a limited time. False also if the system does not tell."""
    try:
        call = Path(f"/proc/self/task/{native}/syscall").read_text().split()
        return int(call[1 + _TIMED[int(call[0])]], 16) not in _ENDLESS
    except (OSError, ValueError, KeyError, IndexError):
        return False


@dataclass(slots=True)
class Sight:
    """The observed state of a thread, and its start in real seconds."""

    mark: tuple[object, ...]
    since: float
    run: float | None
    restless_since: float


class Bystanders:
    """All threads of the process that are neither parties nor in real time."""

    def __init__(self) -> None:
        self.excused: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self.missed: dict[int, str] = {}  # threads for which the clock has not waited, and where they were
        self._sights: dict[int, Sight] = {}
        self._spent: dict[int, float] = {}  # real seconds that the clock has waited for each one's time-out

    def lives_in_real_time(self, ident: int, frame: FrameType | None) -> bool:
        """True for the thread of the fakes, for watchdogs, and for threads started `outside()`."""
        thread = thread_of(ident)
        if thread is None:
            return watchdogs.begins_in_one(frame)
        if getattr(thread, "real_time", False) or thread in self.excused or watchdogs.is_watchdog(thread):
            return True
        return thread is not threading.main_thread() and watchdogs.begins_in_one(frame)

    def awake(self, parties: Collection[int]) -> list[int]:
        """The idents of the working threads, except these parties."""
        return [ident for ident, frame in self._others(parties) if not self._rests(ident, frame)]

    def _others(self, parties: Collection[int]) -> Iterator[tuple[int, FrameType]]:
        own = threading.get_ident()
        for ident, frame in current_frames().items():
            if ident not in parties and ident != own and not self.lives_in_real_time(ident, frame):
                yield ident, frame

    def _rests(self, ident: int, frame: FrameType) -> bool:
        now, thread = real_monotonic(), thread_of(ident)
        seen = effort(thread.native_id if thread is not None else None)
        mark = (*seen.switches, id(frame), frame.f_lasti)
        before = self._sights.get(ident)
        if before is None or before.mark != mark or not seen.asleep:
            restless = before.restless_since if before is not None and now - before.since < RESTED else now
            worked = before.run if before is not None and restless == before.restless_since else seen.run
            self._sights[ident] = Sight(mark, now, worked, restless)
            return seen.asleep and _hardly_works(worked, seen.run, now - restless)
        return now - before.since >= RESTED

    def in_real_waits(self, parties: Collection[int]) -> list[int]:
        """The threads in a real wait with a time-out: they will wake up by themselves."""
        others = [i for i, frame in self._others(parties) if not _is_between_jobs(frame)]
        return [i for i in others if i not in self.missed and waits_with_timeout(native_of(i))]

    def has_waited_for(self, idents: list[int], seconds: float) -> None:
        """Record that the clock has stood still for them for so long. Beyond `WARM` it no longer does."""
        for ident in idents:
            self._spent[ident] = self._spent.get(ident, 0.0) + seconds
            if self._spent[ident] >= WARM:
                self.missed[ident] = where(ident)


def _is_between_jobs(frame: FrameType) -> bool:
    return (frame.f_globals.get("__name__"), frame.f_code.co_name) in _BETWEEN_JOBS


def thread_of(ident: int) -> threading.Thread | None:
    return threading._active.get(ident)  # type: ignore[attr-defined,no-any-return]


def native_of(ident: int) -> int:
    thread = thread_of(ident)
    return (thread.native_id or 0) if thread is not None else 0


def where(ident: int) -> str:
    """A thread's name, and its position in code outside the standard library."""
    thread, frame = thread_of(ident), current_frames().get(ident)
    name = thread.name if thread is not None else f"thread {ident}"
    if frame is None:
        return name
    code = frame.f_code
    return f"{name} in {code.co_name}() ({Path(code.co_filename).name}:{frame.f_lineno})"


def _hardly_works(before: float | None, now: float | None, seconds: float) -> bool:
    if before is None or now is None:
        return seconds >= 2 * POLLING
    return seconds >= POLLING and now - before < 0.1 * seconds
