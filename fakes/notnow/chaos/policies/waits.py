"""Waits: how long a client waits after its n-th failed attempt, in seconds.

`attempt` counts from 1, `before` is the wait before this one (0 if there was none), and chance comes from `rng` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from random import Random
from typing import Protocol

from msgspec import Struct


class Wait(Protocol):
    """What tells the next wait."""

    def seconds(self, attempt: int, before: float, rng: Random) -> float:
        """The wait after the attempt of this number."""
        ...


class Constant(Struct, frozen=True):
    """The same wait each time, as Postfix has it at its `minimal_backoff_time` and cron by nature."""

    wait: float

    def seconds(self, attempt: int, before: float, rng: Random) -> float:  # noqa: ARG002
        return self.wait


class Listed(Struct, frozen=True):
    """These waits in turn; the last one again and again. Queue runners have such lists, and Laravel's `backoff`."""

    waits: tuple[float, ...]

    def seconds(self, attempt: int, before: float, rng: Random) -> float:  # noqa: ARG002
        return self.waits[min(attempt, len(self.waits)) - 1]


class Linear(Struct, frozen=True):
    """`base + step · (n - 1)`, at most `cap`: tenacity's `wait_incrementing`."""

    base: float
    step: float
    cap: float = inf

    def seconds(self, attempt: int, before: float, rng: Random) -> float:  # noqa: ARG002
        return min(self.cap, self.base + self.step * (attempt - 1))


class Exponential(Struct, frozen=True):
    """`base · factor^(n - 1)`, at most `cap`, with jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    base: float
    factor: float = 2.0
    cap: float = inf
    jitter: str = "none"

    def seconds(self, attempt: int, before: float, rng: Random) -> float:
        if self.jitter == "decorrelated":
            return min(self.cap, rng.uniform(self.base, max(self.base, 3 * before)))
        return JITTER[self.jitter](min(self.cap, _power(self.base, self.factor, attempt - 1)), rng)


class Spread(Struct, frozen=True):
    """Another wait with `size` of proportional jitter: ±0.2 is gRPC's ("gRPC Connection Backoff Protocol")."""

    wait: Wait
    size: float

    def seconds(self, attempt: int, before: float, rng: Random) -> float:
        return self.wait.seconds(attempt, before, rng) * (1 + self.size * rng.uniform(-1, 1))


class Downward(Struct, frozen=True):
    """Another wait less up to a share of it: a share of 1 is full jitter, and 1/2 equal jitter, of any curve."""

    wait: Wait
    share: float

    def seconds(self, attempt: int, before: float, rng: Random) -> float:
        return self.wait.seconds(attempt, before, rng) * (1 - self.share * rng.random())


class Added(Struct, frozen=True):
    """Another wait with up to `most` seconds on top, and at most `cap`: stamina's and tenacity's `wait_exponential_jitter`."""

    wait: Wait
    most: float
    cap: float = inf

    def seconds(self, attempt: int, before: float, rng: Random) -> float:
        return min(self.cap, self.wait.seconds(attempt, before, rng) + rng.uniform(0, self.most))


class After(Struct, frozen=True):
    """`lead` waits of `first` seconds before another wait begins: a first retry at once."""

    lead: int
    first: float
    wait: Wait

    def seconds(self, attempt: int, before: float, rng: Random) -> float:
        if attempt <= self.lead:
            return self.first
        return self.wait.seconds(attempt - self.lead, before, rng)


JITTER: Mapping[str, Callable[[float, Random], float]] = {
    "none": lambda wait, _: wait,
    "full": lambda wait, rng: rng.uniform(0, wait),
    "equal": lambda wait, rng: wait / 2 + rng.uniform(0, wait / 2),
}
JITTERS = (*JITTER, "decorrelated")


def _power(base: float, factor: float, exponent: int) -> float:
    try:
        return base * factor**exponent
    except OverflowError:
        return inf
