"""What is expected of HTTP requests: their connections, hosts, delays and bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from notnow.conduct.expectations import first_unmet, unmet, without_occasion
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading import attempts
from notnow.conduct.reading.ledger import COUNT, Try
from notnow.conduct.reading.run import Run
from notnow.hosts import is_address
from notnow.journal import Connection, Exchange, Request
from notnow.units import show


def sni_matches_authority(exchanges: Iterable[Exchange]) -> Finding:
    """Each request over TLS came on a connection whose SNI is the request's host."""
    expected = "every request on a connection that was made for its host"
    secure = [(x, x.connection.tls) for x in _requests(exchanges) if x.connection.tls is not None]
    if not secure:
        return without_occasion(expected, "no request came in TLS")
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


def retry_after_honoured(run: Run) -> Finding:
    """Requests refused with a Retry-After came back, and no sooner than that (RFC 9110 §10.2.3)."""
    expected = "the client to come back when Retry-After has said"
    asked = ((x, attempts.asked_wait(x)) for x in attempts.refusals(run.exchanges))
    told = {x: wait for x, wait in asked if wait is not None}
    if not told:
        return without_occasion(expected, "nothing was refused with a Retry-After")
    found = [(before, again) for before, again in _retries(run) if before.by in told and again.knew_of(before)]
    for before, again in found:
        assert isinstance(before.by, Exchange)
        (wait, tolerance), delay = told[before.by], again.started_at - before.ended_at
        if delay < wait - tolerance:
            said = _request(before.by).retry_after
            seen = f"it was told to wait {show(wait)} (Retry-After: {said}), and waited {show(delay)}"
            return unmet(expected, seen, [before.by, again.began])
    doubtful = [item for item in run.ledger.of_state("in doubt") if item.in_doubt and item.tries[-1].by in told]
    if not found and doubtful:
        return Finding(
            "inconclusive", f"{doubtful[0].name}: {doubtful[0].doubt}", (doubtful[0].tries[-1].by,), expected, COUNT
        )
    return HELD if found else unmet(expected, "it never came back", list(told)[-1:])


def _retries(run: Run) -> Iterator[tuple[Try, Try]]:
    """Each try that the ledger proves to repeat another one, with that one."""
    return ((one.earlier, one) for one in run.ledger.retries if one.earlier is not None)


def body_replayed(run: Run) -> Finding:
    """Each request with a body that came back had the same body again, all of it."""
    found = [(before, again) for before, again in _in_place(run) if _size(before) or _size(again)]
    if not found:
        return without_occasion(_BODY_EXPECTED, "no request with a body came back")
    return first_unmet(map(_same_body, found))


_BODY_EXPECTED = "each request that came back to have its whole body again"
_ANOTHER = "an Idempotency-Key in the requests"


def _in_place(run: Run) -> Iterator[tuple[Try, Try]]:
    """Each request that a rule refused, and what came in its place: its retry, or else the next of that method and URL.

    A client that is refused early may not yet have sent any of the body, so either tells of it.
    """
    waiting: dict[tuple[str, str], Try] = {}
    for one in run.ledger.tries:
        if one.began.http is None:
            continue
        key, before = (one.connection.client, one.began.request), one.earlier
        if before is None and key in waiting and one.knew_of(waiting[key]):
            before = waiting.pop(key)
        if before is not None and before.began.http is not None and before.ending != "accepted":
            yield before, one
        if one.later is None and one.began.refused and one.began.fault is not None:
            waiting[key] = one


def _same_body(pair: tuple[Try, Try]) -> Finding:
    before, again = pair
    size, evidence = _size(again), [before.began, again.began]
    if _request(again.began).body_sha256 is None:
        seen = f"only {size} bytes of it have come" if size else "it came without a body"
        return unmet(_BODY_EXPECTED, seen, evidence)
    if _request(before.began).body_sha256 in (None, _request(again.began).body_sha256):
        return HELD
    seen = f"the body was another, or it was another request: {_size(before)} bytes before, {size} after"
    return Finding("inconclusive", seen, tuple(evidence), _BODY_EXPECTED, _ANOTHER)


def _size(one: Try) -> int:
    return _request(one.began).body_bytes


def _requests(exchanges: Iterable[Exchange]) -> list[Exchange]:
    return [x for x in exchanges if x.http is not None]


def _request(exchange: Exchange) -> Request:
    """The request of an exchange that has one."""
    assert exchange.http is not None
    return exchange.http
