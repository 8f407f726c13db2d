"""What a rule of conduct is. The rules of a protocol are in the folder of its name beside this file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal

from notnow.conduct.finding import Finding
from notnow.conduct.reading.run import Run

Level = Literal["must", "should", "advice"]
LEVELS: tuple[Level, ...] = ("must", "should", "advice")  # the strictest first
Judge = Callable[[Run], Finding]


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
    judge: Judge = field(repr=False)

    @property
    def protocol(self) -> str:
        return self.id.partition(".")[0]


def rule(
    id: str, level: Level, *, title: str, source: str, why: str, observed: str, example: str
) -> Callable[[Judge], Rule]:
    """Make a rule of the function that judges it."""

    def of_judge(judge: Judge) -> Rule:
        return Rule(id, title, level, source, why, observed, example, judge)

    return of_judge


def rules_of(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that these modules define, in the order in which they do."""
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Rule))


def up_to(level: str) -> tuple[Level, ...]:
    """This level and the stricter ones. Raises ValueError for one that there is not."""
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}; allowed: {', '.join(LEVELS)}")
    return LEVELS[: LEVELS.index(level) + 1]
