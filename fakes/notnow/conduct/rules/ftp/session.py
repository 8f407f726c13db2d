"""Rules about the end of a control connection, and about the commands to repeat on the next."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp import (
    Client,
    client_of,
    commands,
    last_word,
    out_of_order,
    said_after,
    verb_of,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural


@rule(
    "ftp.notice-close",
    title="The client notices that the control connection is closed, at the latest with its next command.",
    level="should",
    source="RFC 1123 §4.1.2.11",
    why="Commands sent after the close are lost, and a reset may destroy the last reply. A client that waits for an answer hangs.",
    proof="commands other than QUIT and ABOR after the fake has closed; the first is allowed, since it may have been on its way and shows the client the close",
    example="C: PASV\nS: 421 Service not available, closing control connection.\nC: PORT 127,0,0,1,8,1\nC: STOR a.txt",
)
def notices_the_close(run: Run) -> Finding:
    closed = learned = 0
    for connection, exchanges in run.by_connection.items():
        end = last_word(exchanges)
        if end is None or end.moment == "connect":
            continue
        closed += 1
        said = said_after(connection)
        if not said:
            continue
        if len(said) > 1:  # the first may have been on its way, and shows the client the close
            return broken(f"{', '.join(said[:5])} came when the connection was closed", end, connection)
        learned += 1
    if not closed:
        return NOT_EXERCISED
    how = f"; {learned} of them it noticed by its next command" if learned else ""
    return held(f"{plural(closed, 'connection')} closed under it{how}")


@rule(
    "ftp.start-over",
    title="After a refusal that ended its connection, the client starts the whole command sequence again.",
    level="advice",
    source="RFC 959 §4.2.1 (4yz: back to the beginning of the command sequence)",
    why="A new connection has no state: no login, and no address for data.",
    proof="commands on the new connection without those that must come first: 503, 530, or 425 for a transfer without PASV or PORT",
    example="S: 421 Timeout.\n(a new connection)\nC: RETR a.txt\nS: 530 Log in with USER and PASS first.",
)
def starts_over(run: Run) -> Finding:
    refused: set[Client] = set()
    again: set[Connection] = set()  # connections of clients that had been refused
    for x in run.exchanges:
        if x.moment == "connect" and client_of(x) in refused:
            again.add(x.connection)
        if x.connection in again and out_of_order(x):
            return broken(f"{verb_of(x.request)} came on a new connection as if it were the old one", x)
        if x.rule and x.refused and x.closed:
            refused.add(client_of(x))
    begun = sum(1 for connection in again if any(commands(run.by_connection[connection])))
    return held(f"it began anew on {plural(begun, 'connection')}") if begun else NOT_EXERCISED


@rule(
    "ftp.set-up-again",
    title="When the client repeats a transfer on a new connection, it sets the same type and directory as before.",
    level="advice",
    source="RFC 959 §4.2.1 (4yz), §3.1.1 and §5.1 (the type is ASCII until TYPE says otherwise)",
    why="Without TYPE I the server translates line ends and corrupts the file. Without CWD the file lands in another directory.",
    proof="the same command as one that failed, on another connection, with another path or type",
    example="C: TYPE I, CWD /in, STOR a.bin\nS: 421 Kicked by Administrator\n(a new connection)\nC: STOR a.bin   (to /, with type A)",
)
def sets_up_again(run: Run) -> Finding:
    types: dict[Connection, str] = {}
    cut: dict[tuple[Client, str], tuple[Exchange, str, str]] = {}  # a transfer that failed, its path and type
    repeated = 0
    for x in run.exchanges:
        if x.moment == "type" and x.code == 200:
            types[x.connection] = "A" if x.request.upper().split()[1:2] == ["A"] else "I"
        asked = x.transfer
        if asked is None or x.moment == "stou":
            continue
        key, path, of_type = (client_of(x), x.request.strip()), asked.path, types.get(x.connection, "A")
        before, its_path, its_type = cut.pop(key, (x, path, of_type))
        if before.connection is not x.connection:
            repeated += 1
            if path != its_path:
                return broken(f"{key[1]!r} was about {its_path}, and now it is about {path}", before, x)
            if of_type != its_type and asked.direction != "listing":
                return broken(f"{key[1]!r} was of type {its_type}, and now it is of type {of_type}", before, x)
        if not asked.whole:
            cut[key] = x, path, of_type
    return held(f"{plural(repeated, 'transfer')} set up again as before") if repeated else NOT_EXERCISED
