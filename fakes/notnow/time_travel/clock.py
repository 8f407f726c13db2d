"""The clock that fakes are given under fast_forward."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from notnow.clock import Alarm, Cancellable, ManualClock

ROUNDING = 5e-7  # seconds: half of the microsecond in which parties count


class World(Protocol):
    """The mover of the clock: `notnow.time_travel.world.World`."""

    def nudge(self) -> None:
        """Another event is due."""

    def read(self) -> None:
        """The clock has been read."""

    def advance(self, span: float) -> None:
        """Let this many seconds pass."""


class WorldClock(ManualClock):
    """Scenario time under fast_forward. `advance` in a thread of the test is a sleep of that length."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @property
    def shown(self) -> float:
        """`now`, without counting as a reading of the clock."""
        return self._now

    def now(self) -> float:
        if self.world is not None:
            self.world.read()
        return self._now

    def wall(self) -> float:
        return super().wall() if self.world is None else self.epoch + self._now

    @property
    def ports(self) -> set[int]:
        """The ports of the fakes that use this clock."""
        return set[int]().union(*(getattr(server, "ports", ()) for server in list(self._servers)))

    @property
    def asked(self) -> bool:
        """True if a thread waits for a fake's journal, in real time."""
        return any(getattr(server, "waited_for", 0) for server in list(self._servers))

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        alarm = super().call_at(when, loop, callback)
        if self.world is not None:
            self.world.nudge()
        return alarm

    @contextlib.contextmanager
    def _promise(self, span: float) -> Iterator[float]:
        """Under fast_forward, threads that advance the clock at the same time sleep side by side."""
        if self.world is not None:
            yield self.now() + span
            return
        with super()._promise(span) as target:
            yield target

    def advance_to(self, target: float) -> None:
        if self.world is None:
            super().advance_to(target)
            return
        self._begin()
        self.world.advance(target - self._now)

    def settle(self) -> None:
        """Return when no byte is in transit to a fake, and the fakes have done everything that is due."""
        with contextlib.suppress(RuntimeError):  # a thread that takes no part has stopped one
            self._settle()

    @property
    def rings_now(self) -> bool:
        """True if an alarm is due."""
        due = self.due
        return due is not None and due <= self._now + ROUNDING

    def ring(self) -> bool:
        """Ring the next due alarm. False if none is due."""
        alarm: Alarm | None = self._next(self._now + ROUNDING)
        if alarm is None:
            return False
        self._now = max(self._now, alarm.when)
        with contextlib.suppress(RuntimeError):  # its loop has ended
            alarm.loop.call_soon_threadsafe(alarm.ring)
        return True

    def move(self, target: int) -> None:
        """Move to `target`, in microseconds."""
        self._now = max(self._now, target / 1e6)
