"""How a client came back: the attempts with which it repeated what the server had refused, as the ledger proves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from math import inf
from operator import attrgetter

from msgspec import Struct

from notnow import protocols
from notnow.conduct.reading import attempts
from notnow.conduct.reading.ledger import Doubt, Item, Ledger, Try
from notnow.conduct.reading.run import Run
from notnow.journal import Exchange, Journal


class Comeback(Struct, frozen=True):
    """An attempt, and the last of the failed tries that it repeats."""

    before: Try
    attempt: Try

    @property
    def delay(self) -> float:
        """Seconds from the refusal to the attempt."""
        return max(0.0, self.attempt.started_at - self.before.ended_at)

    @property
    def asked_wait(self) -> float | None:
        """The seconds for which the refusal asked in a Retry-After."""
        asked = attempts.asked_wait(self.before.by) if isinstance(self.before.by, Exchange) else None
        return None if asked is None else asked[0]


class Comebacks(Struct, eq=False, dict=True):  # a dict for cached properties
    """The attempts of a run that repeat something, in order, and the tries that the wire gives to no single item.

    `proved`: one connection with which a client comes back for several items is one attempt, and so is the same thing
    asked again where it was refused. `rows` are the tries of each item, in order. `unnamed` are failed tries, each of
    some item of its client: of one that the ledger has, unless the ledger has doubts. `final` are tries without a name that
    were refused for good: what came after them may be the same again. `unclear` are items that another item
    may have been a retry of. `count` is the number of items that the client was given, if known. `plain`: what was refused
    was no try of an item, and the attempts after it are taken as they come.
    """

    ledger: Ledger
    proved: Sequence[Comeback]
    rows: dict[Item, list[Try]]
    unnamed: Sequence[Try]
    unclear: Sequence[Item]
    final: Sequence[Try] = ()
    count: int | None = None
    plain: bool = False

    def bounds(self, until: float = inf) -> tuple[int, int]:
        """How many attempts that began no later than `until` repeated something, at least and at most.

        Every try of an item but the first repeats it, so each try without a name adds one attempt, but for those that may
        be the first tries of items that the client named only later, or never.
        """
        proved = sum(one.attempt.started_at <= until for one in self.proved)
        unnamed = sum(one.started_at <= until for one in self.unnamed)
        later = sum(item.tries[0].started_at > until for item in self.ledger.items)
        named = len(self.ledger.items) - later
        least = proved + max(0, unnamed - later - self._items_unseen(unnamed))
        final = sum(self._latest.get(one.client, -1) > one.ended_index for one in self.final if one.started_at <= until)
        least += final if self.count == len(self.ledger.items) else 0
        unclear = sum(item.tries[-1].ended_at <= until for item in self.unclear)
        return least, max(least, proved + unclear + final + (unnamed if named else max(0, unnamed - 1)))

    def _items_unseen(self, most: int) -> int:
        """How many items there may be that the client never named."""
        if self.count is not None:
            return max(0, self.count - len(self.ledger.items))
        return most if self.ledger.doubts and not self._one_by_one else 0

    @cached_property
    def _one_by_one(self) -> bool:
        """True if the client named one item, and made each try when it knew how the one before had ended.

        Its next attempt is taken for a retry then, although it may have been for another item that came at once.
        """
        return len(self.ledger.items) == 1 and all(again.knew_of(before) for before, again in pairwise(self.tries))

    @property
    def alone(self) -> bool:
        """True if all tries are of one item for certain."""
        return self.plain or (len(self.ledger.items) == 1 and not self._items_unseen(1))

    @cached_property
    def tries(self) -> list[Try]:
        """All tries, in the order in which they began."""
        return sorted([*chain(*self.rows.values()), *self.unnamed], key=attrgetter("started_index"))

    @cached_property
    def chains(self) -> list[list[Comeback]]:
        """The comebacks for each item."""
        if self.plain:
            return [list(self.proved)]
        return [list(_of_row(row)) for row in ([self.tries] if self.alone else self.rows.values())]

    @property
    def longest(self) -> Sequence[Comeback]:
        """The comebacks for the item that was tried most often."""
        return max(self.chains, key=len, default=[])

    @property
    def first(self) -> tuple[Comeback | None, float]:
        """The comeback that came first, and its delay in seconds; more than it took where a later attempt may be the first.

        After a try without a name the client's next attempt may have been for another item.
        """
        row = self.longest if self.alone else self.proved
        proved = row[0] if row else None
        waiting = None if self.alone else next(iter(self.unnamed), None)
        again = self._next_of(waiting) if waiting is not None else None
        if waiting is None or again is None or (proved and proved.attempt.started_index < again.started_index):
            return proved, proved.delay if proved else 0.0
        return Comeback(waiting, again), self._latest_of(waiting) - waiting.ended_at

    @cached_property
    def _latest(self) -> dict[tuple[Journal, str], int]:
        """Where the last try of each client began."""
        return {one.client: one.started_index for one in self.tries}

    def _next_of(self, one: Try) -> Try | None:
        return next((again for again in self.tries if again.client == one.client and again.knew_of(one)), None)

    def _latest_of(self, one: Try) -> float:
        """When an item may have been tried again at the latest, of those that a try without a name may have been of."""
        if self._items_unseen(1):
            return inf
        firsts = (next((again for again in item.tries if again.knew_of(one)), None) for item in one.owners)
        return max((again.started_at for again in firsts if again is not None), default=inf)

    def doubt(self) -> Doubt:
        """Why the journal cannot tell which tries repeat which, and what would settle it."""
        if self.ledger.doubts and self.count is None:
            return self.ledger.doubts[0]
        tries = [*self.unnamed, *self.final, *(item.tries[-1] for item in self.unclear)]
        why = "the journal does not tell which tries were of the same item"
        return Doubt(why, "a fault that acts only after the client has named the item", (tries[0].by,) if tries else ())


def comebacks(run: Run, count: int | None = None) -> Comebacks:
    """How the clients of a run came back after what a rule of the scenario refused."""
    ledger = run.ledger
    rows = {item: list(item.tries) for item in [*ledger.items, *ledger.looks]}
    final = [one for one in ledger.nameless if one.ending == "refused" and _by_rule(one)]
    unnamed = [one for one in ledger.nameless if one.failed and _by_rule(one)]
    _add_idle(run, rows, unnamed)
    unclear = [item for item in ledger.of_state("in doubt") if item.in_doubt and item.tries[-1].failed]
    proved = _attempts(one for row in rows.values() for one in _of_row(row))
    if len(ledger.items) > 1 or Comebacks(ledger, proved, rows, unnamed, unclear).bounds()[1]:
        return Comebacks(ledger, proved, rows, unnamed, unclear, final, count)
    return Comebacks(ledger, _plain(run), rows, (), (), (), count, plain=True)


def _plain(run: Run) -> list[Comeback]:
    """The next attempt after each refusal: what a client of one item does that was refused before it asked for it."""
    found = [retry for journal in run.journals for retry in attempts.retries(_seen(run, journal))]
    return [Comeback(_as_try(one.refusal), _as_try(one.attempt)) for one in found]


def _seen(run: Run, journal: Journal) -> Sequence[Exchange]:
    return journal.exchanges if run.whole else journal.since_play()


def _as_try(x: Exchange) -> Try:
    ended = x.at if x.answered_at is None else x.answered_at
    return Try(x, x, "refused", x.at, x.index, ended, x.index)


def _add_idle(run: Run, rows: dict[Item, list[Try]], unnamed: list[Try]) -> None:
    """Add connections on which nothing was asked: they too are tries of a client that never named what it had."""
    invented: dict[tuple[Journal, str], list[Item]] = {}
    for item in rows:
        if item.invented:
            invented.setdefault(item.tries[0].client, []).append(item)
    busy = {one.connection for one in run.ledger.tries} if invented else set()
    for connection, exchanges in run.by_connection.items() if invented else ():
        items = invented.get((connection.journal, connection.client), [])
        if connection in busy or not items or connection.index < items[0].tries[0].ended_index:
            continue
        x = exchanges[0]
        one = Try(x, x, "abandoned", x.at, x.index, x.at, x.index)
        (rows[items[0]] if len(items) == 1 else unnamed).append(one)
    for items in invented.values():
        rows[items[0]].sort(key=attrgetter("started_index"))


def _of_row(row: Sequence[Try]) -> Iterator[Comeback]:
    for before, again in pairwise(row):
        if before.ending not in ("accepted", "abandoned") and _by_rule(before) and again.knew_of(before):
            yield Comeback(before, again)


def _by_rule(one: Try) -> bool:
    """False for an answer of a healthy server, such as a 550 for a file that does not exist."""
    return not isinstance(one.by, Exchange) or one.by.fault is not None or not one.by.refused


def _attempts(found: Iterable[Comeback]) -> list[Comeback]:
    """One comeback for each attempt, from the last refusal that it answers."""
    made: dict[tuple[object, int], Comeback] = {}
    for one in sorted(found, key=lambda one: one.attempt.started_index):
        first = made.setdefault(_attempt(one), one)
        if first is not one and first.before.ended_index < one.before.ended_index < first.attempt.started_index:
            made[_attempt(one)] = Comeback(one.before, first.attempt)
    return list(made.values())


def _attempt(one: Comeback) -> tuple[object, int]:
    again = one.attempt
    moment = protocols.get(again.connection.journal.protocol).moments.get(again.began.moment)
    if again.connection is one.before.connection or (moment is not None and moment.anywhere):
        return again.began, again.started_index
    return again.connection, 0
