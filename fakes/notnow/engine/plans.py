"""What can happen at each moment of each phase, compiled from a scenario and ready to decide by.

What a scenario does not use costs nothing while it plays, because it is not in these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct, field

from notnow.engine.actions import Action
from notnow.engine.matching import Facts, Test
from notnow.engine.questions import Candidate, Key, Question, Slate
from notnow.language.grammar import Rule
from notnow.protocols.moment import Moment


class CompiledRule(Struct, frozen=True):
    """A rule that can fire, with the steps that a fake takes when it does.

    `path` is its key path in the file, such as `phase[0].rule[1]`. `chance_key` seeds its chance: adding or removing
    other rules does not change its draws.
    """

    definition: Rule
    index: int
    path: str
    phase: str
    chance_key: str
    fault: str
    steps: tuple[Action, ...]
    has_placeholders: bool
    tells_quota: bool  # a placeholder says how a quota stands
    deferred: bool  # carried out when a byte is reached, not when it is decided
    closes: bool
    candidate: Candidate
    chance: float | None


class RuleGroup(Struct, frozen=True):
    """The rules of one moment that count the same events: their `on`, `where`, `per` and `within` are equal.

    `slate` are their candidates, where chance leaves none out; `by_chance` if it can.
    """

    tests: tuple[Test, ...]
    per: tuple[str, ...]
    rules: tuple[CompiledRule, ...]
    slate: Slate
    by_chance: bool
    key: Key


class AdmissionCount(Struct, frozen=True):
    """What an `over` rule counts: slots in use, or with `within` the admissions of a sliding window.

    Every phase keeps every count of the scenario. `lasting`: a slot is held by what is in progress (a mail transaction,
    a transfer, a request), not by the connection.
    """

    tests: tuple[Test, ...]
    per: tuple[str, ...]
    key: Key
    within: bool
    lasting: bool

    def includes(self, facts: Facts) -> bool:
        return all(test(facts.get(name)) for name, test in self.tests)


def key_for(counted: RuleGroup | AdmissionCount, facts: Facts) -> Key:
    """The key under which an event with these facts is counted."""
    return (*counted.key, *[facts.get(name) for name in counted.per]) if counted.per else counted.key


class FactFilter(Struct, frozen=True):
    """Groups that test the same fact: if the filter `rejects` its value, none of them can match."""

    fact: str
    rejects: Callable[[object], bool]
    groups: tuple[RuleGroup, ...]


class Plan(Struct, frozen=True):
    """What can happen at one moment of one phase.

    `groups` are always tested; those behind a filter only if it lets them. `until` counts events towards the end of the
    phase. `lasting` and `tells_quota` are true if any admission count, or any rule, is so. `facts` are the names of those
    that a rule or a count reads; `fields` are those that are header fields. `work`: an event takes a unit of the server's work.
    `questions` are those that events have asked so far, by the values of these facts; `anew` if each event makes its own,
    as chance has a say. `in_order`: the rules of its groups, one group after another, are in the order of the file.
    """

    groups: tuple[RuleGroup, ...] = ()
    filters: tuple[FactFilter, ...] = ()
    admissions: tuple[AdmissionCount, ...] = ()
    until: tuple[tuple[str, int], ...] = ()
    rules: Mapping[int, CompiledRule] = {}
    lasting: bool = False
    tells_quota: bool = False
    facts: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    work: bool = False
    anew: bool = False
    in_order: bool = False
    questions: dict[tuple[object, ...], Question] = field(default_factory=dict)


NO_PLAN = Plan()


class IdleTimeout(Struct, frozen=True):
    """The rules of a phase for one length of silence. `since`: any, command, transfer or connect."""

    seconds: float
    since: str
    plan: Plan


class CompiledPhase(Struct, frozen=True):
    """A phase: a plan for each moment that has one, and its idle timeouts.

    `undecided` are the moments at which nothing is decided: no rule or count looks at them, and no idle timeout runs.
    """

    name: str
    lasts: float | None
    plans: Mapping[str, Plan]
    moments: Mapping[str, Moment]
    idle_timeouts: tuple[IdleTimeout, ...]
    undecided: frozenset[str]

    def all_plans(self) -> Iterator[Plan]:
        """The plans of all moments, and of the silences."""
        yield from self.plans.values()
        yield from (timeout.plan for timeout in self.idle_timeouts)

    def plan(self, moment: str) -> Plan | None:
        """The plan of a moment; `any` covers a command without a moment of its own. None: behave."""
        plan = self.plans.get(moment)
        return self.plans.get("any") if plan is None and moment not in self.moments else plan
