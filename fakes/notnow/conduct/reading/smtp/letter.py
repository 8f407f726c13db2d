"""A message of a client, as the server may know it: by its content, or by no more than its envelope."""

from __future__ import annotations

from bisect import bisect_left
from math import inf

from msgspec import Struct

from notnow.conduct.reading.ledger import Item


class Letter(Struct, eq=False):
    """A message of a client: its items by recipient; "" is its recipient as long as only the sender is known.

    `seen`: the server has seen its content. `marked`: it has a Message-ID. `invented`: its client named no mail at all.
    `busy` are the spans (indices) of the transactions that are known to have carried it, in order. `accepted` are the
    recipients that have it, and since when.
    """

    name: str
    seen: bool = False
    marked: bool = False
    invented: bool = False
    items: dict[str, Item] = {}
    accepted: dict[str, int] = {}
    busy: list[tuple[int, float]] = []

    def item(self, recipient: str) -> Item:
        found = self.items.get(recipient)
        if found is None:
            name = f"{self.name} to {recipient}" if recipient else self.name
            found = self.items[recipient] = Item(name, marked=self.marked, invented=self.invented)
        return found

    def wanted(self, index: int) -> list[str]:
        """Its recipients that the client did not know to have it."""
        return [r for r in self.items if self.accepted.get(r, inf) > index] if self.accepted else list(self.items)

    def overlaps(self, start: int, end: float) -> bool:
        """True if another transaction carried it meanwhile."""
        i = bisect_left(self.busy, (start, start))
        return (i > 0 and self.busy[i - 1][1] > start) or (i < len(self.busy) and self.busy[i][0] < end)

    def next_after(self, index: int) -> float:
        """The index at which a transaction that is known to have carried it began next."""
        i = bisect_left(self.busy, (index, index))
        return self.busy[i][0] if i < len(self.busy) else inf

    def carried(self, span: tuple[int, float]) -> None:
        if self.busy and self.busy[-1][0] > span[0]:
            self.busy.insert(bisect_left(self.busy, span), span)
        else:
            self.busy.append(span)
