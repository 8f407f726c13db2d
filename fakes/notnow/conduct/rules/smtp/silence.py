"""Rules about a server that does not reply, or takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from notnow.conduct.finding import NOT_EXERCISED, Evidence, Finding, broken, held, inconclusive
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import SETTLED_BY, mail
from notnow.conduct.reading.smtp.endings import departure, left_unanswered, refused_for_now
from notnow.conduct.reading.smtp.retries import retries
from notnow.conduct.reading.smtp.transactions import Session
from notnow.conduct.reading.smtp.unnamed import AT_ONCE
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

# RFC 2920 §3.1: these may stand in a group of commands; any other must be the last of its group. A message may begin one.
_BEGINS_GROUP = frozenset({"mail", "rcpt", "rset", "message", "bdat"})
_HELLO = "\x16\x03"  # with which a TLS handshake begins: a client that takes a port in clear text for one in TLS
A_WHILE = 0.1  # seconds: a command that comes so long after another one has not left together with it


@rule(
    "smtp.silent-close",
    title="The client treats a close without a reply as a 451: it waits, and tries again.",
    level="should",
    source="RFC 5321 §3.8",
    why="Servers crash, and firewalls cut connections. A close is neither a refusal nor a reason to hurry.",
    occasion="the server closes the connection in place of the reply to a command",
    proof="the mail is never tried again, or comes again within a second",
    innocent="a connection that had taken mail before; a try that may be of other mail; a TLS handshake that fails",
    example="C: DATA\nS: closes\nC: never tries again",
    may_report=True,
)
def silent_close(run: Run) -> Finding:
    if not run.once(occasions).silent:
        return NOT_EXERCISED
    known = run.once(mail)
    unclear = [one for one in known.ledger.nameless if _closed_silently(one)]
    for item in known.ledger.items:
        closed = item.tries[0]
        if len(item.tries) > 1 or item.kept_back or not _closed_silently(closed):
            continue
        if item.in_doubt or known.last_unnamed.get(item, 0) > closed.ended_index:
            unclear.append(closed)
        else:
            return broken("the server closed without a reply, and it did not try again", closed.by)
    again = [retry for retry in run.once(retries).found if _closed_silently(retry.earlier)]
    soonest = min(again, key=lambda retry: retry.delay, default=None)
    if soonest is not None and soonest.delay < AT_ONCE:
        why = f"the server closed without a reply, and it came back {show(soonest.delay)} later"
        return broken(why, soonest.earlier.by, soonest.again.began)
    unclear += [retry.again for retry in run.once(retries).unclear if _closed_silently(retry.earlier)]
    if unclear:
        why = "the server closed without a reply, and the next try was of the same mail or of other mail"
        return inconclusive(why, SETTLED_BY, unclear[0].by)
    if soonest is not None:
        return held(f"after a close without a reply it waited {show(soonest.delay)}")
    spared = any(_closed_silently(retry.earlier) for retry in run.once(retries).spared)
    return held("after a close without a reply it came back on a new connection") if spared else NOT_EXERCISED


def _closed_silently(one: Try) -> bool:
    by = one.by
    return refused_for_now(one) and isinstance(by, Exchange) and by.reply is None and by.end is not None


@rule(
    "smtp.patience",
    title="The client waits long enough for a reply: 10 minutes for the reply to the final dot.",
    level="should",
    source="RFC 5321 §4.5.3.2",
    why="A server that is slow to answer the final dot has often stored the message. A client that leaves and tries again makes a duplicate.",
    occasion="a rule keeps the client waiting for a second or more",
    proof=(
        "the client leaves, or gives a command that it may not pipeline, while a reply is due: before 5 minutes "
        "(greeting, MAIL, RCPT), 2 (DATA) or 10 (final dot)"
    ),
    innocent="a client that still waits; commands that RFC 2920 lets it pipeline, unless they came after a wait and take the mail back",
    example="C: .\nS: (silent for 30 s)\nC: leaves",
)
def patient(run: Run) -> Finding:
    longest, where = 0.0, None
    unclear: Finding | None = None
    for session in run.once(mail).sessions if run.once(occasions).slow else ():
        for i, x in enumerate(session.exchanges):
            if x.fault is None or x.moment not in PATIENCE:
                continue
            if x.answered_at == x.at:
                continue  # it had nothing to wait for
            limit = PATIENCE[x.moment]
            wait = _waited(session, i)
            if wait.spoke and wait.seconds < limit:
                finding = f"it said {wait.words[:30]!r} after {show(wait.seconds)}; {_limit(x)}"
                if not wait.grouped:
                    return broken(finding, x, wait.proof)
                unclear = unclear or inconclusive(finding, "an EHLO reply without PIPELINING", x, wait.proof)
            elif wait.left and wait.seconds < limit:
                return broken(f"it left after {show(wait.seconds)}; {_limit(x)}", x, session.connection)
            elif wait.seconds >= max(longest, AT_ONCE):
                longest, where = wait.seconds, x
    if where is None:
        return unclear or NOT_EXERCISED
    return unclear or held(f"it waited {show(longest)} for the reply to {_NAMES[where.moment]}", where)


def _limit(x: Exchange) -> str:
    return f"{show(PATIENCE[x.moment])} is what the reply to {_NAMES[x.moment]} may take"


class _Wait(NamedTuple):
    """How long a client waited for a reply, and how that ended. A client that still waits has neither left nor spoken."""

    seconds: float
    proof: Evidence
    left: bool = False
    words: str = ""
    grouped: bool = False  # it may have left together with what was said before

    @property
    def spoke(self) -> bool:
        return bool(self.words)


def _waited(session: Session, i: int) -> _Wait:
    x, connection = session.exchanges[i], session.connection
    later = session.exchanges[i + 1] if i + 1 < len(session.exchanges) else None
    if later is not None and later.request and _early(later, x) and later.arrived_at - x.at >= A_WHILE:
        takes_back = later.moment not in ("mail", "rcpt")
        return _Wait(
            later.arrived_at - x.at, later, words=later.request, grouped=not takes_back and _offered(session, i)
        )
    said = connection.unread_arrival
    if (
        later is None
        and said is not None
        and said.at - x.at >= A_WHILE
        and (x.answered_at is None or said.at < x.answered_at)
    ):
        words = connection.unread.partition("\r\n")[0]
        return _Wait(
            said.at - x.at,
            connection,
            words=words,
            grouped=words[:4].upper() in ("MAIL", "RCPT") and _offered(session, i),
        )
    left = departure(connection)
    if left_unanswered(x) and left is not None:
        return _Wait(left[1] - x.at, connection, left=True)
    return _Wait(x.answered_at - x.at if x.answered_at is not None else 0.0, x)


def _early(later: Exchange, x: Exchange) -> bool:
    """True if a command arrived while the reply to this one was due, or in one piece with it."""
    if later.arrival is None:
        return False
    return x.answered_at is None or later.arrived_at < x.answered_at or later.arrived_index == x.arrived_index


def _offered(session: Session, i: int) -> bool:
    """True if the server had offered PIPELINING by then."""
    hello = next((x for x in reversed(session.exchanges[:i]) if x.moment == "ehlo"), None)
    return hello is not None and "PIPELINING" in (hello.reply or "").upper()


@rule(
    "smtp.in-step",
    title="The client gives no command while a reply is due, unless the server has offered PIPELINING.",
    level="must",
    source="RFC 5321 §4.3.1, RFC 2920 §3.1",
    why="A client that speaks out of turn takes each reply for that of its next command, and loses mail without an error.",
    occasion="a rule keeps the client waiting for the reply to a command",
    proof="a command that arrives while a reply is due, and that may not stand in the same group",
    innocent="a group of commands, where PIPELINING was offered (the end of a message may begin a group); QUIT by a client that gives up",
    example="C: .\nS: (silent for 3 s)\nC: NOOP   (1 s)",
)
def in_step(run: Run) -> Finding:
    seen = run.once(occasions)
    if not seen.slow and not seen.early:
        return NOT_EXERCISED
    waited = 0
    for session in run.once(mail).sessions:
        offered = False
        for x, later in _pairs(session):
            if x.moment == "ehlo":
                offered = "PIPELINING" in (x.reply or "").upper()
            if later is None or x.moment == "tls" or not x.request or later.moment == "quit":
                continue
            if x.request[:2] == _HELLO:
                break
            if not _early(later, x):
                waited += x.fault is not None and x.answered_at is not None and x.answered_at - x.at >= A_WHILE
            elif not (offered and (x.moment in _BEGINS_GROUP or x.request[:5].upper() == "BDAT ")):
                why = f"{later.request[:30]!r} came while the reply to {x.request[:30]!r} was due"
                return broken(why, x, later)
    return held("it waited for each reply") if waited else NOT_EXERCISED


def _pairs(session: Session) -> Iterator[tuple[Exchange, Exchange | None]]:
    exchanges = session.exchanges
    for i, x in enumerate(exchanges):
        later = exchanges[i + 1] if i + 1 < len(exchanges) else None
        yield x, later if later is not None and later.request else None
