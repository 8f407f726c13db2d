"""What is expected of HTTP requests: their connections, hosts, delays and bodies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from notnow.conduct.expectations import first_unmet, unmet, without_occasion
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading import attempts
from notnow.conduct.reading.attempts import Retry
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


def retry_after_honoured(exchanges: Sequence[Exchange]) -> Finding:
    """Requests refused with a Retry-After came back, and no sooner than that (RFC 9110 §10.2.3)."""
    expected = "the client to come back when Retry-After has said"
    told = [x for x in attempts.refusals(exchanges) if attempts.asked_wait(x) is not None]
    if not told:
        return without_occasion(expected, "nothing was refused with a Retry-After")
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
        return without_occasion(_BODY_EXPECTED, "no request with a body came back")
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
