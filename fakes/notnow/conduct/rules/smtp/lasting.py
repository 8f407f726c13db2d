"""Rules about an outage that lasts: how long the client tries, at what pace, and whether it gives up too soon."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf

from msgspec import Struct

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, inconclusive, not_exercised
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import SETTLED_BY, Mail, mail
from notnow.conduct.reading.smtp.endings import refused_for_now
from notnow.conduct.reading.smtp.retries import first_refused, retries
from notnow.conduct.reading.smtp.transactions import Session
from notnow.conduct.reading.smtp.unnamed import AT_ONCE
from notnow.conduct.reading.waits import backoff
from notnow.conduct.reading.waits.families import ENOUGH
from notnow.conduct.rules.rule import rule
from notnow.conduct.rules.smtp.retrying import HALF_HOUR, gaps_of, listing
from notnow.journal import Connection, Exchange, Journal
from notnow.units import DAY, HOUR, MINUTE, show

LONG_ENOUGH = 4 * DAY  # RFC 5321 §4.5.4.1: the give-up time generally needs to be 4-5 days
FOR_EVER = 30 * DAY
DROPPED = 6 * HOUR  # twice the longest interval that RFC 5321 §4.5.4.1 mentions
HERD = 4  # connections that come back together are a herd
TOGETHER = 0.1  # seconds


@rule(
    "smtp.no-bounce-for-421",
    title="The client does not treat a 421 as a permanent failure.",
    level="must",
    source="RFC 5321 §4.2, §4.3.2 (the first digit decides)",
    why="The sender is told that the mail cannot be delivered, although a try a minute later would have delivered it.",
    occasion="mail is refused with 421",
    proof="a bounce goes to the sender after one 421, and the mail is never tried again",
    innocent=(
        "the bounce may be for other mail of this sender; a client that delivers other mail hours later may still retry "
        "this mail; a client that is not seen again may still have it in its queue"
    ),
    example="C: MAIL FROM:<a@client.test>\nS: 421 4.3.0 Try again later\nC: MAIL FROM:<>, RCPT TO:<a@client.test>",
    may_report=True,
)
def no_bounce(run: Run) -> Finding:
    known = run.once(mail)
    told = [one for one in known.put_off if isinstance(one.by, Exchange) and 421 in one.by.codes]
    if not told:
        return NOT_EXERCISED
    lost = [one for one in told if one.item is not None and one.later is None and one.earlier is None]
    bounced = _bounced(known, lost)
    if bounced is not None:
        return bounced
    again = any(one.later is not None for one in told)
    if known.complete:
        return held("mail that was refused with 421 came through in the end")
    if not lost and all(one.item is not None for one in told):
        return held("mail that was refused with 421 was tried again") if again else NOT_EXERCISED
    if again or any(one.item is None for one in told):
        why = "mail that was refused with 421 may never have come again: the journal cannot tell whether the client treated it as failed"
        return inconclusive(why, SETTLED_BY, (lost or [one for one in told if one.item is None])[0].by)
    return not_exercised("the client was not seen again: the journal cannot tell whether it still has the mail")


def _bounced(known: Mail, lost: Sequence[Try]) -> Finding | None:
    """A bounce to the sender of mail that was told 421 once, or other mail that was delivered long afterwards."""
    bounces = {r.address: t for t in known.transactions if t.sender == "" for r in t.recipients}
    delivered = {t.session.client: t for t in known.transactions if t.ending == "accepted"}
    if not lost or not (bounces or delivered):
        return None
    sender_of = {one: t.sender or "" for t in known.transactions for one in t.tries}
    failed = _failed_of(known) if bounces else {}
    unclear: Finding | None = None
    for one in lost:
        sender = sender_of[one]
        bounce, other = bounces.get(sender), delivered.get(one.connection.client)
        if bounce is not None and bounce.first.index > one.ended_index:
            if failed[sender] == {one.item}:
                return broken(f"{sender} was sent a bounce after one 421", one.by, bounce.first)
            why = f"{sender} was sent a bounce, for the mail that was refused once with 421 or for other mail"
            unclear = inconclusive(why, "the text of the bounce", one.by, bounce.first)
        elif other is not None and other.first.at - one.ended_at >= DROPPED and unclear is None:
            why = "hours later it went on with other mail, and this one has not come again so far"
            unclear = inconclusive(why, "a longer run", one.by, other.answered or other.first)
    return unclear


def _failed_of(known: Mail) -> dict[str, set[Item | None]]:
    """By sender, the items of which a try has failed; None stands for those without a name."""
    found: dict[str, set[Item | None]] = {}
    for t in known.transactions:
        for one in t.tries:
            if one.ending != "accepted":
                found.setdefault(t.sender or "", set()).add(one.item)
    return found


@rule(
    "smtp.give-up-time",
    title="The client keeps trying for days, and gives up in the end.",
    level="should",
    source="RFC 5321 §4.5.4.1 (4-5 days)",
    why="Outages can last a weekend. If the client never gives up, the sender never learns that the mail was not delivered.",
    occasion="the run goes on for a day or more after mail was refused for now",
    proof="the last try comes within a day of the first refusal, or more than a month after it",
    innocent="a client that waits up to twice as long as before; a connection that names no mail may have been the next try",
    example="S: 421 4.3.2 Service not available   (0 s)\nC: tries last                          (2 h)",
    may_report=True,
)
def stops(run: Run) -> Finding:
    if not run.exchanges or all(journal.clock.now() - run.exchanges[0].at < DAY for journal in run.journals):
        return NOT_EXERCISED
    known = run.once(mail)
    now = {journal: journal.clock.now() for journal in run.journals}
    shortest: tuple[float, Try] | None = None
    longest = 0.0
    for item in known.ledger.items:
        first, last = first_refused(item), item.tries[-1]
        if first is None:
            continue
        span = last.started_at - first.ended_at
        longest = max(longest, span)
        if span > FOR_EVER:
            return broken(f"it still tries after {show(span)}", first.by, last.began)
        silent = now[last.connection.journal] - last.ended_at
        gave_up = last.failed and silent > DAY and silent > 2 * max(one.delay for one in item.tries)
        if gave_up and known.last_unnamed.get(item, 0) <= last.started_index and (not shortest or span < shortest[0]):
            shortest = span, last
    if shortest is None:
        return held(f"it tried for {show(longest)}") if longest >= DAY else NOT_EXERCISED
    span, last = shortest
    if span < DAY:
        return broken(f"it gave up after {show(max(span, 0.0))}; §4.5.4.1 has 4-5 days", last.by)
    grade = "" if span >= LONG_ENOUGH - HALF_HOUR * 8 else ": shorter than the 4-5 days of §4.5.4.1"
    return held(f"it gave up after {show(span)}{grade}")


@rule(
    "smtp.intervals-grow",
    title="The intervals between tries grow, up to a limit.",
    level="advice",
    source="Google SRE book, ch. 22; AWS Architecture Blog, Exponential Backoff And Jitter",
    why="The longer an outage lasts, the more clients wait for its end. Retries at a constant pace prolong it.",
    occasion="four or more tries of one message at one server",
    proof="a constant pace below 5 minutes, or intervals that shrink",
    innocent="tries at several servers; tries that may be of other mail: they came at once, or the server refused all of them before MAIL",
    example="S: 451 Too busy   (0 s)\nC: tries again    (5 s, 10 s, 15 s, 20 s)",
)
def grows(run: Run) -> Finding:
    known = run.once(retries)
    first: list[float] = []
    for chain in known.chains:
        if why := _why_constant(gaps_of(chain)):
            return broken(why, *(one.began for one in chain[1:]))
        first = first or _enough(gaps_of(chain))
    for chain in known.doubtful:
        if why := _why_constant(gaps_of(chain)):
            return inconclusive(f"{why}, for one message or for several", SETTLED_BY, *(one.began for one in chain[1:]))
        first = first or _enough(gaps_of(chain))
    return held(f"the gaps were {listing(first)}: {backoff.shape(first)}") if first else NOT_EXERCISED


def _enough(gaps: list[float]) -> list[float]:
    return gaps if len(gaps) >= ENOUGH else []


def _why_constant(gaps: list[float]) -> str:
    """Why these gaps do not grow; empty if they may."""
    if len(gaps) < ENOUGH:
        return ""
    half = len(gaps) // 2
    early, late = sum(gaps[:half]) / half, sum(gaps[-half:]) / half
    if max(gaps) < 5 * MINUTE and backoff.steady(gaps):
        return f"the gaps were {listing(gaps)}: {backoff.shape(gaps)}"
    if late < early / 2 and not backoff.may_grow(gaps):
        return f"the gaps were {listing(gaps)}: they shrink"
    return ""


@rule(
    "smtp.jitter",
    title="Connections that were refused together do not come back together.",
    level="advice",
    source="AWS Architecture Blog, Exponential Backoff And Jitter",
    why="Clients that come back at the same instant are refused together again.",
    occasion=f"{HERD} or more items that were refused for now are tried again on connections of their own",
    proof=f"{HERD} connections, side by side, that come back within {TOGETHER * 1000:.0f} ms after a wait",
    innocent="one connection after the other; connections that name no mail, which may be the first of other mail",
    example="S: 421 Too busy, to 20 connections          (0 s)\nC: 20 connections                          (60 s)",
)
def spreads(run: Run) -> Finding:
    several = together = False
    unclear: Finding | None = None
    known = run.once(mail)
    for retried in _comebacks(known).values() if known.put_off else ():
        several = several or sum(one.first for one in retried) >= HERD
        retried.sort(key=lambda one: one.at)
        for i, (first, last) in enumerate(zip(retried, retried[HERD - 1 :], strict=False)):
            if last.at - first.at > TOGETHER:
                continue
            window, together = retried[i : i + HERD], True
            if not _side_by_side(window):
                continue
            why = f"{HERD} connections came back within {show(last.at - first.at)}"
            proof = [a.connection for a in window]
            if all(a.certain for a in window):
                return broken(why, *proof)
            unclear = unclear or inconclusive(f"{why}, for the same mail or for other mail", SETTLED_BY, *proof)
            if not any(one.certain for one in retried):
                break
    if unclear is not None or not several:
        return unclear or NOT_EXERCISED
    return held("they came back one after the other" if together else "no group of connections came back together")


class _Comeback(Struct, eq=False, gc=False):
    """A connection that was opened, or may have been, to try again what had been refused at least a second before.

    `at`: when it was opened. `first`: it was the first retry of its mail.
    """

    at: float
    session: Session
    certain: bool
    first: bool

    @property
    def connection(self) -> Connection:
        return self.session.connection


def _comebacks(known: Mail) -> dict[Journal, list[_Comeback]]:
    found: dict[Journal, list[_Comeback]] = {}
    refused_at: dict[tuple[Journal, str], float] = {}  # when each client was first refused
    for session in known.sessions:
        if not session.transactions:
            continue
        tries, connection = session.transactions[0].tries, session.connection
        client = connection.journal, session.client
        since = refused_at.get(client, inf)
        certain = unclear = first = False
        for one in tries:
            if one.earlier is None:
                unclear = unclear or (one.item is None and one.started_at - since >= AT_ONCE)
            elif _came_back(one, one.earlier):
                certain, first = True, first or one.earlier.earlier is None
        if certain or unclear:
            back = _Comeback(connection.opened_at, session, certain, first or not certain)
            found.setdefault(connection.journal, []).append(back)
        if since == inf and (refused := next(filter(refused_for_now, tries), None)) is not None:
            refused_at[client] = refused.ended_at
    return found


def _came_back(one: Try, earlier: Try) -> bool:
    return refused_for_now(earlier) and one.knew_of(earlier) and one.delay >= AT_ONCE


def _side_by_side(window: Iterable[_Comeback]) -> bool:
    """True if the connections overlapped; a fast client that opens one after the other is no herd.

    If the connections were refused at once, this is unknown.
    """
    sessions = [one.session for one in window]
    if not all(one.certain for one in window):
        return True
    return any(a.exchanges[-1].index > b.connection.index for a, b in pairwise(sessions))
