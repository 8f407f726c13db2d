"""Thousands of connections in one fake: caps stay exact, the end of all of them is one stop, and nothing is left.

`python -m tests.bench --only held` measures 10,000 of them, beside the base libraries.
"""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.errors import FakeError
from notnow.servers.base import bridge, services

pytestmark = pytest.mark.usefixtures("each_loop")
COUNT = 1000  # those that are held, in this process as well: a client's socket is a file, too
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
FAKES = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": FakeHTTP}
CAPS = {"smtp": "smtp/too-many-connections", "ftp": "ftp/too-many-users"}
each = pytest.mark.parametrize("protocol", FAKES)


def connected(fake: FakeSMTP | FakeFTP | FakeHTTP, number: int) -> socket.socket:
    """A client's connection, from one of several addresses; it has begun in HTTP/2 if the fake speaks HTTP."""
    source = (ADDRESSES[number % len(ADDRESSES)], 0)
    sock = socket.create_connection((fake.host, fake.port), timeout=60, source_address=source)
    if fake.protocol == "http":
        sock.sendall(PREFACE)
    return sock


@contextmanager
def held(fake: FakeSMTP | FakeFTP | FakeHTTP, count: int) -> Iterator[list[socket.socket]]:
    """So many idle clients, each of which has been greeted."""
    with ExitStack() as stack:
        socks = [stack.enter_context(connected(fake, i)) for i in range(count)]
        for sock in socks:
            assert sock.recv(512)
        yield socks


def rest(sock: socket.socket) -> bytes:
    """What a client reads until the end of its connection; a client whose TCP was reset has read nothing more."""
    said = b""
    try:
        while data := sock.recv(65536):
            said += data
    except ConnectionResetError:
        pass
    return said


@pytest.mark.parametrize("protocol", CAPS)
def test_a_cap_of_a_thousand_is_exact(protocol: str) -> None:
    with FAKES[protocol](CAPS[protocol], cap=COUNT) as fake, held(fake, COUNT) as socks:
        for number in range(3):
            with connected(fake, number) as refused:
                assert refused.recv(512)[:3] == b"421"
        socks.pop().close()
        with connected(fake, 0) as next_one:
            assert next_one.recv(512)[:3] == b"220"
            assert len(fake._bridge.sessions) == COUNT


@each
def test_all_are_told_as_the_fake_stops(protocol: str) -> None:
    with FAKES[protocol](tls="none") as fake, held(fake, COUNT) as socks:
        bridge_ = fake._bridge
        fake.stop()
        said = [rest(sock) for sock in socks]
    goodbye = b"\x07" if protocol == "http" else b"421"  # a GOAWAY is a frame of type 7
    assert all(goodbye in one for one in said)
    assert not bridge_.sessions
    assert not bridge_.tasks
    assert {connection.ended_by for connection in fake.journal.connections} == {"fake"}


@each
def test_a_slow_stop_is_no_failure(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, one turn of a loop with thousands of connections takes longer than our patience."""
    monkeypatch.setattr(bridge, "PATIENCE", 0.0)
    with FAKES[protocol](tls="none") as fake, held(fake, 200):
        fake.stop()
    assert not fake._bridge.sessions


def test_what_does_not_end_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "PATIENCE", 0.0)
    with FakeSMTP() as other, FakeSMTP() as fake, held(fake, 50):
        ends = [session.abort for session in fake._bridge.sessions.values()]
        for session in fake._bridge.sessions.values():
            monkeypatch.setattr(session, "abort", lambda: None)
            monkeypatch.setattr(session, "dismiss", lambda: False)
        with pytest.raises(FakeError, match="50 did not end") as caught:
            fake.stop()
        other._bridge.runner.call(lambda: [end() for end in ends])  # the loop is that of both
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("on", [True, False], ids=["with a collector", "without"])
def test_the_garbage_collector_is_as_it_was(on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(services, "MANY", 10)
    with FakeSMTP() as fake, held(fake, 10):
        for session in fake._bridge.sessions.values():
            monkeypatch.setattr(session, "dismiss", lambda told=session.dismiss: seen.append(gc.isenabled()) or told())
        try:
            if not on:
                gc.disable()
            fake.stop()
            assert gc.isenabled() is on
        finally:
            gc.enable()
    assert seen == [False] * 10
