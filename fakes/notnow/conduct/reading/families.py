"""Which families of back-off a client's gaps may come from.

Each family has a marginal likelihood (`notnow.conduct.reading.curves`). The gaps contradict a family where it has less
than 1 % of the average likelihood of all of them: such a ratio is an e-value, so a client of that family meets it in 1 %
of runs at most (Markov's inequality), whatever the number of gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import exp, log
from typing import Literal

from notnow.conduct.reading import curves
from notnow.conduct.reading.curves import EARLY, EXACT, EXPONENTIAL, LINEAR, Fit, Form, Gaps

Family = Literal["immediate", "constant", "linear", "exponential", "irregular"]

REGULAR: tuple[Family, ...] = ("immediate", "constant", "linear", "exponential")
ENOUGH = 3  # gaps below which a doubling and a linear client look alike (1, 2)
IMMEDIATE = 0.04  # seconds; three waits of full jitter from 0.1 s on are all shorter in 0.8 % of runs
CONTRADICTED = 0.01
WEIGHT: Mapping[Family, float] = {"irregular": 0.5}  # of a family among the others
LOOKED_AT = 24  # gaps, the first ones: a back-off has shown its shape by then

LEAD = 0.1  # how usual a first retry at once is, and a floor
ADDED, DECORRELATED = 0.1, 0.05  # how usual these kinds of jitter are

Fits = Mapping[Family, Fit]


@lru_cache(4096)
def fits(gaps: tuple[float | None, ...]) -> Fits:
    """The likelihood of each family; None in place of a gap that says nothing. Takes at least two that do."""
    seen = [(i, max(gap, EARLY)) for i, gap in enumerate(gaps) if gap is not None][:LOOKED_AT]
    if max(gap for _, gap in seen) <= IMMEDIATE:
        return {"immediate": Fit(1.0)}
    unit = exp(sum(log(gap) for _, gap in seen) / len(seen))
    whole = Gaps([i for i, _ in seen], [gap / unit for _, gap in seen], unit)
    found = _regular(whole)
    lead, density = _lead(whole)
    if lead:
        after = _regular(whole.after(lead))
        found = {
            name: fit.times(1 - LEAD).plus(_led(after[name], lead).times(LEAD * density)) for name, fit in found.items()
        }
    return {**found, "irregular": _irregular(whole)}


def p_value(found: Fits, family: str) -> float:
    """How well the gaps agree with a family: below `CONTRADICTED` they contradict it."""
    own = sum(fit.likelihood for name, fit in found.items() if name == family)
    others = [(fit.likelihood, WEIGHT.get(name, 1.0)) for name, fit in found.items() if name != family]
    average = sum(likelihood * weight for likelihood, weight in others) / max(1.0, sum(weight for _, weight in others))
    return min(1.0, own / average) if average else 1.0


def ahead(form: Form, family: Family, gaps: Sequence[float | None], count: int) -> tuple[float, ...]:
    """The next waits of this form, in seconds, with chances that cover the range of its jitter evenly."""
    waits: list[float] = []
    before = next((gap for gap in reversed(gaps) if gap is not None), form.base)
    for n in range(count):
        chance = int(f"{n + 1:b}"[::-1], 2) / 2 ** (n + 1).bit_length()  # 1/2, 1/4, 3/4, 1/8, …
        before = form.wait(family == "exponential", len(gaps) + n - form.lead, before, chance)
        waits.append(before)
    return tuple(waits)


def _regular(gaps: Gaps) -> dict[Family, Fit]:
    kinds = 1 - ADDED - DECORRELATED
    exponential = curves.proportional(gaps, EXPONENTIAL).times(kinds).plus(curves.added(gaps, EXPONENTIAL).times(ADDED))
    linear = curves.proportional(gaps, LINEAR).times(1 - ADDED).plus(curves.added(gaps, LINEAR).times(ADDED))
    return {
        "constant": curves.constant(gaps),
        "linear": linear,
        "exponential": exponential.plus(curves.decorrelated(gaps).times(DECORRELATED)),
    }


def _lead(gaps: Gaps) -> tuple[int, float]:
    """The number of gaps before a curve may begin, and their density: a retry at once, or waits at a floor."""
    count, soon = len(gaps), IMMEDIATE / gaps.unit
    if gaps.gap[0] <= soon:
        return (1, 1 / soon) if count > 2 else (0, 1.0)
    near = EXACT * gaps.gap[0] + gaps.slack
    same = next((i for i, gap in enumerate(gaps.gap) if abs(gap - gaps.gap[0]) > near), 0)
    density = 1.0
    for i in range(same - 1):
        density *= gaps.repeats(i)
    return max(0, same - 1), density


def _led(fit: Fit, lead: int) -> Fit:
    return fit._replace(form=fit.form._replace(lead=lead)) if fit.form is not None else fit


def _irregular(gaps: Gaps) -> Fit:
    """Gaps that shrink, or that are spread over their range without any order."""
    logs = [log(max(gap, IMMEDIATE / gaps.unit)) for gap in gaps.gap]
    spread, count = max(max(logs) - min(logs), 0.05), len(logs)
    freedom = (count - 1) * (count - 2) if count > 2 else 1
    scattered = exp(-sum(logs)) / 10 * spread ** -(count - 2) / freedom
    shrinks = curves.proportional(gaps.reversed(), EXPONENTIAL, capped=False)
    return Fit((scattered + shrinks.likelihood) / 2)
