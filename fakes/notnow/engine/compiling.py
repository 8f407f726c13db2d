"""Compiles a scenario into the plans that the engine decides by."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct, structs

from notnow import protocols
from notnow.engine.actions import Close, Proceed, Wait
from notnow.engine.capacity import Capacity
from notnow.engine.matching import HEADER, filter_fact, rejects, tests
from notnow.engine.plans import AdmissionCount, CompiledPhase, CompiledRule, FactFilter, IdleTimeout, Plan, RuleGroup
from notnow.engine.questions import Candidate, slate_of
from notnow.engine.steps import is_deferred, steps_of, takes_effect
from notnow.language import knobs, tables
from notnow.language.conditions import conditions
from notnow.language.faults import FAULT_KEYS, texts
from notnow.language.grammar import Rule
from notnow.language.scenario import Phase, Scenario
from notnow.protocols.moment import Moment
from notnow.protocols.protocol import Protocol


@lru_cache(maxsize=16)
def compile_phases(scenario: Scenario) -> tuple[CompiledPhase, ...]:
    """The phases of a scenario; the fakes that play it share them."""
    protocol = protocols.get(scenario.protocol)
    capped = [rule for rule in scenario.rules() if rule.over is not None]
    admissions = {moment: _admissions(capped, protocol, moment) for moment in protocol.moments} if capped else {}
    work = _work(scenario, protocol)
    return tuple(
        _PhaseCompiler(protocol, number, _with_facts_known(phase, protocol), admissions, work).phase()
        for number, phase in enumerate(scenario.phases)
    )


def capacity_of(scenario: Scenario) -> Capacity | None:
    """What the server of a scenario can do; None if that is any amount of work."""
    server = scenario.server
    return None if server.capacity is None else Capacity(server.capacity, server.refusal_cost, server.queue)


def _work(scenario: Scenario, protocol: Protocol) -> frozenset[str]:
    """The values of `on` whose events take a unit of work."""
    server = scenario.server
    return frozenset() if server.capacity is None else frozenset(server.work or {protocol.work})


def _with_facts_known(phase: Phase, protocol: Protocol) -> Phase:
    """The phase with each rule moved to the moment where the facts that it tests are known."""
    rules = tuple(_where_known(rule, protocol) for rule in phase.rules)
    return phase if all(map(operator.is_, rules, phase.rules)) else structs.replace(phase, rules=rules)


def _where_known(rule: Rule, protocol: Protocol) -> Rule:
    moments, facts = protocol.moments, protocol.facts
    later = next((facts[name].decided_at for name in rule.where or () if facts[name].decided_at), None)
    if later is None or not any(moments[name].lasts for name in rule.on):
        return rule
    verbs = [verb for name in rule.on for verb in moments[name].verbs]
    return tables.replace(rule, on=(later,), where={"command": verbs, **(rule.where or {})})


def _admissions(capped: Iterable[Rule], protocol: Protocol, moment: str) -> tuple[AdmissionCount, ...]:
    """The admissions that any phase counts at this moment, for its `over` rules."""
    cover = protocol.covering(moment)
    found = {}
    for rule in capped:
        if cover.intersection(rule.on):
            lasting = any(protocol.moments[name].lasts for name in cover.intersection(rule.on))
            counted = _counted(rule)
            found[counted] = AdmissionCount(tests(rule.where), _per(rule), (counted,), rule.within is not None, lasting)
    return tuple(found.values())


class _PhaseCompiler(Struct, frozen=True):
    protocol: Protocol
    number: int
    source: Phase
    admissions: Mapping[str, tuple[AdmissionCount, ...]]
    work: frozenset[str]

    def phase(self) -> CompiledPhase:
        moments = self.protocol.moments
        plans = {}
        if self.source.rules or self.source.until or self.admissions or self.work:
            plans = {moment: plan for moment in moments if (plan := self.plan(moment)) is not None}
        timeouts = self.idle_timeouts()
        undecided = frozenset() if timeouts else frozenset(moments.keys() - plans.keys())
        return CompiledPhase(self.source.name, self.source.lasts, plans, moments, timeouts, undecided)

    def plan(self, moment: str) -> Plan | None:
        cover = self.protocol.covering(moment) - {"idle"}
        rules = [i for i, rule in enumerate(self.source.rules) if cover.intersection(rule.on)]
        until = tuple((name, n) for name, n in self.source.until.items() if name in cover)
        admissions, work = self.admissions.get(moment, ()), not cover.isdisjoint(self.work)
        if not (rules or until or admissions or work):
            return None
        plan, lasting = self.rules_plan(rules, moment, admissions), any(count.lasting for count in admissions)
        return structs.replace(plan, admissions=admissions, until=until, lasting=lasting, work=work)

    def rules_plan(self, indexes: Iterable[int], moment: str, admissions: Sequence[AdmissionCount] = ()) -> Plan:
        """A plan of these rules alone. It knows the facts that these admission counts read, too."""
        rules = [self.rule(index, self.protocol.moments[moment]) for index in indexes]
        every = _groups(rules)
        groups, filters = _behind_filters(every)
        tested = [*groups, *(group for filter_ in filters for group in filter_.groups)]
        order = [rule.index for group in tested for rule in group.rules]
        facts = tuple(sorted(set(_facts_read([*every, *admissions]))))
        return Plan(
            groups,
            filters,
            rules={rule.index: rule for rule in rules},
            tells_quota=any(rule.tells_quota for rule in rules),
            facts=facts,
            fields=tuple(name for name in facts if name.startswith(HEADER)),
            in_order=order == sorted(order),
            anew=any(group.by_chance for group in every),
        )

    def idle_timeouts(self) -> tuple[IdleTimeout, ...]:
        rules: dict[tuple[float, str], list[int]] = {}
        for i, rule in enumerate(self.source.rules):
            if "idle" in rule.on and rule.after is not None:
                rules.setdefault((float(rule.after), rule.since or "any"), []).append(i)
        return tuple(IdleTimeout(*when, self.rules_plan(same, "idle")) for when, same in rules.items())

    def rule(self, index: int, moment: Moment) -> CompiledRule:
        rule = self.source.rules[index]
        steps = steps_of(rule, moment)
        kinds = [key for key in FAULT_KEYS if getattr(rule, key) not in (None, False)]
        deferred = is_deferred(rule, moment) and any(not isinstance(step, (Wait, Proceed)) for step in steps)
        closes = any(isinstance(step, Close) for step in steps)
        effect = not closes if moment.unasked else takes_effect(rule, moment)
        return CompiledRule(
            definition=rule,
            index=index,
            path=f"phase[{self.number}].rule[{index}]",
            phase=self.source.name,
            chance_key=self.chance_key(index),
            fault=rule.fault or "+".join(kinds),
            steps=steps,
            has_placeholders=any(knobs.is_live(text) for text in texts(rule)),
            tells_quota=any(knobs.tells_quota(knobs.live_names(text)) for text in texts(rule)),
            deferred=deferred,
            closes=closes,
            candidate=Candidate(index, tuple(conditions(rule, index).values()), refuses=not effect and not deferred),
            chance=rule.chance,
        )

    def chance_key(self, index: int) -> str:
        """Names the rule by its place among the chance rules of its phase that count the same events."""
        rule = self.source.rules[index]
        if rule.chance is None:
            return ""
        counted = _counted(rule)
        before = (other for other in self.source.rules[:index] if other.chance is not None)
        alike = sum(1 for other in before if _counted(other) == counted)
        return f"{self.number}/{alike}/{counted}"


def _counted(rule: Rule) -> str:
    """Which events a rule counts: rules for which this is equal share one tally, in any phase."""
    idle = (rule.after, rule.since) if "idle" in rule.on else None
    return repr((rule.on, sorted((rule.where or {}).items()), rule.per, rule.within, idle))


def _per(rule: Rule) -> tuple[str, ...]:
    return tuple(name for name in rule.per if name != "server")


def _facts_read(counted: Iterable[RuleGroup | AdmissionCount]) -> Iterator[str]:
    for one in counted:
        yield from (name for name, _ in one.tests)
        yield from one.per


def _groups(rules: list[CompiledRule]) -> tuple[RuleGroup, ...]:
    groups: dict[str, list[CompiledRule]] = {}
    for rule in rules:
        groups.setdefault(_counted(rule.definition), []).append(rule)
    return tuple(_group(counted, same) for counted, same in groups.items())


def _group(counted: str, rules: list[CompiledRule]) -> RuleGroup:
    first = rules[0].definition
    counts = any(one.counts == "events" for rule in rules for one in rule.candidate.conditions)
    return RuleGroup(
        tests=tests(first.where),
        per=_per(first),
        rules=tuple(rules),
        slate=slate_of((rule.candidate for rule in rules), counts),
        by_chance=any(rule.chance is not None for rule in rules),
        key=(counted,),
    )


def _behind_filters(groups: tuple[RuleGroup, ...]) -> tuple[tuple[RuleGroup, ...], tuple[FactFilter, ...]]:
    """The groups that are always tested, and those behind a filter: two or more that test the same fact."""
    by_fact: dict[str, list[RuleGroup]] = {}
    for group in groups:
        if fact := filter_fact(group.rules[0].definition.where):
            by_fact.setdefault(fact, []).append(group)
    filters = tuple(_filter(fact, same) for fact, same in by_fact.items() if len(same) > 1)
    filtered = {group.key for filter_ in filters for group in filter_.groups}
    return tuple(group for group in groups if group.key not in filtered), filters


def _filter(fact: str, groups: list[RuleGroup]) -> FactFilter:
    wheres = [group.rules[0].definition.where or {} for group in groups]
    return FactFilter(fact, rejects(wheres, fact), tuple(groups))
