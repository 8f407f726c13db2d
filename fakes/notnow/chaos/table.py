"""The outcomes of a sweep: a row for each event of the client, a column for each fault, and what became of its items in each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from notnow.chaos.cells import Base
from notnow.chaos.faults import fault as faults
from notnow.chaos.outcomes import BAD, Healthy, Outcome, Word
from notnow.chaos.steps import Step
from notnow.conduct.reading.result import WORDS
from notnow.errors import unknown
from notnow.units import plural

ANY: tuple[str, ...] = (*WORDS, "not reached", "exposed", "broken")
WORST = 3  # most bad cells that are told at length
RANK: Mapping[str, int] = {"lost": 0, "duplicated": 1, "hung": 2, "false alarm": 3}


class Table(NamedTuple):
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
        """The outcomes of these words: results, "not reached", "exposed", or "broken" for a broken rule. Raises ValueError."""
        for word in words:
            if word not in ANY:
                raise ValueError(str(unknown("result", word, ANY)))
        return [one for one in self.outcomes if not _words(one).isdisjoint(words)]

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
            kinds.setdefault((one.word, one.exposed, one.broken, one.cell.hits[-1].step.moment), one)
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
        """`2 of 50 cells went wrong: 1 duplicated, 1 lost, 48 delivered`."""
        words = Counter(one.word for one in self.outcomes)
        counts = [f"{n} {word}" for word, n in sorted(words.items(), key=_order)]
        for word, about in (("exposed", "in clear text"), ("broken", "with a broken rule")):
            if found := self.of(word):
                counts.append(f"{len(found)} {about}")
        wrong = f"{len(self.bad)} of {plural(len(self.outcomes), 'cell')} went wrong"
        return f"{wrong if self.bad else 'no cell went wrong'}: {', '.join(counts)}" if counts else "no cell was run"

    @property
    def grid(self) -> tuple[list[str], list[tuple[Step, list[Outcome | None]]]]:
        """The names of the columns, and each event with its cells; None where a fault cannot act, or was not asked for."""
        singles = [one for one in self.outcomes if len(one.cell.hits) == 1]
        cells = {(one.cell.hits[0].step.id, one.cell.hits[0].fault.name): one for one in singles}
        names = [name for name in faults.names(self.base.protocol) if any(name == fault for _, fault in cells)]
        rows = [(step, [cells.get((step.id, name)) for name in names]) for step in self.first.steps]
        return names, [(step, row) for step, row in rows if any(row)]

    @property
    def pairs(self) -> list[Outcome]:
        """The cells with two faults."""
        return [one for one in self.outcomes if len(one.cell.hits) > 1]

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


def _words(one: Outcome) -> set[str]:
    more = {"exposed"} if one.exposed else set()
    return {one.word, *more, *(["broken"] if one.broken else [])}


def _cell(one: Outcome) -> dict[str, Any]:
    return {
        "id": one.cell.id,
        "in_words": one.cell.in_words,
        "result": one.word,
        "result_in_words": one.sentence,
        "bad": one.bad,
        "broken": list(one.broken),
        "copies": one.copies,
        "exposed": one.exposed,
        "seconds": round(one.took, 4),
        "scenario": one.cell.toml,
    }


def _deeds(steps: Sequence[Step]) -> list[str]:
    return [step.moment for step in steps]


def _order(item: tuple[Word, int]) -> tuple[bool, str]:
    return item[0] not in BAD, item[0]
