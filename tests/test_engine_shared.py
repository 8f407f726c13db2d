"""Engines and their store: two that share one, and what it keeps."""

from __future__ import annotations

import collections

from notnow.engine.engine import Engine
from notnow.engine.questions import Decision, DecisionRequest, PhasePosition
from notnow.engine.store import Memory
from notnow.language.loading import loads
from playbook import BYE, NO, Asked, Close, Closed, Opened, Proceed, Send, Tick, document, phase, rule


class Pair:
    """Two fakes of one service."""

    def __init__(self, scenario: str, store: Memory | None = None) -> None:
        shared = store or Memory()
        self.engines = [Engine(loads(scenario), store=lambda: shared) for _ in range(2)]

    def feed(self, which: int, event: object, now: float = 0.0) -> list[object]:
        return [step for script in self.engines[which].feed(event, now) for step in script.steps]


class TestOneStore:
    def test_a_cap_holds_over_both(self):
        pair = Pair(document(rule("connect", over=10, reply=BYE)))
        admitted = [pair.feed(n % 2, Opened(f"{n % 2}-{n}")) == [Proceed()] for n in range(100)]
        assert admitted == [True] * 10 + [False] * 90
        pair.feed(0, Closed("0-0"))
        assert [pair.feed(1, Opened(f"1-x{n}")) == [Proceed()] for n in range(2)] == [True, False]

    def test_counts_and_windows_too(self):
        pair = Pair(document(rule("connect", nth=3, reply=BYE), rule("mail", over=1, within="1h", reply=NO)))
        assert [len(pair.feed(n % 2, Opened(f"{n}"))) for n in range(4)] == [1, 1, 2, 1]
        assert [pair.feed(n, Asked(f"{n}", "mail")) for n in range(2)] == [[Proceed()], [Send(NO)]]

    def test_a_phase_that_one_ends_is_over_for_both(self):
        pair = Pair(document(phase(until={"connect": 2}, name="1"), phase(rule("any", reply=NO), name="2")))
        pair.feed(0, Opened("a"))
        pair.feed(1, Opened("b"))
        assert [engine.phase for engine in pair.engines] == ["1", "2"]
        assert pair.feed(0, Asked("a", "ehlo")) == [Send(NO)]
        assert pair.engines[0].phase == "2"

    def test_each_says_so_to_its_own_connections_and_once(self):
        pair = Pair(document(phase(), phase(rule("enter", reply="450 hello"), lasts="10s"), phase()))
        pair.feed(0, Opened("a"))
        pair.feed(1, Opened("b"))
        steps = [step for script in pair.engines[0].next_phase(5.0) for step in script.steps]
        assert steps == [Send("450 hello")]
        assert [pair.feed(1, Tick(), now) for now in (5.0, 6.0)] == [[Send("450 hello")], []]

    def test_time_starts_for_both_and_nobody_enters_twice(self):
        pair = Pair(document(phase(rule("enter", reply=NO), name="1", lasts="10s"), phase(name="2")))
        pair.feed(0, Opened("a"), 3.0)
        assert pair.feed(1, Tick(), 4.0) == []
        assert pair.engines[1].due == 13.0

    def test_a_phase_ends_once_and_not_once_for_each(self):
        pair = Pair(document(*(phase(name=f"{n}", lasts="10s") for n in range(3)), phase(name="end")))
        pair.feed(0, Opened("a"))
        pair.feed(1, Opened("b"))
        for engine in pair.engines:
            engine.feed(Tick(), 10.0)
        assert [engine.phase for engine in pair.engines] == ["1", "1"]

    def test_a_hand_is_not_lost_because_time_begins_elsewhere_meanwhile(self):
        class Late(Memory):
            """Time begins, at another replica, just before the first move."""

            def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
                if self.position.since is None:
                    super().move(seen, PhasePosition(0, 0, 3.0))
                return super().move(seen, to)

        pair = Pair(document(phase(name="1"), phase(rule("enter", reply=NO), name="2")), Late())
        pair.engines[0].next_phase(5.0)
        assert pair.engines[0].phase == "2"
        assert pair.engines[0].progress.position.since == 5.0

    def test_a_hand_that_comes_late_moves_on_from_where_it_stands(self):
        pair = Pair(document(phase(name="1"), phase(name="2"), phase(name="3")))
        pair.engines[0].next_phase(0.0)
        pair.engines[1].next_phase(0.0)
        assert pair.engines[1].phase == "3"


class Late(Memory):
    """A store whose news of a new phase comes only with the answer to a request, as over a network."""

    remote = True

    def __init__(self) -> None:
        super().__init__()
        self.moved_by_another: PhasePosition | None = None

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        if self.moved_by_another is not None:
            position, self.moved_by_another = self.moved_by_another, None
            self.move(self.position, position)
        return super().decide(request, now)


class TestAMoveThatComesMeanwhile:
    SCENARIO = document(
        phase(rule(["connect", "mail"], reply="450 one"), rule("idle", after="5s", reply=NO), name="1"),
        phase(rule("enter", where={"client": "10.*"}, reply=BYE), rule(["mail"], reply="450 two"), name="2"),
        phase(name="3"),
    )

    def engine(self) -> tuple[Engine, Late]:
        store = Late()
        engine = Engine(loads(self.SCENARIO), store=lambda: store)
        engine.feed(Opened("a", "192.0.2.1"), 0.0)
        engine.feed(Opened("b", "10.0.0.1"), 0.0)
        store.moved_by_another = PhasePosition(1, 0, 0.0)
        return engine, store

    def test_the_event_is_decided_where_the_scenario_stands_now(self):
        engine, _ = self.engine()
        scripts = engine.feed(Asked("a", "mail"), 1.0)
        assert [(s.conn, s.steps[0]) for s in scripts] == [("b", Send(BYE)), ("a", Send("450 two"))]

    def test_who_was_closed_by_it_gets_no_answer(self):
        engine, _ = self.engine()
        assert [(s.conn, s.moment) for s in engine.feed(Asked("b", "mail"), 1.0)] == [("b", "enter")]

    def test_who_was_closed_by_it_gets_none_where_no_rule_fires_either(self):
        store, asked = Late(), rule("rcpt", nth=9, reply=NO)
        engine = Engine(loads(document(phase(asked), phase(rule("enter", reply=BYE), asked))), store=lambda: store)
        engine.feed(Opened("a"), 0.0)
        store.moved_by_another = PhasePosition(1, 0, 0.0)
        assert [(s.conn, s.moment) for s in engine.feed(Asked("a", "rcpt"), 1.0)] == [("a", "enter")]

    def test_a_connection_that_is_just_coming_was_not_there_to_be_told(self):
        engine, _ = self.engine()
        scripts = engine.feed(Opened("c", "10.0.0.9"), 1.0)
        assert [(s.conn, s.moment, s.steps) for s in scripts] == [
            ("b", "enter", (Send(BYE), Close())),
            ("c", "connect", (Proceed(),)),
        ]

    def test_a_silence_of_the_old_phase_is_none_of_the_new(self):
        engine, _ = self.engine()
        assert [(s.conn, s.moment) for s in engine.feed(Tick(), 5.0)] == [("b", "enter")]

    def test_where_no_rule_looks_a_phase_that_events_end_is_asked_about(self):
        store = Late()
        store.remote = True
        scenario = document(phase(until={"quit": 1}), phase(rule("connect", reply=BYE)))
        engine = Engine(loads(scenario), store=lambda: store)
        engine.feed(Opened("a"), 0.0)
        store.moved_by_another = PhasePosition(1, 0, 0.0)
        assert [s.steps for s in engine.feed(Opened("b"), 1.0)] == [(Send(BYE), Close())]

    def test_a_phase_without_a_plan_behaves(self):
        engine, store = self.engine()
        store.moved_by_another = PhasePosition(2, 0, 0.0)
        assert [s.steps for s in engine.feed(Asked("a", "mail"), 1.0)] == [(Proceed(),)]


def test_a_scenario_that_is_not_used_costs_no_tally():
    store = Memory()
    engine = Engine(loads(document(rule("rcpt", nth=3, reply=NO))), store=lambda: store)
    engine.feed(Opened("a"), 0.0)
    engine.feed(Asked("a", "mail"), 0.0)
    assert not store._tallies


def test_what_was_counted_for_a_connection_goes_with_it():
    store = Memory()
    scenario = document(rule("mail", per="connection", nth=3, reply=NO), rule("connect", over=9, reply=BYE))
    engine = Engine(loads(scenario), store=lambda: store)
    sizes = collections.Counter[int]()
    for n in range(50):
        engine.feed(Opened(f"{n}"), 0.0)
        engine.feed(Asked(f"{n}", "mail"), 0.0)
        engine.feed(Closed(f"{n}"), 0.0)
        sizes[len(store._tallies) + len(store._held) + len(store._own_keys)] += 1
    assert len(sizes) == 1
