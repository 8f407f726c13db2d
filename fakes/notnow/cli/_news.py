"""The new part of an exchange: the journal reports an exchange again whenever it goes on, as a transfer does between its
opening reply and its final one.
"""

from __future__ import annotations

from msgspec import Struct

from notnow.journal import Exchange

MOST = 10_000  # the last exchanges are remembered, at least so many: few are reported again, and soon

State = tuple[int, bool, bool]  # lines of its reply, stored, closed


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

    def of(self, exchange: Exchange) -> New | None:
        """The part that is new since the last call with this exchange; None if nothing is new."""
        before, now = self._note(exchange)
        lines = exchange.lines[: now[0]]  # it may go on meanwhile, in the fake's thread
        if before is None:
            return New(True, tuple(lines), *now[1:])
        if before == now:
            return None
        return New(False, tuple(lines[before[0] :]), now[1] and not before[1], now[2] and not before[2])

    def has(self, exchange: Exchange) -> bool:
        """True if something is new since the last call with this exchange."""
        before, now = self._note(exchange)
        return before != now

    def _note(self, exchange: Exchange) -> tuple[State | None, State]:
        """How the exchange was when it was told last, and how it is now."""
        reply, told, index = exchange.reply, self._told, exchange.index
        before = told.get(index) or self._before.get(index)
        lines = 0 if not reply else reply.count("\n") + 1
        stored = exchange.facts is not None and exchange.stored
        now = told[index] = (lines, stored, exchange.end is not None)
        if len(told) >= MOST:
            self._told, self._before = {}, told
        return before, now
