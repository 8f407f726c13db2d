"""Rules about the retry after a 421 (Misdirected Request)."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.reading.http import CALL, has_name, has_status, repeats, request
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import plural, show, times


@rule(
    "http.retry-elsewhere",
    title="The client retries a request that got a 421 on another connection, or not at all.",
    level="advice",
    source="RFC 9110 §15.5.20: a client MAY retry, whatever the method, over a different connection; a retry on the same one is neither allowed nor forbidden",
    why="This connection cannot serve the host, so the same one answers 421 again.",
    proof="the connection on which the same request comes again after a 421",
    example="C: GET b.site.test/   (connection 1)\nS: 421 Misdirected Request\nC: GET b.site.test/   (connection 1)",
)
def goes_elsewhere(run: Run) -> Finding:
    elsewhere = 0
    for before, again in repeats(run):
        if has_status(before, 421):
            if again.connection is before.connection:
                why = f"{request(again).method} was asked again on the connection that had answered 421"
                return broken(why, before, again)
            elsewhere += 1
    if elsewhere:
        return held(f"asked again {plural(elsewhere, 'time')}, on another connection")
    if any(has_status(x, 421) for x in run.requests):
        return not_exercised("nothing was asked again: a retry is allowed, and not asked for")
    return NOT_EXERCISED


@rule(
    "http.retry-once",
    title="The client retries a request once after a 421, and reports a second 421 to its caller.",
    level="advice",
    source="WHATWG Fetch (HTTP-network-or-cache fetch), Chromium, Firefox; httpwg/http-core #789",
    why="If the names or the certificate are wrong, every connection answers 421, forever.",
    proof=f"the same request, again and again within {show(CALL)}; after that it counts as a new call",
    example="C: GET a.site.test/\nS: 421 Misdirected Request   (three times on three connections)",
)
def retries_once(run: Run) -> Finding:
    told, new = 0, 0
    for tries in run.tries:
        streak: list[Exchange] = []  # the 421s in a row within one call
        for x in tries:
            if streak and x.at - streak[0].at > CALL:
                streak, new = [], new + 1
            if len(streak) == 2:
                return broken("after the second 421 it asked a third time", *streak, x)
            streak = [*streak, x] if has_status(x, 421) else []
            told += has_status(x, 421)
    if not told:
        return NOT_EXERCISED
    later = f"; {new} came again more than {show(CALL)} later: taken for new calls" if new else ""
    return held(f"told 421 {times(told)}, and one retry at most{later}")


@rule(
    "http.retry-for-origin",
    title="The client retries after a 421 on a connection that was made for the request's own host.",
    level="advice",
    source="RFC 9110 §15.5.20 (a fresh connection specific to the target resource's origin); Chromium, Firefox",
    why="A connection that was made for another host is as wrong as the first.",
    proof="the SNI of the retry's connection, compared with the authority of the request",
    example="C: GET b.site.test/   (SNI a.site.test)\nS: 421 Misdirected Request\nC: GET b.site.test/   (another connection, SNI a.site.test)",
)
def retries_for_the_origin(run: Run) -> Finding:
    matched = 0
    for before, again in repeats(run):
        if not has_status(before, 421) or again.connection is before.connection:
            continue
        tls, host = again.connection.tls, request(again).host
        if tls is None or not has_name(host):
            continue
        if tls.sni is None or tls.sni.lower() != host:
            why = f"the retry for {host} came on a connection that was made for {tls.sni or 'nobody'}"
            return broken(why, before, again)
        matched += 1
    return held(f"{plural(matched, 'time')} on a connection with its SNI") if matched else NOT_EXERCISED
