"""Scenarios as the engine plays them: for each phase and moment, the rules that can match, ready to ask.

What a scenario does not use costs nothing while it plays, because it is not in these tables.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace

from notnow.engine.actions import (
    Action,
    Alert,
    AltSvc,
    Certify,
    Close,
    EndData,
    GoAway,
    Hang,
    Origin,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Send,
    Wait,
    Watch,
)
from notnow.engine.matching import Facts, Test, rejects, sieve_fact, tests
from notnow.engine.store import (
    After,
    AfterFor,
    Candidate,
    Condition,
    Every,
    First,
    FirstFor,
    Key,
    Nth,
    Over,
    OverWithin,
    Times,
)
from notnow.language import knobs
from notnow.language.grammar import FAULT_KEYS, GOES_ON, preliminary
from notnow.language.loading import Phase, Rule, Scenario
from notnow.language.moments import LATER, MOMENTS, Moment, covering
from notnow.units import Span

Live = Callable[[str], str]
ABORTED = ("426 Connection closed; transfer aborted.",)  # RFC 959 §4.2.1


@dataclass(frozen=True, slots=True)
class Play:
    """A rule that can fire: what it does, under which name, and what it still depends on."""

    rule: Rule
    index: int
    key: str  # phase[0].rule[1]
    phase: str
    lot: str  # what chance knows it by: other rules that come or go do not change its draws
    fault: str
    steps: tuple[Action, ...]
    live: bool  # a reply has placeholders to fill
    tells: bool  # some of these say how a quota stands
    later: bool  # done when a byte is reached, not now
    closes: bool
    candidate: Candidate
    chance: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The rules of one moment that share what they count: the same `on`, `where`, `per` and `within`."""

    tests: tuple[Test, ...]
    per: tuple[str, ...]
    counts: bool
    plays: tuple[Play, ...]
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
class Sieve:
    """Groups that look at the same fact: where it `rejects` its value, none of them can match."""

    fact: str
    rejects: Callable[[object], bool]
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What can happen at one moment of one phase."""

    groups: tuple[Group, ...] = ()
    sieves: tuple[Sieve, ...] = ()
    populations: tuple[Population, ...] = ()
    until: tuple[tuple[str, int], ...] = ()
    plays: Mapping[int, Play] = field(default_factory=dict)
    lasting: bool = False  # some of the populations count what is in progress
    tells: bool = False  # an answer here may say how a quota stands


NO_PLAN = Plan()


@dataclass(frozen=True, slots=True)
class Silence:
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
    idle: tuple[Silence, ...] = ()

    def plan(self, moment: str) -> Plan | None:
        """The plan of a moment; a command that is no moment of its own is covered by `any`. None: behave."""
        plan = self.plans.get(moment)
        return self.plans.get("any") if plan is None and moment not in self.moments else plan


def compile_phases(scenario: Scenario) -> tuple[CompiledPhase, ...]:
    populations = {m: _populations(scenario, m) for m in MOMENTS[scenario.protocol]}
    return tuple(_phase(scenario, i, _settled(scenario, phase), populations) for i, phase in enumerate(scenario.phases))


def _settled(scenario: Scenario, phase: Phase) -> Phase:
    """The phase with each rule at the moment where all is known that it asks for."""
    rules = tuple(_where_known(rule, MOMENTS[scenario.protocol]) for rule in phase.rules)
    return phase if all(map(operator.is_, rules, phase.rules)) else replace(phase, rules=rules)


def _where_known(rule: Rule, moments: Mapping[str, Moment]) -> Rule:
    later = next((LATER[name] for name in rule.where or () if name in LATER), None)
    if later is None or not any(moments[name].lasts for name in rule.on):
        return rule
    verbs = [verb for name in rule.on for verb in moments[name].verbs]
    return rule.model_copy(update={"on": (later,), "where": {"command": verbs, **(rule.where or {})}})


def _phase(
    scenario: Scenario, number: int, phase: Phase, populations: Mapping[str, tuple[Population, ...]]
) -> CompiledPhase:
    moments = MOMENTS[scenario.protocol]
    plans = {}
    for moment in moments:
        cover = covering(scenario.protocol, moment) - {"idle"}
        rules = [i for i, rule in enumerate(phase.rules) if cover.intersection(rule.on)]
        until = tuple((name, n) for name, n in phase.until.items() if name in cover)
        if rules or populations[moment] or until:
            plans[moment] = _plan(phase, number, rules, moments[moment], populations[moment], until)
    return CompiledPhase(phase.name, phase.lasts, plans, moments, _silences(phase, number, moments["idle"]))


def _plan(
    phase: Phase,
    number: int,
    rules: list[int],
    moment: Moment,
    populations: tuple[Population, ...] = (),
    until: tuple[tuple[str, int], ...] = (),
) -> Plan:
    plays = [_play(phase, number, index, moment) for index in rules]
    groups, sieves = _sieve(_groups(plays))
    lasting = any(population.lasting for population in populations)
    tells = any(play.tells for play in plays)
    return Plan(groups, sieves, populations, until, {play.index: play for play in plays}, lasting, tells)


def _silences(phase: Phase, number: int, moment: Moment) -> tuple[Silence, ...]:
    rules: dict[tuple[float, str], list[int]] = {}
    for i, rule in enumerate(phase.rules):
        if "idle" in rule.on and rule.after is not None:
            rules.setdefault((float(rule.after), rule.since or "any"), []).append(i)
    return tuple(Silence(*when, _plan(phase, number, same, moment)) for when, same in rules.items())


def _groups(plays: list[Play]) -> tuple[Group, ...]:
    by_tally: dict[Hashable, list[Play]] = {}
    for play in plays:
        by_tally.setdefault(_tally(play.rule), []).append(play)
    return tuple(_group(tally, same) for tally, same in by_tally.items())


def _group(tally: Hashable, plays: list[Play]) -> Group:
    rule, key = plays[0].rule, (tally,)
    fixed = not _per(rule) and all(play.chance is None for play in plays)
    return Group(
        tests=tests(rule.where),
        per=_per(rule),
        counts=any(_counts(play.rule) for play in plays),
        plays=tuple(plays),
        key=key,
        asked=tuple((play.candidate, key) for play in plays) if fixed else (),
    )


def _sieve(groups: tuple[Group, ...]) -> tuple[tuple[Group, ...], tuple[Sieve, ...]]:
    """The groups that are always looked at, and those that a sieve saves looking at."""
    by_fact: dict[str, list[Group]] = {}
    for group in groups:
        if fact := sieve_fact(group.plays[0].rule.where):
            by_fact.setdefault(fact, []).append(group)
    sieves = tuple(
        Sieve(fact, rejects([group.plays[0].rule.where or {} for group in same], fact), tuple(same))
        for fact, same in by_fact.items()
        if len(same) > 1
    )
    sieved = {id(group) for sieve in sieves for group in sieve.groups}
    return tuple(group for group in groups if id(group) not in sieved), sieves


def _populations(scenario: Scenario, moment: str) -> tuple[Population, ...]:
    cover = covering(scenario.protocol, moment)
    found = {}
    for rule in scenario.rules():
        if rule.over is not None and cover.intersection(rule.on):
            lasting = any(MOMENTS[scenario.protocol][name].lasts for name in cover.intersection(rule.on))
            tally = _tally(rule)
            found[tally] = Population(tests(rule.where), _per(rule), (tally,), rule.within is not None, lasting)
    return tuple(found.values())


def _tally(rule: Rule) -> Hashable:
    """What two rules must have in common to count the same thing, in any phase."""
    silence = (rule.after, rule.since) if "idle" in rule.on else None
    return repr((rule.on, sorted((rule.where or {}).items()), rule.per, rule.within, silence))


def _per(rule: Rule) -> tuple[str, ...]:
    return tuple(name for name in rule.per if name != "server")


def _counts(rule: Rule) -> bool:
    after = None if "idle" in rule.on else rule.after  # there it is the length of the silence
    return any(v is not None for v in (rule.nth, rule.every, rule.first, after))


def _conditions(rule: Rule, index: int) -> tuple[Condition, ...]:
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


def _takes_effect(rule: Rule, moment: Moment) -> bool:
    """A 2yz or 3yz reply takes effect, any other answer of ours does not, unless `keep` says so."""
    if rule.keep is not None:
        return rule.keep
    final = preliminary(rule.reply)[1]
    if final is not None:
        return final[0][0] in "23"
    if rule.status is not None:
        return rule.status < 400
    refuses = rule.close or rule.stall or rule.alert or rule.reset_stream or _cuts(rule, moment)
    return not (refuses or (rule.goaway is not None and rule.goaway.last == "previous"))


def _cuts(rule: Rule, moment: Moment) -> bool:
    """True if it ends a transfer that is about to begin, or under way."""
    return rule.data is not None and rule.data not in GOES_ON and (moment.lasts or moment.amid)


def _closing(rule: Rule, moment: Moment) -> Close | None:
    """A 421 closes unless told otherwise (RFC 5321 §3.8), and so does what answers a whole connection."""
    says_421 = any(line[:4] in ("421 ", "421") for line in rule.reply or ())
    close = says_421 or (moment.final and rule.status is not None) if rule.close is None else rule.close
    if not close:
        return None
    return Close("reset" if close == "reset" else "abrupt" if close == "abrupt" else "fin")


def _is_later(rule: Rule, moment: Moment) -> bool:
    """True if it is done when a byte is reached: in the middle of a body, or of a transfer."""
    return moment.body or rule.after_bytes is not None


def _steps(rule: Rule, moment: Moment) -> tuple[Action, ...]:
    """What a rule does. Frames go at once where there is an answer besides: a delay is the answer's."""
    first, reply = preliminary(rule.reply)
    said: list[Action] = [Send(first, rule.drip or 0.0)] if first else []
    wait: list[Action] = [Wait(rule.delay)] if rule.delay else []
    frames, rest = _frames(rule), _answer(rule, moment, reply)
    return tuple([*said, *frames, *wait, *rest] if rest and not moment.unasked else [*said, *wait, *frames, *rest])


def _answer(rule: Rule, moment: Moment, reply: tuple[str, ...] | None) -> list[Action]:
    """What stands in place of the healthy answer, or goes with it; empty where nothing is answered.

    `reply` is what a rule says behind its delay.
    """
    steps: list[Action] = []
    drip, closing, effect = rule.drip or 0.0, _closing(rule, moment), _takes_effect(rule, moment)
    # Where its reply answers nothing that could take effect, it is just said.
    interjected = moment.unasked or _is_later(rule, moment)
    if rule.certificate:
        steps.append(Certify(rule.certificate))
    if rule.alert:
        steps.append(Alert(rule.alert))
    steps += _end_data(rule, moment, cut=interjected or not effect)
    response = _response(rule)
    if rule.stall:
        steps.append(Hang())
    elif effect and not (interjected and (reply or response or closing or rule.reset_stream)):
        steps.append(Proceed(reply or response or (() if closing or rule.reset_stream else None), drip))
    elif reply is not None:
        steps.append(Send(reply, drip))
    elif response is not None:
        steps.append(Respond(response, drip))
    elif _cuts(rule, moment) and not closing:
        steps.append(Send(ABORTED, drip))
    if rule.reset_stream is not None:
        steps.append(ResetStream(rule.reset_stream))
    if closing:
        steps.append(closing)
    return steps


def _response(rule: Rule) -> Response | None:
    """The HTTP response that a rule wants, or those parts of one that it says; None where it says nothing."""
    if rule.status is None and rule.headers is None and rule.body is None:
        return None
    return Response(rule.status, rule.headers or (), rule.body)


def _frames(rule: Rule) -> list[Action]:
    """Frames of HTTP/2 that go before an answer."""
    found: list[Action] = []
    if rule.altsvc is not None:
        found.append(AltSvc(rule.altsvc))
    if rule.origin is not None:
        found.append(Origin(rule.origin))
    if rule.goaway is not None:
        found.append(GoAway(rule.goaway.code, rule.goaway.last, closes=rule.close is not False))
    return found


def _end_data(rule: Rule, moment: Moment, cut: bool) -> list[Action]:
    """A transfer that is refused or cut ends its data connection, and so does who says so."""
    if moment.ends:
        refused = rule.keep is None and (preliminary(rule.reply)[1] or ("2",))[0][0] not in "23"
        return [EndData(keep=False)] if refused or rule.keep is False else []
    transfer = moment.lasts or moment.amid
    if "data" not in moment.faults or rule.stall or not (rule.data or (transfer and cut)):
        return []
    return [EndData(rule.data or "fin", keep=rule.keep is not False)]


def _play(phase: Phase, number: int, index: int, moment: Moment) -> Play:
    rule = phase.rules[index]
    steps = _steps(rule, moment)
    kinds = [key for key in FAULT_KEYS if getattr(rule, key) not in (None, False)]
    later = _is_later(rule, moment) and any(not isinstance(step, (Wait, Proceed)) for step in steps)
    closes = any(isinstance(step, Close) for step in steps)
    effect = not closes if moment.unasked else _takes_effect(rule, moment)
    return Play(
        rule=rule,
        index=index,
        key=f"phase[{number}].rule[{index}]",
        phase=phase.name,
        lot=_lot(phase, number, index),
        fault=rule.fault or "+".join(kinds),
        steps=steps,
        live=any(knobs.is_live(text) for text in _texts(rule)),
        tells=any(knobs.tells_quota(knobs.live_names(text)) for text in _texts(rule)),
        later=later,
        closes=closes,
        candidate=Candidate(index, _conditions(rule, index), refuses=not effect and not later),
        chance=rule.chance,
    )


def _lot(phase: Phase, number: int, index: int) -> str:
    """The rule as one among those of its phase that chance decides about on the same occasions."""
    rule = phase.rules[index]
    if rule.chance is None:
        return ""
    tally = _tally(rule)
    alike = sum(1 for other in phase.rules[:index] if other.chance is not None and _tally(other) == tally)
    return f"{number}/{alike}/{tally}"


def _texts(rule: Rule) -> list[str]:
    """All that a rule says to clients."""
    found = [*(rule.reply or ()), *(value for _, value in rule.headers or ()), *(rule.origin or ())]
    return [*found, *(text for text in (rule.body, rule.altsvc) if text is not None)]


def watch(play: Play) -> tuple[Action, ...]:
    """The first half of a fault that comes later: behave, and say when the byte has passed."""
    return (Watch(1 if play.rule.after_bytes is None else play.rule.after_bytes), Proceed())


def filled(play: Play, live: Live) -> tuple[Action, ...]:
    """The steps of a rule with its live placeholders filled in."""
    return tuple(_fill(step, live) for step in play.steps) if play.live else play.steps


def _fill(step: Action, live: Live) -> Action:
    match step:
        case Send(lines, drip):
            return Send(tuple(knobs.render(line, live) for line in lines), drip)
        case Proceed(tuple(lines), drip):
            return Proceed(tuple(knobs.render(line, live) for line in lines), drip)
        case Proceed(Response() as response, drip):
            return Proceed(_fill_response(response, live), drip)
        case Respond(response, drip):
            return Respond(_fill_response(response, live), drip)
        case AltSvc(value):
            return AltSvc(knobs.render(value, live))
        case Origin(origins):
            return Origin(tuple(knobs.render(origin, live) for origin in origins))
        case _:
            return step


def _fill_response(response: Response, live: Live) -> Response:
    headers = tuple((name, knobs.render(value, live)) for name, value in response.headers)
    return Response(response.status, headers, None if response.body is None else knobs.render(response.body, live))
