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
    End,
    ExcludedByGoAway,
    Facts,
    FakeStopped,
    Frame,
    GoAwayFrame,
    MalformedRequest,
    Message,
    OriginFrame,
    Parameters,
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
    "End",
    "Entry",
    "Exchange",
    "ExcludedByGoAway",
    "Facts",
    "FakeStopped",
    "Frame",
    "GoAwayFrame",
    "Journal",
    "Listener",
    "MalformedRequest",
    "Mark",
    "Message",
    "OriginFrame",
    "Parameters",
    "Recorder",
    "Request",
    "RstStreamFrame",
    "TLSAlert",
    "Transfer",
    "brief",
    "clip",
]
