"""Which families of back-off a client's gaps may come from.

Each family has a marginal likelihood (`notnow.conduct.reading.waits.curves`). The gaps speak against a family where it has little
of the average likelihood of the others. A client of this family meets a ratio below r in a share r of runs at most (the
inverse ratio is an e-value: Markov's inequality), whatever the number of gaps. Of the clients in `tests/backoff_table.py`,
with 3 to 12 gaps each, none meets a ratio below 0.015 in more than 1 % of runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import exp, fsum, log
from typing import Literal

from notnow.conduct.reading.waits import curves, jitter
from notnow.conduct.reading.waits.curves import EARLY, EXACT, EXPONENTIAL, LINEAR, Curve, Fit, Form, Gaps

Family = Literal["immediate", "constant", "linear", "exponential", "irregular"]

REGULAR: tuple[Family, ...] = ("immediate", "constant", "linear", "exponential")
ENOUGH = 3  # gaps below which a doubling and a linear client look alike (1, 2)
IMMEDIATE = 0.04  # seconds; three waits of full jitter from 0.1 s on are all shorter in 0.8 % of runs
CONTRADICTED = 0.01  # the share of a family's clients whose gaps contradict it
STRICT = 1.5  # by how much Markov's inequality overstates this share, at least
WEIGHT: Mapping[Family, float] = {"irregular": 0.5}  # of a family among the others
LOOKED_AT = 24  # gaps, the first ones: a back-off has shown its shape by then

LEAD = 0.1  # how usual a first retry at once is, and a floor
CAPPED = 0.5  # how usual a cap is
ADDED, DECORRELATED = 0.1, 0.05  # how usual these kinds of jitter are

Fits = Mapping[Family, Fit]


@lru_cache(4096)
def fits(gaps: tuple[float | None, ...]) -> Fits:
    """The likelihood of each family; None in place of a gap that says nothing. Takes `ENOUGH` that do."""
    seen = [(i, max(gap, EARLY)) for i, gap in enumerate(gaps) if gap is not None][:LOOKED_AT]
    if max(gap for _, gap in seen) <= IMMEDIATE:
        return {"immediate": Fit(1.0)}
    unit = exp(fsum(log(gap) for _, gap in seen) / len(seen))
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
    """The share of a family's clients that have gaps which speak so much against it, at most."""
    own = fsum(fit.likelihood for name, fit in found.items() if name == family)
    others = [(fit.likelihood, WEIGHT.get(name, 1.0)) for name, fit in found.items() if name != family]
    weights = max(1.0, fsum(weight for _, weight in others))
    average = fsum(likelihood * weight for likelihood, weight in others) / weights
    return min(1.0, own / average / STRICT) if average else 1.0


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
    found: dict[Family, Fit] = {
        "constant": curves.constant(gaps),
        "linear": _growing(gaps, LINEAR, 1 - ADDED),
        "exponential": _growing(gaps, EXPONENTIAL, 1 - ADDED - DECORRELATED).plus(
            jitter.decorrelated(gaps).times(DECORRELATED)
        ),
    }
    for curve in (EXPONENTIAL, LINEAR) if len(gaps) > 2 else ():
        rival = max(fit.likelihood for fit in found.values())
        found[curve.name] = found[curve.name].plus(curves.capped(gaps, curve, rival).times(CAPPED))
    return found


def _growing(gaps: Gaps, curve: Curve, share: float) -> Fit:
    return curves.uncapped(gaps, curve).times(share * (1 - CAPPED)).plus(jitter.added(gaps, curve).times(ADDED))


def _lead(gaps: Gaps) -> tuple[int, float]:
    """The number of gaps before a curve may begin, and their density: a retry at once, or waits at a floor."""
    count, soon = len(gaps), IMMEDIATE / gaps.unit
    if gaps.gap[0] <= soon:
        return (1, 1 / soon) if count > 2 else (0, 1.0)
    near = EXACT * gaps.gap[0] + gaps.slack
    same = next((i for i, gap in enumerate(gaps.gap) if abs(gap - gaps.gap[0]) > near), 1)
    density = 1.0
    for i in range(same - 1):
        density *= gaps.repeats(i)
    return same - 1, density


def _led(fit: Fit, lead: int) -> Fit:
    return fit._replace(form=fit.form._replace(lead=lead)) if fit.form is not None else fit


def _irregular(gaps: Gaps) -> Fit:
    """Gaps that shrink, or that are spread over their range without any order."""
    logs = [log(max(gap, IMMEDIATE / gaps.unit)) for gap in gaps.gap]
    spread, count = max(max(logs) - min(logs), 0.05), len(logs)
    scattered = exp(-fsum(logs)) / 10 * spread ** -(count - 2) / ((count - 1) * (count - 2))
    shrinks = curves.uncapped(gaps.reversed(), EXPONENTIAL)
    return Fit((scattered + shrinks.likelihood) / 2)
