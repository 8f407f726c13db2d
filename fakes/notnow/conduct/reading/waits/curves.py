"""How likely a client's gaps are, if it waits along a curve with jitter.

The curve is constant, linear (`scale · (start + n)`) or exponential (`scale · factor^n`), and may stop at a cap. Jitter
is uniform: proportional jitter draws from `[m(1 - w), m]`, where m is the curve (w = 0 is no jitter, 1/2 equal and 1 full
jitter, and ±p is `w = 2p / (1 + p)`). `notnow.conduct.reading.waits.jitter` has other kinds.

Scale, growth, cap and width of a client are unknown, so a likelihood is integrated over all of them, with priors that are
flat on a logarithmic axis. A model with more freedom pays for it in this integral.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import exp, expm1, fsum, inf, log
from operator import mul, sub
from typing import Literal, NamedTuple, Protocol

Kind = Literal["none", "proportional", "equal", "full", "decorrelated", "added"]

SLACK = 0.01  # seconds by which a gap may exceed the wait: network, processing, a tick of a scheduler
EARLY = 0.001  # seconds by which a gap may fall short of the wait: clocks tick
EXACT = 0.005  # relative width of what counts as no jitter

# The relative width of proportional jitter, and how usual it is. 1/3 is gRPC's ±20 %, 1/2 equal jitter, 1 full jitter.
WIDTHS = (EXACT, 0.02, 0.05, 0.1, 0.18, 1 / 3, 0.5, 2 / 3, 1.0)
USUAL = (0.2, 0.05, 0.05, 0.1, 0.1, 0.1, 0.15, 0.1, 0.15)
REACH = tuple(-log(1 - width) if width < 1 else inf for width in WIDTHS)  # the width on a logarithmic axis
KINDS: dict[float, Kind] = {EXACT: "none", 0.5: "equal", 1.0: "full"}

GOLDEN = 0.618  # the golden section, by which a search narrows
LADDER = -1.5, 1.5, -0.6, 0.6, -0.2, 0.2  # distances from the best growth
WIDER = 3  # widths that are looked at, from the narrowest possible one on
NEGLIGIBLE = 0.01
CONTRADICTION = 0.03  # the share of another family's likelihood below which a family is contradicted anyway


class Form(NamedTuple):
    """A back-off's curve and jitter. Times are in seconds.

    `base` is the curve at the first gap and `growth` its factor or step. `width` is relative to the curve, or in seconds
    for added jitter. `lead`: the number of gaps before the curve begins.
    """

    kind: Kind
    base: float
    growth: float | None = None
    cap: float | None = None
    width: float = 0.0
    lead: int = 0

    def wait(self, exponential: bool, place: int, before: float, chance: float) -> float:
        """The wait at a place of the curve, after another one; `chance`, from 0 to 1, is where the jitter falls."""
        cap, growth = self.cap or inf, self.growth or 0.0
        curve = self.base * growth**place if exponential else self.base + growth * place
        match self.kind:
            case "added":
                return min(cap, curve + chance * self.width)
            case "decorrelated":
                return min(cap, self.base + chance * (3 * before - self.base))
            case "equal" | "full":
                return min(cap, curve) * (1 - self.width * chance)
        return min(cap, curve) * (1 + (2 * chance - 1) * self.width / (2 - self.width))


class Fit(NamedTuple):
    """A likelihood, the likelihood of the most likely form's kind alone, and this form."""

    likelihood: float
    most: float = 0.0
    form: Form | None = None

    def times(self, share: float) -> Fit:
        return Fit(self.likelihood * share, self.most * share, self.form)

    def plus(self, other: Fit) -> Fit:
        best = self if self.most >= other.most else other
        return Fit(self.likelihood + other.likelihood, best.most, best.form)


NEVER = Fit(0.0)


class Gaps:
    """Gaps in units of their geometric mean; `index` is the place of each, for some gaps may be left out.

    `least` and `most` are logarithms of the wait behind each gap. `blur` is the slack relative to it. `density` has for
    each width the product of the densities of the first gaps, relative to the curve.
    """

    def __init__(self, index: Sequence[int], gap: Sequence[float], unit: float) -> None:
        self.index, self.gap, self.unit = list(index), list(gap), unit
        self.slack = slack = SLACK / unit
        self.least = [log(max(g - slack, slack)) for g in gap]
        self.most = [log(max(g + EARLY / unit, slack)) for g in gap]
        self.blur = [slack / max(g, slack) for g in gap]
        self.density = [list(accumulate((1 / (w + e) for e in self.blur), mul, initial=1.0)) for w in WIDTHS]

    def __len__(self) -> int:
        return len(self.gap)

    def after(self, lead: int) -> Gaps:
        return Gaps([i - self.index[lead] for i in self.index[lead:]], self.gap[lead:], self.unit)

    def reversed(self) -> Gaps:
        return Gaps([self.index[-1] - i for i in reversed(self.index)], self.gap[::-1], self.unit)

    def repeats(self, other: int) -> float:
        """The density of a gap that is the same as another one."""
        return 1 / ((EXACT + self.blur[other]) * self.gap[other])


class Curve(NamedTuple):
    """A curve that grows: the bounds of its parameter, and its logarithm at each place."""

    name: Literal["linear", "exponential"]
    low: float
    high: float

    def at(self, growth: float, index: Sequence[int]) -> list[float]:
        if self.name == "exponential":
            return [growth * i for i in index]
        start = exp(growth)
        return [log(start + i) for i in index]

    def scale(self, growth: float, places: int) -> float:
        """By how much the growth must differ for another curve to leave this one by e, in so many places."""
        return (1.0 if self.name == "exponential" else exp(growth) + places) / places

    def grid(self, points: int = 9) -> list[float]:
        step = (self.high - self.low) / (points - 1)
        return [self.low + step * i for i in range(points)]


EXPONENTIAL = Curve("exponential", log(1.05), log(10))  # the logarithm of the factor
LINEAR = Curve("linear", log(0.1), log(100))  # the logarithm of the first wait in steps


# ---- proportional jitter -------------------------------------------------------------------------


class Growing(Protocol):
    """A curve of some growth."""

    @property
    def growth(self) -> float: ...


class _Node(NamedTuple):
    """A growth, and the scales (logarithms) that it allows for the first gaps: at least `low`; `high` and the reach.

    `total` is the sum of the curve at these gaps, `last` and `next` its value at the last one and after it.
    """

    growth: float
    low: float
    high: float
    total: float
    last: float
    next: float


def _spread(node: _Node) -> float:
    """How far apart, on a logarithmic axis, the gaps are from this curve."""
    return node.low - node.high


class _Head(NamedTuple):
    """The `first` gaps, which follow the curve, and the bounds of the cap at which the others stay."""

    first: int
    others: int
    low: float = -inf
    high: float = inf


def uncapped(gaps: Gaps, curve: Curve) -> Fit:
    """Proportional jitter around a curve that grows for ever."""
    count = len(gaps)
    nodes = [_node(gaps, curve, count, growth) for growth in curve.grid()]
    guess = _node(gaps, curve, count, _guess(gaps, curve, count))
    return _integral(gaps, curve, _Head(count, 0), _refined(gaps, curve, count, nodes, guess))


def capped(gaps: Gaps, curve: Curve, rival: float) -> Fit:
    """Proportional jitter around a curve that stops at a cap.

    Caps that are negligible beside the likelihood of a rival family are left out.
    """
    grid = [_running(gaps, curve, growth) for growth in curve.grid()]
    found = NEVER
    for head in _heads(gaps):
        guess = _node(gaps, curve, head.first, _guess(gaps, curve, head.first))
        if _estimate(gaps, curve, head, guess) >= NEGLIGIBLE * max(found.likelihood, rival * CONTRADICTION):
            nodes = _refined(gaps, curve, head.first, [row[head.first - 1] for row in grid], guess)
            found = found.plus(_integral(gaps, curve, head, nodes))
    return found.times(1 / max(1, len(gaps) - 2))


def constant(gaps: Gaps) -> Fit:
    """Proportional jitter around one wait."""
    count = len(gaps)
    node = _Node(0.0, max(gaps.least), min(gaps.most), 0.0, 0.0, 0.0)
    found = NEVER
    for j, usual in enumerate(USUAL):
        if node.low < node.high + REACH[j]:
            mass = usual * _mass(gaps, node, _Head(count, 0), j)
            width = 1 - exp(min(0.0, -_spread(node)))
            base = max(gaps.gap) if WIDTHS[j] in KINDS and WIDTHS[j] > EXACT else fsum(gaps.gap) / count
            found = found.plus(Fit(mass, mass, Form(_kind(j), base * gaps.unit, width=width)))
    return found


def _running(gaps: Gaps, curve: Curve, growth: float) -> list[_Node]:
    """The node of this growth for the first gap, for the first two, and so on."""
    low, high, total, nodes = -inf, inf, 0.0, []
    values = curve.at(growth, gaps.index)
    nexts = curve.at(growth, [i + 1 for i in gaps.index])
    for least, most, value, after in zip(gaps.least, gaps.most, values, nexts, strict=True):
        low, high, total = max(low, least - value), min(high, most - value), total + value
        nodes.append(_Node(growth, low, high, total, value, after))
    return nodes


def _node(gaps: Gaps, curve: Curve, count: int, growth: float) -> _Node:
    *values, after = curve.at(growth, [*gaps.index[:count], gaps.index[count - 1] + 1])
    low, high = max(map(sub, gaps.least, values)), min(map(sub, gaps.most, values))
    return _Node(growth, low, high, fsum(values), values[-1], after)


def _heads(gaps: Gaps) -> Iterator[_Head]:
    """The first gaps follow the curve, two of them at least, and the others stay at a cap."""
    low, high = -inf, inf
    for first in range(len(gaps) - 1, 1, -1):
        low, high = max(low, gaps.least[first]), min(high, gaps.most[first])
        yield _Head(first, len(gaps) - first, low, high)


def _estimate(gaps: Gaps, curve: Curve, head: _Head, guess: _Node) -> float:
    """Roughly the likelihood of a cap after these gaps, or more."""
    count, stays, spread = head.first, head.low - head.high, _spread(guess) * GOLDEN
    rows = list(zip(gaps.density, REACH, USUAL, strict=True))
    follow = max([usual * row[count] * min(2.0, reach - spread) ** 2 for row, reach, usual in rows if reach > spread])
    stay = max([row[-1] / row[count] * min(1.0, reach - stays) for row, reach, _ in rows if reach > stays])
    growths = min(1.0, curve.scale(guess.growth, gaps.index[count - 1]) / (curve.high - curve.low))
    return follow * growths * stay * exp(-count * guess.low - guess.total - head.others * head.low)


def _refined(gaps: Gaps, curve: Curve, count: int, nodes: list[_Node], guess: _Node) -> list[_Node]:
    """These nodes, and more around the growth of the curve that is nearest to the first gaps."""
    nodes = nodes + _searched(gaps, curve, count, guess)
    return sorted(nodes + _around(gaps, curve, count, min(nodes, key=_spread)))


def _searched(gaps: Gaps, curve: Curve, count: int, guess: _Node) -> list[_Node]:
    """Nodes on the way from a guess to the growth of the curve that is nearest to the first gaps."""
    if _spread(guess) > REACH[-2]:
        return [guess]
    far = max(_spread(guess), REACH[0]) * curve.scale(guess.growth, gaps.index[count - 1])
    low, high = max(curve.low, guess.growth - far), min(curve.high, guess.growth + far)
    nodes, left, right = [guess], None, None
    for _ in range(5):
        left = left or _node(gaps, curve, count, high - (high - low) * GOLDEN)
        right = right or _node(gaps, curve, count, low + (high - low) * GOLDEN)
        nodes += [left, right]
        if _spread(left) < _spread(right):
            high, left, right = right.growth, None, left
        else:
            low, left, right = left.growth, right, None
    return list(set(nodes))


def _guess(gaps: Gaps, curve: Curve, count: int) -> float:
    first, growth = _regression(gaps, curve, count)
    if curve is EXPONENTIAL:
        guess = log(growth)
    else:
        guess = log(first / growth) if first > 0 < growth else curve.low if growth > 0 else curve.high
    return min(max(guess, curve.low), curve.high)


def _around(gaps: Gaps, curve: Curve, count: int, nearest: _Node) -> list[_Node]:
    """Nodes ever closer to that growth, where the jitter is not full."""
    narrowest = next(j for j, reach in enumerate(REACH) if reach > _spread(nearest))
    if narrowest == len(REACH) - 1:
        return []
    far = REACH[min(narrowest + 1, len(REACH) - 2)] * curve.scale(nearest.growth, gaps.index[count - 1])
    growths = [nearest.growth + far * step for step in LADDER]
    return [_node(gaps, curve, count, growth) for growth in growths if curve.low < growth < curve.high]


def _integral(gaps: Gaps, curve: Curve, head: _Head, nodes: list[_Node]) -> Fit:
    shares = cells(curve, nodes)
    spread = min(_spread(node) for node in nodes)
    if head.low - head.high > REACH[0]:
        spread = max(spread, head.low - head.high)
    narrowest = next(j for j, reach in enumerate(REACH) if reach > spread)
    widest = narrowest + WIDER if len(gaps) > WIDER else len(WIDTHS)
    total, most, at = 0.0, 0.0, (nodes[0], 0)
    for j in range(narrowest, min(widest, len(WIDTHS))):
        reach = REACH[j]
        masses = [USUAL[j] * _mass(gaps, node, head, j) if node.low < node.high + reach else 0.0 for node in nodes]
        mass = fsum(map(mul, masses, shares))
        total += mass
        if mass > most:
            most, at = mass, (nodes[max(range(len(nodes)), key=masses.__getitem__)], j)
    return Fit(total, most, _form(gaps, curve, head, *at)) if most else NEVER


def cells(curve: Curve, nodes: Sequence[Growing]) -> list[float]:
    """The share of the curve's growths for which each of these stands."""
    growths = [node.growth for node in nodes]
    ends = zip([growths[0], *growths], [*growths[1:], growths[-1]], strict=False)
    return [(after - before) / 2 / (curve.high - curve.low) for before, after in ends]


def _mass(gaps: Gaps, node: _Node, head: _Head, j: int) -> float:
    """The likelihood of the gaps with this growth and this width, integrated over the scale and the cap."""
    count, low, high = head.first, node.low, node.high + REACH[j]
    if not head.others:
        return _within(count, low, high, node.total) * gaps.density[j][count]
    found = 0.0
    for tail in {j, 0}:  # a cap may apply before the jitter or after it
        least, most = max(low, head.low - node.next), min(high, head.high + REACH[tail] - node.last)
        if most <= least:
            continue
        scale = least + min((most - least) / 2, 0.7 / count)
        bottom, top = max(head.low, scale + node.last), min(head.high + REACH[tail], scale + node.next)
        if top > bottom:
            stays = _within(head.others, bottom, top) / (node.next - node.last)
            density = gaps.density[j][count] * gaps.density[tail][-1] / gaps.density[tail][count]
            found += _within(count, least, most, node.total) * stays * density * (0.5 if j else 1.0)
    return found


def _within(count: int, low: float, high: float, total: float = 0.0) -> float:
    """The integral of `exp(-count · x - total)` from low to high."""
    return -exp(-count * low - total) * expm1(-count * (high - low)) / count


# ---- the most likely form ------------------------------------------------------------------------


def _kind(j: int) -> Kind:
    return KINDS.get(WIDTHS[j], "proportional")


def _form(gaps: Gaps, curve: Curve, head: _Head, node: _Node, j: int) -> Form:
    unit, kind = gaps.unit, _kind(j)
    cap = max(gaps.gap[head.first :]) * unit if head.others else None
    if kind in ("none", "proportional"):
        base, growth = _regression(gaps, curve, head.first)
        return Form(
            kind, base * unit, growth if curve is EXPONENTIAL else growth * unit, cap, 1 - exp(-max(0.0, _spread(node)))
        )
    scale = exp(node.low)
    base = scale * exp(curve.at(node.growth, [0])[0])
    return Form(kind, base * unit, exp(node.growth) if curve is EXPONENTIAL else scale * unit, cap, WIDTHS[j])


def _regression(gaps: Gaps, curve: Curve, count: int) -> tuple[float, float]:
    """The curve's first value and its growth by least squares of the relative errors."""
    x, gap = gaps.index[:count], gaps.gap[:count]
    y, weight = ([log(g) for g in gap], [1.0] * count) if curve is EXPONENTIAL else (gap, [g**-2 for g in gap])
    total = fsum(weight)
    mean_x, mean_y = fsum(map(mul, weight, x)) / total, fsum(map(mul, weight, y)) / total
    spread = fsum(w * (a - mean_x) ** 2 for w, a in zip(weight, x, strict=True))
    slope = fsum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weight, x, y, strict=True)) / spread
    first = mean_y - slope * mean_x
    return (exp(first), exp(slope)) if curve is EXPONENTIAL else (first, slope)
