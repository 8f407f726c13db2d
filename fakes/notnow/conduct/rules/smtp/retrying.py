"""Rules about retries: when, how often, and for how long."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading import backoff
from notnow.conduct.reading.mail import (
    AT_ONCE,
    Attempt,
    Mail,
    code_or_silence,
    read,
    was_of_use,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Journal
from notnow.units import DAY, HOUR, MINUTE, show

HALF_HOUR = 30 * MINUTE  # RFC 5321 §4.5.4.1: the least interval between two tries, in general
MOST_PER_HOUR = 12  # tries of one message: one every five minutes, as Postfix may begin
LONG_ENOUGH = 4 * DAY  # RFC 5321 §4.5.4.1: the give-up time generally needs to be 4-5 days
FOR_EVER = 30 * DAY
DROPPED = 6 * HOUR  # twice the longest interval that RFC 5321 §4.5.4.1 mentions
HERD = 4  # connections that come back together are a herd
TOGETHER = 0.1  # seconds


@rule(
    "smtp.wait-before-retry",
    title="The client waits before it tries the same server again.",
    level="must",
    source="RFC 5321 §4.5.4.1",
    why="A client that comes back at once keeps an overloaded server overloaded.",
    proof=(
        "the time from a refusal to the next try of the same mail at the same server. A try at another server does not count, nor does the first try of other mail, nor a new connection after one that had taken mail"
    ),
    example="S: 421 4.3.2 All server ports are busy   (0 s)\nC: connects again                          (3 ms)",
)
def waits(run: Run) -> Finding:
    waited = [a for a in run.once(read).retries if not was_of_use(a.earlier)]
    if not waited:
        return NOT_EXERCISED
    soonest = min(waited, key=lambda attempt: attempt.delay)
    refusal = soonest.earlier.failure if soonest.earlier is not None else None
    if soonest.delay < AT_ONCE and refusal is not None:
        return broken(f"it came back {show(soonest.delay)} after it was refused", refusal, soonest.began)
    return held(f"it waited at least {show(soonest.delay)}")


@rule(
    "smtp.retry-interval",
    title="The client waits half an hour between two tries of a message, or has a reason for another strategy.",
    level="should",
    source="RFC 5321 §4.5.4.1",
    why="Most temporary failures take longer than a minute to fix, and each try costs both sides.",
    proof=f"the intervals between tries; broken only by more than {MOST_PER_HOUR} tries of one message in an hour",
    example="S: 451 4.7.1 Greylisted   (0 s)\nC: tries again            (10 s, 20 s, 30 s, … for an hour)",
)
def interval(run: Run) -> Finding:
    graded: list[float] = []
    for chain in run.once(read).chains():
        for i in range(len(chain) - MOST_PER_HOUR):
            first, last = chain[i].began, chain[i + MOST_PER_HOUR].began
            if last.at - first.at < HOUR:
                why = f"it tried {MOST_PER_HOUR + 1} times within {show(last.at - first.at)}"
                return broken(why, *(a.began for a in chain[i : i + MOST_PER_HOUR + 1]))
        if len(chain) > 1 and (not graded or min(a.delay for a in chain[1:]) < min(graded)):
            graded = [attempt.delay for attempt in chain[1:]]
    if not graded:
        return NOT_EXERCISED
    listed = f"intervals {_list(graded)}"
    if min(graded) >= HALF_HOUR:
        return held(f"{listed}: at least the 30 minutes of §4.5.4.1")
    return held(f"{listed}: shorter than the 30 minutes of §4.5.4.1, which lets smarter strategies differ")


def _list(spans: Sequence[float]) -> str:
    shown = [show(span) for span in spans]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:4], "…", shown[-1]])


@rule(
    "smtp.tries-again",
    title="The client retries mail that was refused with a 4yz.",
    level="should",
    source="RFC 5321 §4.2.1",
    why="A 4yz asks the client to try again later. Mail that is not retried is lost.",
    proof="mail, or single recipients, refused with a 4yz and never tried again on any server",
    example="S: 421 4.3.2 Service not available\nC: is never seen again",
)
def tries_again(run: Run) -> Finding:
    mail = run.once(read)
    failed = 0
    for attempt in mail.attempts:
        if attempt.failure is not None and attempt.earlier is None:
            failed += 1
            if attempt.later is None and not mail.seen_again(attempt):
                return broken(f"it was told {code_or_silence(attempt.failure)} and did not try again", attempt.failure)
        for recipient, refusal in attempt.refused:
            failed += 1
            if attempt.sender is not None and mail.asked[attempt.sender, recipient] <= refusal.index:
                return broken(f"{recipient} was refused with {code_or_silence(refusal)} and not tried again", refusal)
    return held("whatever was refused for now was tried again") if failed else NOT_EXERCISED


@rule(
    "smtp.no-bounce-for-421",
    title="The client does not treat a 421 as a permanent failure.",
    level="must",
    source="RFC 5321 §4.2, §4.3.2 (the first digit decides)",
    why="The sender is told that the mail cannot be delivered, although a try a minute later would have delivered it.",
    proof=(
        "a bounce to the sender after one 421, or other mail delivered hours later while the mail that got the 421 is never tried again. A client that is not seen again at all may still hold the mail"
    ),
    example="C: MAIL FROM:<a@client.test>\nS: 421 4.3.0 Try again later\nC: MAIL FROM:<>, RCPT TO:<a@client.test>",
)
def no_bounce(run: Run) -> Finding:
    mail = run.once(read)
    told = [a for a in mail.failed if a.failure is not None and 421 in a.failure.codes]
    if not told:
        return NOT_EXERCISED
    bounces = {r: a for a in mail.attempts if a.sender == "" for r in a.recipients}
    came_back = False
    for attempt in told:
        assert attempt.failure is not None
        bounce = bounces.get(attempt.sender or "")
        if attempt.later is not None or mail.seen_again(attempt):
            came_back = True
        elif bounce is not None and bounce.first.index > attempt.failed_index and attempt.earlier is None:
            return broken(f"{attempt.sender} was sent a bounce after one 421", attempt.failure, bounce.first)
        elif attempt.sender is not None and (other := _went_on(mail, attempt)) is not None:
            return broken(
                "it went on with other mail and dropped this one", attempt.failure, other.answered or other.first
            )
    if came_back:
        return held("what was told 421 was tried again")
    return Finding("not exercised", "the client was not seen again: whether it still has the message cannot be told")


def _went_on(mail: Mail, attempt: Attempt) -> Attempt | None:
    """Mail of the same client that was delivered long after this one, which was tried once and never again."""
    last = mail.delivered.get(attempt.session.client) if attempt.earlier is None else None
    return last if last is not None and last.first.at - attempt.failed_at >= DROPPED else None


@rule(
    "smtp.give-up-time",
    title="The client keeps trying for days, and gives up in the end.",
    level="should",
    source="RFC 5321 §4.5.4.1 (4-5 days)",
    why="Outages can last a weekend. If the client never gives up, the sender never learns that the mail was not delivered.",
    proof=(
        "the time from the first refusal to the last try, in runs of a day or more; broken by giving up within a day, or by trying for more than a month"
    ),
    example="S: 421 4.3.2 Service not available   (0 s)\nC: tries last                          (2 h)",
)
def stops(run: Run) -> Finding:
    now = {journal: journal.clock.now() for journal in run.journals}
    shortest: tuple[float, Attempt] | None = None
    longest = 0.0
    for chain in run.once(read).chains():
        first, last = chain[0], chain[-1]
        span = last.began.at - first.failed_at
        longest = max(longest, span)
        assert first.failure is not None
        if span > FOR_EVER:
            return broken(f"it still tries after {show(span)}", first.failure, last.began)
        silent = now[last.session.connection.journal] - last.failed_at
        gave_up = last.failure is not None and silent > max(DAY, 2 * max((a.delay for a in chain[1:]), default=0.0))
        if gave_up and (shortest is None or span < shortest[0]):
            shortest = span, last
    if shortest is None:
        return held(f"it tried for {show(longest)}") if longest >= DAY else NOT_EXERCISED
    span, last = shortest
    if span < DAY:
        assert last.failure is not None
        return broken(f"it gave up after {show(span)}; §4.5.4.1 has 4-5 days", last.failure)
    grade = "" if span >= LONG_ENOUGH - HALF_HOUR * 8 else ": shorter than the 4-5 days of §4.5.4.1"
    return held(f"it gave up after {show(span)}{grade}")


@rule(
    "smtp.intervals-grow",
    title="The intervals between tries grow, up to a limit.",
    level="advice",
    source="Google SRE book, ch. 22; AWS Architecture Blog, Exponential Backoff And Jitter",
    why="The longer an outage lasts, the more clients wait for its end. Retries at a constant pace prolong it.",
    proof="four or more tries of one message; broken by a constant pace below 5 minutes, or by intervals that shrink",
    example="S: 421 Too busy   (0 s)\nC: tries again    (5 s, 10 s, 15 s, 20 s)",
)
def grows(run: Run) -> Finding:
    seen = []
    for chain in run.once(read).chains():
        gaps = [attempt.delay for attempt in chain[1:]]
        possible = backoff.possible(gaps)
        if not possible:
            continue
        shape, steady = possible[0], {"linear", "exponential"}.isdisjoint(possible)
        half = len(gaps) // 2
        early, late = sum(gaps[:half]) / half, sum(gaps[-half:]) / half
        tries = [attempt.began for attempt in chain[1:]]
        if steady and shape != "irregular" and max(gaps) < 5 * MINUTE:
            return broken(f"the gaps were {_list(gaps)}: {shape}", *tries)
        if late < early / 2:
            return broken(f"the gaps were {_list(gaps)}: they shrink", *tries)
        seen.append(f"{_list(gaps)}: {shape}")
    return held(f"the gaps were {seen[0]}") if seen else NOT_EXERCISED


@rule(
    "smtp.jitter",
    title="Connections that were refused together do not come back together.",
    level="advice",
    source="AWS Architecture Blog, Exponential Backoff And Jitter",
    why="Clients that come back at the same instant are refused together again.",
    proof=f"{HERD} connections, side by side, that come back within {TOGETHER * 1000:.0f} ms after a wait",
    example="S: 421 Too busy, to 20 connections          (0 s)\nC: 20 connections                          (60 s)",
)
def spreads(run: Run) -> Finding:
    waited: dict[Journal, list[Attempt]] = {}
    for attempt in run.once(read).retries:
        if attempt.delay >= AT_ONCE and attempt is attempt.session.attempts[0]:
            waited.setdefault(attempt.session.connection.journal, []).append(attempt)
    most = 0
    for retries in waited.values():
        window: deque[Attempt] = deque()
        for attempt in sorted(retries, key=lambda a: a.began.at):
            window.append(attempt)
            while attempt.began.at - window[0].began.at > TOGETHER or len(window) > HERD:
                window.popleft()
            most = max(most, len(window))
            if len(window) == HERD and _side_by_side(window):
                why = f"{HERD} connections came back within {show(attempt.began.at - window[0].began.at)}"
                return broken(why, *(a.session.connection for a in window))
    several = any(sum(_is_second(a) for a in retries) >= HERD for retries in waited.values())
    if not several:
        return NOT_EXERCISED
    return held("no herd came back together" if most < HERD else "they came back one after the other")


def _is_second(attempt: Attempt) -> bool:
    return attempt.earlier is not None and attempt.earlier.earlier is None


def _side_by_side(window: Iterable[Attempt]) -> bool:
    """True if the connections overlapped; a fast client that opens one after the other is no herd."""
    sessions = [attempt.session for attempt in window]
    if any(session.refused is not None for session in sessions):
        return True
    return any(a.exchanges[-1].index > b.connection.index for a, b in pairwise(sessions))
