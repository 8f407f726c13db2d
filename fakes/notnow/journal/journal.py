"""What happened on a fake, to be read: exchanges, connections, marks, and the journal that holds them.

Records grow while a client is there, and only a `Recorder` can write to them: setting an attribute raises AttributeError.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from heapq import merge
from typing import Any, Literal, TextIO, TypeVar

from msgspec import Struct, to_builtins

from notnow import protocols
from notnow.bounds import EXCHANGES
from notnow.clock import Clock
from notnow.errors import unknown
from notnow.journal.lines import json_line
from notnow.journal.values import (
    TLS,
    Arrival,
    ConnectionClose,
    End,
    Facts,
    Failure,
    FakeStopped,
    Frame,
    GoAwayFrame,
    Message,
    Request,
    RstStreamFrame,
    Target,
    Transfer,
)

DEFAULT_LIMIT = EXCHANGES
LATE = 0.1  # seconds of scenario time; a reply takes less to leave, unless a fault delays it

F = TypeVar("F", bound=Frame)


@lru_cache(maxsize=4096)  # a server has few replies, and rules of conduct ask for each of them often
def _codes(reply: str) -> tuple[int, ...]:
    return tuple(int(line[:3]) for line in reply.split("\n") if line[:3].isdecimal() and line[3:4] != "-")


Ender = Literal["client", "fake"]  # of a connection


class Exchange(Struct, frozen=True, eq=False):
    """One request of a client with the reply to it, or something that the fake said unasked.

    `index` is its place in the order of everything that happened under the clock, `at` scenario seconds, `wall`
    seconds since 1970. `request` is the line that the client sent (empty at `connect` and if nothing was asked);
    `reply` holds the lines of the reply, None while there is none. `rule` is the key path of the rule that decided and
    `fault` what the fake did for it; both are None if the fake behaved. `answered_at` is when the last byte of the reply
    left. `end` says how the fake ended the connection or the stream here, None if it did not. `frames` are the HTTP/2
    frames that were sent here. `facts` is what else is known: see `message`, `transfer`, `target` and `http`. `arrival` is
    set if the request had to wait for its turn: see `arrived_at`.
    """

    index: int
    at: float
    wall: float
    moment: str
    request: str
    phase: str
    connection: Connection
    reply: str | None = None
    fault: str | None = None
    rule: str | None = None
    answered_at: float | None = None
    facts: Facts | None = None
    end: End | None = None
    frames: tuple[Frame, ...] = ()
    _decision: int = 0  # the number of the store's decision; see `Fake.explain`
    arrival: Arrival | None = None

    @property
    def arrived_at(self) -> float:
        """When the request arrived: before `at` if the reply to an earlier one was still due, or if both came together."""
        return self.at if self.arrival is None else self.arrival.at

    @property
    def arrived_index(self) -> int:
        """Where it arrived in the order of everything that happened.

        Requests that came in one piece have the same, which is the `index` of the first, unless a reply was due then.
        """
        return self.index if self.arrival is None else self.arrival.index

    @property
    def message(self) -> Message | None:
        """The message that arrived with this exchange, `stored` or not (SMTP)."""
        return self.facts if isinstance(self.facts, Message) else None

    @property
    def transfer(self) -> Transfer | None:
        """The transfer that the client asked for (FTP)."""
        return self.facts if isinstance(self.facts, Transfer) else None

    @property
    def target(self) -> Target | None:
        """The file or directory that a command other than a transfer is about (FTP)."""
        return self.facts if isinstance(self.facts, Target) else None

    @property
    def http(self) -> Request | None:
        """The request of HTTP that this exchange is about."""
        return self.facts if isinstance(self.facts, Request) else None

    @property
    def stored(self) -> bool:
        """True if the fake has stored something for good here: a message, a file, the effect of a POST."""
        return isinstance(self.facts, (Message, Transfer, Request)) and bool(self.facts.stored)

    @property
    def lines(self) -> list[str]:
        """The lines of the reply, split as they were on the wire; empty if there is no reply."""
        return self.reply.split("\n") if self.reply else []

    @property
    def codes(self) -> tuple[int, ...]:
        """The codes of the replies, one for each: a multi-line reply has one code."""
        return _codes(self.reply) if self.reply else ()

    @property
    def code(self) -> int | None:
        """The code of the first reply; None if there is no reply."""
        codes = self.codes
        return codes[0] if codes else None

    @property
    def closed(self) -> bool:
        """True if the fake ended the connection, or a stream that it did not serve, with this exchange."""
        return self.end is not None

    @property
    def stopped(self) -> bool:
        """True if this is the goodbye of a fake that was stopped."""
        return isinstance(self.end, FakeStopped)

    def sent(self, kind: type[F]) -> list[F]:
        """The HTTP/2 frames of this kind that the fake sent here."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    @property
    def reset(self) -> bool:
        """True if the fake reset a stream here (RST_STREAM)."""
        return any(isinstance(frame, RstStreamFrame) for frame in self.frames)

    @property
    def refused(self) -> bool:
        """True for a 4yz or 5yz, and if the fake ended the connection, or a stream of it, without a word."""
        if (self.end is not None or (self.frames and self.reset)) and self.unanswered:
            return True
        return max(self.codes, default=0) >= 400

    @property
    def unanswered(self) -> bool:
        """True if there is no reply, or only a 1yz, which another reply has to follow (RFC 959 §4.2.1)."""
        return max(self.codes, default=0) < 200

    @property
    def told(self) -> str:
        """The last line that the client got; without a final reply, how the fake ended the exchange, in words."""
        last = self.lines[-1] if self.reply else ""
        if last and not last[:1].isdecimal():
            return last  # GOAWAY and RST_STREAM are words, too
        if last and not self.unanswered and not self._cut:
            return last
        how = self._cut or self._ending
        return f"{last}, then {how}" if last else how

    @property
    def _cut(self) -> str:
        """How far an answer, or a transfer without a final reply, came before the fake ended it; empty for any other."""
        known = self.facts
        if isinstance(known, Request) and self.end is not None and known.status is not None and not known.whole:
            of = "" if known.length is None else f" of {known.length}"
            return f"a cut after {known.sent}{of} bytes"
        if isinstance(known, Transfer) and known.cut_by == "fake" and self.unanswered:
            return f"a cut after {known.bytes} bytes"
        return ""

    @property
    def _ending(self) -> str:
        """How an exchange without a final reply ended, in words."""
        if isinstance(self.end, ConnectionClose | FakeStopped) and (goaways := self.sent(GoAwayFrame)):
            return str(goaways[-1])
        if self.stopped:
            return str(ConnectionClose())
        if self.end is not None:
            return str(self.end)
        failure = self.connection.failure
        return "no reply" if failure is None else str(failure)

    def _late(self) -> dict[str, float]:
        """When the reply left, if a fault has delayed it."""
        if self.fault is None or self.answered_at is None or self.answered_at - self.at < LATE:
            return {}
        return {"answered_at": round(self.answered_at, 6)}

    def as_dict(self) -> dict[str, Any]:
        return {
            "event": "exchange",
            "index": self.index,
            "at": round(self.at, 6),
            "wall": iso(self.wall),
            "server": self.connection.server,
            "connection": self.connection.number,
            "moment": self.moment,
            "request": self.request,
            "reply": self.reply,
            "fault": self.fault,
            "rule": self.rule,
            "phase": self.phase,
            "closed": self.closed,
            **({"arrived_at": round(self.arrived_at, 6), "arrived_index": self.arrived_index} if self.arrival else {}),
            **self._late(),
            **({"end": to_builtins(self.end)} if self.end is not None else {}),
            **({"frames": to_builtins(self.frames)} if self.frames else {}),
            **({"facts": self.facts.as_dict()} if self.facts is not None else {}),
        }


class Connection(Struct, frozen=True, eq=False):
    """One connection: its client, its times, its exchanges, and how it ended.

    `ended_by` is "client" or "fake", None while it lives. `after` is what the client still said once the fake had decided
    to close, clipped; `after_bytes` counts all of it, and `after_arrival` is when the first of it arrived, which may be
    before the close if the client did not wait for a reply. `unread` is the same for what it said while the fake stalled
    and read no more commands. `goaways` are all GOAWAY frames that left (HTTP/2), those of no exchange included. `left_index` is where the client said that it was leaving, or ended
    its side, and `left_at` when: the close itself may be seen only after its next connection. `failure` says what went wrong: the client broke the
    protocol, a TLS handshake failed, or the connection broke.
    """

    journal: Journal
    number: int
    id: str
    client: str
    peer_port: int
    index: int
    opened_at: float
    closed_at: float | None = None
    closed_index: int | None = None
    left_index: int | None = None
    left_at: float | None = None
    ended_by: Ender | None = None
    failure: Failure | None = None
    tls: TLS | None = None
    after: str = ""
    after_bytes: int = 0
    after_arrival: Arrival | None = None
    unread: str = ""
    unread_arrival: Arrival | None = None
    goaways: tuple[GoAwayFrame, ...] = ()
    _log: list[Exchange] | deque[Exchange] = []  # in many connections a list, which is smaller

    @property
    def error(self) -> str | None:
        """What went wrong, in words; see `failure`."""
        return None if self.failure is None else str(self.failure)

    @property
    def server(self) -> str:
        """The name of the fake."""
        return self.journal.server

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Its exchanges, in the order in which they happened."""
        return tuple(self._log)

    def as_dict(self) -> dict[str, Any]:
        return {
            "event": "closed",
            "index": self.closed_index or self.index,
            "at": round(self.closed_at if self.closed_at is not None else self.opened_at, 6),
            "server": self.server,
            "connection": self.number,
            "client": self.client,
            "opened_at": round(self.opened_at, 6),
            "ended_by": self.ended_by,
            "error": self.error,
            **({"failure": to_builtins(self.failure)} if self.failure is not None else {}),
            "after": self.after or None,
            **({"after_at": round(self.after_arrival.at, 6)} if self.after_arrival is not None else {}),
            **({"unread": self.unread} if self.unread else {}),
            **({"unread_at": round(self.unread_arrival.at, 6)} if self.unread_arrival is not None else {}),
            **({"goaways": to_builtins(self.goaways)} if self.goaways else {}),
            "tls": to_builtins(self.tls),
        }

    def __repr__(self) -> str:
        return f"<Connection {self.number} from {self.client}, {len(self._log)} exchanges>"


class Mark(Struct, frozen=True):
    """A line across the journal: a scenario was played, or a phase began.

    `more` is what else is known, as JSON has it. Of a scenario that was played: its `protocol`, how the server spoke `tls`,
    its text as `toml`, and the values of its `knobs`.
    """

    index: int
    at: float
    kind: str
    text: str
    server: str = ""
    more: Mapping[str, Any] = {}

    def as_dict(self) -> dict[str, Any]:
        at = round(self.at, 6)
        head = {"event": self.kind, "index": self.index, "at": at, "server": self.server, "text": self.text}
        return {**head, **self.more}


Entry = Exchange | Connection | Mark
Listener = Callable[[Entry], None]


class Journal:
    """What happened on one fake. Reading is safe from any thread, and never waits.

    `limit` is how many exchanges are kept; beyond it the oldest go, and `dropped` counts them.
    """

    def __init__(self, clock: Clock, *, server: str = "", protocol: str = "smtp", limit: int = DEFAULT_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"journal_limit is {limit!r}; allowed: 1 or more")
        self.clock, self.server, self.protocol, self.limit = clock, server, protocol, limit
        self._dropped = self._dropped_since_play = 0
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
        found._dropped = sum(j.dropped for j in journals)
        found._dropped_since_play = sum(j.dropped_since_play for j in journals)
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

    @property
    def dropped_since_play(self) -> int:
        """How many of them came after a scenario was last played: `since_play` lacks them."""
        return self._dropped_since_play

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

    def entries(self, after: int = 0, *, backwards: bool = False) -> Iterator[Entry]:
        """The entries behind a place in the order: exchanges, phases, and how each connection ended."""
        exchanges = self.exchanges
        parts: tuple[Sequence[Entry], ...] = (
            exchanges[bisect_right(exchanges, after, key=_place) :],
            [mark for mark in self.marks if mark.index > after],
            sorted((c for c in self.connections if c.ended_by and _place(c) > after), key=_place),
        )
        return merge(*(map(reversed, parts) if backwards else parts), key=_place, reverse=backwards)

    def as_dicts(self) -> Iterator[dict[str, Any]]:
        """Every entry as plain data, in order."""
        for entry in self.entries():
            yield entry.as_dict()

    def export(self, to: TextIO) -> None:
        """Write the journal as JSON Lines; the first line says how many entries were dropped, if any were."""
        if self.dropped:
            to.write(json_line({"event": "dropped", "count": self.dropped}) + "\n")
        for entry in self.as_dicts():
            to.write(json_line(entry) + "\n")

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called, in the fake's thread, for each entry as it is complete; returns a function that stops this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def _place(entry: Entry) -> int:
    """The place of an entry in the order of everything that happened."""
    return (entry.closed_index or entry.index) if isinstance(entry, Connection) else entry.index


def iso(wall: float) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    return _iso_milli(int(wall) * 1000 + round(wall % 1 * 1e6) // 1000)


@lru_cache(maxsize=16)  # entries are told in order: many of them share a millisecond
def _iso_milli(milli: int) -> str:
    second, rest = divmod(milli, 1000)
    return f"{_iso_second(second)}.{rest:03d}+00:00"


@lru_cache(maxsize=16)  # and more of them a second
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
