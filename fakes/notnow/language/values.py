"""The kinds of values in a scenario file: durations, sizes, counts, choices, names. Each error says what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from notnow import units
from notnow.language.tables import Kind, RefusedError, refuse
from notnow.units import DURATION_HELP, Span

SHORTEST = 0.001  # seconds; a shorter phase or window, repeated, would keep scenario time from moving

T = TypeVar("T")


def _duration(value: object) -> float:
    span = units.parse_duration(value)
    if span is None:
        raise refuse(DURATION_HELP)
    return float(span)


def _length(value: object) -> float:
    span = units.parse_duration(value)
    if span is None or span < SHORTEST:
        raise refuse(f"{DURATION_HELP}, and at least 1ms")
    return float(span)


def _percent(value: object) -> float:
    share = units.parse_percent(value)
    if share is None:
        raise refuse('a percentage from 0 to 100, such as "20%"')
    return share


def _rate(value: object) -> float:
    rate = units.parse_rate(value)
    if rate is None:
        raise refuse(units.RATE_HELP)
    return rate


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    size = units.parse_size(value)
    if size is None:
        raise refuse(units.SIZE_HELP)
    return size


def _amount(value: object) -> int | Span:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    span = units.parse_duration(value)
    if span is None or span < SHORTEST:
        raise refuse(f"a number of events (1 or more), or {DURATION_HELP}, and at least 1ms")
    return span


def _instance_of(kind: type[T], allowed: str) -> Callable[[object], T]:
    def check(value: object) -> T:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise RefusedError(allowed)
        return value

    return check


def whole_number(least: int, most: int | None = None) -> Kind[int]:
    """A whole number from `least` to `most`."""

    def check(value: object) -> int:
        number = _instance_of(int, "a whole number")(value)
        if number < least:
            raise RefusedError(f"{least} or more")
        if most is not None and number > most:
            raise RefusedError(f"{most} or less")
        return number

    limits = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return Kind(check, {"type": "integer", **limits})


def one_of(*words: T) -> Kind[T]:
    """One of these words."""

    def check(value: object) -> T:
        if value not in words:
            raise refuse(", ".join(map(str, words)), value, map(str, words))
        return words[words.index(value)]

    return Kind(check, {"enum": list(words)})


def names_of(*choices: str) -> Callable[[object], tuple[str, ...]]:
    def check(value: object) -> tuple[str, ...]:
        names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not names:
            raise refuse(f"at least one of {', '.join(choices)}" if choices else "at least one")
        for name in names:
            if not isinstance(name, str) or (choices and name not in choices):
                raise refuse(", ".join(choices) or "text, or a list of texts", name, choices)
        return names

    return check


def some_of(*choices: str) -> Kind[tuple[str, ...]]:
    """One of these words, or a list of them."""
    return Kind(names_of(*choices), one_or_more({"enum": list(choices)}))


def one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a value or a list of such values."""
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def any_table(allowed: str = "a table") -> Kind[dict[str, Any]]:
    """A table that may have any keys."""

    def check(value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise RefusedError(allowed)
        return dict(value)

    return Kind(check, {"type": "object", "additionalProperties": True})


Text = Kind(_instance_of(str, "text"), {"type": "string"})
Flag = Kind(_instance_of(bool, "true or false"), {"type": "boolean"})
Duration = Kind(_duration, {"type": "string", "pattern": units.DURATION})
Length = Kind(_length, {"type": "string", "pattern": units.DURATION})
Percent = Kind(_percent, {"type": "string", "pattern": units.PERCENT})
Amount = Kind(_amount, {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": units.DURATION}]})
Rate = Kind(_rate, {"type": "string", "pattern": units.RATE})
Count = whole_number(1)
Size = Kind(_size, {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": units.SIZE}]})
Names = Kind(names_of(), one_or_more({"type": "string"}))
