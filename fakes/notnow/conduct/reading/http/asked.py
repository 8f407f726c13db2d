"""The tries of HTTP: what each asked for, and how it ended (RFC 9110 §15, RFC 9113 §8.7)."""

from __future__ import annotations

import re
import sys
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct

from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import Ending, Try
from notnow.conduct.reading.run import Run
from notnow.http_words import BODILESS
from notnow.journal import Connection, Exchange, GoAwayFrame, Request, RstStreamFrame, brief

NEVER = sys.maxsize  # the index of an end that has not come

# Refusals for now. 408 and 425 allow to send the request again (RFC 9110 §15.5.9, RFC 8470 §5.2), 421 on another
# connection (RFC 9110 §15.5.20); 429 is for a while (RFC 6585 §4).
FOR_NOW = frozenset({408, 421, 425, 429})
# A 5xx is a failure of the server (RFC 9110 §15.6). These say that it can never serve the request.
FINAL_5XX = frozenset({501, 505, 506, 508, 510, 511})


Key = tuple[str, str]  # the client, and the line of the request: method, authority, path with query


def request(exchange: Exchange) -> Request:
    """The request of an exchange that has one."""
    found = exchange.facts
    assert isinstance(found, Request)
    return found


# ---- how a request ended -------------------------------------------------------------------------

End = tuple[Ending, Evidence, float, int]  # how, what proves it, and when the client could know: the time and the place


def is_for_now(status: int, retry_after: str | None) -> bool:
    """True for a status that refuses a request for now; Retry-After says so of any (RFC 9110 §10.2.3)."""
    return status in FOR_NOW or retry_after is not None or (status >= 500 and status not in FINAL_5XX)


class Ends:
    """Finds how requests ended, in a run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def of(self, x: Exchange, asked: Request) -> End:
        """How the request of an exchange ended."""
        status = asked.status
        if status is not None and (asked.whole or status >= 400):
            for_now = status >= 400 and is_for_now(status, asked.retry_after)
            return self._told(x, "accepted" if status < 400 else "deferred" if for_now else "refused")
        reset = next((frame for frame in x.frames if isinstance(frame, RstStreamFrame)), None)
        unprocessed = reset if reset is not None and reset.code == "REFUSED_STREAM" else excluded_by(x, asked)
        if unprocessed is not None:
            return "deferred", x, unprocessed.at, unprocessed.index
        if reset is not None:
            return "unanswered", x, reset.at, reset.index
        if asked.cancelled is not None:
            return _given_up(x), x, asked.cancelled.at, asked.cancelled.index
        return _with_connection(x)

    def _told(self, x: Exchange, ending: Ending) -> End:
        """A request that ended with the fake's answer, whose place is after every event with an earlier time."""
        at = x.answered_at
        if at is None or at == x.at:
            return ending, x, x.at, x.index
        before = bisect_left(self._times, at) - 1
        return ending, x, at, max(x.index, self._places[before])

    @cached_property
    def _order(self) -> list[tuple[int, float]]:
        late = {(x.arrival.index, x.arrival.at) for x in self._run.exchanges if x.arrival is not None}
        return sorted({(x.index, x.at) for x in self._run.exchanges} | late)

    @cached_property
    def _places(self) -> list[int]:
        return [index for index, _ in self._order]

    @cached_property
    def _times(self) -> list[float]:
        return [at for _, at in self._order]


def excluded_by(x: Exchange, asked: Request) -> GoAwayFrame | None:
    """The GOAWAY that says that the request of an exchange was not processed (RFC 9113 §6.8, §8.7)."""
    if asked.version != "2":
        return None
    return next((frame for frame in x.connection.goaways if asked.stream > frame.last_stream), None)


def _with_connection(x: Exchange) -> End:
    """A request without a whole answer ends with its connection."""
    connection, end = x.connection, left(x.connection)
    if end is None:
        return "unanswered", x, float("inf"), NEVER
    by_client = end[1] == connection.left_index or connection.ended_by == "client"
    return _given_up(x) if by_client else "unanswered", connection, *end


def _given_up(x: Exchange) -> Ending:
    """The ending of a request that the client gave up: the fake may have kept it waiting."""
    return "abandoned" if x.fault is None else "unanswered"


def left(connection: Connection) -> tuple[float, int] | None:
    """When a connection ended for the client; None while it lives."""
    ends = [(connection.left_at, connection.left_index), (connection.closed_at, connection.closed_index)]
    known = [(at, index) for at, index in ends if at is not None and index is not None]
    return min(known, key=lambda end: end[1]) if known else None


# ---- the tries -----------------------------------------------------------------------------------


class Asked(Struct, frozen=True, gc=False):
    """A try, with what it asked for: `key` is None where the journal names no request, `body` where it may be any.

    `mark` is its Idempotency-Key. `opens`: it is the first try on its connection.
    """

    one: Try
    key: Key | None = None
    method: str = ""
    body: str | None = None
    mark: str | None = None
    opens: bool = False


def request_of(one: Try) -> Request | None:
    """The request of a try; None for a try of which only the head is known, or nothing."""
    facts = one.began.facts
    return facts if isinstance(facts, Request) and one.started_index <= one.began.index else None


def is_nameless(one: Try) -> bool:
    """True if a try is a connection that ended before it carried a request."""
    return one.began.http is None and one.started_index <= one.began.index


def asked(run: Run) -> list[Asked]:
    """All tries of a run, in the order in which they began."""
    ends, found = Ends(run), list[Asked]()
    for connection, exchanges in run.by_connection.items():
        first = len(found)
        for x in exchanges:
            if isinstance(x.facts, Request):
                found.append(_of_request(x, x.facts, ends, len(found) == first))
        if connection.after or connection.unread:
            found += _unserved(connection, exchanges[-1])
        if len(found) == first and (nameless := _of_connection(connection, exchanges)) is not None:
            found.append(nameless)
    return sorted(found, key=attrgetter("one.started_index"))


def _of_request(x: Exchange, asked: Request, ends: Ends, opens: bool) -> Asked:
    ending, by, at, index = ends.of(x, asked)
    kept = x if asked.stored else None
    began = x if x.arrival is None else x.arrival
    one = Try(x, by, ending, began.at, began.index, at, index, kept)
    return Asked(one, (x.connection.client, x.request), asked.method, body_of(asked), asked.idempotency_key, opens)


def body_of(asked: Request) -> str | None:
    """The identity of the body: its hash, or nothing if there is no body; None where the rest of it may be missing."""
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
    return Asked(Try(first, connection, _ending_of(connection, exchanges), first.at, first.index, *end), opens=True)


def _ending_of(connection: Connection, exchanges: list[Exchange]) -> Ending:
    if connection.ended_by == "fake" or any(x.refused for x in exchanges):
        return "unanswered"
    if connection.tls is not None and connection.tls.defects:
        return "refused"  # RFC 9110 §4.3.4: the client must not go on
    stalled = any(x.fault == "stall" for x in exchanges)
    return "unanswered" if stalled else "abandoned"


def _unserved(connection: Connection, last: Exchange) -> list[Asked]:
    """The requests that a client sent after the fake had stopped reading or had closed."""
    ended = left(connection)
    if ended is None:
        return []
    found = list[Asked]()
    for text, arrival in ((connection.unread, connection.unread_arrival), (connection.after, connection.after_arrival)):
        at, index = (arrival.at, arrival.index) if arrival is not None else ended
        for head in _requests_in(text):
            # A stream above the last one of the GOAWAY was not processed (RFC 9113 §6.8).
            ending: Ending = "deferred" if head.version == "2" and connection.goaways else "unanswered"
            one = Try(last, connection, ending, at, max(index, last.index + 1), max(at, ended[0]), max(index, ended[1]))
            body = "" if head.method in BODILESS else None
            found.append(Asked(one, (connection.client, head.line), head.method, body, head.mark))
    return found


class _Head(NamedTuple):
    """The head of a request that was not served; `line` is its method, authority and path, `mark` its Idempotency-Key."""

    method: str
    line: str
    version: str
    mark: str | None


def _requests_in(text: str) -> Iterator[_Head]:
    """The head of each request in what a client has said."""
    for match in _HEAD.finditer(text):
        host, mark = _HOST.search(match["fields"]), _MARK.search(match["fields"])
        line = f"{match['method']} {brief(host[1].strip()) if host else ''}{brief(match['path'])}"
        yield _Head(match["method"], line, match["version"], brief(mark[1].strip()) if mark else None)


_HEAD = re.compile(
    r"^(?P<method>[A-Z]+) (?P<path>/\S*|\*) HTTP/(?P<version>1\.[01]|2)\r?\n(?P<fields>(?:[^\r\n]+\r?\n)*)",
    re.MULTILINE,
)
_HOST = re.compile(r"^host:([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
_MARK = re.compile(r"^idempotency-key:([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
