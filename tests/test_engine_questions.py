"""What a decision leaves out, as it can change nothing: questions that were asked before, and rules that cannot hold yet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from notnow.engine import deciding
from notnow.engine.compiling import compile_phases
from notnow.engine.engine import Engine
from notnow.engine.events import Event
from notnow.engine.questions import Candidate, Question, size_of
from notnow.engine.store import Memory
from notnow.errors import ScenarioError
from notnow.language.condition import Owners
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from playbook import BYE, NO, Asked, Closed, Ended, Leaving, Opened, document, phase, rule


@pytest.fixture(autouse=True)
def nothing_asked_before() -> None:
    """Engines that play the same scenario share its plans, and what was asked of them."""
    compile_phases.cache_clear()


def scenario_of(rules: list[dict[str, Any]]) -> Scenario | None:
    """The scenario of these rules; None if one of them could never act."""
    try:
        return loads(document(phase(*rules)))
    except ScenarioError:
        return None


WHERE = st.sampled_from(
    [
        {},
        {"where": {"sender": "a@*"}},
        {"where": {"sender": ["a@*", "b@*"]}},
        {"where": {"client": "10.*"}},
        {"where": {"client": "10.*", "tls": False}},
    ]
)
PER = st.sampled_from([{}, {"per": "client"}, {"per": ["sender", "client"]}, {"per": "connection"}])
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "nth": st.integers(1, 4),
        "every": st.integers(1, 3),
        "first": st.sampled_from([1, 3, "2s"]),
        "after": st.sampled_from([1, 2, "3s"]),
        "over": st.integers(0, 2),
        "times": st.integers(1, 2),
        "chance": st.just("50%"),
    },
)
REPLIES = st.sampled_from([NO, "250 fine", "451 {remaining} left", "421 4.3.2 bye"])
RULES = st.builds(
    lambda on, reply, *keys: rule(on, reply=reply, **{name: value for one in keys for name, value in one.items()}),
    st.sampled_from(["connect", "mail", "rcpt", "any"]),
    REPLIES,
    WHERE,
    PER,
    CONDITIONS,
).filter(lambda one: scenario_of([one]) is not None)
CLIENTS, SENDERS = st.sampled_from(["10.0.0.1", "192.0.2.1"]), st.sampled_from(["a@x", "b@x", "c@x"])
CONNECTIONS = st.sampled_from(["p", "q", "r"])
EVENTS = st.one_of(
    st.builds(Opened, CONNECTIONS, CLIENTS),
    st.builds(lambda conn, sender: Asked(conn, "mail", sender=sender, command="MAIL"), CONNECTIONS, SENDERS),
    st.builds(lambda conn: Asked(conn, "rcpt", sender="a@x", recipient="d@x", header={"x": "1"}), CONNECTIONS),
    st.builds(Ended, CONNECTIONS, st.just("mail")),
    st.builds(Leaving, CONNECTIONS),
    st.builds(Closed, CONNECTIONS),
)


class Thorough(Memory):
    """Asks each rule, in order."""

    def _first(self, question: Question, owners: Owners, now: float) -> Candidate | None:
        self.count(question, owners[0], now)
        for candidate, key in question.candidates:
            tally = self._tally(key, owners[0])
            if candidate.holds(tally, now, owners):
                tally.fired[candidate.rule] = tally.fired.get(candidate.rule, 0) + 1
                return candidate
        return None


def forget(engine: Engine) -> None:
    for one in engine.progress.phases:
        for plan in one.all_plans():
            plan.questions.clear()


@given(st.lists(RULES, min_size=1, max_size=5), st.lists(st.tuples(EVENTS, st.booleans()), max_size=25))
def test_a_decision_is_what_asking_every_rule_anew_comes_to(
    rules: list[dict[str, Any]], script: list[tuple[Event, bool]]
) -> None:
    scenario = scenario_of(rules)
    assume(scenario is not None)
    assert scenario is not None
    quick, thorough, now, live = Engine(scenario), Engine(scenario, store=Thorough), 0.0, set[str]()
    for event, later in script:
        conn: str = event.conn  # type: ignore[union-attr]
        if (conn in live) is isinstance(event, type(Opened("p"))):
            continue
        (live.discard if isinstance(event, Closed) else live.add)(conn)
        now += later
        forget(thorough)
        assert quick.feed(event, now) == thorough.feed(event, now)


def test_rules_that_count_together_stand_where_the_file_has_them() -> None:
    rules = [rule("mail", nth=9, reply=NO), rule("mail", per="client", nth=1, reply=NO), rule("mail", nth=1, reply=NO)]
    engine = Engine(loads(document(*rules)))
    engine.feed(Opened("p"), 0.0)
    assert [script.rule for script in engine.feed(Asked("p", "mail"), 0.0)] == ["phase[0].rule[1]"]


def test_an_event_counts_also_for_the_rules_behind_the_one_that_fires() -> None:
    engine = Engine(loads(document(rule("mail", nth=1, reply=NO), rule("mail", per="client", nth=2, reply=NO))))
    engine.feed(Opened("p"), 0.0)
    found = [script.rule for _ in range(3) for script in engine.feed(Asked("p", "mail"), 0.0)]
    assert found == ["phase[0].rule[0]", "phase[0].rule[1]", None]


def test_of_rules_that_hold_at_the_same_event_the_first_fires() -> None:
    engine = Engine(loads(document(rule("mail", nth=1, reply=NO), rule("mail", per="client", nth=1, reply=BYE))))
    engine.feed(Opened("p"), 0.0)
    assert [script.rule for script in engine.feed(Asked("p", "mail"), 0.0)] == ["phase[0].rule[0]"]


def test_of_caps_that_count_together_the_smaller_one_acts_before_the_larger() -> None:
    engine = Engine(loads(document(rule("connect", over=3, reply=BYE), rule("connect", over=1, reply=NO))))
    found = [script.rule for conn in "pq" for script in engine.feed(Opened(conn), 0.0)]
    assert found == [None, "phase[0].rule[1]"]


def test_a_connection_that_is_leaving_takes_no_slot() -> None:
    engine = Engine(loads(document(rule("mail", over=1, reply=NO))))
    for conn in "pq":
        engine.feed(Opened(conn), 0.0)
    engine.feed(Leaving("p"), 0.0)
    found = [script.rule for conn in "pqp" for script in engine.feed(Asked(conn, "mail"), 0.0)]
    assert found == [None, None, "phase[0].rule[0]"]


def questions(engine: Engine, moment: str = "mail") -> int:
    plan = engine.progress.phase.plan(moment)
    assert plan is not None
    return len(plan.questions)


@pytest.mark.parametrize(
    ("on", "keys", "remembered"),
    [
        ("mail", {"where": {"sender": "a*"}}, 2),
        ("mail", {"nth": 2}, 1),
        ("mail", {"chance": "50%"}, 0),
        ("message", {"where": {"header": {"x": "1"}}}, 1),
        ("message", {"where": {"header": {"X": "1", "y": "1"}}, "per": "sender"}, 2),
    ],
)
def test_what_the_same_facts_ask_is_remembered_unless_chance_has_a_say(
    on: str, keys: dict[str, Any], remembered: int
) -> None:
    engine = Engine(loads(document(rule(on, reply=NO, **keys))))
    engine.feed(Opened("p"), 0.0)
    for sender in ("a@x", "b@x", "a@x"):
        engine.feed(Asked("p", on, sender=sender, header={"x": "2", "z": sender}), 0.0)
    assert questions(engine, on) == remembered


def test_no_more_than_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "REMEMBERED", 3)
    engine = Engine(loads(document(rule("mail", reply=NO, where={"sender": "0@*"}))))
    engine.feed(Opened("p"), 0.0)
    found = []
    for n in range(5):
        engine.feed(Asked("p", "mail", sender=f"{n}@x"), 0.0)
        found.append(questions(engine))
    assert found == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(("over", "remembered"), [(0, 1), (1, 0)])
def test_long_facts_are_not_remembered_as_clients_could_fill_the_memory_with_them(over: int, remembered: int) -> None:
    sender = "a" * (deciding.LONGEST - size_of(("@x",)) + over) + "@x"
    engine = Engine(loads(document(rule("mail", reply=NO, where={"sender": "*@x"}))))
    engine.feed(Opened("p"), 0.0)
    found = [script.rule for script in engine.feed(Asked("p", "mail", sender=sender), 0.0)]
    assert (found, questions(engine)) == (["phase[0].rule[0]"], remembered)


def test_engines_that_play_the_same_scenario_share_what_was_asked() -> None:
    text = document(rule("mail", reply=NO, where={"sender": "*@x"}))
    one, other = Engine(loads(text)), Engine(loads(text))
    for conn, engine in (("p", one), ("q", other)):
        engine.feed(Opened(conn), 0.0)
        assert [script.rule for script in engine.feed(Asked(conn, "mail", sender="a@x"), 0.0)] == ["phase[0].rule[0]"]
    assert one.progress.phase is other.progress.phase
    assert questions(one) == 1


def test_nor_are_many_recipients_however_short() -> None:
    engine = Engine(loads(document(rule("message", reply=NO, where={"recipient": "b@x"}))))
    engine.feed(Opened("p"), 0.0)
    for many in (2, 50):
        engine.feed(Asked("p", "message", recipient=("a",) * many), 0.0)
    assert questions(engine, "message") == 1


def test_an_event_counts_also_for_a_rule_that_chance_leaves_out() -> None:
    fired = set()
    for seed in range(20):
        engine = Engine(loads(document(rule("mail", nth=2, chance="50%", reply=NO))), seed=seed)
        engine.feed(Opened("p"), 0.0)
        fired |= {n for n in range(1, 5) for script in engine.feed(Asked("p", "mail"), 0.0) if script.rule}
    assert fired == {2}


def test_chance_leaves_out_one_rule_of_several_that_count_together() -> None:
    engine = Engine(loads(document(rule("mail", nth=2, chance="0.01%", reply=BYE), rule("mail", nth=2, reply=NO))))
    engine.feed(Opened("p"), 0.0)
    found = [script.rule for _ in range(3) for script in engine.feed(Asked("p", "mail"), 0.0)]
    assert found == [None, "phase[0].rule[1]", None]


def test_a_request_in_progress_keeps_its_slot_in_the_next_scenario_by_the_header_field_that_it_had() -> None:
    where = {"header": {"X": "1"}}
    scenario = loads(document(rule("request", where=where, over=1, status=503), protocol="http"))
    engine = Engine(scenario)
    for conn in "pqr":
        engine.feed(Opened(conn), 0.0)

    def asked(conn: str, value: str) -> str | None:
        return engine.feed(Asked(conn, "request", header={"x": value}, stream=1), 0.0)[0].rule

    assert asked("p", "1") is None
    engine.play(scenario, 0.0)
    assert [asked("q", "2"), asked("r", "1")] == [None, "phase[0].rule[0]"]
