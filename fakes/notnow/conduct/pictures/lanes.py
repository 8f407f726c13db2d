"""A run drawn to scale: a lane for each connection, with its refusals, its deliveries and its client's waits.

This module computes the lanes. `strip` draws one with characters; `notnow.conduct.pictures.chart` places all for SVG.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from notnow.conduct.pictures.timeline import outcome
from notnow.conduct.reading.comebacks import comebacks
from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange, Message, Request, Transfer

Kind = Literal["421", "refused", "done"]
LONGEST = 200  # characters of the outcome of a lane


@dataclass(frozen=True, slots=True)
class Point:
    """A mark on a lane: a 421, another refusal, or a delivery. `index` is that of its exchange."""

    at: float
    kind: Kind
    text: str
    index: int


@dataclass(frozen=True, slots=True)
class Wait:
    """From a refusal to the same client's next attempt at that server, on the lane `to` (None: not shown)."""

    start: float
    end: float
    to: int | None


@dataclass(frozen=True, slots=True)
class Lane:
    """A connection. Times are scenario seconds since the first connection; `live`: it is still open.

    `index` is the connection's, in the order of everything that happened; `number` is its number on its server.
    """

    index: int
    server: str
    number: int
    who: str
    start: float
    end: float
    live: bool
    points: tuple[Point, ...]
    waits: tuple[Wait, ...]
    outcome: str
    marked: bool

    @property
    def words(self) -> str:
        """Its outcome without the letter that marks it in plain text."""
        return self.outcome.partition(" ")[2]

    @property
    def tone(self) -> Kind | None:
        """The kind of its last mark, which its colour shows; None without one."""
        return self.points[-1].kind if self.points else None


@dataclass(frozen=True, slots=True)
class Picture:
    """All lanes, and the scenario seconds that they span.

    `left_out` connections in the middle are not shown. `phases` are the changes of phase: time, server, name.
    The journals were full and dropped `dropped` exchanges. `zero` is the first connection's time on the clock.
    """

    lanes: tuple[Lane, ...]
    span: float
    left_out: int
    phases: tuple[tuple[float, str, str], ...]
    dropped: int
    zero: float = 0.0


def picture(run: Run, marked: Collection[Exchange | Connection] = (), *, most: int = 40) -> Picture:
    """The picture of a run with at most `most` lanes. A lane is marked if its connection or an exchange of it is."""
    connections = sorted((c for j in run.journals for c in j.connections), key=lambda c: c.index)
    if not connections:
        return Picture((), 0.0, 0, (), 0)
    zero, now = connections[0].opened_at, run.journals[0].clock.now()
    shown = connections if len(connections) <= most else [*connections[: most // 2], *connections[-(most // 2) :]]
    waits = _waits(run, zero, {connection: i for i, connection in enumerate(shown)})
    marks = {id(m) for m in marked}
    lanes = tuple(_lane(c, zero, now, waits.get(c, ()), marks, named=len(run.journals) > 1) for c in shown)
    ends = [lane.end for lane in lanes] + [wait.end for lane in lanes for wait in lane.waits]
    phases = ((m.at - zero, m.server, m.text) for j in run.journals for m in j.marks if m.kind == "phase")
    span = max(ends)
    return Picture(
        lanes,
        span,
        len(connections) - len(shown),
        tuple(sorted(phase for phase in phases if 0 <= phase[0] <= span)),
        sum(journal.dropped for journal in run.journals),
        zero,
    )


def _waits(run: Run, zero: float, lanes: dict[Connection, int]) -> dict[Connection, list[Wait]]:
    found: dict[Connection, list[Wait]] = {}
    for one in (one for chain in comebacks(run).chains for one in chain):
        refused = one.before.connection
        if refused in lanes:
            end = one.attempt.started_at - zero
            wait = Wait(end - one.delay, end, lanes.get(one.attempt.connection))
            if wait not in found.setdefault(refused, []):  # one connection may be for several items
                found[refused].append(wait)
    return found


def _lane(
    connection: Connection, zero: float, now: float, waits: Sequence[Wait], marks: Collection[int], *, named: bool
) -> Lane:
    closed, said = connection.closed_at, outcome(connection)
    return Lane(
        index=connection.index,
        server=connection.server,
        number=connection.number,
        who=f"{connection.server} #{connection.number}" if named else f"#{connection.number}",
        start=connection.opened_at - zero,
        end=(now if closed is None else closed) - zero,
        live=closed is None,
        points=tuple(point for x in connection.exchanges if (point := _point(x, zero))),
        waits=tuple(waits),
        outcome=said if len(said) <= LONGEST else f"{said[:LONGEST]} …",
        marked=id(connection) in marks or any(id(x) in marks for x in connection.exchanges),
    )


def _point(exchange: Exchange, zero: float) -> Point | None:
    at = (exchange.at if exchange.answered_at is None else exchange.answered_at) - zero
    if exchange.refused:
        kind: Kind = "421" if 421 in exchange.codes else "refused"
        return Point(at, kind, f"{exchange.moment}: {exchange.told}", exchange.index)
    name = through(exchange)
    return Point(at, "done", name, exchange.index) if name else None


def through(exchange: Exchange) -> str:
    """The name of what an exchange delivered; empty if nothing."""
    match exchange.facts:
        case Request(whole=True):
            return f"{exchange.request}: answered"
        case Transfer(whole=True, path=path, direction=direction):
            return f"{path}: {direction}, whole"
        case Message(message_id=name, stored=True):
            return f"message {name} stored" if name else "message stored"
    return ""


_SIGNS: dict[Kind, str] = {"done": "+", "refused": "!", "421": "x"}  # drawn in this order, later ones over earlier ones


def strip(lane: Lane, span: float, width: int) -> str:
    """A lane as `width` characters, see LEGEND."""
    cells = [" "] * width

    def place(at: float) -> int:
        return min(width - 1, max(0, int(at / span * (width - 1) + 0.5))) if span else 0

    for wait in lane.waits:
        for i in range(place(wait.start), place(wait.end)):
            cells[i] = "."
    for i in range(place(lane.start), place(lane.end) + 1):
        cells[i] = "-"
    for kind, sign in _SIGNS.items():
        for point in lane.points:
            if point.kind == kind:
                cells[place(point.at)] = sign
    return "".join(cells)


LEGEND = "x 421, ! refused otherwise, + came through, - connected, . waits"
