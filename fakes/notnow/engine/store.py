"""What the engine counts, behind one atomic call.

Everything that several replicas of a fake would have to share lives here: tallies, places, windows, and
where the scenario stands. `Memory` keeps it in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from notnow.engine.conditions import Always, Key, Tally
from notnow.language.conditions import Condition, Owners, Quota

Place = tuple[Key, str]  # where, and the owner who takes it


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rule whose `on`, `where` and chance have matched: what remains is for the store to say."""

    rule: int
    conditions: tuple[Condition, ...]
    refuses: bool
    holds: Callable[[Tally, float, Owners], bool] = field(init=False, compare=False)
    limits: tuple[Condition, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "limits", tuple(c for c in self.conditions if c.tells))
        first, *more = self.conditions or (Always(),)
        object.__setattr__(self, "holds", self._all if more else first.holds)

    def _all(self, tally: Tally, now: float, owners: Owners, /) -> bool:
        return all(condition.holds(tally, now, owners) for condition in self.conditions)

    def quota(self, tally: Tally, now: float) -> Quota:
        """How its limits stand together: it fires only while all hold, so the most generous of them counts."""
        found = [limit.quota(tally, now) for limit in self.limits]
        remaining = [one.remaining for one in found if one.remaining is not None]
        waits = [one.wait for one in found if one.wait is not None]
        resets = [one.reset for one in found if one.reset is not None]
        return Quota(max(remaining, default=None), min(waits, default=None), min(resets, default=None))


@dataclass(frozen=True, slots=True)
class PhasePosition:
    """Where a scenario stands: which phase, in which lap, since when (None: time has not started)."""

    phase: int = 0
    lap: int = 0
    since: float | None = None


class DecisionRequest(NamedTuple):
    """One event, as the store sees it.

    `owners` are its connection, and what it begins there if that lasts. `counts` are the keys that count it,
    each once; `candidates` the rules in order, each with its key. If it is let through, it takes `places`,
    each for one of its owners, and is noted in `windows`. `until` are moments that cover it, each with the
    number of events that ends the phase. `limits` are the rules, each with its key, whose quotas the answer tells.
    """

    position: PhasePosition
    owners: Owners
    counts: Sequence[Key] = ()
    candidates: Sequence[tuple[Candidate, Key]] = ()
    places: Sequence[Place] = ()
    windows: Sequence[Key] = ()
    until: Sequence[tuple[str, int]] = ()
    limits: Sequence[tuple[Candidate, Key]] = ()


class Decision(NamedTuple):
    """The rule that fires (None: behave), whether the phase ends with this event, and how the limits then stand."""

    rule: int | None
    ends: bool = False
    quotas: Sequence[Quota] = ()


class Store(Protocol):
    """Counts for one scenario. Each call is atomic."""

    @property
    def position(self) -> PhasePosition: ...

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        """Enter a phase, if the scenario still stands where it was `seen`; counts restart."""
        ...

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        """Count an event, find the rule that fires, and take its places; None if the position has moved on."""
        ...

    def take(self, places: Sequence[Place]) -> None:
        """Take places without asking: those of connections that were let in before."""
        ...

    def give_back(self, places: Sequence[Place]) -> None:
        """Free these places, where their owners have them."""
        ...

    def release(self, owner: str) -> None:
        """Free every place of this owner."""
        ...

    def forget(self, connection: str) -> None:
        """Drop what was counted for this connection alone: it is gone."""
        ...


class Memory:
    """A store in this process, for engines that are fed from one thread."""

    def __init__(self) -> None:
        self.position = PhasePosition()
        self._tallies: dict[Key, Tally] = {}
        self._owned: dict[str, list[Tally]] = {}
        self._own_keys: dict[str, set[Key]] = {}  # connection -> keys that nobody else counts under
        self._ticks: dict[str, int] = {}

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        if seen != self.position:
            return False
        if (to.phase, to.lap) != (seen.phase, seen.lap):
            self._restart()
        self.position = to
        return True

    def _restart(self) -> None:
        """A new phase: what is counted starts anew, who is in stays in."""
        self._ticks.clear()
        self._tallies = {key: tally for key, tally in self._tallies.items() if tally.held or tally.window}
        for tally in self._tallies.values():
            tally.restart()

    def _tally(self, key: Key, connection: str) -> Tally:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
            if connection in key:
                self._own_keys.setdefault(connection, set()).add(key)
        return tally

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        if request.position is not self.position and request.position != self.position:
            return None
        connection = request.owners[0]
        for key in request.counts:
            tally = self._tally(key, connection)
            tally.count += 1
            if tally.count == 1:
                tally.since = now
        fired = self._first(request, now)
        if fired is None or not fired.refuses:
            self.take(request.places)
            for key in request.windows:
                self._tally(key, connection).window.append(now)
        ends = False
        for moment, n in request.until:
            ends |= self._tick(moment, n)
        quotas = [limit.quota(self._tally(key, connection), now) for limit, key in request.limits]
        return Decision(None if fired is None else fired.rule, ends, quotas or ())

    def _first(self, request: DecisionRequest, now: float) -> Candidate | None:
        owners = request.owners
        last = tally = None
        for candidate, key in request.candidates:
            if key is not last or tally is None:  # rules that count alike come with one key
                tally, last = self._tally(key, owners[0]), key
            if candidate.holds(tally, now, owners):
                tally.fired[candidate.rule] = tally.fired.get(candidate.rule, 0) + 1
                return candidate
        return None

    def _tick(self, moment: str, n: int) -> bool:
        self._ticks[moment] = self._ticks.get(moment, 0) + 1
        return self._ticks[moment] >= n

    def take(self, places: Sequence[Place]) -> None:
        for key, owner in places:
            tally = self._tally(key, owner)
            if owner not in tally.held:
                tally.held.add(owner)
                self._owned.setdefault(owner, []).append(tally)

    def give_back(self, places: Sequence[Place]) -> None:
        for key, owner in places:
            tally = self._tallies.get(key)
            if tally is not None and owner in tally.held:
                tally.held.discard(owner)
                self._owned[owner].remove(tally)

    def release(self, owner: str) -> None:
        for tally in self._owned.pop(owner, ()):
            tally.held.discard(owner)

    def forget(self, connection: str) -> None:
        for key in self._own_keys.pop(connection, ()):
            self._tallies.pop(key, None)
