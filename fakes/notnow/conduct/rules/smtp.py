"""Rules of conduct for SMTP clients.

Not judged: that a 5yz to MAIL is not remembered against other messages (RFC 5321 §4.5.4.1). A client that does remember
it stays away, and a server cannot see what waits at a client that stays away.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

from notnow.conduct.finding import NOT_EXERCISED, Evidence, Finding, broken, held
from notnow.conduct.reading import backoff
from notnow.conduct.reading.mail import AT_ONCE, UNASKED, Attempt, Mail, Session, departure, gone, put_off, read
from notnow.conduct.rules.rule import Rule, Run, plural
from notnow.journal import Exchange, Journal
from notnow.language.moments import MOMENTS
from notnow.units import show, times

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
HALF_HOUR = 30 * MINUTE  # RFC 5321 §4.5.4.1: at least so long between two tries, in general
MOST_PER_HOUR = 12  # tries of one message: one in five minutes, as Postfix may begin
MOST_PER_MINUTE = 5  # connections to a host that is known to be busy: as many as Postfix opens before it knows
LONG_ENOUGH = 4 * DAY  # RFC 5321 §4.5.4.1: the give-up time generally needs to be 4-5 days
FOR_EVER = 30 * DAY
DROPPED = 6 * HOUR  # twice the longest interval that RFC 5321 §4.5.4.1 speaks of
HERD = 4  # connections that come back together
LOOKED_AT = 50  # exchanges after a refusal: on one connection there may be any number of both
TOGETHER = 0.1  # seconds within which they do
HUNG = 10 * MINUTE  # the longest that RFC 5321 §4.5.3.2 has anybody wait
PATIENCE = {
    "connect": 5 * MINUTE,
    "mail": 5 * MINUTE,
    "rcpt": 5 * MINUTE,
    "data": 2 * MINUTE,
    "message": 10 * MINUTE,
}  # fmt: skip  (RFC 5321 §4.5.3.2)

_CAP = re.compile(r"too many|concurren|simultaneous|all server ports|connection (?:limit|count|rate)", re.IGNORECASE)
_ENHANCED = re.compile(r"^[245][0-9][0-9][ -]([0-9]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")
_VERBS = frozenset(name for name, moment in MOMENTS["smtp"].items() if "any" in moment.within) | {"helo"}
_USUAL = frozenset({421, 450, 451, 452, 454, 455})


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _said(exchange: Exchange) -> str:
    """What a client was told, in a word."""
    return "no reply" if exchange.code is None else str(exchange.code)


# ---- on the connection -------------------------------------------------------------------------------


def _later(session: Session, refusal: Exchange) -> Iterator[tuple[str, str, Evidence]]:
    """What the client still said on a connection (moment, words, proof), but for what it cannot have known better.

    What crosses on the wire with a word that nobody asked for is no answer to it, nor is the rest of a group of
    commands that was sent in one go (RFC 2920).
    """
    after = session.connection.after
    if refusal is session.exchanges[-1] and not after:
        return
    unasked = refusal.moment in UNASKED or (refusal.code or 0) < 400
    grouped = refusal.moment in ("mail", "rcpt")
    start = bisect_right(session.exchanges, refusal.index, key=lambda x: x.index)
    for x in session.exchanges[start : start + LOOKED_AT]:
        if not x.request:
            continue
        if unasked:
            unasked = False
        elif not (grouped and x.moment in ("rcpt", "data")):
            yield x.moment, x.request, x
        grouped = grouped and x.moment == "rcpt"
    if after and not unasked and refusal.moment != "body" and refusal is session.exchanges[-1]:
        for line in after.splitlines():
            word = line.partition(" ")[0].upper()
            if not (grouped and word in ("RCPT", "DATA")):
                yield word.lower(), line, session.connection
            grouped = grouped and word == "RCPT"


def _nothing_but_quit(run: Run) -> Finding:
    told = 0
    for session in run.once(read).sessions:
        told += len(session.told)
        for refusal in session.told[:1]:
            for moment, words, proof in _later(session, refusal):
                if moment != "quit":
                    return broken(f"{words[:60]!r} was said after a 421", refusal, proof)
    return held(f"told 421 {times(told)}, and nothing after it but QUIT") if told else NOT_EXERCISED


def _survives(run: Run) -> Finding:
    where: dict[str, None] = {}
    for session in run.once(read).sessions:
        for told in session.told:
            where[told.moment] = None
            if told.moment == "data" and told.code == 421 and (proof := _content_after(session, told)):
                return broken("the message was sent after DATA had been answered 421", told, proof)
            if (waited := _hung(session, told)) >= HUNG:
                return broken(f"it was told 421 and did nothing for {show(waited)}", told, session.connection)
    return held(f"421 at {', '.join(where)}") if where else NOT_EXERCISED


def _content_after(session: Session, told: Exchange) -> Evidence | None:
    """The lines of a message that were taken for commands, or came when nobody listened any more.

    A chunk is no such thing: it leaves together with its BDAT (RFC 3030 §2).
    """
    if _is_chunk(told.request):
        return None
    for verb, words, proof in _later(session, told):
        if _is_chunk(words):
            return None
        return proof if words and verb not in _VERBS else None
    return None


def _is_chunk(request: str) -> bool:
    return request[:5].upper() == "BDAT "


def _hung(session: Session, told: Exchange) -> float:
    """Seconds for which a client has kept a connection on which it was told 421, and said nothing."""
    connection, last = session.connection, session.exchanges[-1]
    if told.closed or last is not told or connection.left_index is not None:
        return 0.0
    end = connection.closed_at if connection.closed_at is not None else connection.journal.clock.now()
    return end - (told.answered_at if told.answered_at is not None else told.at)


def _patient(run: Run) -> Finding:
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
    """How long a client has waited for a reply, and whether it then left without one. Who still waits may yet leave."""
    left = departure(x)
    if gone(x) and left is not None:
        return left[1] - x.at, True
    return (x.answered_at - x.at if x.answered_at is not None else 0.0), False


_NAMES = {"connect": "the connection", "mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "message": "the final dot"}


def _acts_on_the_code(run: Run) -> Finding:
    mail = run.once(read)
    odd = 0
    for session in mail.sessions:
        for x in session.exchanges:
            if not _is_odd(x):
                continue
            odd += 1
            if x.moment in ("mail", "rcpt", "data") and (proof := _content_after(session, x)) is not None:
                return broken(f"the message was sent as if {_form(x)} had been a yes", x, proof)
    if not odd:
        return NOT_EXERCISED
    return _same_conduct(mail, lambda x: _form(x) if _is_odd(x) else "") or held(
        f"{odd} {'reply' if odd == 1 else 'replies'} of an odd form, acted on as others are"
    )


def _is_odd(x: Exchange) -> bool:
    """A 4yz of a form that RFC 5321 §4.2 allows, and that somebody may not have thought of."""
    if x.reply is None or x.code is None or not put_off(x):
        return False
    return x.code not in _USUAL or len(x.reply) == 3 or "\n" in x.reply or not x.reply.isascii()


def _form(x: Exchange) -> str:
    reply = x.reply or ""
    if "\n" in reply:
        return f"a {x.code} of several lines"
    if len(reply) == 3:
        return f"a bare {x.code}"
    return f"a {x.code}" if x.code not in _USUAL else f"a {x.code} in another script"


def _enhanced(x: Exchange) -> str:
    found = _ENHANCED.match(x.reply or "")
    return found[1] if found else ""


def _class_first(run: Run) -> Finding:
    mail = run.once(read)
    seen = dict.fromkeys(_enhanced(a.failure) for a in mail.failed if a.failure is not None and a.failure.code)
    if not any(seen):
        return NOT_EXERCISED
    return _same_conduct(mail, _enhanced) or held(f"told {', '.join(code or 'no enhanced code' for code in seen)}")


def _same_conduct(mail: Mail, kind: Callable[[Exchange], str]) -> Finding | None:
    """Broken if what was refused in one way is tried again, and what was refused in another never.

    The client has had as long for the one as it took for the other.
    """
    again: set[str] = set()
    soonest: Attempt | None = None
    dropped: dict[str, Attempt] = {}
    for attempt in mail.failed:
        assert attempt.failure is not None
        if attempt.failure.code is None:
            continue
        if attempt.later is not None:
            again.add(kind(attempt.failure))
            if soonest is None or soonest.later is None or attempt.later.delay < soonest.later.delay:
                soonest = attempt
        elif attempt.earlier is None and not _elsewhere(mail, attempt):
            dropped.setdefault(kind(attempt.failure), attempt)
    for name, attempt in dropped.items():
        since = mail.came[attempt.session.client].began.at - attempt.failed_at
        if name in again or soonest is None or soonest.later is None or soonest.later.delay > since:
            continue
        refusals = [a.failure for a in (attempt, soonest) if a.failure is not None]
        one, other = (kind(x) or "a plain reply" for x in refusals)
        return broken(f"after {one} it never tried again, after {other} it did", *refusals)
    return None


def _elsewhere(mail: Mail, attempt: Attempt) -> bool:
    """True if something for the same sender and recipients, or for who knows whom, was tried later on any server."""
    if attempt.sender is None:
        return mail.came[attempt.session.client].first.index > attempt.failed_index
    if attempt.recipients:
        return any(mail.asked[attempt.sender, r] > attempt.failed_index for r in attempt.recipients)
    return mail.senders.get(attempt.sender, 0) > attempt.failed_index


# ---- trying again ------------------------------------------------------------------------------------


def _waits(run: Run) -> Finding:
    waited = [a for a in run.once(read).retries if not _was_of_use(a.earlier)]
    if not waited:
        return NOT_EXERCISED
    soonest = min(waited, key=lambda attempt: attempt.delay)
    refusal = soonest.earlier.failure if soonest.earlier is not None else None
    if soonest.delay < AT_ONCE and refusal is not None:
        return broken(f"it came back {show(soonest.delay)} after it was refused", refusal, soonest.began)
    return held(f"it waited at least {show(soonest.delay)}")


def _was_of_use(attempt: Attempt | None) -> bool:
    """True if the connection had taken mail before: a server that then ends it asks for another one, not for time."""
    return attempt is not None and attempt.session.of_use_from is not None


def _interval(run: Run) -> Finding:
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


def _tries_again(run: Run) -> Finding:
    mail = run.once(read)
    failed = 0
    for attempt in mail.attempts:
        if attempt.failure is not None and attempt.earlier is None:
            failed += 1
            if attempt.later is None and not _elsewhere(mail, attempt):
                return broken(f"it was told {_said(attempt.failure)} and did not try again", attempt.failure)
        for recipient, refusal in attempt.refused:
            failed += 1
            if attempt.sender is not None and mail.asked[attempt.sender, recipient] <= refusal.index:
                return broken(f"{recipient} was refused with {_said(refusal)} and not tried again", refusal)
    return held("whatever was refused for now was tried again") if failed else NOT_EXERCISED


def _no_bounce(run: Run) -> Finding:
    mail = run.once(read)
    told = [a for a in mail.failed if a.failure is not None and 421 in a.failure.codes]
    if not told:
        return NOT_EXERCISED
    bounces = {r: a for a in mail.attempts if a.sender == "" for r in a.recipients}
    came_back = False
    for attempt in told:
        assert attempt.failure is not None
        bounce = bounces.get(attempt.sender or "")
        if attempt.later is not None or _elsewhere(mail, attempt):
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
    """Other mail of the same client that came through long after this, which was tried once and never again."""
    last = mail.delivered.get(attempt.session.client) if attempt.earlier is None else None
    return last if last is not None and last.first.at - attempt.failed_at >= DROPPED else None


def _stops(run: Run) -> Finding:
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


def _grows(run: Run) -> Finding:
    seen = []
    for chain in run.once(read).chains():
        gaps = [attempt.delay for attempt in chain[1:]]
        shape = backoff.shape(gaps)
        if shape is None:
            continue
        half = len(gaps) // 2
        early, late = sum(gaps[:half]) / half, sum(gaps[-half:]) / half
        tries = [attempt.began for attempt in chain[1:]]
        if shape == "immediate" or (shape == "constant" and max(gaps) < 5 * MINUTE):
            return broken(f"the gaps were {_list(gaps)}: {shape}", *tries)
        if late < early / 2:
            return broken(f"the gaps were {_list(gaps)}: they shrink", *tries)
        seen.append(f"{_list(gaps)}: {shape}")
    return held(f"the gaps were {seen[0]}") if seen else NOT_EXERCISED


def _spreads(run: Run) -> Finding:
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
    """False for a client that comes with one after the other, however fast it is."""
    sessions = [attempt.session for attempt in window]
    if any(session.refused is not None for session in sessions):
        return True
    return any(a.exchanges[-1].index > b.connection.index for a, b in pairwise(sessions))


def _silent_close(run: Run) -> Finding:
    mail = run.once(read)
    waited = []
    for attempt in mail.failed:
        x = attempt.failure
        if x is None or x.reply is not None or not x.closed or x.moment == "tls":
            continue
        if attempt.later is None:
            if attempt.earlier is None and not _elsewhere(mail, attempt):
                return broken("the server hung up without a reply, and it did not try again", x)
            continue
        if attempt.later.delay < AT_ONCE and not _was_of_use(attempt):
            why = f"the server hung up without a reply, and it came back {show(attempt.later.delay)} later"
            return broken(why, x, attempt.later.began)
        waited.append(attempt.later.delay)
    return held(f"after a close without a reply it waited {show(min(waited))}") if waited else NOT_EXERCISED


# ---- several servers, several connections ------------------------------------------------------------


def _next_host(run: Run) -> Finding:
    if len(run.journals) < 2:
        return NOT_EXERCISED
    first = run.journals[0]
    refused: dict[str, Session] = {}
    took: dict[str, float] = {}
    for session in run.once(read).sessions:
        client, connection = session.client, session.connection
        if connection.journal is first:
            if session.refused is not None:
                refused.setdefault(client, session)
        elif client in refused and client not in took:
            took[client] = max(0.0, connection.opened_at - refused[client].attempts[0].failed_at)
    for client, session in refused.items():
        if client not in took and session.refused is not None:
            return broken(f"{first.server} refused it, and it tried no other server", session.refused)
    if not refused:
        return NOT_EXERCISED
    return held(f"it turned to another server {show(max(took.values()))} after {first.server} had refused it")


def _in_order(run: Run) -> Finding:
    if len(run.journals) < 2:
        return NOT_EXERCISED
    rank = {journal: i for i, journal in enumerate(run.journals)}
    tried: set[tuple[str, int]] = set()
    took: dict[tuple[str, int], Exchange] = {}  # where a server last took mail, and sent nobody away since
    excuses: dict[tuple[str, int], int] = {}  # refusals after which the client has not turned to another server yet
    for session in sorted(run.once(read).sessions, key=lambda s: s.connection.index):
        client, connection, place = session.client, session.connection, rank[session.connection.journal]
        for better in range(place):
            name, key = run.journals[better].server, (client, better)
            if key not in tried:
                return broken(f"it came to {connection.server} without having tried {name}", connection)
            good = took.get(key)
            if not excuses.get(key) and good is not None and good.index < connection.index:
                return broken(f"it came to {connection.server} though {name} had just taken its mail", good, connection)
            excuses[key] = max(0, excuses.get(key, 0) - 1)
        tried.add((client, place))
        answered = [a.answered for a in session.attempts if a.answered is not None]
        if session.told or not answered or any(a.failure is not None or a.refused for a in session.attempts):
            took.pop((client, place), None)
            excuses[client, place] = excuses.get((client, place), 0) + 1
        else:
            took[client, place] = answered[-1]
    return held("no server was passed over") if tried else NOT_EXERCISED


def _remembers(run: Run) -> Finding:
    windows: dict[tuple[Journal, str], deque[Exchange]] = {}
    most = 0
    for session in run.once(read).sessions:
        key = session.connection.journal, session.client
        window = windows.setdefault(key, deque())
        refusal = session.refused
        if refusal is None or 421 not in refusal.codes or refusal.moment != "connect":
            window.clear()
            continue
        window.append(refusal)
        while refusal.at - window[0].at >= MINUTE:
            window.popleft()
        most = max(most, len(window))
        if len(window) > MOST_PER_MINUTE:
            why = f"it walked into a busy server {_times(len(window))} within {show(refusal.at - window[0].at)}"
            return broken(why, *window)
    return held(f"at most {plural(most, 'refused connection')} in a minute") if most else NOT_EXERCISED


def _fewer(run: Run) -> Finding:
    by_client: dict[tuple[Journal, str], list[Session]] = {}
    for session in run.once(read).sessions:
        by_client.setdefault((session.connection.journal, session.client), []).append(session)
    told = ""
    for sessions in by_client.values():
        finding = _fewer_than_before(sessions)
        if finding.outcome == "broken":
            return finding
        told = told or finding.why
    return held(told) if told else NOT_EXERCISED


def _fewer_than_before(sessions: Sequence[Session]) -> Finding:
    """Of one client at one server: how many connections it had when it was told that they are too many, and since."""
    events: list[tuple[int, int, int]] = []
    for i, session in enumerate(sessions):
        c = session.connection
        events.append((c.index, 1, i))
        ends = [at for at in (c.left_index, c.closed_index, _sent_away(session)) if at is not None]
        if ends:
            events.append((min(ends), -1, i))
    live = since = limit = 0
    cap: Exchange | None = None
    for _, step, i in sorted(events):
        live += step
        if step < 0:
            continue
        session = sessions[i]
        refusal = session.attempts[0].failure
        if cap is not None and session.connection.opened_at - cap.at >= AT_ONCE:
            since = max(since, live)
            if live >= limit:
                why = f"it had {limit} connections when it was told that they are too many, and later {live} again"
                return broken(why, cap, session.connection)
        if cap is None and live > 1 and refusal is not None and _CAP.search(refusal.reply or ""):
            cap, limit = refusal, live
    return held(f"{limit} connections before, {since} at most since") if cap is not None else NOT_EXERCISED


def _sent_away(session: Session) -> int | None:
    last = session.exchanges[-1]
    return last.index if last.closed else None


# ---- what becomes of a message -----------------------------------------------------------------------


def _no_second_copy(run: Run) -> Finding:
    answered: dict[tuple[str, str], Exchange] = {}
    messages = 0
    for attempt in run.once(read).attempts:
        x = attempt.answered
        facts = x.facts if x is not None else None
        if x is None or not facts or not facts.get("stored"):
            continue
        messages += 1
        name = str(facts.get("message_id") or f"sha256:{str(facts.get('sha256'))[:16]}")
        for recipient in attempt.accepted:
            before = answered.setdefault((name, recipient), x)
            if before is not x:
                return broken(f"{name} was answered {before.code} and sent to {recipient} again", before, x)
    return held(f"{messages} answered 250, and none sent again") if messages else NOT_EXERCISED


def _resends_all(run: Run) -> Finding:
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
            why = f"{_said(x)} at {x.moment} made all of it void, and {', '.join(missing[:3])} never came again"
            return broken(why, x, *([again] if again is not None else []))
    return held(f"all recipients came again, {_times(resent)}") if resent else NOT_EXERCISED


def _many_recipients(run: Run) -> Finding:
    mail = run.once(read)
    told = 0
    for attempt in mail.attempts:
        full = [(r, x) for r, x in attempt.refused if x.code in (452, 552)]
        if not full or not attempt.accepted or attempt.sender is None:
            continue
        if attempt.data is None and attempt.failure is None:
            left = attempt.left or (departure(full[0][1]) and attempt.session.connection)
            if left:
                return broken("those that had been taken were not sent the message", full[0][1], left)
            continue  # it may still say DATA
        told += 1
        for recipient, x in full:
            if mail.asked[attempt.sender, recipient] <= x.index:
                return broken(f"{recipient} was one too many, and was not tried again", x)
    return held("the accepted ones had the message, the others came later") if told else NOT_EXERCISED


# ---- no way round ------------------------------------------------------------------------------------


def _no_downgrade(run: Run) -> Finding:
    exercised = False
    greeted: dict[tuple[Journal, str], Exchange] = {}  # EHLO was answered 421
    secret: dict[tuple[Journal, str], Evidence] = {}  # TLS failed, or something in it did
    for session in run.once(read).sessions:
        key = session.connection.journal, session.client
        tls = session.connection.tls
        for x in session.exchanges:
            verb = x.request[:4].upper()
            if verb == "HELO" and key in greeted:
                return broken("HELO was said after EHLO had been answered 421", greeted[key], x)
            if verb == "MAIL" and key in secret and not _encrypted(session, x):
                return broken("mail came in clear text after TLS had failed", secret[key], x)
            if x.moment == "ehlo" and verb == "EHLO":
                greeted.pop(key, None)
                if 421 in x.codes and x.fault is not None:
                    greeted[key] = x
                    exercised = True
            if (x.moment in ("starttls", "tls") or _encrypted(session, x)) and put_off(x):
                secret.setdefault(key, x)
                exercised = True
        if key in greeted and any(line[:4].upper() == "HELO" for line in session.connection.after.splitlines()):
            return broken("HELO was said after EHLO had been answered 421", greeted[key], session.connection)
        if tls is not None and tls.error is not None:
            secret.setdefault(key, session.connection)
            exercised = True
    return held("neither to HELO nor to clear text") if exercised else NOT_EXERCISED


def _encrypted(session: Session, x: Exchange) -> bool:
    return session.encrypted_from is not None and x.index >= session.encrypted_from


RULES: tuple[Rule, ...] = (
    Rule(
        id="smtp.nothing-but-quit",
        title="After a 421 the client says at most QUIT on that connection.",
        level="advice",
        source="RFC 5321 §3.8 (the server closes the channel), §4.1.1.10",
        why="The server has said its last word: what is sent then is lost, or answered by a reset that may take the 421 with it.",
        observed="commands other than QUIT that come on a connection after a 421; not those that may have been on their way (RFC 2920)",
        example="S: 421 4.3.2 Service shutting down\nC: MAIL FROM:<a@client.test>",
        judge=_nothing_but_quit,
    ),
    Rule(
        id="smtp.survives-421",
        title="The client is prepared for a 421 as the answer to any command, or unasked: it neither hangs nor gets out of step.",
        level="must",
        source="RFC 5321 §3.8, §4.3.2",
        why="A client that takes the 421 for the answer to something else sends mail as commands, or waits for ever.",
        observed="after a 421: a message sent though DATA was refused; a connection kept, in silence, for 10 minutes",
        example="C: DATA\nS: 421 4.3.0 Temporary Error\nC: Subject: hello",
        judge=_survives,
    ),
    Rule(
        id="smtp.wait-before-retry",
        title="The client waits before it tries the same server again.",
        level="must",
        source="RFC 5321 §4.5.4.1",
        why="Who comes back at once, again and again, keeps a server overloaded that has asked for time.",
        observed=(
            "the time from a refusal to the next try of the same mail at the same server. Another server is no retry, nor "
            "is the first try of other mail, nor a new connection after one that had taken mail"
        ),
        example="S: 421 4.3.2 All server ports are busy   (0 s)\nC: connects again                          (3 ms)",
        judge=_waits,
    ),
    Rule(
        id="smtp.retry-interval",
        title="The client lets half an hour pass between two tries of a message, or has reasons for another strategy.",
        level="should",
        source="RFC 5321 §4.5.4.1",
        why="Most of what puts mail off takes longer than a minute to mend, and each try costs both sides.",
        observed=f"the intervals between tries; broken only by more than {MOST_PER_HOUR} of one message in an hour",
        example="S: 451 4.7.1 Greylisted   (0 s)\nC: tries again            (10 s, 20 s, 30 s, … for an hour)",
        judge=_interval,
    ),
    Rule(
        id="smtp.tries-again",
        title="What was refused with a 4yz is tried again.",
        level="should",
        source="RFC 5321 §4.2.1",
        why="The server has said that it would take it later: who does not come back loses the mail.",
        observed="mail, or single recipients, that were put off and never seen again, on whichever server",
        example="S: 421 4.3.2 Service not available\nC: is never seen again",
        judge=_tries_again,
    ),
    Rule(
        id="smtp.no-bounce-for-421",
        title="The client does not treat a 421 as final.",
        level="must",
        source="RFC 5321 §4.2, §4.3.2 (the first digit decides)",
        why="The sender is told that the mail cannot be delivered, though it could be a minute later.",
        observed=(
            "a bounce to the sender after one 421, or other mail taken hours later while that of the 421 is never seen again; "
            "a client that is not seen again at all may still have it"
        ),
        example="C: MAIL FROM:<a@client.test>\nS: 421 4.3.0 Try again later\nC: MAIL FROM:<>, RCPT TO:<a@client.test>",
        judge=_no_bounce,
    ),
    Rule(
        id="smtp.give-up-time",
        title="The client keeps trying for days, and stops in the end.",
        level="should",
        source="RFC 5321 §4.5.4.1 (4-5 days)",
        why="Outages last a weekend. Mail that is tried for ever is never reported to who has sent it.",
        observed=(
            "the time from the first refusal to the last try, in runs of a day and more; broken by giving up within a day "
            "or trying for a month"
        ),
        example="S: 421 4.3.2 Service not available   (0 s)\nC: tries last                          (2 h)",
        judge=_stops,
    ),
    Rule(
        id="smtp.intervals-grow",
        title="The intervals between tries grow, up to a limit.",
        level="advice",
        source="Google SRE book, ch. 22; AWS Architecture Blog, Exponential Backoff And Jitter",
        why="The longer an outage lasts, the more clients wait for its end: at a constant pace they keep it going.",
        observed="four tries and more of one message; broken where they come at a constant pace below 5 minutes, or ever faster",
        example="S: 421 Too busy   (0 s)\nC: tries again    (5 s, 10 s, 15 s, 20 s)",
        judge=_grows,
    ),
    Rule(
        id="smtp.jitter",
        title="Those that were refused together do not come back together.",
        level="advice",
        source="AWS Architecture Blog, Exponential Backoff And Jitter",
        why="A herd that comes back at one instant meets the next refusal together.",
        observed=f"{HERD} connections side by side that come back after a wait within {TOGETHER * 1000:.0f} ms",
        example="S: 421 Too busy, to 20 connections          (0 s)\nC: 20 connections                          (60 s)",
        judge=_spreads,
    ),
    Rule(
        id="smtp.next-host",
        title="Where the preferred server sends the client away, it tries the next one.",
        level="should",
        source="RFC 5321 §5.1 (it must be able to, and should try two at least)",
        why="That is what the second MX is there for.",
        observed="of several servers, in their order of preference: whether a client that the first refused comes to another",
        example="primary  S: 421 4.3.2 All server ports are busy\nbackup   nobody comes",
        judge=_next_host,
    ),
    Rule(
        id="smtp.preference-order",
        title="The client tries servers in the order of their preference.",
        level="must",
        source="RFC 5321 §5.1",
        why="A backup may be slow, dear, or have no list of the mailboxes.",
        observed=(
            "of several servers, in their order of preference: a client that comes to one without having been refused by those "
            "before it. Whether servers of one preference are taken at random cannot be told from a run"
        ),
        example="backup   C: connects   (0 s)\nprimary  C: connects   (1 s)",
        judge=_in_order,
    ),
    Rule(
        id="smtp.remembers-busy-host",
        title="The client remembers that a server is busy, and does not walk its whole queue into it.",
        level="should",
        source="RFC 5321 §4.5.4.1",
        why="One connection tells that the server is busy; a hundred more tell the same, and keep it so.",
        observed=f"more than {MOST_PER_MINUTE} connections of a client that are answered 421 at once, in a minute",
        example="S: 421 4.3.2 All server ports are busy   (0 s)\nC: 20 more connections, one for each message",
        judge=_remembers,
    ),
    Rule(
        id="smtp.fewer-connections",
        title="Told that it has too many connections, the client makes do with fewer.",
        level="advice",
        source="Gmail, Outlook.com and Yahoo postmaster pages",
        why="Providers count: who stays above the limit is refused for longer, or blocked.",
        observed="the connections of a client at a time, before and since a reply that speaks of too many",
        example="S: 421 4.7.0 Too many concurrent connections, to the 5th   (0 s)\nC: has 5 connections                                       (60 s)",
        judge=_fewer,
    ),
    Rule(
        id="smtp.no-second-copy",
        title="A message that was answered 250 is not sent again, whatever happens to the connection then.",
        level="must",
        source="RFC 5321 §4.2.5",
        why="With the 250 the mail is the server's: who sends it again makes a duplicate.",
        observed="a Message-ID, or the same content, stored twice for one recipient after it had been answered 250, on whichever server",
        example="S: 250 2.0.0 Ok: queued\nS: 421 Service not available\nC: sends the same message on a new connection",
        judge=_no_second_copy,
    ),
    Rule(
        id="smtp.resend-all-recipients",
        title="After a transaction that was cut off, all of its recipients are sent the message again.",
        level="must",
        source="RFC 5321 §4.1.1.10, §4.2.5",
        why="A recipient that was taken before the 421 is no recipient that was delivered to.",
        observed="recipients of a transaction that failed, of which some come again and others do not",
        example="S: 250 (to RCPT of b), 421 (to RCPT of c)\nC: sends it to c, and never to b",
        judge=_resends_all,
    ),
    Rule(
        id="smtp.silent-close",
        title="A connection that ends without a reply is taken as a 451: the client waits, and tries again.",
        level="should",
        source="RFC 5321 §3.8",
        why="Servers die, and firewalls cut: that is no answer, and no reason to hurry.",
        observed="the next try after the server has hung up without a word",
        example="C: DATA\nS: closes\nC: is never seen again",
        judge=_silent_close,
    ),
    Rule(
        id="smtp.patience",
        title="The client waits long enough for a reply: 10 minutes for that to the final dot.",
        level="should",
        source="RFC 5321 §4.5.3.2",
        why="A server that is slow to answer the final dot has often kept the message: who leaves and tries again makes a copy.",
        observed="clients that leave while a reply is due: before 5 minutes (greeting, MAIL, RCPT), 2 (DATA), 10 (final dot)",
        example="C: .\nS: (silent for 30 s)\nC: leaves",
        judge=_patient,
    ),
    Rule(
        id="smtp.too-many-recipients",
        title="Told 452 at a recipient, the client sends to those that were taken, and to the rest later.",
        level="should",
        source="RFC 5321 §4.5.3.1.10 (552 is meant as well)",
        why="The limit is on one transaction: nobody needs to be left out.",
        observed="after a 452 or 552 to RCPT: whether the message follows, and the refused recipients in another transaction",
        example="S: 452 4.5.3 Too many recipients\nC: RSET",
        judge=_many_recipients,
    ),
    Rule(
        id="smtp.acts-on-the-code",
        title="The client acts on the code of a reply, whatever the text, the lines and the code's last digits are.",
        level="must",
        source="RFC 5321 §4.2, §4.2.1, §4.3.2",
        why="Servers word things as they like, in many lines or none; a client that reads words is surprised.",
        observed=(
            "after a bare code, several lines, a code that is seldom (432), text beyond ASCII: going on as if accepted, or "
            "never trying again though plain refusals were"
        ),
        example="C: DATA\nS: 421\nC: Subject: hello",
        judge=_acts_on_the_code,
    ),
    Rule(
        id="smtp.no-downgrade",
        title="After a 421 the client falls back neither from EHLO to HELO nor from TLS to clear text.",
        level="advice",
        source="RFC 5321 §3.2 (HELO is for servers that do not know EHLO); RFC 7435 §3",
        why="A busy server is no old server, and to refuse a connection for a moment would be enough to read the mail.",
        observed="HELO after EHLO was answered 421; MAIL in clear text after TLS, or something in it, has failed",
        example="C: EHLO client.test\nS: 421 4.3.2 Service not available\nC: HELO client.test",
        judge=_no_downgrade,
    ),
    Rule(
        id="smtp.class-first",
        title="Enhanced status codes that the client does not know change nothing.",
        level="advice",
        source="RFC 3463 §2, RFC 5248",
        why="New details appear all the time (4.7.28), and some servers send none.",
        observed="mail that was put off with one enhanced code and never tried again, while that with another was",
        example="S: 421 4.7.28 Unusual rate\nC: is done with that message, and tries those of a 421 4.3.2 again",
        judge=_class_first,
    ),
)
