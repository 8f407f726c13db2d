"""Rules about how soon and how often a request comes again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, held, inconclusive, not_exercised
from notnow.conduct.reading.attempts import TOLERANCE, asked_wait
from notnow.conduct.reading.http.asked import request, request_of
from notnow.conduct.reading.http.requests import CROSSING, speed
from notnow.conduct.reading.http.retries import failures, recurring, statuses, surely_knew, told, tries, whose
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.http.behind import OTHER_CLIENTS
from notnow.conduct.rules.rule import ForProxy, rule
from notnow.http_words import SAFE
from notnow.units import plural, show, times

STORM = 5, 1.0  # tries of a request, and seconds: no back-off that deserves the name comes so often
BUDGET = 10, 60.0  # likewise: gRPC caps maxAttempts at 5, stamina stops after 10 in 45 s

# Statuses that say that the same request will never do, and that no field which the journal lacks could have changed.
FINAL = frozenset({400, 403, 404, 405, 410, 413, 414, 422, 451, 501, 505})
SOON = 1.0  # seconds: a client that asks again later may be polling
STREAK = 5  # refusals in a row after which a client can know that the server is in trouble
CROWD = 3  # requests that come at once are no probe


# ---- Retry-After ---------------------------------------------------------------------------------


@rule(
    "http.retry-after",
    title="After a 429 or 503 with Retry-After, the client waits at least as long as it says.",
    level="should",
    source="RFC 9110 §10.2.3; RFC 6585 §4",
    why="The server knows when it will have room. A client that comes earlier is refused again, and uses up more of its quota. On a 421 the field has no meaning.",
    occasion="a 429 or 503 with Retry-After, and the same request again",
    proof="the time from the answer until the same request comes again",
    innocent="requests side by side, or on their way when the answer was sent; the resolution of clocks; a date, which has no fractions of a second",
    example="S: 503, Retry-After: 120   (0 s)\nC: the same request   (1 s)",
    proxy=ForProxy(
        "Retry-After tells the user agent how long to wait, and an intermediary forwards it (RFC 9110 §10.2.3)",
        free=True,
    ),
)
def honours_retry_after(run: Run) -> Finding:
    soonest = float("inf")
    asking = [one.item for one in tries(run) if _asks_to_wait(one)] if any(map(statuses(run).get, (429, 503))) else []
    for item in dict.fromkeys(filter(None, asking)):
        for before, wait, tolerance, again in _waits(item):
            delay = again.started_at - before.ended_at
            if delay < wait - tolerance:
                said = request(before.began).retry_after
                seen = f"told to wait {show(wait)} (Retry-After: {said}), it waited {show(delay)}"
                return broken(seen, before.began, again.began)
            soonest = min(soonest, delay - wait)
    if soonest < float("inf"):
        return held(f"it came back {show(max(0.0, soonest))} after the time or later")
    return not_exercised("it did not come back") if asking else NOT_EXERCISED


def _asks_to_wait(one: Try) -> bool:
    known = request_of(one)
    return known is not None and known.retry_after is not None and told(one) in (429, 503)


def _waits(item: Item) -> Iterator[tuple[Try, float, float, Try]]:
    """Each try for which an earlier answer told the client when to come: that answer, the wait, the try."""
    unread = deque[tuple[Try, float, float]]()  # answers that may have been on their way to the client
    known: tuple[Try, float, float] | None = None  # the last one that it had
    for one in item.tries:
        while unread and surely_knew(one, unread[0][0]):
            known = unread.popleft()
        if known is not None and request_of(one) is not None:
            yield *known, one
        if _asks_to_wait(one) and (wait := asked_wait(one.began)) is not None:
            unread.append((one, *wait))


# ---- how often -----------------------------------------------------------------------------------


@rule(
    "http.retry-budget",
    title="The client does not retry a failing request without end.",
    level="should",
    source="RFC 9110 §9.2.2 (a client SHOULD NOT automatically retry a failed automatic retry); gRPC A6 (maxAttempts is 5 at most); Google SRE, Handling Overload (three attempts)",
    why="Retries multiply the load on a server at the moment when it is overloaded.",
    occasion="a request that was refused for now, or got no answer",
    proof=f"more than {STORM[0]} tries of it in {show(STORM[1])}, or {BUDGET[0]} in {show(BUDGET[1])}, each after the failure of the one before",
    innocent="requests side by side; a back-off that grows; a request that the client repeats regularly anyway",
    example="C: GET a.site.test/\nS: 503 Service Unavailable   (six times in a second)",
    proxy=OTHER_CLIENTS,
)
def keeps_a_budget(run: Run) -> Finding:
    failing = [item for item in run.ledger.items if any(one.failed for one in item.tries)]
    again = sum(len(item.tries) - 1 for item in failing)
    most = max((len(item.tries) for item in failing), default=0)
    seen = f"{plural(again, 'more try', 'more tries')} for {plural(len(failing), 'request')}, {plural(most, 'try', 'tries')} at most for one"
    return over((_spent(run, item) for item in failing), lambda _: seen)


def _spent(run: Run, item: Item) -> Finding:
    if len(item.tries) <= STORM[0]:
        return HELD
    failed = [one for one in item.tries if one.earlier is None or one.earlier.failed]
    if spent := _burst(failed, *STORM):
        return broken(_within(spent), *(one.began for one in spent))
    if spent := _burst(failed, *BUDGET):
        evidence = [one.began for one in spent]
        if whose(item) in recurring(run):
            return inconclusive(
                f"{_within(spent)}: as it does anyway, or as retries", "an Idempotency-Key in the requests", *evidence
            )
        return broken(_within(spent), *evidence)
    return HELD


def _within(spent: Sequence[Try]) -> str:
    return f"{len(spent)} tries within {show(spent[-1].started_at - spent[0].started_at)}"


def _burst(found: Sequence[Try], most: int, within: float) -> Sequence[Try]:
    """The first tries, of these in order, that are more than `most` within `within` seconds; empty if there are none."""
    for first, last in zip(found, found[most:], strict=False):
        if last.started_at - first.started_at <= within + TOLERANCE:
            return found[found.index(first) : found.index(last) + 1]
    return []


# ---- refused for good ----------------------------------------------------------------------------


@rule(
    "http.final-is-final",
    title="The client does not repeat at once a request that was refused for good.",
    level="should",
    source="RFC 9110 §15.5 (the client seems to have erred; 403 SHOULD NOT be repeated automatically, §15.5.4); §9.2.2 (nor a failed retry)",
    why="The same request gets the same answer. The client has to change it, or to report it.",
    occasion=f"a request that was answered {', '.join(map(str, sorted(FINAL)))}",
    proof=f"the same request twice more, each within {show(SOON)} of the answer before, with no other request between; with the same Idempotency-Key, once more is enough",
    innocent=f"requests side by side; a poll, which waits longer than {show(SOON)}; another request between, which may have changed the answer; a single repetition, by another part of the program",
    example="C: GET a.site.test/missing\nS: 404 Not Found   (eight times in 20 ms)",
    proxy=OTHER_CLIENTS,
)
def takes_no_for_an_answer(run: Run) -> Finding:
    return over(_refused_for_good(run), lambda n: f"{plural(n, 'request')} refused for good, and not asked again")


def _refused_for_good(run: Run) -> Iterator[Finding]:
    refused = any(statuses(run)[status] for status in FINAL)
    changes = run.once(_changes) if refused else {}
    for item in run.ledger.items if refused else ():
        first = next((one for one in item.tries if _is_final(one)), None)
        if first is not None:
            yield _repeated(_row(first, changes))


def _is_final(one: Try) -> bool:
    return one.ending == "refused" and told(one) in FINAL


def _row(first: Try, changes: dict[int, int]) -> list[Try]:
    """A request that was refused for good, and the same again and again at once."""
    row = [first]
    while _is_final(row[-1]) and (again := row[-1].later) is not None and request_of(again) is not None:
        before = changes[row[-1].began.index] + (request(again.began).method not in SAFE)
        if again.delay > SOON or changes[again.began.index] > before:
            break
        row.append(again)
    return row


def _changes(run: Run) -> dict[int, int]:
    """For each request, by its index: the requests of this client up to it that may have changed something, counted."""
    counts: Counter[str] = Counter()
    found: dict[int, int] = {}
    for x in run.requests:
        counts[x.connection.client] += request(x).method not in SAFE
        found[x.index] = counts[x.connection.client]
    return found


def _repeated(row: list[Try]) -> Finding:
    status, evidence = told(row[0]), [one.began for one in row]
    seen = f"it was answered {status}, and asked {times(len(row) - 1)} again at once"
    if len(row) == 1:
        return HELD
    if len(row) > 2 or request(row[0].began).idempotency_key is not None:
        return broken(seen, *evidence)
    return inconclusive(f"{seen}: by another part of the program, or as a retry", "an Idempotency-Key", *evidence)


# ---- the way back --------------------------------------------------------------------------------


@rule(
    "http.half-open",
    title="After a streak of refusals the client sends one request to see whether the server is back, before all others.",
    level="advice",
    source="Nygard, Release It! (circuit breaker, half-open); Microsoft, Circuit Breaker pattern",
    why="A server that has just recovered fails again if all waiting requests reach it at once.",
    occasion=f"{STREAK} requests in a row without a good answer, {CROWD} different ones or more, and a good answer after them",
    proof=f"{CROWD} or more requests between the last refusal and the first good answer",
    innocent="requests of other clients; requests that follow the good answer",
    example="S: 503 to 20 requests\nC: 20 requests at the same time, one second later\nS: 200",
)
def sends_a_probe(run: Run) -> Finding:
    by_client: dict[str, list[Try]] = {}
    some_failed = 0 < failures(run) < len(tries(run))
    for one in tries(run) if some_failed else ():
        by_client.setdefault(one.connection.client, []).append(one)
    return over(
        (case for found in by_client.values() for case in _recoveries(found)),
        lambda n: f"back {times(n)}, and one request went ahead" if n > 1 else "one request went ahead of the others",
    )


def _recoveries(found: list[Try]) -> Iterator[Finding]:
    """The outcome of each recovery of the server, from the tries of a client in the order in which they began."""
    begun = [one.started_index for one in found]
    failures = sorted(one.ended_index for one in found if one.failed)
    streak, waiting = 0, set[int]()
    for one in sorted(found, key=lambda one: (one.ended_at, one.ended_index)):
        if one.failed:
            streak += 1
            waiting.add(id(one.item))
            continue
        if one.ending == "accepted" and streak >= STREAK and len(waiting) >= CROWD:
            known = bisect_left(failures, one.started_index)
            since = bisect_right(begun, failures[known - 1]) if known else 0
            yield from _return(one, found[since:], bisect_right(begun, one.ended_index) - since)
        if one.ending == "accepted":
            streak, waiting = 0, set()


def _return(first: Try, after: Sequence[Try], ahead: int) -> Iterator[Finding]:
    """`after` are the tries since the last refusal that the client knew of; the first `ahead` came before a good answer."""
    if ahead >= CROWD:
        evidence = [one.began for one in after[:ahead]]
        yield broken(f"{ahead} requests came at once when the server was back, before it had answered one", *evidence)
        return
    at_once = CROSSING * speed(first.connection)
    crowd = [one for one in after[ahead:CROWD] if one.started_at - first.started_at <= at_once]
    if ahead + len(crowd) >= CROWD:
        why = "the others came right after the first good answer: because of it, or together with it"
        yield inconclusive(
            why, "a server that answers later (delay)", *(one.began for one in after[: ahead + len(crowd)])
        )
    elif len(after) > ahead:
        yield HELD
