"""Tests whether the facts of an event match the `where` of a rule. Compiled once, at load.

A `where` becomes a tuple of tests that must all hold. Rules that test the same fact share a filter: one pattern that
shows that none of them can match.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from notnow.protocols.fact import Comparison

Facts = Mapping[str, object]
Test = tuple[str, Callable[[object], bool]]  # the name of a fact, and the test of its value
HEADER = "header."  # begins the name of a header field, as rules read it: each one is a fact of its own


def tests(where: Mapping[str, Any] | None) -> tuple[Test, ...]:
    """The tests that must all hold for a `where` to match."""
    found: list[Test] = []
    for name, wanted in (where or {}).items():
        if name == "header":
            found += [(HEADER + field.lower(), _value(value)) for field, value in wanted.items()]
        else:
            found.append((name, _value(wanted)))
    return tuple(found)


def with_fields(facts: Facts, fields: Iterable[str]) -> Facts:
    """These facts, with these header fields: `header.subject`."""
    header = facts.get("header")
    if header is None:
        return facts
    assert isinstance(header, Mapping), "the fields by their names"
    return {**facts, **{name: header.get(name.removeprefix(HEADER)) for name in fields}}


def _value(wanted: Any) -> Callable[[object], bool]:
    if globs := _globs(wanted):
        return _text(globs)
    if isinstance(wanted, list):
        any_of = [_value(item) for item in wanted]
        return lambda found: any(test(found) for test in any_of)
    if wanted == "none":
        return lambda found: found is None or found == ()
    if isinstance(wanted, Comparison):
        return wanted.holds
    return _exactly(wanted)


def _exactly(wanted: object) -> Callable[[object], bool]:
    return lambda found: wanted in found if isinstance(found, tuple) else found == wanted


def _text(globs: list[str]) -> Callable[[object], bool]:
    """One of these globs, in any case: the case of host names, verbs and mail domains does not matter.

    A fact may have several values, such as the recipients of a message. One that matches is enough.
    """
    match = _pattern(globs).match

    def test(found: object) -> bool:
        if type(found) is str:
            return match(found) is not None
        if isinstance(found, tuple):
            return any(match(str(item)) for item in found)
        return found is not None and match(str(found)) is not None

    return test


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{fnmatch.translate(glob)})" for glob in globs), re.IGNORECASE)


def filter_fact(where: Mapping[str, Any] | None) -> str | None:
    """The fact that a filter may test for this `where`: the first one that it compares with globs."""
    names = (n for n, wanted in (where or {}).items() if n != "header" and _globs(wanted))
    return next(names, None)


def _globs(wanted: Any) -> list[str]:
    """The globs of a value; empty if it holds anything else."""
    values = wanted if isinstance(wanted, list) else [wanted]
    return values if all(isinstance(v, str) and v != "none" for v in values) else []


def rejects(wheres: Iterable[Mapping[str, Any]], fact: str) -> Callable[[object], bool]:
    """A test of one fact. It is true only if none of the `wheres` can match."""
    match = _pattern(glob for where in wheres for glob in _globs(where[fact])).match
    return lambda found: found is None or (type(found) is str and match(found) is None)
