"""How likely a client's gaps are with jitter that is not in proportion to the curve.

Added jitter draws from `[m, m + J]`, where m is the curve; decorrelated jitter draws from `[base, 3 · the wait before]`
(AWS Architecture Blog, Exponential Backoff And Jitter).
"""

from __future__ import annotations

from math import exp, fsum, inf, log
from operator import mul, truediv
from typing import NamedTuple

from notnow.conduct.reading.waits.curves import (
    EARLY,
    EXACT,
    EXPONENTIAL,
    GOLDEN,
    NEGLIGIBLE,
    NEVER,
    Curve,
    Fit,
    Form,
    Gaps,
    cells,
)

ADDED = (1.02, 1.1, 1.3, 1.8, 3.0, 6.0)  # widths of added jitter, relative to the least possible
ADDED_SEARCH = 20  # golden sections on the way to the least jitter, at most
ADDED_RANGE = 10.0, 0.05  # the curve's scale, at most and at least, relative to the width of added jitter


def added(gaps: Gaps, curve: Curve) -> Fit:
    """Jitter of so many seconds at most on top of the curve; a cap applies to the sum."""
    count = len(gaps)
    top = max(gaps.gap) * (1 - EXACT) - gaps.slack
    stay = next((n for n in range(count) if gaps.gap[count - 1 - n] < top), count)
    heads = sorted({count, *(k for k in (count - stay, count - stay + 1) if stay > 1 and 2 <= k < count)})
    found = NEVER
    for head in heads:
        tail = 1.0
        for i in range(head, count):
            tail *= gaps.repeats(i) * (1.0 if i > head else 0.5 * gaps.gap[i] * (EXACT + gaps.blur[i]))
        found = found.plus(_added(gaps, curve, head).times(tail / len(heads)))
    return found


class _Raised(NamedTuple):
    """A curve of this growth below the first gaps: the highest scale, and then the least width of the jitter."""

    growth: float
    least: float
    scale: float
    values: list[float]


def _raised(gaps: Gaps, curve: Curve, head: int, growth: float) -> _Raised:
    values = [exp(value) for value in curve.at(growth, gaps.index[:head])]
    scale = min(map(truediv, gaps.gap, values))
    least = max([gap - scale * value for gap, value in zip(gaps.gap, values, strict=False)])
    return _Raised(growth, least, scale, values)


def _added(gaps: Gaps, curve: Curve, head: int) -> Fit:
    nodes = _lowest(gaps, curve, head)
    least = min(node.least for node in nodes) + gaps.slack
    masses, best = [], (0.0, nodes[0], 0.0)
    for node in nodes:
        negligible = ((node.least + gaps.slack) / least) ** head > 1 / NEGLIGIBLE
        mass, most, width = (0.0, 0.0, 0.0) if negligible else _widths(gaps, node)
        masses.append(mass)
        best = max(best, (most, node, width))
    total = fsum(map(mul, masses, cells(curve, nodes)))
    most, node, width = best
    if not most:
        return NEVER
    base = node.scale * exp(curve.at(node.growth, [0])[0]) * gaps.unit
    cap = gaps.gap[-1] * gaps.unit if head < len(gaps) else None
    step = exp(node.growth) if curve is EXPONENTIAL else node.scale * gaps.unit
    return Fit(total, total, Form("added", base, step, cap, width * gaps.unit))


def _lowest(gaps: Gaps, curve: Curve, head: int) -> list[_Raised]:
    """Curves of all growths, and ever more of them towards the growth that needs the least jitter."""
    nodes = [_raised(gaps, curve, head, growth) for growth in curve.grid()]
    spot = min(range(len(nodes)), key=lambda i: nodes[i].least)
    low, high = nodes[max(spot - 1, 0)].growth, nodes[min(spot + 1, len(nodes) - 1)].growth
    left, right, longest = None, None, max(gaps.gap[:head])
    for _ in range(ADDED_SEARCH):
        left = left or _raised(gaps, curve, head, high - (high - low) * GOLDEN)
        right = right or _raised(gaps, curve, head, low + (high - low) * GOLDEN)
        if left.least < right.least:
            nodes.append(right)
            high, left, right = right.growth, None, left
        else:
            nodes.append(left)
            low, left, right = left.growth, right, None
        if (high - low) * longest < 0.3 * (nodes[-1].least + gaps.slack) * curve.scale(low, gaps.index[head - 1]):
            break
    return sorted(nodes)


def _widths(gaps: Gaps, node: _Raised) -> tuple[float, float, float]:
    """The likelihood over all scales and widths of the jitter, the most likely width's, and this width."""
    head, (wide, tight) = len(node.values), ADDED_RANGE
    total, before, best = 0.0, (0.0, 0.0), (0.0, 0.0)
    for factor in ADDED:
        width = node.least * factor + gaps.slack
        low = max([(gap - gaps.slack - width) / value for gap, value in zip(gaps.gap, node.values, strict=False)])
        room = min(node.scale, width * wide) / max(low, width * tight)
        mass = width**-head * log(room) / log(wide / tight) if room > 1 else 0.0
        if before[1]:
            total += (mass + before[0]) / 2 * log(width / before[1])
        before, best = (mass, width), max(best, (mass, width))
    return total, *best


def decorrelated(gaps: Gaps, points: int = 7) -> Fit:
    """Each wait is drawn from `[base, 3 · the wait before]`, and cut at a cap."""
    low, high = max((gaps.gap[0] - gaps.slack) / 3, gaps.slack), min(gaps.gap) + EARLY / gaps.unit
    if high <= low:
        return NEVER
    top = max(gaps.gap) * (1 - EXACT) - gaps.slack
    cap = top if gaps.gap[0] < top and sum(gap >= top for gap in gaps.gap) > 1 else inf
    bases = [low * (high / low) ** (i / (points - 1)) for i in range(points)]
    masses = [_chained(gaps, base, cap) for base in bases]
    mass = (fsum(masses) - (masses[0] + masses[-1]) / 2) * log(high / low) / (points - 1)
    if not mass:
        return NEVER
    mass *= EXACT / 3 if cap < inf else 1.0
    base = bases[max(range(points), key=masses.__getitem__)]
    return Fit(
        mass, mass, Form("decorrelated", base * gaps.unit, 3.0, max(gaps.gap) * gaps.unit if cap < inf else None)
    )


def _chained(gaps: Gaps, base: float, cap: float) -> float:
    found, before, place = 1.0, base, -1
    for i, (gap, index) in enumerate(zip(gaps.gap, gaps.index, strict=True)):
        reach = before * 3 ** (index - place)  # a gap that is left out may have been as long as it could
        if gap >= cap:
            found *= max(0.0, reach + gaps.slack - cap) / (reach + gaps.slack - base) * gaps.repeats(i)
        else:
            found *= 1 / (reach + gaps.slack - base) if gap <= reach + gaps.slack else 0.0
        before, place = gap, index
    return found
