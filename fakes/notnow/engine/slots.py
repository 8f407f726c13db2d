"""Which slots a connection acquires, holds and gives back. An `over` rule counts them."""

from __future__ import annotations

from collections.abc import Iterator, Set

from notnow.engine.connection import Connection
from notnow.engine.events import Facts
from notnow.engine.matching import with_fields
from notnow.engine.plans import NO_PLAN, AdmissionCount, CompiledPhase, Plan, key_for
from notnow.engine.questions import Key, Slot
from notnow.engine.store import Store


def admissions(plan: Plan, known: Facts) -> tuple[list[tuple[Key, int]], list[Key]]:
    """The slots and windows that an event with these facts takes if it is let through.

    A slot comes with the index of its owner: 0, the connection, or 1, what begins there and lasts.
    """
    slots: list[tuple[Key, int]] = []
    windows: list[Key] = []
    for count in plan.admissions:
        if count.includes(known):
            key = key_for(count, known)
            if count.within:
                windows.append(key)
            else:
                slots.append((key, int(count.lasting)))
    return slots, windows


def entitled(connection: Connection, phase: CompiledPhase) -> Iterator[Slot]:
    """The slots of a connection in a scenario that began after the connection was let in."""
    if connection.released:
        return
    for moment in connection.passed:
        yield from _slots(connection.id, phase, moment, connection.facts, lasting=False)
    for owner, (moment, facts) in connection.in_progress.items():
        yield from _slots(owner, phase, moment, {**connection.facts, **facts}, lasting=True)


def leave(connection: Connection, store: Store) -> None:
    """Free every slot of a connection, and of what is in progress there: one of the two sides is leaving."""
    if connection.released:
        return
    connection.released = True
    for owner in (connection.id, *connection.in_progress):
        store.release_all(owner)


def _slots(owner: str, phase: CompiledPhase, moment: str, known: Facts, lasting: bool) -> Iterator[Slot]:
    plan = phase.plan(moment) or NO_PLAN
    if plan.fields:
        known = with_fields(known, plan.fields)
    for count in _slot_counts(plan):
        if count.lasting is lasting and count.includes(known):
            yield key_for(count, known), owner


def _slot_counts(plan: Plan) -> Iterator[AdmissionCount]:
    return (count for count in plan.admissions if not count.within)


def withdraw(connection: Connection, lost: Set[str], phase: CompiledPhase) -> list[Slot]:
    """Undo what rested on facts that no longer hold (REIN, RFC 959 §4.1.1), and return the slots that this frees.

    These are the slots acquired at moments about one of these facts, and those counted `per` one. A slot that the
    connection holds for another reason as well stays.
    """
    about = {moment for moment in connection.passed if moment in phase.moments and lost & phase.moments[moment].facts}
    freed: set[Key] = set()
    kept: set[Key] = set()
    for moment in connection.passed:
        for count in _slot_counts(phase.plan(moment) or NO_PLAN):
            if not count.lasting:
                gone = moment in about or not lost.isdisjoint(count.per)
                (freed if gone else kept).add(key_for(count, connection.facts))
    connection.passed -= about
    return [(key, connection.id) for key in freed - kept]
