"""The lanes as a chart: what is drawn, and where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notnow.conduct.pictures.chart import Chart
from notnow.conduct.pictures.lanes import Lane, Picture, Point, Wait
from notnow.units import parse_duration


def lane(
    who: str, start: float, end: float, *points: Point, waits: tuple[Wait, ...] = (), marked: bool = False
) -> Lane:
    return Lane(0, "smtp", 1, who, start, end, False, points, waits, f"{who} was told", marked)


BUSY_TWICE = (Point(-1, "421", "connect: busy", 1), Point(1, "421", "noop: busy", 2))
BOTH = (Point(62, "refused", "no", 3), Point(62, "done", "kept", 4))
LANES = (
    lane("#1", 0, 1, *BUSY_TWICE, waits=(Wait(1, 60, 1),), marked=True),
    lane("#2", 60, 65, *BOTH, waits=(Wait(65, 67, 2), Wait(65, 73, None))),
    lane("#3", 67, 80, Point(70, "421", "bye", 5)),
)
SEEN = Picture(LANES, 80, 0, ((32, "a", "up"), (66, "b", "down")), 0)
DRAWN = """\
height 136
tick 0 0s
tick 18.75 15s
tick 37.5 30s
tick 56.25 45s
tick 75 1m
tick 93.75 1m 15s
phase 40 up of a
phase 82.5 down of b, late
#1 at 60: 0 to 1.25, of 421
  421 0 0s: connect: busy
  421 1.25 1s: noop: busy
  waits 1.25 to 75, then 88: 59s, much room
  told 421 ×2 at 1.25
#2 at 88: 75 to 81.25, of done
  done 77.5 1m 2s: kept
  refused 77.5 1m 2s: no
  waits 81.25 to 83.75, then 116: 2s, no room
  waits 81.25 to 91.25, then 88: 8s, some room
#3 at 116: 83.75 to 100, of 421
  421 87.5 1m 10s: bye
  told 421 at 87.5
"""


def drawn(chart: Chart) -> Iterator[str]:
    yield f"height {chart.height}"
    for kind, places in (("tick", chart.ticks), ("phase", chart.phases)):
        for place in places:
            late = ", late" if place.late and kind == "phase" else ""
            yield f"{kind} {place.x:g} {place.text.removeprefix('phase ')}{late}"
    for row in chart.rows:
        yield f"{row.lane.who} at {row.y:g}: {row.x:g} to {row.end:g}, of {row.lane.tone}"
        yield from (f"  {mark.point.kind} {mark.x:g} {mark.label}" for mark in row.marks)
        for gap in row.gaps:
            yield f"  waits {gap.x:g} to {gap.end:g}, then {gap.to:g}: {gap.label}, {gap.room or 'no'} room"
        if row.told:
            yield f"  told {row.told} at {row.told_at:g}"


def test_what_is_drawn_and_where() -> None:
    assert list(drawn(Chart(SEEN))) == DRAWN.splitlines()


def test_a_run_that_took_no_time() -> None:
    chart = Chart(Picture(LANES[2:], 0, 0, ((0, "a", "up"),), 0))
    assert list(drawn(chart))[:4] == ["height 80", "tick 0 0s", "phase 0 up", "#3 at 60: 0 to 0, of 421"]


@pytest.mark.parametrize(
    ("span", "ticks"),
    [
        (0.006, "0s, 1ms, 2ms, 3ms, 4ms, 5ms, 6ms"),
        (6, "0s, 1s, 2s, 3s, 4s, 5s, 6s"),
        (6.5, "0s, 2s, 4s, 6s"),
        (1000, "0s, 5m, 10m, 15m"),
        (86400, "0s, 6h, 12h, 18h, 1d"),
        (700 * 86400, "0s, 100d, 200d, 300d, 400d, 500d, 600d, 700d"),
    ],
)
def test_the_ticks_of_the_axis(span: float, ticks: str) -> None:
    chart = Chart(Picture((lane("#1", 0, span),), span, 0, (), 0))
    assert ", ".join(tick.text for tick in chart.ticks) == ticks


STEPS = (
    "1ms 2ms 5ms 10ms 20ms 50ms 100ms 200ms 500ms 1s 2s 5s 10s 15s 30s "
    "1m 2m 5m 10m 15m 30m 1h 2h 3h 6h 12h 1d 2d 5d 10d 30d 100d"
)


def test_a_tick_is_a_round_time() -> None:
    spans = [6 * (parse_duration(step) or 0.0) * (1 - 1e-9) for step in STEPS.split()]
    charts = [Chart(Picture((lane("#1", 0, span),), span, 0, (), 0)) for span in spans]
    assert " ".join(chart.ticks[1].text for chart in charts) == STEPS


def test_no_more_phases_than_there_is_room_for() -> None:
    phases = tuple((float(at), "a", f"{at}") for at in range(9))
    assert [phase.text for phase in Chart(Picture(LANES, 80, 0, phases, 0)).phases] == [f"phase {i}" for i in range(6)]


def test_the_words_of_phases_that_are_close_stand_one_above_the_other() -> None:
    phases = ((10.0, "a", "up"), (12.0, "b", "up"), (14.0, "a", "down"), (60.0, "b", "down"))
    assert [p.raised for p in Chart(Picture(LANES, 80, 0, phases, 0)).phases] == [False, True, False, False]


def test_of_marks_of_one_kind_at_one_place_the_last_is_drawn() -> None:
    points = [Point(at, "421", f"{at}", i) for i, at in enumerate((0, 0.01, 0.02, 0.5, 40))]
    chart = Chart(Picture((lane("#1", 0, 80, *points),), 80, 0, (), 0))
    assert [mark.point.index for mark in chart.rows[0].marks] == [2, 3, 4]
