"""The journal: everything that happened, connection by connection, exchange by exchange.

A fake writes it with a `Recorder`, before the bytes go out; everybody else reads the `Journal`, and cannot change it.
"""

from notnow.journal.journal import DEFAULT_LIMIT, Connection, Entry, Exchange, Journal, Listener, Mark
from notnow.journal.recorder import Recorder
from notnow.journal.text import LONGEST, brief, clip
from notnow.journal.values import (
    TLS,
    AltSvcFrame,
    ConnectionClose,
    ConnectionLost,
    End,
    ExcludedByGoAway,
    Facts,
    Failure,
    FakeStopped,
    Frame,
    GoAwayFrame,
    HandshakeFailed,
    MalformedRequest,
    Message,
    NotUnderstood,
    OriginFrame,
    Parameters,
    ProtocolViolation,
    Request,
    RstStreamFrame,
    TLSAlert,
    Transfer,
)

__all__ = [
    "DEFAULT_LIMIT",
    "LONGEST",
    "TLS",
    "AltSvcFrame",
    "Connection",
    "ConnectionClose",
    "ConnectionLost",
    "End",
    "Entry",
    "Exchange",
    "ExcludedByGoAway",
    "Facts",
    "Failure",
    "FakeStopped",
    "Frame",
    "GoAwayFrame",
    "HandshakeFailed",
    "Journal",
    "Listener",
    "MalformedRequest",
    "Mark",
    "Message",
    "NotUnderstood",
    "OriginFrame",
    "Parameters",
    "ProtocolViolation",
    "Recorder",
    "Request",
    "RstStreamFrame",
    "TLSAlert",
    "Transfer",
    "brief",
    "clip",
]
