"""Rules about acting on reply codes, usual and odd ones."""

from __future__ import annotations

import re
from collections.abc import Callable

from notnow.conduct.finding import NOT_EXERCISED, Evidence, Finding, broken, held
from notnow.conduct.reading.afterwards import content_after
from notnow.conduct.reading.mail import (
    Attempt,
    Mail,
    Session,
    deferred,
    departure,
    read,
)
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange, Journal

_ENHANCED = re.compile(r"^[245][0-9][0-9][ -]([0-9]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")
_USUAL = frozenset({421, 450, 451, 452, 454, 455})


@rule(
    "smtp.too-many-recipients",
    title="After a 452 to RCPT, the client sends to the accepted recipients now, and to the rest later.",
    level="should",
    source="RFC 5321 §4.5.3.1.10 (a 552 is to be treated as a 452)",
    why="The limit applies to one transaction. No recipient needs to be left out.",
    proof="after a 452 or 552 to RCPT: whether the message follows, and whether the refused recipients are tried in another transaction",
    example="S: 452 4.5.3 Too many recipients\nC: RSET",
)
def many_recipients(run: Run) -> Finding:
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


@rule(
    "smtp.acts-on-the-code",
    title="The client acts on the code of a reply, whatever its text, its number of lines and its last two digits.",
    level="must",
    source="RFC 5321 §4.2, §4.2.1, §4.3.2",
    why="Servers choose their own words, and may use several lines or no text at all. A client that parses the text gets it wrong.",
    proof=(
        "after a bare code, several lines, a rare code (432) or text beyond ASCII: the client goes on as if accepted, or never tries again although it retries after plain refusals"
    ),
    example="C: DATA\nS: 421\nC: Subject: hello",
)
def acts_on_the_code(run: Run) -> Finding:
    mail = run.once(read)
    odd = 0
    for session in mail.sessions:
        for x in session.exchanges:
            if not _is_odd(x):
                continue
            odd += 1
            if x.moment in ("mail", "rcpt", "data") and (proof := content_after(session, x)) is not None:
                return broken(f"the message was sent as if {_form(x)} had been a yes", x, proof)
    if not odd:
        return NOT_EXERCISED
    return _same_conduct(mail, lambda x: _form(x) if _is_odd(x) else "") or held(
        f"{odd} {'reply' if odd == 1 else 'replies'} of an odd form, acted on as others are"
    )


def _is_odd(x: Exchange) -> bool:
    """True for a 4yz in a form that RFC 5321 §4.2 allows and that clients may not expect."""
    if x.reply is None or x.code is None or not deferred(x):
        return False
    return x.code not in _USUAL or len(x.reply) == 3 or "\n" in x.reply or not x.reply.isascii()


def _form(x: Exchange) -> str:
    reply = x.reply or ""
    if "\n" in reply:
        return f"a {x.code} of several lines"
    if len(reply) == 3:
        return f"a bare {x.code}"
    return f"a {x.code}" if x.code not in _USUAL else f"a {x.code} in another script"


@rule(
    "smtp.no-downgrade",
    title="After a 421 the client falls back neither from EHLO to HELO nor from TLS to clear text.",
    level="advice",
    source="RFC 5321 §3.2 (HELO is for servers that do not know EHLO); RFC 7435 §3",
    why="A busy server is not an old server. If clients downgraded, an attacker could read mail by refusing one connection.",
    proof="HELO after EHLO was answered 421; MAIL in clear text after TLS, or a command inside TLS, has failed",
    example="C: EHLO client.test\nS: 421 4.3.2 Service not available\nC: HELO client.test",
)
def no_downgrade(run: Run) -> Finding:
    exercised = False
    greeted: dict[tuple[Journal, str], Exchange] = {}  # the EHLO that was answered 421
    secret: dict[tuple[Journal, str], Evidence] = {}  # the failure of TLS, or of a command inside TLS
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
            if (x.moment in ("starttls", "tls") or _encrypted(session, x)) and deferred(x):
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


@rule(
    "smtp.class-first",
    title="Enhanced status codes that the client does not know make no difference.",
    level="advice",
    source="RFC 3463 §2, RFC 5248",
    why="New codes keep appearing (4.7.28), and some servers send none.",
    proof="mail refused with one enhanced code and never tried again, while mail refused with another is",
    example="S: 421 4.7.28 Unusual rate\nC: drops that message, but retries those refused with 421 4.3.2",
)
def class_first(run: Run) -> Finding:
    mail = run.once(read)
    seen = dict.fromkeys(_enhanced(a.failure) for a in mail.failed if a.failure is not None and a.failure.code)
    if not any(seen):
        return NOT_EXERCISED
    return _same_conduct(mail, _enhanced) or held(f"told {', '.join(code or 'no enhanced code' for code in seen)}")


def _enhanced(x: Exchange) -> str:
    found = _ENHANCED.match(x.reply or "")
    return found[1] if found else ""


def _same_conduct(mail: Mail, kind: Callable[[Exchange], str]) -> Finding | None:
    """Broken if the client retries mail refused in one way, and never mail refused in another.

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
        elif attempt.earlier is None and not mail.seen_again(attempt):
            dropped.setdefault(kind(attempt.failure), attempt)
    for name, attempt in dropped.items():
        since = mail.came[attempt.session.client].began.at - attempt.failed_at
        if name in again or soonest is None or soonest.later is None or soonest.later.delay > since:
            continue
        refusals = [a.failure for a in (attempt, soonest) if a.failure is not None]
        one, other = (kind(x) or "a plain reply" for x in refusals)
        return broken(f"after {one} it never tried again, after {other} it did", *refusals)
    return None
