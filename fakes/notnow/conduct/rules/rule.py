"""A rule of conduct, and the decorator that makes one. Each protocol has a folder of rules beside this file."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Literal

from notnow.conduct.finding import Finding, inconclusive, not_exercised
from notnow.conduct.reading.run import Run

Level = Literal["must", "should", "advice"]
LEVELS: tuple[Level, ...] = ("must", "should", "advice")  # strictest first
Judge = Callable[[Run], Finding]


ONE_CLIENT = "a run with one client behind the proxy that asks once and does not retry"


@dataclass(frozen=True, slots=True)
class ForProxy:
    """What a rule asks of an intermediary instead: `says` is that in words, with the section, and `level` its level there.

    `free`: it asks nothing. `others`: it asks the same, but the request that breaks it may be that of another client of the
    proxy. Without these, the judge of the rule asks `run.proxy` itself.
    """

    says: str
    level: Level | None = None
    free: bool = False
    others: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of conduct.

    `id` is `protocol.name`. `title` says in one sentence what a well-behaved client does, `source` names the section of
    the standard or the practice, `why` is the harm that a client does otherwise. `occasion` is the event that a run must
    contain for the rule to be held or broken, `proof` is the breach as the journal shows it, and `innocent` names the
    explanations that the judge rules out first. `example` is a broken run in a line or two. `gives_way` are
    results: if the user accepts the one that the run had, the rule asks for nothing. `proxy`: what it asks of an intermediary,
    if that is another thing. `judge` reads the run of the fakes of its protocol.
    """

    id: str
    title: str
    level: Level
    source: str
    why: str
    proof: str
    example: str
    judge: Judge = field(repr=False)
    occasion: str = ""
    innocent: str = ""
    gives_way: frozenset[str] = frozenset()
    proxy: ForProxy | None = None

    def for_proxy(self) -> Rule:
        """The rule as an intermediary is judged by it."""
        asks = self.proxy
        return (
            self if asks is None else replace(self, level=asks.level or self.level, judge=_as_proxy(self.judge, asks))
        )

    @property
    def protocol(self) -> str:
        return self.id.partition(".")[0]


def rule(
    id: str,
    level: Level,
    *,
    title: str,
    source: str,
    why: str,
    proof: str,
    example: str,
    occasion: str = "",
    innocent: str = "",
    may_report: bool = False,
    gives_way: Collection[str] = (),
    proxy: ForProxy | None = None,
) -> Callable[[Judge], Rule]:
    """Turn the function that judges a rule into the rule.

    `may_report`: the client may leave the duty to its caller, if the user accepts that; short for `gives_way=("reported",)`.
    """

    def of_judge(judge: Judge) -> Rule:
        accepted = frozenset({"reported"} if may_report else gives_way)
        return Rule(id, title, level, source, why, proof, example, judge, occasion, innocent, accepted, proxy)

    return of_judge


def _as_proxy(judge: Judge, asks: ForProxy) -> Judge:
    def judged(run: Run) -> Finding:
        finding = judge(run)
        if finding.outcome == "not exercised" or not (asks.free or asks.others):
            return finding
        if asks.free:
            return not_exercised(asks.says)
        if finding.outcome != "broken":
            return finding
        return inconclusive(f"{finding.seen}; {asks.says}", ONE_CLIENT, *finding.evidence)

    return judged


def rules_of(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that these modules define, in order."""
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Rule))


def up_to(level: str) -> tuple[Level, ...]:
    """This level and the stricter ones. Raises ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; allowed: {', '.join(LEVELS)}")
    return LEVELS[: LEVELS.index(level) + 1]
