"""Nothing that a fake asks of a socket fails the fake because the client has closed it in the same turn of the loop."""

from __future__ import annotations

import socket

import pytest

from ftp_client import Raw, one, rules
from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.servers.base import listener as _listener
from notnow.servers.base import tls
from notnow.servers.base.transport import Plain


def closed() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


COMMANDS = [
    "PASV",
    "EPSV",
    "EPSV 1",
    "EPSV 2",
    "STAT",
    "PORT 127,0,0,1,200,10",
    "EPRT |1|127.0.0.1|9999|",
    "LIST",
    "QUIT",
]


@pytest.mark.parametrize("delay", [None, "0s"])
@pytest.mark.parametrize("line", COMMANDS)
def test_an_ftp_command_behind_which_the_client_closed(line, delay):
    scenario = rules(one("any", delay=delay)) if delay else "ftp/healthy"
    with FakeFTP(scenario) as fake, Raw(fake).hello():
        (session,) = fake._bridge.sessions.values()

        def gone() -> None:
            session.transport.pause_reading()
            session.raw.close()
            session.on_data(line.encode() + b"\r\n")

        fake._bridge.runner.call(gone)
        fake.settle()
        fake._bridge.runner.call(session.abort)  # or it would wait for an end that nobody reports any more
        fake.wait_for(lambda _: not fake._bridge.sessions)
        assert fake.journal.exchanges[-1].request == line


def test_an_ftp_client_that_is_gone_when_it_is_accepted(monkeypatch):
    with FakeFTP() as fake:
        accept = fake._bridge.listener._accepted

        def gone(sock: socket.socket, address: tuple[str, int]) -> None:
            monkeypatch.setattr(fake._bridge.listener, "_accepted", accept)
            sock.close()
            accept(sock, address)

        monkeypatch.setattr(fake._bridge.listener, "_accepted", gone)
        with Raw(fake) as raw:
            assert raw.until_end() == ""
        Raw(fake).hello().close()
        fake.wait_for(lambda j: all(c.ended_by for c in j.connections))


def test_a_reset_of_what_is_closed():
    _listener.reset_on_close(closed())
    _listener.reset(closed())


def test_an_alert_for_who_is_gone():
    tls.send_alert(closed(), "unrecognized_name")
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        tls.send_alert(ours, "unrecognized_name")


class Gone:
    """A socket that takes what is sent, and whose client has reset it then."""

    def fileno(self) -> int:
        return 1_000_000

    def send(self, data: bytes) -> int:
        return len(data)

    def shutdown(self, how: int) -> None:
        raise OSError(107, "Transport endpoint is not connected")

    def close(self) -> None: ...


class Listening:
    lost: list[Exception | None]

    def __init__(self) -> None:
        self.lost = []

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


class Loop:
    def remove_reader(self, number: int) -> None: ...
    def remove_writer(self, number: int) -> None: ...


@pytest.mark.parametrize("choked", [False, True])
def test_an_end_of_our_side_that_comes_too_late(choked):
    protocol = Listening()
    plain = Plain(Loop(), Gone(), protocol)  # type: ignore[arg-type]
    plain._buffer, plain._ends, plain._choked = bytearray(b"221 bye\r\n"), True, choked
    plain._writable()
    (error,) = protocol.lost
    assert isinstance(error, OSError)


@pytest.mark.parametrize("said", [b"QUIT\r\n", b""], ids=["closes at a command", "closes at the end of the client"])
def test_a_protocol_that_closes_is_told_of_the_loss_once_it_has_returned(said):
    """In that turn of the loop, not in the next one, and not in the middle of its own work."""
    told: list[object] = []

    class Watched(Loop):
        def add_reader(self, number: int, *_: object) -> None: ...

    class Closes:
        def connection_made(self, transport: Plain) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.close()
            told.append(data)

        def eof_received(self) -> None:
            told.append(b"")

        def connection_lost(self, error: Exception | None) -> None:
            told.append(error)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        plain = Plain(Watched(), ours, Closes())  # type: ignore[arg-type]
        plain.begin()
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        plain._read()
        assert told == [said, None]
        assert ours.fileno() < 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("kind", [FakeSMTP, FakeFTP, FakeHTTP])
def test_a_host_of_both_families_listens_on_both(kind):
    with kind(host="::") as fake:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, fake.port), timeout=5):
                fake.wait_for(lambda j, host=host: j.connections and j.connections[-1].client == host)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(("host", "mode"), [("127.0.0.1", "PASV"), ("127.0.0.1", "EPSV"), ("127.0.0.1", "PORT"),
                                            ("127.0.0.1", "EPRT"), ("::1", "EPSV"), ("::1", "EPRT")])  # fmt: skip
def test_transfers_at_a_host_of_both_families(host, mode):
    with FakeFTP(rules(one("user", where={"client": "10.*"}, reply="530 no")), host="::") as fake:
        fake.host = host  # where this client looks for it
        with Raw(fake).hello() as raw:
            assert raw.get("RETR small.txt", mode) == b"A small file.\n"
            assert raw.put("STOR new", b"x", mode).startswith("226")
            assert raw.say("PASV")[:3] == ("425" if host == "::1" else "227")
