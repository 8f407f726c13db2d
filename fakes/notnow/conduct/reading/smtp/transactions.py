"""Reads an SMTP journal connection by connection: the mail transactions that the client began, and how each one ended."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import inf

from msgspec import Struct

from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import Ending, Try
from notnow.conduct.reading.smtp.endings import departure, end_of, ending_of, turned_away, unheard
from notnow.conduct.reading.smtp.letter import Letter
from notnow.journal import CertificateRejected, Connection, Exchange, Message

ENDS_MAIL = frozenset({"rset", "ehlo", "starttls", "quit"})  # RFC 5321 §4.1.1.5, §4.1.4; RFC 3207 §4.2

_PATH = re.compile(r"(?:FROM|TO):\s*<?([^>\s]*)", re.IGNORECASE)
_BEFORE_MAIL = frozenset({"quit", "idle"})  # a client that is refused here was not on its way to MAIL


class Recipient(Struct, eq=False, gc=False):
    """A recipient that the client named in a transaction, and how it ended if that was settled before the rest.

    `asked` is its RCPT, None if the client named it after the close.
    """

    address: str
    asked: Exchange | None
    ending: Ending | None = None
    by: Exchange | None = None
    kept: Exchange | None = None


class Transaction(Struct, eq=False):
    """A mail transaction, or a connection that the server refused before MAIL.

    `first` is its MAIL. It is the last exchange of the connection if the client said MAIL after the close, and the first
    one if it never came to MAIL; then `sender` is None. `ending` and `by` say how it ended, for all recipients that did
    not end before it; both are None while it is under way. `answered` is the exchange of the final dot.

    `letter` is the message that it carried; where the journal leaves several, `owners` are those. `tries` are the tries
    that it was: one for each recipient, or a single one if the wire does not name the item.
    """

    session: Session
    first: Exchange
    sender: str | None
    began_index: int  # that of the connection, if it is the first on it
    began_at: float
    recipients: list[Recipient] | tuple[()] = ()
    data: Exchange | None = None
    answered: Exchange | None = None
    ending: Ending | None = None
    by: Evidence | None = None
    ended_at: float = 0.0
    ended_index: int = 0
    said_after: bool = False  # the client began it after the close, or while the fake stalled
    content: Exchange | None = None  # the exchange at which the journal has what it knows of the message
    letter: Letter | None = None
    owners: Sequence[Letter] | None = None
    tries: Sequence[Try] = ()

    @property
    def connection(self) -> Connection:
        return self.session.connection

    @property
    def message(self) -> Message | None:
        """What the message was, if the journal has enough of its content to distinguish it from others."""
        known = self.content.message if self.content is not None else None
        return known if known is not None and (known.message_id or known.sha256) else None

    @property
    def accepted(self) -> list[Recipient]:
        """The recipients that the server had accepted with RCPT."""
        return [one for one in self.recipients if one.by is None and one.asked is not None]

    @property
    def cut_short(self) -> bool:
        """True if it ended before the client had come to the end of its recipients."""
        return isinstance(self.by, Exchange) and self.by.moment not in ("data", "body", "message")

    @property
    def kept(self) -> Exchange | None:
        """The exchange with which the server kept the message, whatever it said."""
        return self.content if self.content is not None and self.content.stored else None

    @property
    def settled(self) -> tuple[float, float]:
        """The index and the time from which on the client knew how it had ended for all recipients."""
        if self.recipients and (last := self.recipients[-1].by) is not None and not self.accepted:
            return last.index, last.at if last.answered_at is None else last.answered_at
        return (inf, inf) if self.ending is None else (self.ended_index, self.ended_at)

    def add(self, recipient: Recipient) -> None:
        if isinstance(self.recipients, list):
            self.recipients.append(recipient)
        else:
            self.recipients = [recipient]

    def end(self, ending: Ending, by: Evidence) -> None:
        if self.ending is None:
            self.ending, self.by = ending, by
            self.ended_index, self.ended_at = end_of(by, ending)


class Session(Struct, eq=False):
    """A connection with its exchanges, the address of its client, and the transactions on it.

    `told` are all 421s, in reply to a command or unasked.
    """

    connection: Connection
    exchanges: list[Exchange]
    client: str
    transactions: Sequence[Transaction] = ()
    told: Sequence[Exchange] = ()
    encrypted_from: int | None = None  # TLS protects it from this index on

    @property
    def first_in_tls(self) -> Exchange | None:
        """The first command inside TLS, other than QUIT."""
        start = self.encrypted_from
        said = (x for x in self.exchanges if x.request and x.moment not in ("tls", "quit"))
        return next((x for x in said if start is not None and x.index >= start), None)

    @property
    def rejected_certificate(self) -> bool:
        """True if the client went away, as it must, after a certificate that it must not trust (RFC 8314 §3.3)."""
        tls, failure = self.connection.tls, self.connection.failure
        if tls is None or not tls.defects:
            return False
        if isinstance(failure, CertificateRejected):
            return True
        left = departure(self.connection) is not None or failure is not None or tls.error is not None
        return left and self.first_in_tls is None

    @property
    def turned_away(self) -> Transaction | None:
        """The transaction of a client that the server refused, for now or silently, before it could say MAIL."""
        first = self.transactions[0] if self.transactions else None
        return first if first is not None and first.sender is None and first.ending != "refused" else None


def address(request: str) -> str:
    """The address in a MAIL or RCPT; empty for anything else."""
    found = _PATH.search(request)
    return found[1].lower() if found else ""


# ---- one connection ----------------------------------------------------------------------------------


def read(connection: Connection, exchanges: list[Exchange], *, each: bool = False) -> Session:
    """The session of a connection. `each`: the reply to a message comes once for each recipient (RFC 2033 §4.2)."""
    session, first = Session(connection, exchanges, connection.client), exchanges[0]
    if connection.tls is not None and connection.tls.error is None:
        session.encrypted_from = first.index
    if len(exchanges) == 1 and first.moment == "connect" and not (connection.after or connection.unread):
        _read_greeting(session, first)
    else:
        _Reader(session, each).read()
    return session


def _read_greeting(session: Session, x: Exchange) -> None:
    """Read a connection on which the client said nothing: most of those to a busy server."""
    if 421 in x.codes and not unheard(x):
        session.told = (x,)
    ending = turned_away(x)
    if ending is not None:
        connection = session.connection
        found = Transaction(session, x, None, connection.index, connection.opened_at)
        found.end(ending, x)
        session.transactions = (found,)


class _Reader:
    """Goes through the exchanges of a connection; `current` is the transaction whose recipients may still be named."""

    __slots__ = ("current", "each", "lost", "session", "transactions", "void")

    def __init__(self, session: Session, each: bool) -> None:
        self.session = session
        self.transactions: list[Transaction] = []
        self.current: Transaction | None = None
        self.void: Exchange | None = None  # a 421 amid it, after which the server did not close
        self.lost: tuple[Ending, Exchange] | None = None  # the last refusal before any MAIL
        self.each = each

    def read(self) -> None:
        session = self.session
        told: list[Exchange] = []
        session.transactions, session.told = self.transactions, told
        for x in session.exchanges:
            if 421 in x.codes and not unheard(x):
                told.append(x)
            if x.moment == "starttls" and x.code == 220 and session.encrypted_from is not None:
                session.encrypted_from = x.index + 1
            self._take(x)
        self._close()
        if not self.transactions and self.lost is not None:
            self._nameless(*self.lost)
        connection = session.connection
        if connection.after or connection.unread:
            self._take_after(f"{connection.unread}\n{connection.after}")

    def _take(self, x: Exchange) -> None:
        moment = x.moment
        if moment == "mail":
            self._mail(x)
        elif self.current is None:
            if not self.transactions and moment not in _BEFORE_MAIL and (ending := turned_away(x)) is not None:
                self.lost = ending, x
        elif moment in ENDS_MAIL:
            self._leave(x)
        else:
            self._go_on(self.current, x)

    def _mail(self, x: Exchange) -> None:
        if self.current is not None:
            if x.fault is None and x.code == 503:
                return  # nested: the transaction that is open goes on
            self._leave(x)
        self.current, self.void = self._begin(x, address(x.request)), None
        self._fail(self.current, x)

    def _begin(self, first: Exchange, sender: str | None) -> Transaction:
        session, connection = self.session, self.session.connection
        index, at = (first.index, first.at) if self.transactions else (connection.index, connection.opened_at)
        found = Transaction(session, first, sender, index, at)
        self.transactions.append(found)
        return found

    def _go_on(self, current: Transaction, x: Exchange) -> None:
        moment = x.moment
        if x.facts is not None and x.message is not None:
            current.content = x
        if moment == "rcpt":
            self._rcpt(current, x)
        elif moment == "data":
            if (x.code or 0) in (250, 354):
                current.data = x
            if any(one.by is None for one in current.recipients):
                self._fail(current, x)
        elif moment == "message":
            self._message(current, x)
        elif x.end is not None or moment == "body":
            self._fail(current, x)
        elif 421 in x.codes:
            self.void = self.void or x

    def _rcpt(self, current: Transaction, x: Exchange) -> None:
        recipient = Recipient(address(x.request), x)
        current.add(recipient)
        ending = ending_of(x)
        if ending is None or current.ending is not None:
            return
        if x.end is not None or ending == "unanswered":  # all of the transaction is void
            self._fail(current, x)
            return
        recipient.ending, recipient.by = ending, x
        if 421 in x.codes:
            self.void = self.void or x

    def _message(self, current: Transaction, x: Exchange) -> None:
        ending = ending_of(x)
        if self.each:
            self._one_of_each(current, x, ending)
        elif ending is not None:
            current.answered = x
            current.end(ending, x)
            self.current = None
        else:
            current.answered = x

    def _one_of_each(self, current: Transaction, x: Exchange, ending: Ending | None) -> None:
        """The reply to the message for the next of the recipients, each of which has its own (RFC 2033 §4.2)."""
        current.answered = current.answered or x
        waiting = current.accepted
        if waiting and ending is not None:
            one = waiting[0]
            one.ending, one.by, one.kept = ending, x, x if x.stored else None
        if ending is not None and len(waiting) <= 1:
            current.end(ending, x)
            self.current = None

    def _fail(self, current: Transaction, x: Exchange) -> None:
        if (ending := ending_of(x)) is not None:
            current.end(ending, x)

    def _leave(self, by: Exchange) -> None:
        """The client ends the transaction."""
        current, self.current = self.current, None
        if current is not None and current.ending is None:
            current.end(*(("deferred", self.void) if self.void is not None else ("abandoned", by)))

    def _close(self) -> None:
        """The connection ends amid a transaction, or is still open."""
        current, connection = self.current, self.session.connection
        if current is None or current.ending is not None:
            return
        left = departure(connection)
        if left is None and connection.ended_by is None:
            return  # under way
        if self.void is not None:
            current.end("deferred", self.void)
        last = self.session.exchanges[-1]
        due = last.reply is None and bool(last.request)
        current.end("unanswered" if left is None or due else "abandoned", connection)

    # ---- without MAIL, or after the close ------------------------------------------------------------

    def _nameless(self, ending: Ending, lost: Exchange) -> None:
        self._begin(self.session.exchanges[0], None).end(ending, lost)

    def _take_after(self, words: str) -> None:
        """The fake no longer reads: the mail that the client names is the mail that was refused, or other mail."""
        current = self.transactions[-1] if self.transactions else None
        if current is not None and (current.answered is not None or current.ending == "abandoned"):
            current = None
        for verb, line in _spoken(words):
            if verb == "RCPT" and current is not None:
                current.add(Recipient(address(line), None))
            elif verb == "MAIL":
                current = self._mail_after(line)
            elif verb in ("RSET", "EHLO", "HELO"):
                current = None

    def _mail_after(self, line: str) -> Transaction:
        transactions, sender = self.transactions, address(line)
        if len(transactions) == 1 and transactions[0].sender is None:
            transactions[0].sender = sender
            return transactions[0]
        found = self._begin(self.session.exchanges[-1], sender)
        found.said_after = True
        connection = self.session.connection
        found.end("unanswered", connection)
        if (said := connection.after_arrival or connection.unread_arrival) is not None:
            found.ended_index, found.ended_at = said.index, said.at
        return found


def _spoken(after: str) -> Iterator[tuple[str, str]]:
    """The verbs and lines of commands; the lines of a message are left out."""
    content = False
    for line in after.splitlines():
        verb = line[:4].upper()
        if content:
            content = line != "."
        elif verb == "DATA":
            content = True
        else:
            yield verb, line
