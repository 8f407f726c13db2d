"""The bridge of a worker: sockets, sessions and an engine as in any fake; counts and journal are those of its employer."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

from notnow.clock import AdjustableClock, Origin
from notnow.engine.actions import Script
from notnow.engine.events import Tick
from notnow.engine.store import Store
from notnow.journal import Recorder
from notnow.journal.relay import RelayRecorder
from notnow.language.scenario import Scenario
from notnow.servers.base.bridge import Bridge
from notnow.servers.base.listener import UVLOOP_TURNS, reset
from notnow.servers.workers.duty import Duty
from notnow.servers.workers.remote import Link, RemoteStore, ReplicaStore, State

MOST_UNREPORTED = 5_000  # records; beyond them the worker waits until they are taken
Arrival = tuple[socket.socket, tuple[str, int]]


class Working(Bridge):
    """The bridge of a worker. `link`, `duty` and the socket to listen on are given to its class before it is made; `traced`: decisions are explained."""

    link: ClassVar[Link]
    listening: ClassVar[socket.socket]
    duty: ClassVar[Duty]
    traced: ClassVar[bool] = False
    recorder: RelayRecorder
    store: RemoteStore

    def __init__(self, *given: Any) -> None:
        self._playing = False
        super().__init__(*given)
        self._uid = self.duty.uid
        self.recorder.on_news = self._report
        self.recorder.decision_of = lambda number: self.store.numbers.pop(number, None)
        self._reported = False
        self._arrived: list[Arrival] = []
        self._looked_for: list[Arrival] = []
        if self.duty.shared:
            self.engine.refusal, self.engine.swap = self.farewell, self._take_over

    def new_recorder(self, **options: Any) -> Recorder:
        return RelayRecorder(self.clock, **options)

    def new_store(self) -> Store:
        by_chance = any(rule.chance is not None for rule in self.scenario.rules())
        if self.duty.shared:
            self.store = ReplicaStore(self.link, by_chance=by_chance, traced=self.traced)
        else:
            self.store = RemoteStore(self.link, by_chance=by_chance, traced=self.traced, ready=not self._playing)
        return self.store

    def bind(self) -> socket.socket:
        return self.listening

    # ---- accepting -------------------------------------------------------------------------------

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Before a client is counted, the other workers read what their clients have sent or closed before it came."""
        if not self._has_caps:
            super()._accept(sock, address)
            return
        self._arrived.append((sock, address))
        self._look()

    @property
    def _has_caps(self) -> bool:
        plans = self.engine.progress.phases[0].plans.values()
        return any(not count.within for plan in plans for count in plan.admissions)

    def _look(self) -> None:
        if self._arrived and not self._looked_for:
            self._arrived, self._looked_for = [], self._arrived
            self.link.tell("look")

    def let_in(self) -> None:
        """The other workers have read everything."""
        arrived, self._looked_for = self._looked_for, []
        for sock, address in arrived:
            super()._accept(sock, address)
        self._look()

    async def look(self) -> None:
        """Read what clients have sent or closed; as many turns of the loop as the listener gives its own clients."""
        for _ in range(UVLOOP_TURNS + 1):
            await asyncio.sleep(0)

    async def shut(self) -> None:
        for sock, _ in (*self._arrived, *self._looked_for):
            reset(sock)
        self._arrived, self._looked_for = [], []
        await super().shut()

    # ---- the journal -----------------------------------------------------------------------------

    def _report(self) -> None:
        """There is something to report; if it is much, hand it in now, which keeps this worker from running ahead."""
        if len(self.recorder) >= MOST_UNREPORTED:
            self.link.ask("batch", self.recorder.batch())
        elif not self._reported:
            self._reported = True
            self.link.tell("news")

    def report(self) -> Any:
        self._reported = False
        return self.recorder.batch()

    # ---- what is ordered ---------------------------------------------------------------------------

    def follow(self, state: State, origin: Origin) -> None:
        """Go where the scenario has been moved, at the time at which it was."""
        assert isinstance(self.clock, AdjustableClock), "it is made for workers"
        self.clock.show(origin)
        self.link.learn(state)
        self.feed(Tick())

    def _take_over(self, now: float) -> list[Script]:
        """Play what the replica plays by now."""
        return self.swap(self.link.ask("scenario").load(), now)

    def rest(self) -> None:
        """Do nothing until all workers do nothing, and then go on together."""
        self.link.ask("rest")
        self.feed(Tick())  # the scenario may have been moved

    def forget(self) -> None:
        super().forget()
        self.link.ask("rest")

    def play(self, scenario: Scenario) -> None:
        self.link.ask("rest")
        self._playing = True
        super().play(scenario)
        self.store.be_ready()
