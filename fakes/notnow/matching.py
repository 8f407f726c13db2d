"""Whether an event's facts match a rule's `where`. Compiled once at load."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, object]
Matcher = Callable[[Facts], bool]


def matcher(where: Mapping[str, Any] | None) -> Matcher | None:
    """One test for all of a `where`; None where there is nothing to test."""
    tests = [_header(h, v) for h, v in (where or {}).get("header", {}).items()]
    tests += [_fact(name, wanted) for name, wanted in (where or {}).items() if name != "header"]
    if len(tests) < 2:
        return tests[0] if tests else None
    return lambda facts: all(test(facts) for test in tests)


def _fact(name: str, wanted: Any) -> Matcher:
    test = _value(wanted)
    return lambda facts: test(facts.get(name))


def _header(name: str, wanted: Any) -> Matcher:
    test, name = _value(wanted), name.lower()

    def match(facts: Facts) -> bool:
        headers = facts.get("header")
        return test(headers.get(name) if isinstance(headers, Mapping) else None)

    return match


def _value(wanted: Any) -> Callable[[object], bool]:
    if isinstance(wanted, list):
        tests = [_value(item) for item in wanted]
        return lambda found: any(test(found) for test in tests)
    if wanted == "none":
        return lambda found: found is None or found == ()
    one = _text(wanted) if isinstance(wanted, str) else lambda found: found == wanted
    # A fact may have several values (the recipients of a message): one that matches is enough.
    return lambda found: any(one(item) for item in found) if isinstance(found, tuple) else one(found)


def _text(wanted: str) -> Callable[[object], bool]:
    """A glob, whatever the case: host names, verbs and mail domains have none that matters."""
    low = wanted.lower()
    if not any(c in low for c in "*?["):
        return lambda found: found is not None and str(found).lower() == low
    pattern = re.compile(fnmatch.translate(low))
    return lambda found: found is not None and pattern.match(str(found).lower()) is not None
