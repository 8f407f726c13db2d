"""The engine's counts, behind one atomic call.

A store holds everything that several replicas of a fake would have to share: tallies, slots, windows, and the
position of the scenario. `Memory` keeps it in one process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct, field

from notnow.engine.capacity import Capacity, Station
from notnow.engine.questions import (
    BEHAVES,
    Candidate,
    Decision,
    DecisionRequest,
    Key,
    PhasePosition,
    Question,
    Slot,
)
from notnow.language.condition import Owners, Quota


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

    def add(self, now: float) -> None:
        """Count an event."""
        if not self.count:
            self.since = now
        self.count += 1

    def restart(self) -> None:
        self.count = 0
        self.fired.clear()


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
        question, owners = request.question, request.owners
        fired = self._first(question, owners, now)
        if fired is None or not fired.refuses:
            for key, owner in question.slots:
                self._acquire(key, owners[owner])
            for key in question.windows:
                self._tally(key, owners[0]).window.append(now)
        if not (question.until or question.limits or question.work):  # nearly always
            return BEHAVES if fired is None else Decision(fired.rule)
        wait = self._work(fired, now) if question.work else 0.0
        ends_phase = False
        for moment, n in question.until:
            ends_phase |= self._reaches(moment, n)
        quotas: Sequence[Quota] = ()
        if question.limits:
            quotas = [limit.quota(self._tally(key, owners[0]), now) for limit, key in question.limits]
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

    def count(self, question: Question, connection: str, now: float) -> None:
        """Count an event under its keys, and decide nothing."""
        for key in question.counts:
            self._tally(key, connection).add(now)

    def _first(self, question: Question, owners: Owners, now: float) -> Candidate | None:
        """Count an event under its keys. The first candidate that holds has then fired."""
        tallies, fired = self._tallies, None
        for key, slate in question.slates:
            if fired is not None and not slate.counts:
                continue
            tally = tallies.get(key) or self._tally(key, owners[0])
            if slate.counts:
                tally.add(now)
            if fired is None and slate.first <= tally.count <= slate.last and len(tally.held) >= slate.slots:
                for candidate in slate.candidates:
                    if candidate.holds(tally, now, owners):
                        tally.fired[candidate.rule] = tally.fired.get(candidate.rule, 0) + 1
                        fired = candidate
                        break
        return fired

    def _reaches(self, moment: str, n: int) -> bool:
        self._until_counts[moment] = self._until_counts.get(moment, 0) + 1
        return self._until_counts[moment] >= n

    def acquire(self, slots: Sequence[Slot]) -> None:
        for key, owner in slots:
            self._acquire(key, owner)

    def _acquire(self, key: Key, owner: str) -> None:
        tally = self._tallies.get(key) or self._tally(key, owner)
        if owner not in tally.held:
            tally.held.add(owner)
            held = self._held.get(owner)
            if held is None:
                self._held[owner] = [tally]
            else:
                held.append(tally)

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
