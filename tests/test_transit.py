"""What the kernel says about bytes in transit, and what the clock of fast_forward makes of it."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Collection, Iterator

import pytest

from notnow import FakeSMTP
from notnow.time_travel import parties, transit, world
from notnow.time_travel.fast_forward import FastForward

pytestmark = [
    pytest.mark.usefixtures("watchdog"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not tell"),
]


@contextlib.contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket, set[int]]]:
    """A client's end, a server's end, and the server's port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server, _ = listener.accept()
    with client, server:
        yield client, server, {port}


def test_everything_has_arrived_though_an_acknowledgement_is_delayed() -> None:
    with connection() as (client, server, ports):
        for _ in range(3):  # a dialogue, in which Linux delays what it acknowledges
            client.send(b"NOOP\r\n")
            server.recv(99)
            server.send(b"250 ok\r\n")
            client.recv(99)
        client.send(b"NOOP\r\n")
        server.recv(99)
        assert transit.arrived([client.fileno()], ports)


def test_what_the_other_end_has_no_room_for_is_in_transit() -> None:
    with connection() as (client, server, ports):
        server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                server.send(bytes(65536))
        assert not transit.arrived([client.fileno()], ports)


def test_bytes_of_any_connection_count() -> None:
    with connection() as (client, _, ports), connection() as (_, other, more):
        assert transit.arrived([client.fileno()], ports | more)
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.send(bytes(65536))
        assert not transit.arrived([client.fileno()], ports | more)


def test_an_end_elsewhere_may_have_sent_something() -> None:
    with connection() as (client, server, ports), contextlib.ExitStack() as stack:
        one, other = map(stack.enter_context, socket.socketpair())
        socket.send_fds(one, [b"x"], [server.fileno()])  # there it stays open, as in another process
        server.close()
        assert not transit.arrived([client.fileno()], ports)
        _, handles, _, _ = socket.recv_fds(other, 1, 1)
        with socket.socket(fileno=handles[0]):
            assert transit.arrived([client.fileno()], ports)


def test_an_end_that_has_closed_sends_no_more() -> None:
    with connection() as (client, _, ports), connection() as (gone, server, more):
        gone.close()
        server.recv(1)
        assert transit.arrived([client.fileno()], ports | more)


def test_other_sockets_are_not_judged() -> None:
    one, other = socket.socketpair()
    with one, other, connection() as (client, _, ports):
        assert not transit.arrived([one.fileno()], ports)
        assert not transit.arrived([client.fileno()], {1})


# ---- under fast_forward --------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[tuple[FastForward, socket.socket]]:
    """A client that has been greeted, and waits for more."""
    with FastForward() as on, FakeSMTP("smtp/healthy", clock=on.clock) as smtp:
        with socket.create_connection((smtp.host, smtp.port), timeout=100) as client:
            client.recv(999)
            yield on, client


def test_a_time_out_costs_no_real_time_where_nothing_is_in_transit(
    silent: tuple[FastForward, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    on, client = silent
    waited = []

    def signalled(waits: list[parties.FileWait], timeout: float = 0.0) -> list[int]:
        waited.append(timeout)
        return parties.signalled(waits, timeout)

    monkeypatch.setattr(world, "signalled", signalled)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert on.clock.now() == 100
    assert world.LAST_LOOK not in waited


def test_what_arrives_at_the_last_moment_is_answered_before_the_time_out(
    silent: tuple[FastForward, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    on, client = silent

    def arrived(files: Collection[int], ports: Collection[int]) -> bool:
        if client.gettimeout() == 100:
            client.settimeout(99)  # once
            client.send(b"NOOP\r\n")  # arrives after the fakes have come to rest
        return transit.arrived(files, ports)

    monkeypatch.setattr(world, "arrived", arrived)
    assert client.recv(999).startswith(b"250")
    assert on.clock.now() == 0
