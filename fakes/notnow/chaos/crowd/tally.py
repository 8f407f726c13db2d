"""What is counted while a crowd is simulated: numbers, and series over time."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from math import inf

SECOND = 1.0
MOST_BINS = 86_400


class Series:
    """Counts over time, in bins of `width` seconds."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.counts = array("q")

    def add(self, at: float, count: int = 1) -> None:
        place = int(at / self.width)
        if place >= len(self.counts):
            self.counts.extend([0] * (place + 1 - len(self.counts)))
        self.counts[place] += count

    def between(self, start: float, end: float) -> int:
        """The count of the bins that begin from `start` on and before `end`."""
        first, last = -int(-start // self.width), -int(-end // self.width)
        return sum(self.counts[first:last])


class Peak:
    """The most events within any second. Times never go back."""

    def __init__(self) -> None:
        self.most = 0
        self._last = deque[float]()

    def add(self, at: float) -> None:
        last = self._last
        last.append(at)
        while at - last[0] >= SECOND:
            last.popleft()
        self.most = max(self.most, len(last))


class Ends:
    """When items came, and when they were settled, in the order of the latter."""

    def __init__(self) -> None:
        self.born, self.at = array("d"), array("d")

    def add(self, born: float, at: float) -> None:
        self.born.append(born)
        self.at.append(at)

    def since(self, start: float, *, born_before: float = inf) -> list[float]:
        """When items were settled, from `start` on, of those that had come before another time."""
        first = bisect_left(self.at, start)
        return [at for born, at in zip(self.born[first:], self.at[first:], strict=True) if born < born_before]


class Tally:
    """The counts of one simulation. `items` are those that have come; `asked`, `new` and `through` are over time."""

    def __init__(self, horizon: float) -> None:
        width = max(SECOND, horizon / MOST_BINS)
        self.births = array("d")
        self.ends_through, self.ends_given_up = Ends(), Ends()
        self.asked, self.new, self.through = Series(width), Series(width), Series(width)
        self.peak, self.peak_after = Peak(), Peak()
        self.items = self.done = self.attempts = self.gave_up = 0
        self.refused = self.busy = self.abandoned = self.held = 0
        self.last_through = self.last_refused = 0.0
        self.took = self.longest = 0.0  # seconds that items took, in all and at most

    @property
    def waiting(self) -> int:
        """The items that are neither through nor given up."""
        return self.items - self.done - self.gave_up
