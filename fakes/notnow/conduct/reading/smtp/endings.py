"""How a command of an SMTP client, or a connection, ended, as the client could know it."""

from __future__ import annotations

from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import Ending, Try
from notnow.journal import Connection, Exchange, FakeStopped

UNASKED = frozenset({"enter", "idle", "error"})


def departure(connection: Connection) -> tuple[int, float] | None:
    """The index and time at which the client left; None if it did not end the connection."""
    if connection.left_index is not None and connection.left_at is not None:
        return connection.left_index, connection.left_at
    if connection.ended_by == "client" and connection.closed_index is not None and connection.closed_at is not None:
        return connection.closed_index, connection.closed_at
    return None


def unheard(x: Exchange) -> bool:
    """True if the client did not wait for the reply, or the fake was stopped."""
    if x.end is not None:
        return isinstance(x.end, FakeStopped)
    return x.fault is not None and left_unanswered(x)


def left_unanswered(exchange: Exchange) -> bool:
    """True if a rule kept the client waiting for the reply, and the client left before it came."""
    if exchange.fault is None or exchange.end is not None or exchange.moment in UNASKED:
        return False
    if exchange.moment == "tls":  # a handshake has no reply
        return exchange.connection.failure is not None
    left = departure(exchange.connection)
    return left is not None and (exchange.answered_at is None or left[1] < exchange.answered_at)


def ending_of(x: Exchange) -> Ending | None:
    """The ending that a client can infer from the reply to a command; None if it may go on, or still waits for the reply."""
    if (x.end is not None or x.fault is not None) and unheard(x):
        return "unanswered"
    codes = x.codes
    if not codes:
        return "unanswered" if x.end is not None else None
    code = codes[0]
    if code == 503 and x.fault is None:  # the fake minds the order of commands: that says nothing of the mail
        return None
    if 400 <= code < 500 or (code == 552 and x.moment == "rcpt"):  # RFC 5321 §4.5.3.1.10: treated as a 452
        return "deferred"
    if code >= 500:
        return "refused"
    if x.moment == "message" and 200 <= code < 300:
        return "accepted"
    if 421 in codes:  # after another reply
        return "deferred"
    return "unanswered" if x.end is not None else None


def end_of(by: Evidence, ending: Ending) -> tuple[int, float]:
    """The index and time from which on the client knows how it ended."""
    if isinstance(by, Connection):
        left = departure(by)
        if left is None:
            left = by.closed_index or by.index, by.closed_at if by.closed_at is not None else by.opened_at
        return left
    if ending == "unanswered" and by.end is None and (left := departure(by.connection)) is not None:
        return left
    return by.index, by.answered_at if by.answered_at is not None else by.at


def turned_away(x: Exchange) -> Ending | None:
    """The ending, if a refusal or a close may have made the client leave; otherwise None."""
    ending = ending_of(x)
    if ending is None or ending == "deferred":
        return ending
    if ending == "refused":
        return ending if x.fault is not None or x.moment in ("connect", "auth") else None
    return None if x.stopped or (x.fault is None and x.end is None) else ending


def refused_for_now(one: Try) -> bool:
    """True if the server refused it with a 4yz, or closed the connection in place of a reply (RFC 5321 §3.8)."""
    if one.ending != "deferred" and one.ending != "unanswered":
        return False
    by = one.by
    return isinstance(by, Exchange) and by.moment != "tls" and not isinstance(by.end, FakeStopped)
