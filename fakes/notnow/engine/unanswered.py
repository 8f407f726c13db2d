"""What a client does that asks for no script: nothing is decided about it, and no timer starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from notnow.engine.connection import Connection, slot_owner
from notnow.engine.events import Closed, Ended, Event, Heard, Known, Leaving
from notnow.engine.progress import Progress
from notnow.engine.slots import leave, withdraw
from notnow.engine.store import Store


def _closed(connection: Connection, _event: Closed, _now: float, store: Store, _progress: Progress) -> None:
    leave(connection, store)
    store.forget(connection.id)


def _ended(connection: Connection, event: Ended, now: float, store: Store, _progress: Progress) -> None:
    connection.active_at = connection.transfer_at = max(connection.active_at, now)
    connection.undefer(event.stream)
    if connection.in_progress:
        owner = slot_owner(connection.id, event.moment, event.stream)
        if connection.in_progress.pop(owner, None):
            store.release_all(owner)


def _heard(connection: Connection, _event: Heard, now: float, _store: Store, _progress: Progress) -> None:
    connection.heard(now)


def _known(connection: Connection, event: Known, _now: float, store: Store, progress: Progress) -> None:
    if None in event.facts.values() and (lost := connection.loses(event.facts)):
        store.release(withdraw(connection, lost, progress.phase))
    connection.facts = {**connection.facts, **event.facts}


def _leaving(connection: Connection, _event: Leaving, _now: float, store: Store, _progress: Progress) -> None:
    leave(connection, store)


UNANSWERED: Mapping[type[Event], Callable[[Connection, Any, float, Store, Progress], None]] = {
    Closed: _closed,
    Ended: _ended,
    Heard: _heard,
    Known: _known,
    Leaving: _leaving,
}
"""How each such event is taken in, by the phase that plays."""
