"""Every way into TLS, on both loops, wherever the ClientHello stands: no byte of a handshake is lost, and no command
that was said before it is carried out.
"""

from __future__ import annotations

import contextlib
import socket
from asyncio.sslproto import SSLProtocol
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ftp_client
import smtp_client
from handshake import Handshake, in_pieces
from notnow import FakeFTP, ManualClock
from notnow.journal import HandshakeAbandoned
from notnow.servers import by_protocol
from notnow.servers.base.fake import Fake
from notnow.servers.base.handshake import handshake_in
from notnow.servers.base.life import UPGRADING
from notnow.servers.base.transport import HIGH, Plain
from notnow.servers.ftp.files import filling
from raw_connection import RawConnection, trusting
from toml_rules import one, rules

pytestmark = pytest.mark.usefixtures("each_loop")

UPGRADES = {"smtp": (b"STARTTLS\r\n", "220"), "ftp": (b"AUTH TLS\r\n", "234")}
MOMENTS = {"smtp": "starttls", "ftp": "auth"}
PIPED_IN = {"smtp": b"MAIL FROM:<evil@client.test>\r\n", "ftp": b"USER evil\r\n"}
FIRST = {
    "smtp": (b"EHLO x\r\n", b"250"),
    "ftp": (b"NOOP\r\n", b"200"),
    "http": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200"),
}

protocols = pytest.mark.parametrize("protocol", ["smtp", "ftp"])


def upgradable(protocol: str, **options: Any) -> Fake:
    return by_protocol(protocol)(tls="starttls", **options)


def slow(protocol: str) -> Fake:
    """A fake that says yes to the upgrade five seconds of its clock later."""
    scenario = rules(one(MOMENTS[protocol], delay="5s"), protocol=protocol)
    return by_protocol(protocol)(scenario, tls="starttls", clock=ManualClock())


def greeted(fake: Fake) -> RawConnection:
    raw = (smtp_client.Raw if fake.protocol == "smtp" else ftp_client.Raw)(fake)
    assert raw.reply()[:3] == "220"
    return raw


def goes_on(fake: Fake, hand: Handshake) -> None:
    """Both ends are in TLS, and talk."""
    said, answer = FIRST[fake.protocol]
    assert hand.say(said).startswith(answer)
    assert fake.journal.connections[0].tls.version
    assert not fake.journal.connections[0].error


@protocols
class TestTheClientHello:
    def test_in_the_segment_of_the_command(self, protocol):
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake, greeted(fake) as raw:
            hand = Handshake(raw.sock, trusting(fake))
            raw.send(command + hand.hello())
            assert raw.exactly(3) == yes.encode()
            raw.line()
            hand.finish(already=raw.buffer)
            goes_on(fake, hand)

    @pytest.mark.parametrize("piece", [1, 7, 1 << 20])
    def test_behind_the_command_before_it_is_answered(self, protocol, piece):
        command, yes = UPGRADES[protocol]
        with slow(protocol) as fake, greeted(fake) as raw:
            hand = Handshake(raw.sock, trusting(fake))
            raw.send(command)
            in_pieces(raw.sock, hand.hello(), piece)
            fake.settle()
            fake.clock.advance("5s")
            assert raw.line()[:3] == yes
            hand.finish(already=raw.buffer)
            goes_on(fake, hand)

    @pytest.mark.parametrize("piece", [1, 1 << 20])
    def test_as_soon_as_it_is_answered(self, protocol, piece):
        """Often enough for uvloop to read it in the turn that has answered the command."""
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake:
            for _ in range(20 if piece > 1 else 2):
                with greeted(fake) as raw:
                    hand = Handshake(raw.sock, trusting(fake))
                    hello = hand.hello()
                    raw.send(command)
                    assert raw.line()[:3] == yes
                    in_pieces(raw.sock, hello, piece)
                    hand.finish(piece)
                    goes_on(fake, hand)

    def test_that_the_client_does_not_send(self, protocol):
        """It ends its side: there will be no TLS, and nobody waits for it."""
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake, greeted(fake) as raw:
            raw.send(command)
            raw.sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                raw.until_end()
            fake.wait_for(lambda journal: journal.connections[0].ended_by)
            assert fake.journal.connections[0].failure == HandshakeAbandoned(done=False)

    def test_of_a_client_that_has_not_read_its_replies(self, protocol):
        """They wait in our buffer, and the handshake behind them."""
        command, yes = UPGRADES[protocol]
        with upgradable(protocol, journal_limit=100) as fake, greeted(fake) as raw:
            hand = Handshake(raw.sock, trusting(fake))
            (session,) = fake._bridge.sessions.values()
            plain = session.transport
            assert isinstance(plain, Plain)
            fake._bridge.runner.call(lambda: _clog(plain))
            raw.send(command + hand.hello())
            fake.wait_for(lambda journal: session.life.fake is UPGRADING)
            fake._bridge.runner.call(lambda: fake._bridge.loop.add_writer(plain._number, plain._writable))
            assert raw.exactly(HIGH - 5) == b"x" * (HIGH - 5)
            assert raw.line()[:3] == yes
            hand.finish(already=raw.buffer)
            goes_on(fake, hand)
            assert hand.say(FIRST[protocol][0]).startswith(FIRST[protocol][1][:1])


def _clog(plain: Plain) -> None:
    """As if the kernel took no more: the reply has to wait, and is more than may wait."""
    plain._buffer = bytearray(b"x" * (HIGH - 5))


@protocols
class TestWhatWasSaidBeforeTLS:
    """CVE-2011-0411: whoever sits between can put commands behind the one that asks for TLS."""

    def test_commands_are_dropped(self, protocol):
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake, greeted(fake) as raw:
            raw.send(command + PIPED_IN[protocol])
            assert raw.reply()[:3] == yes
            raw.wrap(trusting(fake))
            said, answer = FIRST[protocol]
            raw.send(said)
            assert raw.reply()[:3] == answer.decode()
            assert "evil" not in str(list(fake.journal.as_dicts()))

    def test_commands_before_a_client_hello_are_dropped_too(self, protocol):
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake, greeted(fake) as raw:
            hand = Handshake(raw.sock, trusting(fake))
            raw.send(command + PIPED_IN[protocol] * 3 + hand.hello())
            assert raw.line()[:3] == yes
            hand.finish(already=raw.buffer)
            goes_on(fake, hand)
            assert "evil" not in str(list(fake.journal.as_dicts()))

    def test_commands_that_come_later_fail_the_handshake(self, protocol):
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake, greeted(fake) as raw:
            raw.send(command)
            assert raw.reply()[:3] == yes
            raw.send(PIPED_IN[protocol])
            with contextlib.suppress(ConnectionResetError):
                raw.until_end()
            fake.wait_for(lambda journal: journal.connections[0].ended_by)
            assert "TLS handshake failed" in fake.journal.connections[0].error
            assert "evil" not in str(list(fake.journal.as_dicts()))

    def test_commands_behind_a_refused_upgrade_are_carried_out(self, protocol):
        """Then there is no TLS, and nothing was said before it."""
        command, _ = UPGRADES[protocol]
        scenario = rules(one(MOMENTS[protocol], reply="454 4.7.0 no TLS today"), protocol=protocol)
        with by_protocol(protocol)(scenario, tls="starttls") as fake, greeted(fake) as raw:
            raw.send(command + b"NOOP\r\n")
            assert [reply[:3] for reply in raw.replies(2)] == [
                "454",
                FIRST["ftp"][1].decode() if protocol == "ftp" else "250",
            ]
            assert fake.journal.count("noop") == 1


@given(
    lines=st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b and b[:1] != b"\x16"), max_size=5),
    hello=st.binary(),
)
@settings(max_examples=200, deadline=None)
def test_a_handshake_is_found_behind_any_lines(lines, hello):
    record = b"\x16\x03\x01" + hello
    assert handshake_in(b"".join(line + b"\r\n" for line in lines) + record) == record
    assert handshake_in(b"".join(line + b"\r\n" for line in lines)) == b""


class TestImplicitTLS:
    @pytest.mark.parametrize("piece", [1, 1 << 20])
    @pytest.mark.parametrize("protocol", ["smtp", "ftp", "http"])
    def test_from_the_first_byte(self, protocol, piece):
        with by_protocol(protocol)(tls="implicit") as fake, RawConnection(fake) as raw:
            hand = Handshake(raw.sock, trusting(fake))
            in_pieces(raw.sock, hand.hello(), piece)
            hand.finish(piece)
            if protocol != "http":
                assert hand.line().startswith(b"220")
            goes_on(fake, hand)

    @pytest.mark.parametrize("protocol", ["smtp", "ftp", "http"])
    def test_while_a_rule_holds_the_connection(self, protocol):
        scenario = rules(one("connect", delay="5s"), protocol=protocol)
        with by_protocol(protocol)(scenario, tls="implicit", clock=ManualClock()) as fake, RawConnection(fake) as raw:
            hand = Handshake(raw.sock, trusting(fake))
            raw.send(hand.hello())
            fake.wait_for(lambda journal: journal.count("connect"))
            fake.settle()
            if protocol == "http":
                fake.clock.advance("5s")
                hand.finish()
            else:  # the greeting is what waits, behind the handshake
                hand.finish()
                fake.wait_for(lambda journal: journal.connections[0].tls)
                fake.settle()
                fake.clock.advance("5s")
                assert hand.line().startswith(b"220")
            goes_on(fake, hand)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("piece", [1, 1 << 20])
class TestDataConnections:
    """PROT P (RFC 4217 §9): a handshake of its own for each."""

    def control(self, fake: FakeFTP) -> ftp_client.Raw:
        if fake.tls == "implicit":
            raw = ftp_client.Raw(fake, tls=trusting(fake))
            assert raw.code() == "220"
        else:
            raw = ftp_client.Raw(fake)
            assert raw.code() == "220"
            raw.auth(trusting(fake))
        assert raw.login().code("PBSZ 0") == "200"
        assert raw.code("PROT P") == "200"
        return raw

    @pytest.mark.parametrize("mode", ["PASV", "EPSV", "PORT", "EPRT"])
    def test_the_client_hello_comes_behind_the_reply(self, tls, mode, piece):
        with FakeFTP(tls=tls) as fake, self.control(fake) as raw, raw.data(mode) as data:
            assert raw.code("RETR big.bin") in ("125", "150")
            data.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hand = Handshake(data.sock, trusting(fake))
            in_pieces(data.sock, hand.hello(), piece)
            hand.finish(piece)
            assert hand.rest() == filling(ftp_client.BIG)
            assert raw.code() == "226"

    @pytest.mark.parametrize("mode", ["PASV", "EPSV"])
    def test_the_client_hello_comes_before_the_command(self, tls, mode, piece):
        """On a passive connection the client may begin at once; an active one is made when the command has come."""
        with FakeFTP(tls=tls) as fake, self.control(fake) as raw, raw.data(mode) as data:
            data.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hand = Handshake(data.sock, trusting(fake))
            in_pieces(data.sock, hand.hello(), piece)
            fake.settle()
            assert raw.code("RETR big.bin") in ("125", "150")
            hand.finish(piece)
            assert hand.rest() == filling(ftp_client.BIG)
            assert raw.code() == "226"


class TestTheSeamOfAsyncio:
    """`asyncio.sslproto.SSLProtocol` does the TLS of an upgrade, on either loop."""

    def test_an_aborted_handshake_wakes_its_waiter_and_tells_nobody(self):
        """So we look whether TLS is there, and say `connection_lost` ourselves."""
        with upgradable("smtp") as fake, greeted(fake) as raw:
            raw.send("STARTTLS\r\n")
            assert raw.reply()[:3] == "220"
            (session,) = fake._bridge.sessions.values()
            fake.wait_for(lambda journal: session.life.fake is UPGRADING)
            assert isinstance(session.transport.get_protocol(), SSLProtocol)
            fake._bridge.runner.call(session.abort)
            fake.wait_for(lambda journal: journal.connections[0].ended_by)
            assert fake.journal.connections[0].error == "TLS handshake failed: the connection was lost"

    @protocols
    def test_a_fake_that_stops_does_not_wait_for_a_handshake(self, protocol):
        command, yes = UPGRADES[protocol]
        with upgradable(protocol) as fake:
            raw = greeted(fake)
            raw.send(command)
            assert raw.reply()[:3] == yes
        with raw, contextlib.suppress(ConnectionResetError):
            assert raw.until_end() == ""
        assert not fake._bridge.sessions
