"""Scenario time: real, sped up, advanced by hand, or several of these.

Phases, quotas, idle time-outs, delays and the journal all read one `Clock`. Time-outs of the sockets themselves (how
long a closing connection lingers) do not belong to the scenario and stay real.

Servers that share a clock also share one order of events: `Clock.stamp` numbers them.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import NamedTuple, Protocol, Self

from notnow import true_time
from notnow.errors import NotRunningError
from notnow.units import seconds

MANY = 1000  # alarms of an adjustable clock before it looks for those that rang or were cancelled
COMPARE = 0.01  # real seconds that the wall time of what happens may lag behind a change of the system's clock
LOOK = 0.01  # real seconds between two looks at a clock that a test moves silently


class Stamps(Iterator[int]):
    """Numbers in the order of time, without a word between the processes of one machine that draw them.

    A number is the real time in microseconds since `zero`, and in its last 8 bits the `place` of the process, so that no
    two processes draw the same one. Processes that share an order have the same `zero` (seconds of `true_time.monotonic`).
    """

    PLACES = 256

    def __init__(self, place: int = 0, zero: float | None = None) -> None:
        self.place, self.zero = place, true_time.monotonic() if zero is None else zero
        self._last, self._places = 0, itertools.count(1)

    def take_place(self) -> int:
        """A place that no other process has. Raises ValueError if there is none left."""
        place = next(self._places)
        if place >= self.PLACES:
            raise ValueError(f"more than {self.PLACES - 1} processes share an order of events")
        return place

    def __next__(self) -> int:
        now = int((true_time.monotonic() - self.zero) * 1e6) * self.PLACES + self.place
        self._last = max(now, self._last + self.PLACES)
        return self._last


class Origin(NamedTuple):
    """What a clock needs to show the same time in another process of this machine, `advanced` seconds ahead by hand."""

    speed: float
    zero: float
    epoch: float
    advanced: float


Reading = tuple[int, float, float]
"""The next number in the order of events, scenario seconds, and the wall time in seconds since 1970."""


class Timed(Protocol):
    """A user of a clock: a fake."""

    def begin(self) -> None:
        """Start scenario time, if it has not started."""

    def settle(self) -> None:
        """Return when every due event has been carried out."""

    def arrive(self) -> None:
        """The clock shows the time to which it was advanced."""


class Alarm:
    """A callback that is due at a time of a clock; `cancel` revokes it."""

    __slots__ = ("_timer", "callback", "loop", "number", "when")

    def __init__(
        self, when: float, number: int, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]
    ) -> None:
        self.when, self.number, self.loop = when, number, loop
        self.callback: Callable[[], object] | None = callback
        self._timer: asyncio.TimerHandle | None = None

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.callback = None
        self._stop_timer()

    def ring(self) -> None:
        self._stop_timer()
        if self.callback is not None:
            callback, self.callback = self.callback, None
            callback()

    def time(self, seconds: float) -> None:
        """Ring after so many real seconds, unless it rings before. Called in its loop."""
        self._stop_timer()
        if self.callback is not None:
            self._timer = self.loop.call_later(seconds, self.ring)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Clock(ABC):
    """Scenario time, in seconds since the clock was made, and the wall time that it represents."""

    def __init__(self) -> None:
        self.epoch = true_time.wall()
        self._numbers: Iterator[int] = itertools.count(1)

    @abstractmethod
    def now(self) -> float:
        """Scenario seconds, monotonic."""

    @abstractmethod
    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        """Run `callback` in `loop` once the clock shows `when`. Called from within that loop."""

    def advance(self, by: float | str | timedelta) -> None:  # noqa: ARG002
        """Move the clock by hand. Raises TypeError if the clock moves by itself."""
        raise TypeError(
            f"a {type(self).__name__} moves by itself; to advance time by hand, give the fake, or the marker of its test, "
            f"clock=ManualClock()"
        )

    def wall(self) -> float:
        """The true wall time, in seconds since 1970, whatever a test does to clocks."""
        return true_time.wall()

    def stamp(self) -> int:
        """The next number in the order of all events under this clock, from 1."""
        return next(self._numbers)

    def read(self) -> Reading:
        """`stamp()`, `now()` and `wall()` in one call."""
        return self.stamp(), self.now(), self.wall()

    def join(self, server: Timed) -> None:  # noqa: B027 (only a clock that is advanced need know)
        """A server starts to use this clock."""

    def part(self, server: Timed) -> None:  # noqa: B027
        """That server has stopped."""


class RealClock(Clock):
    """Real time, `speed` times as fast. A test that freezes or moves time does not affect it."""

    def __init__(self, speed: float = 1.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed!r}; allowed: a number above 0")
        super().__init__()
        self.speed = speed
        self._zero = true_time.monotonic()
        self._ahead, self._compared = 0.0, -math.inf  # wall time less real time, and when that was found

    def now(self) -> float:
        return (true_time.monotonic() - self._zero) * self.speed

    def read(self) -> Reading:
        now = true_time.monotonic()
        if now - self._compared >= COMPARE:
            self._ahead, self._compared = true_time.wall() - now, now
        return next(self._numbers), (now - self._zero) * self.speed, now + self._ahead

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        return loop.call_later(max(0.0, (when - self.now()) / self.speed), callback)


class FollowingClock(Clock):
    """The test's time: that of `time.time()`, frozen, ticked or moved by freezegun or time-machine.

    Scenario time never goes back. When the test moves time, due events are carried out within some real
    milliseconds; wait for them with `wait_for`.
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

    `advance` stops at every due event, in order, and returns when the servers have carried it out: by then the
    replies at the end of a phase are on the wire.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._lock = threading.Lock()
        self._alarms: list[Alarm] = []
        self._order = itertools.count()
        self._servers: list[Timed] = []
        self._advancing = 0  # how many threads advance it now
        self._promised = 0.0  # where they are to bring it

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        with self._lock:
            if when <= self.now():
                return loop.call_soon(callback)
            alarm = Alarm(when, next(self._order), loop, callback)
            heapq.heappush(self._alarms, alarm)
        return alarm

    def join(self, server: Timed) -> None:
        self._servers.append(server)

    def part(self, server: Timed) -> None:
        if server in self._servers:
            self._servers.remove(server)

    @property
    def due(self) -> float | None:
        """The time of the next due event; None if there is none."""
        with self._lock:
            self._drop_cancelled()
            return self._alarms[0].when if self._alarms else None

    def advance(self, by: float | str | timedelta) -> None:
        """Move the clock by seconds, a duration such as "30m", or a timedelta. Threads that do so at the same time move it by the sum.

        Raises ValueError for an invalid or negative time.
        """
        span = seconds(by)
        if span < 0:
            raise ValueError(f"cannot advance by {by!r}; allowed: zero or more")
        with self._promise(span) as target:
            self.advance_to(target)

    @contextlib.contextmanager
    def _promise(self, span: float) -> Iterator[float]:
        """The time to which a thread has to bring the clock so that it moves by `span`, whatever other threads do."""
        now = self.now()
        with self._lock:
            self._advancing += 1
            target = self._promised = max(self._promised, now) + span
        try:
            yield target
        finally:
            with self._lock:
                self._advancing -= 1
                if not self._advancing:
                    self._promised = 0.0

    def advance_to(self, target: float) -> None:
        """Move the clock to `target` seconds, and stop at every due event on the way."""
        self._begin()
        self._settle()
        while not self._reach(target):
            if (alarm := self._next(target)) is not None:
                self._show(alarm.when)
                alarm.loop.call_soon_threadsafe(alarm.ring)
            self._settle()
        self._tell(lambda server: server.arrive())

    def _show(self, when: float) -> None:
        """Move the clock to this time, never back."""
        self._now = max(self._now, when)

    def _reach(self, target: float) -> bool:
        """Show `target`, unless an event is due before it."""
        with self._lock:
            self._drop_cancelled()
            if self._alarms and self._alarms[0].when <= target:
                return False
            self._show(target)
            return True

    def _begin(self) -> None:
        self._tell(lambda server: server.begin())

    def _settle(self) -> None:
        self._tell(lambda server: server.settle())

    def _tell(self, what: Callable[[Timed], object]) -> None:
        for server in list(self._servers):
            with contextlib.suppress(NotRunningError):  # it has just been stopped
                what(server)

    def _next(self, target: float) -> Alarm | None:
        with self._lock:
            self._drop_cancelled()
            if self._alarms and self._alarms[0].when <= target:
                return heapq.heappop(self._alarms)
            return None

    def _drop_cancelled(self) -> None:
        while self._alarms and self._alarms[0].callback is None:
            heapq.heappop(self._alarms)


class AdjustableClock(ManualClock):
    """Real time, `speed` times as fast, that can be advanced by hand as well. At a speed of 0 it stands still until then."""

    def __init__(self, speed: float = 1.0, numbers: Iterator[int] | None = None) -> None:
        """Clocks with the same `numbers` share one order of events, each with a time of its own."""
        if not speed >= 0:
            raise ValueError(f"speed is {speed!r}; allowed: 0 or more")
        super().__init__()
        self._numbers = numbers or self._numbers
        self.speed = speed
        self._zero = true_time.monotonic()
        self._many = MANY

    @property
    def numbers(self) -> Iterator[int]:
        """What numbers events in their order."""
        return self._numbers

    @property
    def origin(self) -> Origin:
        return Origin(self.speed, self._zero, self.epoch, self._now)

    @classmethod
    def at(cls, origin: Origin, numbers: Iterator[int]) -> Self:
        """A clock that shows the time of another process."""
        made = cls(origin.speed, numbers)
        made._zero, made.epoch, made._now = origin.zero, origin.epoch, origin.advanced
        return made

    def show(self, origin: Origin) -> None:
        """Show the time of another process; what is due is carried out later."""
        self._now = max(self._now, origin.advanced)
        if origin.zero != self._zero:
            self._zero = origin.zero
            self.time_alarms()

    def follow(self, origin: Origin) -> None:
        """Show the time of another process, and stop at every due event on the way."""
        self.advance_to(self.now() + origin.advanced - self._now)
        self.show(origin)

    def now(self) -> float:
        return self._now + (true_time.monotonic() - self._zero) * self.speed  # `_now` is what was advanced by hand

    def _show(self, when: float) -> None:
        self._now = max(self._now, when - (true_time.monotonic() - self._zero) * self.speed)

    def call_at(self, when: float, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> Cancellable:
        made = super().call_at(when, loop, callback)
        if isinstance(made, Alarm):
            self._time(made)
            self._forget_cancelled()
        return made

    def advance_to(self, target: float) -> None:
        super().advance_to(target)
        self.time_alarms()

    def time_alarms(self) -> None:
        """The clock was set: alarms are due sooner or later now."""
        with self._lock:
            alarms = [alarm for alarm in self._alarms if alarm.callback is not None]
        for alarm in alarms:
            alarm.loop.call_soon_threadsafe(self._time, alarm)

    def _time(self, alarm: Alarm) -> None:
        """Have an alarm ring in real time. Called in its loop."""
        if self.speed:
            alarm.time(max(0.0, (alarm.when - self.now()) / self.speed))

    def _forget_cancelled(self) -> None:
        """Drop the alarms that rang or were cancelled, now and then: nobody may ever advance this clock."""
        if len(self._alarms) > self._many:
            with self._lock:
                self._alarms = [alarm for alarm in self._alarms if alarm.callback is not None]
                heapq.heapify(self._alarms)
                self._many = max(MANY, 2 * len(self._alarms))
