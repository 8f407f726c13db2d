"""The journal: everything that happened, connection by connection, exchange by exchange.

It is written by a fake before the bytes go out, so a client that has read a reply finds it here. It is
bounded: beyond `limit` exchanges the oldest go, and `dropped` says how many.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

from notnow import protocols
from notnow.bounds import EXCHANGES, TEXT
from notnow.clock import Clock
from notnow.errors import unknown

DEFAULT_LIMIT = EXCHANGES
LONGEST = TEXT


ENDINGS = {  # how a fake ends an exchange with no word, or after the last one
    "fin": "a close without a word",
    "reset": "a reset of the connection",
    "abrupt": "an abrupt close",
    "goaway": "a GOAWAY that left this request out",
}


def clip(text: str) -> str:
    """At most `LONGEST` characters of a text, saying how much was left out."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def brief(text: str) -> str:
    """The same of a text that stands for a thing: two that differ somewhere still differ."""
    if len(text) <= LONGEST:
        return text
    return f"{clip(text)[:-1]}, SHA-256 {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]})"


@lru_cache(maxsize=4096)  # a server has few replies, and rules of conduct ask for each of them often
def _codes(reply: str) -> tuple[int, ...]:
    return tuple(int(line[:3]) for line in reply.split("\n") if line[:3].isdecimal() and line[3:4] != "-")


@dataclass(slots=True)
class TLS:
    """What is known of a connection's TLS: `sni` is the name asked for, `certificate` the one shown.

    `alpn` is the protocol that was agreed on (RFC 7301), None where none was. `error` says why the handshake failed; None if it did not.
    """

    version: str | None = None
    sni: str | None = None
    certificate: str | None = None
    alpn: str | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Exchange:
    """One thing that a client asked and what it got, or one thing that the fake said unasked.

    `index` is its place in the order of all that happened under the clock, `at` scenario seconds, `wall`
    seconds since 1970. `request` is the line the client sent (empty at `connect` and for what came unasked);
    `reply` the lines sent, None while there is none. `rule` is the key path of the rule that decided and
    `fault` what it did, both None where the fake behaved. `closed`: the fake ended the connection with it.
    `answered_at` is when the last of the reply left. `facts` holds what is known beside that. `how` is how the fake
    ended it, a key of `ENDINGS` or the name of a TLS alert; None where it did not, or no rule said how.
    """

    index: int
    at: float
    wall: float
    moment: str
    request: str
    phase: str
    connection: Connection = field(repr=False)
    reply: str | None = None
    fault: str | None = None
    rule: str | None = None
    closed: bool = False
    answered_at: float | None = None
    facts: Mapping[str, Any] | None = None
    how: str | None = None

    @property
    def lines(self) -> list[str]:
        """The lines of the reply, as they ended on the wire; none where nothing was said."""
        return self.reply.split("\n") if self.reply else []

    @property
    def codes(self) -> tuple[int, ...]:
        """The codes of the replies, one for each: a multi-line reply has one code."""
        return _codes(self.reply) if self.reply else ()

    @property
    def code(self) -> int | None:
        """The code of the first reply; None where nothing was said."""
        codes = self.codes
        return codes[0] if codes else None

    @property
    def refused(self) -> bool:
        """True for a 4yz or 5yz, and where the fake ended the connection, or a stream of it, without a word."""
        if self.closed or (self.reply is not None and "RST_STREAM" in self.reply):
            return self.unanswered or any(code >= 400 for code in self.codes)
        return any(code >= 400 for code in self.codes)

    @property
    def unanswered(self) -> bool:
        """True where there is no reply, or none but a 1yz, which is to be followed by another (RFC 959 §4.2.1)."""
        return all(code < 200 for code in self.codes)

    @property
    def told(self) -> str:
        """What the client heard last: the last line, or in words how the fake ended it without (the rest of) a reply."""
        last = self.lines[-1] if self.reply else ""
        if last and (not self.unanswered or not last[:1].isdecimal()):
            return last  # GOAWAY and RST_STREAM are words, too
        how = ENDINGS.get(self.how or "fin", f"the TLS alert {self.how}") if self.closed else "no reply"
        return f"{last}, then {how}" if last else how

    def as_dict(self) -> dict[str, Any]:
        return {
            "event": "exchange",
            "index": self.index,
            "at": round(self.at, 6),
            "wall": _iso(self.wall),
            "server": self.connection.server,
            "connection": self.connection.number,
            "moment": self.moment,
            "request": self.request,
            "reply": self.reply,
            "fault": self.fault,
            "rule": self.rule,
            "phase": self.phase,
            "closed": self.closed,
            **({"facts": dict(self.facts)} if self.facts else {}),
        }


class Connection:
    """One connection: who came, when, what was said, and how it ended.

    `ended_by` is "client" or "fake", None while it lives. `after` is what the client still said once the
    fake had decided to close, clipped; `after_bytes` counts all of it. `left_index` is where the client said that
    it was leaving, or ended its side, and `left_at` when: the end may be seen later than its next connection.
    """

    __slots__ = (
        "_log", "after", "after_bytes", "client", "closed_at", "closed_index", "ended_by", "error", "id", "index",
        "journal", "left_at", "left_index", "number", "opened_at", "peer_port", "server", "tls",
    )  # fmt: skip

    def __init__(self, journal: Journal, number: int, id: str, client: str, peer_port: int) -> None:
        self.journal, self.number, self.id = journal, number, id
        self.server = journal.server
        self.client, self.peer_port = client, peer_port
        self.index = journal.clock.stamp()
        self.opened_at = journal.clock.now()
        self.closed_at: float | None = None
        self.closed_index: int | None = None
        self.left_index: int | None = None
        self.left_at: float | None = None
        self.ended_by: str | None = None
        self.error: str | None = None
        self.tls: TLS | None = None
        self.after = ""
        self.after_bytes = 0
        self._log: deque[Exchange] = deque()

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        return tuple(self._log)

    def said_after(self, data: bytes) -> None:
        """What the client says once the fake has decided to close: it is read, and not answered."""
        self.after_bytes += len(data)
        if len(self.after) < LONGEST:
            self.after += data.decode("utf-8", "replace")[: LONGEST - len(self.after)]

    def as_dict(self) -> dict[str, Any]:
        tls = self.tls
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
            "after": self.after or None,
            "tls": None if tls is None else tls.as_dict(),
        }

    def __repr__(self) -> str:
        return f"<Connection {self.number} from {self.client}, {len(self._log)} exchanges>"


@dataclass(slots=True)
class Mark:
    """A line across the journal: a scenario was played, or a phase began."""

    index: int
    at: float
    kind: str
    text: str
    server: str = ""

    def as_dict(self) -> dict[str, Any]:
        at = round(self.at, 6)
        return {"event": self.kind, "index": self.index, "at": at, "server": self.server, "text": self.text}


Entry = Exchange | Connection | Mark
Listener = Callable[[Entry], None]


class Journal:
    """What happened on one fake. Reading is safe from any thread, and never waits.

    `limit` is how many exchanges are kept; `dropped` counts those that had to go.
    """

    def __init__(self, clock: Clock, *, server: str = "", protocol: str = "smtp", limit: int = DEFAULT_LIMIT) -> None:
        if limit < 1:
            raise ValueError(f"journal_limit is {limit!r}; allowed: 1 or more")
        self.clock, self.server, self.protocol, self.limit = clock, server, protocol, limit
        self.dropped = 0
        self._numbers = 0
        self._counts: dict[str, int] = {}
        self._connections: dict[int, Connection] = {}
        self._order: deque[Exchange] = deque()
        self._marks: deque[Mark] = deque(maxlen=1000)
        self._played = 0
        self._listeners: list[Listener] = []
        self.on_failure: Callable[[BaseException], None] | None = None  # told of what a listener raises

    @classmethod
    def merged(cls, journals: Sequence[Journal]) -> Journal:
        """What several fakes of one clock and protocol have seen since they last played, as one journal to read."""
        first = journals[0]
        found = cls(first.clock, server=" and ".join(j.server for j in journals), protocol=first.protocol)
        found._order.extend(sorted((x for j in journals for x in j.since_play()), key=lambda x: x.index))
        connections = sorted((c for j in journals for c in j.connections), key=lambda c: c.index)
        found._connections.update(enumerate(connections, 1))
        return found

    # ---- reading -------------------------------------------------------------------------------

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
        return tuple(self._marks)

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
        """Write the journal as JSON Lines, with a line that says so if entries were dropped."""
        if self.dropped:
            to.write(json.dumps({"event": "dropped", "count": self.dropped}) + "\n")
        for entry in self.as_dicts():
            to.write(json.dumps(entry) + "\n")

    # ---- writing: adapters only ----------------------------------------------------------------

    def open(self, id: str, client: str, peer_port: int) -> Connection:
        self._numbers += 1
        connection = Connection(self, self._numbers, id, client, peer_port)
        self._connections[connection.number] = connection
        return connection

    def ask(self, connection: Connection, moment: str, request: str, phase: str, *, counted: bool = True) -> Exchange:
        """A client asks: a new exchange, whose reply is not there yet. `counted`: the moment has come once more."""
        clock = self.clock
        if len(request) > LONGEST:
            request = clip(request)
        exchange = Exchange(clock.stamp(), clock.now(), clock.wall(), moment, request, phase, connection)
        self._order.append(exchange)
        connection._log.append(exchange)
        if counted:
            self._counts[moment] = self._counts.get(moment, 0) + 1
        if len(self._order) > self.limit:
            self._drop()
        return exchange

    def also(self, moment: str) -> None:
        """What a client has just asked is one of these, too: of a broader moment, or of a second one."""
        self._counts[moment] = self._counts.get(moment, 0) + 1

    def answer(self, exchange: Exchange, text: str) -> None:
        """Reply lines for an exchange, without their CRLF; several replies add up."""
        said = text if exchange.reply is None else f"{exchange.reply}\n{text}"
        exchange.reply = said if len(said) <= LONGEST else clip(said)
        exchange.answered_at = self.clock.now()
        self.tell(exchange)

    def close(self, connection: Connection, by: str) -> None:
        """A connection ends; `by` is "client", or "fake" as soon as the fake has decided to."""
        connection.ended_by = by
        connection.closed_at, connection.closed_index = self.clock.now(), self.clock.stamp()
        if self.dropped and not connection._log:
            self._connections.pop(connection.number, None)
        self.tell(connection)

    def mark(self, kind: str, text: str) -> None:
        mark = Mark(self.clock.stamp(), self.clock.now(), kind, text, self.server)
        if kind == "play":
            self._played = mark.index
        self._marks.append(mark)
        self.tell(mark)

    def reset(self) -> None:
        """Forget everything but the connections that are still open."""
        self._order.clear()
        self._marks.clear()
        self._counts.clear()
        self.dropped = 0
        for connection in self.connections:
            connection._log.clear()
            if connection.ended_by is not None:
                del self._connections[connection.number]

    def _drop(self) -> None:
        oldest = self._order.popleft()
        self.dropped += 1
        connection = oldest.connection
        connection._log.popleft()
        if not connection._log and connection.ended_by is not None:
            self._connections.pop(connection.number, None)

    # ---- watching ------------------------------------------------------------------------------

    def tell(self, entry: Entry) -> None:
        for listener in self._listeners:
            try:
                listener(entry)
            except BaseException as error:  # the user's: what is on its way to a client goes on
                if self.on_failure is None:
                    raise
                self.on_failure(error)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Have `listener` called, in the fake's thread, for each entry as it is complete; returns the way to stop."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
