"""Rules about commands that a client must not repeat too often."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp.commands import (
    Client,
    answered_at,
    client_of,
    commands,
    crossing,
)
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run, burst
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural, show

FLOOD = 10, 60.0  # NOOPs on a connection, and seconds: more of them within that time are a flood
TRIES = 3, 600.0  # refused passwords, and seconds: vsftpd allows 3 in a session, fail2ban 5 in ten minutes


@rule(
    "ftp.no-noop-flood",
    title="The client does not keep its session alive with a flood of NOOPs.",
    level="advice",
    source="good practice; Pure-FTPd ends sessions that send nothing else",
    why="A NOOP every few minutes is enough to keep a session.",
    occasion="NOOPs one after another on a connection",
    proof=f"NOOPs on a connection with nothing between them; more than {FLOOD[0]} in {show(FLOOD[1])} are a flood",
    innocent="a NOOP before each piece of work, with which connection pools check that a connection is alive",
    example="C: NOOP   (once a second)",
)
def lets_the_connection_rest(run: Run) -> Finding:
    most = 0
    for exchanges in run.by_connection.values() if "noop" in run.once(occasions).moments else ():
        for noops in _in_a_row(exchanges):
            most = max(most, len(noops))
            if flood := burst(noops, *FLOOD):
                return broken(f"{len(flood)} NOOPs within {show(flood[-1].at - flood[0].at)}", *flood)
    return held(f"{plural(most, 'NOOP')} in a row at most") if most > 1 else NOT_EXERCISED


def _in_a_row(exchanges: list[Exchange]) -> Iterator[list[Exchange]]:
    """The NOOPs of a connection that have nothing between them."""
    row: list[Exchange] = []
    for x in commands(exchanges):
        if x.moment == "noop":
            row.append(x)
        elif row:
            yield row
            row = []
    if row:
        yield row


@rule(
    "ftp.spare-the-password",
    title="After a 530 the client does not send the same user's password again and again.",
    level="advice",
    source="good practice; ProFTPD answers 530 to a good password if too many clients are logged in",
    why="A 530 may be about the number of clients. A program that counts failed logins takes it for a wrong password, and locks the account.",
    occasion="a password is refused with 530",
    proof=f"PASS answered by 530, for each user; more than {TRIES[0]} in {show(TRIES[1])} are too many",
    innocent="passwords that were sent at the same time, which count once: no refusal had been read yet",
    example="C: PASS ********\nS: 530 Sorry, the maximum number of clients (3) for this user are already connected.   (five times in a minute)",
)
def spares_the_password(run: Run) -> Finding:
    names: dict[Connection, str] = {}
    refused: dict[tuple[Client, str], list[Exchange]] = {}
    ever = any(map(_is_refused, run.once(occasions).kinds))
    for x in run.exchanges if ever else ():
        if x.moment == "user":
            names[x.connection] = x.request.partition(" ")[2].strip()
        elif _is_refused(x):
            same = refused.setdefault((client_of(x), names.get(x.connection, "")), [])
            if not same or x.connection is same[-1].connection or _apart(same[-1], x):
                same.append(x)
    for (_, name), exchanges in refused.items():
        if burnt := burst(exchanges, *TRIES):
            why = f"the password of {name or 'nobody'} was given {len(burnt)} times within {show(burnt[-1].at - burnt[0].at)}"
            return broken(why, *burnt)
    most = max(map(len, refused.values()), default=0)
    return held(f"{plural(most, 'try', 'tries')} at most for a user") if most else NOT_EXERCISED


def _is_refused(x: Exchange) -> bool:
    return x.moment == "pass" and 530 in x.codes


def _apart(before: Exchange, later: Exchange) -> bool:
    return later.arrived_at - answered_at(before) >= crossing(later.connection)
