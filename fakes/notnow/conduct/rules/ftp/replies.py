"""Rules about reading replies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, not_exercised
from notnow.conduct.reading.ftp.commands import (
    ANNOUNCES,
    IN_THE_FILES,
    commands,
    knew,
    out_of_order,
    said_after,
    spoke_knowing,
    verb_of,
)
from notnow.conduct.reading.ftp.transfers import TRANSFERS, final_code
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural, times

_LOGIN = frozenset({"USER", "PASS", "ACCT"})
# A refused command -> the commands that must wait until it is accepted.
_BEFORE = {
    "user": frozenset({"pass"}),
    "pass": IN_THE_FILES | ANNOUNCES,
    "data": TRANSFERS,
    "rnfr": frozenset({"rnto"}),
}


@rule(
    "ftp.multi-line-replies",
    title="The client reads a reply of several lines to its last line.",
    level="must",
    source="RFC 1123 §4.1.2.11; RFC 959 §4.2",
    why="A client that stops at the first line takes the second for the reply to its next command, and stays one line behind.",
    occasion="a reply of several lines, and then commands in which a client that is one line behind would make mistakes",
    proof="the client goes on after a refusal, as the line that it had not read yet would have allowed",
    innocent="a command that is refused for a reason of its own; to prove a breach, it must fit the unread line and lack the command that has to come before it",
    example="S: 220-Welcome\nS: 220 to this server\nC: USER ann\nS: 331 Password?\nC: TYPE I",
)
def reads_to_the_last_line(run: Run) -> Finding:
    told = any(x.reply and _is_long(x) for x in run.once(occasions).kinds)
    long = sum(1 for x in run.exchanges if x.reply and _is_long(x)) if told else 0
    silent = not_exercised("no command after it would show how the client has read it") if long else NOT_EXERCISED
    return over(
        _long_replies(run) if told else (), lambda _: f"{plural(long, 'reply', 'replies')} of several lines", silent
    )


def _is_long(x: Exchange) -> bool:
    assert x.reply is not None
    return "-" in x.reply and any(line[3:4] == "-" and line[:3].isdecimal() for line in x.lines)


def _long_replies(run: Run) -> Iterator[Finding]:
    """A client that takes the first line for the whole reply stays one line behind: it takes the next line for the
    reply to its next command, and goes on after a refusal.
    """
    for exchanges in run.by_connection.values():
        lines: deque[str] = deque()  # lines that such a client has not read yet
        first: Exchange | None = None  # the reply of several lines
        before: Exchange | None = None
        mistaken = differs = False  # such a client took the last reply for a success, or for another one
        for x in exchanges:
            if first is None and not (x.reply and _is_long(x)):
                continue
            if first is not None and before is not None and x.request:
                if mistaken and out_of_order(x):
                    why = f"{verb_of(x.request)} came as if a line of {_first_line(first)!r} had been the reply to {verb_of(before.request)}"
                    yield broken(why, first, before, x)
                if differs and x.moment != "quit":
                    yield HELD
            first = first or x
            lines.extend((x.reply or "").split("\n"))
            taken = lines.popleft()
            if taken[:1] == "1" and lines:
                taken = lines.popleft()
            codes = x.codes
            mistaken = taken[:1] in ("1", "2") and bool(codes) and codes[-1] >= 300
            differs = bool(codes) and taken[:1] != str(codes[-1])[:1]
            before = x


def _first_line(exchange: Exchange) -> str:
    return (exchange.reply or "").partition("\n")[0]


@rule(
    "ftp.first-digit",
    title="The client acts on the first digit of a reply: after a 4yz or 5yz it does not go on as if accepted.",
    level="should",
    source="RFC 1123 §4.1.2.11; RFC 959 §4.2.1",
    why="Codes differ from server to server, and the first digit carries the meaning. The step after a refused one fails as well, or does harm.",
    occasion="a refusal of USER, PASS, RNFR, or of a command that prepares a data connection",
    proof="PASS after a refused USER, commands on files after a refused PASS, a transfer after a refused PASV or PORT, RNTO after a refused RNFR",
    innocent="a command that was on its way before the refusal; another try of the refused command, or of one that does the same",
    example="C: RNFR a\nS: 450 Not now\nC: RNTO b",
)
def goes_by_the_first_digit(run: Run) -> Finding:
    return over(_refused_steps(run), lambda n: f"it was refused {times(n)} what something else needs")


def _refused_steps(run: Run) -> Iterator[Finding]:
    ever = any(_step(x) in _BEFORE and _is_refused(x) for x in run.once(occasions).kinds)
    for connection, exchanges in run.by_connection.items() if ever else ():
        refused: dict[str, Exchange] = {}
        for x in commands(exchanges):
            for what, refusal in refused.items():
                if x.moment in _BEFORE[what] and knew(x, refusal):
                    yield _went_on(refusal, verb_of(x.request), x)
            if (step := _step(x)) in _BEFORE:
                refused.pop(step, None)
                if _is_refused(x):
                    refused[step] = x
                    yield HELD
        for what, refusal in refused.items():
            for verb in said_after(connection) if spoke_knowing(connection, exchanges[-1]) else ():
                if verb.lower() in _BEFORE[what]:
                    yield _went_on(refusal, verb, connection)


def _step(x: Exchange) -> str:
    return "data" if x.moment in ANNOUNCES else x.moment


def _is_refused(x: Exchange) -> bool:
    return max(x.codes, default=0) >= 400


def _went_on(refusal: Exchange, verb: str, proof: Exchange | Connection) -> Finding:
    return broken(f"{verb} came although {verb_of(refusal.request)} had been refused", refusal, proof)


@rule(
    "ftp.refused-greeting",
    title="The client does not log in when the greeting is a refusal.",
    level="advice",
    source="RFC 959 §5.4 (120, 220 or 421 come first); good practice",
    why="The server cannot log it in, and on a connection in clear text the password has been exposed for nothing.",
    occasion="a greeting that refuses",
    proof="USER, PASS or ACCT after a greeting that refuses",
    innocent="commands that were sent before the greeting had come",
    example="S: 421 Too many connections (8) from this IP\nC: USER ann",
)
def does_not_log_in_where_refused(run: Run) -> Finding:
    return over(_refused_greetings(run), lambda n: plural(n, "refused greeting"))


def _refused_greetings(run: Run) -> Iterator[Finding]:
    ever = any(map(_is_refused_greeting, run.once(occasions).kinds))
    for connection, exchanges in run.by_connection.items() if ever else ():
        greeting = exchanges[0]
        if not _is_refused_greeting(greeting):
            continue
        if connection.after and spoke_knowing(connection, greeting):
            for verb in said_after(connection):
                if verb in _LOGIN:
                    yield broken(f"{verb} came after {greeting.code}", greeting, connection)
        for later in commands(exchanges):
            if verb_of(later.request) in _LOGIN and knew(later, greeting):
                yield broken(f"{verb_of(later.request)} came after {greeting.code}", greeting, later)
        yield HELD


def _is_refused_greeting(x: Exchange) -> bool:
    return x.moment == "connect" and x.fault is not None and final_code(x) >= 400
