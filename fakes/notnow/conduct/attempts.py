"""Reading a journal for what a client did: its attempts, what refused them, and how long it waited.

An attempt is a connection, or a MAIL on a connection where the same sender was refused before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from notnow.journal import Connection, Exchange

ATTEMPTS = ("connect", "mail")


@dataclass(frozen=True, slots=True)
class Retry:
    """A client comes back: from which refusal, with which attempt, and the seconds between them."""

    refusal: Exchange
    attempt: Exchange
    delay: float


def refusals(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """Where a rule refused, by a 4yz or 5yz reply or by closing without one."""
    return [x for x in exchanges if x.refused and x.fault is not None]


def retries(exchanges: Iterable[Exchange]) -> list[Retry]:
    """Each attempt that followed a refusal of the same client, in order."""
    found: list[Retry] = []
    pending: dict[str, Exchange] = {}
    senders: dict[Connection, str] = {}
    for exchange in exchanges:
        connection = exchange.connection
        before = pending.get(connection.client)
        if before is not None and exchange.moment in ATTEMPTS and _is_attempt(exchange, before, senders):
            since = before.answered_at if before.answered_at is not None else before.at
            found.append(Retry(before, exchange, max(0.0, exchange.at - since)))
            del pending[connection.client]
        if exchange.moment == "mail":
            senders[connection] = exchange.request
        if exchange.refused and exchange.fault is not None:
            pending[connection.client] = exchange
    return found


def _is_attempt(exchange: Exchange, before: Exchange, senders: dict[Connection, str]) -> bool:
    if exchange.moment == "connect":
        return True
    if exchange.connection is not before.connection:
        return False
    return senders.get(exchange.connection, exchange.request).lower() == exchange.request.lower()


def copies(exchanges: Iterable[Exchange]) -> dict[str, list[Exchange]]:
    """The exchanges that stored a message, by its Message-ID, or by its content where it has none."""
    found: dict[str, list[Exchange]] = {}
    for exchange in exchanges:
        if exchange.facts and exchange.facts.get("stored"):
            name = exchange.facts.get("message_id") or f"sha256:{exchange.facts['sha256'][:16]}"
            found.setdefault(name, []).append(exchange)
    return found


def peak(connections: Iterable[Connection]) -> tuple[int, Connection | None]:
    """The most connections at a time, and the one that made it so. Refused ones count as they come."""
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
