"""Field sections that a connection has read or written before.

Clients repeat most of their requests, and a fake repeats its answers. A section that changes nothing in HPACK's table
(RFC 7541 §2.3.2) has the same bytes each time, until another section changes the table.

Private seams of hpack: `dynamic_entries` of its `HeaderTable`, and that a new entry is a new object at its front.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from hpack.table import HeaderTable

MOST = 16  # sections that are kept, for each direction of a connection
LONGEST = 1024  # bytes of a section that is kept

Head = tuple[tuple[bytes, bytes], ...]  # the fields of a response
K = TypeVar("K")
V = TypeVar("V")


class Sections(Generic[K, V]):
    """What was found of sections, as long as `table` holds the entries that it held then."""

    __slots__ = ("_found", "_newest", "_table")

    def __init__(self, table: HeaderTable) -> None:
        self._table = table
        self._newest: object = self  # the newest entry of the table; none yet
        self._found: dict[K, V] = {}

    def find(self, section: K) -> V | None:
        """What `keep` was told of this section; None if it means something else now."""
        return self._found.get(section) if self._newest is self._front() else None

    def keep(self, section: K, found: V, size: int) -> None:
        """A section of `size` bytes has just been read or written: keep what was found, unless it has changed the table."""
        newest = self._front()
        if self._newest is not newest or len(self._found) >= MOST:
            self._newest = newest
            self._found.clear()
        elif size <= LONGEST:
            self._found[section] = found

    def forget(self) -> None:
        """The size of the table has changed, and the next section may say so."""
        self._newest = self

    def _front(self) -> object:
        entries = self._table.dynamic_entries
        return entries[0] if entries else None
