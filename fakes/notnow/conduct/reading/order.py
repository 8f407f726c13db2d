"""Where a moment has its place in the order of everything that happened in a run."""

from __future__ import annotations

from bisect import bisect_left

from notnow.conduct.reading.run import Run


class Order:
    """The exchanges of a run by their times."""

    def __init__(self, run: Run) -> None:
        known = [(x.index, x.at) for x in run.exchanges]
        known += [(c.index, c.opened_at) for c in run.by_connection]
        known.sort()
        self._indices = [index for index, _ in known]
        self._times = [at for _, at in known]

    def place(self, at: float, least: int) -> int:
        """The index after all that came before this time, and `least` at least."""
        before = bisect_left(self._times, at) - 1
        return max(least, self._indices[before]) if before >= 0 else least
