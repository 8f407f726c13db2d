"""What a bridge has to do with other replicas: nothing, or everything that `notnow.shared` needs of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from notnow.engine.events import Tick
from notnow.engine.store import Store
from notnow.engine.trail import Traced
from notnow.errors import NotRunningError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from notnow.clock import Clock
    from notnow.engine.actions import Action, Script
    from notnow.engine.engine import Engine
    from notnow.journal import Journal, Recorder
    from notnow.language.scenario import Scenario
    from notnow.servers.base.options import Options
    from notnow.servers.base.runner import Runner
    from notnow.shared.address import Address


class Host(Protocol):
    """A bridge, as far as its replica needs it."""

    options: Options
    clock: Clock
    scenario: Scenario
    engine: Engine
    journal: Journal
    recorder: Recorder

    @property
    def running(self) -> bool: ...
    @property
    def runner(self) -> Runner: ...
    @property
    def loop(self) -> AbstractEventLoop: ...
    @property
    def farewell(self) -> tuple[Action, ...]: ...
    def apply_server_table(self) -> None: ...
    def feed(self, event: Tick) -> object: ...
    def swap(self, scenario: Scenario, now: float) -> list[Script]: ...
    def cut_off(self) -> int: ...
    def moved(self) -> None: ...
    def arrive(self) -> None: ...


class Sharing(Protocol):
    """A fake's share in a service. `start`, `finish`, `stop` and `settle` are for any thread but the loop's."""

    can_explain: bool

    @property
    def service(self) -> str | None: ...
    def new_store(self) -> Store: ...
    def start(self) -> None: ...
    def let_go(self) -> None: ...
    def finish(self) -> None: ...
    def stop(self) -> None: ...
    def play(self, scenario: Scenario) -> None: ...
    def kick(self) -> None: ...
    def next_phase(self) -> None: ...
    def settle(self) -> None: ...


class Alone:
    """A fake that shares nothing."""

    can_explain = True
    service = None

    def new_store(self) -> Store:
        return Traced()

    def start(self) -> None: ...
    def let_go(self) -> None: ...
    def finish(self) -> None: ...
    def stop(self) -> None: ...
    def play(self, scenario: Scenario) -> None: ...
    def kick(self) -> None: ...
    def next_phase(self) -> None: ...
    def settle(self) -> None: ...


ALONE = Alone()


class Shared:
    """A replica: what others decide is carried out here, and the other way round."""

    can_explain = False

    def __init__(self, bridge: Host, address: Address, name: str) -> None:
        from notnow.shared.clock import SharedClock
        from notnow.shared.heart import Heart
        from notnow.shared.replica import Replica

        assert isinstance(bridge.clock, SharedClock), "the options see to it"
        self._bridge = bridge
        self._kicks = 0  # those of the service that were carried out here
        self._unsubscribe: Callable[[], object] = lambda: None
        self.replica = Replica(address, name, bridge.clock, bridge.scenario)
        self.replica.on_lost, self.replica.on_back = self._lost, self._back
        self.replica.on_moved, self.replica.on_corrected = bridge.moved, self._corrected
        self.heart = Heart(self.replica, self._in_loop, self._follow, bridge.arrive)

    @property
    def service(self) -> str | None:
        return self.replica.service

    def new_store(self) -> Store:
        from notnow.shared.store import RedisStore

        self._store = RedisStore(self.replica)
        return self._store

    # ---- life: for any thread but the loop's -----------------------------------------------------

    def start(self) -> None:
        """Join the service, and play what it plays. Raises StartError."""
        bridge, engine = self._bridge, self._bridge.engine
        joined = self.replica.join()
        engine.seed = bridge.options.seed + joined - 1  # replicas with one seed do not draw alike
        engine.refusal, engine.swap = bridge.farewell, self._take_over
        bridge.scenario = self.replica.scenario
        bridge.apply_server_table()
        engine.play(bridge.scenario, bridge.clock.now())
        engine.epoch = bridge.clock.epoch
        self._kicks = self.replica.state.kicks
        self._unsubscribe = bridge.journal.subscribe(self.heart.put)
        self.heart.start()

    def finish(self) -> None:
        """Have its threads end. `stop` waits for them, so that those of many fakes end in one wait."""
        self.heart.finish()

    def stop(self) -> None:
        away = self.heart.stop()
        self._unsubscribe()
        self.replica.leave(away)

    def settle(self) -> None:
        if self._bridge.running and not self._bridge.runner.is_current:
            self.replica.settle()

    def let_go(self) -> None:
        """The fake is about to stop, and all clients leave: in the loop's thread."""
        self.replica.let_go()

    # ---- what this replica's user does -----------------------------------------------------------

    def play(self, scenario: Scenario) -> None:
        if self._bridge.running:
            self.replica.play(scenario)
            self.replica.drop_slots()
        else:
            self.replica.starts_with(scenario)

    def kick(self) -> None:
        self.replica.kick()
        self._kicks = self.replica.state.kicks

    def next_phase(self) -> None:
        """The scenario is about to move. Raises LostError if the others could not be told."""
        self.replica.require("state")

    # ---- what others do: in the loop's thread ----------------------------------------------------

    def _follow(self) -> None:
        """Carry out what other replicas have decided."""
        state = self.replica.read()
        if state is None:
            return
        self._store.told(state)
        self._bridge.feed(Tick())
        if state.kicks > self._kicks:
            self._kicks = state.kicks
            self._bridge.cut_off()

    def _take_over(self, now: float) -> list[Script]:
        """Play the scenario that another replica plays."""
        self.replica.drop_slots()
        return self._bridge.swap(self.replica.scenario, now)

    def _lost(self, why: str) -> None:
        self._bridge.recorder.mark("lost", f"{self.replica.address.shown}: {why}")
        self._bridge.moved()

    def _back(self) -> None:
        self._bridge.recorder.mark("back", self.replica.address.shown)
        self._bridge.moved()

    def _corrected(self) -> None:
        with contextlib.suppress(NotRunningError):
            self._in_loop(self._bridge.moved)

    def _in_loop(self, work: Callable[[], object]) -> None:
        self._bridge.loop.call_soon_threadsafe(work)


def sharing_of(bridge: Host, name: str) -> Sharing:
    """The share of a fake in a service, as its options say."""
    address = bridge.options.shared
    return ALONE if address is None else Shared(bridge, address, name)
