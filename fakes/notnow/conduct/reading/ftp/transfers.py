"""What FTP clients asked for: transfers, looks, new names, and connections that ended before they named a file.

A look is a listing or a question about a file (SIZE, MDTM). What a client said after the fake had closed its connection,
or while it read no more, was asked for as well.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import Ending, Try
from notnow.conduct.reading.order import Order
from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange, Target, Transfer

NEVER = sys.maxsize  # the index of an end that has not come

UPLOADS = frozenset({"stor", "appe", "stou"})
LISTINGS = frozenset({"list", "nlst", "mlsd"})
TRANSFERS = UPLOADS | LISTINGS | {"retr"}
QUESTIONS = frozenset({"size", "mdtm", "mlst"})
# Commands that only lead to a transfer: a client that is refused one of these has not named its file yet.
_TO_DATA = frozenset({"rest", "pasv", "epsv", "port", "eprt"})  # nobody needs these for a question
_LEADS = _TO_DATA | {
    "connect", "tls", "enter", "user", "pass", "acct", "auth", "pbsz", "prot", "type", "cwd", "cdup",
}  # fmt: skip
_UNASKED = frozenset({"transfer", "enter", "idle", "error"})
_DURING = frozenset({"abor", "stat", "quit"})  # RFC 959 §4.1.3: allowed during a transfer

Kind = Literal["upload", "download", "listing", "question"]
End = tuple[Ending, Evidence, float, int]  # how, what proves it, and when the client could know: the time and the place


class Asked(Struct, eq=False):
    """Something that a client asked for, as a try of it.

    `at` is the index of the command. `command` is its exchange, and None where the fake never read it; `known` is its
    transfer. `opens`: it is the first thing asked for on its connection. `binary`: the bytes on the data connection are
    those of the file (TYPE I). `barred` is the refusal that kept the client from the transfer after a question.
    """

    one: Try
    kind: Kind
    path: str
    verb: str
    at: int
    command: Exchange | None = None
    known: Transfer | None = None
    opens: bool = False
    binary: bool = False
    barred: Try | None = None

    @property
    def client(self) -> str:
        return self.one.connection.client

    @property
    def name(self) -> str:
        """The name that distinguishes it: the path, or the command of a STOU, for which the server chooses the name."""
        return self.command.request.strip() if self.verb == "stou" and self.command is not None else self.path


class Renamed(Struct, eq=False):
    """RNFR and RNTO, or one of them where it failed; `new` is None if the client never sent RNTO."""

    one: Try
    command: Exchange
    old: str
    new: str | None
    at: int

    @property
    def client(self) -> str:
        return self.one.connection.client


class Deleted(Struct, eq=False):
    """A file that the client deleted."""

    client: str
    path: str
    at: int


Step = Asked | Renamed | Deleted


class Session(Struct, eq=False):
    """A connection: what was asked for on it, in order, and the try that named no file, if it ended with one.

    `logins` are the passwords, and the user names without one, that the server answered.
    """

    connection: Connection
    exchanges: list[Exchange]
    steps: list[Step] = []
    nameless: Try | None = None
    logins: list[Try] = []


def sessions(run: Run) -> list[Session]:
    """The connections of a run, in the order in which they opened."""
    order = Order(run)
    return [_Reader(connection, exchanges, order).read() for connection, exchanges in run.by_connection.items()]


def left(connection: Connection) -> tuple[float, int] | None:
    """When a connection ended for the client; None while it lives."""
    at, index = connection.left_at, connection.left_index
    closed_at, closed_index = connection.closed_at, connection.closed_index
    if closed_at is not None and closed_index is not None and (index is None or closed_index < index):
        return closed_at, closed_index
    return (at, index) if at is not None and index is not None else None


def final_code(x: Exchange) -> int:
    """The first code that is not a 1yz, 0 if there is none (RFC 959 §4.2.1)."""
    for code in x.codes:
        if code >= 200:
            return code
    return 0


def refuses(x: Exchange) -> bool:
    """True for a 4yz or 5yz, and if the fake ended the connection without a final reply."""
    codes = x.codes
    if codes and max(codes) >= 400:
        return True
    return x.end is not None and final_code(x) == 0


class _Reader:
    """Reads one connection."""

    __slots__ = ("asked", "binary", "connection", "directory", "exchanges", "order", "refused", "session", "source")

    def __init__(self, connection: Connection, exchanges: list[Exchange], order: Order) -> None:
        self.connection, self.exchanges, self.order = connection, exchanges, order
        self.session = Session(connection, exchanges)
        self.directory, self.binary = "/", False
        self.source: tuple[Exchange, str] | None = None  # an accepted RNFR, and the file
        self.refused: Exchange | None = None  # what was refused since something was last asked for
        self.asked = False  # something has been asked for

    def read(self) -> Session:
        for i, x in enumerate(self.exchanges):
            self._note(i, x)
        if self.connection.after or self.connection.unread:
            self._read_unserved()
        if self.session.nameless is None:
            self.session.nameless = self._nameless()
        return self.session

    def _note(self, i: int, x: Exchange) -> None:
        moment, facts = x.moment, x.facts
        if isinstance(facts, Transfer):
            kind: Kind = facts.direction
            self._ask(i, x, kind, facts.path, facts)
        elif isinstance(facts, Target):
            self._note_target(i, x, facts)
        elif moment == "type" and _is_good(x):
            self.binary = x.request.upper().split()[1:2] == ["I"]
        elif moment in ("user", "pass"):
            self._login(x)
        if moment in _LEADS and not x.stopped and self._stops(x):
            self.refused = x
            if (question := self._barred(moment)) is not None:
                question.barred = self._of_refusal(x)

    def _stops(self, x: Exchange) -> bool:
        """True for a command that leads to a transfer and was refused or not answered; a wrong certificate is neither."""
        if x.moment == "tls" and self.connection.tls is not None and self.connection.tls.defects:
            return False
        return refuses(x) or (x.fault is not None and not final_code(x))

    def _barred(self, moment: str) -> Asked | None:
        """The question of a client that was refused on its way from there to a transfer."""
        last = self.session.steps[-1] if moment in _TO_DATA and self.session.steps else None
        return last if isinstance(last, Asked) and last.kind == "question" else None

    def _login(self, x: Exchange) -> None:
        code, logins = final_code(x), self.session.logins
        if code == 230 or code >= 400:
            ending: Ending = "accepted" if code == 230 else "deferred" if code < 500 else "refused"
            began = x if logins else self.exchanges[0]
            logins.append(Try(began, x, ending, began.at, began.index, *self._when(x)))

    def _note_target(self, i: int, x: Exchange, target: Target) -> None:
        moment = x.moment
        if moment in QUESTIONS:
            self._ask(i, x, "question", target.path)
        elif moment in ("rnfr", "rnto"):
            self._rename(i, x, target)
        elif moment == "dele" and _is_good(x):
            self.session.steps.append(Deleted(self.connection.client, target.path, x.index))
        elif moment in ("cwd", "cdup") and _is_good(x):
            self.directory = target.path

    def _ask(self, i: int, x: Exchange, kind: Kind, path: str, known: Transfer | None = None) -> None:
        opens, self.asked = not self.asked, True
        one = self._try(x, self._end(i, x))
        if opens:
            first = self.exchanges[0]
            one.began, one.started_at, one.started_index = first, first.at, first.index
        self.session.steps.append(Asked(one, kind, path, x.moment, x.index, x, known, opens, self.binary))
        self.refused = None

    def _try(self, x: Exchange, end: End) -> Try:
        ending, by, at, index = end
        return Try(x, by, ending, x.at, x.index, at, index)

    def _rename(self, i: int, x: Exchange, target: Target) -> None:
        if x.moment == "rnfr" and x.codes and x.codes[0] == 350:
            self.source = x, target.path
            return
        old = target.path if x.moment == "rnfr" else target.source
        if old is None:
            return
        began = self.source[0] if self.source is not None and x.moment == "rnto" else x
        one = self._try(x, self._end(i, x))
        one.began = began
        new = target.path if x.moment == "rnto" else None
        self.session.steps.append(Renamed(one, x, old, new, x.index))
        self.source = None

    # ---- how it ended ----------------------------------------------------------------------------

    def _end(self, i: int, x: Exchange) -> End:
        """How the client learned what became of a command."""
        for told in self._told(i, x):
            if code := final_code(told):
                return self._answered(i, x, told, code)
            if told.closed:
                return "unanswered", _proof(x, told), *self._when(told)
        return self._with_connection(i, x)

    def _told(self, i: int, x: Exchange) -> Iterator[Exchange]:
        """The command, and any unsolicited reply before the next one."""
        yield x
        for later in self.exchanges[i + 1 :]:
            if later.moment in _UNASKED and not later.stopped:
                yield later
            elif later.moment not in _DURING:
                return

    def _when(self, told: Exchange) -> tuple[float, int]:
        at = told.answered_at if told.answered_at is not None else told.at
        return at, told.index if at == told.at else self.order.place(at, told.index)

    def _answered(self, i: int, x: Exchange, told: Exchange, code: int) -> End:
        ending: Ending = "accepted" if code < 400 else "deferred" if code < 500 else "refused"
        known = x.transfer
        if known is not None and not known.whole:
            by_client = known.cut_by == "client" or self._aborts(i)
            if by_client and (code < 400 or not self._disturbed(i, x)):
                ending = "abandoned"
            elif code < 400 and known.direction != "upload":
                ending = "unanswered"  # the data connection was cut, whatever the reply says
        return ending, _proof(x, told), *self._when(told)

    def _aborts(self, i: int) -> bool:
        """True if the client broke off the transfer by ABOR (RFC 959 §4.1.3)."""
        return any(later.moment == "abor" for later in self.exchanges[i + 1 : i + 3])

    def _with_connection(self, i: int, x: Exchange) -> End:
        """A command without a final reply ends with its connection."""
        end = left(self.connection)
        if end is None or any(later.stopped for later in self.exchanges[i:]):
            return "unanswered", x, self.connection.journal.clock.now(), NEVER
        by_client = self.connection.ended_by != "fake" or end[1] == self.connection.left_index
        return "abandoned" if by_client and not self._disturbed(i, x) else "unanswered", x, *end

    def _disturbed(self, i: int, x: Exchange) -> bool:
        return any(told.fault is not None for told in self._told(i, x))

    # ---- what the fake did not answer ------------------------------------------------------------

    def _read_unserved(self) -> None:
        """The client's words after the fake had stopped reading or had closed."""
        connection, end = self.connection, left(self.connection)
        if end is None:
            return
        for text, arrival in (
            (connection.unread, connection.unread_arrival),
            (connection.after, connection.after_arrival),
        ):
            at, index = (arrival.at, arrival.index) if arrival is not None else end
            for verb, argument in said(text):
                self._unserved(verb, argument, at, max(index, self.exchanges[-1].index + 1), end)

    def _unserved(self, verb: str, argument: str, at: float, index: int, end: tuple[float, int]) -> None:
        ended = max(at, end[0]), max(index, end[1])
        one = Try(self.exchanges[-1], self.connection, "unanswered", at, index, *ended)
        moment = verb.lower()
        if moment in ("cwd", "xcwd"):
            self.directory = self._path(argument)
        if moment in TRANSFERS or moment in QUESTIONS:
            kind: Kind = (
                "upload"
                if moment in UPLOADS
                else "listing"
                if moment in LISTINGS
                else "download"
                if moment == "retr"
                else "question"
            )
            path = self._path(re.sub(r"^(?:-\w+(?: +|$))+", "", argument) if kind == "listing" else argument)
            self.session.steps.append(Asked(one, kind, path, moment, index))
            self.session.nameless, self.refused = None, None
        elif moment in _LEADS and self.session.nameless is None:
            self.session.nameless = one
            if (question := self._barred(moment)) is not None:
                question.barred = one

    def _path(self, argument: str) -> str:
        return posixpath.normpath(posixpath.join(self.directory, argument or "."))

    # ---- a connection that named no file ---------------------------------------------------------

    def _nameless(self) -> Try | None:
        """The try of a client that was refused on its way to a transfer, and did not go on here."""
        return self._of_refusal(self.refused) if self.refused is not None else self._of_handshake()

    def _of_refusal(self, last: Exchange) -> Try:
        code = final_code(last)
        ending: Ending = "unanswered" if not code else "deferred" if code < 500 else "refused"
        if code or last.closed:
            return self._of_connection(last, ending, self._when(last))
        return self._of_connection(last, ending, left(self.connection) or (self.connection.journal.clock.now(), NEVER))

    def _of_connection(self, by: Evidence, ending: Ending, ended: tuple[float, int]) -> Try:
        first = by if self.asked and isinstance(by, Exchange) else self.exchanges[0]
        return Try(first, by, ending, first.at, first.index, *ended)

    def _of_handshake(self) -> Try | None:
        """The try of a client that left because of the certificate, or because TLS failed (RFC 4217 §15.1.1)."""
        connection = self.connection
        tls = connection.tls
        if tls is None or self.session.steps or not (tls.error or tls.defects):
            return None
        end = left(connection)
        if end is None or any(x.moment == "user" for x in self.exchanges):
            return None
        return self._of_connection(connection, "refused" if tls.defects else "unanswered", end)


def _proof(x: Exchange, told: Exchange) -> Exchange:
    """The exchange that shows how a command ended: a transfer itself shows that it was cut in the middle."""
    return x if told.moment == "transfer" else told


def said(text: str) -> Iterator[tuple[str, str]]:
    """The commands in what a client has said: verb and argument."""
    for line in text.splitlines():
        verb, _, argument = re.sub(r"^[^A-Za-z]+", "", line).partition(" ")
        if verb:
            yield verb.upper(), argument.strip()


def _is_good(x: Exchange) -> bool:
    code = x.code
    return code is not None and code < 400
