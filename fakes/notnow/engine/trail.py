"""A record of the calls to a store, so that a decision can be repeated and explained later."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from notnow.bounds import DECISIONS, FACTS
from notnow.engine.capacity import Capacity
from notnow.engine.matching import tests
from notnow.engine.plans import NO_PLAN, CompiledPhase, CompiledRule
from notnow.engine.questions import Decision, DecisionRequest, PhasePosition, Slot
from notnow.engine.store import Memory
from notnow.language.conditions import conditions


class Call(Struct, gc=False):
    """A method of `Memory`, and its arguments. There are many, and the garbage collector need not look at them.

    `times`: so many decisions in a row, none of which can change a count.
    """

    method: Callable[..., object]
    first: object
    second: object = None  # None where there is but one
    times: int = 1

    def repeat(self, store: Memory) -> None:
        if self.second is None:
            self.method(store, self.first)
        else:
            self.method(store, self.first, self.second)


class Explanation(Struct, frozen=True):
    """Why a rule fired at an exchange, or did not. `rule` is its key path, such as `phase[0].rule[1]`."""

    rule: str
    fired: bool
    why: str

    def __str__(self) -> str:
        return f"{self.rule} {'fired' if self.fired else 'did not fire'}: {self.why}"


class Traced(Memory):
    """A store in this process that remembers its last calls: `DECISIONS` of them, and `FACTS` bytes of what clients said."""

    def __init__(self) -> None:
        super().__init__()
        self._base = Memory()  # the state before the first call that is remembered
        self._calls: deque[Call] = deque()
        self._forgotten = 0  # decisions that are in `_base`
        self._size = 0  # bytes of the facts of the others; those of a question count once for each decision

    def _note(self, method: Callable[..., object], first: object, second: object = None, size: int = 0) -> None:
        self._calls.append(Call(method, first, second))
        self._size += size
        while self._size > FACTS or len(self._calls) > DECISIONS:
            self._forget()

    def _forget(self) -> None:
        """The oldest call becomes part of the state before the others."""
        oldest = self._calls.popleft()
        oldest.repeat(self._base)
        if isinstance(oldest.first, DecisionRequest):
            self._forgotten += oldest.times
            self._size -= oldest.first.question.size

    # ---- the calls -------------------------------------------------------------------------------

    def equip(self, capacity: Capacity) -> None:
        self._base.equip(capacity)
        super().equip(capacity)

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        self._note(Memory.move, seen, to)
        return super().move(seen, to)

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        self._note(Memory.decide, request, now, request.question.size)
        return Memory.decide(self, request, now)  # `super()` would make an object for each

    def note(self, request: DecisionRequest, now: float) -> None:
        """A decision that the engine, or one in another process, has made because no count could change it."""
        last = self._calls[-1] if self._calls else None
        if last is not None and last.first is request:
            last.times += 1
        else:
            self._note(Memory.decide, request, now, request.question.size)

    def acquire(self, slots: Sequence[Slot]) -> None:
        self._note(Memory.acquire, slots)
        super().acquire(slots)

    def release(self, slots: Sequence[Slot]) -> None:
        self._note(Memory.release, slots)
        super().release(slots)

    def release_all(self, owner: str) -> None:
        if owner in self._held:  # most connections hold nothing: a call without effect is no call to remember
            self._note(Memory.release_all, owner)
            super().release_all(owner)

    def forget(self, connection: str) -> None:
        if connection in self._own_keys:
            self._note(Memory.forget, connection)
            super().forget(connection)

    # ---- looking back ----------------------------------------------------------------------------

    def moment_of(self, decision: int) -> tuple[Memory, DecisionRequest, float] | None:
        """The store as it was when it made its decision of this number, with the event counted; None if that is forgotten."""
        if decision <= self._forgotten:
            return None
        past, seen = copy.deepcopy(self._base), self._forgotten
        for call in self._calls:
            if call.method is Memory.decide:
                seen += call.times
                if seen >= decision:
                    request, now = call.first, call.second
                    assert isinstance(request, DecisionRequest), "decide takes a request"
                    assert isinstance(now, float | int), "decide takes the time"
                    past.count(request.question, request.owners[0], now)
                    return past, request, now
            call.repeat(past)
        return None


def explain(store: Traced, phases: Sequence[CompiledPhase], decision: int, moment: str) -> list[Explanation] | None:
    """Why each rule that looks at this moment fired or not, at the decision of this number; None if that is forgotten."""
    found = store.moment_of(decision)
    if found is None:
        return None
    past, request, now = found
    phase = phases[request.position.phase]
    plans = [t.plan for t in phase.idle_timeouts] if moment == "idle" else [phase.plan(moment) or NO_PLAN]
    return list(_explained([rule for plan in plans for rule in plan.rules.values()], past, request, now))


def _explained(
    rules: Sequence[CompiledRule], past: Memory, request: DecisionRequest, now: float
) -> Iterator[Explanation]:
    """For each of these rules, in order, whether it fired; and if not, the first condition that did not hold."""
    winner: CompiledRule | None = None
    for rule in sorted(rules, key=lambda rule: rule.index):
        why = _first_that_fails(rule, past, request, now)
        if why is not None:
            yield Explanation(rule.path, False, why)
        elif winner is not None:
            yield Explanation(rule.path, False, f"{winner.path} comes before it, and fired")
        else:
            winner = rule
            yield Explanation(rule.path, True, "all its conditions hold")


def _first_that_fails(rule: CompiledRule, past: Memory, request: DecisionRequest, now: float) -> str | None:
    for name, test in tests(rule.definition.where):
        if not test(request.question.facts.get(name)):
            return f"where.{name}: it was {_value(request.question.facts.get(name))}"
    key = next((key for candidate, key in request.question.candidates if candidate.rule == rule.index), None)
    if key is None:
        return f"chance = {(rule.chance or 0.0) * 100:g}%: the draw went against it"
    tally = past.tally(key)
    for name, condition in conditions(rule.definition, rule.index).items():
        if not condition.holds(tally, now, request.owners):
            return f"{name}, {condition.words()}: {condition.saw(tally, now)}"
    return None


def left(store: Traced, phase: CompiledPhase) -> dict[str, int | None]:
    """How often each rule of a phase can still fire, by its key path; None if nothing bounds it.

    A rule that counts for each client, or the like, has no such number.
    """
    found: dict[str, int | None] = {}
    for plan in phase.all_plans():
        for group in plan.groups + tuple(group for filter_ in plan.filters for group in filter_.groups):
            tally = store.tally(group.key)
            for rule in group.rules:
                bounds = [c.left(tally) for c in rule.candidate.conditions] if not group.per else []
                found[rule.path] = min((n for n in bounds if n is not None), default=None)
    return dict(sorted(found.items()))


def _value(found: object) -> str:
    if found is None or found == ():
        return "absent"
    return ", ".join(map(repr, found)) if isinstance(found, tuple) else repr(found)
