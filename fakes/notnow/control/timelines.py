"""What clients did, drawn to scale: the timeline of the page, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, Field

from notnow.conduct.pictures.lanes import Lane, Picture, picture
from notnow.conduct.pictures.verdict import ending
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.run import Run
from notnow.control.calls import call
from notnow.control.fleet import Fleet, Member
from notnow.control.models import Body, Short
from notnow.control.problems import RefusedError
from notnow.errors import unknown
from notnow.terminal import safe

MARKS = 200  # most marks of a lane, the first and the last
ITEMS, TRIES = 50, 100  # most items, and most tries of each
_ORDER = ("duplicated", "missing", "in doubt", "refused", "delivered")  # what to look at comes first


class TimelineQuery(Body):
    """Which group of servers, and how much of it."""

    group: Short | None = Field(None, description="Whose timeline; without one, that of the first server's group.")
    most: int = Field(200, ge=2, le=400, description="The most lanes: of more connections, the first and the last.")


class TimelineMark(BaseModel):
    """A 421, another refusal, or a delivery."""

    index: int = Field(description="The index of its exchange in the journal.")
    at: float
    kind: Literal["421", "refused", "done"]
    text: str


class TimelineWait(BaseModel):
    """From a refusal to that client's next attempt."""

    start: float
    end: float
    to: int | None = Field(description="The index of the lane of that attempt; null if it is not shown.")


class TimelineLane(BaseModel):
    """A connection."""

    index: int
    server: str
    connection: int
    start: float
    end: float
    live: bool
    outcome: str
    marks: list[TimelineMark]
    waits: list[TimelineWait]


class TimelinePhase(BaseModel):
    """A phase that began."""

    at: float
    server: str
    name: str


class TimelineTry(BaseModel):
    """A try of an item: `index` is the exchange that shows how it ended, `lane` its connection."""

    index: int
    lane: int
    at: float
    ended: str


class TimelineItem(BaseModel):
    """A message, file or request, and its tries."""

    name: str
    state: str
    tries: list[TimelineTry]


class Timeline(BaseModel):
    """The connections of a group of servers in the order in which they came. Times are scenario seconds since the first."""

    group: str | None
    zero: float = Field(description="The time of the first connection on the clock.")
    span: float
    lanes: list[TimelineLane]
    left_out: int = Field(
        description="How many connections between the first and the last ones are not among the lanes."
    )
    dropped: int = Field(description="How many exchanges full journals have dropped.")
    phases: list[TimelinePhase]
    items: list[TimelineItem]
    items_left_out: int


@call("GET", "/v1/timeline", errors=(404,), long=True)
def draw_timeline(fleet: Fleet, query: TimelineQuery) -> Timeline:
    """What clients did, drawn to scale: a lane for each connection, its 421s and deliveries, and the waits between them.

    Items are what clients were to get through, each with its tries, those that went wrong first.
    """
    members = group(fleet, query.group)
    if not members:
        return Timeline(
            group=None, zero=0, span=0, lanes=[], left_out=0, dropped=0, phases=[], items=[], items_left_out=0
        )
    run = Run([member.fake.journal for member in members], [member.fake.scenario for member in members])
    seen = picture(run, most=query.most)
    items = sorted(run.ledger.items, key=_urgency)
    return Timeline(
        group=members[0].group,
        zero=seen.zero,
        span=seen.span,
        lanes=list(_lanes(seen)),
        left_out=seen.left_out,
        dropped=seen.dropped,
        phases=[TimelinePhase(at=at, server=server, name=name) for at, server, name in seen.phases],
        items=[_item(item, seen.zero) for item in items[:ITEMS]],
        items_left_out=max(0, len(items) - ITEMS),
    )


def group(fleet: Fleet, name: str | None) -> Sequence[Member]:
    """The servers of a group, by default the first; none if there is none. Raises RefusedError for an unknown name."""
    groups: Mapping[str, Sequence[Member]] = fleet.groups()
    if name is None:
        return next(iter(groups.values()), ())
    if name not in groups:
        raise RefusedError(404, str(unknown("group", name, list(groups))))
    return groups[name]


def _lanes(seen: Picture) -> Iterable[TimelineLane]:
    for lane in seen.lanes:
        yield TimelineLane(
            index=lane.index,
            server=lane.server,
            connection=lane.number,
            start=lane.start,
            end=lane.end,
            live=lane.live,
            outcome=lane.words,
            marks=list(_marks(lane)),
            waits=[
                TimelineWait(start=w.start, end=w.end, to=None if w.to is None else seen.lanes[w.to].index)
                for w in lane.waits
            ],
        )


def _marks(lane: Lane) -> Iterable[TimelineMark]:
    points = lane.points
    if len(points) > MARKS:
        points = (*points[: MARKS // 2], *points[-MARKS // 2 :])
    for point in points:
        yield TimelineMark(index=point.index, at=max(0.0, point.at), kind=point.kind, text=safe(point.text))


def _urgency(item: Item) -> int:
    return _ORDER.index(item.state)


def _item(item: Item, zero: float) -> TimelineItem:
    return TimelineItem(name=safe(item.name), state=item.state, tries=[_try(one, zero) for one in item.tries[:TRIES]])


def _try(one: Try, zero: float) -> TimelineTry:
    return TimelineTry(
        index=one.by.index, lane=one.connection.index, at=max(0.0, one.started_at - zero), ended=safe(ending(one))
    )
