"""How a client comes back after a refusal: how often, when, where, and for how long."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from notnow.conduct.expectations import HELD, first_unmet, unmet
from notnow.conduct.finding import Finding
from notnow.conduct.reading import attempts
from notnow.conduct.reading.attempts import TOLERANCE, Retry
from notnow.journal import Connection, Exchange, Journal
from notnow.units import seconds, show
from notnow.units import times as _often

Bound = float | str | tuple[float | str, float | str]  # at least so many seconds, or a range


def retried(
    exchanges: Sequence[Exchange],
    times: int | tuple[int, int] | None = None,
    within: float | str | None = None,
    first_delay: Bound | None = None,
    shape: str | None = None,
) -> Finding:
    """The client tried again after a refusal, as often, as soon and with the back-off that was asked for."""
    refused = attempts.refusals(exchanges)
    if not refused:
        seen = f"{_nothing_refused(exchanges)}: there was nothing to retry"
        return unmet("the client to try again after a refusal", seen)
    found = attempts.retries(exchanges)
    least, most = times if isinstance(times, tuple) else (1 if times is None else times, None)
    return first_unmet(
        (
            HELD if within is None else _soon(found, refused[0], least, seconds(within)),
            _often_enough(found, refused[-1], least, most),
            HELD if first_delay is None else _first_delay(found, first_delay),
            HELD if shape is None else _backoff(found, shape),
        )
    )


def _soon(found: Sequence[Retry], refusal: Exchange, least: int, within: float) -> Finding:
    start = _answered_at(refusal)
    soon = [retry for retry in found if retry.attempt.at - start <= within + TOLERANCE]
    if len(soon) >= least:
        return HELD
    expected = f"the client to try again {_often(least)} within {show(within)} of the first refusal"
    return unmet(expected, _how_often(soon), [refusal])


def _often_enough(found: Sequence[Retry], refusal: Exchange, least: int, most: int | None) -> Finding:
    if least <= len(found) and (most is None or len(found) <= most):
        return HELD
    how = (
        f"at least {_often(least)}" if most is None else _often(least) if least == most else f"{least} to {most} times"
    )
    evidence = [retry.attempt for retry in found] or [refusal]
    return unmet(f"the client to try again {how}", _how_often(found), evidence)


def _first_delay(found: Sequence[Retry], bound: Bound) -> Finding:
    least, most = (seconds(bound[0]), seconds(bound[1])) if isinstance(bound, tuple) else (seconds(bound), None)
    if not found:
        return unmet("a first delay", "it never tried again")
    delay = found[0].delay
    if delay >= least - TOLERANCE and (most is None or delay <= most + TOLERANCE):
        return HELD
    what = f"at least {show(least)}" if most is None else f"{show(least)} to {show(most)}"
    return unmet(f"a first delay of {what}", f"it was {show(delay)}", [found[0].refusal, found[0].attempt])


def _backoff(found: Sequence[Retry], wanted: str) -> Finding:
    """The gaps do not contradict this family. A gap that a Retry-After demanded says nothing."""
    from notnow.conduct.reading.waits import backoff  # five modules for one key of `retried`
    from notnow.conduct.reading.waits.families import ENOUGH

    gaps, told = [retry.delay for retry in found], backoff.told(found)
    listed = ", ".join(show(gap) for gap in gaps)
    expected = f"{'an' if wanted[0] in 'aeiou' else 'a'} {wanted} back-off"
    if not backoff.possible(gaps, told):
        few = f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''} ({listed})" if gaps else "no gap"
        many = " that no Retry-After demanded" if len(gaps) >= ENOUGH else ""
        return unmet(expected, f"{few} cannot tell: it takes {ENOUGH}{many}")
    against = backoff.contradiction(gaps, wanted, told)
    if against is None:
        return HELD
    why = f"gap {against.by + 1} ({show(gaps[against.by])}) contradicts {wanted} (p {_share(against.p)})"
    seen = f"the gaps were {listed}: {backoff.analyse(gaps, told).in_words()}; {why}"
    return unmet(expected, seen, [retry.attempt for retry in found])


def _share(p: float) -> str:
    return f"= {p:.1g}" if p >= 0.0001 else "< 0.0001"


def new_connection_after(exchanges: Sequence[Exchange], code: int) -> Finding:
    """After each refusal with this code that the client came back from, it did so on another connection."""
    expected = f"the client to come back on another connection after a {code}"
    told = [x for x in attempts.refusals(exchanges) if code in x.codes]
    if not told:
        return unmet(expected, f"it was never told {code}" if exchanges else "nobody connected")
    found = [retry for retry in attempts.retries(exchanges) if code in retry.refusal.codes]
    if not found:
        return unmet(expected, "it never tried again", told[-1:])
    for retry in found:
        connection = retry.attempt.connection
        if connection is retry.refusal.connection:
            seen = f"it tried again on the same one, #{connection.number}"
            return unmet(expected, seen, [retry.refusal, retry.attempt])
    return HELD


def fell_back(journal: Journal, other: Journal, within: float | str | None = None) -> Finding:
    """After a refusal by one server the client turned to the other; their journals share a clock."""
    expected = f"the client to fall back from {journal.server} to {other.server}"
    refused = attempts.refusals(journal.exchanges)
    if not refused:
        seen = f"{journal.server} refused nothing" if journal.exchanges else f"nobody connected to {journal.server}"
        return unmet(expected, seen)
    first = refused[0]
    turned = next((c for c in other.connections if c.index > first.index), None)
    if turned is None:
        early = other.connections[:1]
        seen = f"it had been at {other.server} before, and not since" if early else f"it never came to {other.server}"
        return unmet(expected, seen, [first, *early])
    took = turned.opened_at - _answered_at(first)
    if within is None or took <= seconds(within) + TOLERANCE:
        return HELD
    return unmet(f"{expected} within {show(seconds(within))}", f"that took {show(took)}", [first, turned])


def gave_up(exchanges: Sequence[Exchange], after: float | str) -> Finding:
    """The client tried for that long after its first refusal, and then gave up."""
    expected, limit = f"the client to try for {show(seconds(after))} and then give up", seconds(after)
    refused = attempts.refusals(exchanges)
    if not refused:
        return unmet(expected, _nothing_refused(exchanges))
    tries = [retry.attempt for retry in attempts.retries(exchanges)]
    start = _answered_at(refused[0])
    times = [0.0, *(x.at - start for x in tries)]
    # A sender that checks the age after a failed try gives up with the first try at or past the limit.
    late = [x for at, x in zip(times, tries, strict=False) if at >= limit]
    if late:
        return unmet(expected, f"it still tried after {show(times[-1])}", late)
    # The last try may come before the limit by a whole interval: as much as lay between the last two.
    gap = times[-1] - times[-2] if len(times) > 1 else 0.0
    if times[-1] + gap < limit - TOLERANCE:
        return unmet(expected, f"its last try came after {show(times[-1])}", tries[-1:] or refused[-1:])
    return HELD


def never_exceeded(connections: Collection[Connection], most: int) -> Finding:
    """The client never had more than `most` connections at a time; refused ones count too."""
    seen, culprit = attempts.peak(connections)
    if seen <= most or culprit is None:
        return HELD
    return unmet(f"at most {most} connections at a time", f"there were {seen}", [culprit])


def _answered_at(refusal: Exchange) -> float:
    return refusal.at if refusal.answered_at is None else refusal.answered_at


def _nothing_refused(exchanges: Sequence[Exchange]) -> str:
    return "nothing was refused" if exchanges else "nobody connected, so nothing was refused"


def _how_often(found: Sequence[Retry]) -> str:
    return f"it tried again {_often(len(found))}" if found else "it never tried again"
