"""The engine's counts, behind one atomic call.

A store holds everything that several replicas of a fake would have to share: tallies, slots, windows, and the
position of the scenario. `Memory` keeps it in one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct, field

from notnow.engine.capacity import Capacity, Station
from notnow.language.condition import Condition, Owners, Quota

Key = tuple[Hashable, ...]
Slot = tuple[Key, str]  # the key under which it counts, and its owner


class Tally(Struct, eq=False):
    """The counts of one key.

    The number of events, the time of the first, and how often each rule fired restart with the phase. `held`, the
    owners of slots, and `window`, the times of admissions, do not. `load` is that of the whole server.
    """

    count: int = 0
    since: float = 0.0
    fired: dict[int, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    window: deque[float] = field(default_factory=deque)
    load: Station | None = None

    def restart(self) -> None:
        self.count = 0
        self.fired.clear()


class Candidate:
    """A rule whose `on`, `where` and chance have matched; the store tests its conditions.

    `holds`: true if all of them do, as `Condition.holds`. `refuses`: if it fires, the event is not let through.
    """

    __slots__ = ("conditions", "holds", "limits", "refuses", "rule")

    def __init__(self, rule: int, conditions: tuple[Condition, ...], refuses: bool) -> None:
        self.rule, self.conditions, self.refuses = rule, conditions, refuses
        self.limits = tuple(condition for condition in conditions if condition.tells)
        self.holds = conditions[0].holds if len(conditions) == 1 else _all_of(conditions)  # nearly always one

    def quota(self, tally: Tally, now: float) -> Quota:
        """How its limits stand together. It fires only while all of them hold, so the most generous one counts."""
        found = [limit.quota(tally, now) for limit in self.limits]
        remaining = [one.remaining for one in found if one.remaining is not None]
        waits = [one.wait for one in found if one.wait is not None]
        resets = [one.reset for one in found if one.reset is not None]
        return Quota(max(remaining, default=None), min(waits, default=None), min(resets, default=None))


def _all_of(conditions: tuple[Condition, ...]) -> Callable[[Tally, float, Owners], bool]:
    return lambda tally, now, owners: all(condition.holds(tally, now, owners) for condition in conditions)


class PhasePosition(Struct, frozen=True):
    """The phase that plays, in which lap of a scenario that repeats, and since when (None: time has not started)."""

    phase: int = 0
    lap: int = 0
    since: float | None = None

    def next(self, phases: int, at: float | None) -> PhasePosition:
        """The next phase, since `at`; after the last one comes the first, in another lap."""
        phase = (self.phase + 1) % phases
        return PhasePosition(phase, self.lap + (phase <= self.phase), None if self.since is None else at)


class DecisionRequest(Struct, frozen=True, gc=False):
    """One event, as the store sees it.

    `owners` are its connection, and what it begins there if that lasts. `counts` are the keys that count it, each once.
    `facts` are those that the rules read. `candidates` are rules in order, each with its key. An event that is let through acquires `slots`, each for one of
    its owners, and is noted in `windows`. `until` are the moments that cover it, each with the number of events that
    ends the phase. `limits` are the rules, each with its key, whose quotas the decision reports. `work`: the event takes a
    unit of the server's work.
    """

    position: PhasePosition
    owners: Owners
    counts: Sequence[Key] = ()
    candidates: Sequence[tuple[Candidate, Key]] = ()
    slots: Sequence[Slot] = ()
    windows: Sequence[Key] = ()
    until: Sequence[tuple[str, int]] = ()
    limits: Sequence[tuple[Candidate, Key]] = ()
    facts: Mapping[str, object] = {}
    work: bool = False


class Decision(Struct, frozen=True, gc=False):
    """The rule that fires (None: behave), whether this event ends the phase, and how the limits then stand.

    `wait`: in how many seconds its work is done.
    """

    rule: int | None
    ends_phase: bool = False
    quotas: Sequence[Quota] = ()
    wait: float = 0.0


class Store(Protocol):
    """Counts for one scenario. Each call is atomic.

    `remote`: other replicas move it, and `position` is what this one last heard. `outdated`: the replicas that share these counts play another scenario by now. `shut`: nobody can count, and
    the user wants nobody to be let in.
    """

    @property
    def position(self) -> PhasePosition: ...
    @property
    def remote(self) -> bool: ...
    @property
    def outdated(self) -> bool: ...
    @property
    def shut(self) -> bool: ...

    def equip(self, capacity: Capacity) -> None:
        """Let the server do so much work and no more. Called before anything else; by each replica, with the same capacity."""
        ...

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        """Move the scenario, if its position is still the one that was `seen`. In another phase or lap counts restart."""
        ...

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        """Count an event, find the rule that fires, and acquire its slots; None if the position has changed.

        Where others count as well, an event that ends the phase also moves the scenario, so that none of theirs comes in between.
        """
        ...

    def next_connection(self) -> int:
        """The number of a connection in the scenario, from 1: its chances depend on it."""
        ...

    def acquire(self, slots: Sequence[Slot]) -> None:
        """Acquire slots unconditionally: for connections that are in already."""
        ...

    def release(self, slots: Sequence[Slot]) -> None:
        """Free these slots, as far as their owners hold them."""
        ...

    def release_all(self, owner: str) -> None:
        """Free every slot of this owner."""
        ...

    def forget(self, connection: str) -> None:
        """Drop the tallies that only this connection, now closed, counts under."""
        ...


class Memory:
    """A store in this process, for engines that are fed from one thread."""

    remote = outdated = shut = False

    def __init__(self) -> None:
        self.position = PhasePosition()
        self._tallies: dict[Key, Tally] = {}
        self._held: dict[str, list[Tally]] = {}  # owner -> where it holds a slot
        self._own_keys: dict[str, set[Key]] = {}  # connection -> keys that nobody else counts under
        self._until_counts: dict[str, int] = {}
        self._station: Station | None = None
        self._connections = 0

    def equip(self, capacity: Capacity) -> None:
        if self._station is None:
            self._station = Station(capacity)

    def next_connection(self) -> int:
        self._connections += 1
        return self._connections

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        if seen != self.position:
            return False
        if (to.phase, to.lap) != (seen.phase, seen.lap):
            self._restart_counts()
        self.position = to
        return True

    def _restart_counts(self) -> None:
        self._until_counts.clear()
        self._tallies = {key: tally for key, tally in self._tallies.items() if tally.held or tally.window}
        for tally in self._tallies.values():
            tally.restart()

    def tally(self, key: Key) -> Tally:
        """The counts of a key as they are."""
        return self._tallies.get(key) or Tally(load=self._station)

    def _tally(self, key: Key, connection: str) -> Tally:
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(load=self._station)
            if connection in key:
                self._own_keys.setdefault(connection, set()).add(key)
        return tally

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        if request.position is not self.position and request.position != self.position:
            return None
        connection = request.owners[0]
        self.count(request, now)
        fired = self._first(request, now)
        if fired is None or not fired.refuses:
            self._acquire(request.slots)
            for key in request.windows:
                self._tally(key, connection).window.append(now)
        wait = self._work(fired, now) if request.work else 0.0
        ends_phase = False
        for moment, n in request.until:
            ends_phase |= self._reaches(moment, n)
        quotas: Sequence[Quota] = ()
        if request.limits:
            quotas = [limit.quota(self._tally(key, connection), now) for limit, key in request.limits]
        return Decision(None if fired is None else fired.rule, ends_phase, quotas, wait)

    def _work(self, fired: Candidate | None, now: float) -> float:
        """Do the work of an event: in how many seconds it is done. A refusal is work as well, and nobody waits for it."""
        if self._station is None:
            return 0.0
        if fired is None or not fired.refuses:
            return self._station.accept(now) - now
        self._station.refuse(now)
        return 0.0

    def note(self, request: DecisionRequest, now: float) -> None:
        """A decision was made without the counts, because none could change it and it changes none."""

    def count(self, request: DecisionRequest, now: float) -> None:
        """Count an event under its keys."""
        for key in request.counts:
            tally = self._tallies.get(key) or self._tally(key, request.owners[0])
            tally.count += 1
            if tally.count == 1:
                tally.since = now

    def _first(self, request: DecisionRequest, now: float) -> Candidate | None:
        owners, tallies = request.owners, self._tallies
        last: Key | None = None
        tally: Tally
        for candidate, key in request.candidates:
            if key is not last:  # the rules of a group share one key
                tally, last = tallies.get(key) or self._tally(key, owners[0]), key
            if candidate.holds(tally, now, owners):
                tally.fired[candidate.rule] = tally.fired.get(candidate.rule, 0) + 1
                return candidate
        return None

    def _reaches(self, moment: str, n: int) -> bool:
        self._until_counts[moment] = self._until_counts.get(moment, 0) + 1
        return self._until_counts[moment] >= n

    def acquire(self, slots: Sequence[Slot]) -> None:
        self._acquire(slots)

    def _acquire(self, slots: Sequence[Slot]) -> None:
        for key, owner in slots:
            tally = self._tally(key, owner)
            if owner not in tally.held:
                tally.held.add(owner)
                self._held.setdefault(owner, []).append(tally)

    def release(self, slots: Sequence[Slot]) -> None:
        for key, owner in slots:
            tally = self._tallies.get(key)
            if tally is not None and owner in tally.held:
                tally.held.discard(owner)
                self._held[owner].remove(tally)

    def release_all(self, owner: str) -> None:
        for tally in self._held.pop(owner, ()):
            tally.held.discard(owner)

    def forget(self, connection: str) -> None:
        for key in self._own_keys.pop(connection, ()):
            self._tallies.pop(key, None)
