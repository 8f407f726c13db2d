"""Rules of conduct for HTTP clients.

A request that comes again is told by its method and URL, from the same client. Where answers take no time, the same
request in parallel looks the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.reading.attempts import asked_wait
from notnow.conduct.rules.rule import Rule, Run, burst, plural
from notnow.hosts import is_address
from notnow.http_words import IDEMPOTENT
from notnow.journal import Connection, Exchange, Journal
from notnow.units import show, times

CALL = 60.0  # seconds within which the same request again is the same call of the client's user
FAILURES = (421, 429, 500, 502, 503, 504)  # what clients are known to try again
BUDGET = 5, 60.0  # tries of a request, in so many seconds: gRPC's maxAttempts is capped at 5
CROSSING = 0.25  # real seconds within which a new stream may have met the GOAWAY on its way

_GOAWAY = re.compile(r"^GOAWAY \S+, last stream (\d+)", re.MULTILINE)
_ORIGIN = re.compile(r"^ORIGIN (.*)", re.MULTILINE)
_ALTSVC = re.compile(r"^ALTSVC ", re.MULTILINE)
_HOST = re.compile(r"^\w+://(\[[^\]]*\]|[^:/]*)")


def _fact(exchange: Exchange, name: str) -> object:
    return (exchange.facts or {}).get(name)


def _size(exchange: Exchange) -> int:
    """How much has come of the body."""
    return int((exchange.facts or {})["body_bytes"])


def _is(exchange: Exchange, *statuses: int) -> bool:
    return _fact(exchange, "status") in statuses


def _again(run: Run) -> Iterator[tuple[Exchange, Exchange]]:
    """Each time that a request came again: the time before, and this one; but for those that did not wait for the answer."""
    for tries in run.tries:
        for before, again in pairwise(tries):
            if before.answered_at is None or before.answered_at <= again.at:
                yield before, again


@lru_cache(maxsize=1024)
def _has_name(host: str) -> bool:
    """False for an address, which is never an SNI (RFC 6066 §3)."""
    return bool(host) and not is_address(host)


def _made_for(connection: Connection, first: Exchange) -> str:
    """The host that a connection was made for: its SNI, else that of its first request."""
    sni = connection.tls.sni if connection.tls is not None else None
    return sni.lower() if sni else str(_fact(first, "host"))


# ---- after a 421 ---------------------------------------------------------------------------------


def _goes_elsewhere(run: Run) -> Finding:
    elsewhere = 0
    for before, again in _again(run):
        if _is(before, 421):
            if again.connection is before.connection:
                why = f"{_fact(again, 'method')} was asked again on the connection that had answered 421"
                return broken(why, before, again)
            elsewhere += 1
    if elsewhere:
        return held(f"asked again {plural(elsewhere, 'time')}, on another connection")
    if any(_is(x, 421) for x in run.requests):
        return not_exercised("nothing was asked again: a retry is allowed, and not asked for")
    return NOT_EXERCISED


def _retries_once(run: Run) -> Finding:
    told, new = 0, 0
    for tries in run.tries:
        streak: list[Exchange] = []  # of 421, in one call
        for x in tries:
            if streak and x.at - streak[0].at > CALL:
                streak, new = [], new + 1
            if len(streak) == 2:
                return broken("after the second 421 it asked a third time", *streak, x)
            streak = [*streak, x] if _is(x, 421) else []
            told += _is(x, 421)
    if not told:
        return NOT_EXERCISED
    later = f"; {new} came again more than {show(CALL)} later: taken for new calls" if new else ""
    return held(f"told 421 {times(told)}, and one retry at most{later}")


def _retries_for_the_origin(run: Run) -> Finding:
    matched = 0
    for before, again in _again(run):
        if not _is(before, 421) or again.connection is before.connection:
            continue
        tls, host = again.connection.tls, str(_fact(again, "host"))
        if tls is None or not _has_name(host):
            continue
        if tls.sni is None or tls.sni.lower() != host:
            why = f"the retry for {host} came on a connection that was made for {tls.sni or 'nobody'}"
            return broken(why, before, again)
        matched += 1
    return held(f"{plural(matched, 'time')} on a connection with its SNI") if matched else NOT_EXERCISED


def _forgets_the_origin(run: Run) -> Finding:
    forgotten = 0
    for connection, exchanges in run.by_connection.items():
        first = next((x for x in exchanges if x.facts and "method" in x.facts), None)
        if first is None:
            continue
        made_for = _made_for(connection, first)
        origins: set[str] = set()
        refused: dict[str, Exchange] = {}
        for x in exchanges:
            host = str(_fact(x, "host"))
            if host in refused:
                return broken(f"{host} was asked for again where it had got 421", refused[host], x)
            for said in _ORIGIN.findall(x.reply or ""):
                origins.update(match[1].lower() for match in map(_HOST.match, said.split()) if match)
            if _is(x, 421) and host in origins and host != made_for:
                refused[host] = x
        forgotten += len(refused)
    return held(f"{plural(forgotten, 'origin')} forgotten") if forgotten else NOT_EXERCISED


def _drops_the_alternative(run: Run) -> Finding:
    told: dict[tuple[str, str], Journal] = {}  # who was told of an alternative, for which authority -> by which server
    dropped: dict[tuple[str, str, Journal, object], Exchange] = {}
    for x in run.requests:
        key, server = (x.connection.client, str(_fact(x, "authority"))), x.connection.journal
        place = *key, server, _fact(x, "alt-used")
        refusal = dropped.get(place)
        if refusal is not None:
            return broken(f"{key[1]} was asked for again at the alternative that had answered 421", refusal, x)
        by = told.get(key)
        if _is(x, 421):
            if place[3] or (by is not None and by is not server):
                dropped[place] = x
        elif by is None and (_fact(x, "alt-svc") or _ALTSVC.search(x.reply or "")):
            told[key] = server
    return held(f"{plural(len(dropped), 'alternative')} dropped") if dropped else NOT_EXERCISED


def _ignores_alt_svc_in_421(run: Run) -> Finding:
    told: dict[tuple[str, str], Exchange] = {}
    otherwise: set[tuple[str, str]] = set()  # who was told of an alternative by another answer as well
    for x in run.requests:
        key = x.connection.client, str(_fact(x, "authority"))
        before, used = told.get(key), str(_fact(x, "alt-used") or "")
        if before is not None and key not in otherwise:
            there = used and used in str(_fact(before, "alt-svc"))
            if there or before.connection.journal is not x.connection.journal:
                return broken(f"{key[1]} was asked for where the Alt-Svc of a 421 had sent it", before, x)
        if _ALTSVC.search(x.reply or "") or (_fact(x, "alt-svc") and not _is(x, 421)):
            otherwise.add(key)
        elif _fact(x, "alt-svc"):
            told.setdefault(key, x)
    if not told:
        return NOT_EXERCISED
    if len(run.journals) == 1:
        return not_exercised("who is sent to a server that is no fake of this run is not seen there")
    return held(f"{plural(len(told), 'authority', 'authorities')} had an Alt-Svc in a 421")


# ---- names ---------------------------------------------------------------------------------------


def _sends_sni(run: Run, *versions: str) -> Finding:
    named = 0
    for x in run.requests:
        tls, host = x.connection.tls, str(_fact(x, "host"))
        if tls is None or _fact(x, "version") not in versions or not _has_name(host):
            continue
        if tls.sni is None:
            return broken(f"{host} was asked for on a connection without an SNI", x.connection, x)
        named += 1
    return held(f"{plural(named, 'request')} on connections with an SNI") if named else NOT_EXERCISED


def _sends_sni_on_http2(run: Run) -> Finding:
    return _sends_sni(run, "2")


def _sends_sni_on_http1(run: Run) -> Finding:
    return _sends_sni(run, "1.1", "1.0")


def _coalesces_what_is_covered(run: Run) -> Finding:
    foreign = 0
    firsts: dict[Connection, Exchange] = {}
    for x in run.requests:
        first = firsts.setdefault(x.connection, x)
        made_for = _made_for(x.connection, first)
        if x.connection.tls is None or _fact(x, "host") in (made_for, ""):
            continue
        foreign += 1
        if "certificate" in (x.facts or {})["misdirected"]:
            why = (
                f"{_fact(x, 'host')} was asked for on a connection for {made_for}, whose certificate does not cover it"
            )
            return broken(why, *([first] if first is not x else []), x)
    return held(f"{plural(foreign, 'request')} for other hosts, all covered") if foreign else NOT_EXERCISED


# ---- other failures ------------------------------------------------------------------------------


def _is_lost(before: Exchange, again: Exchange) -> bool:
    """True if the answer had failed to come, or to come whole, when the request came again."""
    facts, connection = before.facts or {}, before.connection
    if facts["status"] is not None and (facts["whole"] or facts["status"] >= 400):
        return False
    ends = [i for i in (connection.left_index, connection.closed_index) if i is not None]
    return before.closed or "RST_STREAM" in (before.reply or "") or any(i < again.index for i in ends)


def _is_refused(exchange: Exchange) -> bool:
    status = _fact(exchange, "status")
    return status >= 400 if isinstance(status, int) else exchange.refused


def _goaways(run: Run) -> dict[Connection, int]:
    """The last stream that each connection serves, for those that were told by a GOAWAY."""
    last: dict[Connection, int] = {}
    for x in run.exchanges:
        for number in _GOAWAY.findall(x.reply or ""):
            last[x.connection] = min(int(number), last.get(x.connection, int(number)))
    return last


def _is_unprocessed(exchange: Exchange, goaways: dict[Connection, int]) -> bool:
    """True if the client was told that the request had not been looked at (RFC 9113 §8.7)."""
    last = goaways.get(exchange.connection)
    facts = exchange.facts or {}
    return "RST_STREAM REFUSED_STREAM" in (exchange.reply or "") or (last is not None and facts["stream"] > last)


def _does_not_repeat_blindly(run: Run) -> Finding:
    goaways, safe, failed = _goaways(run), 0, 0
    for before, again in _again(run):
        if _fact(before, "method") in IDEMPOTENT or not _is_lost(before, again):
            continue
        hashes = _fact(before, "body_sha256"), _fact(again, "body_sha256")
        if None not in hashes and hashes[0] != hashes[1]:
            continue  # it is another one
        if _is_unprocessed(before, goaways):
            safe += 1
        else:
            method = _fact(before, "method")
            return broken(f"{method} got no answer, and came again: it may have been carried out twice", before, again)
    if safe:
        return held(f"{safe} came again that the server had said it had not looked at")
    for x in run.requests:
        failed += _fact(x, "method") not in IDEMPOTENT and _fact(x, "status") is None and x.refused
    return held(f"{failed} got no answer, and did not come again") if failed else NOT_EXERCISED


def _does_not_repeat_a_failed_retry(run: Run) -> Finding:
    goaways, retried = _goaways(run), 0
    for tries in run.tries:
        lost: list[Exchange] = []
        for x in tries:
            if lost and not _is_lost(lost[-1], x):
                lost = []
            if lost and (x.at - lost[0].at > CALL or _is_unprocessed(lost[-1], goaways)):
                lost = []
            retried += bool(lost)
            if len(lost) == 2:
                return broken("a retry got no answer either, and was tried again", *lost, x)
            lost.append(x)
    return held(f"{plural(retried, 'request')} tried again, once each") if retried else NOT_EXERCISED


def _heeds_goaway(run: Run) -> Finding:
    told = crossed = 0
    for exchanges in run.by_connection.values():
        goaway: Exchange | None = None
        for x in exchanges:
            if goaway is not None and x.facts and "method" in x.facts:
                since = x.at - (goaway.answered_at if goaway.answered_at is not None else goaway.at)
                if since > CROSSING * getattr(x.connection.journal.clock, "speed", 1.0):
                    return broken(f"stream {x.facts['stream']} was opened {show(since)} after a GOAWAY", goaway, x)
                crossed += 1
            if goaway is None and _GOAWAY.search(x.reply or ""):
                goaway = x
                told += 1
    if not told:
        return NOT_EXERCISED
    met = f"; {plural(crossed, 'stream')} may have met it on the way" if crossed else ""
    return held(f"{plural(told, 'GOAWAY')}{met}")


def _replays_whole_bodies(run: Run) -> Finding:
    whole = 0
    for before, again in _again(run):
        had, has = _size(before), _size(again)
        if not had or _is_refused(again) or not (_is_refused(before) or _is_lost(before, again)):
            continue  # who is refused need not send it all
        complete = _fact(again, "body_sha256") is not None or not has
        if has < had:
            return broken(f"it had {had} bytes before, and {has} when it came again", before, again)
        if not complete and again.connection.ended_by == "client" and _fact(again, "status") is None:
            return broken(f"it came again, and left after {has} bytes of it", before, again)
        whole += complete
    return held(f"{plural(whole, 'body', 'bodies')} sent again, whole") if whole else NOT_EXERCISED


def _honours_retry_after(run: Run) -> Finding:
    soonest = float("inf")
    for before, again in _again(run):
        asked = asked_wait(before)
        if asked is None or not _is(before, 429, 503):
            continue
        (wait, tolerance), said = asked, _fact(before, "retry-after")
        delay = again.at - (before.answered_at if before.answered_at is not None else before.at)
        if delay < wait - tolerance:
            return broken(f"told to wait {show(wait)} (Retry-After: {said}), it waited {show(delay)}", before, again)
        soonest = min(soonest, delay - wait)
    if soonest < float("inf"):
        return held(f"it came back {show(max(0.0, soonest))} after the time or later")
    if any(_fact(x, "retry-after") and _is(x, 429, 503) for x in run.requests):
        return not_exercised("it did not come back")
    return NOT_EXERCISED


def _keeps_a_budget(run: Run) -> Finding:
    first = again = most = 0
    for tries in run.tries:
        streak: list[Exchange] = []
        streaks = [streak]
        for before, x in pairwise([*tries, tries[-1]]):
            streak.append(before)
            if not (_is(before, *FAILURES) or _is_lost(before, x)):
                streak = []
                streaks.append(streak)
        for streak in streaks:
            if spent := burst(streak, *BUDGET):
                return broken(f"{len(spent)} tries within {show(spent[-1].at - spent[0].at)}", *spent)
            first += bool(streak)
            again += max(0, len(streak) - 1)
            most = max(most, len(streak))
    if not again and not any(_is(x, *FAILURES) or (x.refused and x.unanswered) for x in run.requests):
        return NOT_EXERCISED
    return held(
        f"{plural(again, 'more try', 'more tries')} for {plural(first, 'request')}, {plural(most, 'try', 'tries')} at most for one"
    )


RULES: tuple[Rule, ...] = (
    Rule(
        id="http.retry-elsewhere",
        title="What a 421 answered is asked again on another connection, or not at all.",
        level="advice",
        source="RFC 9110 §15.5.20: a client MAY retry, whatever the method, over a different connection; on the same one nothing is allowed nor forbidden",
        why="It is this connection that cannot answer for this host: the same one will say 421 again.",
        observed="the connection on which the same request comes again after a 421",
        example="C: GET b.site.test/   (connection 1)\nS: 421 Misdirected Request\nC: GET b.site.test/   (connection 1)",
        judge=_goes_elsewhere,
    ),
    Rule(
        id="http.retry-once",
        title="After a 421 a request is tried once more; a second 421 goes to the caller.",
        level="advice",
        source="WHATWG Fetch (HTTP-network-or-cache fetch), Chromium, Firefox; httpwg/http-core #789",
        why="Where the names or the certificate are wrong every connection says 421, for ever.",
        observed=f"the same request, again and again within {show(CALL)}; later it is taken for a new call",
        example="C: GET a.site.test/\nS: 421 Misdirected Request   (three times on three connections)",
        judge=_retries_once,
    ),
    Rule(
        id="http.retry-for-origin",
        title="The retry after a 421 uses a connection that was made for the request's own host.",
        level="advice",
        source="RFC 9110 §15.5.20 (a fresh connection specific to the target resource's origin); Chromium, Firefox",
        why="Another connection that was made for somebody else is as wrong as the first.",
        observed="the SNI of the connection on which the retry comes, beside its authority",
        example="C: GET b.site.test/   (SNI a.site.test)\nS: 421 Misdirected Request\nC: GET b.site.test/   (another connection, SNI a.site.test)",
        judge=_retries_for_the_origin,
    ),
    Rule(
        id="http.sni-on-http2",
        title="An HTTP/2 client says in the TLS handshake which host it has come for.",
        level="must",
        source="RFC 9113 §9.2",
        why="Without a name the server shows the certificate of whichever host comes first, or none, and answers 421.",
        observed="an HTTP/2 request for a host that has a name, on a connection without an SNI",
        example="TLS without an SNI\nC: GET a.site.test/",
        judge=_sends_sni_on_http2,
    ),
    Rule(
        id="http.sni-on-http1",
        title="A client of HTTP/1.1 over TLS says in the handshake which host it has come for.",
        level="should",
        source="RFC 6066 §3 (RECOMMENDED)",
        why="Proxies that leave it out (nginx without proxy_ssl_server_name) get 421 from Apache since 2.4.64.",
        observed="an HTTP/1 request for a host that has a name, on a TLS connection without an SNI",
        example="TLS without an SNI\nC: GET a.site.test/",
        judge=_sends_sni_on_http1,
    ),
    Rule(
        id="http.coalesce-only-covered",
        title="A connection is used for another host only if its certificate covers that host.",
        level="must",
        source="RFC 9113 §9.1.1; RFC 9110 §4.3.3, §4.3.4",
        why="Nobody has proved to be that host: the request is told to a stranger.",
        observed="a request for a host other than that of the SNI, which the certificate shown does not cover; whether DNS would have led there is not seen",
        example="TLS with SNI a.site.test, certificate for a.site.test\nC: GET b.site.test/",
        judge=_coalesces_what_is_covered,
    ),
    Rule(
        id="http.forget-origin",
        title="A host that ORIGIN has named, and that then answers 421, is not asked for on that connection again.",
        level="must",
        source="RFC 8336 §2.3",
        why="The origin set was wrong about it, and what the client knows by now is right.",
        observed="a request for a host that the connection was not made for, ORIGIN has named, and a 421 has taken back",
        example="S: ORIGIN https://b.site.test\nC: GET b.site.test/1\nS: 421 Misdirected Request\nC: GET b.site.test/2   (the same connection)",
        judge=_forgets_the_origin,
    ),
    Rule(
        id="http.drop-alternative",
        title="An alternative service that answers 421 is not used for that origin again.",
        level="must",
        source="RFC 7838 §6",
        why="The alternative does not know the origin; every further request costs a round trip and fails.",
        observed="after a 421, the same authority at the same alternative: one that Alt-Used names, or another fake than the one that had named it",
        example='origin: Alt-Svc: h2=":8443"\nC: GET a.site.test/   (at the alternative)\nS: 421 Misdirected Request\nC: GET a.site.test/   (at the alternative)',
        judge=_drops_the_alternative,
    ),
    Rule(
        id="http.ignore-alt-svc-in-421",
        title="The Alt-Svc field of a 421 is not followed.",
        level="must",
        source="RFC 7838 §6",
        why="Who says 421 does not speak for the origin, and must not send its clients anywhere.",
        observed="a request whose Alt-Used names the alternative of a 421, or that comes to another fake than the 421 was from, where no other answer had an Alt-Svc",
        example='C: GET a.site.test/\nS: 421, Alt-Svc: h2=":8443"\nC: GET a.site.test/   (at port 8443)',
        judge=_ignores_alt_svc_in_421,
    ),
    Rule(
        id="http.no-blind-post",
        title="A request that is not idempotent is not repeated where no answer came.",
        level="should",
        source="RFC 9110 §9.2.2; RFC 9113 §8.7 (REFUSED_STREAM and streams above a GOAWAY's last were not looked at)",
        why="It may have been carried out before the connection was lost: the order is placed twice.",
        observed="the same POST or PATCH again, with the same body, after a close or reset without a whole answer; that it is safe all the same (an idempotency key) is not seen",
        example="C: POST a.site.test/pay\nS: closes without a word\nC: POST a.site.test/pay",
        judge=_does_not_repeat_blindly,
    ),
    Rule(
        id="http.no-second-blind-retry",
        title="A retry that got no answer either is not tried again.",
        level="should",
        source="RFC 9110 §9.2.2",
        why="What failed twice in the same way fails because of the request, or because the server has enough.",
        observed=f"a third time of the same request within {show(CALL)} of two that got no answer",
        example="C: GET a.site.test/\nS: closes without a word   (twice)\nC: GET a.site.test/",
        judge=_does_not_repeat_a_failed_retry,
    ),
    Rule(
        id="http.no-stream-after-goaway",
        title="After a GOAWAY no new stream is opened on that connection.",
        level="must",
        source="RFC 9113 §6.8",
        why="It is not served, and holds up a server that wants to go.",
        observed=f"requests on a connection more than {show(CROSSING)} after its GOAWAY; sooner they may have met it on the way",
        example="S: GOAWAY NO_ERROR, last stream 1\nC: GET a.site.test/2   (stream 3, five seconds later)",
        judge=_heeds_goaway,
    ),
    Rule(
        id="http.whole-body-again",
        title="A request that comes again has its whole body again.",
        level="advice",
        source="WHATWG Fetch (no retry where the body is a stream without a source); good practice",
        why="A stream that was read once has only its rest, or nothing, to give: half an upload is stored as if it were all.",
        observed="the size of the body when the request comes again, beside what had come before; another body that is no shorter is taken for another request",
        example="C: POST a.site.test/up, 5000 bytes\nS: 421 Misdirected Request\nC: POST a.site.test/up, 0 bytes",
        judge=_replays_whole_bodies,
    ),
    Rule(
        id="http.retry-after",
        title="What a 429 or 503 with Retry-After has refused comes back no sooner than that says.",
        level="should",
        source="RFC 9110 §10.2.3; RFC 6585 §4",
        why="The server knows when it is going to have room; who comes before is refused again, and counted. On a 421 the field means nothing.",
        observed="the time from the answer until the same request comes again",
        example="S: 503, Retry-After: 120   (0 s)\nC: the same request   (1 s)",
        judge=_honours_retry_after,
    ),
    Rule(
        id="http.retry-budget",
        title="A request that keeps failing is not tried again without end.",
        level="advice",
        source="gRPC A6 (maxAttempts is 5 at most); Google SRE, Handling Overload (three attempts, retries 10 % of requests)",
        why="Retries multiply the load on a server that is overloaded, just when it is.",
        observed=f"tries of the same request, one upon the failure of the other; more than {BUDGET[0]} in {show(BUDGET[1])} are too many",
        example="C: GET a.site.test/\nS: 503 Service Unavailable   (six times in a second)",
        judge=_keeps_a_budget,
    ),
)
