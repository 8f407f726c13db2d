"""The lanes as a chart: places from left to right in percent of its width, from top to bottom in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from notnow.conduct.pictures.lanes import Kind, Lane, Picture, Point
from notnow.units import show

TOP, LANE, FOOT = 46, 28, 6  # pixels: above the lanes, of each lane, and below them
TICKS = 6  # most ticks on the axis
NARROW, WIDE = 9.0, 20.0  # percent: a shorter wait has no label, a longer one has room for it on a phone, too
APART = 30.0  # percent between two phases whose words fit beside each other
CLOSE = 0.2  # percent between two marks of one kind, of which one is drawn

_STEPS = (
    *(n / 1000 for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(1, 2, 5, 10, 15, 30),
    *(60 * n for n in (1, 2, 5, 10, 15, 30)),
    *(3600 * n for n in (1, 2, 3, 6, 12)),
    *(86400 * n for n in (1, 2, 5, 10, 30, 100)),
)  # seconds between two ticks
_ORDER: tuple[Kind, ...] = ("done", "refused", "421")  # later ones are drawn over earlier ones


@dataclass(frozen=True, slots=True)
class Place:
    """A time, or a phase that begins then, with its words.

    `late`: in the right half, where words must end and not begin. `raised`: its words would run into those before it.
    """

    x: float
    text: str
    late: bool
    raised: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of a lane."""

    x: float
    point: Point

    @property
    def label(self) -> str:
        return f"{show(max(0.0, self.point.at))}: {self.point.text}"


@dataclass(frozen=True, slots=True)
class Gap:
    """A wait, drawn to scale: from `x` to `end` on its lane, then down to the lane at `to`."""

    x: float
    end: float
    to: float
    label: str
    room: Literal["", "some", "much"]


@dataclass(frozen=True, slots=True)
class Row:
    """A lane of the chart; `y` is its middle. `told` counts its 421s, beside the last one at `told_at`."""

    lane: Lane
    y: float
    x: float
    end: float
    marks: tuple[Mark, ...]
    gaps: tuple[Gap, ...]
    told: str
    told_at: float


class Chart:
    """What is drawn of a picture."""

    def __init__(self, seen: Picture) -> None:
        self.seen = seen
        self.bottom = TOP + LANE * len(seen.lanes)
        self.height = self.bottom + FOOT
        self.top, self.lane = TOP, LANE
        self.rows = [self._row(i, lane) for i, lane in enumerate(seen.lanes)]
        self.ticks = list(self._ticks())
        self.phases = list(self._phases())

    def _x(self, at: float) -> float:
        return 100.0 * min(1.0, max(0.0, at / self.seen.span)) if self.seen.span > 0 else 0.0

    def _place(self, at: float, text: str, before: Place | None = None) -> Place:
        x = self._x(at)
        raised = before is not None and not before.raised and x - before.x < APART
        return Place(x, text, late=x > 50, raised=raised)

    def _ticks(self) -> Iterator[Place]:
        step = next((step for step in _STEPS if self.seen.span / step <= TICKS), _STEPS[-1])
        for i in range(int(self.seen.span / step) + 1):
            yield self._place(i * step, show(i * step))

    def _phases(self) -> Iterator[Place]:
        several = len({server for _, server, _ in self.seen.phases}) > 1
        before: Place | None = None
        for at, server, name in self.seen.phases[:TICKS]:  # more would overlap
            before = self._place(at, f"phase {name}" + (f" of {server}" if several else ""), before)
            yield before

    def _row(self, i: int, lane: Lane) -> Row:
        told = [point.at for point in lane.points if point.kind == "421"]
        return Row(
            lane,
            _middle(i),
            self._x(lane.start),
            self._x(lane.end),
            tuple(self._marks(lane)),
            tuple(self._gaps(i, lane)),
            told="" if not told else "421" if len(told) == 1 else f"421 ×{len(told)}",
            told_at=self._x(told[-1]) if told else 0.0,
        )

    def _marks(self, lane: Lane) -> list[Mark]:
        drawn = {(point.kind, round(self._x(point.at) / CLOSE)): point for point in lane.points}
        return [Mark(self._x(p.at), p) for p in sorted(drawn.values(), key=lambda p: _ORDER.index(p.kind))]

    def _gaps(self, i: int, lane: Lane) -> Iterator[Gap]:
        for wait in lane.waits:
            x, end = self._x(wait.start), self._x(wait.end)
            room: Literal["", "some", "much"] = "much" if end - x >= WIDE else "some" if end - x >= NARROW else ""
            yield Gap(x, end, _middle(i if wait.to is None else wait.to), show(wait.end - wait.start), room)


def _middle(lane: int) -> float:
    return TOP + LANE * (lane + 0.5)
