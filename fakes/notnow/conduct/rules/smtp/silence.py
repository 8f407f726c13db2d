"""Rules about a server that does not reply."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.mail import (
    AT_ONCE,
    departure,
    left_unanswered,
    read,
    was_of_use,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import MINUTE, show

PATIENCE = {
    "connect": 5 * MINUTE,
    "mail": 5 * MINUTE,
    "rcpt": 5 * MINUTE,
    "data": 2 * MINUTE,
    "message": 10 * MINUTE,
}  # fmt: skip  (RFC 5321 §4.5.3.2)
_NAMES = {"connect": "the connection", "mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "message": "the final dot"}


@rule(
    "smtp.silent-close",
    title="The client treats a close without a reply as a 451: it waits, and tries again.",
    level="should",
    source="RFC 5321 §3.8",
    why="Servers crash, and firewalls cut connections. A close is neither a refusal nor a reason to hurry.",
    proof="the next try after the server has closed without a reply",
    example="C: DATA\nS: closes\nC: never tries again",
)
def silent_close(run: Run) -> Finding:
    mail = run.once(read)
    waited = []
    for attempt in mail.failed:
        x = attempt.failure
        if x is None or x.reply is not None or not x.closed or x.moment == "tls":
            continue
        if attempt.later is None:
            if attempt.earlier is None and not mail.seen_again(attempt):
                return broken("the server hung up without a reply, and it did not try again", x)
            continue
        if attempt.later.delay < AT_ONCE and not was_of_use(attempt):
            why = f"the server hung up without a reply, and it came back {show(attempt.later.delay)} later"
            return broken(why, x, attempt.later.began)
        waited.append(attempt.later.delay)
    return held(f"after a close without a reply it waited {show(min(waited))}") if waited else NOT_EXERCISED


@rule(
    "smtp.patience",
    title="The client waits long enough for a reply: 10 minutes for the reply to the final dot.",
    level="should",
    source="RFC 5321 §4.5.3.2",
    why="A server that is slow to answer the final dot has often stored the message. A client that leaves and tries again makes a duplicate.",
    proof="clients that leave while a reply is due: before 5 minutes (greeting, MAIL, RCPT), 2 (DATA) or 10 (final dot)",
    example="C: .\nS: (silent for 30 s)\nC: leaves",
)
def patient(run: Run) -> Finding:
    longest, where = 0.0, None
    for session in run.once(read).sessions:
        for x in session.exchanges:
            if x.fault is None or x.moment not in PATIENCE:
                continue
            limit, (waited, left) = PATIENCE[x.moment], _waited(x)
            if left and waited < limit:
                why = f"it left after {show(waited)}; {show(limit)} is what the reply to {_NAMES[x.moment]} may take"
                return broken(why, x, session.connection)
            if waited >= max(longest, AT_ONCE):
                longest, where = waited, x
    if where is None:
        return NOT_EXERCISED
    return held(f"it waited {show(longest)} for the reply to {_NAMES[where.moment]}", where)


def _waited(x: Exchange) -> tuple[float, bool]:
    """How long a client waited for a reply, and whether it left without one. A client that still waits has not left."""
    left = departure(x)
    if left_unanswered(x) and left is not None:
        return left[1] - x.at, True
    return (x.answered_at - x.at if x.answered_at is not None else 0.0), False
