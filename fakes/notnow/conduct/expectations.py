"""What can be expected of a client. Each expectation reads exchanges of a journal and returns a Finding.

`notnow.conduct.assertions` raises from them, and `notnow.conduct.expected` judges the `[expect]` of a scenario by them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence

from notnow import protocols
from notnow.conduct.finding import Evidence, Finding, held
from notnow.conduct.reading import attempts, backoff
from notnow.conduct.reading.attempts import TOLERANCE, Retry
from notnow.conduct.reading.families import ENOUGH
from notnow.conduct.reading.ledger import COUNT, Item, Ledger, Try
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.storm import Storm
from notnow.hosts import is_address
from notnow.journal import Connection, Exchange, Journal, Request
from notnow.protocols.protocol import Words
from notnow.units import plural, seconds, show
from notnow.units import times as _often

Bound = float | str | tuple[float | str, float | str]  # at least so many seconds, or a range

HELD = held()


def unmet(expected: str, seen: str, evidence: Iterable[Evidence] = ()) -> Finding:
    """The client did not do what was expected. Where it did nothing at all, there is no evidence."""
    return Finding("broken", seen, tuple(evidence), expected)


def first_unmet(findings: Iterable[Finding]) -> Finding:
    """The first of these that was broken, or else not held; held if all were."""
    found = list(findings)
    broken = next((finding for finding in found if finding.outcome == "broken"), None)
    return broken or next((finding for finding in found if finding.outcome != "held"), HELD)


# ---- delivery ------------------------------------------------------------------------------------


def delivered(run: Run, times: int, count: int | None = None) -> Finding:
    """Each item that the client asked for came through exactly `times` times, unless it was refused for good.

    `count`: how many items there must be. Without it, the finding is inconclusive where the journal cannot tell whether
    there were more than it names.
    """
    ledger, words = run.ledger, _words(run)
    expected = f"every {words.item} to be delivered {_often(times)}"
    through = [item for item in ledger.items if item.state in ("delivered", "duplicated")]
    if not through:
        return _nothing_delivered(run, expected)
    unmets = (_item_delivered(item, times, expected) for item in ledger.items)
    finding = first_unmet(unmets)
    if count is not None:
        return _counted(run, through, count, finding)
    return finding if finding.outcome == "broken" else _in_doubt(ledger, expected) or finding


def _words(run: Run) -> Words:
    return protocols.get(run.journals[0].protocol).words


def _nothing_delivered(run: Run, expected: str) -> Finding:
    """Nothing came through; that is no fault where all of it was refused for good."""
    ledger = run.ledger
    refused = attempts.refusals(run.exchanges)
    unknown = [one for one in ledger.nameless if one.failed and not one.owners]
    known = bool(ledger.items) or any(one.ending == "refused" for one in ledger.nameless)
    if known and not unknown and not ledger.of_state("missing", "in doubt"):
        seen = "none was delivered: everything that the client asked for was refused for good"
        return Finding("not exercised", seen, expected=expected)
    interrupted = [item.tries[-1].began for item in ledger.items if item.tries][:1] if not refused else []
    seen = f"none was delivered: {why_nothing(_protocol(run), run.exchanges, refused)}"
    return unmet(expected, seen, refused[-1:] or interrupted)


def _protocol(run: Run) -> str:
    return run.journals[0].protocol


def _item_delivered(item: Item, times: int, expected: str) -> Finding:
    if item.state == "missing":
        last = item.tries[-1]
        return unmet(expected, f"{item.name} never came through: {_how_ended(last)}", [last.by])
    if item.state in ("refused", "in doubt") or item.repeatable:
        return HELD
    copies = item.copies
    spared = times == 1 and not item.surplus  # a copy that the client could not avoid is not its fault
    if spared or len(copies) == times:
        return HELD
    return unmet(expected, f"{item.name} {_fate(copies)} {_often(len(copies))}", _kept(copies))


def _counted(run: Run, through: Sequence[Item], count: int, finding: Finding) -> Finding:
    """With the number of items known, nothing is left in doubt; an item that seems lost may be one that came later."""
    refused = run.ledger.of_state("refused")
    if len(through) + len(refused) == count:
        return finding if run.ledger.of_state("duplicated") else HELD
    if finding.outcome == "broken" and len(through) + len(refused) < count:
        return finding
    seen = f"there {'was' if len(through) == 1 else 'were'} {len(through)}"
    refusals = attempts.refusals(run.exchanges)
    return unmet(f"{plural(count, _words(run).item)} to be delivered", seen, refusals[-1:])


def _in_doubt(ledger: Ledger, expected: str) -> Finding | None:
    """The journal cannot tell of some items, or of how many there are."""
    if ledger.doubts:
        doubt = ledger.doubts[0]
        return Finding("inconclusive", doubt.why, doubt.evidence, expected, doubt.settled_by)
    for item in ledger.of_state("in doubt"):
        return Finding("inconclusive", f"{item.name}: {item.doubt}", (item.tries[-1].by,), expected, COUNT)
    return None


def _how_ended(last: Try) -> str:
    """How the last try of an item ended, for a Finding."""
    if isinstance(last.by, Connection):
        return "the client asked for it only on a connection that the server had closed"
    if last.by.transfer is not None and last.by.transfer.bytes and not last.by.transfer.whole:
        return f"it was cut after {last.by.transfer.bytes} bytes"
    if not last.by.refused:
        return "the client left before it was done"
    return f"the client {_got(last.by)}"


def not_delivered(run: Run) -> Finding:
    """No message was stored, no file came through whole, no request got a good answer."""
    found = [item for item in run.ledger.items if item.state in ("delivered", "duplicated")]
    if not found:
        return HELD
    others = f", and {len(found) - 1} more came through" if len(found) > 1 else ""
    seen = f"{found[0].name} {_fate(found[0].tries)}{others}"
    proof = [one.kept or one.began for item in found for one in item.tries if one.kept or one.ending == "accepted"]
    return unmet(f"no {_words(run).item} to be delivered", seen, proof)


def no_duplicates(run: Run) -> Finding:
    """The server took nothing twice that the client could have known it had."""
    expected = f"nothing to be {_words(run).done} twice"
    for item in run.ledger.of_state("duplicated"):
        return unmet(expected, f"{item.name} {_fate(item.copies)} {_often(len(item.copies))}", _kept(item.copies))
    return HELD


def _kept(tries: Iterable[Try]) -> list[Exchange]:
    return [one.kept for one in tries if one.kept is not None]


def no_partial_files(exchanges: Iterable[Exchange], pieces: Mapping[str, int]) -> Finding:
    """No interrupted upload left a piece of a file; `pieces` are the names of such files and their sizes in bytes."""
    for name, size in pieces.items():
        seen = f"only {size} bytes of {name} have come"
        return unmet("every file to be whole", seen, uploads(exchanges, name)[-1:])
    return HELD


def uploads(exchanges: Iterable[Exchange], name: str) -> list[Exchange]:
    """The uploads of a file, in order."""
    path = path_of(name)
    asked = [(x, x.transfer) for x in exchanges]
    return [x for x, known in asked if known is not None and known.direction == "upload" and known.path == path]


def path_of(name: str) -> str:
    """The absolute path of a file, as the journal has it."""
    return "/" + posixpath.normpath("/" + name).lstrip("/")


def why_nothing(protocol: str, exchanges: Sequence[Exchange], refused: Sequence[Exchange]) -> str:
    """Why nothing came through, for a Finding; `refused` are the refusals that it tells of."""
    if not exchanges:
        return "nobody connected"
    unfinished = protocols.get(protocol).words.unfinished
    if not refused:
        return f"the client never came to the end of a {unfinished}"
    last, count = refused[-1], len(attempts.retries(exchanges))
    told = f"it {_got(last)} at {last.moment}"
    if any(x.index > last.index and x.moment in attempts.ATTEMPTS for x in exchanges):
        return f"the client came back and got no {unfinished} through; the last time that it was refused, {told}"
    if count:
        return f"the client came back {_often(count)} and was refused again: the last time {told}"
    return f"the client {_got(last)} at {last.moment} and did not come back"


def _fate(tries: Iterable[Try]) -> str:
    """What became of an item that came through."""
    proof = [one.kept or one.began for one in tries]
    if any(x.http is not None for x in proof):
        return "was carried out"
    return "was stored" if any(x.stored for x in proof) else "was made"


def _got(exchange: Exchange) -> str:
    """The reply that the client was told, or what it got in place of one."""
    return f"was told {exchange.told!r}" if exchange.told in exchange.lines else f"got {exchange.told}"


# ---- coming back ---------------------------------------------------------------------------------


def retried(
    exchanges: Sequence[Exchange],
    times: int | tuple[int, int] | None = None,
    within: float | str | None = None,
    first_delay: Bound | None = None,
    shape: str | None = None,
) -> Finding:
    """The client tried again after a refusal: so often, so soon, and with such a back-off."""
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
    """The client tried until so long after its first refusal, and then no more."""
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
        return unmet(expected, f"the last that was seen of it was after {show(times[-1])}", tries[-1:] or refused[-1:])
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


# ---- load ----------------------------------------------------------------------------------------


def amplification(storm: Storm, at_most: float) -> Finding:
    """The client made at most so many tries an item, on average."""
    expected = f"at most {at_most:g} tries an item"
    if storm.amplification is None:
        return unmet(expected, "the client asked for no item")
    if storm.amplification <= at_most:
        return HELD
    return unmet(expected, f"there were {storm.amplification:.2f}: {storm.in_words()}")


def drained(storm: Storm, within: float | str) -> Finding:
    """The last item was through within this time of the server's recovery."""
    expected = f"the last item to be through within {show(seconds(within))} of the recovery"
    if storm.drained is None:
        return unmet(expected, "nothing came through after a refusal")
    if storm.drained <= seconds(within) + TOLERANCE:
        return HELD
    return unmet(expected, f"it took {show(storm.drained)}")


# ---- requests ------------------------------------------------------------------------------------


def sni_matches_authority(exchanges: Iterable[Exchange]) -> Finding:
    """Each request over TLS came on a connection whose SNI is the request's host."""
    expected = "every request on a connection that was made for its host"
    secure = [(x, x.connection.tls) for x in _requests(exchanges) if x.connection.tls is not None]
    if not secure:
        return unmet(expected, "no request came in TLS")
    for request, tls in secure:
        host, sni = _request(request).host, tls.sni
        if sni is None and not is_address(host):  # RFC 6066 §3: an SNI names no address
            return unmet(expected, f"one for {host} came on a connection without an SNI", [request])
        if sni is not None and sni.lower() != host:
            return unmet(expected, f"one for {host} came on a connection with the SNI {sni}", [request])
    return HELD


def not_coalesced(exchanges: Iterable[Exchange]) -> Finding:
    """No connection carried requests for more than one host (RFC 9113 §9.1.1)."""
    hosts: dict[Connection, str] = {}
    for request in _requests(exchanges):
        host = _request(request).host
        first = hosts.setdefault(request.connection, host)
        if host != first:
            seen = f"#{request.connection.number} carried requests for {first} and for {host}"
            return unmet("a connection for each host", seen, [request])
    return HELD


def retry_after_honoured(exchanges: Sequence[Exchange]) -> Finding:
    """Requests refused with a Retry-After came back, and no sooner than that (RFC 9110 §10.2.3)."""
    expected = "the client to come back when Retry-After has said"
    told = [x for x in attempts.refusals(exchanges) if attempts.asked_wait(x) is not None]
    if not told:
        return unmet(expected, "nothing was refused with a Retry-After")
    asked = [(retry, attempts.asked_wait(retry.refusal)) for retry in attempts.retries(exchanges)]
    found = [(retry, wait) for retry, wait in asked if wait is not None]
    if not found:
        return unmet(expected, "it never came back", told[-1:])
    for retry, (wait, tolerance) in found:
        if retry.delay < wait - tolerance:
            said = _request(retry.refusal).retry_after
            seen = f"it was told to wait {show(wait)} (Retry-After: {said}), and waited {show(retry.delay)}"
            return unmet(expected, seen, [retry.refusal, retry.attempt])
    return HELD


def body_replayed(exchanges: Sequence[Exchange]) -> Finding:
    """Each request with a body that came back had the same body again, all of it."""
    found = [retry for retry in attempts.retries(exchanges) if _has_body(retry)]
    if not found:
        seen = "no request with a body came back"
        return unmet(_BODY_EXPECTED, seen, attempts.refusals(exchanges)[-1:])
    return first_unmet(map(_same_body, found))


_BODY_EXPECTED = "each request that came back to have its whole body again"


def _has_body(retry: Retry) -> bool:
    """A client that is refused early may not yet have sent any of the body, so either try tells of it."""
    return bool(_body(retry.refusal)[0] or _body(retry.attempt)[0])


def _same_body(retry: Retry) -> Finding:
    (size_before, before), (size, after) = _body(retry.refusal), _body(retry.attempt)
    evidence = [retry.refusal, retry.attempt]
    if after is None:
        seen = f"only {size} bytes of it have come" if size else "it came without a body"
        return unmet(_BODY_EXPECTED, seen, evidence)
    if before not in (None, after):
        return unmet(_BODY_EXPECTED, f"the body was another: {size_before} bytes before, {size} after", evidence)
    return HELD


def _body(exchange: Exchange) -> tuple[int, str | None]:
    """The bytes of a request's body that came, and the hash of a whole one. A refused connection has no request."""
    request = exchange.http
    return (0, None) if request is None else (request.body_bytes, request.body_sha256)


def _requests(exchanges: Iterable[Exchange]) -> list[Exchange]:
    return [x for x in exchanges if x.http is not None]


def _request(exchange: Exchange) -> Request:
    """The request of an exchange that has one."""
    assert exchange.http is not None
    return exchange.http
