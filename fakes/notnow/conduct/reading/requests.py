"""The ledger of HTTP: requests, and the tries of each.

A request is its method, authority, path with query, and body. The same request again is a retry of the one that failed
and has waited longest; with an Idempotency-Key it is the same request whatever became of it. Otherwise it is another
item: requests side by side, or after a good answer, are not retries.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from msgspec import Struct

from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import Doubt, Ending, Item, Ledger, Try
from notnow.conduct.reading.run import Run
from notnow.http_words import IDEMPOTENT
from notnow.journal import (
    Connection,
    Exchange,
    ExcludedByGoAway,
    GoAwayFrame,
    HandshakeFailed,
    Journal,
    Request,
    RstStreamFrame,
    brief,
)
from notnow.units import plural

CROSSING = 0.02  # real seconds within which a request on another connection may have been sent before it knew
NEVER = sys.maxsize  # the index of an end that has not come

# Refusals for now. 408 and 425 allow to send the request again (RFC 9110 §15.5.9, RFC 8470 §5.2), 421 on another
# connection (RFC 9110 §15.5.20); 429 is for a while (RFC 6585 §4), and 507 is temporary (RFC 4918 §11.5).
FOR_NOW = frozenset({408, 421, 425, 429})
# A 5xx is the server's failure, and not one of the request (RFC 9110 §15.6), but for those that say that it can never serve it.
FINAL_5XX = frozenset({501, 505, 506, 508, 510, 511})

BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})  # methods whose requests seldom have a body
ANY = "any body"

Key = tuple[str, str, str, str]  # client, method, authority, path


# ---- how a request ended -------------------------------------------------------------------------


class End(Struct, frozen=True):
    """How a try ended, what proves it, and when the client could know."""

    ending: Ending
    by: Evidence
    at: float
    index: int


def is_for_now(status: int, retry_after: str | None) -> bool:
    """True for a status that refuses a request for now; Retry-After says so of any (RFC 9110 §10.2.3)."""
    return status in FOR_NOW or retry_after is not None or (status >= 500 and status not in FINAL_5XX)


def _of_status(asked: Request) -> Ending:
    assert asked.status is not None
    if asked.status < 400:
        return "accepted"
    return "deferred" if is_for_now(asked.status, asked.retry_after) else "refused"


class Ends:
    """Finds how requests ended, in a run."""

    def __init__(self, run: Run) -> None:
        self._exchanges = run.exchanges
        self._times = [x.at for x in run.exchanges]
        self.goaways = goaways(run)

    def of(self, x: Exchange) -> End:
        """How the request of an exchange ended."""
        asked = request(x)
        if asked.status is not None and (asked.whole or asked.status >= 400):
            return End(_of_status(asked), x, *self._answered(x))
        if self.is_unprocessed(x):
            return End("deferred", x, *self._answered(x))
        if x.reset:
            return End("unanswered", x, *self._answered(x))
        return self._with_connection(x)

    def is_unprocessed(self, x: Exchange) -> bool:
        """True if the client was told that the request was not processed (RFC 9113 §8.7)."""
        reset = any(frame.code == "REFUSED_STREAM" for frame in x.sent(RstStreamFrame))
        goaway = self.goaways.get(x.connection)
        above = goaway is not None and request(x).version == "2" and request(x).stream > goaway.last
        return reset or above or isinstance(x.end, ExcludedByGoAway)

    def _answered(self, x: Exchange) -> tuple[float, int]:
        """When the last of the answer left, as the time and as a place in the order of exchanges."""
        if x.answered_at is None:
            goaway = self.goaways.get(x.connection)
            told = x if goaway is None else max(x, goaway.by, key=lambda one: one.index)
            return told.at, told.index
        before = bisect_left(self._times, x.answered_at) - 1
        return x.answered_at, max(x.index, self._exchanges[before].index if before >= 0 else 0)

    def _with_connection(self, x: Exchange) -> End:
        """A request without a whole answer ends with its connection."""
        connection, end = x.connection, left(x.connection)
        if end is None:
            return End("unanswered", x, float("inf"), NEVER)
        by_client = end[1] == connection.left_index or connection.ended_by == "client"
        return End("abandoned" if by_client and x.fault is None else "unanswered", connection, *end)


def left(connection: Connection) -> tuple[float, int] | None:
    """When a connection ended for the client; None while it lives."""
    ends = [(connection.left_at, connection.left_index), (connection.closed_at, connection.closed_index)]
    known = [(at, index) for at, index in ends if at is not None and index is not None]
    return min(known, key=lambda end: end[1]) if known else None


class GoAway(Struct, frozen=True):
    """The last stream that a connection serves, and the exchange that said so."""

    last: int
    by: Exchange


def goaways(run: Run) -> dict[Connection, GoAway]:
    """The GOAWAY of each connection that has one; of several, the one with the lowest last stream."""
    found: dict[Connection, GoAway] = {}
    for x in run.exchanges:
        for frame in x.sent(GoAwayFrame) if x.frames else ():
            if x.connection not in found or frame.last_stream < found[x.connection].last:
                found[x.connection] = GoAway(frame.last_stream, x)
    return found


# ---- the tries -----------------------------------------------------------------------------------


class Asked(Struct, frozen=True):
    """A try, with what it asked for: `key` is None where the journal names no request, `body` where it may be any.

    `opens`: it is the first try on its connection.
    """

    one: Try
    key: Key | None = None
    body: str | None = None
    opens: bool = False


def _asked(run: Run) -> list[Asked]:
    """All tries of a run, in the order in which they began."""
    ends, found = Ends(run), list[Asked]()
    for connection, exchanges in run.by_connection.items():
        requests = [x for x in exchanges if x.http is not None]
        found += [_of_request(x, ends.of(x), x is requests[0]) for x in requests]
        found += _said_after(connection, exchanges[-1])
        if not requests and (nameless := _of_connection(connection, exchanges)) is not None:
            found.append(nameless)
    return sorted(found, key=lambda asked: asked.one.started_index)


def _of_request(x: Exchange, end: End, opens: bool) -> Asked:
    asked = request(x)
    kept = x if asked.stored else None
    one = Try(x, end.by, end.ending, x.at, x.index, end.at, end.index, kept)
    return Asked(one, (x.connection.client, asked.method, asked.authority, asked.path), _body(asked), opens)


def _body(asked: Request) -> str | None:
    """What tells the body from others: its hash, or nothing for none; None where the rest of it may be missing."""
    if asked.body_sha256 is not None:
        return asked.body_sha256
    known = not asked.body_bytes and (asked.method in BODILESS or (asked.status or 400) < 400)
    return "" if known else None


def _of_connection(connection: Connection, exchanges: list[Exchange]) -> Asked | None:
    """The try of a connection that ended before it carried a request; None while it lives."""
    end = left(connection)
    if end is None:
        return None
    first = exchanges[0]
    one = Try(first, connection, _ending_of(connection, exchanges), first.at, first.index, *end)
    return Asked(one, opens=True)


def _ending_of(connection: Connection, exchanges: list[Exchange]) -> Ending:
    by_fake = connection.ended_by == "fake" or any(x.refused for x in exchanges)
    if not by_fake and isinstance(connection.failure, HandshakeFailed) and shown_untrusted(exchanges):
        return "refused"  # RFC 9110 §4.3.4: the client must not go on
    return "unanswered" if by_fake or any(x.fault for x in exchanges) else "abandoned"


def shown_untrusted(exchanges: list[Exchange]) -> bool:
    """True if a rule has chosen the certificate of this connection."""
    return any(x.moment == "tls" and x.fault == "certificate" for x in exchanges)


def _said_after(connection: Connection, last: Exchange) -> list[Asked]:
    """The HTTP/1.1 requests that a client sent on a connection that the fake had closed."""
    if not connection.after or connection.closed_index is None:
        return []
    at, index = connection.closed_at or last.at, connection.closed_index + 1
    return [
        Asked(Try(last, connection, "unanswered", at, index, at, index), (connection.client, *asked), _unsaid(asked[0]))
        for asked in _requests_in(connection.after)
    ]


def _unsaid(method: str) -> str | None:
    """What is known of the body of a request if only its head was read."""
    return "" if method in BODILESS else None


def _requests_in(text: str) -> Iterator[tuple[str, str, str]]:
    """The method, authority and path of each HTTP/1.1 request in what a client has said."""
    for match in _HEAD.finditer(text):
        host = _HOST.search(match["fields"])
        yield match["method"], brief(host[1].strip()) if host else "", brief(match["path"])


_HEAD = re.compile(
    r"^(?P<method>[A-Z]+) (?P<path>/\S*|\*) HTTP/1\.[01]\r?\n(?P<fields>(?:[^\r\n]+\r?\n)*)", re.MULTILINE
)
_HOST = re.compile(r"^host:([^\r\n]*)", re.MULTILINE | re.IGNORECASE)


# ---- the ledger ----------------------------------------------------------------------------------


def ledger(run: Run) -> Ledger:
    """The requests of a run, and the connections that ended before they carried one."""
    return run.once(_read)


def _read(run: Run) -> Ledger:
    found, failed, lost = Ledger(dropped=sum(j.dropped for j in run.journals)), _Failed(), _Lost()
    for asked in _asked(run):
        before = failed.before(asked)
        if before is None or asked.opens:
            lost.came(asked.one)
        if before is not None:
            before.add(asked.one)
        elif asked.key is not None:
            found.items.append(_new_item(asked))
        else:
            found.nameless.append(asked.one)
            lost.add(asked.one)
        failed.add(asked)
    for item in found.items:
        _conclude(item, run.proxy)
    found.doubts += lost.doubts()
    return found


def _new_item(asked: Asked) -> Item:
    assert asked.key is not None
    _, method, authority, path = asked.key
    idempotent = method in IDEMPOTENT
    item = Item(f"{method} {authority}{path}", repeatable=idempotent, asks_first=not idempotent)
    item.add(asked.one)
    return item


def _conclude(item: Item, proxy: bool) -> None:
    """Say whether the client rightly does not try again, and what the journal leaves open."""
    last = item.tries[-1]
    if item.asks_first and not item.marked and last.failed:
        # RFC 9110 §9.2.2: a client should not repeat what may have been carried out, and a proxy must not in any case.
        item.kept_back = proxy or last.ending == "unanswered"
    if last.ended_index == NEVER:
        item.in_doubt = item.in_doubt or "it was still waiting for its answer"
    elif last.ending == "abandoned":
        item.in_doubt = (
            item.in_doubt or "the client left before the answer was whole, and may have wanted no more of it"
        )


class _Failed:
    """The tries that have not been accepted, and may be tried again; the first to end comes first."""

    def __init__(self) -> None:
        self._heaps: dict[tuple[Key, str | None], list[tuple[float, int, Try]]] = {}
        self._order = count()

    def add(self, asked: Asked) -> None:
        if asked.key is not None and asked.one.ending != "accepted":
            for body in (asked.body, ANY):
                heap = self._heaps.setdefault((asked.key, body), [])
                heappush(heap, (asked.one.ended_at, next(self._order), asked.one))

    def before(self, asked: Asked) -> Item | None:
        """The item of the try that this one repeats, if it is proved to repeat one."""
        if asked.key is None:
            return None
        bodies = (ANY,) if asked.body is None else (asked.body, None)
        tops = [top for body in bodies if (top := self._top(asked.key, body)) is not None]
        before = min(tops, key=lambda top: top.ended_at, default=None)
        if before is None or before.item is None or not asked.one.knew_of(before):
            return None
        if _may_cross(before, asked.one):
            before.item.in_doubt = "the same request came so soon after it that it may be its retry or another one"
            return None
        return before.item

    def _top(self, key: Key, body: str | None) -> Try | None:
        """The first of these to end that was not tried again."""
        heap = self._heaps.get((key, body), [])
        while heap and heap[0][2].later is not None:
            heappop(heap)
        return heap[0][2] if heap else None


def _may_cross(before: Try, again: Try) -> bool:
    """True if the later one may have been sent before its client knew how the one before had ended.

    A 421, a reset and a close ask for another connection, which may be there already; a refusal asks to wait.
    """
    if again.connection is before.connection or again.connection.index > before.ended_index:
        return False
    waits = before.ending == "deferred" and isinstance(before.by, Exchange) and status_of(before.by) not in (None, 421)
    return waits and again.started_at - before.ended_at < CROSSING * speed(again.connection)


class _Lost:
    """Connections that ended before they carried a request: a later first try of their client may be their retry."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Journal, str], deque[Try]] = {}

    def add(self, one: Try) -> None:
        if one.failed:
            self._waiting.setdefault(one.client, deque()).append(one)

    def came(self, one: Try) -> None:
        """A try came that may be the retry of a connection."""
        waiting = self._waiting.get(one.client)
        if waiting and one.knew_of(waiting[0]):
            waiting.popleft()

    def doubts(self) -> list[Doubt]:
        left = [one for waiting in self._waiting.values() for one in waiting]
        if not left:
            return []
        they = "it" if len(left) == 1 else "they"
        why = f"{plural(len(left), 'connection')} ended before {they} carried a request, which may have been any"
        return [Doubt(why, "the number of requests that the client was given", tuple(one.by for one in left))]


# ---- helpers of the rules ------------------------------------------------------------------------


def request(exchange: Exchange) -> Request:
    """The request of an exchange that has one."""
    assert exchange.http is not None
    return exchange.http


def status_of(exchange: Exchange) -> int | None:
    """The status with which a request was answered."""
    return exchange.http.status if exchange.http is not None else None


def speed(connection: Connection) -> float:
    """Seconds of scenario time in a second of real time."""
    found: float = getattr(connection.journal.clock, "speed", 1.0)
    return found
