"""Rules about acting on reply codes, usual and odd ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from math import inf

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.afterwards import content_after, may_stray
from notnow.conduct.reading.smtp.delivery import Mail, mail
from notnow.conduct.reading.smtp.endings import refused_for_now
from notnow.conduct.reading.smtp.transactions import Transaction
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange

_ENHANCED = re.compile(r"^[245][0-9][0-9][ -]([0-9]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")
_USUAL = frozenset({421, 450, 451, 452, 454, 455})


@rule(
    "smtp.too-many-recipients",
    title="After a 452 to RCPT, the client sends to the accepted recipients now, and to the rest later.",
    level="should",
    source="RFC 5321 §4.5.3.1.10 (a 552 is to be treated as a 452)",
    why="The limit applies to one transaction. No recipient needs to be left out.",
    occasion="a recipient gets a 452 or 552, and the server has accepted others of the message",
    proof="the accepted ones do not get the message, or the others are never tried again",
    innocent="a client that may still say DATA; a later refusal of the whole message; a recipient asked for again at once",
    example="S: 452 4.5.3 Too many recipients\nC: RSET",
)
def many_recipients(run: Run) -> Finding:
    known = run.once(mail)
    told = 0
    for one in known.shared:
        full = [r for r in one.recipients if r.by is not None and r.by.code in (452, 552)]
        if not full or not one.accepted:
            continue
        if one.data is None and one.ending in (None, "abandoned"):
            if one.ending is not None and one.by is not None and full[0].by is not None:
                return broken("the accepted recipients were not sent the message", full[0].by, one.by)
            continue  # it may still say DATA
        told += 1
        for refused in full:
            if refused.by is not None and _never_again(known, one, refused.address):
                return broken(f"{refused.address} was over the limit, and was not tried again", refused.by)
    return held("the accepted recipients got the message, the others got it later") if told else NOT_EXERCISED


def _never_again(known: Mail, one: Transaction, recipient: str) -> bool:
    """True if no later try can have been for this recipient of a transaction."""
    letter = one.letter
    item = letter.items.get(recipient) if letter is not None else None
    if item is None or item.in_doubt:
        return False
    last = item.tries[-1]
    return last.ending == "deferred" and last in one.tries and known.last_unnamed.get(item, 0) < last.ended_index


@rule(
    "smtp.acts-on-the-code",
    title="The client acts on the code of a reply, whatever its text, its number of lines and its last two digits.",
    level="must",
    source="RFC 5321 §4.2, §4.2.1, §4.3.2",
    why="Servers choose their own words, and may use several lines or no text at all. A client that parses the text gets it wrong.",
    occasion="a refusal for now in an odd form: a bare code, several lines, a rare code (432), or text beyond ASCII",
    proof="the client goes on as if accepted, or never tries that mail again although it tries again after plain refusals",
    innocent="mail that the client has had less time to retry than the other; a client that tries nothing again, whatever the form",
    example="C: DATA\nS: 421\nC: Subject: hello",
)
def acts_on_the_code(run: Run) -> Finding:
    seen = run.once(occasions)
    replies = {x.reply for x in seen.kinds if _is_odd(x)}
    if not replies:
        return NOT_EXERCISED
    known, odd = run.once(mail), 0
    strays = may_stray(seen)
    for session in known.sessions:
        for place, x in enumerate(session.exchanges):
            if x.fault is None or x.reply not in replies:
                continue
            odd += 1
            if (
                strays
                and x.moment in ("mail", "rcpt", "data")
                and (proof := content_after(session, x, place)) is not None
            ):
                return broken(f"the message was sent as if {_form(x)} had accepted it", x, proof)
    conduct = _Conduct(known, lambda x: _form(x) if _is_odd(x) else "")
    if (difference := conduct.difference()) is not None:
        return difference
    if not any(conduct.again):
        return not_exercised("nothing that was refused in an odd form is known to have been tried again")
    return held(f"{odd} {'reply' if odd == 1 else 'replies'} of an odd form, acted on as others are")


def _is_odd(x: Exchange) -> bool:
    """True for a 4yz in a form that RFC 5321 §4.2 allows and that clients may not expect."""
    code = x.code if x.fault is not None else None
    if code is None or x.reply is None or not 400 <= code < 500:
        return False
    return code not in _USUAL or len(x.reply) == 3 or "\n" in x.reply or not x.reply.isascii()


def _form(x: Exchange) -> str:
    reply = x.reply or ""
    if "\n" in reply:
        return f"a {x.code} of several lines"
    if len(reply) == 3:
        return f"a bare {x.code}"
    return f"a {x.code}" if x.code not in _USUAL else f"a {x.code} in another script"


@rule(
    "smtp.class-first",
    title="The client treats an enhanced status code that it does not know by its class.",
    level="advice",
    source="RFC 3463 §2, RFC 5248",
    why="New codes keep appearing (4.7.28), and some servers send none.",
    occasion="mail is refused for now with several enhanced codes, or with one and with none",
    proof="mail refused with one enhanced code is never tried again, while mail refused with another is",
    innocent="mail that the client has had less time to retry than the other; a client that tries nothing again",
    example="S: 421 4.7.28 Unusual rate\nC: drops that message, but retries those refused with 421 4.3.2",
)
def class_first(run: Run) -> Finding:
    conduct = _Conduct(run.once(mail), _enhanced)
    if (difference := conduct.difference()) is not None:
        return difference
    if len(conduct.again) < 2:
        return NOT_EXERCISED
    return held(f"told {', '.join(code or 'no enhanced code' for code in conduct.again)}")


def _enhanced(x: Exchange) -> str:
    return _enhanced_code(x.reply or "")


@lru_cache(maxsize=1024)  # a server has few replies
def _enhanced_code(reply: str) -> str:
    found = _ENHANCED.match(reply)
    return found[1] if found else ""


def _refusal(one: Try) -> Exchange | None:
    """The reply with which the server refused a try for now."""
    return one.by if refused_for_now(one) and isinstance(one.by, Exchange) and one.by.codes else None


class _Conduct:
    """What became of mail that was refused in one way or another; `kind` names the way, "" is a plain one.

    `again` are the ways after which mail was tried again.
    """

    def __init__(self, known: Mail, kind: Callable[[Exchange], str]) -> None:
        self.kind = kind
        self.again: dict[str, None] = {}
        self._soonest: dict[str, tuple[float, Exchange]] = {}  # by the command that was refused
        self._known = known
        for one in (one for item in known.ledger.items if len(item.tries) > 1 for one in item.tries):
            if one.later is not None and (by := _refusal(one)) is not None:
                self._note(one.later, by)

    def _note(self, again: Try, by: Exchange) -> None:
        self.again[self.kind(by)] = None
        if by.moment not in self._soonest or again.delay < self._soonest[by.moment][0]:
            self._soonest[by.moment] = again.delay, by

    def _dropped(self) -> dict[str, tuple[Try, Exchange]]:
        """For each way, the first mail that was refused so and certainly never came again."""
        known, found = self._known, dict[str, tuple[Try, Exchange]]()
        beside = {one for t in known.transactions if t.ending == "accepted" for one in t.tries if one.failed}
        for item in (item for item in known.ledger.items if len(item.tries) == 1 and not item.in_doubt):
            one, by = item.tries[0], _refusal(item.tries[0])
            if by is not None and one not in beside and known.last_unnamed.get(item, 0) <= one.ended_index:
                found.setdefault(self.kind(by), (one, by))
        return found

    def difference(self) -> Finding | None:
        """Broken if the client retries mail refused in one way and never mail refused in another, for which it has had as long.

        The same command was refused, and no recipient beside others that were accepted: a client may treat a refused
        recipient in another way than refused mail.
        """
        if not self._soonest or not (dropped := self._dropped()):
            return None
        last_seen = {one.client: one.started_at for t in self._known.transactions for one in t.tries}
        for name, (one, by) in dropped.items():
            since = last_seen[one.client] - one.ended_at
            soonest, retried = self._soonest.get(by.moment, (inf, by))
            if name in self.again or soonest > since:
                continue
            first, other = (self.kind(x) or "a plain reply" for x in (by, retried))
            return broken(f"after {first} it never tried again, after {other} it did", by, retried)
        return None
