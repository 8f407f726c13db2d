"""The shape of a client's back-off, from the gaps between a refusal and the next attempt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

Shape = Literal["immediate", "constant", "linear", "exponential", "irregular"]

ENOUGH = 3  # gaps below which a doubling and a linear client look alike (1, 2)
IMMEDIATE = 0.05  # seconds within which a retry did not wait at all
STEADY = 0.25  # spread, relative to the mean, within which gaps are the same but for jitter
ROUGH = 0.6  # spread above which neither steps nor ratios are regular


def shape(gaps: Sequence[float]) -> Shape | None:
    """Name the growth of the gaps (seconds); None where there are too few to tell.

    Gaps that have grown to a ceiling and stay there are judged by the part that grows.
    """
    if len(gaps) < ENOUGH:
        return None
    if max(gaps) <= IMMEDIATE:
        return "immediate"
    if _spread(gaps) <= STEADY:
        return "constant"
    growing = _below_ceiling(gaps)
    if len(growing) < ENOUGH:
        return "irregular"
    steps = [b - a for a, b in pairwise(growing)]
    ratios = [b / a for a, b in pairwise(growing) if a > 0]
    if min(steps) <= 0 or len(ratios) < len(steps):
        return "irregular"
    by_step, by_ratio = _spread(steps), _spread(ratios)
    if min(by_step, by_ratio) > ROUGH:
        return "irregular"
    return "linear" if by_step < by_ratio else "exponential"


def _below_ceiling(gaps: Sequence[float]) -> list[float]:
    """The gaps up to a ceiling at which at least two of them, the last ones, stay.

    The first gap at the ceiling may be a step cut short; it is looked at only where there are too few without it.
    """
    top = max(gaps)
    first = next(i for i, gap in enumerate(gaps) if gap >= top * 0.95)
    if first == len(gaps) - 1 or min(gaps[first:]) < top * 0.95:
        return list(gaps)
    return list(gaps[:first] if first >= ENOUGH else gaps[: first + 1])


def _spread(values: Sequence[float]) -> float:
    """The distance between the largest and the smallest, relative to the mean."""
    mean = sum(values) / len(values)
    return (max(values) - min(values)) / mean if mean else 0.0
