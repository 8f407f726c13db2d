"""A nemesis: between the steps of the user's own state machine, it swaps scenarios, kicks clients off, and lets time pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import rule

from notnow import servers
from notnow.chaos.strategies import invented, plan
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.time_travel.fast_forward import FastForward

SPANS = ("1s", "1m", "10m", "1h", "1d")


def _faults(machine: Nemesis) -> st.SearchStrategy[Scenario]:
    return (
        machine.faults if machine.faults is not None else _usual(machine.protocol, machine.options.get("tls", "none"))
    )


@cache
def _usual(protocol: str, tls: str) -> st.SearchStrategy[Scenario]:
    limits: Mapping[str, Any] = {"max_faults": 2, "max_phases": 1, "outage": "1m", "heals": True, "final": False}
    return invented(plan(protocol, tls=tls, at=(), where={}, **limits), least=1)


class Nemesis:
    """Mix it into a RuleBasedStateMachine of Hypothesis: it adds the rules of a server that has bad days.

        class OutboxMachine(Nemesis, RuleBasedStateMachine):
            protocol = "smtp"

            def __init__(self):
                super().__init__()
                self.outbox = Outbox(self.fake.host, self.fake.port)

            @rule()
            def writes(self): ...

            def afterwards(self):  # all is calm again
                self.outbox.flush()
                self.fake.assert_delivered()

        TestOutbox = OutboxMachine.TestCase

    `fake` is a fake server of `protocol` with these server `options`, and `time` the FastForward in which the machine
    runs: what its steps wait for is scenario time. `faults` is the strategy of the scenarios that the nemesis plays; by
    default, a fault or two for a minute at most. When the steps are over, the server is healthy, everybody is cut off, and
    `afterwards` is called.
    """

    protocol: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    faults: ClassVar[st.SearchStrategy[Scenario] | None] = None
    began: ClassVar[Callable[[], object]] = staticmethod(lambda: None)  # the pytest plugin wants to know

    time: FastForward
    fake: Fake

    def __init__(self) -> None:
        super().__init__()
        Nemesis.began()
        with ExitStack() as stack:
            self.time = stack.enter_context(FastForward())
            fake = servers.by_protocol(self.protocol)(clock=self.time.clock, **self.options)
            self.fake = stack.enter_context(fake)
            self._open = stack.pop_all()

    @rule(scenario=st.runner().flatmap(_faults))
    def bad_day_comes(self, scenario: Scenario) -> None:
        """The server plays another scenario."""
        self.fake.play(scenario)

    @rule()
    def everybody_is_cut_off(self) -> None:
        """The server ends every connection, with a 421 where the protocol has one."""
        self.fake.kick()

    @rule(span=st.sampled_from(SPANS))
    def time_passes(self, span: str) -> None:
        """Nobody does anything for a while."""
        self.time.clock.advance(span)

    def calm(self) -> None:
        """From now on the server is healthy; connections that a fault holds are cut off."""
        self.fake.play(f"{self.protocol}/healthy")
        self.fake.kick()

    def afterwards(self) -> None:
        """What the machine checks when all is calm again."""

    def teardown(self) -> None:
        """The steps are over."""
        with self._open:
            self.calm()
            self.afterwards()
