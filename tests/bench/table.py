"""Rows of the table, and what a bench is."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class Skip(Exception):
    """A row that cannot be measured here, and why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the figure or the ratio of a row should be."""

    of: Literal["figure", "ratio"]
    sign: Literal["≥", "≤"]
    value: float

    def met(self, row: Row) -> bool | None:
        got = row.figure if self.of == "figure" else row.ratio
        if got is None:
            return None
        return got >= self.value if self.sign == "≥" else got <= self.value


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `figure` in `unit`, beside that of `reference`, whose ratio is figure to reference.

    `ratio` is the median over the rounds, each of which has measured both.
    """

    name: str
    what: str
    figure: float | None = None
    unit: str = ""
    reference: str = ""
    against: float | None = None
    ratio: float | None = None
    target: Target | None = None
    note: str = ""
    skipped: str = ""
    failed: str = ""

    @property
    def met(self) -> bool | None:
        return self.target.met(self) if self.target else None

    def cells(self) -> tuple[str, ...]:
        against = "" if self.against is None else f"{self.reference} {_number(self.against)}"
        unit = self.unit if self.target and self.target.of == "figure" else ""
        target = f"{self.target.sign} {self.target.value:g} {unit}".rstrip() if self.target else ""
        met = {None: "", True: "met", False: "NOT MET"}[self.met]
        met = "FAILED" if self.failed else "skipped" if self.skipped else met
        figure = "" if self.figure is None else f"{_number(self.figure)} {self.unit}"
        return self.what, figure, against, "" if self.ratio is None else f"{self.ratio:.2f}", target, met

    def as_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "target"}
        target = self.target and f"{self.target.of} {self.target.sign} {self.target.value:g}"
        return {**plain, "target": target, "met": self.met}


@dataclass(frozen=True, slots=True)
class Bench:
    """Something to measure. `profile` runs it under cProfile and gives the file with the statistics."""

    name: str
    what: str
    run: Callable[[bool], list[Row]]
    profile: Callable[[Path], None] | None = None


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of figures that were measured side by side."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def as_text(rows: Iterable[Row]) -> str:
    """The table, with its notes and the reasons of what was skipped below it."""
    rows = list(rows)
    lines = [("what", "figure", "reference", "ratio", "target", ""), *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    table.insert(1, "  ".join("─" * width for width in widths))
    notes = [f"{row.name}: {text}" for row in rows if (text := row.failed or row.skipped or row.note)]
    return "\n".join([*table, "", *notes])
