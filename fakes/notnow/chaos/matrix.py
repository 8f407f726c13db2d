"""The result of a sweep: a row for each event of the client, a column for each fault, and what became of its items in each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from notnow.chaos import faults
from notnow.chaos.cells import Base
from notnow.chaos.outcomes import BAD, Healthy, Outcome, Word
from notnow.chaos.steps import Step
from notnow.conduct.reading.result import WORDS
from notnow.errors import unknown
from notnow.terminal import safe_lines
from notnow.units import plural

ANY: tuple[str, ...] = (*WORDS, "not reached", "broken")
WORST = 3  # most bad cells that are told at length
RANK: Mapping[str, int] = {"lost": 0, "duplicated": 1, "hung": 2, "false alarm": 3}


class Matrix(NamedTuple):
    """What a sweep has found.

    `first` and `second` are the healthy runs. `outcomes` are those of the cells, in the order of the client's events.
    `left_out` counts cells that cannot differ from another one, by the reason; `undone` those for which the budget did not
    last.
    """

    base: Base
    first: Healthy
    second: Healthy
    outcomes: Sequence[Outcome]
    left_out: Counter[str]
    undone: int = 0

    def of(self, *words: str) -> list[Outcome]:
        """The outcomes of these words: results, "not reached", or "broken" for those that broke a rule. Raises ValueError."""
        for word in words:
            if word not in ANY:
                raise ValueError(str(unknown("result", word, ANY)))
        return [one for one in self.outcomes if one.word in words or ("broken" in words and one.broken)]

    @property
    def bad(self) -> list[Outcome]:
        """The cells in which the client went wrong, the worst first."""
        found = [one for one in self.outcomes if one.bad]
        return sorted(found, key=lambda one: RANK.get(one.word, len(RANK)))

    @property
    def worst(self) -> list[Outcome]:
        """A few bad cells that differ: in their result, or in the kind of their event."""
        kinds: dict[tuple[object, ...], Outcome] = {}
        for one in self.bad:
            kinds.setdefault((one.word, one.broken, one.cell.hits[-1].step.moment), one)
        return list(kinds.values())[:WORST]

    @property
    def tested(self) -> list[Outcome]:
        """The cells whose fault fired."""
        return [one for one in self.outcomes if one.word != "not reached"]

    @property
    def exit(self) -> int:
        """The exit code of `notnow sweep`: 1 if a cell is bad, 4 if nothing was tested, else 0."""
        return 1 if self.bad else 0 if self.tested else 4

    @property
    def unsteady(self) -> bool:
        """True if the client did not do the same in its two healthy runs."""
        return _deeds(self.first.steps) != _deeds(self.second.steps)

    @property
    def summary(self) -> str:
        """`2 of 50 cells went wrong: 1 lost, 1 duplicated`."""
        words = Counter(one.word for one in self.outcomes)
        counts = ", ".join(f"{n} {word}" for word, n in sorted(words.items(), key=_order))
        wrong = (
            f"{len(self.bad)} of {plural(len(self.outcomes), 'cell')} went wrong" if self.bad else "no cell went wrong"
        )
        return f"{wrong}: {counts}" if counts else "no cell was run"

    def assert_none(self, *words: str) -> None:
        """Fail if a cell has one of these results, or "broken"; by default, if one is lost or duplicated.

        Fails, too, if no fault fired. The message has the matrix and the worst cells.
        """
        from notnow.chaos.showing import as_text

        wanted = words or ("lost", "duplicated")
        if found := self.of(*wanted):
            raise AssertionError(
                f"{_count(found)}\n\n{as_text(self, [one for one in self.worst if one in found] or found[:1])}"
            )
        if not self.tested:
            raise AssertionError(f"nothing was tested: {self.summary}")

    def __str__(self) -> str:
        from notnow.chaos.showing import as_text

        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """The matrix for JSON."""
        return {
            "protocol": self.base.protocol,
            "summary": self.summary,
            "exit": self.exit,
            "items": self.first.result.asked,
            "steady": not self.unsteady,
            "steps": [{"id": step.id, "said": step.said} for step in self.first.steps],
            "faults": faults.names(self.base.protocol),
            "cells": [_cell(one) for one in self.outcomes],
            "left_out": dict(self.left_out),
            "undone": self.undone,
        }


def _cell(one: Outcome) -> dict[str, Any]:
    return {
        "id": one.cell.id,
        "in_words": one.cell.in_words,
        "result": one.word,
        "result_in_words": one.sentence,
        "bad": one.bad,
        "broken": list(one.broken),
        "copies": one.copies,
        "seconds": round(one.took, 4),
        "scenario": one.cell.toml,
    }


def _deeds(steps: Sequence[Step]) -> list[str]:
    return [step.moment for step in steps]


def _order(item: tuple[Word, int]) -> tuple[bool, str]:
    return item[0] not in BAD, item[0]


def _count(found: Collection[Outcome]) -> str:
    words = Counter(one.word for one in found)
    return safe_lines(
        f"{plural(len(found), 'cell')} of the sweep: {', '.join(f'{n} {word}' for word, n in words.items())}"
    )
