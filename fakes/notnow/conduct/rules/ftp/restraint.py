"""Rules about commands that a client must not repeat too often."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp import (
    Client,
    client_of,
)
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
    proof=f"NOOPs on a connection; more than {FLOOD[0]} in {show(FLOOD[1])} are a flood",
    example="C: NOOP   (once a second)",
)
def lets_the_connection_rest(run: Run) -> Finding:
    said = 0
    for exchanges in run.by_connection.values():
        noops = [x for x in exchanges if x.moment == "noop"]
        said += len(noops)
        if flood := burst(noops, *FLOOD):
            return broken(f"{len(flood)} NOOPs within {show(flood[-1].at - flood[0].at)}", *flood)
    return held(plural(said, "NOOP")) if said else NOT_EXERCISED


@rule(
    "ftp.spare-the-password",
    title="After a 530 the client does not send the same user's password again and again.",
    level="advice",
    source="good practice; ProFTPD answers 530 to a good password if too many clients are logged in",
    why="A 530 may be about the number of clients. A guard that counts failures takes it for a wrong password, and locks the account.",
    proof=f"PASS answered by 530, for each user; more than {TRIES[0]} in {show(TRIES[1])} are too many",
    example="C: PASS ********\nS: 530 Sorry, the maximum number of clients (3) for this user are already connected.   (five times in a minute)",
)
def spares_the_password(run: Run) -> Finding:
    names: dict[Connection, str] = {}
    refused: dict[tuple[Client, str], list[Exchange]] = {}
    for x in run.exchanges:
        if x.moment == "user":
            names[x.connection] = x.request.partition(" ")[2].strip()
        elif x.moment == "pass" and 530 in x.codes:
            refused.setdefault((client_of(x), names.get(x.connection, "")), []).append(x)
    for (_, name), exchanges in refused.items():
        if burnt := burst(exchanges, *TRIES):
            why = f"the password of {name or 'nobody'} was given {len(burnt)} times within {show(burnt[-1].at - burnt[0].at)}"
            return broken(why, *burnt)
    most = max(map(len, refused.values()), default=0)
    return held(f"{plural(most, 'try', 'tries')} at most for a user") if most else NOT_EXERCISED
