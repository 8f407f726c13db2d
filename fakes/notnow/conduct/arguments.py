"""Checks of the arguments of assertions, made at each call, so that a mistake shows whatever the client did.

A wrong value raises ValueError, and a value of the wrong type TypeError; both name the argument, the value and what is
allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from notnow.errors import nearest
from notnow.units import DURATION_HELP, parse_duration, seconds

A_TIME = f"seconds as a number, or a duration: {DURATION_HELP}"


def a_type(name: str, value: object, allowed: str, *kinds: type) -> None:
    """Raise TypeError unless the value has one of these types. True and False do not count as numbers."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError(f"{name} is {value!r}; allowed: {allowed}")


def whole(name: str, value: object, least: int = 0, most: int | None = None, allowed: str = "") -> None:
    """Check a whole number from `least` to `most`."""
    allowed = allowed or (f"a whole number, {least} or more" if most is None else f"a whole number, {least} to {most}")
    a_type(name, value, allowed, int)
    assert isinstance(value, int)
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}")


def positive(name: str, value: object) -> None:
    """Check a number above 0."""
    allowed = "a number above 0"
    a_type(name, value, allowed, int, float)
    assert isinstance(value, (int, float))
    if not value > 0:
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}")


def often(name: str, value: object) -> None:
    """Check a least number (1 or more), or a range of them."""
    allowed = "a whole number, 1 or more, or a pair of them, the smaller first, such as (2, 5)"
    if isinstance(value, tuple):
        _pair(name, value, allowed)
        for one in value:
            whole(name, one, 0, allowed=allowed)
        _in_order(name, value, value, allowed)
    else:
        whole(name, value, 1, allowed=allowed)


def time(name: str, value: Any) -> float:
    """Check a time, and return it in seconds."""
    a_type(name, value, A_TIME, int, float, str, timedelta)
    try:
        span = seconds(value)
    except ValueError:
        raise ValueError(f"{name} is {value!r}; allowed: {A_TIME}{_meant(value)}") from None
    if span < 0:
        raise ValueError(f"{name} is {value!r}; allowed: 0 or more ({A_TIME})")
    return span


_UNITS = {"millisecond": "ms", "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d"}


def _meant(value: object) -> str:
    """The duration that is meant by other words, as a suggestion: "1h" for "1 hour"."""
    if not isinstance(value, str):
        return ""
    compact = value.replace(" ", "").lower()
    digits = compact.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = compact[len(digits) :]
    short = f"{digits}{_UNITS.get(unit, _UNITS.get(unit.removesuffix('s'), unit))}"
    return f"; did you mean {short!r}?" if parse_duration(short) is not None else ""


def bound(name: str, value: Any) -> None:
    """Check a least time, or a range of times."""
    allowed = f'{A_TIME}; or a pair of them, the smaller first, such as (20, "1m")'
    if isinstance(value, tuple):
        _pair(name, value, allowed)
        _in_order(name, value, [time(name, one) for one in value], allowed)
    else:
        time(name, value)


def _pair(name: str, value: tuple[object, ...], allowed: str) -> None:
    if len(value) != 2:
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}")


def _in_order(name: str, value: object, numbers: Any, allowed: str) -> None:
    if numbers[0] > numbers[1]:
        raise ValueError(f"{name} is {value!r}, an empty range; allowed: {allowed}")


def one_of(name: str, value: object, choices: Iterable[str]) -> None:
    """Check that the value is one of these words."""
    known = list(choices)
    a_type(name, value, ", ".join(known), str)
    if value not in known:
        near = nearest(str(value), known)
        raise ValueError(
            f"{name} is {value!r}; allowed: {', '.join(known)}" + (f"; did you mean {near!r}?" if near else "")
        )


def text(name: str, value: object, what: str = "text") -> None:
    """Check a text that is not empty."""
    a_type(name, value, what, str)
    if not value:
        raise ValueError(f"{name} is empty; allowed: {what}")
