"""How a client comes back after a refusal: how often, when, where, and for how long."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import inf

from notnow.conduct.expectations import first_unmet, unmet
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading import attempts
from notnow.conduct.reading.attempts import TOLERANCE
from notnow.conduct.reading.comebacks import Comebacks, comebacks
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange, Journal
from notnow.units import seconds, show
from notnow.units import times as _often

Bound = float | str | tuple[float | str, float | str]  # at least so many seconds, or a range


def retried(
    run: Run,
    times: int | tuple[int, int] | None = None,
    within: float | str | None = None,
    first_delay: Bound | None = None,
    shape: str | None = None,
    count: int | None = None,
) -> Finding:
    """The client tried again after a refusal, as often, as soon and with the back-off that was asked for.

    `count`: how many items the client was given. Without it, the finding is inconclusive where a try may have been of
    another item.
    """
    refused = attempts.refusals(run.exchanges)
    if not refused:
        seen = f"{_nothing_refused(run)}: there was nothing to retry"
        return unmet("the client to try again after a refusal", seen)
    found = comebacks(run, count)
    least, most = times if isinstance(times, tuple) else (1 if times is None else times, None)
    return first_unmet(
        (
            HELD if within is None else _soon(found, refused[0], least, seconds(within)),
            _often_enough(found, refused[-1], least, most),
            HELD if first_delay is None else _first_delay(found, first_delay),
            HELD if shape is None else _backoff(found, shape),
        )
    )


def _in_doubt(found: Comebacks, expected: str) -> Finding:
    doubt = found.doubt()
    return Finding("inconclusive", doubt.why, doubt.evidence, expected, doubt.settled_by)


def _soon(found: Comebacks, refusal: Exchange, least: int, within: float) -> Finding:
    fewest, most = found.bounds(_answered_at(refusal) + within + TOLERANCE)
    if fewest >= least:
        return HELD
    expected = f"the client to try again {_often(least)} within {show(within)} of the first refusal"
    return _in_doubt(found, expected) if most >= least else unmet(expected, _how_often(fewest), [refusal])


def _often_enough(found: Comebacks, refusal: Exchange, least: int, most: int | None) -> Finding:
    fewest, many = found.bounds()
    ceiling = inf if most is None else most
    if least <= fewest and many <= ceiling:
        return HELD
    how = (
        f"at least {_often(least)}" if most is None else _often(least) if least == most else f"{least} to {most} times"
    )
    expected = f"the client to try again {how}"
    if least <= many and fewest <= ceiling:
        return _in_doubt(found, expected)
    evidence = [one.attempt.began for one in found.proved] or [one.began for one in found.unnamed]
    return unmet(expected, _how_often(fewest), evidence or [refusal])


def _first_delay(found: Comebacks, bound: Bound) -> Finding:
    least, most = (seconds(bound[0]), seconds(bound[1])) if isinstance(bound, tuple) else (seconds(bound), inf)
    what = f"at least {show(least)}" if most == inf else f"{show(least)} to {show(most)}"
    first, latest = found.first
    if first is None:
        expected = f"a first delay of {what}"
        return _in_doubt(found, expected) if found.bounds()[1] else unmet("a first delay", "it never tried again")
    if first.delay >= least - TOLERANCE and latest <= most + TOLERANCE:
        return HELD
    if latest >= least - TOLERANCE and first.delay <= most + TOLERANCE and latest > first.delay:
        return _in_doubt(found, f"a first delay of {what}")
    return unmet(f"a first delay of {what}", f"it was {show(first.delay)}", [first.before.by, first.attempt.began])


def _backoff(found: Comebacks, wanted: str) -> Finding:
    """The gaps of the item that was tried most often do not contradict this family. A gap that a Retry-After demanded
    says nothing.
    """
    from notnow.conduct.reading.waits import backoff  # five modules for one key of `retried`
    from notnow.conduct.reading.waits.families import ENOUGH

    expected = f"{'an' if wanted[0] in 'aeiou' else 'a'} {wanted} back-off"
    if not found.alone and (found.unnamed or found.unclear):
        return _in_doubt(found, expected)
    row = found.longest
    gaps, told = [one.delay for one in row], [one.asked_wait for one in row]
    listed = ", ".join(show(gap) for gap in gaps)
    if not backoff.possible(gaps, told):
        few = f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''} ({listed})" if gaps else "no gap"
        many = " that no Retry-After demanded" if len(gaps) >= ENOUGH else ""
        return unmet(expected, f"{few} cannot tell: it takes {ENOUGH}{many}")
    against = backoff.contradiction(gaps, wanted, told)
    if against is None:
        return HELD
    why = f"gap {against.by + 1} ({show(gaps[against.by])}) contradicts {wanted} (p {_share(against.p)})"
    seen = f"the gaps were {listed}: {backoff.analyse(gaps, told).in_words()}; {why}"
    return unmet(expected, seen, [one.attempt.began for one in row])


def _share(p: float) -> str:
    return f"= {p:.1g}" if p >= 0.0001 else "< 0.0001"


def new_connection_after(run: Run, code: int) -> Finding:
    """After each refusal with this code that the client came back from, it did so on another connection."""
    expected = f"the client to come back on another connection after a {code}"
    told = [x for x in attempts.refusals(run.exchanges) if code in x.codes]
    if not told:
        return unmet(expected, f"it was never told {code}" if run.exchanges else "nobody connected")
    found = comebacks(run)
    pairs = [one for row in found.chains for one in row if code in _codes(one.before)]
    for one in pairs:
        if one.attempt.connection is one.before.connection:
            seen = f"it tried again on the same one, #{one.attempt.connection.number}"
            return unmet(expected, seen, [one.before.by, one.attempt.began])
    if pairs or _went_on_elsewhere(found, told):
        return HELD
    fewest, most = found.bounds()
    if any(code in _codes(one) for one in found.unnamed) and most:
        return HELD if fewest else _in_doubt(found, expected)  # a refused connection can only be followed by another
    doubtful = any(code in _codes(item.tries[-1]) for item in found.unclear)
    return _in_doubt(found, expected) if doubtful else unmet(expected, "it never tried again", told[-1:])


def _codes(one: Try) -> Sequence[int]:
    """The codes with which a try was refused; for one that the client began after the close, those of the close."""
    if isinstance(one.by, Exchange):
        return one.by.codes
    return [code for x in one.by.exchanges if x.refused for code in x.codes]


def _went_on_elsewhere(found: Comebacks, told: Sequence[Exchange]) -> bool:
    """True if a refusal ended no try, as one of an idle connection does, and the client went on elsewhere."""
    ended = {id(one.by) for one in found.tries}
    latest: dict[tuple[Journal, str], Try] = {one.client: one for one in found.tries}
    for x in told:
        after = latest.get((x.connection.journal, x.connection.client))
        if id(x) not in ended and after is not None and after.started_index > x.index:
            return after.connection is not x.connection
    return False


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


def gave_up(run: Run, after: float | str) -> Finding:
    """The client tried each item for that long after its first refusal, and then gave up."""
    expected, limit = f"the client to try for {show(seconds(after))} and then give up", seconds(after)
    if not attempts.refusals(run.exchanges):
        return unmet(expected, _nothing_refused(run))
    found = comebacks(run)
    if found.alone:
        return _tried_until(found.tries, expected, limit)
    finding = first_unmet(_tried_until(row, expected, limit) for row in _refused_rows(found))
    if not found.unnamed and not found.unclear:
        return finding
    together = _tried_until(found.tries, expected, limit)  # as if all tries were of one item
    return finding if finding.outcome == together.outcome == "broken" else _in_doubt(found, expected)


def _refused_rows(found: Comebacks) -> Iterator[Sequence[Try]]:
    """The tries of each item that was refused: of those that never came through, if there are any."""
    refused = [item for item in found.ledger.items if not item.repeatable or item.tries[0].ending != "accepted"]
    failed = [item for item in refused if any(one.ending != "accepted" for one in item.tries)]
    left = [item for item in failed if item.state not in ("delivered", "duplicated")]
    yield from (found.rows[item] for item in left or failed)


def _tried_until(tries: Sequence[Try], expected: str, limit: float) -> Finding:
    first = next((i for i, one in enumerate(tries) if one.ending != "accepted"), 0)
    start, later = tries[first].ended_at, tries[first + 1 :]
    times = [0.0, *(one.started_at - start for one in later)]
    # A sender that checks the age after a failed try gives up with the first try at or past the limit.
    late = [one.began for at, one in zip(times, later, strict=False) if at >= limit]
    if late:
        return unmet(expected, f"it still tried after {show(times[-1])}", late)
    # The last try may come before the limit by a whole interval: as much as lay between the last two.
    gap = times[-1] - times[-2] if len(times) > 1 else 0.0
    if times[-1] + gap < limit - TOLERANCE:
        return unmet(expected, f"its last try came after {show(times[-1])}", [tries[-1].began])
    return HELD


def never_exceeded(connections: Collection[Connection], most: int) -> Finding:
    """The client never had more than `most` connections at a time; refused ones count too."""
    seen, culprit = attempts.peak(connections)
    if seen <= most or culprit is None:
        return HELD
    return unmet(f"at most {most} connections at a time", f"there were {seen}", [culprit])


def _answered_at(refusal: Exchange) -> float:
    return refusal.at if refusal.answered_at is None else refusal.answered_at


def _nothing_refused(run: Run) -> str:
    return "nothing was refused" if run.exchanges else "nobody connected, so nothing was refused"


def _how_often(times: int) -> str:
    return f"it tried again {_often(times)}" if times else "it never tried again"
