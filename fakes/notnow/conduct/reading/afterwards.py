"""What an SMTP client still says on a connection after a refusal."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from notnow import protocols
from notnow.conduct.finding import Evidence
from notnow.conduct.reading.mail import (
    UNASKED,
    Session,
)
from notnow.journal import Exchange

LOOKED_AT = 50  # exchanges after a refusal: on one connection there may be any number of both
_VERBS = frozenset(name for name, moment in protocols.get("smtp").moments.items() if "any" in moment.within) | {"helo"}


def later_words(session: Session, refusal: Exchange) -> Iterator[tuple[str, str, Evidence]]:
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


def content_after(session: Session, told: Exchange) -> Evidence | None:
    """The lines of a message that were taken for commands, or came when nobody listened any more.

    A chunk is no such thing: it leaves together with its BDAT (RFC 3030 §2).
    """
    if _is_chunk(told.request):
        return None
    for verb, words, proof in later_words(session, told):
        if _is_chunk(words):
            return None
        return proof if words and verb not in _VERBS else None
    return None


def _is_chunk(request: str) -> bool:
    return request[:5].upper() == "BDAT "
