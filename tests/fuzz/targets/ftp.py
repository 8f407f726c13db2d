"""What an FTP client says on its control connection, and on its data connections."""

from __future__ import annotations

from tests.fuzz.offline import LOOP, Wire
from tests.fuzz.oracles import agrees
from tests.fuzz.talking import Talk, rule, scenarios

from notnow import FakeFTP

PLAYS = scenarios(
    "ftp",
    rule("login", 'reply = "421 Too many users"'),
    rule("transfer", 'reply = "450 busy"', first="1") + rule("cwd", 'reply = "421 no"\ndelay = "5s"'),
    rule("stor", 'reply = "426 no"'),
    rule("any", 'reply = "421 Bye"', nth="7"),
    rule("retr", "stall = true") + rule("noop", 'reply = ["200-a", "200 b"]\ndrip = "10ms"'),
    rule("error", 'close = "reset"', nth="2"),
)
FILES = {"readme.txt": b"hello <fuzz>\r\n" * 20, "dir/big.bin": b"x" * 200_000}


def one(data: bytes) -> None:
    if len(data) < 2:
        return
    talk = Talk(data, PLAYS, FakeFTP, tls=("starttls", "none")[data[0] // 32 % 2], files=FILES)
    wire = talk.run(lambda _: _transfer(data[-64:]) if data[0] & 32 else None)
    if not any(connection.tls for connection in talk.fake.journal.connections):
        agrees(talk.fake.journal, bytes(wire.heard))


def _transfer(content: bytes) -> None:
    """Connect to every port that has been opened; say some bytes, and leave."""
    while LOOP.ports:
        wire = Wire()
        LOOP.plug(wire)
        LOOP.ports.pop().wires.append(wire)
        LOOP.settle()
        wire.say(content)
        LOOP.settle()
        wire.end()
        LOOP.settle()
