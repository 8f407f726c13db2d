"""Fakes whose clients are served by worker processes. To their users they are like any other."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from notnow.clock import AdjustableClock, Stamps
from notnow.engine.trail import Explanation
from notnow.errors import Problem, ScenarioError
from notnow.journal import Exchange
from notnow.language.scenario import Scenario
from notnow.servers import by_protocol
from notnow.servers.base.fake import Fake
from notnow.servers.workers.crewed import Crewed
from notnow.servers.workers.duty import BRIDGES, Duty, Import, Text


class Many(Fake):
    """A fake with workers. `app`: where each of them imports the user's app from."""

    app: ClassVar[str | None] = None
    _bridge: Crewed

    def __init__(self, scenario: str | Path | Scenario | None = None, /, *, name: str = "", **given: Any) -> None:
        assert self.app or given.get("app") is None, "each worker imports its own"
        super().__init__(scenario, name=name, **given)
        known = self._option_names - {"clock", "files", "app", "shared"}  # workers cannot be given them
        self._given = {key: value for key, value in given.items() if key in known}
        self._bridge.duties = self._duties

    def _duties(self) -> list[Duty]:
        clock, bridge = self.clock, self._bridge
        assert isinstance(clock, AdjustableClock), "`many` sees to it"
        assert isinstance(clock.numbers, Stamps), "the same"
        options = {
            **self._given,
            "seed": bridge.engine.seed,
            "host": self.host,
            "port": self.port,
            "journal_limit": 1000,
        }
        scenario, stamps = Text.of(self.scenario), clock.numbers
        return [
            Duty(
                self.protocol,
                self.name,
                scenario,
                options,
                clock.origin,
                place,
                secrets.token_hex(4),
                stamps.zero,
                bridge.standing,
                bridge.traced,
                None if self.app is None else Import.of(self.app),
                self.service is not None,
            )
            for place in (stamps.take_place() for _ in range(bridge.size))
        ]

    def play(self, scenario: str | Path | Scenario, /, **knobs: Any) -> None:
        found, bridge = self._resolve(scenario, knobs), self._bridge
        if self.service is None or not self.running:
            self._at_rest(lambda: bridge.play(found), "play", Text.of(found))
            return
        bridge.runner.call(lambda: bridge.play(found))  # as where another replica plays it
        bridge.arrive()
        bridge.sharing.settle()

    def next_phase(self) -> None:
        self._at_rest(self._bridge.next_phase, "rest")
        self._bridge.sharing.settle()

    def reset(self) -> None:
        self._at_rest(self._bridge.forget, "reset")

    def _at_rest(self, work: Callable[[], None], *order: object) -> None:
        if self.running:
            self._bridge.runner.run(self._bridge.crew.at_rest(work, *order))
        else:
            work()

    def explain(self, exchange: Exchange) -> list[Explanation]:
        assert self._bridge.traced, "nobody asks where nothing is traced"
        return super().explain(exchange)

    def kick(self) -> int:
        bridge = self._bridge
        bridge.runner.call(bridge.sharing.kick)
        kicked: int = sum(bridge.runner.run(bridge.crew.tell_all("kick")))
        bridge.sharing.settle()
        return kicked

    def catch_up(self) -> None:
        if self.running:
            self._bridge.runner.run(self._bridge.crew.gather())

    def on_loss(self, call: Callable[[], object]) -> None:
        """Call this when a worker has been lost."""
        self._bridge.on_loss = call
        if self._bridge.loss is not None:
            call()


def many(protocol: str, workers: int, *, traced: bool = True, app: str | None = None) -> type[Many]:
    """The class of the fake for a protocol with so many workers. Raises ScenarioError where that is not possible.

    `app` is MODULE:ATTRIBUTE, for one that is given an app. Without `traced` it cannot `explain` its decisions, and takes less
    time for those that no count can change.
    """
    if sys.platform != "linux":
        raise _not_here("workers need Linux", "1: other systems do not spread clients over processes that share a port")
    if protocol not in BRIDGES:
        raise _not_here(f"workers are not for {protocol}", f"1, or servers of {', '.join(BRIDGES)}")
    fake, bridge = by_protocol(protocol), import_module(BRIDGES[protocol]).Crew
    crewed = type(bridge.__name__, (bridge,), {"size": workers, "traced": traced})
    return type(fake.__name__, (Many, fake), {"_bridge_class": crewed, "app": app})


def _not_here(found: str, allowed: str) -> ScenarioError:
    return ScenarioError([Problem(found, allowed=allowed)])
