"""The figures of a storm: what a policy did to the server, and how long it took until all was well."""

from __future__ import annotations

from bisect import bisect_left
from datetime import timedelta
from itertools import chain
from math import ceil, inf
from typing import Any

from msgspec import Struct, structs

from notnow.chaos.crowd.simulation import Simulation
from notnow.conduct import arguments
from notnow.units import plural, show

LAST = 4  # the last quarter of the time since recovery shows whether the server is still down
DOWN = 0.9  # share of the new items that a server which is up puts through
MOSTLY = 95  # per cent of the items that waited at the recovery
UP = 0.5  # share of its capacity that a busy server puts through, if it is up


class Course(Struct, frozen=True):
    """Counts over time, in bins of `width` seconds from 0 on: attempts, new items, and items that came through."""

    width: float
    attempts: tuple[int, ...]
    new: tuple[int, ...]
    through: tuple[int, ...]


class Storm(Struct, frozen=True, kw_only=True):
    """What became of the items of a crowd with one policy. Times are in seconds of scenario time, rates a second.

    Each of the `items` is `through`, `gave_up` or `waiting` when the simulation `ended`. `gave_up` counts those that
    the server refused for good, too. `attempts` reached the server, `amplification` is how many an item took. `peak`
    is the most attempts within a second, and `peak_after` since the last phase of the scenario began. `refused`
    attempts were refused by the scenario, `busy` ones by the bound of the queue; `abandoned` ones had no answer in
    time; `held` is how often a guard kept a client from asking.

    `recovered` is when the scenario refused nothing any more, None if it still did at the end. `drained` is how long
    after that the last item that had come before was settled; None if one was still waiting, or none came at all.
    `mostly_drained` is the same for 95 % of the items that waited at the recovery: one item may be unlucky for long.
    `goodput` is the items through a second since the recovery, until the last of them, or until the end if items
    still wait. `took` is how long an item that came through took on average, and `longest` at most.

    `stays_down`: the cause has gone and the server is still of no use: in the last quarter of the time since the
    recovery fewer than 90 % of the new items came through, or, where none come, attempts exceed the capacity and less
    than half of it goes into items that come through. `cut`: there were too many attempts to simulate, and `ended` is
    when that was.
    """

    policy: str
    capacity: float
    clients: int
    timeout: float
    seed: int
    items: int
    through: int
    gave_up: int
    waiting: int
    attempts: int
    amplification: float
    peak: int
    peak_after: int
    refused: int
    busy: int
    abandoned: int
    held: int
    recovered: float | None
    drained: float | None
    mostly_drained: float | None
    goodput: float
    took: float
    longest: float
    stays_down: bool
    ended: float
    cut: bool
    series: Course

    def drained_within(self, time: float | str | timedelta) -> bool:
        """True if the last item that had come before the recovery was settled within this time of it. Raises ValueError."""
        return self.drained is not None and self.drained <= arguments.time("time", time)

    def as_dict(self) -> dict[str, Any]:
        """The figures for JSON."""
        found = {n: round(v, 6) if isinstance(v, float) else v for n, v in structs.asdict(self).items()}
        return found | {"series": structs.asdict(self.series)}

    def __str__(self) -> str:
        """The figures in one line."""
        said = [
            f"{self.policy}: {self.through} of {plural(self.items, 'item')} through",
            f"{self.gave_up} given up, {self.waiting} waiting",
            f"{self.amplification:.3g} attempts an item",
            f"at most {self.peak} in a second",
            "not drained" if self.drained is None else f"drained {show(self.drained)} after recovery",
        ]
        return ", ".join(said) + ("; the server stays down" if self.stays_down else "")


def figures(of: Simulation) -> Storm:
    """The figures of a simulation that has run."""
    tally, terms = of.tally, of.terms
    recovered = _recovered(of)
    return Storm(
        policy=of.policy.name,
        capacity=terms.capacity.rate,
        clients=terms.clients,
        timeout=terms.timeout,
        seed=terms.seed,
        items=tally.items,
        through=tally.done,
        gave_up=tally.gave_up,
        waiting=tally.waiting,
        attempts=tally.attempts,
        amplification=tally.attempts / tally.items if tally.items else 0.0,
        peak=tally.peak.most,
        peak_after=tally.peak_after.most,
        refused=tally.refused,
        busy=tally.busy,
        abandoned=tally.abandoned,
        held=tally.held,
        recovered=recovered,
        drained=_drained(of, recovered),
        mostly_drained=_drained(of, recovered, MOSTLY),
        goodput=_goodput(of, recovered),
        took=tally.took / tally.done if tally.done else 0.0,
        longest=tally.longest,
        stays_down=_stays_down(of, recovered),
        ended=of.ended,
        cut=of.cut,
        series=Course(
            tally.asked.width, tuple(tally.asked.counts), tuple(tally.new.counts), tuple(tally.through.counts)
        ),
    )


def _recovered(of: Simulation) -> float | None:
    """The start of the phase after the last refusal of the scenario, or else that refusal; 0 if there was none."""
    tally = of.tally
    if not tally.refused:
        return of.phases[-1] if of.phases else 0.0
    if of.phases and of.phases[-1] >= tally.last_refused:
        return next(at for at in of.phases if at >= tally.last_refused)
    return None if of.engine.progress.phase.lasts is not None or tally.waiting else tally.last_refused


def _drained(of: Simulation, recovered: float | None, percent: int = 100) -> float | None:
    """How long after the recovery so many per cent of the items that waited then were settled; None if that has not happened.

    Where no phase of the scenario is the recovery, the items that came later count as well.
    """
    if recovered is None or not of.tally.items:
        return None
    tally = of.tally
    before = recovered if recovered in of.phases else inf
    ended = sorted(chain(*(one.since(0.0, born_before=before) for one in (tally.ends_through, tally.ends_given_up))))
    earlier = bisect_left(ended, recovered)
    waited = bisect_left(tally.births, before) - earlier
    needed = ceil(percent * waited / 100)
    if not needed:
        return 0.0
    return ended[earlier + needed - 1] - recovered if earlier + needed <= len(ended) else None


def _goodput(of: Simulation, recovered: float | None) -> float:
    tally = of.tally
    if recovered is None or tally.last_through <= recovered:
        return 0.0
    until = of.ended if tally.waiting else tally.last_through
    return len(tally.ends_through.since(recovered)) / (until - recovered)


def _stays_down(of: Simulation, recovered: float | None) -> bool:
    tally = of.tally
    if recovered is None or not tally.waiting:
        return False
    start = of.ended - (of.ended - recovered) / LAST
    new, through, asked = (one.between(start, of.ended) for one in (tally.new, tally.through, tally.asked))
    if new:
        return through < DOWN * new
    most = of.terms.capacity.rate * (of.ended - start)
    return asked > most > 0 and through < UP * most
