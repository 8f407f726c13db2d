"""fast_forward: sleeps in the test process move scenario time on, instead of waiting.

The test's thread, and every thread that such a thread starts meanwhile, is a *party*. A party runs, or it is
parked: in a sleep, on a lock of Condition.wait (Event, Queue, Timer, Future, Thread.join), in a selector
(asyncio's only wait), in a socket. Time stands still while a party runs, however long it computes: no idle
time-out of a fake strikes then. When all are parked, the fakes are let come to rest, so that no byte is on
its way; then the first party whose wait is over goes on alone. Where none is, and only there, the clock jumps
to whatever is due first, of the parties' deadlines and the fakes' alarms: fakes first on a tie, then parties
in the order in which they parked. So the order of events is the same in every run, a reply that is delayed
or dripped costs no time, and a fake's idle time-out cuts exactly those clients that it would cut in real life:
those that sleep, or wait for something else, for longer than it.

What waits for other processes or machines (a child, a pipe, a name look-up, a socket whose other end is no
fake) lets real time pass. What cannot be moved is refused: trio, uvloop, spinning on a clock. A thread that
blocks in a call that is not seen (Lock.acquire, select.select) is noticed after half a second; the clock then
moves without it, and a FastForwardWarning says so at the end. Threads that were there before take no part: a
wait with a time-out for one of these ends at once. time.perf_counter, the time-outs of C code, and
`wait_for` of the fakes stay real. POSIX only.
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
from notnow.time_travel import world as worlds
from notnow.time_travel.clock import WorldClock
from notnow.time_travel.wall import Wall
from notnow.time_travel.world import World
from notnow.units import seconds


class FastForwardWarning(UserWarning):
    """Something in this test went another way than it would have in real time."""


class FastForward:
    """Makes the waits of this thread, and of the threads that it starts, take scenario time.

        with FastForward() as world, FakeSMTP("smtp/overload", outage="10m", clock=world.clock) as smtp:
            send_mail(host=smtp.host, port=smtp.port)  # may sleep for days

    `clock` is for the fakes; they may be started before or after this is entered. `horizon` is how much
    scenario time may pass in all: seconds, a duration, or a timedelta. An object can be entered once.
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
        """Raises FastForwardError on Windows, inside another fast_forward, and at a second time."""
        if sys.platform == "win32":
            raise FastForwardError(
                "fast_forward needs poll(), which Windows lacks; use ManualClock() and clock.advance()"
            )
        if worlds.current is not None:
            raise FastForwardError("fast_forward is on already; one at a time")
        if self._world is not None:
            raise FastForwardError("this FastForward has been used; make a new one")
        with ExitStack() as stack:
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
        client.install(stack)
        stack.callback(world.close)  # before anything is put back, so that nobody meets half of it

    def _release(self, world: World) -> None:
        world.close()
        self._clock.world = worlds.current = None
        self._left = world.release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Everything is as before. FastForwardWarning tells of waits that were not seen, and of threads left behind."""
        assert self._world is not None
        self._undo.close()
        notes = list(self._world.notes)
        if self._left:
            notes.append(f"these were still waiting when the test was over, and were ended: {', '.join(self._left)}")
        for note in notes:
            if error is None:
                warnings.warn(FastForwardWarning(note), stacklevel=2)
            else:
                error.add_note(note)

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """What this thread waits for in here is outside: real time passes. For waits that cannot be seen."""
        if self._world is None:
            raise FastForwardError("outside() belongs inside the `with` block of FastForward")
        with self._world.outside():
            yield
