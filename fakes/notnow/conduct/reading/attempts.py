"""Reading a journal for what a client did: its attempts, what refused them, and what came through.

An attempt is a connection, or the same thing asked again on a connection where it was refused before: the
moments of each protocol define these (`notnow.protocols`).
"""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime

from msgspec import Struct

from notnow import protocols
from notnow.journal import Connection, Exchange

TOLERANCE = 0.005  # seconds by which a measured delay may miss what was asked: clocks tick
DATE_TOLERANCE = 1.0  # seconds: a date has no fractions
ATTEMPTS = frozenset(
    name for protocol in protocols.every() for name, moment in protocol.moments.items() if moment.attempt
)


class Retry(Struct, frozen=True):
    """A refusal, the attempt that followed it, and the seconds between them."""

    refusal: Exchange
    attempt: Exchange
    delay: float


def refusals(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """The exchanges in which a rule refused, by a 4yz or 5yz or by closing without a reply."""
    return [x for x in exchanges if x.refused and x.fault is not None]


def retries(exchanges: Iterable[Exchange]) -> list[Retry]:
    """Each attempt that followed a refusal of the same client, in order."""
    found: list[Retry] = []
    pending: dict[tuple[str, str], Exchange] = {}  # client and request -> the refusal that waits for a retry
    tried: dict[Connection, str] = {}  # connection -> the last attempt on it
    for exchange in exchanges:
        connection, key = exchange.connection, _whose(exchange)
        before = pending.get(key)
        if before is not None and exchange.moment in ATTEMPTS and _is_attempt(exchange, before, tried):
            since = before.answered_at if before.answered_at is not None else before.at
            found.append(Retry(before, exchange, max(0.0, exchange.at - since)))
            del pending[key]
        if exchange.moment in ATTEMPTS and exchange.moment != "connect":
            tried[connection] = exchange.request
        if exchange.refused and exchange.fault is not None:
            pending[key] = exchange
    return found


def _whose(exchange: Exchange) -> tuple[str, str]:
    """The client, and the request if it may be repeated on any connection."""
    return exchange.connection.client, exchange.request if _is_free(exchange) else ""


def _is_free(exchange: Exchange) -> bool:
    moment = protocols.get(exchange.connection.journal.protocol).moments.get(exchange.moment)
    return moment is not None and moment.anywhere


def _is_attempt(exchange: Exchange, before: Exchange, tried: dict[Connection, str]) -> bool:
    if exchange.moment == "connect" or _is_free(exchange):
        return True
    if exchange.connection is not before.connection:
        return False
    return tried.get(exchange.connection, exchange.request).lower() == exchange.request.lower()


def asked_wait(refusal: Exchange) -> tuple[float, float] | None:
    """The seconds for which a Retry-After asks, from the answer on, and by how much a measured delay may miss them.

    None where there is no such field, or one that is neither a number nor a date (RFC 9110 §10.2.3).
    """
    said = refusal.http.retry_after if refusal.http is not None else None
    if said is None:
        return None
    if said.isdecimal():
        return float(said), TOLERANCE
    try:
        until = parsedate_to_datetime(said).timestamp()
    except (ValueError, OverflowError):
        return None
    answered = refusal.wall + ((refusal.answered_at or refusal.at) - refusal.at)
    return max(0.0, until - answered), DATE_TOLERANCE


def peak(connections: Iterable[Connection]) -> tuple[int, Connection | None]:
    """The most connections open at a time, and the one that reached it. A refused connection counts, too."""
    events = []
    for connection in connections:
        events.append((connection.index, 1, connection))
        ends = [i for i in (connection.left_index, connection.closed_index) if i is not None]
        if ends:
            events.append((min(ends), -1, connection))
    live = most = 0
    culprit = None
    for _, step, connection in sorted(events, key=lambda e: e[:2]):
        live += step
        if live > most:
            most, culprit = live, connection
    return most, culprit
