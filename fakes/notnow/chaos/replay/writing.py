"""A recording as the TOML text of a scenario, which loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from notnow.chaos.replay.recording import MOST_RULES, Part, Recording, ReplayError
from notnow.errors import ScenarioError
from notnow.language.conditions import When
from notnow.language.faults import FAULT_KEYS
from notnow.language.loading import loads

_ORDER = (*When.KEYS, *FAULT_KEYS)  # of the keys of a rule
_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that need no quotes


def document(found: Recording, name: str) -> str:
    """The scenario in TOML. Raises ReplayError where it would not load, with the reason; `name` is what the error calls it."""
    rules = sum(len(part.rules) for part in found.parts)
    if rules > MOST_RULES:
        raise ReplayError(
            f"{name}: a scenario that repeats it would have {rules} rules; allowed: {MOST_RULES}; cut out the part that matters"
        )
    text = "\n".join(_lines(found)) + "\n"
    try:
        loads(text, name=name)
    except ScenarioError as error:
        raise ReplayError(f"{name}: what was recorded makes no scenario: {error.problems[0]}") from error
    return text


def _lines(found: Recording) -> Iterator[str]:
    yield from (f"# {_comment(line)}".rstrip() for line in found.about)
    yield f"summary  = {_value(found.summary)}"
    yield f"protocol = {_value(found.protocol)}"
    if found.sources:
        yield f"sources  = {_value(found.sources)}"
    for name, table in found.tables.items():
        yield from _table(name, table)
    for part in found.parts:
        yield from _phase(part)


def _phase(part: Part) -> Iterator[str]:
    yield from ("", "[[phase]]", f"name = {_value(part.name)}")
    if part.lasts is not None:
        yield f"lasts = {_value(duration(part.lasts))}"
    if part.until:
        yield f"until = {_value(part.until)}"
    for rule in part.rules:
        yield from ("", "[[phase.rule]]")
        yield from _pairs({key: rule[key] for key in _ORDER if key in rule})


def _table(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """A table, the tables in it below it: `[certificate.right]`. Those of [expect] are short, and stay on a line."""
    below = {} if name == "expect" else {key: value for key, value in table.items() if isinstance(value, dict)}
    if len(below) < len(table) or not table:
        yield from ("", f"[{name}]")
        yield from _pairs({key: value for key, value in table.items() if key not in below})
    for key, value in below.items():
        yield from _table(f"{name}.{_key(key)}", value)


def _pairs(table: Mapping[str, Any]) -> Iterator[str]:
    width = max((len(_key(key)) for key in table), default=0)
    for key, value in table.items():
        yield f"{_key(key):<{width}} = {_value(value)}"


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return "".join(map(_char, json.dumps(value, ensure_ascii=False)))
        case Mapping():
            return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}" if value else "{}"
        case list() | tuple():
            return _list([_value(one) for one in value])
    return repr(value)


def _list(values: list[str]) -> str:
    line = f"[{', '.join(values)}]"
    return line if len(line) < 100 or len(values) == 1 else "\n".join(["[", *(f"  {one}," for one in values), "]"])


def _char(char: str) -> str:
    """A character of a string, escaped where it could harm a terminal: controls, and what turns the direction of text."""
    if char.isprintable():
        return char
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def _comment(text: str) -> str:
    return "".join(map(_char, text))


def duration(seconds: float) -> str:
    """Seconds as a scenario has them: `90s`, `1.5s`; at least a millisecond."""
    return f"{max(0.001, seconds):.6f}".rstrip("0").rstrip(".") + "s"
