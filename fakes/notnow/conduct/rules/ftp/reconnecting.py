"""Rules about reconnecting after a refusal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp import (
    IN_THE_FILES,
    Client,
    client_of,
    last_word,
)
from notnow.conduct.reading.run import Run, burst
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import plural, show

AT_ONCE = 1.0  # seconds: a client that comes back sooner has not waited
STORM = 10, 60.0  # refused connections, and seconds: more of them within that time are a storm
_PURPOSE = (IN_THE_FILES - {"cwd", "cdup", "pwd"}) | {"site"}  # commands that do work
_FULL = re.compile(r"too many|\bmaximum\b|accept more than|already (connected|logged in)", re.IGNORECASE)
_OWN = re.compile(r"\b(your|this|the same) (internet address|ip|host|user|account)\b", re.IGNORECASE)


@rule(
    "ftp.wait-before-reconnect",
    title="After a refusal at the greeting or at the login, the client waits before it connects again.",
    level="advice",
    source="good practice; RFC 959 §4.2.1 leaves the time open",
    why="A client that comes back at once keeps an overloaded server overloaded, and is locked out.",
    proof="the time from such a refusal to the client's next connection; less than a second is no wait. A client that frees a slot itself need not wait",
    example="S: 421 Too many users are connected, please try again later.   (0 s)\nC: connects again   (3 ms)",
)
def waits(run: Run) -> Finding:
    own = {id(x) for x, others in _full(run) if others > 0}
    found = [
        retry
        for retry in run.retries
        if retry.refusal.moment in ("connect", "user", "pass")
        and retry.attempt.moment == "connect"
        and id(retry.refusal) not in own  # a slot that the client frees is free at once
    ]
    if not found:
        return NOT_EXERCISED
    soonest = min(found, key=lambda retry: retry.delay)
    if soonest.delay < AT_ONCE:
        return broken(f"it came back {show(soonest.delay)} after it was refused", soonest.refusal, soonest.attempt)
    return held(f"it waited at least {show(soonest.delay)}")


@rule(
    "ftp.no-retry-storm",
    title="The client does not storm a server that refuses its connections.",
    level="advice",
    source="good practice",
    why="Each refused connection costs the server work, and the server has said that it has no room for more.",
    proof=f"refused connections of one client; more than {STORM[0]} in {show(STORM[1])} are a storm",
    example="S: 421 System busy, try again later   (twelve times in three seconds)",
)
def is_no_storm(run: Run) -> Finding:
    refused = _by(x for x in run.refusals if x.moment == "connect")
    for exchanges in refused.values():
        if storm := burst(exchanges, *STORM):
            why = f"{len(storm)} connections were refused within {show(storm[-1].at - storm[0].at)}, and still it came"
            return broken(why, *storm)
    most = max(map(len, refused.values()), default=0)
    return held(f"{plural(most, 'connection')} refused") if most > 1 else NOT_EXERCISED


def _by(exchanges: Iterable[Exchange]) -> dict[Client, list[Exchange]]:
    sorted_out: dict[Client, list[Exchange]] = {}
    for exchange in exchanges:
        sorted_out.setdefault(client_of(exchange), []).append(exchange)
    return sorted_out


@rule(
    "ftp.fewer-connections",
    title="When the server says that there are too many connections, the client makes do with those it has.",
    level="advice",
    source="good practice; vsftpd max_per_ip, Pure-FTPd MaxClientsPerIP, ProFTPD MaxClientsPerHost",
    why="Another connection is refused as well while the others last, and servers ban clients that keep asking.",
    proof="a second refusal for too many connections of this address or user, while at least as many others are open as at the first",
    example="S: 421 There are too many connections from your internet address.   (two are open)\nC: tries a third one again, and is refused again",
)
def uses_fewer_connections(run: Run) -> Finding:
    told: dict[Client, tuple[Exchange, int]] = {}  # the refusal, and how many others were open at it
    for refusal, others in _full(run):
        if others < 1 or not _OWN.search(refusal.reply or ""):
            continue  # other clients hold the slots
        before = told.get(client_of(refusal))
        if before is not None and others >= before[1]:
            why = f"it asked for one more when it had {others}, and had been told that {before[1]} are enough"
            return broken(why, before[0], refusal)
        told[client_of(refusal)] = refusal, others
    if not told:
        return NOT_EXERCISED
    return held(f"with {min(others for _, others in told.values())} open it asked for no more")


def _full(run: Run) -> list[tuple[Exchange, int]]:
    """Each refusal for too many connections, and how many other connections that client had open."""
    live: dict[Client, int] = defaultdict(int)
    events: list[tuple[int, int, Exchange | Client]] = []
    for connection in run.connections:
        client = connection.journal, connection.client
        events.append((connection.index, 1, client))
        ends = [i for i in (connection.left_index, connection.closed_index) if i is not None]
        if ends:
            events.append((min(ends), -1, client))
    events += [
        (x.index, 0, x)
        for x in run.refusals
        if x.moment in ("connect", "user", "pass") and _FULL.search(x.reply or "") is not None
    ]
    found = []
    for _, step, what in sorted(events, key=lambda event: event[0]):
        if isinstance(what, Exchange):
            found.append((what, live[client_of(what)] - 1))
        else:
            live[what] += step
    return found


@rule(
    "ftp.reconnect-lazily",
    title="After an idle time-out the client comes back only when it has something to do.",
    level="advice",
    source="good practice",
    why="An idle connection takes a slot from a client with work to do, and times out again.",
    proof="connections after an idle time-out that do nothing until the next one",
    example="S: 421 Timeout.\nC: connects, USER, PASS\nS: 421 Timeout.",
)
def comes_back_when_needed(run: Run) -> Finding:
    idled: dict[Client, Exchange] = {}
    returned = 0
    for exchanges in run.by_connection.values():
        client = client_of(exchanges[0])
        before, end = idled.get(client), last_word(exchanges)
        idle = end if end is not None and end.moment == "idle" else None
        if before is not None and before.index < exchanges[0].index:
            returned += 1
            if idle is not None and not any(x.moment in _PURPOSE for x in exchanges):
                return broken("it came back, did nothing, and was sent away again", before, idle)
        if idle is not None:
            idled[client] = idle
    return held(f"it came back {returned} times, for something") if returned else NOT_EXERCISED
