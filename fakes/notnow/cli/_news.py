"""The new part of an exchange: the journal reports an exchange again whenever it goes on, as a transfer does between its
opening reply and its final one.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from notnow.journal import Entry, Exchange

MOST = 10_000  # the last exchanges are remembered, at least so many: few are reported again, and soon

State = int  # four times the lines of its reply, 2 more if it is stored, 1 more if it is closed


class New(Struct, frozen=True):
    """`first`: the exchange is new. `lines` are the new reply lines; `stored`: the message or file has been stored since;
    `closed`: the connection has been closed since.
    """

    first: bool
    lines: tuple[str, ...]
    stored: bool
    closed: bool

    @property
    def codes(self) -> tuple[int, ...]:
        """The codes of the replies among `lines`."""
        return tuple(int(line[:3]) for line in self.lines if line[:3].isdecimal() and line[3:4] != "-")


class News:
    """Remembers the reported part of each exchange."""

    def __init__(self) -> None:
        self._told: dict[int, State] = {}
        self._before: dict[int, State] = {}  # what was told before; it goes when as much has been told since
        self._newest = 0  # the highest index of all that were told

    def of(self, exchange: Exchange) -> New | None:
        """The part that is new since the last call with this exchange; None if nothing is new."""
        now = _state(exchange)
        before = self._note(exchange.index, now)
        self._newest = max(self._newest, exchange.index)
        self._forget()
        lines = exchange.lines[: now >> 2]  # it may go on meanwhile, in the fake's thread
        if before is None:
            return New(True, tuple(lines), bool(now & 2), bool(now & 1))
        if before == now:
            return None
        return New(False, tuple(lines[before >> 2 :]), bool(now & ~before & 2), bool(now & ~before & 1))

    def among(self, entries: Iterable[Entry]) -> list[Entry]:
        """These entries without the exchanges of which nothing is new since the last call with them."""
        found: list[Entry] = []
        newest, told = self._newest, self._told
        for entry in entries:
            if isinstance(entry, Exchange):
                index, now = entry.index, _state(entry)
                if index > newest:  # nearly all are: they are told in order
                    newest = index
                    told[index] = now
                elif self._note(index, now) == now:
                    continue
            found.append(entry)
        self._newest = newest
        self._forget()
        return found

    def _note(self, index: int, now: State) -> State | None:
        """How the exchange of this index was when it was told last, and None if it was not; it is told as it is now."""
        before = self._told.get(index)
        if before is None:
            before = self._before.get(index)
        self._told[index] = now
        return before

    def _forget(self) -> None:
        if len(self._told) >= MOST:
            self._told, self._before = {}, self._told


def _state(exchange: Exchange) -> State:
    reply = exchange.reply
    state = 0 if not reply else 4 * reply.count("\n") + 4 if "\n" in reply else 4
    if exchange.facts is not None and exchange.stored:
        state += 2
    return state if exchange.end is None else state + 1
