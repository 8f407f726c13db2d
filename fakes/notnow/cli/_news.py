"""What is new of an exchange: the journal tells of it again whenever it has gone on, as a transfer does between the reply
that opens it and the one that ends it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from notnow.journal import Exchange

MOST = 10_000  # exchanges that are remembered; few of them are told of again, and soon


@dataclass(frozen=True, slots=True)
class New:
    """`first`: it was not told of before. `lines` are the reply lines that have come since; `stored`: so has what it was
    to bring, and `closed`: so has the end of the connection.
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
    """Remembers what was told of each exchange."""

    def __init__(self) -> None:
        self._told: OrderedDict[int, tuple[int, bool, bool]] = OrderedDict()

    def of(self, exchange: Exchange) -> New | None:
        """What is new since the last call with this exchange; None if nothing is."""
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
