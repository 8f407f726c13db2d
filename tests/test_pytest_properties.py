"""Properties under the plugin: `fast_forward` for each example, the report, and saved scenarios. In runs of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

MAIL = """
import smtplib, time
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from notnow import FakeSMTP
from hypothesis.stateful import RuleBasedStateMachine, rule
from notnow.chaos import Nemesis, scenarios

def send(smtp):
    "The standard library's context manager raises if QUIT is answered 421; this sends again then."
    for _ in range(30):
        try:
            with smtplib.SMTP(smtp.host, smtp.port, timeout=10) as client:
                client.sendmail("a@x.test", ["b@x.test"], "Message-ID: <1@x.test>\\r\\n\\r\\nhello")
            return
        except OSError:
            time.sleep(2)
"""
DELIVERED = """
@settings(max_examples=300)
@given(scenario=scenarios("smtp", max_faults=4))
def test_delivered_exactly_once(scenario, fast_forward):
    with FakeSMTP(scenario) as smtp:
        send(smtp)
    smtp.assert_delivered(count=1)
"""


OTHERS = """
settings.register_profile("few", max_examples=10)
settings.load_profile("few")

@given(number=st.integers())
def test_time_is_fresh(number, fast_forward):
    assert fast_forward.clock.now() == 0
    time.sleep(86_400 * 300)

class TestIt:
    @given(st.sampled_from([1, 2, 3]))
    def test_a_method_and_its_own_fake(self, fast_forward, number):
        with FakeSMTP() as smtp:
            assert smtp.clock is fast_forward.clock

def busy(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

once = settings(max_examples=1, phases=[Phase.generate])

@once
@given(st.booleans())
def test_the_usual_deadline_does_not_hold(fast_forward, number):
    busy(0.3)

@settings(once, deadline=100)
@given(st.booleans())
def test_a_chosen_deadline_holds(fast_forward, number):
    busy(0.3)

@once
@given(st.booleans())
def test_the_health_check_stays_for_other_fixtures(tmp_path, fast_forward, number):
    pass

SEEN = []

@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=3)
@given(st.integers())
def test_time_goes_on_if_the_check_is_off(fast_forward, number):
    SEEN.append(fast_forward.clock.now())
    assert SEEN[-1] == 60 * (len(SEEN) - 1)
    time.sleep(60)

@once
@given(scenario=scenarios("smtp"))
def test_that_can_never_hold(scenario, fast_forward):
    assert False

@once
@given(scenario=scenarios("smtp"), number=st.integers())
def test_that_a_scenario_alone_does_not_fail(scenario, number):
    assert number < 0

class Machine(Nemesis, RuleBasedStateMachine):
    protocol = "smtp"

    @rule()
    def sends(self):
        send(self.fake)

    def afterwards(self):
        assert False

TestMachine = Machine.TestCase
TestMachine.settings = settings(once, stateful_step_count=3)

class Plain(RuleBasedStateMachine):
    @rule()
    def nothing(self): ...

TestPlain = Plain.TestCase

@given(number=st.integers())
def test_without_a_scenario(number):
    assert number < 0
"""
FAILED = ["a_chosen_deadline_holds", "the_health_check_stays_for_other_fixtures", "that_can_never_hold",
          "that_a_scenario_alone_does_not_fail", "without_a_scenario"]  # fmt: skip


def run(pytester: pytest.Pytester, test: str, *options: str) -> pytest.RunResult:
    """A run of this test; the same each time."""
    pytester.makepyfile(test_mail=MAIL + test)
    return pytester.runpytest_subprocess(
        "-p",
        "no:pytester",
        "-p",
        "no:cacheprovider",
        "--hypothesis-seed=1",
        "--notnow-seed=1",
        "--notnow-found=found",
        *options,
    )


def test_the_test_of_the_documentation_finds_what_smtplib_does_wrong(pytester: pytest.Pytester) -> None:
    result = run(pytester, DELIVERED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "*<1@x.test> to b@x.test was stored *", "*scenario=toml(r'''", '*protocol = "smtp"', "*invented, seed 1", "timeline (scenario time)",
        "saved as *: the next run of this test plays it first",
    ])  # fmt: skip
    assert result.stdout.str().count("\ninvented, seed 1\n") == 1, "the report shows the last example alone"
    (found,) = (pytester.path / "found").iterdir()
    assert re.fullmatch(r"test_mail-py-test_delivered_exactly_once-[0-9a-f]{8}\.scenario\.toml", found.name)

    found.write_text(found.read_text() + "# by hand")
    again = run(pytester, DELIVERED)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines([f"*{found.name}, seed 1"])
    assert len(list(found.parent.iterdir())) == 1


def test_each_example_has_a_world_of_its_own(pytester: pytest.Pytester) -> None:
    result = run(pytester, OTHERS)
    result.assert_outcomes(passed=5, failed=len(FAILED) + 1)
    result.stdout.fnmatch_lines([*(f"*FAILED*::test_{name} *" for name in FAILED)])
    result.stdout.fnmatch_lines(["*Machine()", "*state.teardown()"])
    result.stdout.fnmatch_lines(['*summary = "No fault: a property that fails here can never hold."'])
    assert [file.name.partition("-py-")[2][:24] for file in (pytester.path / "found").iterdir()] == [
        "test_that_can_never_hold"
    ]
