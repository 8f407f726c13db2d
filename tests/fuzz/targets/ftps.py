"""What an FTP client says on a data connection in TLS (PROT P, RFC 4217 §9): its handshake, its records, and its end.

The third byte says what the client does: bits 0 to 2 choose the command, bits 3 and 4 the handshake (none, and the bytes of
the input are said instead; whole, and they are said inside TLS; whole, and they are said as they are; cut short by them),
bits 5 and 6 the end (close_notify, none, a reset, a client that stays). Bit 7 lets the command come before the connection.
Bit 5 of the first byte offers the session of the control connection again.
"""

from __future__ import annotations

import contextlib
import ssl

from tests.fuzz.offline import LOOP, Pair, Wire
from tests.fuzz.oracles import agrees
from tests.fuzz.talking import Talk, rule, scenarios

from notnow import FakeFTP

PLAYS = scenarios(
    "ftp",
    rule("stor", 'after_bytes = 20\nreply = "426 no"'),
    rule("retr", 'after_bytes = 20000\nreply = "426 no"\ndata = "reset"'),
    rule("data", 'delay = "5s"'),
    rule("transfer", 'data = "ragged"'),
    rule("complete", 'reply = "451 no"'),
    rule("stor", 'reply = "421 no"') + rule("list", "stall = true"),
    rule("epsv", 'reply = "229 Entering (|||{data.port}|)"\ndata = "reset"'),
)
FILES = {"readme.txt": b"hello <fuzz>\r\n" * 20, "dir/big.bin": b"x" * 200_000}
COMMANDS = (
    "STOR x",
    "RETR readme.txt",
    "RETR dir/big.bin",
    "LIST",
    "APPE readme.txt",
    "STOU",
    "TYPE A\r\nSTOR x",
    "MLSD",
)
RAW, INSIDE, BEHIND, CUT = range(4)
NOTIFY, FIN, RESET, STAY = range(4)
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE


class Secure:
    """The client's TLS on a connection. `heard` is what it was told inside."""

    def __init__(self, wire: Wire, session: ssl.SSLSession | None = None) -> None:
        self._wire, self._taken = wire, 0
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = TRUSTING.wrap_bio(self._in, self._out, server_hostname="localhost", session=session)
        self.heard = bytearray()
        self.was_told_the_end = False  # by a close_notify of the fake

    def begin(self) -> None:
        """The ClientHello, and no more."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self._wire.say(self._out.read())

    def shake(self) -> bool:
        """True if the handshake is over; False if the fake does not go on with it."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._wire.say(self._out.read())
                LOOP.settle()
                if not self._take():
                    return False
            except OSError:
                return False
            else:
                self._wire.say(self._out.read())
                LOOP.settle()
                return True

    def say(self, data: bytes) -> None:
        if data:
            self.tls.write(data)
        self._wire.say(self._out.read())
        LOOP.settle()

    def leave(self) -> None:
        """Send a close_notify."""
        with contextlib.suppress(OSError):
            self.tls.unwrap()
        self._wire.say(self._out.read())

    def hear(self) -> None:
        """Read until there is nothing more."""
        while self._take():
            try:
                while data := self.tls.read(1 << 20):
                    self.heard += data
                self.was_told_the_end = True
            except ssl.SSLZeroReturnError:  # the same, after our own close_notify
                self.was_told_the_end = True
            except OSError:  # no more for now, or for ever
                pass
            LOOP.settle()

    def _take(self) -> bool:
        """Give what has arrived to TLS. False if nothing has."""
        if isinstance(self._wire, Pair):
            self._wire.hear()
        new = bytes(self._wire.heard[self._taken :])
        self._taken += len(new)
        self._in.write(new)
        return bool(new)


def one(data: bytes) -> None:
    if len(data) < 3:
        return
    pair = Pair()
    try:
        _one(Talk(data[:2] + data[3:], PLAYS, FakeFTP, tls="implicit", files=FILES), data[2], pair)
    finally:
        pair.leave()


def _one(talk: Talk, does: int, pair: Pair) -> None:
    command = COMMANDS[does & 7]
    begins, ends = does >> 3 & 3, does >> 5 & 3
    with talk.conversation() as wire:
        control = Secure(wire)
        assert control.shake(), "no TLS on the control connection"
        control.say(b"USER a\r\nPASS b\r\nPBSZ 0\r\nPROT P\r\nTYPE I\r\nEPSV\r\n")
        control.hear()
        if does & 128:
            control.say(command.encode() + b"\r\n")
        client = _connected(pair, control if talk.choice & 32 else None)
        if not does & 128:
            control.say(command.encode() + b"\r\n")
        whole = _transferred(talk, client, pair, begins, ends)
        control.hear()
    control.hear()
    assert ends == RESET or pair.is_over(), "the fake keeps a data connection"
    agrees(talk.fake.journal, bytes(control.heard))
    if whole and talk.scenario is PLAYS[0]:
        _complete(talk, command, client)


def _connected(pair: Pair, control: Secure | None) -> Secure:
    """The client connects to the port that the fake has opened, and may have closed again."""
    LOOP.plug(pair)
    port = LOOP.ports.pop()
    if port.closed:
        pair.accepted().close()
    else:
        port.wires.append(pair)
    LOOP.settle()
    return Secure(pair, control.tls.session if control is not None else None)


def _transferred(talk: Talk, client: Secure, pair: Pair, begins: int, ends: int) -> bool:
    """Do what the input says. True if the client has done all as it should, up to its close_notify."""
    secure = False
    if begins == CUT:
        client.begin()
    elif begins != RAW:
        secure = client.shake()
    for piece in talk.pieces():
        if secure and begins == INSIDE:
            client.say(piece)
        else:
            pair.say(piece)
            LOOP.settle()
    if ends == RESET:
        pair.leave()
    elif ends != STAY:
        if secure:
            client.hear()
        if secure and ends == NOTIFY:
            client.leave()
        pair.end()
    LOOP.settle()
    if ends != RESET:
        client.hear()
    return secure and begins == INSIDE and ends == NOTIFY


def _complete(talk: Talk, command: str, client: Secure) -> None:
    """What a healthy fake has of an upload, and the client of a download, is all of it, and the client knows."""
    assert client.was_told_the_end, "a transfer ends without a close_notify"
    if command == "STOR x":
        assert talk.fake.files["x"] == talk.data, "an upload is not what was sent"
    elif command.startswith("RETR "):
        assert client.heard == FILES[command[5:]], "a download is not what the fake has"
