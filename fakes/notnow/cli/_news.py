"""The new part of an exchange: the journal reports an exchange again whenever it goes on, as a transfer does between its
opening reply and its final one.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from notnow.journal import Exchange

MOST = 10_000  # the most exchanges to remember; few are reported again, and soon


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
        self._told: OrderedDict[int, tuple[int, bool, bool]] = OrderedDict()

    def of(self, exchange: Exchange) -> New | None:
        """The part that is new since the last call with this exchange; None if nothing is new."""
        lines, stored = exchange.lines, exchange.stored
        before = self._told.pop(exchange.index, None)
        now = self._told[exchange.index] = (len(lines), stored, exchange.closed)
        if len(self._told) > MOST:
            self._told.popitem(last=False)
        if before is None:
            return New(True, tuple(lines), stored, exchange.closed)
        if before == now:
            return None
        return New(False, tuple(lines[before[0] :]), stored and not before[1], exchange.closed and not before[2])
