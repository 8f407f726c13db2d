"""What the engine counts: one atomic answer for each event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notnow.engine.questions import Candidate, Decision, DecisionRequest, Key, PhasePosition, Question, slates_of
from notnow.engine.store import Memory
from notnow.language.conditions import After, First, Nth, Over, OverWithin, Times

START = PhasePosition()
KEY = ("here",)
ME = ("me",)


def request(
    *candidates: Candidate,
    position: PhasePosition = START,
    owner: str = "me",
    counts: Sequence[Key] = (),
    **more: Any,
) -> DecisionRequest:
    slates = slates_of(counts, [(candidate, KEY) for candidate in candidates])
    return DecisionRequest(position, (owner,), Question(slates, **more))


class TestMemory:
    def test_all_conditions_of_a_rule_must_hold(self) -> None:
        store, asked = Memory(), request(Candidate(0, (After(1), First(4), Times(0, 2)), refuses=True), counts=[KEY])
        assert [store.decide(asked, 0.0).rule for _ in range(5)] == [None, 0, 0, None, None]

    def test_the_event_is_counted_before_it_is_judged(self) -> None:
        store, first = Memory(), Candidate(7, (Nth(1),), refuses=True)
        assert store.decide(request(first, counts=[KEY]), 0.0) == Decision(7)
        assert store.decide(request(first, counts=[KEY]), 0.0) == Decision(None)

    def test_the_first_that_holds_fires_and_the_others_do_not(self) -> None:
        store = Memory()
        rules = [Candidate(0, (Nth(2),), True), Candidate(1, (Times(1, 1),), True), Candidate(2, (), True)]
        asked = request(*rules, counts=[KEY])
        assert [store.decide(asked, 0.0) for _ in range(4)] == [Decision(1), Decision(0), Decision(2), Decision(2)]

    def test_a_rule_behind_the_one_that_fires_leaves_no_trace(self) -> None:
        store, other = Memory(), (*KEY, "a@x")
        slates = slates_of((), [(Candidate(0, (), True), KEY), (Candidate(1, (Times(1, 1),), True), other)])
        assert store.decide(DecisionRequest(START, ME, Question(slates)), 0.0) == Decision(0)
        assert list(store._tallies) == [KEY]

    def test_places_are_taken_by_what_is_let_through(self) -> None:
        store, full = Memory(), Candidate(0, (Over(1),), refuses=True)
        decisions = [store.decide(request(full, owner=who, slots=[(KEY, 0)]), 0.0) for who in "abb"]
        assert decisions == [Decision(None), Decision(0), Decision(0)]
        store.release_all("a")
        assert store.decide(request(full, owner="b", slots=[(KEY, 0)]), 0.0) == Decision(None)

    def test_a_rule_that_fires_and_lets_through_takes_the_place(self) -> None:
        store, slow = Memory(), Candidate(0, (), refuses=False)
        store.decide(request(slow, owner="a", slots=[(KEY, 0)]), 0.0)
        full = Candidate(1, (Over(1),), refuses=True)
        assert store.decide(request(full, owner="b"), 0.0) == Decision(1)

    def test_a_place_is_one_place_however_often_it_is_taken(self) -> None:
        store = Memory()
        for _ in range(3):
            store.acquire([(KEY, "a")])
        assert [len(held) for held in store._held.values()] == [1]
        store.release_all("a")
        assert not store._held
        assert store.decide(request(Candidate(0, (Over(1),), True), owner="b"), 0.0) == Decision(None)

    def test_a_place_that_was_released_by_itself_is_not_released_again_with_the_rest(self) -> None:
        store = Memory()
        store.acquire([(KEY, "a"), (("there",), "a")])
        store.release([(KEY, "a")])
        assert [[tally.held for tally in held] for held in store._held.values()] == [[{"a"}]]
        store.release_all("a")
        assert not store._held

    def test_releasing_what_holds_nothing_is_nothing(self) -> None:
        Memory().release_all("nobody")

    def test_a_window_is_joined_by_what_is_let_through(self) -> None:
        store, often = Memory(), Candidate(0, (OverWithin(1, 60.0),), refuses=True)
        asked = request(often, windows=[KEY])
        assert [store.decide(asked, now) for now in (0.0, 59.0, 60.0)] == [Decision(None), Decision(0), Decision(None)]

    def test_a_question_about_an_old_phase_is_not_answered_and_not_counted(self) -> None:
        store, first = Memory(), Candidate(0, (Nth(1),), refuses=True)
        later = PhasePosition(1, 0, 5.0)
        assert store.move(START, later)
        assert store.decide(request(first, counts=[KEY], slots=[(KEY, 0)], until=[("mail", 1)]), 6.0) is None
        assert store.decide(request(first, position=later, counts=[KEY]), 6.0) == Decision(0)
        assert not store._held

    def test_an_equal_mark_will_do(self) -> None:
        assert Memory().decide(request(position=PhasePosition()), 0.0) == Decision(None)

    def test_only_one_of_two_moves_it(self) -> None:
        store = Memory()
        assert store.move(START, PhasePosition(1, 0, 1.0))
        assert not store.move(START, PhasePosition(1, 0, 2.0))
        assert store.position == PhasePosition(1, 0, 1.0)

    def test_counts_and_firings_restart_with_the_phase_and_places_do_not(self) -> None:
        store = Memory()
        rules = [Candidate(0, (Over(2),), True), Candidate(1, (Times(1, 1),), True)]
        store.acquire([(KEY, "a"), (KEY, "b")])
        store.decide(request(rules[1], counts=[KEY]), 0.0)
        store.move(START, PhasePosition(1))
        first = Candidate(2, (Nth(1),), True)
        assert store.decide(request(first, position=PhasePosition(1), counts=[KEY]), 0.0) == Decision(2)
        assert store.decide(request(rules[1], position=PhasePosition(1), counts=[KEY]), 0.0) == Decision(1)
        assert store.decide(request(rules[0], position=PhasePosition(1)), 0.0) == Decision(0)

    def test_a_lap_restarts_them_as_well(self) -> None:
        store, first = Memory(), Candidate(0, (Nth(1),), True)
        store.decide(request(first, counts=[KEY]), 0.0)
        store.move(START, PhasePosition(0, 1))
        assert store.decide(request(first, position=PhasePosition(0, 1), counts=[KEY]), 0.0) == Decision(0)

    def test_the_start_of_time_restarts_nothing(self) -> None:
        store, first = Memory(), Candidate(0, (Nth(1),), True)
        store.decide(request(first, counts=[KEY]), 0.0)
        store.move(START, PhasePosition(0, 0, 3.0))
        assert store.decide(request(first, position=PhasePosition(0, 0, 3.0), counts=[KEY]), 0.0) == Decision(None)

    def test_what_nobody_holds_is_forgotten_with_the_phase(self) -> None:
        store = Memory()
        store.decide(request(Candidate(0, (Nth(9),), True), counts=[KEY]), 0.0)
        store.acquire([(("there",), "a")])
        store.move(START, PhasePosition(1))
        assert list(store._tallies) == [("there",)]

    def test_until_ends_with_the_nth_event_of_any_of_its_moments(self) -> None:
        store = Memory()
        asked = [request(until=[("mail", 2), ("any", 3)]), request(until=[("any", 3)])]
        assert [store.decide(asked[n], 0.0) for n in (0, 1, 1)] == [
            Decision(None),
            Decision(None),
            Decision(None, ends_phase=True),
        ]
        store = Memory()
        assert [store.decide(asked[0], 0.0) for _ in range(2)] == [Decision(None), Decision(None, ends_phase=True)]

    def test_until_counts_anew_in_the_next_phase(self) -> None:
        store, once = Memory(), [("mail", 2)]
        store.decide(request(until=once), 0.0)
        store.move(START, PhasePosition(1))
        assert store.decide(request(position=PhasePosition(1), until=once), 0.0) == Decision(None)

    def test_what_was_counted_for_a_connection_is_forgotten_with_it(self) -> None:
        store = Memory()
        keys = [("mail", "me"), ("mail", "192.0.2.1")]
        store.decide(request(counts=keys), 0.0)
        store.forget("me")
        store.forget("nobody")
        assert list(store._tallies) == [("mail", "192.0.2.1")]
