"""Scenarios as the engine plays them: for each phase and moment, the rules that can match, ready to ask.

What a scenario does not use costs nothing while it plays, because it is not in these tables.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from notnow import protocols
from notnow.engine.actions import Action, Close, Proceed, Wait, Watch
from notnow.engine.conditions import Key
from notnow.engine.matching import Facts, Test, filter_fact, rejects, tests
from notnow.engine.steps import Live, fill, is_deferred, steps_of, takes_effect, texts
from notnow.engine.store import Candidate
from notnow.language import knobs
from notnow.language.conditions import conditions
from notnow.language.faults import FAULT_KEYS
from notnow.language.grammar import Rule
from notnow.language.scenario import Phase, Scenario
from notnow.protocols.moment import Moment
from notnow.protocols.protocol import Protocol


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule that can fire: what it does, under which name, and what it still depends on."""

    definition: Rule
    index: int
    key: str  # phase[0].rule[1]
    phase: str
    chance_key: str  # what chance knows it by: other rules that come or go do not change its draws
    fault: str
    steps: tuple[Action, ...]
    live: bool  # a reply has placeholders to fill
    tells: bool  # some of these say how a quota stands
    deferred: bool  # done when a byte is reached, not now
    closes: bool
    candidate: Candidate
    chance: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The rules of one moment that share what they count: the same `on`, `where`, `per` and `within`."""

    tests: tuple[Test, ...]
    per: tuple[str, ...]
    counts: bool
    plays: tuple[CompiledRule, ...]
    key: Key  # where nothing but the server is counted `per`
    asked: tuple[tuple[Candidate, Key], ...]  # the candidates under that key; () where it takes the facts to tell


@dataclass(frozen=True, slots=True)
class Population:
    """Who is in, as some rule of the scenario counts them with `over`: taken at `moment` in every phase."""

    tests: tuple[Test, ...]
    per: tuple[str, ...]
    key: Key
    within: bool
    lasting: bool

    def counts(self, facts: Facts) -> bool:
        """True if who has these facts belongs to it."""
        return all(test(facts.get(name)) for name, test in self.tests)


def key_for(who: Group | Population, facts: Facts) -> Key:
    """The key under which these facts are counted."""
    return (*who.key, *(facts.get(name) for name in who.per)) if who.per else who.key


@dataclass(frozen=True, slots=True)
class FactFilter:
    """Groups that look at the same fact: where it `rejects` its value, none of them can match."""

    fact: str
    rejects: Callable[[object], bool]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What can happen at one moment of one phase."""

    groups: tuple[Group, ...] = ()
    filters: tuple[FactFilter, ...] = ()
    populations: tuple[Population, ...] = ()
    until: tuple[tuple[str, int], ...] = ()
    plays: Mapping[int, CompiledRule] = field(default_factory=dict)
    lasting: bool = False  # some of the populations count what is in progress
    tells: bool = False  # an answer here may say how a quota stands


NO_PLAN = Plan()


@dataclass(frozen=True, slots=True)
class IdleTimeout:
    """A length of silence, and what can happen after it: a moment of its own for each."""

    seconds: float
    since: str  # any, transfer, connect
    plan: Plan


@dataclass(frozen=True, slots=True)
class CompiledPhase:
    name: str
    lasts: float | None
    plans: Mapping[str, Plan]
    moments: Mapping[str, Moment]
    idle_timeouts: tuple[IdleTimeout, ...] = ()

    def plan(self, moment: str) -> Plan | None:
        """The plan of a moment; a command that is no moment of its own is covered by `any`. None: behave."""
        plan = self.plans.get(moment)
        return self.plans.get("any") if plan is None and moment not in self.moments else plan


def compile_phases(scenario: Scenario) -> tuple[CompiledPhase, ...]:
    populations = {m: _populations(scenario, m) for m in protocols.get(scenario.protocol).moments}
    return tuple(_phase(scenario, i, _settled(scenario, phase), populations) for i, phase in enumerate(scenario.phases))


def _settled(scenario: Scenario, phase: Phase) -> Phase:
    """The phase with each rule at the moment where all is known that it asks for."""
    rules = tuple(_where_known(rule, protocols.get(scenario.protocol)) for rule in phase.rules)
    return phase if all(map(operator.is_, rules, phase.rules)) else replace(phase, rules=rules)


def _where_known(rule: Rule, protocol: Protocol) -> Rule:
    moments, facts = protocol.moments, protocol.facts
    later = next((facts[name].decided_at for name in rule.where or () if facts[name].decided_at), None)
    if later is None or not any(moments[name].lasts for name in rule.on):
        return rule
    verbs = [verb for name in rule.on for verb in moments[name].verbs]
    return rule.model_copy(update={"on": (later,), "where": {"command": verbs, **(rule.where or {})}})


def _phase(
    scenario: Scenario, number: int, phase: Phase, populations: Mapping[str, tuple[Population, ...]]
) -> CompiledPhase:
    protocol = protocols.get(scenario.protocol)
    moments = protocol.moments
    plans = {}
    for moment in moments:
        cover = protocol.covering(moment) - {"idle"}
        rules = [i for i, rule in enumerate(phase.rules) if cover.intersection(rule.on)]
        until = tuple((name, n) for name, n in phase.until.items() if name in cover)
        if rules or populations[moment] or until:
            plans[moment] = _plan(phase, number, rules, moments[moment], populations[moment], until)
    return CompiledPhase(phase.name, phase.lasts, plans, moments, _idle_timeouts(phase, number, moments["idle"]))


def _plan(
    phase: Phase,
    number: int,
    rules: list[int],
    moment: Moment,
    populations: tuple[Population, ...] = (),
    until: tuple[tuple[str, int], ...] = (),
) -> Plan:
    plays = [_play(phase, number, index, moment) for index in rules]
    groups, filters = _split_by_filter(_groups(plays))
    lasting = any(population.lasting for population in populations)
    tells = any(play.tells for play in plays)
    return Plan(groups, filters, populations, until, {play.index: play for play in plays}, lasting, tells)


def _idle_timeouts(phase: Phase, number: int, moment: Moment) -> tuple[IdleTimeout, ...]:
    rules: dict[tuple[float, str], list[int]] = {}
    for i, rule in enumerate(phase.rules):
        if "idle" in rule.on and rule.after is not None:
            rules.setdefault((float(rule.after), rule.since or "any"), []).append(i)
    return tuple(IdleTimeout(*when, _plan(phase, number, same, moment)) for when, same in rules.items())


def _groups(plays: list[CompiledRule]) -> tuple[Group, ...]:
    by_tally: dict[Hashable, list[CompiledRule]] = {}
    for play in plays:
        by_tally.setdefault(_tally(play.definition), []).append(play)
    return tuple(_group(tally, same) for tally, same in by_tally.items())


def _group(tally: Hashable, plays: list[CompiledRule]) -> Group:
    rule, key = plays[0].definition, (tally,)
    fixed = not _per(rule) and all(play.chance is None for play in plays)
    return Group(
        tests=tests(rule.where),
        per=_per(rule),
        counts=any(one.counts == "events" for play in plays for one in play.candidate.conditions),
        plays=tuple(plays),
        key=key,
        asked=tuple((play.candidate, key) for play in plays) if fixed else (),
    )


def _split_by_filter(groups: tuple[Group, ...]) -> tuple[tuple[Group, ...], tuple[FactFilter, ...]]:
    """The groups that are always looked at, and those that a sieve saves looking at."""
    by_fact: dict[str, list[Group]] = {}
    for group in groups:
        if fact := filter_fact(group.plays[0].definition.where):
            by_fact.setdefault(fact, []).append(group)
    filters = tuple(
        FactFilter(fact, rejects([group.plays[0].definition.where or {} for group in same], fact), tuple(same))
        for fact, same in by_fact.items()
        if len(same) > 1
    )
    filtered = {id(group) for filter_ in filters for group in filter_.groups}
    return tuple(group for group in groups if id(group) not in filtered), filters


def _populations(scenario: Scenario, moment: str) -> tuple[Population, ...]:
    protocol = protocols.get(scenario.protocol)
    cover = protocol.covering(moment)
    found = {}
    for rule in scenario.rules():
        if rule.over is not None and cover.intersection(rule.on):
            lasting = any(protocol.moments[name].lasts for name in cover.intersection(rule.on))
            tally = _tally(rule)
            found[tally] = Population(tests(rule.where), _per(rule), (tally,), rule.within is not None, lasting)
    return tuple(found.values())


def _tally(rule: Rule) -> Hashable:
    """What two rules must have in common to count the same thing, in any phase."""
    silence = (rule.after, rule.since) if "idle" in rule.on else None
    return repr((rule.on, sorted((rule.where or {}).items()), rule.per, rule.within, silence))


def _per(rule: Rule) -> tuple[str, ...]:
    return tuple(name for name in rule.per if name != "server")


def _play(phase: Phase, number: int, index: int, moment: Moment) -> CompiledRule:
    rule = phase.rules[index]
    steps = steps_of(rule, moment)
    kinds = [key for key in FAULT_KEYS if getattr(rule, key) not in (None, False)]
    deferred = is_deferred(rule, moment) and any(not isinstance(step, (Wait, Proceed)) for step in steps)
    closes = any(isinstance(step, Close) for step in steps)
    effect = not closes if moment.unasked else takes_effect(rule, moment)
    return CompiledRule(
        definition=rule,
        index=index,
        key=f"phase[{number}].rule[{index}]",
        phase=phase.name,
        chance_key=_chance_key(phase, number, index),
        fault=rule.fault or "+".join(kinds),
        steps=steps,
        live=any(knobs.is_live(text) for text in texts(rule)),
        tells=any(knobs.tells_quota(knobs.live_names(text)) for text in texts(rule)),
        deferred=deferred,
        closes=closes,
        candidate=Candidate(index, tuple(conditions(rule, index).values()), refuses=not effect and not deferred),
        chance=rule.chance,
    )


def _chance_key(phase: Phase, number: int, index: int) -> str:
    """The rule as one among those of its phase that chance decides about on the same occasions."""
    rule = phase.rules[index]
    if rule.chance is None:
        return ""
    tally = _tally(rule)
    alike = sum(1 for other in phase.rules[:index] if other.chance is not None and _tally(other) == tally)
    return f"{number}/{alike}/{tally}"


def watch(play: CompiledRule) -> tuple[Action, ...]:
    """The first half of a fault that comes later: behave, and say when the byte has passed."""
    return (Watch(1 if play.definition.after_bytes is None else play.definition.after_bytes), Proceed())


def filled(play: CompiledRule, live: Live) -> tuple[Action, ...]:
    """The steps of a rule with its live placeholders filled in."""
    return tuple(fill(step, live) for step in play.steps) if play.live else play.steps
