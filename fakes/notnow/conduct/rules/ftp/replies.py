"""Rules about reading replies."""

from __future__ import annotations

from collections import deque

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp import (
    ANNOUNCES,
    IN_THE_FILES,
    TRANSFERS,
    commands,
    out_of_order,
    said_after,
    verb_of,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import plural

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
    proof="a client that goes on after a refusal, where the line that it has not read yet would have let it go on",
    example="S: 220-Welcome\nS: 220 to this server\nC: USER ann\nS: 331 Password?\nC: TYPE I",
)
def reads_to_the_last_line(run: Run) -> Finding:
    """A client that takes the first line for the whole reply stays one line behind: it takes the next line for the
    reply to its next command, and goes on after a refusal.
    """
    long = 0
    for exchanges in run.by_connection.values():
        lines: deque[str] = deque()  # lines that such a client has not read yet
        first: Exchange | None = None  # the reply of several lines
        before: Exchange | None = None
        mistaken = False  # such a client took the last reply for a success
        for x in exchanges:
            if mistaken and first is not None and before is not None and out_of_order(x):
                why = f"{verb_of(x.request)} came as if a line of {_first_line(first)!r} had been the reply to {verb_of(before.request)}"
                return broken(why, first, before, x)
            said = (x.reply or "").split("\n")
            if any(line[3:4] == "-" and line[:3].isdecimal() for line in said):
                long += 1
                first = first or x
            lines.extend(said)
            taken = lines.popleft()
            if taken[:1] == "1" and lines:
                taken = lines.popleft()
            codes = x.codes
            mistaken = taken[:1] in ("1", "2") and bool(codes) and codes[-1] >= 300
            before = x
    return held(f"{plural(long, 'reply', 'replies')} of several lines") if long else NOT_EXERCISED


def _first_line(exchange: Exchange) -> str:
    return (exchange.reply or "").partition("\n")[0]


@rule(
    "ftp.first-digit",
    title="The client acts on the first digit of a reply: after a 4yz or 5yz it does not go on as if accepted.",
    level="should",
    source="RFC 1123 §4.1.2.11; RFC 959 §4.2.1",
    why="Codes differ from server to server, and the first digit carries the meaning. The step after a refused one fails as well, or does harm.",
    proof="PASS after a refused USER, commands on files after a refused PASS, a transfer after a refused PASV or PORT, RNTO after a refused RNFR",
    example="C: RNFR a\nS: 450 Not now\nC: RNTO b",
)
def goes_by_the_first_digit(run: Run) -> Finding:
    refusals = 0
    for exchanges in run.by_connection.values():
        refused: dict[str, Exchange] = {}
        for x in exchanges:
            if not x.request or x.moment == "transfer":
                continue
            for what, refusal in refused.items():
                if x.moment in _BEFORE[what]:
                    why = f"{verb_of(x.request)} came although {verb_of(refusal.request)} had been refused"
                    return broken(why, refusal, x)
            kind = "data" if x.moment in ANNOUNCES else x.moment
            if kind in _BEFORE:
                refused.pop(kind, None)
                if any(code >= 400 for code in x.codes):
                    refusals += 1
                    refused[kind] = x
    return held(f"{refusals} times it was refused what something else needs") if refusals else NOT_EXERCISED


@rule(
    "ftp.refused-greeting",
    title="The client does not log in when the greeting is a refusal.",
    level="advice",
    source="RFC 959 §5.4 (120, 220 or 421 come first); good practice",
    why="The server cannot log it in, and on a connection in clear text the password has been exposed for nothing.",
    proof="USER, PASS or ACCT after a greeting that refuses",
    example="S: 421 Too many connections (8) from this IP\nC: USER ann",
)
def does_not_log_in_where_refused(run: Run) -> Finding:
    refused = [x for x in run.refusals if x.moment == "connect" and not x.unanswered]
    for greeting in refused:
        for verb in said_after(greeting.connection):
            if verb in _LOGIN:
                return broken(f"{verb} came after {greeting.code}", greeting, greeting.connection)
        for later in commands(run.by_connection[greeting.connection]):
            if verb_of(later.request) in _LOGIN:
                return broken(f"{verb_of(later.request)} came after {greeting.code}", greeting, later)
    return held(plural(len(refused), "refused greeting")) if refused else NOT_EXERCISED
