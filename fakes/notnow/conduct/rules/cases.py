"""The verdict of a rule that looks at one case after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from notnow.conduct.finding import NOT_EXERCISED, Finding, held


def over(cases: Iterable[Finding], seen: Callable[[int], str], otherwise: Finding = NOT_EXERCISED) -> Finding:
    """The finding of a rule, from those of its cases: the first that is broken, else the first that is inconclusive.

    Held if all cases were: `seen` says of how many. `otherwise` where there was no case.
    """
    count, doubt = 0, None
    for case in cases:
        if case.outcome == "broken":
            return case
        if case.outcome == "inconclusive":
            doubt = doubt or case
        count += case.outcome == "held"
    if doubt is not None:
        return doubt
    return held(seen(count)) if count else otherwise
