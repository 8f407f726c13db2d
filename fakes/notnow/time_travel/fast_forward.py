"""fast_forward: sleeps in the test process advance scenario time instead of waiting.

The test's thread, and every thread that a party starts, is a *party*. A party runs, or it is parked: in a sleep, a Condition
(Event, Queue, Timer, Future, join), a selector (asyncio's only wait) or a socket. Time stands still while a party runs, however
long it computes. When all are parked, the fakes come to rest, so that no byte is in transit; then the first party whose wait has
ended goes on, alone. Only if there is none does the clock jump to the next due event: a fake's alarm, or a party's deadline (on a
tie, the fakes first, then the parties in the order of parking). So the order of events is the same in every run; a delayed or
dripped reply costs no time; and an idle time-out never strikes a client that computes, but does strike, as in real life, a
client that sleeps or waits for something else for too long.

During a wait for a child process, a pipe, a name look-up, or a socket whose peer is not a fake, real time passes at its own
speed. Threads from before (a pool of the module, a worker of the session) become parties at their first wait, and the clock waits
until they are at rest. Watchdogs of the test run live in real time. fast_forward refuses trio, gevent, uvloop, alarms of the
system, spinning on a clock, waits beyond the horizon, and deadlocks: every party waits, and nothing is due.

After half a second, the driver notices a thread in an invisible wait (a lock from before, C code that sleeps). If the wait has a
time-out and the clock moves meanwhile, the test fails at its end; otherwise a FastForwardWarning says so. time.perf_counter, the
time-outs of C code, and the seconds of a fake's `wait_for` are real. POSIX only.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Self

from notnow.clock import ManualClock
from notnow.errors import FastForwardError
from notnow.time_travel import refusals
from notnow.time_travel import world as worlds
from notnow.time_travel.clock import WorldClock
from notnow.time_travel.wall import Wall
from notnow.time_travel.world import World
from notnow.units import seconds

_in_place = False  # `kept_in_place` has put in place what a FastForward needs


class FastForwardWarning(UserWarning):
    """Something in this test may have differed from real time."""


class FastForward:
    """Make the waits of this thread, and of the threads that it starts, take scenario time.

        with FastForward() as world, FakeSMTP("smtp/overload", outage="10m", clock=world.clock) as smtp:
            send_mail(host=smtp.host, port=smtp.port)  # may sleep for days

    `clock` is for the fakes, which may start before or after this is entered. `horizon` limits the scenario time that may
    pass: seconds, a duration, or a timedelta. Enter an object only once.
    """

    def __init__(self, *, horizon: float | str | timedelta = "400d") -> None:
        self._horizon = seconds(horizon)
        self._clock = WorldClock()
        self._world: World | None = None
        self._undo = ExitStack()
        self._left: list[str] = []

    @property
    def clock(self) -> ManualClock:
        """The scenario clock, for `clock=` of fakes. `clock.advance` in the test is a sleep."""
        return self._clock

    def __enter__(self) -> Self:
        """Raises FastForwardError on Windows, inside another fast_forward, and the second time."""
        if sys.platform == "win32":
            raise FastForwardError(
                "fast_forward needs poll(), which Windows lacks; use ManualClock() and clock.advance()"
            )
        if self._world is not None and self._world is not worlds.current:
            raise FastForwardError("this FastForward has been used; make a new one")
        with ExitStack() as stack:
            if not worlds.claim.acquire(blocking=False):
                raise FastForwardError(
                    "fast_forward is on already; one at a time, in all threads of a process together"
                )
            stack.callback(worlds.claim.release)
            if not _in_place:
                refusals.refuse_patched_time()
            self._begin(stack)
            self._undo = stack.pop_all()
        return self

    def _begin(self, stack: ExitStack) -> None:
        from notnow.time_travel import client

        wall = Wall(stack, self._clock)
        self._world = world = World(self._clock, self._horizon, wall.follow)
        wall.read = world.read
        world.open()
        stack.callback(self._release, world)
        self._clock.world = worlds.current = world
        if not _in_place:
            client.install(stack)
        world.drive()
        stack.callback(world.close)  # before anything is restored, so that no thread meets half of it

    def _release(self, world: World) -> None:
        world.close()
        self._clock.world = worlds.current = None
        self._left = world.release()

    def __repr__(self) -> str:
        return f"<FastForward at {self._clock.shown:g} s>"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore everything. FastForwardWarning reports invisible waits and threads left behind.

        Raises FastForwardError if a thread was in a real wait while the clock moved, since the test then proves nothing.
        """
        assert self._world is not None
        self._undo.close()
        notes, faults = list(self._world.notes), list(self._world.faults)
        if self._left:
            notes.append(f"these were still waiting when the test was over, and were ended: {', '.join(self._left)}")
        if error is None and not faults:
            for note in notes:
                warnings.warn(FastForwardWarning(note), stacklevel=2)
            return
        told = error if error is not None else FastForwardError("; ".join(faults))
        for note in notes if error is None else [*faults, *notes]:
            told.add_note(note)
        if error is None:
            raise told

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Inside, real time passes while this thread waits. For invisible waits."""
        if self._world is None:
            raise FastForwardError("outside() belongs inside the `with` block of FastForward")
        with self._world.outside():
            yield


@contextlib.contextmanager
def kept_in_place() -> Iterator[None]:
    """Inside, FastForwards that follow one another share what each puts in place.

    Putting it in place takes a search of the whole heap: 10 to 100 ms, too long for each of the hundreds of examples of
    a property. Outside of a FastForward, everything that stays in place does what it does in real time.
    """
    global _in_place
    from notnow.time_travel import client

    if sys.platform == "win32" or _in_place:  # there, FastForward itself says why it cannot be entered
        yield
        return
    with ExitStack() as stack:
        if not worlds.claim.acquire(blocking=False):
            raise FastForwardError("fast_forward is on already; keep what it needs in place before it is entered")
        try:
            refusals.refuse_patched_time()
            client.install(stack)
        finally:
            worlds.claim.release()
        _in_place = True
        try:
            yield
        finally:
            _in_place = False
