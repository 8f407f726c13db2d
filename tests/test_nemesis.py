"""A nemesis between the steps of a state machine: what it does, and what it finds."""

from __future__ import annotations

import contextlib
import smtplib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from notnow import chaos
from notnow.chaos import Nemesis, toml
from notnow.time_travel import world as worlds
from notnow.time_travel.fast_forward import FastForward, kept_in_place

FEW = settings(
    max_examples=30, stateful_step_count=8, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def in_place() -> Iterator[None]:
    with kept_in_place():
        yield


class Sender(Nemesis, RuleBasedStateMachine):
    """A client that sends at once, over a connection that it keeps, and tries twice; `patient`: until it gets through."""

    protocol = "smtp"
    patient: ClassVar[bool] = True
    line: smtplib.SMTP | None = None
    sent = 0

    @rule()
    def sends(self) -> None:
        self.sent += 1
        for _ in range(10 if self.patient else 1):
            with contextlib.suppress(OSError):
                self.line = self.line or smtplib.SMTP(self.fake.host, self.fake.port, timeout=10)
                self.line.sendmail("a@x.test", ["b@x.test"], f"Message-ID: <{self.sent}@x.test>\r\n\r\nhello")
                return
            self.hangs_up()
            self.time.clock.advance("20s")

    def hangs_up(self) -> None:
        if self.line is not None:
            self.line.close()
        self.line = None

    def afterwards(self) -> None:
        self.hangs_up()
        if self.sent:
            self.fake.assert_delivered(count=self.sent)


class Careless(Sender):
    patient = False


def test_a_patient_client_survives() -> None:
    run_state_machine_as_test(seed(1)(Sender), settings=FEW)


def test_a_careless_client_does_not_and_everything_is_put_back() -> None:
    with pytest.raises(AssertionError, match="delivered"):
        run_state_machine_as_test(
            seed(1)(Careless), settings=settings(FEW, max_examples=500)
        )  # the first dozens find it
    assert worlds.current is None
    with FastForward():
        pass


def test_it_swaps_scenarios_cuts_off_and_lets_time_pass() -> None:
    seen, spans = Counter[str](), set[float]()

    class Watched(Nemesis, RuleBasedStateMachine):
        protocol, options = "http", {"tls": "none"}

        @rule(n=st.integers())
        def looks(self, n: int) -> None:
            seen["faulty"] += bool(self.fake.scenario.faulty)
            spans.add(self.time.clock.now())

        def afterwards(self) -> None:
            seen["calm"] += self.fake.scenario.name == "http/healthy"
            seen["runs"] += 1

    run_state_machine_as_test(seed(1)(Watched), settings=settings(FEW, max_examples=60))
    assert seen["faulty"]
    assert seen["calm"] == seen["runs"] >= 30
    assert max(spans) >= 1


def test_the_faults_may_be_chosen_and_clients_are_cut_off() -> None:
    ends = Counter[str | None]()

    class Chosen(Sender):
        faults = st.just(toml('protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "noop"\nreply = "421 no"\n'))

        def afterwards(self) -> None:
            super().afterwards()
            ends.update(x.reply for x in self.fake.journal if (x.reply or "").startswith("421"))

    run_state_machine_as_test(seed(1)(Chosen), settings=FEW)
    assert ends["421 4.3.2 fake.notnow.test Service not available, closing transmission channel"] > 5


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "notnow.chaos.nemesis")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"chaos.Nemesis needs Hypothesis, which is not installed"):
        chaos.Nemesis  # noqa: B018


def test_a_wrong_name_is_told() -> None:
    with pytest.raises(AttributeError, match="it has Nemesis, save, scenarios"):
        chaos.nemeses  # noqa: B018
