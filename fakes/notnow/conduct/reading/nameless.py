"""The item behind a connection that ended before its first request: the wire does not name it, but the run may show it.

If a client asked for one item in the whole run, its other connections were for that item. A client that never asked
for anything is taken to have had as many items as it had connections side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

from notnow.conduct.reading.http.asked import is_nameless
from notnow.conduct.reading.ledger import Item, Ledger, Try

AT_ONCE = 1.0  # seconds: a client that comes back sooner, again and again, may come for something else each time


def attribute(ledger: Ledger) -> None:
    """Give the nameless tries of a ledger that failed to items, or note the items that they may belong to."""
    items: dict[str, list[Item]] = {}
    for item in ledger.items if ledger.nameless else ():
        items.setdefault(_client(item.tries[0]), []).append(item)
    for client, failed in _failed(ledger).items():
        own = items.get(client, [])
        if not own:
            ledger.items += _invented(failed)
        elif len(own) == 1:
            _join(own[0], failed)
        else:
            owners = tuple(own)
            for one in failed:
                one.owners = owners
    ledger.nameless[:] = [one for one in ledger.nameless if one.item is None]


def _failed(ledger: Ledger) -> dict[str, list[Try]]:
    """The nameless tries that failed, by the address of their client."""
    found: dict[str, list[Try]] = {}
    for one in ledger.nameless:
        if one.failed:
            found.setdefault(_client(one), []).append(one)
    return found


def _client(one: Try) -> str:
    return one.connection.client


def _invented(failed: Sequence[Try]) -> list[Item]:
    """The items of a client that never named any: one for each connection that was there at the same time."""
    found: list[Item] = []
    for one in failed:
        if all(not one.knew_of(item.tries[-1]) for item in found):
            found.append(Item(f"the request behind #{one.connection.number}", invented=True))
            found[-1].add(one)
        elif len(found) == 1 and _follows(one, found[0].tries[-1]):
            found[0].add(one)
        else:
            one.owners = tuple(found)
    return found


def _join(item: Item, failed: Sequence[Try]) -> None:
    """Add tries to the only item of their client, where they come before or between its own."""
    found = sorted([*item.tries, *failed], key=lambda one: one.started_index)
    item.tries = []
    for one in found:
        one.earlier = one.later = None
        if one.item is item or not item.tries or _follows(one, item.tries[-1]):
            item.add(one)


def _follows(one: Try, last: Try) -> bool:
    """True if a try is one more of the same: it came after the last one, which had not itself come at once."""
    if last.ending == "accepted" or not one.knew_of(last):
        return False
    came_at_once = is_nameless(last) and last.earlier is not None and last.delay < AT_ONCE
    return not came_at_once or one.started_at - last.ended_at >= AT_ONCE
