"""The ledger of HTTP: requests, and the tries of each.

A request is its method, authority, path with query, and body. The same request again is a retry of the one that failed
and has waited longest. With an Idempotency-Key, or if it is not idempotent, it is the same request also after a good answer:
one that comes twice. Otherwise it is another item, and so are requests side by side.
"""

from __future__ import annotations

from collections import defaultdict, deque
from heapq import heappop, heappush

from notnow.conduct.reading.http.asked import NEVER, Asked, Key, asked, body_of, is_nameless, request_of
from notnow.conduct.reading.ledger import COUNT, Doubt, Item, Ledger, Try, tell_apart
from notnow.conduct.reading.nameless import AT_ONCE, attribute
from notnow.conduct.reading.run import Run
from notnow.http_words import IDEMPOTENT
from notnow.journal import Connection
from notnow.units import plural

Heaps = dict[str | None, list[tuple[float, int, Try]]]  # failed tries by their body, the first to end on top

CROSSING = 0.02  # real seconds within which a request may have been on its way when another one was answered


def ledger(run: Run) -> Ledger:
    """The requests of a run, and the connections that ended before they carried one."""
    return run.once(_read)


def _read(run: Run) -> Ledger:
    found, lost = Ledger(dropped=run.dropped), _Lost()
    known: dict[tuple[Key, bool], _Same] = {}
    tries = asked(run)
    nameless = any(each.key is None for each in tries)
    for each in tries:
        if each.key is None:
            lost.came(each.one)
            lost.add(each.one)
            found.nameless.append(each.one)
            continue
        same = known.get(kind := (each.key, each.mark is None))
        item = same.before(each) if same is not None else None
        if nameless and (item is None or each.opens):
            lost.came(each.one)
        if nameless:
            lost.busy(each.one)
        if item is None:
            found.items.append(item := _new_item(each))
        else:
            item.add(each.one)
        if same is None and not (
            item.repeatable and each.mark is None and each.body == "" and each.one.ending == "accepted"
        ):
            same = known[kind] = _Same()  # a GET with a good answer leaves nothing to know
        if same is not None:
            same.add(each, item)
    attribute(found)
    for item in found.items:
        _conclude(item, run.proxy)
    found.doubts += lost.doubts()
    tell_apart(found, run.count)
    return found


def _new_item(each: Asked) -> Item:
    assert each.key is not None
    idempotent = each.method in IDEMPOTENT
    # An Idempotency-Key makes a copy harmless, whatever the method.
    item = Item(each.key[1], repeatable=idempotent or each.mark is not None, asks_first=not idempotent)
    item.add(each.one)
    return item


def _conclude(item: Item, proxy: bool) -> None:
    """Note if the client rightly does not try again, and if the journal leaves a doubt."""
    last = item.tries[-1]
    if item.asks_first and not item.repeatable and last.failed:
        # RFC 9110 §9.2.2: a client should not repeat what may have been carried out, and a proxy must not in any case.
        item.kept_back = proxy or (last.ending == "unanswered" and not is_nameless(last))
    if last.ended_index == NEVER:
        item.in_doubt = item.in_doubt or "it was still waiting for its answer"
    elif last.ending == "abandoned":
        item.in_doubt = (
            item.in_doubt or "the client left before the answer was complete, and may not have wanted the rest"
        )


class _Same:
    """The tries of the same request by one client, with an Idempotency-Key or without, whatever its body."""

    __slots__ = ("accepted", "bodies", "failed", "marked", "order", "unanswered")

    def __init__(self) -> None:
        self.failed: tuple[Heaps, Heaps, Heaps] = ({}, {}, {})  # what is tried again rather than others comes first
        self.bodies: set[str] = set()
        self.accepted: dict[str | None, Item] = {}  # by the body: what may be repeated only with harm
        self.marked: dict[str, Item] = {}  # by the Idempotency-Key
        self.unanswered = deque[Try]()  # those that nobody has answered, as far as others did not come meanwhile
        self.order = 0

    def add(self, each: Asked, item: Item) -> None:
        """Note a try that belongs to an item."""
        if each.body is not None:
            self.bodies.add(each.body)
        if each.mark is not None:
            self.marked[each.mark] = item
        if each.one.ending != "accepted":
            self.order += 1
            heap = self.failed[_rank(each.one, item)].setdefault(each.body, [])
            heappush(heap, (each.one.ended_at, self.order, each.one))
            if each.one.ending in ("unanswered", "abandoned"):
                self.unanswered.append(each.one)
        elif not item.repeatable:
            self.accepted[each.body] = item

    def before(self, each: Asked) -> Item | None:
        """The item of which this is proved to be a further try."""
        if each.mark is not None and each.mark in self.marked:
            return self.marked[each.mark]
        before = self._may_come_again(each)
        if before is None or before.item is None:
            self._came_meanwhile(each.one)
            return self._carried_out(each)
        if doubt := _doubt(self, before, each):
            before.item.in_doubt = doubt
            return None
        return before.item

    def _may_come_again(self, each: Asked) -> Try | None:
        """The try that failed and may come again with this body, or with a part of it: the first to end."""
        for heaps in self.failed:
            if heaps and (before := self._first(heaps, each.body)) is not None and each.one.knew_of(before):
                return before
        return None

    def _first(self, heaps: Heaps, body: str | None) -> Try | None:
        if len(heaps) == 1 and body in heaps:
            return _top(heaps, body)
        bodies = {body, None} if body is not None else {None, *self.bodies} if len(self.bodies) < 2 else {None}
        tops = [top for one in bodies if (top := _top(heaps, one)) is not None]
        return min(tops, key=lambda top: top.ended_at, default=None)

    def _came_meanwhile(self, one: Try) -> None:
        """The same request comes while another one waits: the client may have given that up without a sign."""
        while self.unanswered:
            waiting = self.unanswered[0]
            if one.started_at - waiting.started_at < CROSSING * speed(one.connection):
                return
            self.unanswered.popleft()
            if not one.knew_of(waiting) and waiting.item is not None:
                waiting.item.in_doubt = (
                    "the same request came while it waited: as its retry after a time-out, or as a request of its own"
                )
                return

    def _carried_out(self, each: Asked) -> Item | None:
        """A request that comes again after a good answer: it was carried out twice, unless it is idempotent."""
        before = self.accepted.get(each.body) if each.body is not None else None
        return before if before is not None and each.one.knew_of(before.tries[-1]) else None


def _rank(one: Try, item: Item) -> int:
    """The order in which a client repeats failed tries: those that it may repeat first, final refusals last."""
    if one.ending == "refused":
        return 2
    return int(item.asks_first and one.ending != "deferred")


def _top(heaps: Heaps, body: str | None) -> Try | None:
    """The first try of this body to end that was not tried again."""
    heap = heaps.get(body)
    while heap and heap[0][2].later is not None:
        heappop(heap)
    return heap[0][2] if heap else None


def _doubt(same: _Same, before: Try, each: Asked) -> str:
    """Why a try may be the retry of the one before, or another request; empty if it is the retry."""
    if each.mark is not None:
        return "the same request came after it with another Idempotency-Key: as its retry, or for itself"
    if _may_cross(before, each.one):
        return "the same request came so soon after it that it may be its retry or another one"
    if len(same.bodies) + (each.body is not None and each.body not in same.bodies) > 1:
        known = request_of(before)
        if each.body is None or known is None or body_of(known) is None:
            return "its body had not come whole, and several others came to that URL: one may be its retry"
    return ""


def _may_cross(before: Try, again: Try) -> bool:
    """True if the later one may have been sent before its client knew how the one before had ended.

    After a 421, a reset or a close a client needs another connection, which may be open already; after a refusal it has to
    wait.
    """
    if again.connection is before.connection or again.connection.index > before.ended_index:
        return False
    known = request_of(before)
    waits = known is not None and known.status not in (None, 421)
    return waits and again.started_at - before.ended_at < CROSSING * speed(again.connection)


def speed(connection: Connection) -> float:
    """Seconds of scenario time in a second of real time."""
    found: float = getattr(connection.journal.clock, "speed", 1.0)
    return found


class _Lost:
    """Connections that ended before they carried a request: a later first try of their client may be their retry.

    A client may try again at once, but only once (RFC 9110 §9.2.2): more connections may have been for several items.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Try]] = {}  # by the address of the client
        self._busy = defaultdict[str, int](int)  # where the last of its requests ended
        self._hasty: set[int] = set()  # the tries that came at once after a connection

    def add(self, one: Try) -> None:
        if one.failed:
            self._waiting.setdefault(one.connection.client, deque()).append(one)

    def came(self, one: Try) -> None:
        """A try came that may be the retry of a connection, or of another item if others are under way."""
        client = one.connection.client
        waiting = self._waiting.get(client)
        if not waiting or not one.knew_of(waiting[0]):
            return
        if one.started_at - waiting[-1].ended_at < AT_ONCE:
            self._hasty.add(id(one))
            if id(waiting[0]) in self._hasty or self._busy[client] >= one.started_index:
                return
        waiting.popleft()

    def busy(self, one: Try) -> None:
        """A request is under way until its end."""
        client = one.connection.client
        self._busy[client] = max(self._busy[client], one.ended_index)

    def doubts(self) -> list[Doubt]:
        left = [one for waiting in self._waiting.values() for one in waiting if one.item is None]
        if not left:
            return []
        they = "it" if len(left) == 1 else "they"
        why = f"{plural(len(left), 'connection')} ended before {they} carried a request; it may have been any request"
        return [Doubt(why, COUNT, tuple(one.by for one in left))]
