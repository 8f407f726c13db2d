"""A baseline: the known faults of a client, so that only new ones fail it.

The file is JSON: for each run (the scenarios that were played), the result and the ids of the broken rules.

    {"notnow baseline": 1, "runs": {"smtp/overload": {"result": "lost", "broken": ["smtp.tries-again"]}}}
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from msgspec import Struct

from notnow.conduct.reading.result import WORDS
from notnow.errors import NotNowError, unknown

KIND = "notnow baseline"
VERSION = 1


class BaselineError(NotNowError, ValueError):
    """A baseline cannot be read."""


class Known(Struct, frozen=True):
    """What is known of one run: its result, and the ids of the rules that it breaks."""

    result: str | None = None
    broken: frozenset[str] = frozenset()


NOTHING_KNOWN = Known()


def read(path: Path, run: str, rules: Collection[str]) -> Known:
    """What the baseline knows of a run. Raises BaselineError if the file is not a baseline, or names an unknown rule.

    `rules` are the ids that it may name; ids of expectations are free.
    """
    runs = _runs(path)
    entry = runs.get(run)
    if entry is None:
        return NOTHING_KNOWN
    broken, result = entry.get("broken", []), entry.get("result")
    if not isinstance(broken, list) or not all(isinstance(one, str) for one in broken):
        raise BaselineError(f"{path}: runs.{run}.broken is {broken!r}; allowed: a list of rule ids")
    for one in broken:
        if one not in rules and not one.startswith("expect."):
            raise BaselineError(f"{path}: runs.{run}.broken: {unknown('rule of conduct', one, list(rules))}")
    if result is not None and result not in WORDS:
        raise BaselineError(f"{path}: runs.{run}.result: {unknown('result', str(result), list(WORDS))}")
    return Known(result, frozenset(broken))


def write(path: Path, run: str, known: Known) -> None:
    """Note what is known of a run; what the file knows of other runs stays."""
    runs = _runs(path) if path.exists() else {}
    runs[run] = {"result": known.result, "broken": sorted(known.broken)}
    text = json.dumps({KIND: VERSION, "runs": dict(sorted(runs.items()))}, indent=2)
    path.write_text(text + "\n", "utf-8")


def _runs(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise BaselineError(
            f"{path} cannot be read: {error.strerror or error}; --write-baseline makes a baseline"
        ) from None
    except ValueError as error:
        raise BaselineError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict) or found.get(KIND) != VERSION:
        raise BaselineError(f"{path} is not a baseline: it lacks {KIND!r}: {VERSION}; --write-baseline makes one")
    runs = found.get("runs")
    if not isinstance(runs, dict) or not all(isinstance(entry, dict) for entry in runs.values()):
        raise BaselineError(f"{path}: runs is {runs!r}; allowed: a table of runs")
    return runs
