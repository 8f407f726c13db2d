"""Rules about a reply that does not come, or comes late."""

from __future__ import annotations

from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.ftp.commands import answered_at, said_after, spoke_knowing, verb_of
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural, show

FOR_EVER = 3600.0  # seconds: a client with a time-out does not wait this long
A_WHILE = 1.0  # seconds: a reply that comes later is late
_UNASKED = frozenset({"transfer", "enter", "idle", "error", "tls"})  # these are no commands
_URGENT = frozenset({"ABOR", "STAT", "QUIT"})  # RFC 959 §4.1.3: allowed during a transfer


@rule(
    "ftp.time-out",
    title="The client does not wait forever for a reply.",
    level="should",
    source="RFC 1123 §4.1.3.2",
    why="Nobody notices a job that hangs. A time-out is an error that the client can handle.",
    occasion="a rule keeps the client waiting for a reply",
    proof=f"how long the client stays while the fake sends nothing; {show(FOR_EVER)} counts as forever",
    innocent="a client that went on, or whose connection the fake ended; one that had not waited for long when the fake stopped",
    example="C: USER ann   (no reply; the client still waits two hours later)",
)
def times_out(run: Run) -> Finding:
    left: list[float] = []
    ever = any(map(_is_kept_waiting, run.once(occasions).kinds))
    for connection, exchanges in run.by_connection.items() if ever else ():
        last = exchanges[-1]
        if last.stopped:
            last = exchanges[-2] if len(exchanges) > 1 else last
        if not _is_kept_waiting(last):
            continue
        until = connection.closed_at if connection.closed_at is not None else connection.journal.clock.now()
        if connection.ended_by == "client":
            left.append(until - last.at)
        elif until - last.at >= FOR_EVER:
            return broken(f"it has waited {show(until - last.at)} for a reply", last, connection)
    return held(f"it left after {show(max(left))}") if left else NOT_EXERCISED


def _is_kept_waiting(x: Exchange) -> bool:
    return x.fault is not None and x.end is None and x.unanswered


@rule(
    "ftp.in-step",
    title="The client gives no command while a reply is due, except ABOR, STAT and QUIT.",
    level="should",
    source="RFC 959 §5.4 (the user waits for the reply), §4.1.3",
    why="FTP has no pipelining. A client that speaks out of turn takes each reply for that of its next command.",
    occasion="a rule keeps the client waiting for a reply",
    proof="a command that arrives while the reply to the one before it is due",
    innocent="ABOR, STAT and QUIT; a command that crosses an unsolicited reply",
    example="C: STOR a.txt\nS: (silent for 30 s)\nC: NOOP   (10 s)",
)
def in_step(run: Run) -> Finding:
    return over(_waits(run), lambda n: f"it waited for {plural(n, 'late reply', 'late replies')}")


def _waits(run: Run) -> Iterator[Finding]:
    seen = run.once(occasions)
    ever = seen.slow or seen.early or seen.spoken_after or any(map(_is_kept_waiting, seen.kinds))
    for connection, exchanges in run.by_connection.items() if ever else ():
        due: Exchange | None = None  # the last command, or the greeting
        for x in exchanges:
            if x.moment in _UNASKED:
                continue
            if due is not None and x.arrival is not None and verb_of(x.request) not in _URGENT and _was_due(due, x):
                yield _out_of_turn(verb_of(x.request), due, x)
            elif due is not None and due.fault is not None and answered_at(due) - due.at >= A_WHILE:
                yield HELD
            if due is None or verb_of(x.request) not in _URGENT:
                due = x
        if due is not None and (case := _at_the_end(connection, due, exchanges[-1])) is not None:
            yield case


def _was_due(due: Exchange, x: Exchange) -> bool:
    """True if the reply was still due when a later command arrived."""
    return due.answered_at is None or x.arrived_index <= due.index or x.arrived_at < due.answered_at


def _at_the_end(connection: Connection, due: Exchange, last: Exchange) -> Finding | None:
    """What the client said while the fake stalled, or before a reply that closed; a client that waited and left has done right."""
    unread = [verb for line in connection.unread.splitlines() if (verb := verb_of(line)) and verb not in _URGENT]
    if unread:
        return _out_of_turn(unread[0], due, connection)
    if due is not last:
        return None
    if due.closed:
        early = due.request and not spoke_knowing(connection, due) and said_after(connection)
        return _out_of_turn(early[0], due, connection) if early else None
    return HELD if due.fault is not None and due.unanswered and connection.ended_by == "client" else None


def _out_of_turn(verb: str, due: Exchange, proof: Exchange | Connection) -> Finding:
    what = f"the reply to {verb_of(due.request)}" if due.request else "the greeting"
    return broken(f"{verb} came while {what} was due", due, proof)
