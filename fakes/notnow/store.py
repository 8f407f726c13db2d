"""What the engine counts, behind one atomic call.

Everything that several replicas of a fake would have to share lives here: tallies, places, windows, and
where the scenario stands. `Memory` keeps it in one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Key = tuple[Hashable, ...]


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

    def holds(self, tally: Tally, now: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Always:
    def holds(self, tally: Tally, now: float) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Nth:
    n: int

    def holds(self, tally: Tally, now: float) -> bool:
        return tally.count == self.n


@dataclass(frozen=True, slots=True)
class Every:
    n: int

    def holds(self, tally: Tally, now: float) -> bool:
        return tally.count % self.n == 0


@dataclass(frozen=True, slots=True)
class First:
    n: int

    def holds(self, tally: Tally, now: float) -> bool:
        return tally.count <= self.n


@dataclass(frozen=True, slots=True)
class After:
    n: int

    def holds(self, tally: Tally, now: float) -> bool:
        return tally.count > self.n


@dataclass(frozen=True, slots=True)
class FirstFor:
    """Within so many seconds of the key's first event."""

    seconds: float

    def holds(self, tally: Tally, now: float) -> bool:
        return now - tally.since < self.seconds


@dataclass(frozen=True, slots=True)
class AfterFor:
    """So many seconds after the key's first event, or later."""

    seconds: float

    def holds(self, tally: Tally, now: float) -> bool:
        return now - tally.since >= self.seconds


@dataclass(frozen=True, slots=True)
class Over:
    """So many are already in."""

    n: int

    def holds(self, tally: Tally, now: float) -> bool:
        return len(tally.held) >= self.n


@dataclass(frozen=True, slots=True)
class OverWithin:
    """So many were let through in the last `seconds`."""

    n: int
    seconds: float

    def holds(self, tally: Tally, now: float) -> bool:
        window = tally.window
        while window and window[0] <= now - self.seconds:
            window.popleft()
        return len(window) >= self.n


@dataclass(frozen=True, slots=True)
class Times:
    """Fired fewer times than `n` under this key."""

    rule: int
    n: int

    def holds(self, tally: Tally, now: float) -> bool:
        return tally.fired.get(self.rule, 0) < self.n


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose `on`, `where` and chance have matched: what remains is for the store to say."""

    rule: int
    conditions: tuple[Condition, ...]
    refuses: bool
    holds: Callable[[Tally, float], bool] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        first, *more = self.conditions or (Always(),)
        object.__setattr__(self, "holds", self._all if more else first.holds)

    def _all(self, tally: Tally, now: float) -> bool:
        return all(condition.holds(tally, now) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a scenario stands: which phase, in which lap, since when (None: time has not started)."""

    phase: int = 0
    lap: int = 0
    since: float | None = None


class Question(NamedTuple):
    """One event, as the store sees it.

    `counts` are the keys that count it, each once; `candidates` the rules in order, each with its key;
    `places` and `windows` the keys that it joins if it is let through, as `owner`. `until` is the moment
    and the number of events that end the phase.
    """

    mark: Mark
    owner: str
    counts: Sequence[Key] = ()
    candidates: Sequence[tuple[Candidate, Key]] = ()
    places: Sequence[Key] = ()
    windows: Sequence[Key] = ()
    until: tuple[str, int] | None = None


class Verdict(NamedTuple):
    """The rule that fires (None: behave), and whether the phase ends with this event."""

    rule: int | None
    ends: bool = False


class Store(Protocol):
    """Counts for one scenario. Each call is atomic."""

    @property
    def mark(self) -> Mark: ...

    def move(self, seen: Mark, to: Mark) -> bool:
        """Enter a phase, if the scenario still stands where it was `seen`; counts restart."""
        ...

    def decide(self, question: Question, now: float) -> Verdict | None:
        """Count an event, find the rule that fires, and take its places; None if the mark has moved on."""
        ...

    def take(self, owner: str, places: Sequence[Key]) -> None:
        """Take places without asking: those of connections that were let in before."""
        ...

    def release(self, owner: str) -> None:
        """Free every place of this owner."""
        ...


class Memory:
    """A store in this process, for one engine that is fed from one thread."""

    def __init__(self) -> None:
        self.mark = Mark()
        self._tallies: dict[Key, Tally] = {}
        self._owned: dict[str, list[Tally]] = {}
        self._ticks: dict[str, int] = {}

    def move(self, seen: Mark, to: Mark) -> bool:
        if seen != self.mark:
            return False
        if (to.phase, to.lap) != (seen.phase, seen.lap):
            self._ticks.clear()
            for tally in self._tallies.values():
                tally.restart()
        self.mark = to
        return True

    def _tally(self, key: Key) -> Tally:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        return tally

    def decide(self, question: Question, now: float) -> Verdict | None:
        if question.mark is not self.mark and question.mark != self.mark:
            return None
        for key in question.counts:
            tally = self._tally(key)
            tally.count += 1
            if tally.count == 1:
                tally.since = now
        fired = self._first(question.candidates, now)
        if fired is None or not fired.refuses:
            self.take(question.owner, question.places)
            for key in question.windows:
                self._tally(key).window.append(now)
        ends = question.until is not None and self._tick(*question.until)
        return Verdict(None if fired is None else fired.rule, ends)

    def _first(self, candidates: Sequence[tuple[Candidate, Key]], now: float) -> Candidate | None:
        last = tally = None
        for candidate, key in candidates:
            if key is not last or tally is None:  # rules that count alike come with one key
                tally, last = self._tally(key), key
            if candidate.holds(tally, now):
                tally.fired[candidate.rule] = tally.fired.get(candidate.rule, 0) + 1
                return candidate
        return None

    def _tick(self, moment: str, n: int) -> bool:
        self._ticks[moment] = self._ticks.get(moment, 0) + 1
        return self._ticks[moment] >= n

    def take(self, owner: str, places: Sequence[Key]) -> None:
        for key in places:
            tally = self._tally(key)
            tally.held.add(owner)
            self._owned.setdefault(owner, []).append(tally)

    def release(self, owner: str) -> None:
        for tally in self._owned.pop(owner, ()):
            tally.held.discard(owner)
