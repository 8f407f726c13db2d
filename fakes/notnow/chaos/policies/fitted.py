"""The back-off of a client that `notnow try --json` has seen, as a wait."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from notnow.chaos.policies.language import Parts, bad
from notnow.chaos.policies.waits import Added, After, Constant, Downward, Exponential, Linear, Listed, Spread, Wait
from notnow.conduct.reading.waits.backoff import BackOff, analyse

ALLOWED = "a report of notnow try --json in which the client came back 3 times or more for one item"


def parts_of_report(path: str) -> Parts:
    """The wait that fits the client of a report, and whether it heeds Retry-After. Raises ScenarioError."""
    seen = _seen(path)
    told = [one for one in seen.values() if isinstance(one, dict) and one.get("gaps")]
    if not told:
        raise bad(path, "the client of this report never came back", ALLOWED)
    longest = max(told, key=lambda one: len(one["gaps"]))
    waits = analyse([float(gap) for gap in longest["gaps"]])
    if waits.family is None:
        raise bad(path, f"its back-off cannot be told: {waits.in_words()}", ALLOWED)
    parts: Parts = [("wait", fitted(waits))]
    return [*parts, ("heeds", ())] if longest.get("retry_after") else parts


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


def _seen(path: str) -> dict[str, Any]:
    try:
        report = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise bad(path, f"it cannot be read: {error.strerror or error}", ALLOWED) from None
    except ValueError:
        raise bad(path, "it is not one JSON object", ALLOWED) from None
    seen = report.get("backoff") if isinstance(report, dict) else None
    if not isinstance(seen, dict):
        raise bad(path, "it has no back-off", ALLOWED)
    return seen
