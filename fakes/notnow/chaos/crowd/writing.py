"""Storms for other programs: JSON and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from notnow._version import __version__
from notnow.chaos.crowd.figures import Storm
from notnow.chaos.crowd.picture import rates, span
from notnow.chaos.crowd.showing import ROWS, letters, remarks, warned
from notnow.chaos.crowd.terms import Terms
from notnow.units import plural, show, show_rate

COLUMNS, WIDTH, HEIGHT = 240, 720.0, 120.0  # of a chart: columns of the load, and its size in pixels
MARGIN, ROW = 12.0, 60.0  # of the SVG: its margin, and the space for the words about a chart


def title(terms: Terms) -> str:
    """The terms in a line."""
    said = [plural(terms.clients, "client"), f"capacity {show_rate(terms.capacity.rate)}"]
    if terms.capacity.queue is not None:
        said.append(f"queue {terms.capacity.queue}")
    if terms.arrivals is not None:
        said.append(f"arrivals {show_rate(terms.arrivals)}")
    return f"{terms.scenario.name}: {', '.join([*said, f'time-out {show(terms.timeout)}', f'seed {terms.seed}'])}"


def as_dict(storms: Sequence[Storm], terms: Terms) -> dict[str, Any]:
    """The terms, and the figures of each policy with its series."""
    capacity = terms.capacity
    return {
        "notnow": __version__,
        "scenario": terms.scenario.name,
        "knobs": dict(terms.scenario.knobs),
        "clients": terms.clients,
        "capacity": capacity.rate,
        "refusal_cost": capacity.refusal_cost,
        "queue": capacity.queue,
        "arrivals": terms.arrivals,
        "spread": terms.spread,
        "timeout": terms.timeout,
        "horizon": terms.horizon,
        "seed": terms.seed,
        "storms": [one.as_dict() for one in storms],
    }


class Chart(NamedTuple):
    """A picture in SVG: the paths of attempts and items through, and the places of the capacity and the recovery."""

    attempts: str
    through: str
    capacity: float
    recovery: float | None
    top: str


def html(storms: Sequence[Storm], said: str) -> str:
    """The table and the pictures as one self-contained HTML file."""
    from notnow.look.rendering import render

    end = span(storms)
    return render(
        "storm.html",
        version=__version__,
        title=said,
        storms=list(
            zip(letters(len(storms)), storms, [chart(one, end) for one in storms], map(remarks, storms), strict=True)
        ),
        rows=[(label, [(of(one), warned(label, one)) for one in storms]) for label, of in ROWS.items()],
        width=WIDTH,
        height=HEIGHT,
        end=show(end),
    )


def svg(storms: Sequence[Storm], said: str) -> str:
    """The pictures as one SVG, a row for each policy."""
    from notnow.look.rendering import render

    end = span(storms)
    return render(
        "storm.svg",
        title=said,
        storms=list(zip(letters(len(storms)), storms, [chart(one, end) for one in storms], strict=True)),
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
        row=HEIGHT + ROW,
        end=show(end),
    )


def chart(one: Storm, end: float) -> Chart:
    """The chart of a storm up to `end`."""
    columns = max(1, min(COLUMNS, int(end / one.series.width)))
    asked, through = (
        rates(counts, one.series.width, end, columns) for counts in (one.series.attempts, one.series.through)
    )
    top = max(one.capacity * 1.25, *asked, *through)
    recovery = None if one.recovered is None or one.recovered > end else WIDTH * one.recovered / end
    return Chart(_path(asked, top), _path(through, top), _y(one.capacity, top), recovery, f"{top:.0f}/s")


def _path(values: Sequence[float], top: float) -> str:
    """Steps from left to right, closed along the bottom."""
    step = WIDTH / len(values)
    places = (f"V{_y(value, top):g}H{round((n + 1) * step, 2):g}" for n, value in enumerate(values))
    return f"M0 {HEIGHT:g}{''.join(places)}V{HEIGHT:g}Z"


def _y(value: float, top: float) -> float:
    return round(HEIGHT * (1 - value / top), 2)
