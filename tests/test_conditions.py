"""Conditions of rules, one by one."""

from __future__ import annotations

import pytest

from notnow.engine.conditions import (
    After,
    AfterFor,
    Always,
    Condition,
    Every,
    First,
    FirstFor,
    Nth,
    Over,
    OverWithin,
    Tally,
    Times,
)

ME = ("me",)


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        (Always(), [1, 2, 3, 4, 5, 6]),
        (Nth(2), [2]),
        (Every(3), [3, 6]),
        (First(2), [1, 2]),
        (After(4), [5, 6]),
    ],
)
def test_on_the_count(condition: Condition, counts: list[int]) -> None:
    assert [n for n in range(1, 7) if condition.holds(Tally(count=n), 0.0, ME)] == counts


@pytest.mark.parametrize(
    ("condition", "times"), [(FirstFor(10.0), [100, 109.9]), (AfterFor(10.0), [110, 200])], ids=["first", "after"]
)
def test_on_the_time_since_the_first(condition: Condition, times: list[float]) -> None:
    assert [now for now in (100, 109.9, 110, 200) if condition.holds(Tally(since=100.0), now, ME)] == times


@pytest.mark.parametrize(
    ("held", "holds"),
    [(set(), False), ({"a"}, False), ({"a", "b"}, True), ({"a", "me"}, False), ({"a", "b", "me"}, True)],
)
def test_over_counts_the_others(held: set[str], holds: bool) -> None:
    assert Over(2).holds(Tally(held=held), 0.0, ME) is holds


def test_over_within_forgets_what_is_older() -> None:
    tally = Tally()
    tally.window.extend([0.0, 5.0])
    found = [OverWithin(2, 10.0).holds(tally, now, ME) for now in (5.0, 9.9, 10.0)]
    assert found == [True, True, False]
    assert list(tally.window) == [5.0]


def test_times_looks_at_its_own_rule() -> None:
    tally = Tally(fired={0: 5, 1: 1})
    assert [Times(rule, 2).holds(tally, 0.0, ME) for rule in (0, 1, 2)] == [False, True, True]
