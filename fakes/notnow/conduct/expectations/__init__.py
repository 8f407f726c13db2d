"""What can be expected of a client. Each expectation reads a run, or its exchanges, and returns a Finding.

`notnow.conduct.assertions` raises from them, and `notnow.conduct.expected` judges the `[expect]` of a scenario by them.
"""

from __future__ import annotations

from collections.abc import Iterable

from notnow.conduct.finding import HELD, Evidence, Finding


def unmet(expected: str, seen: str, evidence: Iterable[Evidence] = ()) -> Finding:
    """The client did not do what was expected. Where it did nothing at all, there is no evidence."""
    return Finding("broken", seen, tuple(evidence), expected)


def without_occasion(expected: str, seen: str) -> Finding:
    """The run gave the client no occasion to do what was expected: an assertion fails, and `[expect]` asks for nothing."""
    return Finding("not exercised", seen, expected=expected)


def first_unmet(findings: Iterable[Finding]) -> Finding:
    """The first of these that was broken, or else not held; held if all were."""
    found = list(findings)
    broken = next((finding for finding in found if finding.outcome == "broken"), None)
    return broken or next((finding for finding in found if finding.outcome != "held"), HELD)
