"""Questions that the rules of HTTP share: retries, the knowledge of a client, the hosts of a connection."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from notnow.conduct.reading.http.asked import request, request_of
from notnow.conduct.reading.http.requests import CROSSING, speed
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.run import Run
from notnow.hosts import is_address
from notnow.journal import Connection, Exchange

CALL = 60.0  # seconds: the same request within this time belongs to one call of the client's caller


# ---- tries ---------------------------------------------------------------------------------------


def tries(run: Run) -> list[Try]:
    """The tries that the journal has as requests, in the order in which they began."""
    return run.once(_tries)


def _tries(run: Run) -> list[Try]:
    return [one for one in run.ledger.tries if request_of(one) is not None]


def retries(run: Run) -> list[tuple[Try, Try]]:
    """Each request that came again after it had failed, with the try before it."""
    return run.once(_retries)


def _retries(run: Run) -> list[tuple[Try, Try]]:
    pairs = ((one.earlier, one) for one in tries(run) if one.earlier is not None)
    return [(b, one) for b, one in pairs if b is not None and b.ending != "accepted" and request_of(b) is not None]


def after_421(run: Run) -> list[tuple[Try, Try]]:
    """Those of them that came after a 421."""
    return run.once(_after_421)


def _after_421(run: Run) -> list[tuple[Try, Try]]:
    return [(before, again) for before, again in retries(run) if told(before) == 421] if statuses(run)[421] else []


def statuses(run: Run) -> Counter[int | None]:
    """How often each status ended a try; None is a try without a whole answer."""
    return run.once(_statuses)


def _statuses(run: Run) -> Counter[int | None]:
    return Counter(map(told, tries(run)))


def failures(run: Run) -> int:
    """How many tries were not accepted."""
    return run.once(_failures)


def _failures(run: Run) -> int:
    return sum(one.ending != "accepted" for one in tries(run))


def told(one: Try) -> int | None:
    """The status with which a try ended; None if it had no whole answer."""
    known = request_of(one)
    if known is None or known.status is None or is_lost(one):
        return None
    return known.status if known.whole or known.status >= 400 else None


def is_lost(one: Try) -> bool:
    """True if a try ended without an answer, and the server did not say that it had not processed the request."""
    return one.ending in ("unanswered", "abandoned")


def recurring(run: Run) -> set[tuple[str, str]]:
    """The clients and requests of which there were several for themselves: one more need not be a retry."""
    return run.once(_recurring)


def _recurring(run: Run) -> set[tuple[str, str]]:
    counts = Counter(whose(item) for item in run.ledger.items)
    anew = (whose(item) for item in run.ledger.items if any(one.ending == "accepted" for one in item.tries[:-1]))
    return {whom for whom, count in counts.items() if count > 1} | set(anew)


def whose(item: Item) -> tuple[str, str]:
    """The client of an item, and its request."""
    return item.tries[0].connection.client, item.name


# ---- what a client knew --------------------------------------------------------------------------


def surely_knew(one: Try, before: Try) -> bool:
    """True if a try cannot have been on its way when another one, which was answered, ended.

    Its connection was made afterwards, or it is the next one over HTTP/1.1, where a client that does not pipeline waits
    for each answer; or enough time has passed.
    """
    known = request_of(one)
    if one.connection.index > before.ended_index:
        return True
    if known is not None and known.version != "2" and one.connection is before.connection:
        return one.knew_of(before)
    return one.started_at - before.ended_at > CROSSING * speed(one.connection)


# ---- hosts ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def has_name(host: str) -> bool:
    """True for a name that an SNI can carry: a fully qualified one, and no IP address (RFC 6066 §3)."""
    return "." in host and not is_address(host)


def host_of_connection(connection: Connection, first: Exchange) -> str:
    """The host for which a connection was made: its SNI, or the host of its first request."""
    sni = connection.tls.sni if connection.tls is not None else None
    return sni.lower() if sni else request(first).host
