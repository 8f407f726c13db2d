"""Scenario time: real, sped up, or advanced by hand.

Phases, quotas, idle time-outs, delays and the journal all read one `Clock`. Time-outs of the sockets
themselves (how long a closing connection lingers) are not the scenario's, and stay real.

Servers that share a clock share one order of events as well: `Clock.stamp` numbers them.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from notnow import true_time
from notnow.units import seconds

LOOK = 0.01  # real seconds between two looks at a clock that a test moves without a word


class Timed(Protocol):
    """Somebody who lives by a clock: a fake."""

    def begin(self) -> None:
        """Let scenario time start, if it has not."""

    def settle(self) -> None:
        """Return when everything that is due has been carried out."""


class Alarm:
    """A callback that is due at a time of a clock; `cancel` takes it back."""

    __slots__ = ("callback", "loop", "number", "when")

    def __init__(
        self, when: float, number: int, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> None:
        self.when, self.number, self.loop = when, number, loop
        self.callback: Callable[[], object] | None = callback

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.callback = None

    def ring(self) -> None:
        if self.callback is not None:
            callback, self.callback = self.callback, None
            callback()


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Clock(ABC):
    """Seconds of scenario time since the clock was made, and the wall time that they stand for."""

    def __init__(self) -> None:
        self.epoch = true_time.wall()
        self._numbers = itertools.count(1)

    @abstractmethod
    def now(self) -> float:
        """Scenario seconds, monotonic."""

    @abstractmethod
    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        """Run `callback` in `loop` once the clock shows `when`. Called from within that loop."""

    def advance(self, by: float | str | timedelta) -> None:  # noqa: ARG002
        """Move the clock on by hand, where it is one that can be. Raises TypeError where it moves by itself."""
        raise TypeError(f"a {type(self).__name__} moves by itself; for one to advance by hand give clock=ManualClock()")

    def wall(self) -> float:
        """The wall time of what happens now, in seconds since 1970: the true one, whatever a test does to clocks."""
        return true_time.wall()

    def stamp(self) -> int:
        """The next number in the order of everything that happens under this clock, from 1."""
        return next(self._numbers)

    def join(self, server: Timed) -> None:  # noqa: B027 (only a clock that is advanced need know)
        """A server begins to live by this clock."""

    def part(self, server: Timed) -> None:  # noqa: B027
        """That server is gone."""


class RealClock(Clock):
    """Time as it passes, `speed` times as fast. A test that freezes or moves time does not touch it."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed!r}; allowed: a number above 0")
        super().__init__()
        self.speed = speed
        self._zero = true_time.monotonic()

    def now(self) -> float:
        return (true_time.monotonic() - self._zero) * self.speed

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        return loop.call_later(max(0.0, (when - self.now()) / self.speed), callback)


class FollowingClock(Clock):
    """Time as the test sees it: what `time.time()` says, frozen, ticked or moved by freezegun or time-machine.

    Scenario time never goes back. What falls due when the test moves time is carried out within some real
    milliseconds; wait for it with `wait_for`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch = time.time()
        self._furthest = 0.0

    def now(self) -> float:
        self._furthest = max(self._furthest, time.time() - self.epoch)
        return self._furthest

    def wall(self) -> float:
        return self.epoch + self.now()

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        alarm = Alarm(when, 0, loop, callback)

        def look() -> None:
            if self.now() >= when:
                alarm.ring()
            elif alarm.callback is not None:
                loop.call_later(LOOK, look)

        loop.call_soon(look)
        return alarm


class ManualClock(Clock):
    """Time that stands still until `advance` moves it.

    `advance` stops at every time at which something is due, in order, and returns when the servers have
    carried it out: what a phase that ends says to its clients is on the wire by then.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._lock = threading.Lock()
        self._alarms: list[Alarm] = []
        self._order = itertools.count()
        self._servers: list[Timed] = []

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        with self._lock:
            if when <= self._now:
                return loop.call_soon(callback)
            alarm = Alarm(when, next(self._order), loop, callback)
            heapq.heappush(self._alarms, alarm)
        return alarm

    def join(self, server: Timed) -> None:
        self._servers.append(server)

    def part(self, server: Timed) -> None:
        self._servers.remove(server)

    @property
    def due(self) -> float | None:
        """The earliest time at which something is due; None while nothing is."""
        with self._lock:
            self._drop_cancelled()
            return self._alarms[0].when if self._alarms else None

    def advance(self, by: float | str | timedelta) -> None:
        """Move the clock on by seconds, a duration such as "30m", or a timedelta.

        Raises ValueError for a time that is none, or negative.
        """
        span = seconds(by)
        if span < 0:
            raise ValueError(f"cannot advance by {by!r}; allowed: zero or more")
        self.advance_to(self._now + span)

    def advance_to(self, target: float) -> None:
        """Move the clock to `target` seconds, stopping wherever something is due on the way."""
        for server in list(self._servers):
            server.begin()
        self._settle()
        while not self._reach(target):
            if (alarm := self._next(target)) is not None:
                self._now = max(self._now, alarm.when)
                alarm.loop.call_soon_threadsafe(alarm.ring)
            self._settle()

    def _reach(self, target: float) -> bool:
        """Show `target`, unless something is due on the way there."""
        with self._lock:
            self._drop_cancelled()
            if self._alarms and self._alarms[0].when <= target:
                return False
            self._now = max(self._now, target)
            return True

    def _settle(self) -> None:
        for server in list(self._servers):
            server.settle()

    def _next(self, target: float) -> Alarm | None:
        with self._lock:
            self._drop_cancelled()
            if self._alarms and self._alarms[0].when <= target:
                return heapq.heappop(self._alarms)
            return None

    def _drop_cancelled(self) -> None:
        while self._alarms and self._alarms[0].callback is None:
            heapq.heappop(self._alarms)
