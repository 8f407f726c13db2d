"""The bytes behind STARTTLS: the ClientHello with its SNI, records, and whatever else comes in their place."""

from __future__ import annotations

from tests.fuzz.talking import Talk, rule, scenarios

from notnow import FakeSMTP

PLAYS = scenarios(
    "smtp",
    rule("tls", 'close = "reset"'),
    rule("tls", 'alert = "handshake_failure"', first="1"),
    rule("tls", "close = true"),
)


def one(data: bytes) -> None:
    if len(data) < 2:
        return
    talk = Talk(data[:2] + b"EHLO x\r\nSTARTTLS\r\n" + data[2:], PLAYS, FakeSMTP, tls="starttls")
    talk.run()
    (connection,) = talk.fake.journal.connections
    assert connection.ended_by, "nobody ended the connection"
