"""Where a moment has its place in the order of everything that happened in a run."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

from notnow.conduct.reading.run import Run


class Order:
    """The exchanges of a run by their times, sorted when a place is asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @cached_property
    def _places(self) -> tuple[list[int], list[float]]:
        """The indices of all exchanges and connections, in order, and their times."""
        known = [(x.index, x.at) for x in self._run.exchanges]
        known += [(c.index, c.opened_at) for c in self._run.by_connection]
        known.sort()
        return [index for index, _ in known], [at for _, at in known]

    def place(self, at: float, least: int) -> int:
        """The index after all that came before this time, and `least` at least."""
        indices, times = self._places
        before = bisect_left(times, at) - 1
        return max(least, indices[before]) if before >= 0 else least
