"""Invented scenarios: a Hypothesis strategy over the grammar.

What may come up is read from the record of the protocol and from the tables of the language; `strategies_values` has the
values, and `strategies_sound` leaves out what the loader refuses. Choices are in order, so that Hypothesis shrinks a scenario
towards none at all: fewer phases, fewer rules, earlier moments, plainer faults, fewer conditions, smaller numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct

from notnow import protocols
from notnow.chaos.strategies_sound import Tables, fault_keys, plainest, sound, toml
from notnow.chaos.strategies_values import CERTIFICATES, COUNTS, SPANS, values, wanted
from notnow.errors import Problem, ScenarioError, unknown
from notnow.language.conditions import CONDITIONS, When
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.protocols.moment import Moment
from notnow.protocols.protocol import Protocol
from notnow.units import parse_duration, seconds

# Conditions from plain to odd; a new one comes after those that count.
ORDER = tuple(dict.fromkeys(["nth", "first", "times", *CONDITIONS, *(key for key in When.KEYS if key != "on")]))
MANY = 20  # moments
HEALTHY = "No fault: a property that fails here can never hold."
_NEEDS: Mapping[str, str] = {"within": "over", "since": "after"}  # a key that means nothing without another one


class Plan(Struct, frozen=True):
    """What may come up: the protocol and its TLS mode, the moments, and the limits."""

    protocol: Protocol
    tls: str
    moments: tuple[str, ...]
    max_faults: int
    max_phases: int
    lasts: tuple[str, ...]
    heals: bool
    final: bool
    where: Mapping[str, Sequence[Any]]

    @property
    def weighed(self) -> list[str]:
        """The moments in order. Where there are many, those of transfers and attempts come up more often than others."""
        more = len(self.moments) // MANY

        def weight(one: Moment) -> int:
            return 1 + more * (one.lasts or one.amid or one.ends or one.body or one.attempt)

        return [name for name in self.moments for _ in range(weight(self.protocol.moments[name]))]


def plan(
    protocol: str,
    *,
    max_faults: int,
    max_phases: int,
    outage: float | str | timedelta,
    heals: bool,
    final: bool,
    tls: str,
    at: Collection[str],
    where: Mapping[str, Any],
) -> Plan:
    """The plan of these arguments. Raises ScenarioError for a protocol, moment, TLS mode or fact that there is not, and ValueError."""
    if protocol not in protocols.NAMES:
        raise ScenarioError([unknown("protocol", protocol, protocols.NAMES)])
    record = protocols.get(protocol)
    if tls not in record.tls_modes:
        raise ScenarioError([unknown("tls mode", tls, record.tls_modes)])
    usable = moments(protocol, tls)
    for name in at:
        if name not in usable:
            raise ScenarioError([unknown("moment", name, usable)])
    for name in where:
        if name not in record.facts:
            raise ScenarioError([unknown("fact", name, record.facts)])
    for name, number in (("max_faults", max_faults), ("max_phases", max_phases)):
        if number < 1:
            raise ValueError(f"{name} is {number!r}; allowed: 1 or more")
    each = seconds(outage) / max_phases
    spans = tuple(span for span in SPANS if (parse_duration(span) or 0) <= each)
    if not spans:
        raise ScenarioError([Problem(f"outage is {outage!r}", allowed=f"at least 1s for each of {max_phases} phases")])
    chosen = tuple(name for name in usable if not at or name in at)
    lists = {name: one if isinstance(one, (list, tuple)) else [one] for name, one in where.items()}
    return Plan(record, tls, chosen, max_faults, max_phases, spans, heals, final, lists)


# ---- what the loader takes -----------------------------------------------------------------------


@cache
def moments(protocol: str, tls: str) -> tuple[str, ...]:
    """The moments that can come in this TLS mode, in order: those of commands before the broad and the unasked ones."""
    record = protocols.get(protocol)
    broad = set().union(*(moment.within for moment in record.moments.values()))
    order = sorted(record.moments, key=lambda name: name in broad or record.moments[name].unasked)
    return tuple(name for name in order if _sound(protocol, tls, name, plainest(protocol, name)))


@cache
def faults(protocol: str, tls: str, moment: str) -> tuple[str, ...]:
    """The keys of a fault that may stand alone at a moment, the plainest first."""
    known = {key: values(protocols.get(protocol), moment, key) for key in fault_keys(protocol, moment)}
    return tuple(key for key, found in known.items() if found and _sound(protocol, tls, moment, {key: found[0]}))


@cache
def beside(protocol: str, tls: str, moment: str, key: str) -> tuple[str, ...]:
    """The keys that may stand beside this key of a fault at a moment, the plainest first."""
    known = {other: values(protocols.get(protocol), moment, other) for other in fault_keys(protocol, moment)}
    return tuple(
        other
        for other, found in known.items()
        if other != key and found and _sound(protocol, tls, moment, {key: known[key][0], other: found[0]})
    )


@cache
def conditions(protocol: str, tls: str, moment: str) -> tuple[str, ...]:
    """The conditions that a rule may have at a moment, the plainest first."""
    record, fault = protocols.get(protocol), plainest(protocol, moment)

    def fits(key: str) -> bool:
        ways = wanted_at(record, moment, {}) if key == "where" else values(record, moment, key)
        more = {name: values(record, moment, name)[0] for name in (_NEEDS.get(key),) if name is not None}
        return bool(ways) and _sound(protocol, tls, moment, {**more, key: ways[0], **fault})

    return tuple(key for key in ORDER if fits(key))


def wanted_at(record: Protocol, moment: str, given: Mapping[str, Sequence[Any]]) -> list[Tables]:
    """Tables of one fact each, for `where`: of the facts that the user has named, if the moment knows any, or of all."""
    known = sorted(record.facts_at(moment))
    named = [{name: one} for name in known for one in given.get(name, ())]
    return named or [{name: one} for name in known for one in wanted(record, moment, name)]


def _sound(protocol: str, tls: str, moment: str, keys: Mapping[str, Any]) -> bool:
    """True if the loader takes a rule of these keys at a moment, and does not warn of it."""
    rule = {"on": [moment], **_silence(moment), **keys}
    tables = {"protocol": protocol, **_server(tls, [rule]), **_certificates([rule]), "phase": [{"rule": [rule]}]}
    try:
        return not loads(toml(tables)).warnings
    except ScenarioError:
        return False


def _silence(moment: str) -> Tables:
    return {"after": SPANS[0]} if moment == "idle" else {}


def _server(tls: str, rules: Sequence[Mapping[str, Any]]) -> Tables:
    """The server of these rules: one that can be busy has little capacity."""
    little = {"capacity": "1/s", "queue": 0} if any("busy" in rule for rule in rules) else {}
    table = {**({} if tls == "none" else {"tls": tls}), **little}
    return {"server": table} if table else {}


def _certificates(rules: Sequence[Mapping[str, Any]]) -> Tables:
    """The certificates that rules show, after the one of a healthy server."""
    shown = [rule["certificate"] for rule in rules if "certificate" in rule]
    if not shown:
        return {}
    own = {"own": {"names": ["localhost", "127.0.0.1", "::1"]}}
    return {"certificate": {**own, **{name: dict(CERTIFICATES[name]) for name in dict.fromkeys(shown)}}}


# ---- the strategy --------------------------------------------------------------------------------

# A plain rule is five choices: that there is one, its moment, its fault, at which event, and in which phase. Hypothesis
# deletes so few at once.
_ODD, _UNTIL = "odd", "until"
_half, _seldom, _counts = st.booleans(), st.sampled_from((False, False, False, True)), st.sampled_from(COUNTS)


def invented(plan: Plan, least: int = 0) -> st.SearchStrategy[Scenario]:
    """Scenarios of a plan with at least so many rules; the simplest has no fault."""
    # A rule that comes twice tells nothing new. Hypothesis, too, then makes fewer copies of what it has tried.
    rules = st.lists(
        _rule(_Choices(plan)), min_size=least, max_size=plan.max_faults, unique_by=lambda drawn: repr(drawn.rule)
    )
    return rules.map(lambda drawn: sound(_document(plan, drawn)))


class _Choices:
    """What the strategies of a plan choose from."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._of = plan, (plan.protocol.name, plan.tls)
        self.moments, self.lasts = st.sampled_from(plan.weighed), st.sampled_from(plan.lasts)
        self.ends = st.sampled_from((None, *plan.lasts, _UNTIL))
        self.kinds, self.events, self.value = cache(self._kinds), cache(self._events), cache(self._value)

    def faults(self, moment: str) -> tuple[str, ...]:
        return faults(*self._of, moment)

    def conditions(self, moment: str) -> st.SearchStrategy[list[str]]:
        return _one_or_two(conditions(*self._of, moment))

    def beside(self, moment: str, key: str) -> st.SearchStrategy[list[str]]:
        return _one_or_two(beside(*self._of, moment, key))

    def _kinds(self, moment: str) -> st.SearchStrategy[Any]:
        """The plain faults at a moment, those of a sweep: refused, closed, no answer, kept and yet refused, cut. Or an odd one."""
        found = self.faults(moment)
        plain = [{key: self._plainest(moment, key)} for key in (found[0], "close", "stall") if key in found]
        more = [
            {**one, key: self._plainest(moment, key)}
            for key in ("keep", "after_bytes")
            for one in plain
            if key in beside(*self._of, moment, next(iter(one)))
        ]
        return st.sampled_from([plain[0], *plain, *more, _ODD, _ODD])

    def _events(self, moment: str) -> st.SearchStrategy[Tables]:
        """The events at which a plain fault acts: each of them, one of the first, or those with a fact that the user has named."""
        record, where = self._plan.protocol, self._plan.where
        counts = [] if moment == "idle" else [{"nth": number} for number in COUNTS]
        named = (
            [{"where": one} for one in wanted_at(record, moment, where)]
            if record.facts_at(moment) & where.keys()
            else []
        )
        return st.sampled_from([{}, *counts, *named])

    def _plainest(self, moment: str, key: str) -> Any:
        return values(self._plan.protocol, moment, key)[0]

    def _value(self, moment: str, key: str) -> st.SearchStrategy[Any]:
        record = self._plan.protocol
        if key == "where":
            return st.sampled_from(wanted_at(record, moment, self._plan.where))
        return st.sampled_from(values(record, moment, key, final=self._plan.final))


@cache
def _one_or_two(keys: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(keys), min_size=1, max_size=2, unique=True) if keys else st.just([])


class _Drawn(Struct):
    """A rule, and the end of the phase that it begins; None: it belongs to the phase of the rule before."""

    rule: Tables
    ends: Tables | None


@st.composite
def _rule(draw: st.DrawFn, choices: _Choices) -> _Drawn:
    moment = draw(choices.moments)
    kind = draw(choices.kinds(moment))
    if kind == _ODD:
        rule = _odd(draw, choices, moment)
    else:
        rule = {"on": [moment], **_silence(moment), **draw(choices.events(moment)), **kind}
    return _Drawn(rule, _ends(draw, choices))


def _odd(draw: st.DrawFn, choices: _Choices, moment: str) -> Tables:
    """A rule with conditions, of several moments, or with any fault."""
    on = [moment, draw(choices.moments)] if draw(_seldom) else [moment]
    rule: Tables = {"on": list(dict.fromkeys(on)), **_silence(moment)}
    for key in draw(choices.conditions(moment)) if draw(_half) else ():
        for name in (_NEEDS.get(key, key), key):
            rule[name] = draw(choices.value(moment, name))
    fault = draw(st.sampled_from(choices.faults(moment)))
    for key in [fault, *(draw(choices.beside(moment, fault)) if draw(_half) else ())]:
        rule[key] = draw(choices.value(moment, key))
    return rule


def _ends(draw: st.DrawFn, choices: _Choices) -> Tables | None:
    """The end of a new phase: always after a time, so that no refused client keeps it from ending."""
    lasts = draw(choices.ends)
    if lasts == _UNTIL:
        return {"lasts": draw(choices.lasts), "until": {draw(choices.moments): draw(_counts)}}
    return None if lasts is None else {"lasts": lasts}


def _document(plan: Plan, drawn: list[_Drawn]) -> Tables:
    phases: list[Tables] = []
    for one in drawn:
        if not phases or (one.ends is not None and len(phases) < plan.max_phases):
            phases.append({**(one.ends or {"lasts": plan.lasts[0]}), "rule": []})
        phases[-1]["rule"].append(one.rule)
    if plan.heals or not phases:
        phases.append({"name": "healthy", "rule": []})
    else:
        phases[-1] = {"rule": phases[-1]["rule"]}
    summary = {} if drawn else {"summary": HEALTHY}
    return {
        **summary,
        "protocol": plan.protocol.name,
        **_server(plan.tls, [one.rule for one in drawn]),
        **_certificates([one.rule for one in drawn]),
        "phase": phases,
    }
