"""Rules about the retry after a 421 (Misdirected Request)."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, not_exercised
from notnow.conduct.reading.http.asked import request
from notnow.conduct.reading.http.retries import CALL, after_421, has_name, statuses, told
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.http.behind import OTHER_CLIENTS
from notnow.conduct.rules.rule import rule
from notnow.units import plural, show, times


@rule(
    "http.retry-elsewhere",
    title="The client retries a request that got a 421 on another connection, or not at all.",
    level="advice",
    source="RFC 9110 §15.5.20: a client MAY retry, whatever the method, over a different connection; a retry on the same one is neither allowed nor forbidden",
    why="This connection cannot serve the host, so the same one answers 421 again.",
    occasion="a request that got a 421 and came again",
    proof="the connection on which the same request comes again after a 421",
    innocent="the same request side by side; another body or Idempotency-Key; a 421 that is left to the caller",
    example="C: GET b.site.test/   (connection 1)\nS: 421 Misdirected Request\nC: GET b.site.test/   (connection 1)",
    proxy=OTHER_CLIENTS,
)
def goes_elsewhere(run: Run) -> Finding:
    left = not_exercised("no request was repeated: a retry is allowed, but not required")
    seen = lambda n: f"asked again {plural(n, 'time')}, on another connection"  # noqa: E731
    return over(map(_elsewhere, after_421(run)), seen, left if statuses(run)[421] else NOT_EXERCISED)


def _elsewhere(pair: tuple[Try, Try]) -> Finding:
    before, again = pair
    if again.connection is not before.connection:
        return HELD
    why = f"{request(again.began).method} was asked again on the connection that had answered 421"
    return broken(why, before.began, again.began)


@rule(
    "http.retry-once",
    title="The client retries a request once after a 421, and reports a second 421 to its caller.",
    level="advice",
    source="WHATWG Fetch (HTTP-network-or-cache fetch), Chromium, Firefox; httpwg/http-core #789",
    why="If the names or the certificate are wrong, every connection answers 421, forever.",
    occasion="a retry that got a 421, too",
    proof=f"the same request a third time within {show(CALL)} after two 421s in a row",
    innocent=f"the same request side by side; a new call, more than {show(CALL)} later",
    example="C: GET a.site.test/\nS: 421 Misdirected Request   (three times on three connections)",
    proxy=OTHER_CLIENTS,
)
def retries_once(run: Run) -> Finding:
    return over(_second_421s(run), lambda _: f"told 421 {times(statuses(run)[421])}, and one retry at most")


def _second_421s(run: Run) -> Iterator[Finding]:
    for first, second in after_421(run):
        third = second.later
        if told(second) != 421 or second.started_at - first.started_at > CALL:
            continue
        if third is None or third.started_at - first.started_at > CALL:
            yield HELD
        else:
            yield broken("after the second 421 it asked a third time", first.began, second.began, third.began)


@rule(
    "http.retry-for-origin",
    title="The client retries after a 421 on a connection that was made for the request's own host.",
    level="advice",
    source="RFC 9110 §15.5.20 (a fresh connection specific to the target resource's origin); Chromium, Firefox",
    why="A connection that was made for another host is as wrong as the first.",
    occasion="a request for a host with a name that got a 421 and came again on another connection over TLS",
    proof="the SNI of the retry's connection, compared with the authority of the request",
    innocent="a host that no SNI can carry: an address, or a name that is not fully qualified (RFC 6066 §3)",
    example="C: GET b.site.test/   (SNI a.site.test)\nS: 421 Misdirected Request\nC: GET b.site.test/   (another connection, SNI a.site.test)",
)
def retries_for_the_origin(run: Run) -> Finding:
    return over(_retried_elsewhere(run), lambda n: f"{plural(n, 'time')} on a connection with its SNI")


def _retried_elsewhere(run: Run) -> Iterator[Finding]:
    for before, again in after_421(run):
        tls, host = again.connection.tls, request(again.began).host
        if again.connection is before.connection or tls is None or not has_name(host):
            continue
        if tls.sni is not None and tls.sni.lower() == host:
            yield HELD
        else:
            why = f"the retry for {host} came on a connection that was made for {tls.sni or 'nobody'}"
            yield broken(why, before.began, again.began)
