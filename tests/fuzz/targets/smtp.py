"""What an SMTP client says, STARTTLS and all that follows it included."""

from __future__ import annotations

from tests.fuzz.oracles import agrees
from tests.fuzz.talking import Talk, rule, scenarios

from notnow import FakeSMTP

PLAYS = scenarios(
    "smtp",
    rule("connect", 'reply = "421 4.3.2 busy"'),
    rule("mail", 'reply = "451 4.7.1 later"', first="1") + rule("data", 'reply = "421 4.3.0 no"\ndelay = "5s"'),
    rule("message", "keep = true\nclose = true"),
    rule("rcpt", 'reply = ["452-4.2.2 full", "452 4.2.2 full"]\ndrip = "10ms"', every="2"),
    rule("ehlo", 'delay = "1s"'),
    rule("any", 'reply = "421 4.7.0 too many errors"', nth="6"),
    rule("error", "close = true", nth="3"),
    rule("noop", "stall = true") + rule("rset", 'close = "abrupt"'),
)


def one(data: bytes) -> None:
    if len(data) < 2:
        return
    talk = Talk(data, PLAYS, FakeSMTP, tls=("none", "starttls")[data[0] // 32 % 2])
    wire = talk.run()
    if not any(connection.tls for connection in talk.fake.journal.connections):
        agrees(talk.fake.journal, bytes(wire.heard))
