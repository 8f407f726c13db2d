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

from notnow import protocols
from notnow.errors import Problem, nearest, unknown
from notnow.language.faults import SPOKEN_KEYS
from notnow.language.limits import NUMBER
from notnow.language.toml_lines import Path
from notnow.units import DURATION_HELP, LONGEST, parse_duration, parse_percent

SERVER_OPTIONS = frozenset({
    "clock", "seed", "host", "port", "tls", "users", "files", "app", "upstream", "forward", "journal_limit", "shared",
})  # fmt: skip
# Known only to the adapter, when it says the reply.
FILLED = 1_000_000  # characters, and items of lists, that knobs may put into a scenario: knobs stand in each other's defaults
UNKNOWN = 50  # most unknown placeholders that are told: each is compared with all that there are
LATE = frozenset[str]().union(*(protocol.placeholders for protocol in protocols.every()))
# The time until the phase ends, until a limit lets this key through again, and until its quota grows.
SPANS = ("left", "wait", "reset")
UNITS = ("seconds", "ms", "date", "epoch")
TIMES = frozenset(f"{span}.{unit}" for span in SPANS for unit in UNITS)
LIVE = frozenset({"host", "client", "limit", "port", "remaining"}) | TIMES | LATE
_KEYWORDS = frozenset({"name", "search_paths", "relative_to"})  # of the calls that take knobs as keywords
# A knob may be called `wait` or `reset`; it then replaces that placeholder.
RESERVED = SERVER_OPTIONS | _KEYWORDS | (LIVE - TIMES) | {"left", "sweep"}

_OF_DURATIONS = {"seconds": 1, "ms": 1000}  # the units in which a reply can give a knob that is a duration

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
    except (ValueError, TypeError, OverflowError):
        raise ValueError("a whole number" if kind is int else "a number") from None
    if kind is int and abs(number) > NUMBER:
        raise ValueError(f"a whole number, {NUMBER} at most")
    return number


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
    for name, value in given.items():
        if name not in defaults:
            report((), unknown("knob", name, sorted(defaults)))
            continue
        try:
            values[name] = coerce(name, _typed(defaults[name], defaults), value)
        except ValueError as error:
            report((), Problem(f"knob {name!r} is {value!r}", allowed=str(error)))
    return values


def _typed(default: Any, defaults: Mapping[str, Any]) -> Any:
    """The default that gives a knob its type. A default that is just another knob has that knob's type."""
    for _ in defaults:
        alone = _BRACES.fullmatch(default) if isinstance(default, str) else None
        if alone is None or alone[1] not in defaults:
            break
        default = defaults[alone[1]]
    return default


def _is_plain(default: Any) -> bool:
    """True if a knob can have the type of this default."""
    if isinstance(default, list):
        return len({type(item) for item in default}) < 2 and all(
            _is_plain(item) and not isinstance(item, list) for item in default
        )
    return isinstance(default, (str, bool, int)) or (isinstance(default, float) and math.isfinite(default))


class TooLongError(Exception):
    """The knobs would make a scenario longer than `FILLED`."""


class Filler:
    """Puts the values of knobs into a scenario; remembers which knobs something used.

    A default is part of the file, so the placeholders in it are filled in where it is used. A value that was given is
    data, and its braces are braces. `live` are the placeholders that a reply of this protocol may hold.
    """

    def __init__(
        self, values: Mapping[str, Any], report: Report, defaults: Mapping[str, Any], live: frozenset[str] = LIVE
    ) -> None:
        self.values = values
        self.used: set[str] = set()
        self._report, self._live = report, live
        self._templates = {name for name, default in defaults.items() if values.get(name) == default}
        self._filling: list[str] = []  # the knobs whose defaults are being filled in
        self._left = FILLED
        self._unknown_names: set[tuple[Path, str]] = set()
        self._defaults = defaults

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
            return self._value(alone[1], path, live)
        return _BRACES.sub(lambda match: self._piece(match, path, live), text)

    def _value(self, name: str, path: Path, live: bool) -> Any:
        """The value of a knob, in its type. Its braces are escaped where `render` will fill the text again."""
        self._use(name)
        value = self.values[name]
        self._left -= len(value) if isinstance(value, (str, list)) else 1
        if self._left < 0:
            raise TooLongError
        if name not in self._templates:
            return _literal(value) if live else value
        if name in self._filling:
            found = f"the knob {name!r} stands in its own default, by way of {' and '.join(self._filling)}"
            self._report(("params", name), Problem(found, allowed="a default without it"))
            return ""
        self._filling.append(name)
        try:
            return self.fill(value, path, live)
        finally:
            self._filling.pop()

    def _use(self, name: str) -> None:
        """Mark a knob as used, and the knobs in its default too, even if another value was given."""
        if name not in self.used:
            self.used.add(name)
            for inner in live_names(str(self._defaults.get(name, ""))):
                if (base := inner.partition(".")[0]) in self.values:
                    self._use(base)

    def _piece(self, match: re.Match[str], path: Path, live: bool) -> str:
        name = match[1]
        if name is None:  # {{ or }}: `render` unescapes it later where the text is live
            return match[0] if live else match[0][0]
        base, _, unit = name.partition(".")
        if base in self.values and unit in ("", *_OF_DURATIONS):
            value = self._value(base, path, live)
            span = parse_duration(value)
            if not unit:
                return str(value)
            if span is not None:
                return f"{span * _OF_DURATIONS[unit]:.15g}"
        if live and name in self._live:
            return match[0]
        if (path, name) not in self._unknown_names and len(self._unknown_names) < UNKNOWN:
            self._unknown_names.add((path, name))
            self._report(path, self._unknown(name, live))
        return match[0]

    def _unknown(self, name: str, live: bool) -> Problem:
        knob = f", in the default of the knob {self._filling[-1]!r}," if self._filling else ""
        if name in self._live:
            return Problem(f"{{{name}}}{knob} is known only while the fake runs", allowed="in the text of a reply")
        durations = [name for name, value in self.values.items() if parse_duration(value) is not None]
        known = [*self.values, *(f"{name}.{unit}" for name in durations for unit in _OF_DURATIONS)]
        known += sorted(self._live) if live else []
        meant = _SYNONYMS.get(name.lower())
        return Problem(
            f"there is no placeholder {{{name}}}{knob.rstrip(',')}",
            allowed=", ".join(f"{{{k}}}" for k in known) + "; {{ for a brace" if known else "{{ for a brace",
            nearest=meant if meant in known else nearest(name, known),
        )


_SYNONYMS = {
    "port1": "p1", "port2": "p2", "p0": "p1", "ip": "client", "address": "client", "peer": "client", "hostname": "host",
    "server": "host", "max": "limit", "cap": "limit", "retry_after": "wait.seconds", "left": "left.seconds",
    "wait": "wait.seconds", "reset": "reset.seconds", "date": "left.date", "seconds": "left.seconds",
    "data_port": "data.port", "dataport": "data.port",
}  # fmt: skip


def live_for(protocol: object) -> frozenset[str]:
    """The placeholders that a reply of this protocol may hold."""
    own = protocols.get(protocol).placeholders if isinstance(protocol, str) and protocol in protocols.NAMES else ()
    return (LIVE - LATE).union(own)


def _is_said(path: Path) -> bool:
    """True for a key of a rule or of a named fault whose text clients read: it may hold live placeholders."""
    return path[-1] in SPOKEN_KEYS and (path[0], len(path)) in (("fault", 3), ("phase", 5))


def _literal(value: Any) -> Any:
    """The value of a knob with its braces escaped, for a text that `render` fills."""
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return value.replace("{", "{{").replace("}", "}}") if isinstance(value, str) else value


def live_names(text: str) -> set[str]:
    """The live placeholders in the text of a fault."""
    return {match[1] for match in _BRACES.finditer(text) if match[1] is not None}


def tells_quota(names: Iterable[str]) -> bool:
    """True if one of these placeholders stands for a quota."""
    return any(name == "remaining" or name.partition(".")[0] in ("wait", "reset") for name in names)


def render(text: str, value: Callable[[str], str]) -> str:
    """Fill the live placeholders of a fault's text; `value` gives the text for a name."""
    return _BRACES.sub(lambda m: m[0][0] if m[1] is None else value(m[1]), text)


def is_live(text: str) -> bool:
    """True if the text has placeholders or escaped braces."""
    return "{" in text or "}" in text
