"""The clock of a shared service: every replica shows the same scenario time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from notnow import true_time
from notnow.clock import AdjustableClock, Stamps
from notnow.errors import NotRunningError
from notnow.units import seconds

MICRO = 1_000_000


class Voice(Protocol):
    """A replica that runs: it tells the others."""

    @property
    def service(self) -> str: ...
    def announce(self, by: float) -> tuple[float, int]: ...
    def settle(self, version: int) -> None: ...
    @property
    def on_corrected(self) -> Callable[[], None]: ...


class SharedStamps(Stamps):
    """Numbers in the order of time, on all machines: microseconds, and in the last 8 bits the place of a process of a replica.

    The time is real time since the service began, with what was advanced by hand: it goes on where scenario time stands still.
    """

    def __init__(self, clock: SharedClock, place: int = 0) -> None:
        super().__init__(place)
        self._clock = clock

    def __next__(self) -> int:
        now = int(self._clock.passed * MICRO) * self.PLACES + self.place
        self._last = max(now, self._last + self.PLACES)
        return self._last


class SharedClock(AdjustableClock):
    """Scenario time as Redis has it: since the service began, `speed` times as fast as real time, and advanced by hand.

    At a speed of 0 it stands still until it is advanced. Events of several replicas stand in one order: that of their times.
    """

    def __init__(self, speed: float = 1.0, place: int = 0) -> None:
        """`place` is that of a worker among the processes of a replica; see `SharedStamps`."""
        super().__init__(speed, SharedStamps(self, place))
        self.voices: list[Voice] = []  # the replicas of this process that have this clock
        self._furthest = 0.0
        self._catching_up = threading.Lock()

    def now(self) -> float:
        self._furthest = max(self._furthest, super().now())
        return self._furthest

    @property
    def passed(self) -> float:
        """Real seconds since scenario time was 0, and the seconds by which it was advanced by hand."""
        return self.elapsed + self._now

    @property
    def elapsed(self) -> float:
        """Real seconds since scenario time was 0."""
        return true_time.monotonic() - self._zero

    def align(self, zero: float, advanced: float) -> None:
        """Scenario time was 0 at this time of `true_time.monotonic`, and was advanced by so many seconds since."""
        with self._catching_up:
            self._zero, self._now = zero, advanced
            self.epoch = true_time.wall() - (true_time.monotonic() - zero)
            self._furthest = 0.0

    def correct(self, earliest: float, latest: float) -> None:
        """Scenario time was 0 between these times: where this clock says otherwise, it is set, by as little as may be.

        Clocks of machines drift apart, and stand still while a machine is suspended. This one never goes back: if it is
        ahead, it stands still until the others have caught up.
        """
        if not self._catching_up.acquire(blocking=False):
            return  # it is being advanced; the next beat of the heart corrects it
        try:
            zero = min(max(self._zero, earliest), latest)
            if zero != self._zero:
                self._zero = zero
                self.time_alarms()
                for voice in self.voices:
                    voice.on_corrected()
        finally:
            self._catching_up.release()

    def advance(self, by: float | str | timedelta) -> None:
        """Move the time of all replicas. When this returns, each of them has carried out what was due.

        Raises ValueError for an invalid or negative time, NotRunningError before a fake with this clock has started.
        """
        span = float(seconds(by))
        if span < 0:
            raise ValueError(f"cannot advance by {by!r}; allowed: zero or more")
        if not self.voices:
            raise NotRunningError(
                "this clock is that of a shared service, and no fake of this process runs; start one first"
            )
        voice = self.voices[0]
        total, version = voice.announce(span)
        self.catch_up(total)
        voice.settle(version)

    def catch_up(self, total: float) -> None:
        """Show everything that was advanced by hand, on whatever replica. For any thread but the loop's."""
        with self._catching_up:
            if total > self._now:
                super().advance(total - self._now)
                self._now = total  # real time went on meanwhile
                self.time_alarms()
                self._tell(lambda server: server.arrive())
