"""The back-off of a client, from the gaps between a refusal and the next attempt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from notnow.conduct.reading.waits import families
from notnow.conduct.reading.waits.curves import Form, Kind
from notnow.conduct.reading.waits.families import CONTRADICTED, ENOUGH, IMMEDIATE, REGULAR, Family
from notnow.units import show

if TYPE_CHECKING:
    from notnow.conduct.reading.comebacks import Comeback

Certainty = Literal["sure", "likely", "a guess"]
Told = Sequence[float | None]  # seconds that each refusal asked for in a Retry-After; None where it had none

LIKELY = 10.0  # the ratio of likelihoods from which on the best family is likely
CLOSE = 0.5  # by how much of a Retry-After a client may come later and still be heeding it
MORE = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16)  # further gaps that may settle which family it is


class Jitter(Struct, frozen=True):
    """The kind of jitter. `size`: 0.1 is ±10 % for proportional jitter; the most seconds for added jitter."""

    kind: Kind
    size: float = 0.0

    def in_words(self) -> str:
        """Such as "±10% jitter"."""
        match self.kind:
            case "none":
                return "no jitter"
            case "proportional":
                return f"±{max(self.size, 0.01):.0%} jitter"
            case "added":
                return f"up to {show(self.size)} of jitter added"
        return f"{self.kind} jitter"


class BackOff(Struct, frozen=True):
    """How a client's waits grow. Times are in seconds.

    `gaps` are the waits, in order, and `told` what each Retry-After asked for; a gap that a Retry-After demanded says
    nothing about the family. `family` is the likeliest one, "irregular" if the gaps contradict every family, and None if
    they are too few to tell. `base` is its first wait before the jitter, `factor` by what an exponential one grows, `step`
    by how many seconds a linear one, and `cap` where it stops growing. The curve begins after `lead` gaps: a first retry at
    once, or waits at a floor.

    `possible` are the other families that the gaps do not contradict. `settled_by`: about how many more gaps would
    contradict these; None if there is nothing to settle, or many gaps would not settle it. `sure`: "sure" if no other
    family is possible, "likely" if the others are ten times less likely, else "a guess".
    """

    gaps: tuple[float, ...]
    family: Family | None
    base: float | None = None
    factor: float | None = None
    step: float | None = None
    cap: float | None = None
    jitter: Jitter | None = None
    lead: int = 0
    possible: tuple[Family, ...] = ()
    settled_by: int | None = None
    sure: Certainty = "a guess"
    told: tuple[float | None, ...] = ()

    @property
    def heeds(self) -> bool | None:
        """True if it waits as Retry-After has said, and not much longer; None where nothing was said."""
        said = [(gap, told) for gap, told in zip(self.gaps, self.told, strict=False) if told is not None]
        return all(_demanded(gap, told) for gap, told in said) if said else None

    def in_words(self) -> str:
        """Such as "exponential, base 1m, factor 2, full jitter, cap 1h (likely; linear is not excluded)"."""
        heeds = "" if self.heeds is None else ", as Retry-After says" if self.heeds else ", not as Retry-After says"
        if self.family is None:
            few = f"{len(self.gaps)} wait{'s' if len(self.gaps) != 1 else ''}"
            listed = ", ".join(show(gap) for gap in self.gaps)
            return f"{few} ({listed}){heeds}: too few to tell" if self.gaps else "no retry"
        return f"{self._form()}{heeds} ({self._doubt()})"

    def _form(self) -> str:
        words = [str(self.family)]
        if self.family == "irregular":
            words.append(f"first wait {show(self.gaps[0])}")
        if self.base is not None:
            words.append(f"base {show(self.base)}")
        if self.factor is not None and self.jitter != Jitter("decorrelated"):
            words.append(f"factor {self.factor:.2g}")
        if self.step is not None:
            words.append(f"step {show(self.step)}")
        if self.jitter is not None:
            words.append(self.jitter.in_words())
        if self.cap is not None:
            words.append(f"cap {show(self.cap)}")
        if self.lead:
            words.append(f"from gap {self.lead + 1} on")
        return ", ".join(words)

    def _doubt(self) -> str:
        if not self.possible:
            return self.sure
        others = " and ".join(filter(None, (", ".join(self.possible[:-1]), self.possible[-1])))
        doubt = f"{self.sure}; {others} {'are' if len(self.possible) > 1 else 'is'} not excluded"
        if self.settled_by is None:
            return doubt
        return f"{doubt}: {self.settled_by} more gap{'s' if self.settled_by > 1 else ''} would settle it"

    def picture(self, width: int = 50) -> list[str]:
        """A bar for each wait, to scale."""
        longest = max(self.gaps, default=0.0)
        return [
            f"{n:>3}. {show(gap):>9}  {'█' * max(1, round(width * gap / longest)) if gap > IMMEDIATE else '▏'}"
            for n, gap in enumerate(self.gaps, 1)
        ]


class Contradiction(Struct, frozen=True):
    """The gaps do not come from a claimed family: a client of that family has such gaps in a share `p` of runs at most.

    `by` is the place of the gap, from 0 on, since which no gap has made the claim possible again.
    """

    p: float
    by: int


# ---- questions about gaps ------------------------------------------------------------------------


def possible(gaps: Sequence[float], told: Told = ()) -> tuple[Family, ...]:
    """The families that the gaps (seconds) do not contradict, the likeliest first; "irregular" if they contradict all.

    Empty where fewer than `ENOUGH` gaps say something.
    """
    return _possible(_telling(gaps, told))


def shape(gaps: Sequence[float], told: Told = ()) -> Family | None:
    """The likeliest family of the gaps (seconds); None where they are too few to tell."""
    return next(iter(possible(gaps, told)), None)


def may_grow(gaps: Sequence[float], told: Told = ()) -> bool:
    """True unless the gaps (seconds) contradict both a linear and an exponential back-off."""
    found = possible(gaps, told)
    return not found or not {"linear", "exponential"}.isdisjoint(found)


def steady(gaps: Sequence[float], told: Told = ()) -> bool:
    """True if the client retries at once, or at one pace: that is likeliest, and the gaps contradict an exponential one.

    Gaps of which one is more than twice as long as another are left in the client's favour.
    """
    telling = _telling(gaps, told)
    said = [gap for gap in telling if gap is not None]
    if len(said) < ENOUGH or max(said) > max(IMMEDIATE, 2 * min(said)):
        return False
    found = _possible(telling)
    return found[0] in ("immediate", "constant") and "exponential" not in found


def contradiction(gaps: Sequence[float], claim: str, told: Told = ()) -> Contradiction | None:
    """How the gaps (seconds) contradict a claimed family; None where they do not, or are too few to tell."""
    telling = _telling(gaps, told)
    if _enough(telling) and (p := families.p_value(families.fits(telling), claim)) < CONTRADICTED:
        by = len(telling)
        while _contradicts(telling[: by - 1], claim):
            by -= 1
        return Contradiction(p, by - 1)
    return None


def analyse(gaps: Sequence[float], told: Told = ()) -> BackOff:
    """The family of the waits (seconds), its parameters, and what else is possible."""
    telling, waits, said = _telling(gaps, told), tuple(gaps), tuple(told)
    found = _possible(telling)
    if not found:
        return BackOff(waits, None, told=said)
    best, others = found[0], found[1:]
    fits = families.fits(telling)
    form = fits[best].form
    if form is None:
        return BackOff(waits, best, sure="sure", told=said)
    likely = others and fits[best].likelihood >= LIKELY * fits[others[0]].likelihood
    return BackOff(
        waits,
        best,
        base=form.base,
        factor=form.growth if best == "exponential" else None,
        step=form.growth if best == "linear" else None,
        cap=form.cap,
        jitter=_jitter(form),
        lead=form.lead,
        possible=others,
        settled_by=_settled_by(telling, best, form) if others else None,
        sure="likely" if likely else "a guess" if others else "sure",
        told=said,
    )


def of_comebacks(row: Sequence[Comeback]) -> BackOff:
    """The back-off with which a client came back for one item, in order."""
    asked = [one.asked_wait for one in row]
    return analyse([one.delay for one in row], asked if any(wait is not None for wait in asked) else ())


# ---- behind them ---------------------------------------------------------------------------------


def _telling(gaps: Sequence[float], told: Told) -> tuple[float | None, ...]:
    """The gaps to the millisecond, with None in place of each that a Retry-After demanded."""
    asked = [*told, *[None] * (len(gaps) - len(told))]
    return tuple(None if t and _demanded(gap, t) else round(gap, 3) for gap, t in zip(gaps, asked, strict=True))


def _demanded(gap: float, told: float) -> bool:
    return told * 0.995 <= gap <= told * (1 + CLOSE) + 1


def _enough(telling: Sequence[float | None]) -> bool:
    return sum(gap is not None for gap in telling) >= ENOUGH


def _possible(telling: tuple[float | None, ...]) -> tuple[Family, ...]:
    if not _enough(telling):
        return ()
    found = families.fits(telling)
    order = sorted((name for name in REGULAR if name in found), key=lambda name: -found[name].likelihood)
    return tuple(name for name in order if families.p_value(found, name) >= CONTRADICTED) or ("irregular",)


def _contradicts(telling: tuple[float | None, ...], claim: str) -> bool:
    return _enough(telling) and families.p_value(families.fits(telling), claim) < CONTRADICTED


def _jitter(form: Form) -> Jitter:
    match form.kind:
        case "proportional":
            return Jitter("proportional", form.width / (2 - form.width))
        case "added":
            return Jitter("added", form.width)
    return Jitter(form.kind)


def _settled_by(telling: tuple[float | None, ...], best: Family, form: Form) -> int | None:
    """How many more gaps of this form leave it as the only possible family."""
    more = families.ahead(form, best, telling, MORE[-1])
    return next((n for n in MORE if _possible(telling + more[:n]) == (best,)), None)
