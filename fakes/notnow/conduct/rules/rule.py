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
    the standard or the practice, `why` the harm that a client does otherwise, `observed` how the journal shows it, and
    `example` is a broken run in a line or two. `judge` reads the run of the fakes of its protocol.
    """

    id: str
    title: str
    level: Level
    source: str
    why: str
    observed: str
    example: str
    judge: Judge = field(repr=False)

    @property
    def protocol(self) -> str:
        return self.id.partition(".")[0]


def rule(
    id: str, level: Level, *, title: str, source: str, why: str, observed: str, example: str
) -> Callable[[Judge], Rule]:
    """Turn the function that judges a rule into the rule."""

    def of_judge(judge: Judge) -> Rule:
        return Rule(id, title, level, source, why, observed, example, judge)

    return of_judge


def rules_of(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that these modules define, in order."""
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Rule))


def up_to(level: str) -> tuple[Level, ...]:
    """This level and the stricter ones. Raises ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; allowed: {', '.join(LEVELS)}")
    return LEVELS[: LEVELS.index(level) + 1]
