"""Reads an SMTP journal: sessions, attempts to deliver mail, and which attempt retries which.

A client is an address. A connection that is refused before MAIL does not show whose mail it carries, and one address
may run many workers with a queue each. If an attempt may be either a retry or the first try of another message, it
counts as whichever favours the client.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from notnow.journal import Connection, Exchange, Journal

if TYPE_CHECKING:
    from notnow.conduct.reading.run import Run

AT_ONCE = 1.0  # seconds: a client that comes back sooner has not waited
LOOKED_THROUGH = 16  # failed attempts of one sender that are searched for the one that is retried
UNASKED = frozenset({"enter", "idle", "error"})
ENDS_MAIL = frozenset({"rset", "ehlo", "starttls", "quit"})  # RFC 5321 §4.1.1.5, §4.1.4; RFC 3207 §4.2

_PATH = re.compile(r"(?:FROM|TO):\s*<?([^>\s]*)", re.IGNORECASE)


@dataclass(eq=False, slots=True)
class Attempt:
    """A try to deliver a message, or a connection that ended before MAIL.

    `sender` is None if the client did not say MAIL. `refused` are the recipients that were deferred one by one. `failure`
    is the exchange that deferred the whole message, by a 4yz or without a reply, and `failed_index` its place in the
    order of things. `answered` is the exchange in which the server stored the message and said so.
    """

    session: Session
    first: Exchange  # MAIL, or the first exchange of the connection
    sender: str | None = None
    accepted: list[str] = field(default_factory=list)
    refused: list[tuple[str, Exchange]] = field(default_factory=list)
    data: Exchange | None = None
    left: Exchange | None = None  # the command with which the client abandoned it
    answered: Exchange | None = None
    failure: Exchange | None = None
    failed_index: int = 0
    failed_at: float = 0.0
    final: bool = False  # a 5yz refused it for good
    earlier: Attempt | None = None  # the attempt that this one retries
    later: Attempt | None = None
    delay: float = 0.0  # seconds since `earlier` failed

    @property
    def recipients(self) -> list[str]:
        return [*self.accepted, *(recipient for recipient, _ in self.refused)]

    @property
    def began(self) -> Exchange:
        """The start of the attempt: the connection, if this is the first attempt on it."""
        return self.session.exchanges[0] if self is self.session.attempts[0] else self.first

    def fail(self, by: Exchange) -> None:
        if self.failure is None and self.answered is None and not self.final:
            self.failure = by
            left = departure(by) if by.reply is None or left_unanswered(by) else None
            answered = by.answered_at if by.answered_at is not None else by.at
            self.failed_index, self.failed_at = left or (by.index, answered)


@dataclass(eq=False, slots=True)
class Session:
    """A connection, its exchanges, and the attempts made on it (at least one)."""

    connection: Connection
    exchanges: list[Exchange]
    attempts: list[Attempt] = field(default_factory=list)
    told: list[Exchange] = field(default_factory=list)  # every 421, in reply to a command or unasked
    encrypted_from: int | None = None  # TLS protects it from this index on
    of_use_from: int | None = None  # the index at which it first took mail

    @property
    def client(self) -> str:
        return self.connection.client

    @property
    def refused(self) -> Exchange | None:
        """The exchange that refused the client before it could say MAIL."""
        first = self.attempts[0]
        return first.failure if first.sender is None else None


@dataclass(slots=True)
class Mail:
    """The sessions and attempts of all clients of a run, in order."""

    sessions: list[Session]
    attempts: list[Attempt]
    asked: dict[tuple[str, str], int]  # sender and recipient -> index of the last RCPT for them
    senders: dict[str, int]  # sender -> index of its last MAIL
    came: dict[str, Attempt]  # client -> its last attempt on any server
    delivered: dict[str, Attempt]  # client -> its last attempt that delivered a message

    @property
    def failed(self) -> Iterator[Attempt]:
        return (a for a in self.attempts if a.failure is not None)

    @property
    def retries(self) -> Iterator[Attempt]:
        return (a for a in self.attempts if a.earlier is not None)

    def seen_again(self, attempt: Attempt) -> bool:
        """True if the same mail, or mail that may be the same, was tried later on any server."""
        if attempt.sender is None:
            return self.came[attempt.session.client].first.index > attempt.failed_index
        if attempt.recipients:
            return any(self.asked[attempt.sender, r] > attempt.failed_index for r in attempt.recipients)
        return self.senders.get(attempt.sender, 0) > attempt.failed_index

    def chains(self) -> Iterator[list[Attempt]]:
        """Each first attempt that failed, followed by its retries."""
        for attempt in self.attempts:
            if attempt.earlier is None and attempt.failure is not None:
                chain, at = [attempt], attempt
                while at.later is not None:
                    at = at.later
                    chain.append(at)
                yield chain


def read(run: Run) -> Mail:
    """The sessions and attempts of a run."""
    asked: dict[tuple[str, str], int] = {}
    sessions = [_session(c, exchanges, asked) for c, exchanges in run.by_connection.items()]
    tried = sorted((a for s in sessions for a in s.attempts), key=lambda a: a.first.index)
    _link(tried, sessions)
    return Mail(
        sessions,
        tried,
        asked,
        senders={a.sender: a.first.index for a in tried if a.sender is not None},
        came={a.session.client: a for a in tried},
        delivered={a.session.client: a for a in tried if a.answered is not None},
    )


def address(request: str) -> str:
    """The address in a MAIL or RCPT; empty for anything else."""
    found = _PATH.search(request)
    return found[1].lower() if found else ""


def departure(exchange: Exchange) -> tuple[int, float] | None:
    """The index and time at which the client left; None if it did not end the connection."""
    c = exchange.connection
    if c.left_index is not None and c.left_at is not None:
        return c.left_index, c.left_at
    if c.ended_by == "client" and c.closed_index is not None and c.closed_at is not None:
        return c.closed_index, c.closed_at
    return None


def left_unanswered(exchange: Exchange) -> bool:
    """True if a rule kept the client waiting for the reply, and the client left before it came."""
    if exchange.fault is None or exchange.closed or exchange.moment in UNASKED:
        return False
    left = departure(exchange)
    return left is not None and (exchange.answered_at is None or left[1] < exchange.answered_at)


def deferred(exchange: Exchange) -> bool:
    """True if a rule answered with a 4yz, closed without a reply, or let the client wait until it left."""
    if exchange.fault is None or exchange.stopped:
        return False
    codes = exchange.codes
    return left_unanswered(exchange) or (400 <= codes[0] < 500 if codes else exchange.closed)


def was_of_use(attempt: Attempt | None) -> bool:
    """True if the connection had taken mail: a server that then closes it asks for a new connection, not for time."""
    return attempt is not None and attempt.session.of_use_from is not None


def code_or_silence(exchange: Exchange) -> str:
    """The reply code, or "no reply"."""
    return "no reply" if exchange.code is None else str(exchange.code)


# ---- one session -------------------------------------------------------------------------------------


def _session(connection: Connection, exchanges: list[Exchange], asked: dict[tuple[str, str], int]) -> Session:
    session = Session(connection, exchanges)
    if connection.tls is not None and connection.tls.error is None:
        session.encrypted_from = exchanges[0].index
    current: Attempt | None = None
    lost: Exchange | None = None  # the last refusal before any MAIL
    for x in exchanges:
        codes, moment = () if left_unanswered(x) else x.codes, x.moment
        if 421 in codes and not x.stopped:
            session.told.append(x)
        if moment == "starttls" and codes[:1] == (220,) and session.encrypted_from is not None:
            session.encrypted_from = x.index + 1
        if moment in ENDS_MAIL or moment == "mail":
            _leave(current, x)
            current = None
        if moment == "mail":
            current = Attempt(session, x, address(x.request))
            session.attempts.append(current)
        if current is not None:
            current = _step(current, x, codes, asked)
        elif not session.attempts and moment not in ("quit", "idle") and deferred(x):
            lost = x
    _leave(current)
    if not session.attempts:
        _nameless(session, lost)
    return session


def _nameless(session: Session, lost: Exchange | None) -> None:
    """A connection without MAIL is an attempt as well, at an unknown message."""
    only = Attempt(session, session.exchanges[0])
    session.attempts.append(only)
    if lost is not None:
        only.fail(lost)


def _step(attempt: Attempt, x: Exchange, codes: tuple[int, ...], asked: dict[tuple[str, str], int]) -> Attempt | None:
    """Record what an exchange means for the attempt; return the attempt, or None if it is over."""
    moment, code = x.moment, codes[0] if codes else 0
    refused = deferred(x)
    if moment == "rcpt" and attempt.sender is not None:
        recipient = address(x.request)
        asked[attempt.sender, recipient] = max(x.index, asked.get((attempt.sender, recipient), 0))
        if 200 <= code < 300:
            attempt.accepted.append(recipient)
        elif refused or (code == 552 and x.fault is not None):  # RFC 5321 §4.5.3.1.10: treated as a 452
            attempt.refused.append((recipient, x))
    elif moment == "data" and code == 354:
        attempt.data = x
    elif moment == "message" and 200 <= code < 300:
        attempt.answered = x
        if attempt.session.of_use_from is None:
            attempt.session.of_use_from = x.index
    elif code >= 500 and moment in ("mail", "data", "message"):
        attempt.final = True
    ended = 421 in codes[1:] and not x.stopped  # a 421 after the reply
    if ended or (refused and (moment in ("mail", "data", "body", "message") or code in (0, 421))):
        attempt.fail(x)
    return None if attempt.failure or attempt.answered or attempt.final else attempt


def _leave(attempt: Attempt | None, by: Exchange | None = None) -> None:
    """The client abandons an attempt; the attempt has failed if no recipient was accepted."""
    if attempt is not None:
        attempt.left = by
        if not attempt.accepted and attempt.refused:
            attempt.fail(attempt.refused[-1][1])


# ---- which attempt retries which ---------------------------------------------------------------------


class _Waiting:
    """The attempts of one client at one server that failed and have not been retried, the oldest first."""

    def __init__(self, messages: int) -> None:
        self.fresh = messages  # how many more attempts may be first tries of their message
        self.all: deque[Attempt] = deque()
        self.by_sender: dict[str | None, deque[Attempt]] = {}

    def add(self, attempt: Attempt) -> None:
        self.all.append(attempt)
        self.by_sender.setdefault(attempt.sender, deque()).append(attempt)

    def take(self, attempt: Attempt) -> Attempt | None:
        """The failed attempt that this one most likely retries."""
        if attempt.sender is None:
            return self._oldest(self.all)
        same = self.by_sender.get(attempt.sender, deque())
        recipients = set(attempt.recipients)
        self._oldest(same)
        for _, earlier in zip(range(LOOKED_THROUGH), same, strict=False):
            if earlier.later is None and (
                not recipients or not earlier.recipients or not recipients.isdisjoint(earlier.recipients)
            ):
                return earlier
        return self._oldest(self.by_sender.get(None, deque()))

    @staticmethod
    def _oldest(waiting: deque[Attempt]) -> Attempt | None:
        while waiting and waiting[0].later is not None:
            waiting.popleft()
        return waiting[0] if waiting else None


def _link(tried: list[Attempt], sessions: Iterable[Session]) -> None:
    """Link each attempt to the one that it retries."""
    messages = _messages(tried, sessions)
    waiting: dict[tuple[Journal, str], _Waiting] = {}
    events = [(a.first.index, 0, i) for i, a in enumerate(tried)]
    events += [(a.failed_index, 1, i) for i, a in enumerate(tried) if a.failure is not None]
    for _, failed, i in sorted(events):
        attempt = tried[i]
        client = attempt.session.client
        key = attempt.session.connection.journal, client
        line = waiting.get(key)
        if line is None:
            line = waiting[key] = _Waiting(messages[client])
        if failed:
            line.add(attempt)
            continue
        earlier = line.take(attempt)
        delay = _delay(earlier, attempt) if earlier is not None else 0.0
        if earlier is None or (delay < AT_ONCE and line.fresh > 0):
            line.fresh -= 1
        else:
            attempt.earlier, attempt.delay, earlier.later = earlier, delay, attempt


def _delay(earlier: Attempt, attempt: Attempt) -> float:
    began = attempt.began
    at = began.at if began.index > earlier.failed_index else attempt.first.at
    return max(0.0, at - earlier.failed_at)


def _messages(tried: Iterable[Attempt], sessions: Iterable[Session]) -> dict[str, int]:
    """For each client, the lower bound of its messages or workers: that many attempts may be first tries."""
    seen: defaultdict[str, set[object]] = defaultdict(set)
    named: defaultdict[str, set[object]] = defaultdict(set)
    for attempt in tried:
        client = attempt.session.client
        if attempt.sender is not None and attempt.recipients:
            seen[client].add((attempt.sender, attempt.recipients[0]))
        if attempt.answered is not None and (message := attempt.answered.message) and message.stored:
            named[client].add(message.name)
    of_client: dict[str, list[Session]] = {}
    for session in sessions:
        of_client.setdefault(session.client, []).append(session)
    return {c: max(1, len(seen[c]), len(named[c]), _workers(own)) for c, own in of_client.items()}


def _workers(sessions: Iterable[Session]) -> int:
    """The most connections used side by side, up to each one's last command: the journal may see the close late."""
    events: list[tuple[int, int]] = []
    for session in sessions:
        last = next((x.index for x in reversed(session.exchanges) if x.request), None)
        if last is not None:
            events += [(session.connection.index, 1), (last, -1)]
    live = most = 0
    for _, step in sorted(events):
        live += step
        most = max(most, live)
    return most
