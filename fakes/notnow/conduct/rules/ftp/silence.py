"""The rule about a reply that does not come."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.units import show

FOR_EVER = 3600.0  # seconds: a client with a time-out does not wait this long


@rule(
    "ftp.time-out",
    title="The client does not wait forever for a reply.",
    level="should",
    source="RFC 1123 §4.1.3.2",
    why="Nobody notices a job that hangs. A time-out is an error that the client can handle.",
    proof=f"how long the client stays while the fake sends nothing; {show(FOR_EVER)} counts as forever",
    example="C: USER ann   (no reply; the client still waits two hours later)",
)
def times_out(run: Run) -> Finding:
    left: list[float] = []
    for connection, exchanges in run.by_connection.items():
        told = [x for x in exchanges[-2:] if not x.stopped]
        last = told[-1] if told else None
        if last is None or last.fault is None or not last.unanswered or last.closed:
            continue
        until = connection.closed_at if connection.closed_at is not None else connection.journal.clock.now()
        if connection.ended_by == "client":
            left.append(until - last.at)
        elif until - last.at >= FOR_EVER:
            return broken(f"it has waited {show(until - last.at)} for a reply", last, connection)
    return held(f"it left after {show(max(left))}") if left else NOT_EXERCISED
