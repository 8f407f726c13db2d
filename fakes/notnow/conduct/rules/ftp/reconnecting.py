"""Rules about reconnecting after a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, held, inconclusive
from notnow.conduct.reading.ftp.commands import (
    A_WHILE,
    ANNOUNCES,
    IN_THE_FILES,
    Client,
    Dial,
    answered_at,
    client_of,
    crossing,
    dialled_knowing,
    refused_dials,
)
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run, burst
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import plural, show, times

STORM = 10, 60.0  # refused connections, and seconds: more of them within that time are a storm
_PURPOSE = (IN_THE_FILES - {"cwd", "cdup", "pwd"}) | ANNOUNCES | {"site", "stat"}  # commands that do work
_FULL = re.compile(r"too many|\bmaximum\b|accept more than|already (connected|logged in)", re.IGNORECASE)
_OWN = re.compile(r"\b(your|this|the same) (internet address|ip|host|user|account)\b", re.IGNORECASE)


@rule(
    "ftp.wait-before-reconnect",
    title="After a refusal at the greeting or at the login, the client waits before it connects again.",
    level="advice",
    source="good practice; RFC 959 §4.2.1 leaves the time open",
    why="A client that comes back at once keeps an overloaded server overloaded, and is locked out.",
    occasion="a connection is refused at the greeting or at the login, and the client makes another one to that server",
    proof="the time from such a refusal to the client's next connection; less than a second counts as no wait",
    innocent="connections opened at the same time; another worker, where the client has had several connections at a time; a client that frees a slot itself",
    example="S: 421 Too many users are connected, please try again later.   (0 s)\nC: connects again   (0.1 s)",
)
def waits(run: Run) -> Finding:
    returned = [dial for dial in refused_dials(run) if dial.next is not None and not _frees_a_slot(dial)]
    soonest = min((dial.delay for dial in returned), default=0.0)
    return over(map(_returned, returned), lambda _: f"it waited at least {show(soonest)}")


def _frees_a_slot(dial: Dial) -> bool:
    """True for a client that holds slots: a slot that it frees is available at once."""
    return dial.others > 0 and _is_full(dial)


def _returned(dial: Dial) -> Finding:
    assert dial.next is not None
    if dial.delay >= A_WHILE:
        return HELD
    known, again = dial.known, dial.next.exchanges[0]
    after_all = (
        again.at - answered_at(dial.first) < A_WHILE
    )  # too soon after the first refusal, whoever was refused then
    if dial.alone and known is not None and after_all:
        return broken(f"it came back {show(again.at - answered_at(known))} after it was refused", known, again)
    why = f"it connected {show(dial.delay)} after it was refused, which may have been another worker"
    return inconclusive(why, "one connection at a time", dial.refusal, again)


@rule(
    "ftp.no-retry-storm",
    title="The client does not hammer a server that refuses its connections.",
    level="advice",
    source="good practice",
    why="Each refused connection costs the server work, and the server has said that it has no room for more.",
    occasion="a client whose connection was refused comes back, and is refused again",
    proof=f"refused connections of one client; more than {STORM[0]} in {show(STORM[1])} are a storm",
    innocent="connections opened at the same time, which count once",
    example="S: 421 System busy, try again later   (twelve times in three seconds)",
)
def is_no_storm(run: Run) -> Finding:
    refused: dict[Client, list[Exchange]] = {}
    for dial in refused_dials(run):
        same = refused.setdefault(dial.client, [])
        if dial.refusal.moment == "connect" and (not same or _apart(same[-1], dial.refusal)):
            same.append(dial.refusal)
    for exchanges in refused.values():
        if storm := burst(exchanges, *STORM):
            why = f"{len(storm)} connections were refused within {show(storm[-1].at - storm[0].at)}, and still it came"
            return broken(why, *storm)
    most = max(map(len, refused.values()), default=0)
    return held(f"{plural(most, 'connection')} refused") if most > 1 else NOT_EXERCISED


def _apart(before: Exchange, later: Exchange) -> bool:
    return later.at - before.at >= crossing(later.connection)


@rule(
    "ftp.fewer-connections",
    title="When the server says that there are too many connections, the client uses those that it has.",
    level="advice",
    source="good practice; vsftpd max_per_ip, Pure-FTPd MaxClientsPerIP, ProFTPD MaxClientsPerHost",
    why="Another connection is refused as well while the others are open, and servers ban clients that keep asking.",
    occasion="a refusal for too many connections of this address or user, while the client has others open",
    proof="a second such refusal, of a connection that the client opened after it was told, while at least as many others are open",
    innocent="connections opened at the same time; slots that other clients hold; connections that have ended since",
    example="S: 421 There are too many connections from your internet address.   (two are open)\nC: opens a third one again, and is refused again",
)
def uses_fewer_connections(run: Run) -> Finding:
    told: dict[Client, Dial] = {}
    for dial in refused_dials(run):
        if dial.others < 1 or not (_is_full(dial) and _OWN.search(dial.refusal.reply or "")):
            continue  # other clients hold the slots
        before = told.get(dial.client)
        if (
            before is not None
            and dial.others >= before.others
            and dialled_knowing(dial.refusal.connection, before.refusal)
        ):
            why = f"it asked for one more when it had {dial.others}, and had been told that {before.others} are enough"
            return broken(why, before.refusal, dial.refusal)
        told[dial.client] = dial
    if not told:
        return NOT_EXERCISED
    return held(f"with {min(dial.others for dial in told.values())} open it asked for no more")


def _is_full(dial: Dial) -> bool:
    return _FULL.search(dial.refusal.reply or "") is not None


@rule(
    "ftp.reconnect-lazily",
    title="After an idle time-out the client comes back only when it has something to do.",
    level="advice",
    source="good practice",
    why="An idle connection takes a slot from a client with work to do, and times out again.",
    occasion="a client whose connection timed out in silence connects again",
    proof="connections after an idle time-out that do nothing until the next one",
    innocent="connections that were open already; any command about a file, a directory's content or a data connection",
    example="S: 421 Timeout.\nC: connects, USER, PASS\nS: 421 Timeout.",
)
def comes_back_when_needed(run: Run) -> Finding:
    return over(_comes_back(run), lambda n: f"it came back {times(n)}, for something")


def _comes_back(run: Run) -> Iterator[Finding]:
    idled: dict[Client, Exchange] = {}
    for exchanges in run.by_connection.values() if "idle" in run.once(occasions).moments else ():
        client = client_of(exchanges[0])
        before, end = idled.get(client), exchanges[-1]
        idle = end if end.moment == "idle" and end.closed and end.rule else None
        if before is not None and before.index < exchanges[0].index:
            if any(x.moment in _PURPOSE for x in exchanges):
                yield HELD
            elif idle is not None:
                yield broken("it came back, did nothing, and timed out again", before, idle)
        if idle is not None:
            idled[client] = idle
