"""Run fakes in the foreground: start them, pass on their journal entries, stop on a signal."""

from __future__ import annotations

import contextlib
import os
import queue
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from notnow.cli import Refused, _pid1
from notnow.clock import AdjustableClock, RealClock, Stamps
from notnow.servers import by_protocol
from notnow.servers.base.stopping import all_stopped

if TYPE_CHECKING:
    from notnow.cli._targets import Target
    from notnow.journal import Entry
    from notnow.servers.base.fake import Fake

MOST_WAITING = 100_000  # the most journal entries that wait for a slow reader
BATCH = 5000
GROUP = "main"  # the group of the servers that `serve` starts: they share a clock


@dataclass(slots=True, eq=False)
class Feed:
    """Journal entries in transit from the fakes' thread to the view.

    A slow reader never delays the fakes: beyond `MOST_WAITING` entries, the newest are dropped and counted.
    """

    dropped: int = 0
    stopping: bool = False
    _told: int = 0
    _entries: queue.SimpleQueue[Entry | None] = field(default_factory=queue.SimpleQueue)

    def listen(self, entry: Entry) -> None:
        if self._entries.qsize() < MOST_WAITING:
            self._entries.put(entry)
        else:
            self.dropped += 1

    def stop(self) -> None:
        """Make the waiting reader stop. A signal handler may call this: `SimpleQueue.put` is reentrant."""
        self.stopping = True
        self.wake()

    def wake(self) -> None:
        """Wake the waiting reader, without an entry."""
        self._entries.put(None)

    def take(self, timeout: float) -> list[Entry]:
        """The new entries in order, at most `BATCH`; waits up to this many real seconds for the first."""
        found: list[Entry | None] = []
        get = self._entries.get_nowait
        with contextlib.suppress(queue.Empty):
            found.append(self._entries.get(timeout=timeout) if timeout else get())
            found += [get() for _ in range(min(self._entries.qsize(), BATCH - 1))]  # nobody else takes any
        return [entry for entry in found if entry is not None]  # the wake-up is not an entry, and entries may follow it

    def take_dropped(self) -> int:
        """The number of entries dropped since the last call."""
        before, self._told = self._told, self.dropped
        return self._told - before


class Stoppable(Protocol):
    """Something that a signal handler may stop."""

    def stop(self) -> None: ...


@contextlib.contextmanager
def signals_stop(work: Stoppable) -> Iterator[None]:
    """Ctrl-C, SIGTERM and the end of the terminal stop the work; a second Ctrl-C or SIGTERM aborts."""
    caught = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        caught.append(signal.SIGHUP)  # under nohup, the signal stays ignored
    before = {number: signal.getsignal(number) for number in caught}

    def handle(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _pid1.default())
        work.stop()

    for number in caught:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class ServingTerms:
    """How to serve: `control` is the host and port of the control API, None for none; `token` the one that it asks for.

    `shared` is the URL of the service that this process is a replica of.
    `workers` is the number of processes that serve the clients of each server; 1 is this one.
    """

    speed: float = 1.0
    seed: int | None = None
    control: tuple[str, int] | None = None
    search_paths: Sequence[str] = ()
    token: str | None = None
    shared: str | None = None
    workers: int = 1

    @property
    def sharing(self) -> dict[str, Any]:
        """The options of a fake that is a replica: its service, and the clock that all servers of this process show."""
        if self.shared is None:
            return {}
        from notnow.shared.address import address

        return {"shared": self.shared, "clock": address(self.shared).new_clock()}


@dataclass(frozen=True, slots=True)
class Control:
    """Where the control API listens, and the token that it has made up, if any: one that was given stays out of logs."""

    url: str
    token: str | None


@dataclass(frozen=True, slots=True)
class Serving:
    """The fakes that run now, and their control API."""

    fakes: Callable[[], list[Fake]]
    control: Control | None = None


@contextlib.contextmanager
def serving(targets: Sequence[Target], feed: Feed, terms: ServingTerms) -> Iterator[Serving]:
    """The fakes of these targets, with a control API that may start more.

    Raises StartError if one cannot listen (then none is left running), FakeError if our own code has failed.
    """
    if terms.control is None:
        with running(
            targets, feed, speed=terms.speed, seed=terms.seed, workers=terms.workers, **terms.sharing
        ) as fakes:
            yield Serving(lambda: fakes)
        return
    fleet_module, server = _control()
    seed = secrets.randbelow(2**31) if terms.seed is None else terms.seed
    with (
        fast_loop(),
        fleet_module.Fleet(
            seed=seed,
            search_paths=terms.search_paths,
            listener=feed.listen,
            started=feed.wake,
            numbers=Stamps() if terms.workers > 1 else None,
            service=_service(fleet_module, terms),
        ) as fleet,
        server.controlled(fleet, *terms.control, terms.token) as api,
    ):
        for t in targets:
            given = {**t.options, "host": t.host, "port": t.port, "shared": terms.shared is not None}
            kind = _kind(t, terms.workers, controlled=True)
            member = fleet.start(t.scenario, name=t.name, group=GROUP, speed=terms.speed, kind=kind, **given)
            _stop_at_loss(member.fake, feed)
        yield Serving(
            lambda: [member.fake for member in fleet.members()], Control(api.url, None if terms.token else api.token)
        )


def _service(fleet_module: Any, terms: ServingTerms) -> Any:
    """What the servers are replicas of, if anything."""
    if terms.shared is None:
        return None
    from notnow.shared.address import address

    return fleet_module.Service(terms.shared, address(terms.shared).name, terms.sharing["clock"], GROUP)


def _control() -> tuple[Any, Any]:
    """The modules of the control API. Raises Refused if what they need is not installed."""
    try:
        from notnow.control import fleet, server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("notnow"):
            raise
        raise Refused(
            [f"--control needs {error.name}, which is not installed: pip install 'notnow[control]'"]
        ) from None
    return fleet, server


def _kind(target: Target, workers: int, *, controlled: bool = False) -> type[Fake]:
    """The class of a server; only over the control API, decisions can be explained. Raises ScenarioError if it cannot have
    workers.
    """
    if workers == 1:
        return by_protocol(target.scenario.protocol)
    from notnow.servers.workers.many import many

    return many(target.scenario.protocol, workers, traced=controlled, app=target.app)


def _stop_at_loss(fake: Fake, feed: Feed) -> None:
    """Stop when a worker has been lost, since its journal is lost with it."""
    if (on_loss := getattr(fake, "on_loss", None)) is not None:
        on_loss(feed.stop)


@contextlib.contextmanager
def running(
    targets: Sequence[Target], feed: Feed, *, speed: float, seed: int | None, workers: int = 1, **sharing: Any
) -> Iterator[list[Fake]]:
    """The fakes of these targets, on one clock and in one order; all are stopped at the end.

    Raises StartError if one cannot listen (then none is left running), FakeError if our own code has failed.
    """
    clock = RealClock(speed) if workers == 1 else AdjustableClock(speed, Stamps())
    seed = secrets.randbelow(2**31) if seed is None else seed
    fakes = [
        _kind(t, workers)(
            t.scenario, name=t.name, host=t.host, port=t.port, seed=seed, **{"clock": clock, **t.options, **sharing}
        )
        for t in targets
    ]
    with fast_loop(), all_stopped(fakes):
        for fake in fakes:
            fake.journal.subscribe(feed.listen)
            fake.start()
            _stop_at_loss(fake, feed)
        yield fakes


@contextlib.contextmanager
def fast_loop() -> Iterator[None]:
    """uvloop, if it is installed and the user has not chosen a loop: under load it is nearly twice as fast."""
    if "NOTNOW_LOOP" in os.environ or find_spec("uvloop") is None:
        yield
        return
    os.environ["NOTNOW_LOOP"] = "uvloop"
    try:
        yield
    finally:
        del os.environ["NOTNOW_LOOP"]
