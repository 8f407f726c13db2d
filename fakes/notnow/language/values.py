"""The types of values in a scenario file: durations, sizes, counts, choices, names. Each error says what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from notnow import units
from notnow.errors import nearest
from notnow.units import DURATION_HELP, Span

SHORTEST = 0.001  # seconds; a shorter phase or window, repeated, would keep scenario time from moving


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def refuse(allowed: str, value: object = None, choices: Iterable[str] = ()) -> PydanticCustomError:
    """The error of a value that is not allowed, with the choice that it was near."""
    known = list(choices)
    near = nearest(value, known) if isinstance(value, str) else None
    return PydanticCustomError("notnow", "{allowed}", {"allowed": allowed, "nearest": near, "choices": known})


def _duration(value: object) -> Span:
    span = units.parse_duration(value)
    if span is None:
        raise refuse(DURATION_HELP)
    return span


def _length(value: object) -> Span:
    span = units.parse_duration(value)
    if span is None or span < SHORTEST:
        raise refuse(f"{DURATION_HELP}, and at least 1ms")
    return span


def _percent(value: object) -> float:
    share = units.parse_percent(value)
    if share is None:
        raise refuse('a percentage from 0 to 100, such as "20%"')
    return share


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


def choice_of(*words: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if value not in words:
            raise refuse(", ".join(words), value, words)
        return value

    return check


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


def one_or_more(items: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [items, {"type": "array", "items": items, "minItems": 1}]})


Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": units.DURATION})]
Length = Annotated[float, BeforeValidator(_length), WithJsonSchema({"type": "string", "pattern": units.DURATION})]
Percent = Annotated[float, BeforeValidator(_percent), WithJsonSchema({"type": "string", "pattern": units.PERCENT})]
Amount = Annotated[
    int | Span,
    BeforeValidator(_amount),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": units.DURATION}]}),
]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": units.SIZE}]}),
]
Names = Annotated[tuple[str, ...], BeforeValidator(names_of()), one_or_more({"type": "string"})]
