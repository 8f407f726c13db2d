"""The load over time as characters: attempts a second, the part of them that came through, and the capacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from notnow.chaos.crowd.figures import Storm
from notnow.units import show

HEIGHT = 6  # lines
BEYOND = 1.05  # how much of the time after the last drain is shown
LEAST = 2  # a picture goes on for as long as the outage took, at least
TOO_LONG = 6  # times the recovery: a longer picture would hide it


class Picture(NamedTuple):
    """Rows from top to bottom, the label of each, the width of these labels, and the axis of time below."""

    rows: list[str]
    labels: list[str]
    margin: int
    axis: str


def span(storms: Sequence[Storm]) -> float:
    """The end of the time that the pictures show, the same for all: the last drain, but not so late that nothing is seen."""
    drains = [one.recovered + one.drained for one in storms if one.recovered is not None and one.drained is not None]
    ends = max(one.ended for one in storms)
    recovered = max((one.recovered or 0.0 for one in storms), default=0.0)
    if not recovered:
        return max(ends, 1.0)
    return min(ends, max(LEAST * recovered, min(TOO_LONG * recovered, BEYOND * max(drains, default=ends)))) or 1.0


def rates(counts: Sequence[int], width: float, end: float, columns: int) -> list[float]:
    """Counts a second in each column, up to `end`, of bins of `width` seconds. Columns need not have equally many bins."""
    found, bins, step = [0] * columns, [0] * columns, end / columns
    for place in range(max(1, int(end / width))):
        column = min(int((place + 0.5) * width / step), columns - 1)
        bins[column] += 1
        found[column] += counts[place] if place < len(counts) else 0
    return [count / (width * many) if many else 0.0 for count, many in zip(found, bins, strict=True)]


def picture(one: Storm, end: float, room: int) -> Picture:
    """The load of a storm up to `end`, in `room` columns."""
    margin = len(f"{max(one.capacity, one.peak):.0f}/s")
    columns = max(20, room - margin - 1)
    columns = max(1, min(columns, int(end / one.series.width)))
    asked, through = (
        rates(counts, one.series.width, end, columns) for counts in (one.series.attempts, one.series.through)
    )
    top = max(one.capacity * 1.25, *(max(pair) for pair in zip(asked, through, strict=True)))
    step = top / HEIGHT
    limit = HEIGHT - 1 - int(one.capacity / step)
    recovery = None if one.recovered is None else int(one.recovered / end * columns)
    rows = []
    for row in range(HEIGHT):
        level = (HEIGHT - row - 0.5) * step if row < HEIGHT - 1 else 0.0
        rows.append("".join(_cell(asked[x], through[x], level, row == limit, x == recovery) for x in range(columns)))
    labels = [""] * HEIGHT
    labels[0] = f"{top:.0f}/s"
    labels[limit] = f"{one.capacity:g}/s"
    return Picture(rows, labels, max(margin, *map(len, labels)), _axis(end, columns, one))


def _cell(asked: float, through: float, level: float, limit: bool, recovery: bool) -> str:
    if through > level:
        return "█"
    if asked > level:
        return "░"
    return "│" if recovery else "─" if limit else " "


def _axis(end: float, columns: int, one: Storm) -> str:
    """0 on the left, the end on the right, and the recovery where it is, if there is room."""
    last = show(end) + (" →" if one.ended > end else "")
    line = "0".ljust(columns - len(last)) + last
    if one.recovered:
        at, word = int(one.recovered / end * columns), show(one.recovered)
        if line[at : at + len(word) + 1].isspace():
            line = line[:at] + word + line[at + len(word) :]
    return line
