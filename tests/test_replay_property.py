"""Invented scenarios: a client that does the same, whatever it hears, meets the same under the scenario made of its journal."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from notnow import FakeSMTP, ManualClock
from notnow.chaos.replay import writing
from notnow.chaos.replay.recording import Part, Recording
from notnow.errors import ScenarioError
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from smtp_client import Raw
from test_replay_journal import main_python, places, replayed

MOMENTS = (
    "connect",
    "ehlo",
    "mail",
    "rcpt",
    "data",
    "body",
    "message",
    "rset",
    "noop",
    "quit",
    "any",
    "error",
    "enter",
    "idle",
)
SAID = [
    "EHLO c.test",
    "NOOP",
    "MAIL FROM:<a@c.test>",
    "RCPT TO:<b@s.test>",
    "RCPT TO:<c@s.test>",
    "DATA",
    "RSET",
    "BOGUS",
    "QUIT",
]

FAULTS = st.sampled_from([
    {"reply": "421 4.3.2 {host} Busy"}, {"reply": "421 Busy", "close": False}, {"reply": "451 4.3.0 Later"},
    {"reply": ["421-One", "421 two {{x}}"]}, {"reply": "550 5.7.1 {limit}"}, {"close": True},
    {"close": "reset"}, {"reply": "421 Kept", "keep": True}, {},
])  # fmt: skip
SMALL = st.integers(1, 5)
CONDITIONS = st.sampled_from([{}, {}, {"per": "connection"}, {"per": ["client", "recipient"]}]).flatmap(
    lambda per: st.fixed_dictionaries(
        {},
        optional={
            "nth": SMALL,
            "every": SMALL,
            "first": SMALL,
            "after": SMALL,
            "times": SMALL,
            "chance": st.just("50%"),
        },
    ).map(lambda found: {**per, **dict(list(found.items())[:2])})
)
WHERE = st.sampled_from([{}, {}, {}, {"where": {"client": "127.*"}}, {"where": {"command": ["RCPT", "NOOP"]}}])


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    on = draw(st.lists(st.sampled_from(MOMENTS), min_size=1, max_size=2, unique=True))
    made = {"on": on, **draw(CONDITIONS), **draw(WHERE), **draw(FAULTS)}
    if "idle" in on:
        made = {**made, "on": "idle", "after": draw(st.sampled_from(["5s", "20s"]))}
    if not {"idle", "enter"}.isdisjoint(on):
        made.pop("chance", None)  # the journal does not tell the silences that chance left alone
    return made


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Whatever of it loads."""
    parts = [
        Part(f"part {n}", draw(st.sampled_from([None, 10.0, 25.0])), draw(st.sampled_from([{}, {}, {"rcpt": 3}])))
        for n in range(draw(st.integers(0, 2)))
    ]
    parts.append(Part("last"))
    for part in parts:
        part.rules = draw(st.lists(rules(), min_size=1, max_size=3))
    text = "\n".join(writing._lines(Recording("smtp", "Invented.", "", parts)))
    try:
        return loads(text)
    except ScenarioError:
        assume(False)
        raise


def run(scenario: Scenario) -> FakeSMTP:
    """The fake after some sessions, ten seconds apart, in which a client says all that it has to say, or until it is over."""
    with FakeSMTP(scenario, clock=ManualClock(), seed=3) as fake:
        for n in range(4):
            with contextlib.suppress(OSError, EOFError), Raw(fake) as raw:
                raw.reply()
                for line in SAID:
                    said = raw.say(line)
                    if said.startswith("354"):
                        raw.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
                        raw.reply()
                    if line == "NOOP":
                        fake.settle()
                        fake.clock.advance("6s" if n else "1s")
                raw.sock.shutdown(1)
                raw.until_end()  # it may have heard more replies than it waited for
            fake.settle()
            fake.clock.advance("10s")
        return fake


def smtp(*phases: str) -> Scenario:
    return loads("\n".join(['protocol = "smtp"', *(f"[[phase]]\n{phase}" for phase in phases)]))


# A refusal amid a message is an error, and one that ends a phase by its number is an error of the next; silences that
# nothing came of count, too.
AMID = '[[phase.rule]]\non = "body"\nreply = "421 Busy"\nclose = false\n'
ENDS = 'until = { rcpt = 3 }\n[[phase.rule]]\non = ["connect", "ehlo"]\nreply = "421 Busy"\nclose = false\n'
ERRORS = '[[phase.rule]]\non = "error"\nper = "connection"\nreply = "421 Errors"\n'
SILENCE = '[[phase.rule]]\non = "idle"\nafter = "5s"\nnth = 2\nreply = "421 Idle"\n'


@main_python
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@example(smtp(AMID + ERRORS))
@example(smtp(ENDS, ERRORS))
@example(smtp(SILENCE))
@given(scenarios())
def test_an_invented_scenario_is_repeated(scenario: Scenario) -> None:
    first = run(scenario)
    assume(any(x.fault for x in first.journal if not x.stopped))
    text = replayed(first)
    assert places(run(loads(text, name="replayed"))) == places(first), text
