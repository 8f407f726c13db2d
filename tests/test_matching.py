"""Whether facts match a `where`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.engine import matching
from notnow.engine.compiling import compile_phases
from notnow.engine.matching import filter_fact, rejects
from notnow.language.loading import loads
from playbook import NO, document, rule


def matches(where: dict[str, object], **facts: object) -> bool:
    tests = matching.tests(where)
    known = matching.with_fields(facts, [name for name, _ in tests if name.startswith(matching.HEADER)])
    return all(test(known.get(name)) for name, test in tests)


@pytest.mark.parametrize(
    ("wanted", "found", "is_so"),
    [
        ("ann", "ann", True),
        ("ann", "ANN", True),
        ("ANN", "ann", True),
        ("ann", "annie", False),
        ("ann", "joann", False),
        ("ann*", "annie", True),
        ("a?n", "abn", True),
        ("a?n", "an", False),
        ("[ab]*", "bob", True),
        ("[!ab]*", "bob", False),
        ("*", "", True),
        ("*", None, False),
        ("", "", True),
        ("", None, False),
        ("a.b", "axb", False),
        ("a*", "a\nb", True),
        ("1*", 123, True),
        ("none", None, True),
        ("none", (), True),
        ("none", "", False),
        ("none", "none", False),
        (["a", "b"], "b", True),
        (["a", "b"], "c", False),
        (["a", "none"], None, True),
        (["a", "none"], "b", False),
        (5, 5, True),
        (5, 6, False),
        (5, None, False),
        ([5, "6*"], 65, True),
        (True, True, True),
        (True, False, False),
        (False, None, False),
        ("b@*", ("a@x", "b@x"), True),
        ("b@*", ("a@x", "c@x"), False),
        ("b@*", (), False),
        (5, (4, 5), True),
    ],
)
def test_a_value(wanted: object, found: object, is_so: bool) -> None:
    assert matches({"fact": wanted}, fact=found) is is_so


def test_no_where_matches_everything() -> None:
    assert matching.tests(None) == matching.tests({}) == ()


def test_every_fact_must_match() -> None:
    where = {"sender": "a@*", "size": 5}
    assert matches(where, sender="a@x", size=5)
    assert not matches(where, sender="a@x", size=6)
    assert not matches(where, sender="b@x", size=5)


@pytest.mark.parametrize(
    ("wanted", "headers", "is_so"),
    [
        ({"Subject": "*sale*"}, {"subject": "Big SALE"}, True),
        ({"Subject": "*sale*"}, {"subject": "hello"}, False),
        ({"Subject": "*sale*"}, {}, False),
        ({"Subject": "*"}, None, False),
        ({"DKIM-Signature": "none"}, {}, True),
        ({"DKIM-Signature": "none"}, None, True),
        ({"DKIM-Signature": "none"}, {"dkim-signature": "v=1"}, False),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, True),
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, False),
    ],
)
def test_headers(wanted: dict[str, str], headers: dict[str, str] | None, is_so: bool) -> None:
    assert matches({"header": wanted}, header=headers) is is_so


class TestSieve:
    def test_is_by_the_first_fact_that_is_a_text(self) -> None:
        assert filter_fact({"size": 5, "header": {"a": "b"}, "sender": "a@*", "recipient": "b@*"}) == "sender"
        assert filter_fact({"sender": ["a@*", "b@*"]}) == "sender"

    @pytest.mark.parametrize("where", [None, {}, {"sender": "none"}, {"sender": ["a@*", "none"]}, {"tls": True}])
    def test_needs_one(self, where: dict[str, object] | None) -> None:
        assert filter_fact(where) is None

    @given(
        st.lists(st.one_of(st.text("ab*?", max_size=3), st.lists(st.text("ab*", max_size=3), min_size=1)), min_size=1),
        st.one_of(
            st.none(), st.text("abAB", max_size=3), st.lists(st.text("ab", max_size=2)).map(tuple), st.integers()
        ),
    )
    def test_never_rejects_what_one_of_them_matches(self, globs: list[object], found: object) -> None:
        wheres = [{"fact": wanted} for wanted in globs]
        if any(matches(where, fact=found) for where in wheres):
            assert not rejects(wheres, "fact")(found)

    def test_rejects_what_none_of_them_matches(self) -> None:
        sieve = rejects([{"fact": "a@*"}, {"fact": ["b@*", "c@*"]}], "fact")
        assert [sieve(found) for found in ("a@x", "C@x", "d@x", None)] == [False, False, True, True]

    @pytest.mark.parametrize(("globs", "filters"), [(["a@*"], 0), (["a@*", "b@*"], 1), (["a@*", "b@*", "c@*"], 1)])
    def test_stands_before_rules_that_test_the_same_fact(self, globs: list[str], filters: int) -> None:
        rules = [rule("rcpt", where={"recipient": glob}, reply=NO) for glob in globs]
        (phase,) = compile_phases(loads(document(*rules), name="test"))
        plan = phase.plan("rcpt")
        assert plan is not None
        assert len(plan.filters) == filters
        assert len(plan.groups) == (0 if filters else len(globs))
