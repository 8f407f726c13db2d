"""Rules about delivering a message once, and to all of its recipients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, inconclusive
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import SETTLED_BY, Mail, mail
from notnow.conduct.reading.smtp.retries import in_words
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import times


@rule(
    "smtp.no-second-copy",
    title="The client does not send a message again after a 250, whatever happens to the connection.",
    level="must",
    source="RFC 5321 §4.2.5",
    why="With the 250 the server takes over responsibility for the mail. Sending it again makes a duplicate.",
    occasion="a message is answered 250",
    proof="the same Message-ID, or the same content, is sent again to a recipient that already had it, on any server",
    innocent=(
        "another recipient of the message; a copy that was sent before the client could read the 250; a message that was "
        "refused and yet kept; other mail with the same text, under a Message-ID of its own"
    ),
    example="S: 250 2.0.0 Ok: queued\nS: 421 Service not available\nC: sends the same message on a new connection",
)
def no_second_copy(run: Run) -> Finding:
    known = run.once(mail)
    if "accepted" not in known.endings:
        return NOT_EXERCISED
    answered: dict[int, None] = {}
    for item in known.ledger.items:
        first = next((one for one in item.tries if one.ending == "accepted"), None)
        if first is None or not isinstance(first.by, Exchange):
            continue
        answered[first.by.index] = None
        for again in item.tries:
            if again.kept is not None and again.knew_of(first):
                why = f"{item.name} was answered {first.by.code}, and sent again"
                return broken(why, first.by, again.kept)
    if (renamed := next(_renamed(known), None)) is not None:
        return renamed
    return held(f"{len(answered)} answered 250, and none sent again") if answered else NOT_EXERCISED


def _renamed(known: Mail) -> Iterator[Finding]:
    """Mail that had been accepted, and whose text came again under another Message-ID after something had been refused."""
    for doubt in known.ledger.may_be_copies:
        settled_by = "a Message-ID that stays the same when mail is sent again (RFC 5322 §3.6.4)"
        yield inconclusive(doubt.why, settled_by, *doubt.evidence)


@rule(
    "smtp.resend-all-recipients",
    title="After a transaction that was cut off, the client sends the message again to all of its recipients.",
    level="must",
    source="RFC 5321 §4.1.1.10, §4.2.5",
    why="The server accepted some recipients before the 421, but delivered nothing to them.",
    occasion="a transaction with several recipients fails after the server has accepted one of them, and the message comes again",
    proof="the server knows the message, and some of its recipients are tried again and others are not",
    innocent="other mail with the same sender and some of the recipients",
    example="C: . (the end of a message to b and c)\nS: 451 Try again later\nC: sends it to c, never to b",
)
def resends_all(run: Run) -> Finding:
    known = run.once(mail)
    resent = 0
    unclear: Finding | None = None
    for one in known.shared:
        if one.ending not in ("deferred", "unanswered") or not one.accepted or one.by is None:
            continue
        again = _again(one.tries)
        if again is None:
            continue
        missing = [a.item.name for a in one.tries if a.item is not None and not a.later and a.item.state == "missing"]
        if not missing:
            resent += 1
            continue
        at = f" at {one.by.moment}" if isinstance(one.by, Exchange) else ""
        why = f"{in_words(one.by)}{at} made all of it void, and {', '.join(missing[:3])} never came again"
        if one.message is not None:
            return broken(why, one.by, again)
        unclear = unclear or inconclusive(f"{why}, unless the next try was of other mail", SETTLED_BY, one.by, again)
    if unclear is not None:
        return unclear
    return held(f"all recipients came again, {times(resent)}") if resent else NOT_EXERCISED


def _again(tries: Sequence[Try]) -> Exchange | None:
    """The start of a later try of this message, or of one that may have been of it."""
    for one in tries:
        if one.later is not None:
            return one.later.began
        for item in one.owners:
            if item.tries and item.tries[-1].knew_of(one):
                return item.tries[-1].began
    return None
