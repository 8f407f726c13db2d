"""Helpers that several HTTP rules share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from notnow.conduct.reading.run import Run
from notnow.hosts import is_address
from notnow.journal import Connection, Exchange, Request

CALL = 60.0  # seconds: the same request within this time belongs to one call of the client's caller


def request(exchange: Exchange) -> Request:
    """The request of an exchange that has one."""
    assert exchange.http is not None
    return exchange.http


def body_size(exchange: Exchange) -> int:
    """The bytes of the request body that arrived."""
    return request(exchange).body_bytes


def has_status(exchange: Exchange, *statuses: int) -> bool:
    return exchange.http is not None and exchange.http.status in statuses


def repeats(run: Run) -> Iterator[tuple[Exchange, Exchange]]:
    """Each time that a request came again: the time before, and this one; but for those that did not wait for the answer."""
    for tries in run.tries:
        for before, again in pairwise(tries):
            if before.answered_at is None or before.answered_at <= again.at:
                yield before, again


@lru_cache(maxsize=1024)
def has_name(host: str) -> bool:
    """False for an IP address: an SNI is never one (RFC 6066 §3)."""
    return bool(host) and not is_address(host)


def host_of_connection(connection: Connection, first: Exchange) -> str:
    """The host for which a connection was made: its SNI, or the host of its first request."""
    sni = connection.tls.sni if connection.tls is not None else None
    return sni.lower() if sni else request(first).host


def is_lost(before: Exchange, again: Exchange) -> bool:
    """True if the request came again after its answer was lost or cut short."""
    asked, connection = request(before), before.connection
    if asked.status is not None and (asked.whole or asked.status >= 400):
        return False
    ends = [i for i in (connection.left_index, connection.closed_index) if i is not None]
    return before.closed or before.reset or any(i < again.index for i in ends)


def is_refused(exchange: Exchange) -> bool:
    status = exchange.http.status if exchange.http is not None else None
    return exchange.refused if status is None else status >= 400
