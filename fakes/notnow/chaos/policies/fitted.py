"""The back-off of a client that notnow has seen, in a report or a journal, as a wait."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from notnow.chaos.policies.language import Parts, bad
from notnow.chaos.policies.waits import Added, After, Constant, Downward, Exponential, Linear, Listed, Spread, Wait
from notnow.chaos.replay.lines import Lines, opened
from notnow.chaos.replay.recording import ReplayError
from notnow.clock import ManualClock
from notnow.conduct.reading.comebacks import comebacks
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.waits.backoff import BackOff, analyse, of_comebacks
from notnow.journal import exported
from notnow.units import LONGEST

ALLOWED = (
    "a report of notnow try --json, or a journal of notnow serve --json, in which the client came back 3 times or more "
    "for one item"
)


Gap = Annotated[float, Meta(ge=0, le=LONGEST)]


class Seen(Struct, frozen=True):
    """The waits of a client between its tries of one item, in seconds; `retry_after`: it waited as Retry-After said."""

    gaps: tuple[Gap, ...]
    retry_after: bool | None = None


def parts_of_recording(path: str) -> tuple[str, Parts]:
    """The wait that fits the client of a report or a journal, in words too, and whether it heeds Retry-After.

    Raises ScenarioError.
    """
    told = [one for one in _seen(path) if one.gaps]
    if not told:
        raise bad(path, "it holds no retry: no client came back for what it was refused", ALLOWED)
    longest = max(told, key=lambda one: len(one.gaps))
    waits = analyse(longest.gaps)
    if waits.family is None:
        raise bad(path, f"its back-off cannot be told: {waits.in_words()}", ALLOWED)
    heeds: Parts = [("heeds", ())] if longest.retry_after else []
    return waits.in_words(), [("wait", fitted(waits)), *heeds]


def fitted(waits: BackOff) -> Wait:
    """The wait of a back-off that was fitted. One that is irregular becomes the waits that were seen."""
    if waits.family == "immediate":
        return Constant(0.0)
    if waits.family == "irregular" or waits.base is None:
        return Listed(waits.gaps)
    wait = _jittered(waits, waits.base)
    return After(waits.lead, waits.gaps[0], wait) if waits.lead else wait


def _jittered(waits: BackOff, base: float) -> Wait:
    cap, jitter = waits.cap or float("inf"), waits.jitter
    kind, size = ("none", 0.0) if jitter is None else (jitter.kind, jitter.size)
    if kind in ("full", "equal", "decorrelated") and waits.family == "exponential":
        return Exponential(base, waits.factor or 2.0, cap, kind)
    curve: Wait = Constant(base)
    if waits.family == "exponential":
        curve = Exponential(base, waits.factor or 2.0, cap)
    elif waits.family == "linear":
        curve = Linear(base, waits.step or 0.0, cap)
    match kind:
        case "proportional":
            return Spread(curve, size)
        case "added":
            return Added(curve, size, cap)
        case "full" | "equal":  # of a constant or linear curve, which draws from a part of it
            return Downward(curve, 1.0 if kind == "full" else 0.5)
    return curve


def _seen(path: str) -> list[Seen]:
    """What a client did at each server, for the item that it tried most often."""
    try:
        with opened(path) as file:
            lines = iter(Lines(file, path))
            first = next((line for line in lines if line.strip()), "")
            whole = chain([first], lines)
            return _of_journal(path, whole) if _is_entry(first) else _of_report(path, whole)
    except ReplayError as error:
        said = str(error).removeprefix(path).partition("; allowed:")[0]
        raise bad(path, f"it{said}", ALLOWED) from None


def _is_entry(line: str) -> bool:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "event" in found


def _of_journal(path: str, lines: Iterable[str]) -> list[Seen]:
    try:
        found = exported.journals(lines, ManualClock())
    except ValueError as error:
        raise bad(path, str(error), ALLOWED) from None
    rows = [comebacks(Run([journal])).longest for journal in found]
    return [Seen(tuple(one.delay for one in row), of_comebacks(row).heeds) for row in rows if row]


def _of_report(path: str, lines: Iterable[str]) -> list[Seen]:
    try:
        report = json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        raise bad(path, "it is neither one JSON object nor the lines of a journal", ALLOWED) from None
    seen = report.get("backoff") if isinstance(report, dict) else None
    if not isinstance(seen, dict):
        raise bad(path, "it has no back-off", ALLOWED)
    try:
        return [msgspec.convert(one, Seen) for one in seen.values()]
    except msgspec.ValidationError as error:
        raise bad(path, f"its back-off is none of notnow's: {error}", ALLOWED) from None
