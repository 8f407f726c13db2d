"""One journal of several processes: each relays what its recorder has written, and one of them gathers it.

The processes share one order of events (`notnow.clock.Stamps`), so entries are put in order when they arrive, and only as
far as every process has reported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct, field, structs
from msgspec.structs import force_setattr

from notnow.journal.journal import Connection, Entry, Exchange, Mark
from notnow.journal.recorder import Decision, Recorder

MOST_CLOSED = 20_000  # closed connections about which news may still come
_CONNECTION = tuple(f.name for f in structs.fields(Connection) if f.name not in ("journal", "number", "_log"))
_EXCHANGE = tuple(f.name for f in structs.fields(Exchange) if f.name not in ("connection", "_decision"))
Fields = tuple[Any, ...]
What = Mark | tuple[str, int]  # an entry: a mark; or the id of a connection, and the index of its exchange, 0 for none


class Batch(Struct):
    """What a process has written since its last batch, complete up to `until` in the order of events.

    `connections` are by their ids, `exchanges` by their indexes with the ids of their connections. `decisions` are what the
    process says of the decisions behind exchanges, `kept` what else it has to hand in about a connection.
    """

    until: int
    connections: dict[str, Fields] = field(default_factory=dict)
    exchanges: dict[int, tuple[str, Fields]] = field(default_factory=dict)
    told: list[tuple[int, What]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    decisions: dict[int, object] = field(default_factory=dict)
    kept: list[tuple[int, str, object]] = field(default_factory=list)


class RelayRecorder(Recorder):
    """A recorder that notes which records have changed. `on_news` is called at the first change after a batch."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.on_news: Callable[[], object] = lambda: None
        self.decision_of: Callable[[int], object] = lambda _number: None
        self._connections: dict[str, Connection] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._told: list[tuple[int, What]] = []
        self._decisions: dict[int, object] = {}
        self._kept: list[tuple[int, str, object]] = []
        self._reset_at = 0

    def __len__(self) -> int:
        """The number of records in the next batch."""
        return len(self._exchanges) + len(self._connections)

    def batch(self) -> Batch:
        """What has changed since the last batch."""
        made = Batch(
            self.clock.stamp(),
            {c.id: tuple(getattr(c, name) for name in _CONNECTION) for c in self._connections.values()},
            {
                x.index: (x.connection.id, tuple(getattr(x, name) for name in _EXCHANGE))
                for x in self._exchanges.values()
            },
            self._told,
            dict(self.journal._counts),
            self._decisions,
            self._kept,
        )
        self._connections, self._exchanges, self._told, self._decisions, self._kept = {}, {}, [], {}, []
        return made

    def keep(self, connection: Connection, what: object) -> None:
        """Hand this in with the next batch."""
        self._kept.append((self.clock.stamp(), connection.id, what))
        self.on_news()

    def tell(self, entry: Entry) -> None:
        if isinstance(entry, Mark):
            self._told.append((self.clock.stamp(), entry))
        elif isinstance(entry, Connection):
            self._told.append((self.clock.stamp(), (entry.id, 0)))
        elif entry.index > self._reset_at:
            self._told.append((self.clock.stamp(), (entry.connection.id, entry.index)))
        self.on_news()

    def mark(self, kind: str, text: str, **more: object) -> None:
        """Scenarios and phases are marked by the process that gathers."""
        if kind not in ("play", "phase"):
            super().mark(kind, text, **more)

    def decided(self, exchange: Exchange, decision: Decision) -> None:
        super().decided(exchange, decision)
        self._changed(exchange)
        if decision.decision and (found := self.decision_of(decision.decision)) is not None:
            self._decisions[exchange.index] = found

    def also(self, moment: str) -> None:
        super().also(moment)
        self.on_news()

    def reset(self) -> None:
        super().reset()
        self._reset_at = self.clock.stamp()
        self._exchanges, self._told, self._decisions, self._kept = {}, [], {}, []
        self._connections = {c.id: c for c in self._connections.values() if c.ended_by is None}

    def _changed(self, record: Exchange | Connection) -> None:
        if isinstance(record, Connection):
            self._connections[record.id] = record
        elif record.index > self._reset_at:
            self._exchanges[record.index] = record
        self.on_news()


def _noted(name: str) -> Callable[..., Any]:
    """The method of a recorder, with a note of what it has changed."""
    write = getattr(Recorder, name)

    def noted(self: RelayRecorder, *given: Any, **options: Any) -> Any:
        made = write(self, *given, **options)
        for record in (
            [made] if name in MAKING else [one for one in (*given, *options.values()) if type(one) in RECORDS]
        ):
            self._changed(record)
            if name in BOTH and isinstance(record, Exchange):
                self._changed(record.connection)
        return made

    return noted


RECORDS = (Exchange, Connection)
MAKING = ("ask", "open", "served", "turn_away")  # these make a record
BOTH = ("frame", "turn_away", "turned_away")  # these change an exchange and its connection
CHANGING = (
    "arrived", "refused", "answer", "answered", "unanswer", "frame", "facts", "response", "more", "end", "turned_away", "stopped",
    "goaway", "tls", "failed", "leaving", "said_after", "unread", "close",
)  # fmt: skip
for _name in (*MAKING, *CHANGING):
    setattr(RelayRecorder, _name, _noted(_name))


class GatheringRecorder(Recorder):
    """A recorder whose journal holds what other processes have written, too."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.on_news: Callable[[], object] = lambda: None
        self.number_of: Callable[[object], int] = lambda _decision: 0
        self.on_kept: Callable[[Connection, Any], object] = lambda _connection, _what: None
        self._by_id: dict[str, Connection] = {}
        self._closed: deque[str] = deque()
        self._counts: dict[object, dict[str, int]] = {}  # of each process
        self._early = Batch(0)  # beyond what every process has reported

    def tell(self, entry: Entry) -> None:
        """Entries of this process take their turn among those of the others."""
        assert isinstance(entry, Mark), "the connections are those of other processes"
        self._early.told.append((self.clock.stamp(), entry))
        self.on_news()

    def also(self, moment: str) -> None:
        own = self._counts.setdefault(self, {})
        own[moment] = own.get(moment, 0) + 1
        self._count()

    def reset(self) -> None:
        super().reset()
        self._counts.clear()
        self._early.exchanges.clear()
        self._early.told.clear()
        self._early.kept.clear()
        self._by_id = {c.id: c for c in self.journal.connections}
        self._closed.clear()

    def gather(self, batches: Sequence[tuple[object, Batch]], until: int | None = None) -> None:
        """Write what all these processes report, as far as the report of each reaches, or up to `until`."""
        early, self._early = self._early, Batch(0)
        last = dict(batches)  # a process may have handed in more than one
        end = min((batch.until for batch in last.values()), default=0) if until is None else until
        self._counts |= {process: batch.counts for process, batch in last.items()}
        everything = [early, *(batch for _, batch in batches)]
        self._write_connections(_merged(batch.connections for batch in everything), end)
        decisions = _merged(batch.decisions for batch in everything)
        self._write_exchanges(_merged(batch.exchanges for batch in everything), decisions, end)
        self._count()
        self._hand_out([told for batch in everything for told in batch.told], end)
        self._take_kept([kept for batch in everything for kept in batch.kept], end)
        if self._early.connections or self._early.exchanges or self._early.told or self._early.kept:
            self.on_news()

    def _write_connections(self, found: dict[str, Fields], end: int) -> None:
        place = _CONNECTION.index("index")
        for name, fields in sorted(found.items(), key=lambda item: item[1][place]):
            connection = self._by_id.get(name)
            if connection is not None:
                _update(connection, _CONNECTION, fields)
            elif fields[place] > end:
                self._early.connections[name] = fields
            else:
                connection = self._connect(name, fields)
            if connection is not None and connection.ended_by is not None:
                self._let_go(name)

    def _connect(self, id: str, fields: Fields) -> Connection:
        self._numbers += 1
        journal = self.journal
        known = dict(zip(_CONNECTION, fields, strict=True))
        made = Connection(journal=journal, number=self._numbers, **known)
        self._by_id[id] = journal._connections[made.number] = made
        return made

    def _let_go(self, id: str) -> None:
        """Forget the oldest closed connections: nothing more comes of them."""
        self._closed.append(id)
        if len(self._closed) > MOST_CLOSED:
            old = self._by_id.pop(self._closed.popleft(), None)
            if old is not None and self.journal.dropped and not old._log:
                self.journal._connections.pop(old.number, None)

    def _write_exchanges(self, found: dict[int, tuple[str, Fields]], decisions: dict[int, object], end: int) -> None:
        for index, (owner, fields) in sorted(found.items()):
            connection = self._by_id.get(owner)
            if index > end:
                self._early.exchanges[index] = owner, fields
                if index in decisions:
                    self._early.decisions[index] = decisions[index]
            elif connection is not None:
                self._write_exchange(connection, index, fields, decisions.get(index))

    def _write_exchange(self, connection: Connection, index: int, fields: Fields, decision: object) -> None:
        exchange = self._find(connection, index)
        if exchange is not None:
            _update(exchange, _EXCHANGE, fields)
        elif not connection._log or connection._log[-1].index < index:
            exchange = Exchange(connection=connection, **dict(zip(_EXCHANGE, fields, strict=True)))
            self.journal._order.append(exchange)
            connection._log.append(exchange)
            if len(self.journal._order) > self.journal.limit:
                self._drop()
        if exchange is not None and decision is not None:
            force_setattr(exchange, "_decision", self.number_of(decision))

    def _find(self, connection: Connection, index: int) -> Exchange | None:
        for exchange in reversed(connection._log):
            if exchange.index <= index:
                return exchange if exchange.index == index else None
        return None

    def _count(self) -> None:
        counts = self.journal._counts
        counts.clear()
        for one in self._counts.values():
            for moment, n in one.items():
                counts[moment] = counts.get(moment, 0) + n

    def _hand_out(self, told: list[tuple[int, What]], end: int) -> None:
        """Tell the listeners, in order, of what was told in other processes."""
        for at, what in sorted(told, key=lambda one: one[0]):
            if at > end:
                self._early.told.append((at, what))
            elif isinstance(what, Mark):
                self._place(what)
                super().tell(what)
            elif (entry := self._entry(*what)) is not None:
                super().tell(entry)

    def _place(self, mark: Mark) -> None:
        """Put a mark of another process among ours, in order."""
        marks = self.journal._marks
        if mark not in marks:
            self.journal._marks = deque(sorted([*marks, mark], key=lambda one: one.index), maxlen=marks.maxlen)

    def _entry(self, id: str, index: int) -> Entry | None:
        connection = self._by_id.get(id)
        return connection if connection is None or not index else self._find(connection, index)

    def _take_kept(self, kept: Iterable[tuple[int, str, object]], end: int) -> None:
        for at, owner, what in sorted(kept, key=lambda one: one[0]):
            connection = self._by_id.get(owner)
            if at > end:
                self._early.kept.append((at, owner, what))
            elif connection is not None:
                self.on_kept(connection, what)


def _merged(parts: Iterable[dict[Any, Any]]) -> dict[Any, Any]:
    """All of these; a later one wins."""
    return {key: value for part in parts for key, value in part.items()}


def _update(record: Exchange | Connection, names: tuple[str, ...], fields: Fields) -> None:
    for name, value in zip(names, fields, strict=True):
        if getattr(record, name) is not value:
            force_setattr(record, name, value)
