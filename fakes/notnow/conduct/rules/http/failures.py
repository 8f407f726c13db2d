"""Rules about requests that got no answer."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, Finding, broken, inconclusive
from notnow.conduct.reading.http.asked import request, request_of
from notnow.conduct.reading.http.requests import CROSSING, speed
from notnow.conduct.reading.http.retries import CALL, failures, is_lost, recurring, retries, told, tries, whose
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.http.behind import OTHER_CLIENTS
from notnow.conduct.rules.rule import ForProxy, rule
from notnow.http_words import IDEMPOTENT
from notnow.journal import Connection
from notnow.units import plural, show

_SETTLED = "an Idempotency-Key in the requests"


# ---- requests without an answer ------------------------------------------------------------------


@rule(
    "http.no-blind-post",
    title="The client does not repeat a non-idempotent request that got no answer.",
    level="should",
    source="RFC 9110 §9.2.2 (unless the client has some means to know that the request is idempotent, by design or configuration, or was never applied; a proxy MUST NOT); RFC 9113 §8.7 (after REFUSED_STREAM, or on a stream above a GOAWAY's last, the request was not processed)",
    why="The server may have processed it before the connection was lost. Then the same order is placed twice.",
    occasion="a POST or PATCH that got no answer, or only a part of it",
    proof=f"the same request again, with the same body, within {show(CALL)}, where the server carried out both",
    innocent="an Idempotency-Key; REFUSED_STREAM or a GOAWAY that excludes the request; another body; requests side by side; a request that the client repeats regularly anyway; a request that the server never carried out, where the client may know, by design or configuration (as a flag that asks for retries), that it may repeat it",
    example="C: POST a.site.test/pay\nS: carries it out, and closes without an answer\nC: POST a.site.test/pay",
    gives_way=("duplicated",),
    proxy=ForProxy(
        "A proxy MUST NOT repeat a non-idempotent request by itself (RFC 9110 §9.2.2), whatever it knows, and also not after a "
        "refusal for now, except a 421 (§15.5.20). Its clients are taken to ask once.",
        level="must",
    ),
)
def does_not_repeat_blindly(run: Run) -> Finding:
    again = list(_repeated_posts(run))
    if again:
        return over(
            again, lambda n: f"{n} came again that the server had said it had not looked at, or with an Idempotency-Key"
        )
    return over(_left_posts(run), lambda n: f"{n} got no answer, and did not come again")


def _repeated_posts(run: Run) -> Iterator[Finding]:
    for before, again in retries(run):
        item = before.item
        assert item is not None
        if not item.asks_first or (told(before) is not None and not (run.proxy and _put_off(before))):
            continue
        if item.repeatable or (told(before) is None and not is_lost(before)):
            yield HELD
        elif again.started_at - before.ended_at <= CALL:
            yield _blindly(run, item, before, again)


def _blindly(run: Run, item: Item, before: Try, again: Try) -> Finding:
    method = request(again.began).method
    if whose(item) in recurring(run):
        why = f"{method} got no answer, and came again: as it does anyway, or as a retry"
        return inconclusive(why, _SETTLED, before.began, again.began)
    got = "got no answer" if told(before) is None else f"was answered {told(before)}"
    if run.proxy:
        return broken(f"{method} {got}, and the proxy sent it again", before.began, again.began)
    if before.kept is not None and again.kept is not None:
        why = f"{method} got no answer, and came again: it was carried out twice"
        return broken(why, before.began, again.began)
    why = f"{method} got no answer, and came again: blindly, or because the client is configured to know that it may (RFC 9110 §9.2.2)"
    return inconclusive(
        why, f"{_SETTLED}, or a server that carries out the first (keep = true)", before.began, again.began
    )


def _put_off(one: Try) -> bool:
    """True for a refusal for now other than a 421, after which the request may be sent elsewhere."""
    return one.ending == "deferred" and told(one) != 421


def _left_posts(run: Run) -> Iterator[Finding]:
    for item in run.ledger.items:
        last = item.tries[-1]
        lost = is_lost(last) and last.ended_at < float("inf")
        if item.asks_first and (lost or (run.proxy and _put_off(last) and told(last) is not None)):
            yield HELD


@rule(
    "http.no-second-blind-retry",
    title="If a retry gets no answer either, the client does not retry again.",
    level="should",
    source="RFC 9110 §9.2.2",
    why="A request that fails twice in the same way fails because of the request itself, or because the server is overloaded.",
    occasion="a retry that got no answer either",
    proof=f"the same request a third time within {show(CALL)} after two that got no answer",
    innocent="requests that the server said it had not processed; requests side by side; a request that the client repeats regularly anyway",
    example="C: GET a.site.test/\nS: closes without an answer   (twice)\nC: GET a.site.test/",
    proxy=OTHER_CLIENTS,
)
def does_not_repeat_a_failed_retry(run: Run) -> Finding:
    return over(_lost_retries(run), lambda n: f"{plural(n, 'request')} tried again, once each")


def _lost_retries(run: Run) -> Iterator[Finding]:
    for first, second in retries(run):
        third = second.later
        if not is_lost(first) or not is_lost(second) or second.started_at - first.started_at > CALL:
            continue
        if third is None or request_of(third) is None or third.started_at - first.started_at > CALL:
            yield HELD
        elif second.item is not None and whose(second.item) in recurring(run):
            why = "a third request came after two without an answer: as it does anyway, or as a retry"
            yield inconclusive(why, _SETTLED, first.began, second.began, third.began)
        else:
            seen = "a retry got no answer either, and was tried again"
            yield broken(seen, first.began, second.began, third.began)


# ---- order ---------------------------------------------------------------------------------------


@rule(
    "http.in-step",
    title="Over HTTP/1.1 the client waits for the answer to a non-idempotent request before it sends the next one.",
    level="should",
    source="RFC 9112 §9.3.2",
    why="If the connection fails, nobody knows which of the requests were carried out. A client that gave up waiting takes the late answer for the next one.",
    occasion="a POST or PATCH over HTTP/1.1 whose answer the scenario delays, and a further request on that connection",
    proof="a request that arrives on the connection before the answer is sent",
    innocent="an Idempotency-Key, which makes it possible to recover; pipelined requests that are idempotent; HTTP/2",
    example="C: POST a.site.test/pay\nC: GET a.site.test/   (the same connection, after one second)\nS: 200, after three seconds",
    proxy=ForProxy(
        "an intermediary may pipeline what its clients have pipelined, and leaves the care to them (RFC 9112 §9.3.2)",
        free=True,
    ),
)
def waits_for_the_answer(run: Run) -> Finding:
    return over(_next_ones(run), lambda n: f"{plural(n, 'answer')} waited for before the next request")


def _next_ones(run: Run) -> Iterator[Finding]:
    before: dict[Connection, Try] = {}
    ever = any(item.asks_first for item in run.ledger.items)  # it is not idempotent
    for one in tries(run) if ever else ():
        asked = request(one.began)
        if asked.version == "2":
            continue
        first = before.pop(one.connection, None)
        if first is not None and not one.knew_of(first):
            why = f"{asked.method} was sent on the connection before {request(first.began).method} was answered"
            yield broken(why, first.began, one.began)
        elif (
            first is not None
            and first.began.fault
            and first.ended_at - first.started_at > CROSSING * speed(one.connection)
        ):
            yield HELD
        if asked.method not in IDEMPOTENT and asked.idempotency_key is None:
            before[one.connection] = one


# ---- bodies --------------------------------------------------------------------------------------


@rule(
    "http.whole-body-again",
    title="When the client repeats a request, it sends the whole body again.",
    level="advice",
    source="WHATWG Fetch (no retry where the body is a stream without a source); good practice",
    why="A body that comes from a stream can be read only once. A client that sends the rest of it makes the server store half an upload as if it were whole.",
    occasion="a request with a body that failed and came again",
    proof="the same method and URL without a body, or the same body with its end missing",
    innocent="another body that is not empty; a repeated request that is refused before its body is in; a client that is still sending",
    example="C: POST a.site.test/up, 5000 bytes\nS: 421 Misdirected Request\nC: POST a.site.test/up, 0 bytes",
    proxy=OTHER_CLIENTS,
)
def replays_whole_bodies(run: Run) -> Finding:
    return over(_bodies_again(run), lambda n: f"{plural(n, 'body', 'bodies')} sent again, whole")


def _bodies_again(run: Run) -> Iterator[Finding]:
    failed: dict[tuple[str, str], Try] = {}
    for one in tries(run) if failures(run) else ():
        before = failed.pop(_asked(one), None) if failed else None
        if before is not None and one.knew_of(before) and (case := _body_again(before, one)) is not None:
            yield case
        if one.ending != "accepted" and request(one.began).body_bytes:
            failed[_asked(one)] = one


def _asked(one: Try) -> tuple[str, str]:
    """The client, and the line of its request."""
    return one.connection.client, one.began.request


def _body_again(before: Try, again: Try) -> Finding | None:
    had, has = request(before.began).body_bytes, request(again.began).body_bytes
    status = request(again.began).status
    if status is not None and status >= 400:
        return None  # a refused request need not be sent whole
    if not has and status is None and again.began.fault is not None:
        return None  # the fake ended it before its body came
    if not has:
        return broken(f"the body had {had} bytes before, and 0 when it came again", before.began, again.began)
    if request(again.began).body_sha256 is None:
        left = again.connection.ended_by == "client" and status is None
        return broken(f"it came again, and left after {has} bytes of it", before.began, again.began) if left else None
    if has < had and again.item is before.item:  # the same Idempotency-Key
        return broken(f"the body had {had} bytes before, and {has} when it came again", before.began, again.began)
    if has < had:
        why = f"the body had {had} bytes before, and {has} when it came again: a part of it, or another request"
        return inconclusive(why, _SETTLED, before.began, again.began)
    return HELD if again.item is before.item else None
