"""A rule of conduct, and the decorator that makes one. Each protocol has a folder of rules beside this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

from notnow.conduct.finding import Finding
from notnow.conduct.reading.run import Run

Level = Literal["must", "should", "advice"]
LEVELS: tuple[Level, ...] = ("must", "should", "advice")  # strictest first
Judge = Callable[[Run], Finding]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of conduct.

    `id` is `protocol.name`. `title` says in one sentence what a well-behaved client does, `source` names the section of
    the standard or the practice, `why` is the harm that a client does otherwise. `occasion` is the event that a run must
    contain for the rule to be held or broken, `proof` is the breach as the journal shows it, and `innocent` names the
    explanations that the judge rules out first. `example` is a broken run in a line or two. `gives_way` are
    results: if the user accepts the one that the run had, the rule asks for nothing. `judge` reads the run of the fakes of its protocol.
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
) -> Callable[[Judge], Rule]:
    """Turn the function that judges a rule into the rule.

    `may_report`: the client may leave the duty to its caller, if the user accepts that.
    """

    def of_judge(judge: Judge) -> Rule:
        gives_way = frozenset({"reported"}) if may_report else frozenset[str]()
        return Rule(id, title, level, source, why, proof, example, judge, occasion, innocent, gives_way)

    return of_judge


def rules_of(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that these modules define, in order."""
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Rule))


def up_to(level: str) -> tuple[Level, ...]:
    """This level and the stricter ones. Raises ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; allowed: {', '.join(LEVELS)}")
    return LEVELS[: LEVELS.index(level) + 1]
