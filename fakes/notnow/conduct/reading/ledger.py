"""The ledger of a run: the items that clients were to deliver or fetch, and their tries of each.

An item is a message to one recipient (SMTP), a file in one direction (FTP), or a request (HTTP). Each protocol has a
module beside this one that reads the journal into the ledger, once; rules, expectations, results and storm figures
read the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from operator import attrgetter
from typing import Literal

from msgspec import Struct, field

from notnow.conduct.finding import Evidence
from notnow.journal import Connection, Exchange, Journal

Ending = Literal["accepted", "deferred", "refused", "unanswered", "abandoned"]
COUNT = "the number of items that the client was given (--count N, count=N in pytest)"  # what settles most doubts
State = Literal["delivered", "duplicated", "refused", "missing", "in doubt"]


class Try(Struct, eq=False):
    """One time that a client asked a server for an item.

    `began` is the exchange with which it began: the command, the request, or the first exchange of the connection if
    this is the first try on it. `by` proves how it ended; it is a connection where the client spoke after the close, or
    never spoke. `ending` is what the client could know: "accepted", "deferred" (refused for now: a 4yz, an announced
    close), "refused" (for good), "unanswered" (a close, reset or cut before the final reply, or a reply that the client
    did not wait for), "abandoned" (the client itself gave up on it before the server had refused anything).

    `kept` is the exchange with which the item was whole on the other side, whatever the server said of it.
    `item` is None where the wire does not name one: `owners` are the items that it may belong to, none if the wire
    gives no hint. `earlier` and `later` are the tries of the same item before and after it.
    """

    began: Exchange
    by: Evidence
    ending: Ending
    started_at: float
    started_index: int
    ended_at: float
    ended_index: int
    kept: Exchange | None = None
    item: Item | None = None
    owners: tuple[Item, ...] = ()
    earlier: Try | None = None
    later: Try | None = None

    def __repr__(self) -> str:
        return f"<Try: {self.ending} on #{self.connection.number}>"

    @property
    def connection(self) -> Connection:
        return self.began.connection

    @property
    def client(self) -> tuple[Journal, str]:
        """The server and the address of the client."""
        return self.connection.journal, self.connection.client

    @property
    def failed(self) -> bool:
        """True if the server did not accept the item, for now or without saying so."""
        return self.ending in ("deferred", "unanswered")

    @property
    def delay(self) -> float:
        """Seconds since the try before it ended; 0 for a first try."""
        return max(0.0, self.started_at - self.earlier.ended_at) if self.earlier is not None else 0.0

    def knew_of(self, other: Try) -> bool:
        """True if this try began after the client could know how the other one had ended."""
        return self.started_index > other.ended_index


class Item(Struct, eq=False):
    """Something that a client was to deliver or fetch.

    `name` is what reports call it. `repeatable`: it may come through again without harm (a download, a GET, a request
    with an Idempotency-Key). `asks_first`: without a reply, a client must not take for granted that it may repeat it
    (RFC 9110 §9.2.2). `marked`: the receiver can recognise a copy, by its Message-ID or the name of its file, so one that
    the client could not avoid does no harm. `kept_back`: the client rightly does not try it again. `invented`: the client
    named nothing in the whole run, and connections stand for what it had. `in_doubt` says why the journal cannot tell what
    became of it.
    """

    name: str
    tries: list[Try] = []
    repeatable: bool = False
    asks_first: bool = False
    marked: bool = False
    kept_back: bool = False
    invented: bool = False
    in_doubt: str = ""

    def __repr__(self) -> str:
        """Its name, its state, and how each try ended."""
        return f"<Item {self.name!r}, {self.state}: {', '.join(one.ending for one in self.tries)}>"

    @property
    def doubt(self) -> str:
        """The reason why its state is "in doubt"."""
        return self.in_doubt or "the server accepted it and did not keep it"

    def add(self, found: Try) -> None:
        """Note a try of this item, the latest."""
        found.item = self
        if self.tries:
            found.earlier, self.tries[-1].later = self.tries[-1], found
        self.tries.append(found)

    @property
    def copies(self) -> list[Try]:
        """The tries with which it was whole on the other side."""
        return [one for one in self.tries if one.kept is not None]

    @property
    def surplus(self) -> list[Try]:
        """The copies that do harm: the client could have avoided them, or the receiver cannot recognise them."""
        if self.repeatable:
            return []
        copies = self.copies
        if not self.marked:
            return copies[1:]
        found, could_tell, known_from = list[Try](), False, -1
        for one in copies:
            if could_tell or one.started_index <= known_from:
                found.append(one)
            could_tell = could_tell or self._told(one)
            known_from = max(known_from, one.ended_index)
        return found

    def _told(self, copy: Try) -> bool:
        """True unless a copy was kept although the client was told, or had to assume, that it was not."""
        return copy.ending == "accepted" or (self.asks_first and copy.ending == "unanswered")

    @property
    def state(self) -> State:
        accepted, copies = False, 0
        for one in self.tries:
            accepted = accepted or one.ending == "accepted"
            copies += one.kept is not None
        if accepted and self.repeatable:
            return "delivered"
        if copies:
            return "duplicated" if copies > 1 and self.surplus else "delivered"
        if accepted:
            return "in doubt"
        if self.kept_back or (self.tries and self.tries[-1].ending == "refused"):
            return "refused"
        return "in doubt" if self.in_doubt else "missing"


class Doubt(Struct, frozen=True):
    """Something that the journal cannot tell, such as the number of items, and what would settle it."""

    why: str
    settled_by: str
    evidence: tuple[Evidence, ...] = ()


class Ledger(Struct, eq=False, dict=True):
    """The items of a run in the order in which they were first seen, and the tries that belong to none of them.

    `nameless` are tries that the wire gives to no single item: of connections that ended before the client named one, or
    with an envelope that several messages have. `doubts` say what they leave open. `may_be_copies` are doubts whether two items
    that came through are the same one. `looks` are no items: what a client only looked at on its way to others (FTP listings), where
    a look failed. `dropped` counts exchanges that the journal no longer has. The reader returns a ledger that is complete: what is asked of it is worked out once.
    """

    items: list[Item] = field(default_factory=list)
    nameless: list[Try] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    may_be_copies: list[Doubt] = field(default_factory=list)
    looks: list[Item] = field(default_factory=list)
    dropped: int = 0

    @cached_property
    def tries(self) -> list[Try]:
        """All tries, in the order in which they began."""
        found = [one for item in self.items for one in item.tries] + self.nameless
        return sorted(found, key=attrgetter("started_index"))

    @property
    def retries(self) -> Iterator[Try]:
        """The tries that are proved to repeat an earlier one."""
        return (one for one in self.tries if one.earlier is not None)

    def of_state(self, *states: State) -> list[Item]:
        """The items of these states, one state after the other."""
        return [item for state in states for item in self._by_state.get(state, ())]

    @cached_property
    def _by_state(self) -> dict[State, list[Item]]:
        found: dict[State, list[Item]] = {}
        for item in self.items:
            found.setdefault(item.state, []).append(item)
        return found


def distinct(items: Iterable[Item]) -> int:
    """How many items these are at least: what may be repeated without harm, a GET or a download, counts once."""
    found = list(items)
    again = [item.name.removesuffix(", again") for item in found if item.repeatable]
    return len(found) - len(again) + len(set(again))


def tell_apart(ledger: Ledger, count: int | None) -> None:
    """Make items of their own of what came again after the client had been told that it was accepted.

    Equal items without a name, such as two POSTs of the same body, look like one item that came twice. They were several if
    the client was given more items (`count`) than the ledger has, and nothing else can be the others.
    """
    if count is None or ledger.doubts or any(one.failed for one in ledger.nameless):
        return
    for item in list(ledger.items):
        while len(ledger.items) < count and (second := _came_again(item)) is not None:
            tries, item.tries[second:] = item.tries[second:], []
            item.tries[-1].later = tries[0].earlier = None
            item = Item(
                f"{item.name}, again", asks_first=item.asks_first, kept_back=item.kept_back, in_doubt=item.in_doubt
            )
            for one in tries:
                item.tries.append(one)
                one.item = item
            ledger.items.append(item)


def _came_again(item: Item) -> int | None:
    """The place of the first try after the server had accepted an item without a name, if it came through again."""
    if item.marked or not item.surplus:
        return None
    for place, one in enumerate(item.tries[:-1]):
        if one.kept is not None:
            told = one.ending == "accepted" and not (isinstance(one.by, Exchange) and 421 in one.by.codes)
            return place + 1 if told and item.tries[place + 1].knew_of(one) else None
    return None


def joined(ledgers: Iterable[Ledger]) -> Ledger:
    """The ledgers of several protocols as one."""
    several = list(ledgers)
    if len(several) == 1:
        return several[0]
    whole = Ledger()
    for ledger in several:
        whole.items += ledger.items
        whole.nameless += ledger.nameless
        whole.doubts += ledger.doubts
        whole.may_be_copies += ledger.may_be_copies
        whole.looks += ledger.looks
        whole.dropped += ledger.dropped
    return whole
