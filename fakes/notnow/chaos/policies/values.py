"""The values in the text of a policy: how each kind is written, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from notnow.chaos.policies.waits import JITTERS
from notnow.units import DURATION_HELP, LONGEST, RATE_HELP, parse_duration, parse_percent, parse_rate

REQUIRED = object()


class Kind(NamedTuple):
    """A kind of value. `read` gives None for what is not allowed."""

    read: Callable[[str], Any]
    allowed: str


class Parameter(NamedTuple):
    """A parameter of a word: its name, the kind of its value, and what it is where it is left out."""

    name: str
    kind: Kind
    default: Any = REQUIRED


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _duration(text: str) -> float | None:
    value = parse_duration(text)
    if value is None:
        value = _number(text)  # type: ignore[assignment]
    return None if value is None or value > LONGEST else float(value)


def _positive(read: Callable[[str], float | None]) -> Callable[[str], float | None]:
    return lambda text: read(text) or None


def _share(text: str) -> float | None:
    value = parse_percent(text)
    return _number(text) if value is None else value


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10**9 else None


def _factor(text: str) -> float | None:
    value = _number(text)
    return value if value is not None and value >= 1 else None


_SECONDS = f"{DURATION_HELP}; or a number of seconds"
DURATION = Kind(_duration, _SECONDS)
SPAN = Kind(_positive(_duration), f"more than 0: {_SECONDS}")
COUNT = Kind(_count, "a whole number from 1 on")
FACTOR = Kind(_factor, "a number from 1 on")
POSITIVE = Kind(_positive(_number), "a number above 0")
SHARE = Kind(_share, "a share such as 10%, or a number such as 0.1")
RATE = Kind(parse_rate, RATE_HELP)
JITTER = Kind({name: name for name in JITTERS}.get, ", ".join(JITTERS))
