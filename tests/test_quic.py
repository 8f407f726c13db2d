"""The UDP port of an HTTP fake: it counts QUIC's Initials and is silent, or it is closed."""

from __future__ import annotations

import socket
import struct

import pytest

import toml_rules
from http_client import H2, rules
from notnow import FakeHTTP
from notnow.errors import ScenarioError, StartError
from notnow.servers.http import quic

SILENT, CLOSED = '[server]\nh3 = "silent"\n', '[server]\nh3 = "closed"\n'
V1, V2 = 1, 0x6B3343CF


def packet(version: int = V1, kind: int = 0, first: int = 0xC0, id: bytes = b"12345678", size: int = 1200) -> bytes:
    """A long header (RFC 9000 §17.2), and padding: nobody looks behind it."""
    head = struct.pack(">BIB", first | kind << 4, version, len(id)) + id
    return head + bytes(size - len(head))


@pytest.mark.parametrize(
    ("datagram", "version"),
    [
        (packet(), V1),
        (packet(id=b""), V1),
        (packet(id=b"x" * 20), V1),
        (packet(V2, 1), V2),
        (packet(0x1A2A3A4A, 3), 0x1A2A3A4A),  # reserved, to try version negotiation (RFC 9000 §15)
        (packet(kind=1), None),  # 0-RTT
        (packet(kind=2), None),  # Handshake
        (packet(kind=3), None),  # Retry
        (packet(V2, 0), None),  # Retry of version 2 (RFC 9369 §3.2)
        (packet(0), None),  # version negotiation
        (packet(first=0x40), None),  # a short header
        (packet(first=0x80), None),  # not QUIC (RFC 9000 §17.2)
        (packet(id=b"x" * 21), None),
        (packet()[:13], None),  # its id is not all there
        (b"", None),
        (b"\xc0\0\0\0\1", None),
        (b"GET / HTTP/1.1\r\n\r\n", None),
    ],
)
def test_what_is_an_initial(datagram, version):
    found = quic.initial(datagram)
    assert (found and found.version) == version


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(10)
        yield made


def refused(client: socket.socket, fake: FakeHTTP) -> bool:
    """True where ICMP says that nobody listens."""
    client.connect((fake.host, fake.port))
    client.send(packet())
    try:
        client.recv(100)
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_initials_are_counted_and_nobody_answers(host):
    with FakeHTTP(rules(head=SILENT), host=host) as fake:
        assert fake.journal.count("initial") == 0
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((host, fake.port))
            for datagram in (packet(), packet(), b"no QUIC", packet(kind=2), packet(id=b"another")):
                client.send(datagram)
            fake.wait_for(lambda j: j.count("initial") == 3)
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(100)
        told = [mark.text for mark in fake.journal.marks if mark.kind == "initial"]
        assert [text.partition(", ")[2] for text in told] == ["version 0x1, 1200 bytes"] * 2  # the second is said again
        with H2(fake) as other:
            assert other.get().status == 200
        assert len(fake.journal.connections) == 1
        assert fake.journal.count("any") == 1  # the request: an Initial is no command


def test_the_journal_stays_small(client):
    with FakeHTTP(rules(head=SILENT)) as fake:
        client.connect((fake.host, fake.port))
        for i in range(quic.MOST_TOLD + 50):
            client.send(packet(id=b"%08d" % i))
            if i % 20 == 0:
                fake.settle()
        fake.wait_for(lambda j: j.count("initial") == quic.MOST_TOLD + 50)
        assert sum(mark.kind == "initial" for mark in fake.journal.marks) == quic.MOST_TOLD


@pytest.mark.parametrize("head", ["", CLOSED])
def test_the_port_is_closed_where_nothing_is_said(client, head):
    with FakeHTTP(rules(head=head)) as fake:
        assert refused(client, fake)


def test_another_scenario_opens_and_closes_it(client):
    with FakeHTTP(rules(head=CLOSED)) as fake:
        fake.play(rules(head=SILENT))
        client.sendto(packet(), (fake.host, fake.port))
        fake.wait_for(lambda j: j.count("initial") == 1)
        fake.play(rules(head=SILENT))
        client.sendto(packet(), (fake.host, fake.port))
        fake.wait_for(lambda j: j.count("initial") == 2)
        fake.play(rules(head=CLOSED))
        assert refused(client, fake)


def test_it_is_free_when_the_fake_has_stopped(client):
    with FakeHTTP(rules(head=SILENT)) as fake:
        place = fake.host, fake.port
    client.bind(place)


def test_a_port_that_is_taken_for_udp_is_said(client):
    with FakeHTTP() as other:
        free = other.port
    client.bind(("127.0.0.1", free))
    with pytest.raises(StartError, match=rf"cannot listen on UDP 127\.0\.0\.1:{free}: "):
        FakeHTTP(rules(head=SILENT), port=free).start()
    with FakeHTTP(rules(head=CLOSED), port=free):
        pass


def test_any_port_is_one_that_is_free_for_udp_as_well(monkeypatch):
    tried = []

    class Unlucky(quic.Silent):
        def __init__(self, loop, beside, journal):
            tried.append(beside[2][1])
            if len(tried) < 3:
                raise quic.UDPTakenError("taken")
            super().__init__(loop, beside, journal)

    monkeypatch.setattr("notnow.servers.http.bridge.Silent", Unlucky)
    with FakeHTTP(rules(head=SILENT)) as fake:
        assert (len(tried), fake.port) == (3, tried[-1])


def test_it_is_http_s():
    with pytest.raises(ScenarioError, match="'h3' is for HTTP servers"):
        toml_rules.rules(head=SILENT, protocol="smtp")
    with pytest.raises(ScenarioError, match="silent"):
        rules(head='[server]\nh3 = "quiet"\n')
