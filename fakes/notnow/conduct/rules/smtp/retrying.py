"""Rules about mail that was refused: whether the client tries it again, and how soon."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, inconclusive
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import SETTLED_BY, Mail, mail
from notnow.conduct.reading.smtp.endings import UNASKED
from notnow.conduct.reading.smtp.retries import SURELY_THE_SAME, first_refused, in_words, retries
from notnow.conduct.reading.smtp.transactions import Session
from notnow.conduct.reading.smtp.unnamed import AT_ONCE
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import HOUR, MINUTE, plural, show, times

HALF_HOUR = 30 * MINUTE  # RFC 5321 §4.5.4.1: the least interval between two tries, in general
MOST_PER_HOUR = 12  # tries of one message: one every five minutes, as Postfix may begin


@rule(
    "smtp.wait-before-retry",
    title="The client waits before it tries the same server again.",
    level="must",
    source="RFC 5321 §4.5.4.1",
    why="A client that comes back at once keeps an overloaded server overloaded.",
    occasion="mail that was refused for now is tried again at the same server",
    proof="a retry of the same mail at the same server within a second of the refusal",
    innocent=(
        "a try at another server; the first try of other mail, or one that may be; a new connection after the server has "
        "closed one that had taken mail; mail begun on a connection that was already closed, because no server had refused it; the "
        "recipients that were too many for one transaction, in the next (RFC 5321 §4.5.3.1.10)"
    ),
    example="S: 421 4.3.2 All server ports are busy   (0 s)\nC: connects again                          (3 ms)",
)
def waits(run: Run) -> Finding:
    known = run.once(retries)
    soonest = min(known.found, key=lambda retry: retry.delay, default=None)
    if soonest is not None and soonest.delay < AT_ONCE:
        why = f"it came back {show(soonest.delay)} after it was refused"
        return broken(why, soonest.earlier.by, soonest.again.began)
    unclear = next((retry for retry in known.unclear if retry.delay < AT_ONCE), None)
    if unclear is not None:
        why = f"a try came {show(unclear.delay)} after a refusal, for the same mail or for other mail"
        return inconclusive(why, SETTLED_BY, unclear.earlier.by, unclear.again.began)
    return held(f"it waited at least {show(soonest.delay)}") if soonest is not None else NOT_EXERCISED


@rule(
    "smtp.retry-interval",
    title="The client waits half an hour between two tries of a message, or has a reason for another strategy.",
    level="should",
    source="RFC 5321 §4.5.4.1",
    why="Most temporary failures take longer than a minute to fix, and each try costs both sides.",
    occasion="mail that was refused for now is tried again at the same server",
    proof=f"more than {MOST_PER_HOUR} tries of one message at one server in an hour",
    innocent="a strategy of its own, which §4.5.4.1 allows: shorter intervals are graded; tries at other servers",
    example="S: 451 4.7.1 Greylisted   (0 s)\nC: tries again            (10 s, 20 s, 30 s, … for an hour)",
)
def interval(run: Run) -> Finding:
    known = run.once(retries)
    graded: list[float] = []
    for chain in (*known.chains, *known.doubtful):
        if often := _too_often(chain):
            why = f"it tried {len(often)} times within {show(often[-1].started_at - often[0].started_at)}"
            proof = [one.began for one in often]
            if chain in known.doubtful:
                return inconclusive(f"{why}, with one message or with several", SETTLED_BY, *proof)
            return broken(why, *proof)
        gaps = gaps_of(chain)
        if gaps and (not graded or min(gaps) < min(graded)):
            graded = gaps
    if not graded:
        return NOT_EXERCISED
    listed = f"intervals {listing(graded)}"
    if min(graded) >= HALF_HOUR:
        return held(f"{listed}: at least the 30 minutes of §4.5.4.1")
    return held(f"{listed}: shorter than the 30 minutes of §4.5.4.1, which lets smarter strategies differ")


def _too_often(chain: Sequence[Try]) -> Sequence[Try]:
    """The first tries of a chain that are more than an hour may have."""
    starts = (i for i in range(len(chain) - MOST_PER_HOUR))
    close = (i for i in starts if chain[i + MOST_PER_HOUR].started_at - chain[i].started_at < HOUR)
    first = next(close, None)
    return chain[first : first + MOST_PER_HOUR + 1] if first is not None else ()


def gaps_of(chain: Sequence[Try]) -> list[float]:
    """The seconds between the tries of a chain, each from the refusal on."""
    return [max(0.0, b.started_at - a.ended_at) for a, b in pairwise(chain)]


def listing(spans: Sequence[float]) -> str:
    shown = [show(span) for span in spans]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:4], "…", shown[-1]])


@rule(
    "smtp.tries-again",
    title="The client retries mail that was refused with a 4yz.",
    level="should",
    source="RFC 5321 §4.2.1",
    why="A 4yz asks the client to try again later. Mail that is not retried is lost.",
    occasion="mail, or a single recipient of it, is refused with a 4yz, or by a close in place of a reply",
    proof="the same mail is never tried again for this recipient, on any server",
    innocent="a connection that names no mail may have been the retry; other mail with the same envelope may be it",
    example="S: 421 4.3.2 Service not available\nC: is never seen again",
    may_report=True,
)
def tries_again(run: Run) -> Finding:
    known = run.once(mail)
    again, unclear = 0, [one for one in known.put_off if one.item is None]
    for item in known.ledger.items if known.put_off else ():
        refusal = first_refused(item)
        if refusal is None or item.kept_back:
            continue
        if refusal.later is not None:
            again += 1
        elif item.in_doubt or _maybe_tried_later(known, item, refusal):
            unclear.append(refusal)
        else:
            return broken(f"{item.name} got {in_words(refusal.by)} and was not tried again", refusal.by)
    if unclear and (not again or known.ledger.doubts) and not known.complete:
        why = f"{plural(len(unclear), 'try', 'tries')} refused for now may have been of mail that never came again"
        return inconclusive(why, SETTLED_BY, *(one.by for one in unclear[:3]))
    refused = again or unclear
    return held("all mail that was refused for now was tried again") if refused else NOT_EXERCISED


def _maybe_tried_later(known: Mail, item: Item, refusal: Try) -> bool:
    """True if a later try without a name may have been of this item."""
    return known.last_unnamed.get(item, 0) > refusal.ended_index


@rule(
    "smtp.final-is-final",
    title="The client does not repeat a request that was refused with a 5yz.",
    level="should",
    source="RFC 5321 §4.2.1",
    why="The server will give the same answer, and providers block clients that keep on asking for unknown users.",
    occasion="a recipient, or a message, is refused with a 5yz",
    proof=(
        f"the same message is offered to the same recipient again; where no content was sent, {SURELY_THE_SAME} or more "
        "requests with the same envelope are all refused with a 5yz"
    ),
    innocent="another server; a request that crossed the refusal; other mail with the same envelope; a refused sender or connection",
    example="S: 550 5.1.1 User unknown\nC: asks for the same user, eight times in 20 ms",
)
def final_is_final(run: Run) -> Finding:
    known = run.once(mail)
    if "refused" not in known.endings:
        return NOT_EXERCISED
    final: dict[Item, tuple[Try, bool]] = {}  # with whether the server has seen the content
    repeats: dict[Item, list[Try]] = {}
    for transaction in known.transactions:
        for one in transaction.tries:
            if one.item in final:
                if _repeats(one, final[one.item][0]):
                    repeats.setdefault(one.item, []).append(one)
            elif one.item is not None and _is_final(one):
                final[one.item] = one, transaction.message is not None
    for item, again in repeats.items():
        first, seen = final[item]
        if seen or sum(one.ending == "refused" for one in again) + 1 >= SURELY_THE_SAME:
            why = f"{item.name} got {in_words(first.by)} and was asked for again, {times(len(again))}"
            return broken(why, first.by, *(one.by for one in again[:5]))
    for item, again in repeats.items():
        why = f"{item.name} got {in_words(final[item][0].by)}, and was asked for again for the same mail or for other mail"
        return inconclusive(why, SETTLED_BY, final[item][0].by, again[0].by)
    return held(f"{plural(len(final), 'refusal')} for good, and none asked for again") if final else NOT_EXERCISED


def _is_final(one: Try) -> bool:
    """True if a 5yz refused this very mail, and not its sender or the connection."""
    by = one.by
    return one.ending == "refused" and isinstance(by, Exchange) and by.moment in ("rcpt", "data", "message", "body")


def _repeats(one: Try, final: Try) -> bool:
    return one.knew_of(final) and one.connection.journal is final.connection.journal


@rule(
    "smtp.reuse-after-idle",
    title="If the server has closed an idle connection, the client sends the mail that it began there again on a new one.",
    level="should",
    source="RFC 5321 §3.8, §4.2.1",
    why="A client that keeps connections open will sooner or later use one that has timed out. The server reads nothing that is sent there.",
    occasion="the client says MAIL on a connection after the server has closed it, between two messages",
    proof="the client began mail there and never tries it again",
    innocent="later mail with the same envelope counts as the same mail",
    example="S: 421 4.4.2 timeout exceeded\nC: MAIL FROM:<a@client.test>\nC: (never sends it again)",
    may_report=True,
)
def reuse_after_idle(run: Run) -> Finding:
    known = run.once(mail)
    again = 0
    for transaction in known.transactions if run.once(occasions).spoken_after else ():
        if not transaction.said_after or not _closed_between(transaction.session):
            continue
        for one in transaction.tries:
            if one.item is None or one.item.in_doubt:
                continue
            if one.later is None:
                why = f"{one.item.name} was begun on a connection that the server had closed, and never came again"
                return broken(why, transaction.session.exchanges[-1], transaction.connection)
            again += 1
    return held(f"mail begun on a closed connection came again, {times(again)}") if again else NOT_EXERCISED


def _closed_between(session: Session) -> bool:
    """True if the server closed the connection unasked, or after it had answered the command."""
    last = session.exchanges[-1]
    return (
        last.moment in UNASKED or 421 in last.codes[1:] or (session.connection.ended_by == "fake" and last.end is None)
    )
