"""Helpers that several FTP rules share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from heapq import heappop, heappush

from msgspec import Struct

from notnow.conduct.reading.ftp.transfers import NEVER, TRANSFERS, left, refuses
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange, Journal

Client = tuple[Journal, str]

CROSSING = 0.05  # real seconds: what comes sooner after a reply may have been sent before the client had read it
A_WHILE = 1.0  # seconds: a client that comes back sooner has not waited
ANNOUNCES = frozenset({"pasv", "epsv", "port", "eprt"})
IN_THE_FILES = TRANSFERS | {
    "cwd",
    "cdup",
    "pwd",
    "mkd",
    "rmd",
    "dele",
    "rnfr",
    "rnto",
    "size",
    "mdtm",
    "mfmt",
    "mlst",
}
_AFTER_LOGIN = IN_THE_FILES | ANNOUNCES | {"type"}
_BEFORE_VERB = re.compile(r"^[^A-Za-z]+")  # an urgent ABOR follows Telnet's IP and DM (RFC 959 §4.1.3)
_DOORS = frozenset({"connect", "user", "pass"})  # where a client is let in


def client_of(exchange: Exchange) -> Client:
    """The server and the client of an exchange; a client is an address."""
    return exchange.connection.journal, exchange.connection.client


def verb_of(line: str) -> str:
    return _BEFORE_VERB.sub("", line).partition(" ")[0].upper()


def last_word(exchanges: list[Exchange]) -> Exchange | None:
    """The exchange in which a rule closed the connection."""
    return next((x for x in exchanges[:-3:-1] if x.end is not None and x.rule), None)


def said_after(connection: Connection) -> list[str]:
    """The verbs that the client sent after the fake had closed, without QUIT and ABOR."""
    if not connection.after:
        return []
    verbs = [verb_of(line) for line in connection.after.splitlines()]
    return [verb for verb in verbs if verb not in ("", "QUIT", "ABOR")]


def answered_at(exchange: Exchange) -> float:
    """When the client could read the reply."""
    return exchange.answered_at if exchange.answered_at is not None else exchange.at


def knew(later: Exchange, refusal: Exchange) -> bool:
    """True if the client could have read a refusal on the same connection when it sent a later command."""
    return later.arrived_index > refusal.index and later.arrived_at >= answered_at(refusal)


def spoke_knowing(connection: Connection, end: Exchange) -> bool:
    """True if the client could have read the closing reply when it sent its words after the close."""
    arrival = connection.after_arrival
    return arrival is None or arrival.at >= answered_at(end)


def crossing(connection: Connection) -> float:
    """CROSSING in scenario seconds."""
    return CROSSING * float(getattr(connection.journal.clock, "speed", 1.0))


def commands(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """The commands of the client, without unsolicited replies, handshakes, and the middle of transfers."""
    return [x for x in exchanges if x.request and x.moment not in ("transfer", "tls")]


def out_of_order(exchange: Exchange) -> bool:
    """True where the fake, behaving, had to refuse a command because one that has to come before it was missing.

    Commands that only ask for the server's features (FEAT, OPTS) are allowed before the login.
    """
    if exchange.fault is not None or exchange.moment not in _AFTER_LOGIN:
        return False
    asked = exchange.transfer
    return exchange.code in (503, 530) or (exchange.code == 425 and asked is not None and asked.mode is None)


def cut_by_the_fake(run: Run) -> set[int]:
    """The transfers (by `id`) that the fake cut, or that were in progress when it closed."""
    return run.once(_cut_by_the_fake)


def _cut_by_the_fake(run: Run) -> set[int]:
    cut = set()
    transferred = not run.once(occasions).moments.isdisjoint(TRANSFERS)
    for connection, exchanges in run.by_connection.items() if transferred else ():
        last: Exchange | None = None
        for x in exchanges:
            if x.transfer is not None:
                last = x
            if last is not None and x.rule and (x is last or x.moment == "transfer"):
                cut.add(id(last))
        if last is not None and connection.ended_by == "fake":
            cut.add(id(last))
    return cut


# ---- dials ---------------------------------------------------------------------------------------


class Dial(Struct):
    """A connection that was refused at the greeting or at the login.

    `others` is how many other connections the client had open. `first` is the first of the refusals that came one upon
    another. `next` is its next connection to that server; `alone`: until then it never had two at a time.
    """

    refusal: Exchange
    others: int
    first: Exchange
    next: Connection | None = None
    alone: bool = True

    @property
    def client(self) -> Client:
        return client_of(self.refusal)

    @property
    def delay(self) -> float:
        """Seconds from the refusal to the next dial."""
        return self.next.opened_at - answered_at(self.refusal) if self.next is not None else 0.0

    @property
    def known(self) -> Exchange | None:
        """The refusal that the client had surely read when it connected again: this one, or the first before it."""
        later = self.next
        return next((x for x in (self.refusal, self.first) if later is not None and dialled_knowing(later, x)), None)


def dialled_knowing(connection: Connection, refusal: Exchange) -> bool:
    """True if a client had surely read a refusal when it opened a later connection."""
    return connection.opened_at - answered_at(refusal) >= crossing(connection)


def refused_dials(run: Run) -> list[Dial]:
    """The connections that a rule refused at the greeting or at the login, in order."""
    return run.once(_refused_dials)


def _refused_dials(run: Run) -> list[Dial]:
    clients: dict[Client, _Dialling] = {}
    found = list[Dial]()
    ever = not run.once(occasions).faulty.isdisjoint(_DOORS)
    for x in run.exchanges if ever else ():
        if x.moment in _DOORS:
            whose = client_of(x)
            client = clients.get(whose) or clients.setdefault(whose, _Dialling())
            if x.moment == "connect":
                client.connected(x)
            if x.fault is not None and refuses(x):
                found.append(client.refused(x))
    return found


class _Dialling:
    """The dials of one client at one server, as a run goes on."""

    def __init__(self) -> None:
        self._last: Dial | None = None
        self._side_by_side = False  # it had several connections at a time
        self._ends: list[int] = []  # a heap: where the connections end that are open

    def connected(self, x: Exchange) -> None:
        end, last = left(x.connection), self._last
        self._side_by_side = self._open(x.index) > 0 or self._side_by_side
        if last is not None and last.next is None:
            last.next, last.alone = x.connection, not self._side_by_side
        heappush(self._ends, end[1] if end is not None else NEVER)

    def refused(self, x: Exchange) -> Dial:
        last, others = self._last, self._open(x.index) - 1
        upon = last is not None and x.at - answered_at(last.refusal) < A_WHILE
        self._last = Dial(x, others, last.first if last is not None and upon else x)
        return self._last

    def _open(self, index: int) -> int:
        """How many connections the client has open."""
        ends = self._ends
        while ends and ends[0] < index:
            heappop(ends)
        return len(ends)
