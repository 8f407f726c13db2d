"""A policy: a wait, and what stops, holds or overrules it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from msgspec import Struct

from notnow.chaos.policies.guards import Guard
from notnow.chaos.policies.stops import Stop
from notnow.chaos.policies.waits import Wait

FIRST = 10  # waits that are looked at


class Policy(Struct, frozen=True):
    """What a client does about a failed attempt.

    `name`: as its user wrote it. `wait`: how long it waits. `stops`: each may give the item up. `guards` make what holds
    one client. `heeds`: it waits at least as long as a Retry-After asks for. `own`: it runs code of the user's, which may
    draw from Python's module `random`.
    """

    name: str
    wait: Wait
    stops: tuple[Stop, ...] = ()
    guards: tuple[Callable[[], Guard], ...] = ()
    heeds: bool = False
    own: bool = False

    def gives_up(self, attempts: int, elapsed: float) -> bool:
        """True if an item is given up after so many attempts, and so many seconds since the first one."""
        return any(stop.stops(attempts, elapsed) for stop in self.stops)

    @property
    def never_waits(self) -> bool:
        """True if its clients come again at once, again and again: a 0 was meant to be something else, or a bug is simulated.

        Waits of the user's own code are not known before they happen.
        """
        rng = Random(0)
        return not (self.own or self.heeds) and not any(self.wait.seconds(n, 0.0, rng) for n in range(1, FIRST + 1))
