"""A scenario with other certificates is played while clients are in TLS: they keep the certificate that they were shown."""

from __future__ import annotations

import socket

import pytest

from ftp_client import BIG
from ftp_client import Raw as FTP
from handshake import Handshake
from notnow import FakeFTP, FakeHTTP
from notnow.servers.ftp.content import filling
from raw_connection import PATIENCE, trusting

pytestmark = pytest.mark.usefixtures("each_loop")


def test_in_the_middle_of_a_handshake() -> None:
    with FakeHTTP() as fake, socket.create_connection((fake.host, fake.port), PATIENCE) as sock:
        hand = Handshake(sock, trusting(fake))
        sock.sendall(hand.hello())
        fake.wait_for(lambda journal: journal.connections and journal.connections[0].tls)
        fake.play("http/untrusted-certificate")
        hand.finish()
        assert hand.say(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_before_a_private_transfer() -> None:
    with FakeFTP(tls="starttls") as fake, FTP(fake) as raw:
        context = trusting(fake)
        assert raw.code() == "220"
        raw.auth(context).login()
        raw.protect(context)
        fake.play("ftp/wrong-certificate")
        assert raw.get("RETR big.bin") == filling(BIG)
