"""A journal cut where its scenario went on: each stretch is a phase of the scenario to be, with its exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from notnow.chaos.replay.entries import Line
from notnow.chaos.replay.played import Played, played
from notnow.chaos.replay.recording import Part
from notnow.units import parse_duration

KICKED = "kicked"  # the fault of a connection that was cut off by hand
CLOSE_ENOUGH = 0.001  # seconds between the times of two entries that are due at the same time


class Stretch(Struct):
    """A part of a run, from `begins` to `ends` in scenario seconds; the last one does not end.

    `since` is when the phase that it is a piece of began. `kicks`: it begins with the end of these connections, by hand.
    `swapped`: another scenario was played then.
    """

    name: str
    begins: float
    since: float
    scenario: Played | None = None
    ends: float | None = None
    swapped: bool = False
    kicks: list[Line] = field(default_factory=list)
    found: list[Line] = field(default_factory=list)

    @property
    def phase(self) -> Mapping[str, Any]:
        """Its phase in the scenario; empty if that is not known."""
        return (self.scenario.phase_named(self.name) if self.scenario is not None else None) or {}

    @property
    def ended_by(self) -> Line | None:
        """The exchange that ended it by its number; None if time or somebody did."""
        last = self.found[-1] if self.found else None
        return last if last is not None and self.part().until and last.moment in self.phase["until"] else None

    def part(self) -> Part:
        """The phase of the scenario to be, without its rules. It ends as that of the scenario, or when this one did."""
        length = None if self.ends is None else self.ends - self.begins
        nominal, whole = parse_duration(self.phase.get("lasts")), not (self.swapped or self.kicks)
        left = None if nominal is None else nominal - (self.begins - self.since)
        until = self.phase.get("until", {})
        early = length is not None and (left is None or length < left - CLOSE_ENOUGH)
        if until and whole and (early or length is None):
            return Part(self.name, left, until)
        return Part(self.name, length if early else left)


def cut(entries: Sequence[Line]) -> list[Stretch]:
    """The stretches of a run, in order. An exchange belongs to the phase whose name it has."""
    found, starts = _marked(entries)
    place = 0
    for line in entries:
        if line.event != "exchange":
            continue
        while place + 1 < len(found) and _is_past(found[place], found[place + 1], starts[place + 1], line):
            place += 1
        if line.fault == KICKED:
            place = _kick(found, starts, place, line)
            continue
        now = found[place]
        if not now.found and place == 0:  # scenario time begins with the first connection
            now.begins = now.since = line.at
        now.found.append(line)
        now.name = now.name or line.phase
    return found


def _marked(entries: Sequence[Line]) -> tuple[list[Stretch], list[int]]:
    """A stretch for each scenario that was played and each phase that began, without exchanges, and where each begins."""
    found: list[Stretch] = []
    starts: list[int] = []
    for line in entries:
        if line.event not in ("play", "phase") and found:
            continue
        scenario = found[-1].scenario if found else None
        if line.event == "play":
            scenario = played(line.toml, line.knobs, str(line.tls or "")) if line.toml else None
        if found:
            found[-1].ends = line.at
        swapped = line.event == "play" and bool(found)
        name = line.text if line.event == "phase" else _first(scenario)
        found.append(Stretch(name, line.at, line.at, scenario, swapped=swapped))
        starts.append(line.index)
    return found, starts


def _first(scenario: Played | None) -> str:
    phases = scenario.phases if scenario is not None else []
    return str(phases[0].get("name", "phase 1")) if phases else ""


def _is_past(now: Stretch, after: Stretch, start: int, x: Line) -> bool:
    """True if an exchange belongs to the next stretch. Its command may be what made the engine see that the phase was over."""
    return start < x.index or (not after.swapped and x.phase == after.name != now.name)


def _kick(found: list[Stretch], starts: list[int], place: int, x: Line) -> int:
    """Everybody is cut off: one more stretch begins, unless it has begun with another connection of the same kick."""
    now = found[place]
    if now.found or not now.kicks:
        begun = Stretch(now.name, x.at, now.since, now.scenario, now.ends)
        now.ends = x.at
        found.insert(place + 1, begun)
        starts.insert(place + 1, x.index)
        place, now = place + 1, begun
    now.kicks.append(x)
    return place
