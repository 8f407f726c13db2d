"""Knobs and placeholders: how `[params]` fill a scenario before it is checked.

Placeholders that are known only while a fake runs (`{client}`, `{left.seconds}`) stay in the text of a
fault, where `render` fills them; anywhere else they are an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from notnow.errors import Problem, nearest, unknown
from notnow.toml_lines import Path
from notnow.units import DURATION_HELP, LONGEST, parse_duration, parse_percent

SERVER_OPTIONS = frozenset({"clock", "seed", "host", "port", "tls", "users", "files", "app", "journal_limit"})
LATE = frozenset({"p1", "p2", "data.port"})  # known only to the adapter, when it says the reply
# What remains of the phase, until a limit lets this key through again, and until its quota grows: in each unit.
SPANS = ("left", "wait", "reset")
UNITS = ("seconds", "ms", "date", "epoch")
TIMES = frozenset(f"{span}.{unit}" for span in SPANS for unit in UNITS)
LIVE = frozenset({"host", "client", "limit", "port", "remaining"}) | TIMES | LATE
_KEYWORDS = frozenset({"name", "own", "beside"})  # of the calls that take knobs as keywords
# A knob named `wait` or `reset` stands in place of that placeholder.
RESERVED = SERVER_OPTIONS | _KEYWORDS | (LIVE - TIMES) | {"left"}

_OF_DURATIONS = {"seconds": 1, "ms": 1000}  # the units in which a knob that is a duration can be said

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")

Report = Callable[[Path, Problem], None]


def coerce(name: str, default: Any, value: Any) -> Any:
    """A knob's value in the type of its default; text is read as the command line writes it.

    Raises ValueError with what is allowed.
    """
    if isinstance(default, bool):
        return _one_of(_BOOLS, value)
    if isinstance(default, (int, float)):
        return _number(type(default), value)
    if parse_duration(default) is not None:
        return _duration(value)
    if parse_percent(default) is not None and parse_percent(value) is None:
        raise ValueError('a percentage, such as "20%"')
    if isinstance(default, list):
        return _list(name, default, value)
    if not isinstance(value, str):
        raise ValueError("text")
    return value


_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def _one_of(words: Mapping[str, bool], value: Any) -> bool:
    found = words.get(str(value).lower())
    if found is None:
        raise ValueError("true or false")
    return found


def _number(kind: type, value: Any) -> Any:
    try:
        if isinstance(value, bool) or (kind is int and isinstance(value, float)):
            raise ValueError
        number = kind(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    except (ValueError, TypeError, OverflowError):
        raise ValueError("a whole number" if kind is int else "a number") from None


def _duration(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = timedelta(seconds=value) if 0 <= value <= LONGEST else None
    if isinstance(value, timedelta):
        value = f"{value.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    if parse_duration(value) is None:
        raise ValueError(DURATION_HELP)
    return str(value)


def _list(name: str, default: list[Any], value: Any) -> list[Any]:
    """Each item in the type of the default's first."""
    if not isinstance(value, (str, list, tuple)):
        raise ValueError('a list; on the command line "a,b"')
    items = value.split(",") if isinstance(value, str) else value
    return [coerce(name, default[0], item) if default else item for item in items]


def settle(defaults: Mapping[str, Any], given: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The value of every knob: what was given, in its default's type, else the default."""
    values = dict(defaults)
    for name, default in defaults.items():
        if name in RESERVED:
            found = f"a knob may not be called {name!r}, the name of a server option or a placeholder"
            report(("params", name), Problem(found, allowed="any other name"))
        if not _is_plain(default):
            allowed = "text, a number, true or false, or a list of one kind of these"
            report(("params", name), Problem(f"knob {name!r} is {default!r}"[:80], allowed=allowed))
            values[name] = ""
    for name, value in given.items():
        if name not in defaults:
            report((), unknown("knob", name, sorted(defaults)))
            continue
        try:
            values[name] = coerce(name, defaults[name], value)
        except ValueError as error:
            report((), Problem(f"knob {name!r} is {value!r}", allowed=str(error)))
    return values


def _is_plain(default: Any) -> bool:
    """True if it is something whose type a knob can have."""
    if isinstance(default, list):
        return len({type(item) for item in default}) < 2 and all(
            _is_plain(item) and not isinstance(item, list) for item in default
        )
    return isinstance(default, (str, bool, int)) or (isinstance(default, float) and math.isfinite(default))


class Filler:
    """Puts the values of knobs into a scenario; remembers which knobs something used."""

    def __init__(self, values: Mapping[str, Any], report: Report) -> None:
        self.values = values
        self.used: set[str] = set()
        self._report = report

    def fill(self, node: Any, path: Path = (), live: bool = False) -> Any:
        if isinstance(node, str):
            return self._text(node, path, live)
        if isinstance(node, list):
            return [self.fill(item, (*path, i), live) for i, item in enumerate(node)]
        if isinstance(node, dict):
            return {k: self.fill(v, (*path, k), live or _is_said((*path, k))) for k, v in node.items()}
        return node

    def _text(self, text: str, path: Path, live: bool) -> Any:
        alone = _BRACES.fullmatch(text)
        if alone and alone[1] in self.values:
            self.used.add(alone[1])
            return _literal(self.values[alone[1]]) if live else self.values[alone[1]]
        return _BRACES.sub(lambda match: self._piece(match, path, live), text)

    def _piece(self, match: re.Match[str], path: Path, live: bool) -> str:
        name = match[1]
        if name is None:  # {{ or }}: still escaped where `render` comes after us
            return match[0] if live else match[0][0]
        base, _, unit = name.partition(".")
        if base in self.values and unit in ("", *_OF_DURATIONS):
            span = parse_duration(self.values[base])
            if not unit or span is not None:
                self.used.add(base)
                value = f"{span * _OF_DURATIONS[unit]:.15g}" if unit and span is not None else str(self.values[base])
                return _literal(value) if live else value
        if live and name in LIVE:
            return match[0]
        self._report(path, self._unknown(name, live))
        return match[0]

    def _unknown(self, name: str, live: bool) -> Problem:
        if name in LIVE:
            return Problem(f"{{{name}}} is known only while the fake runs", allowed="in the text of a reply")
        durations = [name for name, value in self.values.items() if parse_duration(value) is not None]
        known = [*self.values, *(f"{name}.{unit}" for name in durations for unit in _OF_DURATIONS)]
        known += sorted(LIVE) if live else []
        return Problem(
            f"there is no placeholder {{{name}}}",
            allowed=", ".join(f"{{{k}}}" for k in known) + "; {{ for a brace",
            nearest=nearest(name, known),
        )


_SAID = ("reply", "headers", "body", "altsvc", "origin")


def _is_said(path: Path) -> bool:
    """True for a key whose text may hold live placeholders: what a rule or a named fault says to clients."""
    return path[-1] in _SAID and (path[0], len(path)) in (("fault", 3), ("phase", 5))


def _literal(value: Any) -> Any:
    """The value of a knob where `render` comes after us: its braces mean nothing but braces."""
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value


def live_names(text: str) -> set[str]:
    """The live placeholders in the text of a fault."""
    return {match[1] for match in _BRACES.finditer(text) if match[1] is not None}


def tells_quota(names: Iterable[str]) -> bool:
    """True if one of these placeholders says how a quota stands."""
    return any(name == "remaining" or name.partition(".")[0] in ("wait", "reset") for name in names)


def render(text: str, value: Callable[[str], str]) -> str:
    """Fill the live placeholders of a fault's text; `value` gives the text for a name."""
    return _BRACES.sub(lambda m: m[0][0] if m[1] is None else value(m[1]), text)


def is_live(text: str) -> bool:
    """True if `render` has something to do."""
    return "{" in text or "}" in text
