"""The conditions of rules: each says whether it holds, given what has been counted under its key."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from notnow.language.grammar import Rule
from notnow.units import Span

Key = tuple[Hashable, ...]
Owners = tuple[str, ...]  # a connection, and what is in progress on it: both may hold places


@dataclass(slots=True)
class Tally:
    """What was counted under one key.

    `count` and `since` (the time of its first event) restart with the phase, and so does `fired`. `held`
    and `window`, who is in and when somebody was let in, do not.
    """

    count: int = 0
    since: float = 0.0
    fired: dict[int, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    window: deque[float] = field(default_factory=deque)

    def restart(self) -> None:
        self.count = 0
        self.fired.clear()


class Condition(Protocol):
    """One condition of a rule, asked of the tally of its key after the event has been counted."""

    def holds(self, tally: Tally, now: float, owners: Owners, /) -> bool: ...


class Quota(NamedTuple):
    """How a limit stands for one key, once an event has been decided; None where only an event could tell.

    `remaining`: how many more it lets through now. `wait`: in how many seconds it lets the key through
    again, 0 where it does now. `reset`: in how many seconds `remaining` grows, 0 where nothing is counted.
    """

    remaining: int | None = None
    wait: float | None = None
    reset: float | None = None


@runtime_checkable
class Limit(Protocol):
    """A condition that can say how far it is from holding, or from holding no longer."""

    def quota(self, tally: Tally, now: float, /) -> Quota: ...


@dataclass(frozen=True, slots=True)
class Always:
    def holds(self, _tally: Tally, _now: float, _owners: Owners, /) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Nth:
    n: int

    def holds(self, tally: Tally, _now: float, _owners: Owners, /) -> bool:
        return tally.count == self.n


@dataclass(frozen=True, slots=True)
class Every:
    n: int

    def holds(self, tally: Tally, _now: float, _owners: Owners, /) -> bool:
        return tally.count % self.n == 0


@dataclass(frozen=True, slots=True)
class First:
    n: int

    def holds(self, tally: Tally, _now: float, _owners: Owners, /) -> bool:
        return tally.count <= self.n


@dataclass(frozen=True, slots=True)
class After:
    n: int

    def holds(self, tally: Tally, _now: float, _owners: Owners, /) -> bool:
        return tally.count > self.n

    def quota(self, tally: Tally, _now: float, /) -> Quota:
        return Quota(remaining=max(0, self.n - tally.count))


@dataclass(frozen=True, slots=True)
class FirstFor:
    """Within so many seconds of the key's first event."""

    seconds: float

    def holds(self, tally: Tally, now: float, _owners: Owners, /) -> bool:
        return now - tally.since < self.seconds

    def quota(self, tally: Tally, now: float, /) -> Quota:
        left = max(0.0, tally.since + self.seconds - now)
        return Quota(wait=left, reset=left)


@dataclass(frozen=True, slots=True)
class AfterFor:
    """So many seconds after the key's first event, or later."""

    seconds: float

    def holds(self, tally: Tally, now: float, _owners: Owners, /) -> bool:
        return now - tally.since >= self.seconds


@dataclass(frozen=True, slots=True)
class Over:
    """So many others are already in: who is in and asks again is not turned away."""

    n: int

    def holds(self, tally: Tally, _now: float, owners: Owners, /) -> bool:
        return len(tally.held) >= self.n and len(tally.held.difference(owners)) >= self.n

    def quota(self, tally: Tally, _now: float, /) -> Quota:
        return Quota(remaining=max(0, self.n - len(tally.held)))


@dataclass(frozen=True, slots=True)
class OverWithin:
    """So many were let through in the last `seconds`."""

    n: int
    seconds: float

    def holds(self, tally: Tally, now: float, _owners: Owners, /) -> bool:
        return len(self._recent(tally, now)) >= self.n

    def _recent(self, tally: Tally, now: float) -> deque[float]:
        window = tally.window
        while window and window[0] <= now - self.seconds:
            window.popleft()
        return window

    def quota(self, tally: Tally, now: float, /) -> Quota:
        window = self._recent(tally, now)
        reset = window[0] + self.seconds - now if window else 0.0
        if len(window) < self.n:
            return Quota(self.n - len(window), 0.0, reset)
        # The key is let through when fewer than n are left. With n = 0 that never happens.
        return Quota(0, window[-self.n] + self.seconds - now if self.n else None, reset)


@dataclass(frozen=True, slots=True)
class Times:
    """Fired fewer times than `n` under this key."""

    rule: int
    n: int

    def holds(self, tally: Tally, _now: float, _owners: Owners, /) -> bool:
        return tally.fired.get(self.rule, 0) < self.n


def counts(rule: Rule) -> bool:
    after = None if "idle" in rule.on else rule.after  # there it is the length of the silence
    return any(v is not None for v in (rule.nth, rule.every, rule.first, after))


def conditions(rule: Rule, index: int) -> tuple[Condition, ...]:
    found: list[Condition] = []
    if rule.nth is not None:
        found.append(Nth(rule.nth))
    if rule.every is not None:
        found.append(Every(rule.every))
    if rule.first is not None:
        found.append(FirstFor(rule.first) if isinstance(rule.first, Span) else First(rule.first))
    if rule.after is not None and "idle" not in rule.on:
        found.append(AfterFor(rule.after) if isinstance(rule.after, Span) else After(rule.after))
    if rule.over is not None:
        found.append(Over(rule.over) if rule.within is None else OverWithin(rule.over, rule.within))
    if rule.times is not None:
        found.append(Times(index, rule.times))
    return tuple(found)
