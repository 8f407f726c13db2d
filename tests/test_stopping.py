"""Fakes that stop together: all clients are told before any is waited for, and what fails in one keeps no other from its end."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from notnow import FakeFTP, FakeHTTP, FakeSMTP, environment, scenario
from notnow.cli._serving import Feed, ServingTerms, serving
from notnow.cli._targets import Target
from notnow.clock import AdjustableClock, Stamps
from notnow.errors import FakeError
from notnow.journal import Entry
from notnow.servers.base import bridge, listener, runner, services
from notnow.servers.base.fake import Fake
from notnow.servers.base.polling import POLLS_ON
from notnow.servers.base.runner import Runner, polls_on
from notnow.servers.base.stopping import all_stopped, stop_all
from notnow.servers.workers.crew import Crew
from notnow.servers.workers.many import many

PATIENCE = 10.0  # real seconds that a client waits until it is told
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
GOODBYE = {"smtp": b"421", "ftp": b"421", "http": b"\x07"}  # a GOAWAY is a frame of type 7
each_loop = pytest.mark.usefixtures("each_loop")


@pytest.fixture
def long_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients have more time for their goodbye than those of these tests have patience."""
    monkeypatch.setattr(bridge, "GRACE", 2 * PATIENCE)
    monkeypatch.setattr(listener, "LINGER", 2 * PATIENCE)


@contextmanager
def started() -> Iterator[list[Fake]]:
    fakes: list[Fake] = [FakeSMTP(), FakeFTP(), FakeHTTP(tls="none"), FakeSMTP()]
    with all_stopped(fakes):
        for fake in fakes:
            fake.start()
        yield fakes


def told(fake: Fake, sock: socket.socket) -> bool:
    """Wait until a client has its goodbye; False if that does not come."""
    said = b""
    while GOODBYE[fake.protocol] not in said and (data := sock.recv(512)):
        said += data
    return GOODBYE[fake.protocol] in said


@contextmanager
def a_client_of_each(fakes: Sequence[Fake]) -> Iterator[list[bool]]:
    """Whether each is told as its fake stops. None leaves before all have been: a fake that waits for its own waits long."""
    socks = [socket.create_connection((fake.host, fake.port), PATIENCE) for fake in fakes]
    for fake, sock in zip(fakes, socks, strict=True):
        sock.sendall(PREFACE if fake.protocol == "http" else b"")
        assert sock.recv(512)
    found: list[bool] = []

    def live() -> None:
        with contextlib.suppress(TimeoutError):
            found.extend(map(told, fakes, socks))
        for sock in socks:
            sock.close()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield found
    finally:
        thread.join()


@each_loop
@pytest.mark.usefixtures("long_grace")
def test_all_are_told_before_any_is_waited_for() -> None:
    with started() as fakes, a_client_of_each(fakes) as found:
        stop_all(fakes)
    assert found == [True] * 4
    assert not any(fake.running for fake in fakes)


@pytest.mark.parametrize("control", [None, ("127.0.0.1", 0)], ids=["alone", "with a control API"])
@pytest.mark.usefixtures("long_grace")
def test_serve_stops_its_servers_together(control: tuple[str, int] | None) -> None:
    names = "smtp/healthy", "ftp/healthy", "smtp/healthy"
    targets = [Target(f"s{n}", scenario(name), "127.0.0.1", 0) for n, name in enumerate(names)]
    with ExitStack() as clients, serving(targets, Feed(), ServingTerms(control=control)) as served:
        found = clients.enter_context(a_client_of_each(served.fakes()))
    assert found == [True] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_the_workers_of_all_stop_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []

    async def stop(crew: Crew, own: Any = Crew.stop) -> None:
        log.append("begins")
        await own(crew)
        log.append("ends")

    monkeypatch.setattr(Crew, "stop", stop)
    crews = [many("smtp", 1)(clock=AdjustableClock(1, Stamps())) for _ in range(2)]
    with all_stopped(crews):
        for crew in crews:
            crew.start()
    assert log == ["begins", "begins", "ends", "ends"]


def test_fakes_of_two_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvloop")
    fakes, before = [FakeSMTP(), FakeSMTP()], set(Runner._shared.values())  # other tests may have left some
    with all_stopped(fakes):
        for fake, loop in zip(fakes, ("asyncio", "uvloop"), strict=True):
            monkeypatch.setenv("NOTNOW_LOOP", loop)
            fake.start()
        runners = {fake._bridge.runner for fake in fakes}
        assert len(runners) == 2
    assert set(Runner._shared.values()) <= before  # one that others use goes on


# ---- what fails ----------------------------------------------------------------------------------


def fail(fake: Fake, error: Exception) -> None:
    fake._bridge.runner.call(lambda: fake._bridge.failed(error))


def test_the_error_of_the_first_is_raised_and_has_the_others() -> None:
    with started() as fakes:
        fail(fakes[1], ValueError("one"))
        fail(fakes[3], ValueError("other"))
        with pytest.raises(FakeError, match="the ftp fake itself failed: ValueError.'one'") as caught:
            stop_all(fakes)
    assert caught.value.__notes__ == ["the smtp fake itself failed: ValueError('other')"]
    assert not any(fake.running for fake in fakes)
    stop_all(fakes)  # the errors have been told


def test_what_cannot_be_shut_keeps_no_other_from_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with started() as fakes:
        own = fakes[0]._bridge.shut

        async def shut() -> None:
            await own()
            raise ValueError("not now")

        monkeypatch.setattr(fakes[0]._bridge, "shut", shut)
        with (
            a_client_of_each(fakes),
            pytest.raises(FakeError, match="the smtp fake itself failed: ValueError.'not now'"),
        ):
            stop_all(fakes)
    assert [(fake.running, fake._bridge.stopped, len(fake._bridge.sessions)) for fake in fakes] == [
        (False, True, 0)
    ] * 4


def test_what_fails_as_the_block_does_is_a_note_of_its_error() -> None:
    fake = FakeSMTP()
    with pytest.raises(ZeroDivisionError) as caught, all_stopped([fake]):
        fake.start()
        fail(fake, ValueError("not now"))
        raise ZeroDivisionError
    assert caught.value.__notes__ == ["the smtp fake itself failed: ValueError('not now')"]
    assert not fake.running


def test_the_environment_hears_of_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(environment.current, "stopped", heard.append)
    with started() as fakes:
        stop_all(fakes)
    assert heard == fakes


@pytest.mark.parametrize("on", [True, False], ids=["with a collector", "without"])
def test_the_collector_is_held_until_the_last_connection_has_ended(on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fake has too few to hold it, and all together have enough; it comes back once."""
    monkeypatch.setattr(services, "MANY", 4)
    seen: list[bool] = []
    with started() as fakes, a_client_of_each(fakes):
        for session in (session for fake in fakes for session in fake._bridge.sessions.values()):
            monkeypatch.setattr(session, "dismiss", lambda told=session.dismiss: seen.append(gc.isenabled()) or told())
            monkeypatch.setattr(session, "abort", lambda end=session.abort: seen.append(gc.isenabled()) or end())
        try:
            if not on:
                gc.disable()
            stop_all(fakes)
            assert gc.isenabled() is on
        finally:
            gc.enable()
    assert len(seen) >= 4
    assert not any(seen)


# ---- fakes whose runner somebody keeps, as the plugin does ---------------------------------------


@pytest.fixture
def keeper() -> Iterator[Runner]:
    runner = Runner.acquire()
    yield runner
    runner.release()


def kept(fake: Fake, keeper: Runner) -> Fake:
    fake._bridge.kept = keeper
    return fake.start()


@pytest.mark.skipif(not POLLS_ON, reason="the loop has to be woken there")
@pytest.mark.parametrize("make", [FakeSMTP, FakeFTP, lambda: FakeHTTP(tls="none")])
def test_a_fake_that_nobody_has_found_starts_and_ends_without_its_loop(make: Any, keeper: Runner) -> None:
    if not polls_on(keeper.loop):
        pytest.skip("uvloop has to be woken")
    awake, go_on = threading.Event(), threading.Event()

    def work() -> None:
        awake.set()
        go_on.wait(PATIENCE)

    keeper.loop.call_soon_threadsafe(work)
    assert awake.wait(PATIENCE)
    try:
        fake = kept(make(), keeper)
        port = fake.port
        fake.stop()
        assert not fake.running
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    finally:
        go_on.set()


@each_loop
@pytest.mark.parametrize("make", [FakeSMTP, FakeFTP, lambda: FakeHTTP(tls="none")])
def test_a_kept_fake_says_goodbye_to_its_client(make: Any, keeper: Runner) -> None:
    fake = kept(make(), keeper)
    with socket.create_connection((fake.host, fake.port), timeout=PATIENCE) as sock:
        sock.sendall(PREFACE if fake.protocol == "http" else b"")
        fake.wait_for(lambda journal: journal.connections)
        fake.stop()
        assert told(fake, sock)
    assert [connection.ended_by for connection in fake.journal.connections] == ["fake"]


@each_loop
def test_clients_that_come_as_a_kept_fake_stops_leave_nothing_open(keeper: Runner) -> None:
    """Each is told or cut off, whichever thread comes first, and what the journal has is whole."""
    draw, came = random.Random(1), 0
    for _ in range(200):
        fake = kept(FakeSMTP(), keeper)
        address, ends = (fake.host, fake.port), threading.Event()

        def come(address: tuple[str, int] = address, ends: threading.Event = ends) -> None:
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=PATIENCE) as sock:
                while sock.recv(512):
                    pass
            ends.set()

        threading.Thread(target=come, daemon=True).start()
        for _ in range(draw.randrange(2000)):
            pass
        fake.stop()
        assert ends.wait(PATIENCE), "a client waits for a fake that has stopped"
        assert not fake._bridge.sessions
        came += len(fake.journal.connections)
        assert all(connection.ended_by for connection in fake.journal.connections)
    keeper.call(lambda: None)  # raises what has failed in the loop
    assert not keeper.errors
    assert 0 < came < 200, f"{came} of 200 came in time: no race"


def test_a_kept_fake_that_forwards_ends_its_forwarding(keeper: Runner) -> None:
    with FakeSMTP() as behind:
        threads = threading.active_count()
        kept(FakeSMTP(forward=behind.url), keeper).stop()
        assert threading.active_count() == threads


def test_what_failed_in_the_loop_of_an_unused_fake_is_raised(keeper: Runner) -> None:
    fake = kept(FakeSMTP(), keeper)
    keeper.errors.append(RuntimeError("ours"))
    with pytest.raises(FakeError, match="ours"):
        fake.stop()


def test_clients_that_are_being_let_in_as_a_kept_fake_stops_are_told(
    keeper: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that stops it closes its port, and leaves those whom the loop has accepted to the loop."""
    fake = kept(FakeSMTP(), keeper)
    receive, came = fake._bridge._receive, iter(range(4))
    blocked, inside, go_on = threading.Event(), threading.Event(), threading.Event()

    def slowly(*given: Any) -> None:
        if next(came) == 1:
            inside.set()
            go_on.wait(PATIENCE)
        receive(*given)

    monkeypatch.setattr(fake._bridge, "_receive", slowly)
    with ExitStack() as stack:
        stack.callback(go_on.set)
        first = stack.enter_context(socket.create_connection((fake.host, fake.port), timeout=PATIENCE))
        assert first.recv(512)
        keeper.loop.call_soon_threadsafe(blocked.wait, PATIENCE)
        more = [stack.enter_context(socket.create_connection((fake.host, fake.port), PATIENCE)) for _ in range(3)]
        blocked.set()
        assert inside.wait(PATIENCE)
        assert not fake._bridge.close_unused()
        go_on.set()
        fake.stop()
        assert all(told(fake, sock) for sock in (first, *more))
    assert [connection.ended_by for connection in fake.journal.connections] == ["fake"] * 4


def test_a_kept_fake_does_not_wait_without_end_for_code_that_its_loop_calls(
    keeper: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = kept(FakeSMTP(), keeper)
    receive, inside, go_on = fake._bridge._receive, threading.Event(), threading.Event()

    def slowly(*given: Any) -> None:
        inside.set()
        go_on.wait(PATIENCE)
        receive(*given)

    monkeypatch.setattr(fake._bridge, "_receive", slowly)
    with socket.create_connection((fake.host, fake.port), timeout=PATIENCE):
        assert inside.wait(PATIENCE)
        with monkeypatch.context() as hasty, pytest.raises(TimeoutError, match="is something blocking it"):
            hasty.setattr(runner, "PATIENCE", 0.1)
            fake.stop()
        go_on.set()
        fake.stop()
    assert not fake.running


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_take_the_clients_of_its_parents_fake(keeper: Runner) -> None:
    fake = kept(FakeSMTP(), keeper)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: fork() in a process with threads
        pid = os.fork()
    if not pid:
        os._exit(fake._bridge.close_unused())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with socket.create_connection((fake.host, fake.port), timeout=PATIENCE) as sock:
        assert sock.recv(512).startswith(b"220")
    fake.stop()


@pytest.mark.parametrize("kind", ["kept", "other"])
def test_a_fake_that_its_own_thread_cannot_stop_goes_on(kind: str, keeper: Runner) -> None:
    fake, errors = FakeSMTP(), list[BaseException]()

    def stop(_entry: Entry) -> None:
        try:
            fake.stop()
        except RuntimeError as error:
            errors.append(error)

    with kept(fake, keeper) if kind == "kept" else fake:
        unsubscribe = fake.journal.subscribe(stop)
        with socket.create_connection((fake.host, fake.port), timeout=PATIENCE) as sock:
            assert sock.recv(512)
            fake.wait_for(lambda _: errors)
            unsubscribe()
            assert fake.running
            assert "would wait for itself" in str(errors[0])
            fake.stop()
            assert told(fake, sock)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((fake.host, fake.port), timeout=PATIENCE)
