"""The wall clock under fast_forward, moved by time-machine: time.time(), datetime.now() and the like.

It moves for the whole process, since C code reads it. It stands still between moves.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import time_machine

from notnow.clock import Clock


class Wall:
    """The wall clock at `clock.epoch` plus scenario time, until `stack` closes.

    `read` is called at every reading, so that the driver notices a thread that spins on the clock. time-machine does
    not promise this seam.
    """

    def __init__(self, stack: ExitStack, clock: Clock) -> None:
        self.read: Callable[[], object] = lambda: None
        self._shown = clock.now()
        travel = time_machine.travel(clock.epoch + self._shown, tick=False)
        self._traveller = travel.start()
        stack.callback(travel.stop)
        self._time_ns = self._traveller.time_ns
        setattr(self._traveller, "time_ns", self._look)  # noqa: B010

    def _look(self) -> int:
        self.read()
        return self._time_ns()

    def follow(self, now: float) -> None:
        """Scenario time is `now`."""
        self._traveller.shift(now - self._shown)
        self._shown = now
