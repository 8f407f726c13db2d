"""The commands that an SMTP client sends on a connection after a refusal."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from notnow import protocols
from notnow.conduct.finding import Evidence
from notnow.conduct.reading.occasions import Occasions
from notnow.conduct.reading.smtp.endings import UNASKED
from notnow.conduct.reading.smtp.transactions import Session
from notnow.journal import Exchange

LOOKED_AT = 50  # exchanges read after a refusal; without a bound, many refusals on one connection take quadratic time
_VERBS = frozenset(name for name, moment in protocols.get("smtp").moments.items() if "any" in moment.within) | {"helo"}


def later_words(session: Session, refusal: Exchange, place: int | None = None) -> Iterator[tuple[str, str, Evidence]]:
    """The later commands on the connection (moment, line, proof) that the client sent after it could have read the refusal.

    `place` is that of the refusal among the exchanges of the connection, if it is known.
    A command that arrived before the reply left does not count, and one that crosses an unsolicited reply on the wire
    may not count. The rest of a pipelined group may have left together with the command that was refused (RFC 2920).
    """
    after = session.connection.after
    if refusal is session.exchanges[-1] and not after:
        return
    unasked = refusal.moment in UNASKED or (refusal.code or 0) < 400
    grouped = refusal.moment in ("mail", "rcpt")
    told_at = refusal.answered_at if refusal.answered_at is not None else refusal.at
    start = bisect_right(session.exchanges, refusal.index, key=_index) if place is None else place + 1
    for i in range(start, min(start + LOOKED_AT, len(session.exchanges))):
        x = session.exchanges[i]
        if not x.request or x.arrived_at < told_at:
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


def may_stray(seen: Occasions) -> bool:
    """False if no content of a message arrived as a command in the whole run, or after a close."""
    return bool(seen.spoken_after) or not seen.moments <= _VERBS | {"connect"}


def content_after(session: Session, told: Exchange, place: int | None = None) -> Evidence | None:
    """A line of a message that arrived as a command, or after the fake had closed.

    A chunk does not count, because the client sends it together with its BDAT (RFC 3030 §2).
    """
    if _is_chunk(told.request):
        return None
    for verb, words, proof in later_words(session, told, place):
        if _is_chunk(words):
            return None
        return proof if words and verb not in _VERBS else None
    return None


def _index(x: Exchange) -> int:
    return x.index


def _is_chunk(request: str) -> bool:
    return request[:5].upper() == "BDAT "
