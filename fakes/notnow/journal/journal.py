"""Reading what happened on a fake."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from notnow import protocols
from notnow.bounds import EXCHANGES
from notnow.clock import Clock
from notnow.errors import unknown
from notnow.journal.exchange import Connection, Entry, Exchange, Mark

DEFAULT_LIMIT = EXCHANGES

Listener = Callable[[Entry], None]


class Journal:
    """What happened on one fake. Reading is safe from any thread, and never waits.

    `limit` is how many exchanges are kept; beyond it the oldest go, and `dropped` counts them.
    """

    def __init__(self, clock: Clock, *, server: str = "", protocol: str = "smtp", limit: int = DEFAULT_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"journal_limit is {limit!r}; allowed: 1 or more")
        self.clock, self.server, self.protocol, self.limit = clock, server, protocol, limit
        self._dropped = 0
        self._counts: dict[str, int] = {}
        self._connections: dict[int, Connection] = {}
        self._order: deque[Exchange] = deque()
        self._marks: deque[Mark] = deque(maxlen=1000)
        self._played = 0
        self._listeners: list[Listener] = []

    @classmethod
    def merged(cls, journals: Sequence[Journal]) -> Journal:
        """What several fakes of one clock and protocol have seen since they last played, as one journal to read."""
        first = journals[0]
        found = cls(first.clock, server=" and ".join(j.server for j in journals), protocol=first.protocol)
        found._order.extend(sorted((x for j in journals for x in j.since_play()), key=lambda x: x.index))
        connections = sorted((c for j in journals for c in j.connections), key=lambda c: c.index)
        found._connections.update(enumerate(connections, 1))
        return found

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The connections, in the order in which they came."""
        return tuple(self._connections.values())

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges of all connections, in the order in which they happened."""
        return tuple(self._order)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Where a scenario was played and where a phase began."""
        return tuple(self._marks)

    @property
    def dropped(self) -> int:
        """How many exchanges are gone because there were more than `limit`."""
        return self._dropped

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Exchange]:
        return iter(self.exchanges)

    def count(self, moment: str) -> int:
        """How often a moment has come since the journal was made or reset, dropped ones included; "any" is any command.

        Raises ValueError for a moment that this protocol does not have.
        """
        protocol = protocols.get(self.protocol)
        if moment == "any":
            return sum(n for name, n in self._counts.items() if protocol.is_command(name))
        known = (*protocol.moments, *protocol.also_counted)
        if moment not in known and moment not in self._counts:
            raise ValueError(str(unknown(f"moment of {self.protocol}", str(moment), sorted(known))))
        return self._counts.get(moment, 0)

    def since_play(self) -> tuple[Exchange, ...]:
        """The exchanges since a scenario was last played."""
        return tuple(x for x in self.exchanges if x.index > self._played)

    def as_dicts(self) -> Iterator[dict[str, Any]]:
        """Every entry as plain data, in order: exchanges, phases, and how each connection ended."""
        entries: list[tuple[int, int, Entry]] = [(x.index, 0, x) for x in self.exchanges]
        entries += [(m.index, 1, m) for m in self.marks]
        entries += [(c.closed_index or c.index, 2, c) for c in self.connections if c.ended_by]
        for _, _, entry in sorted(entries, key=lambda e: e[:2]):
            yield entry.as_dict()

    def export(self, to: TextIO) -> None:
        """Write the journal as JSON Lines; the first line says how many entries were dropped, if any were."""
        if self.dropped:
            to.write(json.dumps({"event": "dropped", "count": self.dropped}) + "\n")
        for entry in self.as_dicts():
            to.write(json.dumps(entry) + "\n")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called, in the fake's thread, for each entry as it is complete; returns a function that stops this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)
