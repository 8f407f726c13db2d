"""Conditions of rules, one by one."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import deque
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.engine.store import Tally
from notnow.language.condition import Condition, Variant
from notnow.language.conditions import (
    CONDITIONS,
    After,
    AfterFor,
    Busy,
    Every,
    First,
    FirstFor,
    Nth,
    Over,
    OverWithin,
    Times,
    When,
    conditions,
    exclude,
    limit,
)
from notnow.language.tables import read

ME = ("me",)


@pytest.mark.parametrize(
    ("condition", "counts"),
    [
        (Nth(2), [2]),
        (Every(3), [3, 6]),
        (First(2), [1, 2]),
        (After(4), [5, 6]),
    ],
)
def test_on_the_count(condition: Condition, counts: list[int]) -> None:
    assert [n for n in range(1, 7) if condition.holds(Tally(count=n), 0.0, ME)] == counts


def test_how_often_a_rule_may_fire_yet() -> None:
    assert [Nth(2).left(Tally(count=n)) for n in range(4)] == [1, 1, 0, 0]
    assert [First(2).left(Tally(count=n)) for n in range(3)] == [2, 1, 0]
    assert Every(2).left(Tally(count=1)) is None


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


# ---- a condition is a class and a key ------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "made", "words"),
    [
        ({"nth": 2}, Nth(2), "only the 2nd"),
        ({"every": 3}, Every(3), "every 3rd"),
        ({"first": 1}, First(1), "only the first"),
        ({"first": 4}, First(4), "only the first 4"),
        ({"first": "90s"}, FirstFor(90.0), "for 1m 30s from the first one"),
        ({"after": 4}, After(4), "after the first 4"),
        ({"after": "5m"}, AfterFor(300.0), "from 5m after the first one"),
        ({"over": 1}, Over(1), "when 1 is in already"),
        ({"over": 2}, Over(2), "when 2 are in already"),
        ({"over": 1, "within": "1h"}, OverWithin(1, 3600.0), "when 1 was let through in the last 1h"),
        ({"over": 2, "within": "1h"}, OverWithin(2, 3600.0), "when 2 were let through in the last 1h"),
        ({"busy": True}, Busy(True), "while its queue is full"),
        ({"busy": False}, Busy(False), "while its queue has room"),
        ({"times": 3}, Times(7, 3), "at most 3 times"),
    ],
)
def test_a_key_is_a_condition_with_its_words(keys: dict[str, object], made: Condition, words: str) -> None:
    found = conditions(read(When, {"on": "noop", **keys}), 7)
    assert list(found.values()) == [made]
    assert made.words() == words


@pytest.mark.parametrize(
    ("keys", "number"),
    [
        ({"nth": 2}, 2),
        ({"every": 2}, None),
        ({"first": 3}, 3),
        ({"first": "3s"}, 3.0),
        ({"after": 4}, 4),
        ({"after": "4s"}, 4.0),
        ({"over": 5}, 5),
        ({"over": 6, "within": "9s"}, 6),
        ({"times": 7}, None),
        ({"nth": 1, "first": 2, "after": 3, "over": 4}, 4),
        ({"nth": 1, "first": 2, "after": 3}, 3),
        ({"nth": 1, "first": 2}, 2),
    ],
)
def test_the_number_that_a_reply_calls_the_limit(keys: dict[str, object], number: float | None) -> None:
    assert limit(read(When, {"on": "noop", **keys})) == number


def test_at_idle_after_is_the_length_of_the_silence() -> None:
    rule = read(When, {"on": "idle", "nth": 2, "after": "5m"})
    assert (conditions(rule), limit(rule)) == ({"nth": Nth(2)}, 300.0)


def test_of_conditions_in_progress() -> None:
    assert [Over(n).words(True) for n in (1, 2)] == ["when 1 is in progress already", "when 2 are in progress already"]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (Nth(3), First(3), False),
        (Nth(4), First(3), True),
        (Nth(3), After(3), True),
        (Nth(4), After(3), False),
        (Nth(4), Every(2), False),
        (Nth(3), Every(2), True),
        (Every(3), First(3), False),
        (Every(4), First(3), True),
        (First(3), After(3), True),
        (First(4), After(3), False),
        (First(1), AfterFor(5.0), True),
        (First(2), AfterFor(5.0), False),
        (FirstFor(5.0), AfterFor(5.0), True),
        (FirstFor(5.5), AfterFor(5.0), False),
        (FirstFor(5.0), After(99), False),
        (Over(3), Over(9), False),
    ],
)
def test_two_that_no_event_satisfies(one: Condition, other: Condition, apart: bool) -> None:
    assert exclude(one, other) is apart
    if not isinstance(one, Nth):
        assert exclude(other, one) is apart


@pytest.mark.parametrize(
    ("condition", "tells"),
    [(Nth(1), ()), (Every(1), ()), (First(1), ()), (FirstFor(1.0), ("wait", "reset")), (After(1), ("remaining",)),
     (AfterFor(1.0), ()), (Over(1), ("remaining",)), (OverWithin(1, 5.0), ("remaining", "wait", "reset")), (Times(0, 1), ())],
)  # fmt: skip
def test_a_quota_has_what_it_tells(condition: Condition, tells: tuple[str, ...]) -> None:
    tally = Tally()
    tally.window.append(0.0)
    quota = condition.quota(tally, 1.0)
    assert tuple(name for name, value in quota._asdict().items() if value is not None) == tells
    assert condition.tells == frozenset(tells)


HALF = """
    from notnow.language import conditions

    {0}
    class When(conditions.When):
        {1}

    conditions.When = When
    conditions._rows()
"""


@pytest.mark.parametrize(
    ("condition", "field", "error"),
    [
        ("", "between = conditions.key(conditions.Count, about='')", "the condition 'between' names no class"),
        (
            "class Between(conditions.Condition):\n    n: int\n"
            "    def holds(self, *event): return True\n    def words(self, lasting=False): return ''",
            "pass",
            "no key of When names the condition Between",
        ),
        (
            "class Between(conditions.Condition):\n    def holds(self, *event): return True",
            "between = conditions.key(conditions.Count, Between, about='')",
            "the condition Between needs 'holds' and 'words'",
        ),
        ("class Between(conditions.Variant):\n    tells = frozenset({'wait'})", "pass", "has both 'quota' and 'tells'"),
    ],
)
def test_half_of_a_condition_is_an_error_at_import(condition: str, field: str, error: str) -> None:
    code = dedent(HALF).format(condition, field)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert error in done.stderr


@pytest.mark.parametrize(
    ("condition", "events", "seconds"),
    [
        (Nth(3), (3, 3), (0.0, None)),
        (Every(3), (3, None), (0.0, None)),
        (First(3), (1, 3), (0.0, None)),
        (FirstFor(5.0), (1, None), (0.0, 5.0)),
        (After(3), (4, None), (0.0, None)),
        (AfterFor(5.0), (2, None), (5.0, None)),
        (Over(3), (1, None), (0.0, None)),
        (OverWithin(3, 5.0), (1, None), (0.0, None)),
        (Times(0, 3), (1, None), (0.0, None)),
    ],
)
def test_when_it_can_hold(
    condition: Condition, events: tuple[int, int | None], seconds: tuple[float, float | None]
) -> None:
    assert (condition.events, condition.seconds) == (events, seconds)


@pytest.mark.parametrize(("condition", "counts", "never_at"), [
    (Nth(1), "events", set()), (FirstFor(1.0), "events", set()), (Over(1), "slots", {"idle"}),
    (OverWithin(1, 1.0), "slots", {"idle"}), (Times(0, 1), "firings", set()),
])  # fmt: skip
def test_what_it_counts_and_where_it_has_no_meaning(condition: Condition, counts: str, never_at: set[str]) -> None:
    assert (condition.counts, condition.never_at) == (counts, never_at)


CLASSES = [one for one in (*CONDITIONS.values(), *Variant.__subclasses__()) if one is not Busy]


@pytest.mark.parametrize("kind", CLASSES)
@given(
    count=st.integers(1, 9),
    held=st.integers(0, 4),
    elapsed=st.sampled_from([0.0, 1.0, 5.0]),
    fired=st.integers(0, 3),
    limits=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_it_holds_only_where_it_says_that_it_can(
    kind: type[Condition], count: int, held: int, elapsed: float, fired: int, limits: tuple[int, int]
) -> None:
    """The engine does not ask it elsewhere."""
    condition = kind(*limits[: len(kind.__struct_fields__)])
    elapsed = 0.0 if count == 1 else elapsed  # since the first one
    tally = Tally(count, 0.0, {limits[0]: fired}, {f"c{n}" for n in range(held)}, deque([0.0] * held))
    if condition.holds(tally, elapsed, ME):
        first, last = condition.events
        assert first <= count <= (math.inf if last is None else last)
        assert condition.slots <= held
