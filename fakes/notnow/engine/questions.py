"""What the engine asks its store about an event, and what the store answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from msgspec import Struct

from notnow.language.condition import Condition, Counted, Owners, Quota

Key = tuple[Hashable, ...]
Slot = tuple[Key, str]  # the key under which it counts, and its owner


class Candidate:
    """A rule whose `on`, `where` and chance have matched; the store tests its conditions.

    `holds`: true if all of them do, as `Condition.holds`. It cannot be before the event `first`, after the event `last`, or
    with fewer than `slots` in use. `refuses`: if it fires, the event is not let through.
    """

    __slots__ = ("conditions", "first", "holds", "last", "limits", "refuses", "rule", "slots")

    def __init__(self, rule: int, conditions: tuple[Condition, ...], refuses: bool) -> None:
        self.rule, self.conditions, self.refuses = rule, conditions, refuses
        self.limits = tuple(condition for condition in conditions if condition.tells)
        self.holds = conditions[0].holds if len(conditions) == 1 else _all_of(conditions)  # nearly always one
        events = [condition.events for condition in conditions if condition.counts == "events"]
        self.first = max((first for first, _ in events), default=0)
        self.last = min((last for _, last in events if last is not None), default=math.inf)
        self.slots = max((condition.slots for condition in conditions), default=0)

    def quota(self, tally: Counted, now: float) -> Quota:
        """How its limits stand together. It fires only while all of them hold, so the most generous one counts."""
        found = [limit.quota(tally, now) for limit in self.limits]
        remaining = [one.remaining for one in found if one.remaining is not None]
        waits = [one.wait for one in found if one.wait is not None]
        resets = [one.reset for one in found if one.reset is not None]
        return Quota(max(remaining, default=None), min(waits, default=None), min(resets, default=None))


def _all_of(conditions: tuple[Condition, ...]) -> Callable[[Counted, float, Owners], bool]:
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


class Slate(Struct, frozen=True):
    """Candidates with the same key, one after another in the order of the rules. `counts`: the event is counted under it.

    None of them holds before the event `first`, after the event `last`, or with fewer than `slots` in use.
    """

    candidates: tuple[Candidate, ...]
    counts: bool
    first: float
    last: float
    slots: float


def slate_of(candidates: Iterable[Candidate], counts: bool) -> Slate:
    together = tuple(candidates)
    return Slate(
        together,
        counts,
        first=min((one.first for one in together), default=math.inf),
        last=max((one.last for one in together), default=0),
        slots=min((one.slots for one in together), default=math.inf),
    )


def size_of(values: tuple[object, ...]) -> int:
    """The bytes that the values of facts take in memory. A fact may have several, such as recipients."""
    size = values.__sizeof__()
    for value in values:
        size += size_of(value) if type(value) is tuple else value.__sizeof__()
    return size


COUNTED, NOBODY = slate_of((), counts=True), slate_of((), counts=False)


class Question(Struct, frozen=True):
    """What the store is asked about an event: the same for all that have the same facts, at a moment of a phase.

    `slates` are the rules in order, each slate with its key; a key counts once. An event that is let through acquires `slots`,
    each for one of its owners, which is given by its index, and is noted in `windows`. `until` are the moments that cover
    it, each with the number of events that ends the phase. `limits` are the rules, each with its key, whose quotas the
    decision reports. `facts` are those that the rules read, and `size` is that of their values. `work`: the event takes a unit
    of the server's work.
    """

    slates: Sequence[tuple[Key, Slate]] = ()
    slots: Sequence[tuple[Key, int]] = ()
    windows: Sequence[Key] = ()
    until: Sequence[tuple[str, int]] = ()
    limits: Sequence[tuple[Candidate, Key]] = ()
    facts: Mapping[str, object] = {}
    work: bool = False
    size: int = 0

    @property
    def counts(self) -> list[Key]:
        """The keys that count the event, each once."""
        return [key for key, slate in self.slates if slate.counts]

    @property
    def candidates(self) -> list[tuple[Candidate, Key]]:
        """The rules in order, each with its key."""
        return [(candidate, key) for key, slate in self.slates for candidate in slate.candidates]

    @property
    def first(self) -> Candidate | None:
        """The first rule; None if there is none."""
        return next((slate.candidates[0] for _, slate in self.slates if slate.candidates), None)

    @property
    def is_settled(self) -> bool:
        """True if nothing that is counted can change the decision, and it changes no count: `first` fires."""
        if self.slots or self.windows or self.until or self.limits or self.work or self.counts:
            return False
        return self.first is None or not self.first.conditions


def slates_of(counts: Iterable[Key], candidates: Iterable[tuple[Candidate, Key]]) -> list[tuple[Key, Slate]]:
    """The slates of rules in order, each with its key. `counts` are the keys that count the event."""
    slates = [(key, COUNTED) for key in counts]
    for key, pairs in groupby(candidates, key=itemgetter(1)):
        slates.append((key, slate_of((candidate for candidate, _ in pairs), counts=False)))
    return slates


class DecisionRequest(Struct, frozen=True, gc=False):
    """One event, as the store sees it. `owners` are its connection, and what it begins there if that lasts."""

    position: PhasePosition
    owners: Owners
    question: Question

    @property
    def slots(self) -> list[Slot]:
        """The slots that it acquires if it is let through."""
        return [(key, self.owners[owner]) for key, owner in self.question.slots]


class Decision(Struct, frozen=True, gc=False):
    """The rule that fires (None: behave), whether this event ends the phase, and how the limits then stand.

    `wait`: in how many seconds its work is done.
    """

    rule: int | None
    ends_phase: bool = False
    quotas: Sequence[Quota] = ()
    wait: float = 0.0


BEHAVES = Decision(None)
