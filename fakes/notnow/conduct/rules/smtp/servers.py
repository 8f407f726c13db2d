"""Rules about several servers, and several connections to one."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from heapq import heappop, heappush
from math import inf

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, inconclusive
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import mail
from notnow.conduct.reading.smtp.transactions import Session, Transaction
from notnow.conduct.reading.smtp.unnamed import AT_ONCE
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange, Journal
from notnow.units import MINUTE, plural, show, times

MOST_PER_MINUTE = 5  # connections to a busy host: Postfix opens as many before it knows
_CAP = re.compile(r"too many|concurren|simultaneous|all server ports|connection (?:limit|count|rate)", re.IGNORECASE)


@rule(
    "smtp.next-host",
    title="When the preferred server refuses the client, the client tries the next one.",
    level="should",
    source="RFC 5321 §5.1 (the client must be able to try several addresses, and should try at least two)",
    why="A second MX exists for this case.",
    occasion="the first of several servers refuses a client for now, before MAIL",
    proof="the client never connects to another of the servers",
    innocent="a client that another server had seen before counts only with what came later; a refusal for good",
    may_report=True,
    example="primary  S: 421 4.3.2 All server ports are busy\nbackup   (the client never connects)",
)
def next_host(run: Run) -> Finding:
    if len(run.journals) < 2:
        return NOT_EXERCISED
    first = run.journals[0]
    refused: dict[str, Transaction] = {}
    took: dict[str, float] = {}
    for session in run.once(mail).sessions:
        client, connection = session.client, session.connection
        if connection.journal is first:
            if session.turned_away is not None:
                refused.setdefault(client, session.turned_away)
        elif client in refused and client not in took:
            took[client] = max(0.0, connection.opened_at - refused[client].ended_at)
    for client, one in refused.items():
        if client not in took and one.by is not None:
            return broken(f"{first.server} refused it, and it tried no other server", one.by)
    if not refused:
        return NOT_EXERCISED
    return held(f"it turned to another server {show(max(took.values()))} after {first.server} had refused it")


@rule(
    "smtp.preference-order",
    title="The client tries servers in order of preference.",
    level="must",
    source="RFC 5321 §5.1",
    why="A backup may be slow or expensive, or may not know which mailboxes exist.",
    occasion="a client comes to one of several servers",
    proof="the client connects to a server before all preferred ones have refused it",
    innocent=(
        "each refusal allows connections to the servers after it. A run cannot show whether the client picks at random among "
        "servers of equal preference"
    ),
    example="backup   C: connects   (0 s)\nprimary  C: connects   (1 s)",
)
def in_order(run: Run) -> Finding:
    if len(run.journals) < 2:
        return NOT_EXERCISED
    rank = {journal: i for i, journal in enumerate(run.journals)}
    tried: set[tuple[str, int]] = set()
    took: dict[tuple[str, int], Exchange] = {}  # client and server -> the last mail taken, if nothing was refused since
    excuses: dict[tuple[str, int], int] = {}  # client and server -> refusals that allow a visit to another server
    for session in run.once(mail).sessions:
        client, connection, place = session.client, session.connection, rank[session.connection.journal]
        for better in range(place):
            name, key = run.journals[better].server, (client, better)
            if key not in tried:
                return broken(f"it came to {connection.server} without having tried {name}", connection)
            good = took.get(key)
            if not excuses.get(key) and good is not None and good.index < connection.index:
                return broken(f"it came to {connection.server} though {name} had just taken its mail", good, connection)
            excuses[key] = max(0, excuses.get(key, 0) - 1)
        tried.add((client, place))
        answered = [one.answered for one in session.transactions if one.ending == "accepted" and one.answered]
        if session.told or not answered or any(map(_failed, session.transactions)):
            took.pop((client, place), None)
            excuses[client, place] = excuses.get((client, place), 0) + 1
        else:
            took[client, place] = answered[-1]
    return held("no server was skipped") if tried else NOT_EXERCISED


def _failed(one: Transaction) -> bool:
    return one.ending in ("deferred", "unanswered") or any(r.ending == "deferred" for r in one.recipients)


@rule(
    "smtp.remembers-busy-host",
    title="The client remembers that a server is busy, and does not offer it the rest of the queue.",
    level="should",
    source="RFC 5321 §4.5.4.1",
    why="One connection shows that the server is busy. A hundred more show the same, and keep it busy.",
    occasion="the server refuses a client with 421 at the greeting",
    proof=f"more than {MOST_PER_MINUTE} connections of one client in a minute, one after the other, are refused with 421",
    innocent="connections that the client opened side by side, before it could know",
    example="S: 421 4.3.2 All server ports are busy   (0 s)\nC: 20 more connections, one for each message",
)
def remembers(run: Run) -> Finding:
    if "connect" not in run.once(occasions).told_at:
        return NOT_EXERCISED
    windows: dict[tuple[Journal, str], deque[Exchange]] = defaultdict(deque)
    told: dict[tuple[Journal, str], Exchange] = {}  # the first refusal since the server last let the client in
    refused = most = 0
    burst: tuple[Exchange, ...] = ()
    for session in run.once(mail).sessions:
        key = session.connection.journal, session.connection.client
        window, turned_away = windows[key], session.turned_away
        refusal = turned_away.by if turned_away is not None else None
        if not isinstance(refusal, Exchange) or 421 not in refusal.codes or refusal.moment != "connect":
            window.clear()
            told.pop(key, None)
            continue
        refused += 1
        first = told.setdefault(key, refusal)
        while window and refusal.at - window[0].at >= MINUTE:
            window.popleft()
        window.append(refusal)
        if len(window) > MOST_PER_MINUTE and window[-MOST_PER_MINUTE - 1].at - first.at >= AT_ONCE:
            why = f"it walked into a busy server {times(len(window))} within {show(refusal.at - window[0].at)}"
            return broken(why, *window)
        burst = burst or (tuple(window) if len(window) > MOST_PER_MINUTE else ())
        most = max(most, len(window))
    if burst:
        why = (
            f"{len(burst)} connections were refused within {show(burst[-1].at - burst[0].at)}, side by side or in turn"
        )
        return inconclusive(why, "the client's own log", *burst)
    return held(f"at most {plural(most, 'refused connection')} in a minute") if refused else NOT_EXERCISED


@rule(
    "smtp.fewer-connections",
    title="When the server says that there are too many connections, the client opens fewer.",
    level="advice",
    source="Gmail, Outlook.com and Yahoo postmaster pages",
    why="Providers count connections. A client that stays above the limit is refused for longer, or blocked.",
    occasion="a reply says that the client has too many connections while it has several open, and the client opens more later",
    proof="it has as many connections open again, a second or more after it was told",
    innocent="connections that the client had begun to open before; a connection that the server has closed",
    example="S: 421 4.7.0 Too many concurrent connections   (0 s, on the 5th)\nC: has 5 connections open again                (60 s)",
)
def fewer(run: Run) -> Finding:
    if not any(_CAP.search(x.reply or "") for x in run.once(occasions).kinds):
        return NOT_EXERCISED
    clients: dict[tuple[Journal, str], _Client] = {}
    for session in run.once(mail).sessions:
        key = session.connection.journal, session.client
        client = clients.get(key) or clients.setdefault(key, _Client())
        client.connects(session)
    found = (client.finding for client in clients.values())
    return min(found, key=lambda one: _WORST_FIRST.index(one.outcome), default=NOT_EXERCISED)


_WORST_FIRST = ("broken", "held", "not exercised")


class _Client:
    """Finds out if one client opened fewer connections to one server after it was told that it had too many."""

    def __init__(self) -> None:
        self._ends: list[float] = []  # a heap: where the connections end that are open
        self._told: Exchange | None = None
        self._limit = self._since = 0  # how many it had when it was told, and the most since
        self._broken: Finding | None = None

    @property
    def finding(self) -> Finding:
        if self._broken is not None or self._told is None:
            return self._broken or NOT_EXERCISED
        return held(f"{self._limit} connections before, {self._since} at most since")

    def connects(self, session: Session) -> None:
        ends, connection = self._ends, session.connection
        while ends and ends[0] <= connection.index:
            heappop(ends)
        heappush(ends, _end(session))
        if self._told is not None:
            self._judge(self._told, connection, len(ends))
        elif len(ends) > 1 and (refusal := _refusal(session)) is not None and _CAP.search(refusal.reply or ""):
            self._told, self._limit = refusal, len(ends)

    def _judge(self, told: Exchange, connection: Connection, live: int) -> None:
        if self._broken is None and connection.opened_at - told.at >= AT_ONCE:
            self._since = max(self._since, live)
            if live >= self._limit:
                why = (
                    f"it had {self._limit} connections when it was told that they are too many, and later {live} again"
                )
                self._broken = broken(why, told, connection)


def _refusal(session: Session) -> Exchange | None:
    """The exchange that put off the first mail of a connection, or the client before it said MAIL."""
    first = session.transactions[0] if session.transactions else None
    by = first.by if first is not None and first.ending == "deferred" else None
    return by if isinstance(by, Exchange) else None


def _end(session: Session) -> float:
    """The index at which a connection ended, or the client was sent away."""
    connection, last = session.connection, session.exchanges[-1]
    end = last.index if last.end is not None else inf
    for index in (connection.left_index, connection.closed_index):
        if index is not None and index < end:
            end = index
    return end
