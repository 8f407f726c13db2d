"""The ledger of HTTP: requests, and the tries of each.

A request is its method, authority, path with query, and body. The same request again is a retry of the one that failed
and has waited longest; with an Idempotency-Key it is the same request whatever became of it. Otherwise it is another
item: requests side by side, or after a good answer, are not retries.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count

from notnow.conduct.reading.asked import NEVER, Asked, Key, asked, body_of, request_of
from notnow.conduct.reading.ledger import Doubt, Item, Ledger, Try
from notnow.conduct.reading.run import Run
from notnow.http_words import IDEMPOTENT
from notnow.units import plural

ANY = "any body"
CROSSING = 0.02  # real seconds within which a request on another connection may have been sent before it knew


def ledger(run: Run) -> Ledger:
    """The requests of a run, and the connections that ended before they carried one."""
    return run.once(_read)


def _read(run: Run) -> Ledger:
    found, failed, lost = Ledger(dropped=sum(j.dropped_since_play for j in run.journals)), _Failed(), _Lost()
    for each in asked(run):
        before = failed.before(each)
        if before is None or each.opens:
            lost.came(each.one)
        if before is not None:
            before.add(each.one)
        elif each.key is not None:
            found.items.append(_new_item(each))
        else:
            found.nameless.append(each.one)
            lost.add(each.one)
        failed.add(each)
    for item in found.items:
        _conclude(item, run.proxy)
    found.doubts += lost.doubts()
    return found


def _new_item(each: Asked) -> Item:
    assert each.key is not None
    _, method, authority, path = each.key
    idempotent = method in IDEMPOTENT
    name = f"{method} {authority}{path}"
    item = Item(name, repeatable=idempotent, asks_first=not idempotent, marked=each.mark is not None)
    item.add(each.one)
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
        self._heaps: dict[tuple[Key, str | None, str | None], list[tuple[float, int, Try]]] = {}
        self._order = count()
        self._bodies: dict[Key, set[str]] = {}
        self._marked: dict[tuple[Key, str], Item] = {}

    def add(self, each: Asked) -> None:
        if each.key is None or each.one.item is None:
            return
        if each.body is not None:
            self._bodies.setdefault(each.key, set()).add(each.body)
        if each.mark is not None:
            self._marked[each.key, each.mark] = each.one.item
        if each.one.ending != "accepted":
            for body in (each.body, ANY):
                heap = self._heaps.setdefault((each.key, each.mark and ANY, body), [])
                heappush(heap, (each.one.ended_at, next(self._order), each.one))

    def before(self, each: Asked) -> Item | None:
        """The item of the try that this one repeats, if it is proved to repeat one."""
        if each.key is None:
            return None
        if each.mark is not None and (each.key, each.mark) in self._marked:
            return self._marked[each.key, each.mark]
        bodies = (ANY,) if each.body is None else (each.body, None)
        tops = [top for body in bodies if (top := self._top(each.key, each.mark and ANY, body)) is not None]
        before = min(tops, key=lambda top: top.ended_at, default=None)
        if before is None or before.item is None or not each.one.knew_of(before):
            return None
        if doubt := self._doubt(before, each):
            before.item.in_doubt = doubt
            return None
        return before.item

    def _doubt(self, before: Try, each: Asked) -> str:
        """Why a try may be the retry of the one before, or another request; empty if it is the retry."""
        assert each.key is not None
        if each.mark is not None:
            return "the same request came after it with another Idempotency-Key: as its retry, or for itself"
        if _may_cross(before, each.one):
            return "the same request came so soon after it that it may be its retry or another one"
        known = request_of(before)
        part = each.body is None or known is None or body_of(known) is None
        others = self._bodies.get(each.key, set()) | ({each.body} if each.body is not None else set())
        if part and len(others) > 1:
            return "its body had not come whole, and several others came to that URL: one may be its retry"
        return ""

    def _top(self, key: Key, mark: str | None, body: str | None) -> Try | None:
        """The first of these to end that was not tried again."""
        heap = self._heaps.get((key, mark, body), [])
        while heap and heap[0][2].later is not None:
            heappop(heap)
        return heap[0][2] if heap else None


def _may_cross(before: Try, again: Try) -> bool:
    """True if the later one may have been sent before its client knew how the one before had ended.

    A 421, a reset and a close ask for another connection, which may be there already; a refusal asks to wait.
    """
    if again.connection is before.connection or again.connection.index > before.ended_index:
        return False
    known, speed = request_of(before), getattr(again.connection.journal.clock, "speed", 1.0)
    waits = known is not None and known.status not in (None, 421)
    return waits and again.started_at - before.ended_at < CROSSING * speed


class _Lost:
    """Connections that ended before they carried a request: a later first try of their client may be their retry."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Try]] = {}  # by the address of the client

    def add(self, one: Try) -> None:
        if one.failed:
            self._waiting.setdefault(one.connection.client, deque()).append(one)

    def came(self, one: Try) -> None:
        """A try came that may be the retry of a connection."""
        waiting = self._waiting.get(one.connection.client)
        if waiting and one.knew_of(waiting[0]):
            waiting.popleft()

    def doubts(self) -> list[Doubt]:
        left = [one for waiting in self._waiting.values() for one in waiting]
        if not left:
            return []
        they = "it" if len(left) == 1 else "they"
        why = f"{plural(len(left), 'connection')} ended before {they} carried a request, which may have been any"
        return [Doubt(why, "--count N", tuple(one.by for one in left))]
