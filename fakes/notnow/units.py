"""Durations, shares, sizes and rates as people write them: "30m", "20%", "3MB", "200/s"."""

from __future__ import annotations

import math
import re
from datetime import timedelta

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0  # in seconds
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = r"^[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d)$"
SIZE = r"^[0-9]+(?:\.[0-9]+)?(?:B|KB|MB|GB)$"
SIZE_HELP = 'a number and a unit (B, KB, MB, GB), such as "3MB"'
PERCENT = r"^[0-9]+(?:\.[0-9]+)?%$"
RATE = r"^[0-9]+(?:\.[0-9]+)?/[smhd]$"
RATE_HELP = 'a number above 0 per second, minute, hour or day, such as "200/s" or "90/m", and 1000000/s at most'
FASTEST = 1_000_000  # per second: beyond it, a float has no digits left for both a date and one unit of work
DURATION_HELP = 'a number and a unit (ms, s, m, h, d), such as "30s" or "10m", and 36500d at most'
LONGEST = 36_500 * 86_400  # seconds: a century, beyond which dates for clients overflow

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_BYTES = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(B|KB|MB|GB)")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)%")
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)/([smhd])")


class Span(float):
    """A duration in seconds, distinct from a plain number."""

    __slots__ = ()


def parse_duration(value: object) -> Span | None:
    """`"10m"` as 600 seconds; None if the value is not a duration. A timedelta is a duration, too."""
    if isinstance(value, timedelta):
        span = value.total_seconds()
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        span = float(match[1]) * SECONDS[match[2]]
    else:
        return None
    return Span(span) if 0 <= span <= LONGEST else None


def parse_percent(value: object) -> float | None:
    """`"20%"` as 0.2; None if the value is not a percentage from 0 to 100."""
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    share = float(match[1]) / 100 if match else math.inf
    return share if share <= 1 else None


def parse_rate(value: object) -> float | None:
    """`"90/m"` as 1.5 per second; None if the value is not a rate above 0."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    rate = float(match[1]) / SECONDS[match[2]] if match else 0.0
    return rate if 0 < rate <= FASTEST else None


def parse_size(value: object) -> int | None:
    """`"3MB"` as 3000000 bytes; None if the value is not a size."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = float(match[1]) * _BYTES[match[2]] if match else math.inf
    return round(size) if math.isfinite(size) else None


def seconds(value: float | str | timedelta) -> float:
    """Seconds from a number of seconds, a duration such as "5d", or a timedelta.

    Raises ValueError for anything else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    span = parse_duration(value)
    if span is None:
        raise ValueError(f"{value!r} is no time; allowed: seconds as a number, or {DURATION_HELP}")
    return span


def show_size(size: int) -> str:
    """Bytes for a reader: "3 MB", "1.5 KB", "512 bytes"."""
    for unit, factor in (("GB", 1000**3), ("MB", 1000**2), ("KB", 1000)):
        if size >= factor * 0.9995:  # a value that rounds up to 1000 is 1 of the next unit
            return f"{size / factor:.3g} {unit}" if size < factor * 999.5 else f"{size / factor:.0f} {unit}"
    return "1 byte" if size == 1 else f"{size} bytes"


def show_rate(rate: float) -> str:
    """A rate per second for a reader, in the unit in which it is 1 or more: "200/s", "90/m"."""
    unit = next((unit for unit in "smh" if rate * SECONDS[unit] >= 1), "d")
    return f"{rate * SECONDS[unit]:.15g}/{unit}"


def show(span: float) -> str:
    """Seconds for a reader: "350ms", "12.5s", "10m", "2h 5m", "3d 4h"."""
    if not math.isfinite(span):  # in a journal that somebody else has written
        return str(span)
    if span < 0.9995:  # microseconds do not matter to readers
        return f"{span * 1000:.0f}ms" if span >= 0.0005 else "0s"
    if span < 59.995:
        return f"{round(span, 2):g}s"
    whole = round(span)
    for big, small, per in (("m", "s", 60), ("h", "m", 3600), ("d", "h", 86400)):
        upper = {"m": 3600, "h": 86400}.get(big)
        if upper is None or whole < upper:
            rest = whole % per // {"s": 1, "m": 60, "h": 3600}[small]
            return f"{whole // per}{big}" + (f" {rest}{small}" if rest else "")
    raise AssertionError(span)


def times(n: int) -> str:
    """once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def ordinal(n: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def plural(n: int, one: str, several: str = "") -> str:
    """A number and its noun: "1 reply", "3 replies"."""
    return f"{n} {one if n == 1 else several or one + 's'}"
