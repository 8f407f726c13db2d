"""Rules about requests that failed in other ways than by a 421."""

from __future__ import annotations

from itertools import pairwise

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.reading.attempts import asked_wait
from notnow.conduct.reading.http import CALL, body_size, has_status, is_lost, is_refused, repeats, request
from notnow.conduct.reading.run import Run, burst
from notnow.conduct.rules.rule import rule
from notnow.http_words import IDEMPOTENT
from notnow.journal import Connection, Exchange, GoAwayFrame, RstStreamFrame
from notnow.units import plural, show

FAILURES = (421, 429, 500, 502, 503, 504)  # statuses that clients are known to retry
BUDGET = 5, 60.0  # tries of a request, and seconds: gRPC caps maxAttempts at 5
CROSSING = 0.25  # real seconds within which a new stream may have crossed the GOAWAY


@rule(
    "http.no-blind-post",
    title="The client does not repeat a non-idempotent request that got no answer.",
    level="should",
    source="RFC 9110 §9.2.2; RFC 9113 §8.7 (after REFUSED_STREAM, or on a stream above a GOAWAY's last, the request was not processed)",
    why="The server may have processed it before the connection was lost: the order is placed twice.",
    proof="the same POST or PATCH again, with the same body, after a close or reset without a whole answer; an idempotency key, which makes that safe, is not visible here",
    example="C: POST a.site.test/pay\nS: closes without a word\nC: POST a.site.test/pay",
)
def does_not_repeat_blindly(run: Run) -> Finding:
    goaways, safe, failed = _goaways(run), 0, 0
    for before, again in repeats(run):
        if request(before).method in IDEMPOTENT or not is_lost(before, again):
            continue
        hashes = request(before).body_sha256, request(again).body_sha256
        if None not in hashes and hashes[0] != hashes[1]:
            continue  # another request
        if _is_unprocessed(before, goaways):
            safe += 1
        else:
            method = request(before).method
            return broken(f"{method} got no answer, and came again: it may have been carried out twice", before, again)
    if safe:
        return held(f"{safe} came again that the server had said it had not looked at")
    for x in run.requests:
        failed += request(x).method not in IDEMPOTENT and request(x).status is None and x.refused
    return held(f"{failed} got no answer, and did not come again") if failed else NOT_EXERCISED


@rule(
    "http.no-second-blind-retry",
    title="If a retry gets no answer either, the client does not retry again.",
    level="should",
    source="RFC 9110 §9.2.2",
    why="A request that fails twice in the same way fails because of the request itself, or because the server is overloaded.",
    proof=f"the same request a third time within {show(CALL)} after two that got no answer",
    example="C: GET a.site.test/\nS: closes without a word   (twice)\nC: GET a.site.test/",
)
def does_not_repeat_a_failed_retry(run: Run) -> Finding:
    goaways, retried = _goaways(run), 0
    for tries in run.tries:
        lost: list[Exchange] = []
        for x in tries:
            if lost and not is_lost(lost[-1], x):
                lost = []
            if lost and (x.at - lost[0].at > CALL or _is_unprocessed(lost[-1], goaways)):
                lost = []
            retried += bool(lost)
            if len(lost) == 2:
                return broken("a retry got no answer either, and was tried again", *lost, x)
            lost.append(x)
    return held(f"{plural(retried, 'request')} tried again, once each") if retried else NOT_EXERCISED


@rule(
    "http.no-stream-after-goaway",
    title="After a GOAWAY the client opens no new stream on that connection.",
    level="must",
    source="RFC 9113 §6.8",
    why="The server does not serve the stream, and cannot shut down while it is open.",
    proof=f"requests on a connection more than {show(CROSSING)} after its GOAWAY; earlier ones may have crossed it on the way",
    example="S: GOAWAY NO_ERROR, last stream 1\nC: GET a.site.test/2   (stream 3, five seconds later)",
)
def heeds_goaway(run: Run) -> Finding:
    told = crossed = 0
    for exchanges in run.by_connection.values():
        goaway: Exchange | None = None
        for x in exchanges:
            if goaway is not None and x.http is not None:
                since = x.at - (goaway.answered_at if goaway.answered_at is not None else goaway.at)
                if since > CROSSING * getattr(x.connection.journal.clock, "speed", 1.0):
                    return broken(f"stream {x.http.stream} was opened {show(since)} after a GOAWAY", goaway, x)
                crossed += 1
            if goaway is None and x.sent(GoAwayFrame):
                goaway = x
                told += 1
    if not told:
        return NOT_EXERCISED
    met = f"; {plural(crossed, 'stream')} may have met it on the way" if crossed else ""
    return held(f"{plural(told, 'GOAWAY')}{met}")


@rule(
    "http.whole-body-again",
    title="When the client repeats a request, it sends the whole body again.",
    level="advice",
    source="WHATWG Fetch (no retry where the body is a stream without a source); good practice",
    why="A stream that was read once has only its rest, or nothing, left to send: the server stores half an upload as if it were whole.",
    proof="the size of the body when the request comes again, compared with the first; a different body that is no shorter counts as another request",
    example="C: POST a.site.test/up, 5000 bytes\nS: 421 Misdirected Request\nC: POST a.site.test/up, 0 bytes",
)
def replays_whole_bodies(run: Run) -> Finding:
    whole = 0
    for before, again in repeats(run):
        had, has = body_size(before), body_size(again)
        if not had or is_refused(again) or not (is_refused(before) or is_lost(before, again)):
            continue  # a refused request need not be sent whole
        complete = request(again).body_sha256 is not None or not has
        if has < had:
            return broken(f"it had {had} bytes before, and {has} when it came again", before, again)
        if not complete and again.connection.ended_by == "client" and request(again).status is None:
            return broken(f"it came again, and left after {has} bytes of it", before, again)
        whole += complete
    return held(f"{plural(whole, 'body', 'bodies')} sent again, whole") if whole else NOT_EXERCISED


@rule(
    "http.retry-after",
    title="After a 429 or 503 with Retry-After, the client waits at least as long as that says.",
    level="should",
    source="RFC 9110 §10.2.3; RFC 6585 §4",
    why="The server knows when it will have room. A client that comes earlier is refused again, and counted. On a 421 the field has no meaning.",
    proof="the time from the answer until the same request comes again",
    example="S: 503, Retry-After: 120   (0 s)\nC: the same request   (1 s)",
)
def honours_retry_after(run: Run) -> Finding:
    soonest = float("inf")
    for before, again in repeats(run):
        asked = asked_wait(before)
        if asked is None or not has_status(before, 429, 503):
            continue
        (wait, tolerance), said = asked, request(before).retry_after
        delay = again.at - (before.answered_at if before.answered_at is not None else before.at)
        if delay < wait - tolerance:
            return broken(f"told to wait {show(wait)} (Retry-After: {said}), it waited {show(delay)}", before, again)
        soonest = min(soonest, delay - wait)
    if soonest < float("inf"):
        return held(f"it came back {show(max(0.0, soonest))} after the time or later")
    if any(request(x).retry_after and has_status(x, 429, 503) for x in run.requests):
        return not_exercised("it did not come back")
    return NOT_EXERCISED


@rule(
    "http.retry-budget",
    title="The client does not retry a failing request without end.",
    level="advice",
    source="gRPC A6 (maxAttempts is 5 at most); Google SRE, Handling Overload (three attempts, retries 10 % of requests)",
    why="Retries multiply the load on a server at the moment when it is overloaded.",
    proof=f"tries of the same request, each after the failure of the one before; more than {BUDGET[0]} in {show(BUDGET[1])} are too many",
    example="C: GET a.site.test/\nS: 503 Service Unavailable   (six times in a second)",
)
def keeps_a_budget(run: Run) -> Finding:
    first = again = most = 0
    for tries in run.tries:
        streak: list[Exchange] = []
        streaks = [streak]
        for before, x in pairwise([*tries, tries[-1]]):
            streak.append(before)
            if not (has_status(before, *FAILURES) or is_lost(before, x)):
                streak = []
                streaks.append(streak)
        for streak in streaks:
            if spent := burst(streak, *BUDGET):
                return broken(f"{len(spent)} tries within {show(spent[-1].at - spent[0].at)}", *spent)
            first += bool(streak)
            again += max(0, len(streak) - 1)
            most = max(most, len(streak))
    if not again and not any(has_status(x, *FAILURES) or (x.refused and x.unanswered) for x in run.requests):
        return NOT_EXERCISED
    return held(
        f"{plural(again, 'more try', 'more tries')} for {plural(first, 'request')}, {plural(most, 'try', 'tries')} at most for one"
    )


def _goaways(run: Run) -> dict[Connection, int]:
    """The last stream that each connection serves, for connections with a GOAWAY."""
    last: dict[Connection, int] = {}
    for x in run.exchanges:
        for frame in x.sent(GoAwayFrame):
            last[x.connection] = min(frame.last_stream, last.get(x.connection, frame.last_stream))
    return last


def _is_unprocessed(exchange: Exchange, goaways: dict[Connection, int]) -> bool:
    """True if the client was told that the request was not processed (RFC 9113 §8.7)."""
    last = goaways.get(exchange.connection)
    reset = any(frame.code == "REFUSED_STREAM" for frame in exchange.sent(RstStreamFrame))
    return reset or (last is not None and request(exchange).stream > last)
