"""The threads that take part in fast_forward, and their waits.

A party is the test's thread, or a thread that a party has started. It runs, or it is parked in a `Wait`.
"""

from __future__ import annotations

import _thread
import math
import select
import time
from collections.abc import Callable, Iterable
from enum import Enum

# The real clocks: nothing in this package may wait by those that the client sees.
real_sleep, real_monotonic, real_monotonic_ns = time.sleep, time.monotonic, time.monotonic_ns
real_poll, real_select = getattr(select, "poll", None), select.select

REST = 60.0  # seconds: when the test ends, a thread from before with at most this long to wait goes on in real time

FileWait = tuple[int, int]  # a file descriptor, and the poll() events to wait for


class WaitResult(Enum):
    """How a wait ended."""

    READY = "what the thread waited for is there"
    TIMED_OUT = "its deadline has passed"
    CLOSED = "fast_forward has ended: the caller's real call takes over"


class Ended(SystemExit):
    """Ends a thread that outlives its test: it must not wake up in the next one."""


def micro(seconds: float) -> int:
    """Whole microseconds, rounded up, with a tolerance of a thousandth for the errors of float sums."""
    return math.ceil(seconds * 1e6 - 1e-3)


def signalled(waits: Iterable[FileWait], timeout: float | None = 0.0) -> list[int]:
    """The ready descriptors; waits for one at most `timeout` real seconds."""
    masks: dict[int, int] = {}
    for fd, mask in waits:
        masks[fd] = masks.get(fd, 0) | mask
    poll = real_poll()  # type: ignore[misc]
    for fd, mask in masks.items():
        poll.register(fd, mask)
    return [fd for fd, _ in poll.poll(None if timeout is None else math.ceil(timeout * 1000))]


class Wait:
    """One wait: until `over()`, until one of `files` is ready, or until `deadline`, in microseconds.

    `alone` distinguishes a read of one socket from a selector, which may hold sockets without a reader.
    `order` is the place in the order of parking.
    """

    __slots__ = ("alone", "deadline", "error", "files", "order", "over", "result", "timeout")

    def __init__(
        self,
        order: int,
        deadline: int | None,
        *,
        over: Callable[[], bool] | None = None,
        files: Iterable[FileWait] = (),
        alone: bool = False,
    ) -> None:
        self.order, self.deadline, self.over = order, deadline, over
        self.files, self.alone = tuple(files), alone
        self.result = WaitResult.CLOSED
        self.timeout: float | None = None
        self.error: Exception | None = None

    def ended(self, now: int) -> WaitResult | None:
        """How it has ended; None if it goes on. An event at the last moment is in time."""
        if (self.over is not None and self.over()) or (self.files and signalled(self.files)):
            return WaitResult.READY
        return WaitResult.TIMED_OUT if self.deadline is not None and self.deadline <= now else None

    def goes_on(self, party: Party) -> bool:
        """True if a thread goes on by itself when the test ends, because it existed before the test."""
        return party.adopted and (self.timeout is None or self.timeout <= REST)

    @property
    def ends_with_test(self) -> bool:
        """True if a thread left behind in this wait must end: it would go on by itself later."""
        return self.deadline is not None or self.alone


class Party:
    """A thread that takes part. `wait` is None while it runs; `outside` counts its waits for the real world.

    An `adopted` one existed before. If it does not run, it may also be at rest in an invisible call.
    """

    __slots__ = (
        "adopted",
        "ident",
        "looks",
        "name",
        "native",
        "outside",
        "over",
        "readings",
        "started",
        "turn",
        "wait",
        "watched",
    )

    def __init__(self, name: str, *, adopted: bool = False) -> None:
        self.name, self.adopted = name, adopted
        self.looks = 0  # at files, in vain, since the clock moved
        self.ident = self.native = 0
        self.wait: Wait | None = None
        self.outside = self.readings = 0
        self.over = self.started = False
        self.watched: object = None
        self.turn = _thread.allocate_lock()
        self.turn.acquire()

    def bind(self) -> None:
        """Called in the thread itself."""
        self.ident, self.native = _thread.get_ident(), _thread.get_native_id()

    def block(self) -> None:
        """Wait for the turn, in real time. Only here does a parked thread really block."""
        self.turn.acquire()
