"""Rules about delivering a message once, and to all of its recipients."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.mail import (
    code_or_silence,
    read,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import times


@rule(
    "smtp.no-second-copy",
    title="The client does not send a message again after a 250, whatever happens to the connection.",
    level="must",
    source="RFC 5321 §4.2.5",
    why="With the 250 the server takes over responsibility for the mail. Sending it again makes a duplicate.",
    proof="the same Message-ID, or the same content, stored twice for one recipient after a 250, on any server",
    example="S: 250 2.0.0 Ok: queued\nS: 421 Service not available\nC: sends the same message on a new connection",
)
def no_second_copy(run: Run) -> Finding:
    answered: dict[tuple[str, str], Exchange] = {}
    messages = 0
    for attempt in run.once(read).attempts:
        x = attempt.answered
        if x is None or x.message is None or not x.stored:
            continue
        messages += 1
        name = x.message.name
        for recipient in attempt.accepted:
            before = answered.setdefault((name, recipient), x)
            if before is not x:
                return broken(f"{name} was answered {before.code} and sent to {recipient} again", before, x)
    return held(f"{messages} answered 250, and none sent again") if messages else NOT_EXERCISED


@rule(
    "smtp.resend-all-recipients",
    title="After a transaction that was cut off, the client sends the message again to all of its recipients.",
    level="must",
    source="RFC 5321 §4.1.1.10, §4.2.5",
    why="The server accepted some recipients before the 421, but delivered nothing to them.",
    proof="a transaction that failed, of which some recipients are tried again and others are not",
    example="S: 250 (to RCPT of b), 421 (to RCPT of c)\nC: sends it to c, never to b",
)
def resends_all(run: Run) -> Finding:
    mail = run.once(read)
    resent = 0
    for attempt in mail.failed:
        x, sender = attempt.failure, attempt.sender
        if x is None or sender is None or not attempt.accepted or len(attempt.recipients) < 2:
            continue
        later = {r: mail.asked[sender, r] > attempt.failed_index for r in attempt.recipients}
        if not any(later.values()):
            continue
        resent += 1
        missing = [r for r, again in later.items() if not again]
        if missing:
            again = attempt.later.first if attempt.later is not None else None
            why = (
                f"{code_or_silence(x)} at {x.moment} made all of it void, and {', '.join(missing[:3])} never came again"
            )
            return broken(why, x, *([again] if again is not None else []))
    return held(f"all recipients came again, {times(resent)}") if resent else NOT_EXERCISED
