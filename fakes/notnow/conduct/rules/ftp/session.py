"""Rules about the end of a control connection, and about the commands to repeat on the next one."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, Finding, broken, inconclusive, not_exercised
from notnow.conduct.reading.ftp.commands import (
    ANNOUNCES,
    Client,
    client_of,
    commands,
    last_word,
    out_of_order,
    said_after,
    spoke_knowing,
    verb_of,
)
from notnow.conduct.reading.ftp.transfers import TRANSFERS, left
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural


@rule(
    "ftp.notice-close",
    title="The client notices that the control connection is closed, at the latest with its next command.",
    level="should",
    source="RFC 1123 §4.1.2.11",
    why="Commands sent after the close are lost, and a reset may destroy the last reply. A client that waits for an answer hangs.",
    occasion="a rule closes a control connection after the greeting",
    proof="more than one command, other than QUIT and ABOR, after the fake has closed; one more is allowed for each unsolicited reply",
    innocent="the first command, which may have been on its way and whose failure tells the client of the close; a command that "
    "took an unsolicited 421 for its answer; commands that arrived before the close",
    example="C: PASV\nS: 421 Service not available, closing control connection.\nC: PORT 127,0,0,1,8,1\nC: STOR a.txt",
)
def notices_the_close(run: Run) -> Finding:
    learned = sum(1 for connection in run.once(occasions).spoken_after if len(said_after(connection)) == 1)
    how = f"; {learned} of them it noticed by its next command" if learned else ""
    return over(_closed(run), lambda n: f"{plural(n, 'connection')} closed under it{how}")


def _closed(run: Run) -> Iterator[Finding]:
    late = any(x.end is not None and x.moment != "connect" for x in run.once(occasions).kinds)
    for connection, exchanges in run.by_connection.items() if late else ():
        if connection.ended_by != "fake":
            continue
        end = last_word(exchanges)
        if end is None or end.moment == "connect":
            continue
        said = said_after(connection)
        if len(said) <= 1 + _unasked(end):
            yield HELD
        elif spoke_knowing(connection, end):
            yield broken(f"{', '.join(said[:5])} came when the connection was closed", end, connection)


def _unasked(end: Exchange) -> int:
    """How many replies nobody had asked for: to the client each is the answer to its next command (RFC 959 §4.2)."""
    final = sum(1 for code in end.codes if code >= 200)
    return max(0, final - bool(end.request))


@rule(
    "ftp.plain-421",
    title="A 421 that leaves the connection open has no special meaning: the client goes on over that connection.",
    level="should",
    source="RFC 1123 §4.1.2.11",
    why="Servers answer 421 to one transfer and stay. A client that hangs up gives its session away, and logs in once more for nothing.",
    occasion="a 421 leaves the connection open, and the client goes on there, or ends the connection",
    proof="the client drops that connection without QUIT, and connects again",
    innocent="a client that says QUIT, as after any failure; one that gives up; one that drops connections elsewhere in the run as well; a connection that the server has closed since",
    example="C: PASV\nS: 421 Passive data channel timed out.   (the connection stays open)\nC: hangs up, connects again",
)
def takes_421_as_any_4yz(run: Run) -> Finding:
    stayed = any(x.end is None and 421 in x.codes for x in run.once(occasions).kinds)
    told = [
        (x, exchanges[i + 1 : i + 2])
        for exchanges in (run.by_connection.values() if stayed else ())
        for i, x in enumerate(exchanges)
        if x.end is None and 421 in x.codes
    ]
    latest = {(c.journal, c.client): c.index for c in run.by_connection} if told else {}
    dropped = _drops(run) if told else set()
    cases = (_after_421(x, later, latest, dropped) for x, later in told)
    return over(
        (case for case in cases if case is not None),
        lambda n: f"it went on after {plural(n, '421')} that left it open",
    )


def _drops(run: Run) -> set[Client]:
    """The clients that habitually end connections without QUIT, also where no 421 was the last reply."""
    ends = (exchanges[-1] for exchanges in run.by_connection.values())
    return {
        client_of(x) for x in ends if x.connection.ended_by == "client" and x.moment != "quit" and 421 not in x.codes
    }


def _after_421(
    told: Exchange, later: list[Exchange], latest: dict[Client, int], dropped: set[Client]
) -> Finding | None:
    connection, client = told.connection, client_of(told)
    if later and later[0].moment != "quit":
        return HELD if later[0].request else None
    end = left(connection)
    if end is None or (connection.ended_by == "fake" and not later):
        return None
    if not later and latest[client] > end[1] and client not in dropped:
        return broken("it dropped a connection that the 421 had left open, and made another one", told, connection)
    why = "it ended a connection that the 421 had left open, as it may do after any 4yz"
    return inconclusive(why, "another 4yz, such as 450, in place of the 421", told, connection)


@rule(
    "ftp.start-over",
    title="After a refusal that ended its connection, the client starts the whole command sequence again.",
    level="advice",
    source="RFC 959 §4.2.1 (4yz: back to the beginning of the command sequence)",
    why="A new connection has no state: no login, and no address for data.",
    occasion="a refusal ends a connection, and the client gives commands on a new one",
    proof="commands on the new connection without those that must come first: 503, 530, or 425 for a transfer without PASV or PORT",
    innocent="a connection that was open already; a login, or a PASV, that was tried and refused; a command that the client always tries too early",
    example="S: 421 Timeout.\n(a new connection)\nC: RETR a.txt\nS: 530 Log in with USER and PASS first.",
)
def starts_over(run: Run) -> Finding:
    return over(_starts_over(run), lambda n: f"it began anew on {plural(n, 'connection')}")


def _starts_over(run: Run) -> Iterator[Finding]:
    refused: dict[Client, int] = {}  # the index of the first refusal that ended a connection
    habits: set[tuple[Client, str]] = set()  # commands that the client gave too early before it was refused
    seen = run.once(occasions)
    ended = any(x.end is not None and x.refused for x in seen.kinds)
    for exchanges in run.by_connection.values() if ended and seen.moments != {"connect"} else ():
        client = client_of(exchanges[0])
        again = refused.get(client, exchanges[0].index) < exchanges[0].index
        said: set[str] = set()
        for x in commands(exchanges):
            if out_of_order(x) and not again:
                habits.add((client, x.moment))
            elif again and _leaves_out(x, said) and (client, x.moment) not in habits:
                yield broken(f"{verb_of(x.request)} came on a new connection as if it were the old one", x)
            said.add(x.moment)
        if again and "user" in said:
            yield HELD
        end = exchanges[-1]
        if end.rule and end.closed and end.refused:
            refused[client] = min(end.index, refused.get(client, end.index))


def _leaves_out(x: Exchange, said: set[str]) -> bool:
    """True for a command that was refused because the client had not sent the command that must come before it."""
    if not out_of_order(x):
        return False
    if x.code == 425:
        return said.isdisjoint(ANNOUNCES)
    return ("rnfr" if x.moment == "rnto" and x.code != 530 else "user") not in said


@rule(
    "ftp.set-up-again",
    title="When the client repeats a transfer on a new connection, it sets the same type and directory as before.",
    level="advice",
    source="RFC 959 §4.2.1 (4yz), §3.1.1 and §5.1 (the type is ASCII until TYPE says otherwise)",
    why="Without TYPE I the server translates line ends and corrupts the file. Without CWD the file lands in another directory.",
    occasion="a transfer that failed is asked for by the same command on another connection",
    proof="the repeated transfer is about another path, and the client sent no CWD; or it is of type A, and the client sent no TYPE",
    innocent="a file of the same name in another directory; a type that the client chose; listings",
    example="C: TYPE I, CWD /in, STOR a.bin\nS: 421 Kicked by Administrator\n(a new connection)\nC: STOR a.bin   (to /, with type A)",
)
def sets_up_again(run: Run) -> Finding:
    return over(_set_up(run), lambda n: f"{plural(n, 'transfer')} set up again as before")


def _set_up(run: Run) -> Iterator[Finding]:
    types: dict[Connection, str] = {}
    moved: set[Connection] = set()  # those with a CWD
    cut: dict[tuple[Client, str], tuple[Exchange, str]] = {}  # a transfer that failed, and its type
    transferred = not run.once(occasions).moments.isdisjoint(TRANSFERS)
    for x in run.exchanges if transferred else ():
        if x.moment == "type" and x.code == 200:
            types[x.connection] = "A" if x.request.upper().split()[1:2] == ["A"] else "I"
        elif x.moment in ("cwd", "cdup"):
            moved.add(x.connection)
        if x.transfer is None or x.moment == "stou":
            continue
        key, of_type = (client_of(x), x.request.strip()), types.get(x.connection)
        before, its_type = cut.pop(key, (x, ""))
        if before.connection is not x.connection:
            yield _as_before(before, its_type, x, of_type, x.connection in moved)
        if not x.transfer.whole:
            cut[key] = x, of_type or "A"


def _as_before(before: Exchange, its_type: str, x: Exchange, of_type: str | None, moved: bool) -> Finding:
    assert before.transfer is not None
    assert x.transfer is not None
    said, path, its_path = x.request.strip(), x.transfer.path, before.transfer.path
    if path != its_path:
        why = f"{said!r} was about {its_path}, and now it is about {path}"
        another = inconclusive(f"{why}, which may be another file", f"{its_path} on a new connection", before, x)
        return another if moved else broken(why, before, x)
    if its_type == "I" and of_type is None and x.transfer.direction != "listing":
        return broken(f"{said!r} was of type I, and now it is of type A", before, x)
    if its_type == "I" and of_type == "A" and x.transfer.direction != "listing":
        return not_exercised("the client chose another type")
    return HELD
