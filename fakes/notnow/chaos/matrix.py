"""The result of a sweep, with what tests ask of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from notnow.chaos.outcomes import Outcome
from notnow.chaos.showing import as_text
from notnow.chaos.table import Table
from notnow.terminal import safe_lines
from notnow.units import plural


class Matrix(Table):
    """What `notnow.chaos.sweep` returns. `print` shows it."""

    def assert_none(self, *words: str) -> None:
        """Fail if a cell has one of these words (see `of`); by default, if an item is lost or duplicated.

        Fails, too, if no fault fired. The message has the matrix and the worst cells.
        """
        wanted = words or ("lost", "duplicated")
        if found := self.of(*wanted):
            raise AssertionError(
                f"{_count(found)}\n\n{as_text(self, [one for one in self.worst if one in found] or found[:1])}"
            )
        if not self.tested:
            raise AssertionError(f"nothing was tested: {self.summary}")

    def __str__(self) -> str:
        return as_text(self)


def _count(found: Collection[Outcome]) -> str:
    words = Counter(one.word for one in found)
    return safe_lines(
        f"{plural(len(found), 'cell')} of the sweep: {', '.join(f'{n} {word}' for word, n in words.items())}"
    )
