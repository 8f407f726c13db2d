"""TLS as a fake stops: its end comes once a client is quiet, long before the fake's patience does, and without timers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from notnow import FakeFTP, FakeSMTP
from notnow.servers.base import bridge, closing
from notnow.servers.base.closing import Closing
from notnow.servers.base.fake import Fake
from raw_connection import PATIENCE, trusting

LONG = 2 * PATIENCE  # real seconds
pytestmark = pytest.mark.usefixtures("each_loop")


@pytest.fixture(params=[FakeSMTP, FakeFTP])
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    """A fake whose clients have more time than they have patience."""
    monkeypatch.setattr(bridge, "GRACE", LONG)
    monkeypatch.setattr(closing, "SHUTDOWN", LONG)
    with request.param(tls="implicit") as fake:
        yield fake


@contextlib.contextmanager
def a_client(fake: Fake, word: bytes = b"") -> Iterator[list[bytes]]:
    """What a client is told as the fake stops, to the end of TLS; it answers its goodbye with `word`."""
    told: list[bytes] = []
    with (
        socket.create_connection((fake.host, fake.port), PATIENCE) as plain,
        trusting(fake).wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        assert sock.recv(512)

        def live() -> None:
            with contextlib.suppress(OSError):  # its time is up, or the end of TLS was missing
                told.append(sock.recv(512))
                if word:
                    sock.sendall(word)
                while told[-1]:
                    told.append(sock.recv(512))
            sock.close()

        thread = threading.Thread(target=live)
        thread.start()
        try:
            yield told
        finally:
            thread.join()


def test_a_quiet_client_gets_the_end_of_tls(fake: Fake) -> None:
    with a_client(fake) as told:
        fake.stop()
    assert told[0].startswith(b"421 ")
    assert told[-1] == b""


def test_one_that_still_sends_gets_it_when_it_is_quiet(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(bridge, "QUIET", 0.5)  # so that the client's word comes before the first look at it

    def look(session: Closing, own: Callable[[Closing], None] = Closing.end_if_quiet) -> None:
        heard = session._heard
        own(session)
        seen.append((heard, session.transport.is_closing()))

    monkeypatch.setattr(Closing, "end_if_quiet", look)
    with a_client(fake, b"NOOP\r\n") as told:
        fake.stop()
    assert told[-1] == b""
    assert seen[:2] == [(True, False), (False, True)]
    (connection,) = fake.journal.connections
    assert connection.after == "NOOP\r\n"


def test_no_timer_is_set_for_any(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 clients would have three each."""
    set_: list[object] = []
    monkeypatch.setattr(Closing, "_next_look", lambda _session, timer: set_.append(timer))
    with a_client(fake):
        fake.stop()
    assert set_ == []
