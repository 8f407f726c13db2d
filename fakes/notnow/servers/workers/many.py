"""Fakes whose clients are served by worker processes. To their users they are like any other."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from notnow.clock import AdjustableClock, Stamps
from notnow.engine.trail import Explanation
from notnow.errors import Problem, ScenarioError
from notnow.journal import Exchange
from notnow.language.scenario import Scenario
from notnow.servers import by_protocol
from notnow.servers.base.fake import Fake
from notnow.servers.workers.crewed import Crewed
from notnow.servers.workers.duty import BRIDGES, Duty, Text


class Many(Fake):
    """A fake with workers."""

    _bridge: Crewed

    def __init__(self, scenario: str | Path | Scenario | None = None, /, *, name: str = "", **given: Any) -> None:
        if given.get("app") is not None:
            raise _not_here(
                "app is given, and each worker would have an app of its own, with a memory of its own",
                "upstream, the URL of a server on this machine; or no workers",
            )
        super().__init__(scenario, name=name, **given)
        known = self._option_names - {"clock", "files"}  # workers have none of their own
        self._given = {key: value for key, value in given.items() if key in known}
        self._bridge.duties = self._duties

    def _duties(self) -> list[Duty]:
        clock, bridge = self.clock, self._bridge
        assert isinstance(clock, AdjustableClock), "`many` sees to it"
        assert isinstance(clock.numbers, Stamps), "the same"
        options = {**self._given, "seed": self.seed, "host": self.host, "port": self.port, "journal_limit": 1000}
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
            )
            for place in (stamps.take_place() for _ in range(bridge.size))
        ]

    def play(self, scenario: str | Path | Scenario, /, **knobs: Any) -> None:
        found = self._resolve(scenario, knobs)
        self._at_rest(lambda: self._bridge.play(found), "play", Text.of(found))

    def next_phase(self) -> None:
        self._at_rest(self._bridge.next_phase, "rest")

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
        return sum(self._bridge.runner.run(self._bridge.crew.tell_all("kick")))

    def catch_up(self) -> None:
        if self.running:
            self._bridge.runner.run(self._bridge.crew.gather())

    def on_loss(self, call: Callable[[], object]) -> None:
        """Call this when a worker has been lost."""
        self._bridge.on_loss = call
        if self._bridge.loss is not None:
            call()


def many(protocol: str, workers: int, *, traced: bool = True) -> type[Many]:
    """The class of the fake for a protocol with so many workers. Raises ScenarioError where that is not possible.

    Without `traced` it cannot `explain` its decisions, and takes less time for those that no count can change.
    """
    if sys.platform != "linux":
        raise _not_here("workers need Linux", "1: other systems do not spread clients over processes that share a port")
    if protocol not in BRIDGES:
        raise _not_here(f"workers are not for {protocol}", f"1, or servers of {', '.join(BRIDGES)}")
    fake, bridge = by_protocol(protocol), import_module(BRIDGES[protocol]).Crew
    crewed = type(bridge.__name__, (bridge,), {"size": workers, "traced": traced})
    return type(fake.__name__, (Many, fake), {"_bridge_class": crewed})


def _not_here(found: str, allowed: str) -> ScenarioError:
    return ScenarioError([Problem(found, allowed=allowed)])
