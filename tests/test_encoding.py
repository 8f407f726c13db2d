"""Requests and decisions as plain data: what comes out is what went in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.engine.questions import (
    Candidate,
    Decision,
    DecisionRequest,
    Key,
    PhasePosition,
    Question,
    size_of,
    slates_of,
)
from notnow.engine.store import Memory
from notnow.language import conditions
from notnow.language.condition import Condition, Quota, Variant
from notnow.shared.encoding import (
    CLASSES,
    decoded,
    encoded,
    key_of,
    key_text,
    pack,
    unpack_decision,
    unpack_request,
)
from notnow.units import Span

FACTS = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.tuples(st.text(max_size=3))
KEYS = st.tuples(st.text(max_size=8)) | st.tuples(st.text(max_size=8), FACTS, FACTS)


def told(candidate: Candidate) -> tuple[object, ...]:
    return candidate.rule, candidate.conditions, candidate.refuses


def over_the_wire(request: DecisionRequest) -> DecisionRequest:
    return decoded(unpack_request(pack(encoded(request))))


@given(KEYS)
def test_a_key_comes_back_as_it_was(key: Key) -> None:
    assert key_of(key_text(key)) == key


@given(KEYS, KEYS)
def test_different_keys_have_different_texts(one: Key, other: Key) -> None:
    if key_text(one) == key_text(other):
        assert one == other


def test_a_fact_that_was_no_utf_8_can_be_sent() -> None:
    request = DecisionRequest(
        PhasePosition(), ("c",), Question(slates_of([("mail", "\udcff@x")], ()), facts={"sender": "\udcff@x"})
    )
    found = over_the_wire(request)
    assert (found.question.counts, found.question.facts) == (request.question.counts, request.question.facts)
    assert found.question.size == size_of(("\udcff@x",))


def test_every_part_of_a_request_comes_back() -> None:
    key: Key = ("on mail", "192.0.2.1", None, ("a", "b"))
    rule = Candidate(3, (conditions.Over(5), conditions.Times(3, 2), conditions.FirstFor(Span(1.5))), refuses=True)
    request = DecisionRequest(
        PhasePosition(1, 2, 3.25),
        ("c-1", "c-1/mail/0"),
        Question(
            slates_of([key], [(rule, key)]),
            slots=[(key, 1)],
            windows=[("in 24h",)],
            until=[("mail", 3)],
            limits=[(rule, key)],
            facts={"client": "192.0.2.1", "tls": False, "recipient": ("a", "b"), "size": 12},
            work=True,
        ),
    )
    found = over_the_wire(request)
    assert (found.position, found.owners, found.slots) == (request.position, request.owners, request.slots)
    for name in ("counts", "slots", "windows", "until", "facts", "work"):
        assert getattr(found.question, name) == getattr(request.question, name), name
    for pairs in (found.question.candidates, found.question.limits):
        assert [(told(candidate), its) for candidate, its in pairs] == [(told(rule), key)]


def test_a_store_decides_about_what_came_over_the_wire() -> None:
    full = Candidate(0, (conditions.Over(1),), refuses=True)
    there, here = Memory(), Memory()
    for owner in ("a", "b", "b"):
        request = DecisionRequest(
            PhasePosition(),
            (owner,),
            Question(slates_of((), [(full, ("in",))]), slots=[(("in",), 0)], limits=[(full, ("in",))]),
        )
        assert there.decide(over_the_wire(request), 1.0) == here.decide(request, 1.0)


@pytest.mark.parametrize("decision", [None, Decision(None), Decision(4, True, (Quota(1, None, 2.5), Quota()), 1.5)])
def test_a_decision_comes_back(decision: Decision | None) -> None:
    found = unpack_decision(pack(decision))
    assert found is decision is None or (found is not None and tuple(found.quotas) == tuple(decision.quotas))  # type: ignore[union-attr]
    assert (found and (found.rule, found.ends_phase, found.wait)) == (
        decision and (decision.rule, decision.ends_phase, decision.wait)
    )


def test_every_class_of_condition_can_be_sent() -> None:
    classes = {one for one in vars(conditions).values() if isinstance(one, type) and issubclass(one, Condition)}
    assert set(CLASSES.values()) == classes - {Condition, Variant}


def test_facts_are_left_out_where_nobody_reads_them() -> None:
    request = DecisionRequest(PhasePosition(), ("c",), Question(facts={"sender": "me"}))
    assert not decoded(encoded(request, facts=False)).question.facts
