"""Rules of conduct: what a rule is, what it judges, and where all of them are.

A rule reads what a client did (`Run`) and says that it was held, that it was broken, with the exchanges that prove it,
or that this run had no occasion for it. The rules of a protocol are in the file of its name beside this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from notnow.conduct.finding import Finding, Outcome
from notnow.conduct.reading import attempts
from notnow.errors import NotNowError, unknown
from notnow.journal import Connection, Exchange, Journal
from notnow.language.moments import PROTOCOLS

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

Level = Literal["must", "should", "advice"]
LEVELS: tuple[Level, ...] = ("must", "should", "advice")  # the strictest first
T = TypeVar("T")


class UnknownRuleError(NotNowError, ValueError):
    """No rule of conduct has this id, nor does the pattern match one."""


class Run:
    """What clients did, as one fake or several that share a clock have seen it.

    Only what happened since a scenario was last played on it is looked at. What is read more than once is kept: a
    rule must not take time that grows faster than the journal.
    """

    def __init__(self, journals: Sequence[Journal], scenarios: Sequence[Scenario] = ()) -> None:
        self.journals, self.scenarios = tuple(journals), tuple(scenarios)
        self._worked_out: dict[Callable[[Run], Any], Any] = {}

    def of(self, protocol: str) -> Run:
        """What the fakes of one protocol have seen."""
        return Run([j for j in self.journals if j.protocol == protocol], self.scenarios)

    @cached_property
    def exchanges(self) -> tuple[Exchange, ...]:
        """In the order in which they happened, on whichever server."""
        found = [x for journal in self.journals for x in journal.since_play()]
        return tuple(sorted(found, key=lambda x: x.index)) if len(self.journals) > 1 else tuple(found)

    @cached_property
    def by_connection(self) -> dict[Connection, list[Exchange]]:
        """The exchanges of each connection, connections in the order in which they came."""
        found: dict[Connection, list[Exchange]] = {}
        for exchange in self.exchanges:
            found.setdefault(exchange.connection, []).append(exchange)
        return found

    @property
    def connections(self) -> list[Connection]:
        return list(self.by_connection)

    @cached_property
    def refusals(self) -> list[Exchange]:
        """Where a rule of a scenario refused, by a 4yz or 5yz (4xx, 5xx) or by ending without a word."""
        return attempts.refusals(self.exchanges)

    @cached_property
    def retries(self) -> list[attempts.Retry]:
        """Each attempt that followed a refusal of the same client by the same server."""
        found = [r for journal in self.journals for r in attempts.retries(journal.since_play())]
        return sorted(found, key=lambda r: r.attempt.index)

    def once(self, work: Callable[[Run], T]) -> T:
        """What several rules of a protocol need of a run: it is worked out for the first that asks."""
        if work not in self._worked_out:
            self._worked_out[work] = work(self)
        found: T = self._worked_out[work]
        return found

    @cached_property
    def requests(self) -> list[Exchange]:
        """Those of HTTP, in order."""
        return [x for x in self.exchanges if x.facts and "method" in x.facts]

    @cached_property
    def tries(self) -> list[list[Exchange]]:
        """The requests that a client has made, each with all the times that it came, on whichever server."""
        found: dict[tuple[str, str], list[Exchange]] = {}
        for x in self.requests:
            found.setdefault((x.connection.client, x.request), []).append(x)
        return list(found.values())

    def after(self, exchange: Exchange) -> list[Exchange]:
        """What came later on the same connection, unasked words of the fake left out."""
        return [x for x in self.by_connection[exchange.connection] if x.index > exchange.index and x.request]


def burst(exchanges: Iterable[Exchange], most: int, within: float) -> list[Exchange]:
    """The first exchanges, of these in order, that are more than `most` within `within` seconds; empty if there are none."""
    recent: deque[Exchange] = deque()
    for exchange in exchanges:
        recent.append(exchange)
        while exchange.at - recent[0].at > within:
            recent.popleft()
        if len(recent) > most:
            return list(recent)
    return []


def plural(n: int, one: str, several: str = "") -> str:
    """A number and its noun: "1 reply", "3 replies"."""
    return f"{n} {one if n == 1 else several or one + 's'}"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of conduct.

    `id` is what it goes by, `protocol.name`; `title` says in one sentence what a client does that keeps it; `source`
    names the section or the practice; `why` is what happens to who breaks it; `observed` how a server can tell;
    `example` a broken run in a line or two. `judge` reads a run of the fakes of its protocol.
    """

    id: str
    title: str
    level: Level
    source: str
    why: str
    observed: str
    example: str
    judge: Callable[[Run], Finding] = field(repr=False)

    @property
    def protocol(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule, and what it found."""

    rule: Rule
    finding: Finding

    @property
    def outcome(self) -> Outcome:
        return self.finding.outcome


def of_protocol(protocol: str) -> tuple[Rule, ...]:
    """The rules of a protocol, in the order of its file."""
    found: tuple[Rule, ...] = import_module(f"notnow.conduct.rules.{protocol}").RULES
    return found


def all_rules() -> tuple[Rule, ...]:
    return tuple(rule for protocol in PROTOCOLS for rule in of_protocol(protocol))


def select(patterns: Iterable[str], among: Sequence[Rule] | None = None) -> list[Rule]:
    """The rules of these ids or patterns (`smtp.*`). Raises UnknownRuleError for one that matches nothing."""
    rules = all_rules() if among is None else among
    chosen: list[Rule] = []
    for pattern in patterns:
        found = [rule for rule in rules if fnmatchcase(rule.id, pattern)]
        if not found:
            raise UnknownRuleError(str(unknown("rule of conduct", pattern, [rule.id for rule in rules])))
        chosen += [rule for rule in found if rule not in chosen]
    return chosen


def up_to(level: str) -> tuple[Level, ...]:
    """This level and the stricter ones. Raises ValueError for one that there is not."""
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; allowed: {', '.join(LEVELS)}")
    return LEVELS[: LEVELS.index(level) + 1]


def judge(run: Run, rules: Iterable[Rule] | None = None) -> list[Verdict]:
    """What each rule says of a run; where none are named, all of the protocols that took part."""
    if rules is None:
        rules = [rule for p in dict.fromkeys(j.protocol for j in run.journals) for rule in of_protocol(p)]
    runs = {protocol: run.of(protocol) for protocol in PROTOCOLS}
    return [Verdict(rule, rule.judge(runs[rule.protocol])) for rule in rules]
