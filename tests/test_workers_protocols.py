"""One table of behaviours for fakes with workers of every protocol: to clients they are one server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from notnow.clock import Stamps
from notnow.errors import FakeError
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.servers.workers.duty import BRIDGES
from playbook import document, phase, rule
from workers_ftp import crew

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")

WORKERS = 3
PATIENCE = 30.0  # real seconds; only a bug takes longer


@pytest.fixture(scope="module", params=BRIDGES)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    with crew(healthy(request.param), WORKERS, speed=0) as fake:
        yield fake


@pytest.fixture
def fake(shared: Any) -> Iterator[Any]:
    yield shared
    shared.play(healthy(shared.protocol))
    shared.kick()
    shared.catch_up()
    shared.wait_for(lambda journal: all(c.ended_by for c in journal.connections), timeout=PATIENCE)
    shared.reset()


def healthy(protocol: str) -> Scenario:
    return played(protocol, phase(name="healthy"))


def played(protocol: str, *parts: Any) -> Scenario:
    return loads(document(*parts, protocol=protocol, server={"tls": "none"}))


def refusing(**conditions: Any) -> Any:
    """A rule that refuses at connect, in a way that every protocol knows."""
    return rule("connect", **conditions, close=True)


class Guest:
    """A client that is let in, or refused by a close."""

    def __init__(self, fake: Any) -> None:
        self.protocol = fake.protocol
        self.sock = socket.create_connection((fake.host, fake.port), timeout=PATIENCE)
        self.file = self.sock.makefile("rb")
        self.let_in = self.is_served()

    def is_served(self) -> bool:
        """True if there is a greeting; over HTTP, an answer."""
        try:
            if self.protocol == "http":
                self.sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return self.file.readline()[:12] in (b"HTTP/1.1 200", b"220 fake.not")
        except ConnectionError:
            return False

    def read_to_the_end(self) -> None:
        """Raises TimeoutError if it does not come."""
        with contextlib.suppress(ConnectionError):
            self.file.read()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def burst(fake: Any) -> Iterator[Any]:
    """Let so many clients come, as nearly at the same time as threads can; how many were let in."""
    guests: list[Guest] = []

    def come(n: int) -> int:
        with ThreadPoolExecutor(n) as pool:
            new = list(pool.map(lambda _: Guest(fake), range(n)))
        guests.extend(new)
        return sum(guest.let_in for guest in new)

    come.guests = guests  # type: ignore[attr-defined]
    yield come
    for guest in guests:
        guest.close()


def test_clients_are_spread_over_the_workers(fake: Any, burst: Any) -> None:
    assert burst(40) == 40
    fake.catch_up()
    places = {c.exchanges[0].index % Stamps.PLACES for c in fake.journal.connections}
    assert places == {worker.place for worker in fake._bridge.crew.living}


def test_a_cap_admits_exactly_that_many_and_a_slot_is_free_when_its_client_has_left(fake: Any, burst: Any) -> None:
    fake.play(played(fake.protocol, refusing(over=5)))
    assert burst(30) == 5
    inside = [guest for guest in burst.guests if guest.let_in]
    for _ in range(10):
        inside.pop(0).close()
        inside.append(Guest(fake))
        burst.guests.append(inside[-1])
    assert all(guest.let_in for guest in inside)
    assert burst(5) == 0


def test_a_quota_a_first_n_and_a_firing_that_may_happen_twice_are_exact(fake: Any, burst: Any) -> None:
    fake.play(played(fake.protocol, refusing(over=10, within="1h")))
    assert burst(30) == 10
    fake.play(played(fake.protocol, refusing(first=3)))
    assert burst(20) == 17
    fake.play(played(fake.protocol, refusing(times=2)))
    assert burst(20) == 18


def test_a_phase_ends_with_exactly_its_last_event_by_hand_and_in_its_time(fake: Any, burst: Any) -> None:
    fake.play(played(fake.protocol, phase(refusing(), until={"connect": 7}), phase(name="over")))
    assert (burst(25), fake.phase) == (18, "over")
    fake.play(played(fake.protocol, phase(refusing(), name="busy"), phase(name="over")))
    assert burst(6) == 0
    fake.next_phase()
    assert burst(6) == 6
    fake.play(played(fake.protocol, phase(refusing(), lasts="10m"), phase(name="over")))
    assert burst(6) == 0
    fake.clock.advance("11m")
    assert burst(6) == 6


def test_kick_cuts_off_all_and_counts_them(fake: Any, burst: Any) -> None:
    assert burst(15) == 15
    assert fake.kick() == 15
    for guest in burst.guests:
        guest.read_to_the_end()
    assert fake.kick() == 0


def test_live_connections_keep_their_slots_when_another_scenario_is_played(fake: Any, burst: Any) -> None:
    assert burst(6) == 6
    fake.play(played(fake.protocol, refusing(over=8)))
    assert burst(12) == 2


def test_the_journal_is_one_and_in_order(fake: Any, burst: Any) -> None:
    fake.play(played(fake.protocol, refusing(first=4)))
    burst(12)
    fake.catch_up()
    entries = fake.journal.since_play()
    assert [x.index for x in entries] == sorted(x.index for x in entries)
    assert Counter(x.moment for x in entries)["connect"] == 12
    assert fake.fired["phase[0].rule[0]"].times == 4


@pytest.mark.parametrize("protocol", BRIDGES)
def test_a_worker_that_is_killed_is_an_error_and_its_slots_are_free(protocol: str) -> None:
    lost = threading.Event()
    fake = crew(played(protocol, refusing(over=1)), 2).start()
    fake.on_loss(lost.set)
    inside = Guest(fake)
    fake.catch_up()
    worker = next(w for w in fake._bridge.crew.living if fake.journal.connections[0].id.startswith(w.duty.uid))
    refused = Guest(fake)
    os.kill(worker.process.pid, signal.SIGKILL)
    assert lost.wait(PATIENCE)
    after = Guest(fake)
    assert [guest.let_in for guest in (inside, refused, after)] == [True, False, True]
    with pytest.raises(
        FakeError, match=r"was killed by signal 9 \(Killed\), and its clients are cut off; .* notnow stops$"
    ):
        fake.stop()
    for guest in (inside, refused, after):
        guest.close()
