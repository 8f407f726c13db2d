"""The shape of a client's back-off, from the gaps between a refusal and the next attempt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from notnow.conduct.reading.attempts import asked_wait
from notnow.units import show

if TYPE_CHECKING:
    from notnow.conduct.reading.attempts import Retry
    from notnow.journal import Connection

Certainty = Literal["sure", "likely", "a guess"]
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


# ---- in full -------------------------------------------------------------------------------------

SURE, LIKELY = 6, 4  # gaps from which on a regular shape is no accident
CLOSE = 0.5  # by how much of a Retry-After a client may come later and still be heeding it
WORKERS = 5  # refused together, from which on their return may be a herd
TOGETHER = 0.1  # spread, relative to the wait, within which they come back as one


class BackOff(Struct, frozen=True):
    """How a client's waits grow.

    `gaps` are the waits in seconds, in order; `shape` is None where they are too few to tell. `factor` is by what an
    exponential one grows, `step` by how many seconds a linear one; `cap` where it stops growing, in seconds. `jitter` is
    how far the waits are from the regular ones, relative to those, at most (0.1 is ±10 %). `sure` says how much the
    number of gaps and the jitter allow to be said: "sure", "likely", or "a guess". `told`: what each Retry-After asked
    for, None where there was none.
    """

    gaps: tuple[float, ...]
    shape: Shape | None
    factor: float | None = None
    step: float | None = None
    cap: float | None = None
    jitter: float = 0.0
    sure: Certainty = "a guess"
    told: tuple[float | None, ...] = ()

    @property
    def heeds(self) -> bool | None:
        """True if it waits as Retry-After has said, and not much longer; None where nothing was said."""
        said = [(gap, told) for gap, told in zip(self.gaps, self.told, strict=False) if told is not None]
        if not said:
            return None
        return all(told * 0.995 <= gap <= told * (1 + CLOSE) + 1 for gap, told in said)

    def in_words(self) -> str:
        """Such as "exponential, ×2, first wait 1m, capped at 16m, jitter ±8%; likely"."""
        if self.shape is None:
            few = f"{len(self.gaps)} wait{'s' if len(self.gaps) != 1 else ''}"
            return f"{few} ({', '.join(show(gap) for gap in self.gaps)}): too few to tell" if self.gaps else "no retry"
        words: list[str] = [self.shape]
        if self.factor is not None:
            words.append(f"×{self.factor:.2g}")
        if self.step is not None:
            words.append(f"+{show(self.step)} each time")
        if self.shape != "immediate":
            words.append(f"first wait {show(self.gaps[0])}")
        if self.cap is not None:
            words.append(f"capped at {show(self.cap)}")
        if self.shape in ("constant", "linear", "exponential"):
            words.append(f"jitter ±{self.jitter:.0%}" if self.jitter >= 0.01 else "no jitter")
        if self.heeds is not None:
            words.append("as Retry-After says" if self.heeds else "not as Retry-After says")
        return f"{', '.join(words)}; {self.sure}"

    def picture(self, width: int = 50) -> list[str]:
        """A bar for each wait, to scale."""
        longest = max(self.gaps, default=0.0)
        return [
            f"{n:>3}. {show(gap):>9}  {'█' * max(1, round(width * gap / longest)) if gap > IMMEDIATE else '▏'}"
            for n, gap in enumerate(self.gaps, 1)
        ]


def analyse(gaps: Sequence[float], told: Sequence[float | None] = ()) -> BackOff:
    """Name the shape of the waits (seconds), and measure it; `told` is what each Retry-After asked for."""
    name = shape(gaps)
    waits, said = tuple(gaps), tuple(told)
    if name is None or name in ("immediate", "irregular"):
        return BackOff(waits, name, sure=_certainty(len(gaps), 0.0), told=said)
    growing = list(gaps) if name == "constant" else _below_ceiling(gaps)
    cap = max(gaps) if len(growing) < len(gaps) else None
    factor = step = None
    if name == "exponential":
        factor = (growing[-1] / growing[0]) ** (1 / (len(growing) - 1))
        regular = [growing[0] * factor**n for n in range(len(growing))]
    elif name == "linear":
        step = (growing[-1] - growing[0]) / (len(growing) - 1)
        regular = [growing[0] + step * n for n in range(len(growing))]
    else:
        regular = [sum(growing) / len(growing)] * len(growing)
    regular += [cap or 0.0] * (len(gaps) - len(growing))
    jitter = max(abs(gap - wait) / wait for gap, wait in zip(gaps, regular, strict=True) if wait > 0)
    return BackOff(waits, name, factor, step, cap, jitter, _certainty(len(gaps), jitter), said)


def _certainty(count: int, jitter: float) -> Certainty:
    if count >= SURE and jitter <= STEADY:
        return "sure"
    return "likely" if count >= LIKELY else "a guess"


def of_retries(retries: Sequence[Retry]) -> BackOff:
    """The back-off of a client's retries, in order."""
    asked = [asked_wait(retry.refusal) for retry in retries]
    told = [None if wait is None else wait[0] for wait in asked]
    return analyse([retry.delay for retry in retries], told if any(t is not None for t in told) else ())


class Herd(Struct, frozen=True):
    """Workers that were refused together, and came back: so many of them, so long after, within so many seconds."""

    workers: int
    delay: float
    spread: float

    @property
    def together(self) -> bool:
        """True if they come back as one: the next outage is of their making."""
        return self.spread <= max(TOGETHER * self.delay, IMMEDIATE)

    def in_words(self) -> str:
        came = (
            f"{self.workers} workers, refused together, came back {show(self.delay)} later within {show(self.spread)}"
        )
        return f"{came}: as a herd, without jitter" if self.together else f"{came}: spread, not as a herd"


def herd(connections: Sequence[Connection], refused: Collection[Connection]) -> Herd | None:
    """Whether workers come back at one time; None where there were never `WORKERS` of them refused within a second.

    `refused` are the connections on which something was refused. Who comes back is told by number alone: as many
    connections as were refused, after the last of those.
    """
    found: list[Herd] = []
    order = sorted(connections, key=lambda c: c.opened_at)
    start = 0
    while start < len(order):
        wave = [c for c in order[start:] if c.opened_at - order[start].opened_at <= 1.0 and c in refused]
        back = [c for c in order[start:] if c.opened_at - order[start].opened_at > 1.0][: len(wave)]
        if len(wave) >= WORKERS and len(back) >= WORKERS:
            delay = back[0].opened_at - wave[-1].opened_at
            found.append(Herd(len(back), delay, back[-1].opened_at - back[0].opened_at))
        start += max(1, len(wave))
    return max(found, key=lambda h: (h.together, h.workers), default=None)
