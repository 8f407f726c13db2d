"""What a quota says of itself: `{wait}`, `{reset}` and `{remaining}`, in every answer that may tell of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.engine import actions
from notnow.engine.store import Tally
from notnow.errors import ScenarioError
from notnow.language.condition import Quota
from notnow.language.conditions import OverWithin
from notnow.language.loading import loads
from playbook import Asked, Ended, Known, Opened, Playbook, Playing, Reached, document, phase, playing, rule

TOLD = "{remaining} {wait.seconds} {reset.seconds}"
QUOTA = {"per": "client", "over": 2, "within": "60s"}


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


def mail(book: Playbook, now: float, conn: str = "a", moment: str = "mail", **facts: Any) -> str:
    """The text of the reply at `moment`, if a rule says it; the transaction ends at once."""
    book.at(now) >> Asked(conn, moment, **facts)
    (script,) = book.skip().scripts
    book >> Ended(conn, moment)
    match script.steps[0]:
        case actions.Send(lines) | actions.Proceed(tuple(lines)):
            return lines[0][4:]
    return ""


def opened(play: Playing, *rules: dict[str, Any], **keys: Any) -> Playbook:
    book = play(document(phase(*rules, **keys), *([phase()] if keys else []))) >> Opened("a")
    return book.skip()


class TestASlidingWindow:
    def test_the_refusal_says_when_there_is_room(self, play):
        book = opened(play, rule("mail", reply=f"451 {TOLD}", **QUOTA))
        assert [mail(book, now) for now in (0, 45)] == ["", ""]
        assert [mail(book, now) for now in (45, 59.5)] == ["0 15 15", "0 1 1"]
        assert mail(book, 60) == ""  # the first has left
        assert mail(book, 61) == "0 44 44"

    def test_a_good_answer_tells_of_the_quota_of_its_moment(self, play):
        book = opened(play, rule("mail", reply="451 no", **QUOTA), rule("mail", reply=f"250 {TOLD}"))
        assert [mail(book, now) for now in (0, 20, 30)] == ["1 0 60", "0 40 40", "no"]

    def test_each_key_has_its_own(self, play):
        book = opened(play, rule("mail", reply=f"451 {TOLD}", **{**QUOTA, "over": 1}))
        book >> Opened("b", "192.0.2.9")
        book.skip()
        assert [mail(book, 0), mail(book, 10), mail(book, 10, "b")] == ["", "0 50 50", ""]

    def test_none_that_counts_the_event_says_nothing(self, play):
        book = opened(
            play,
            rule("mail", where={"sender": "*@bulk.test"}, reply="451 no", **QUOTA),
            rule("mail", reply=f"250 <{TOLD}>"),
        )
        assert mail(book, 0, sender="x@other.test") == "<  >"
        assert mail(book, 0, sender="x@bulk.test") == "<1 0 60>"

    def test_its_own_quota_goes_before_another_one(self, play):
        small = rule("mail", per="server", over=0, within="10s", chance="0%", reply="451 no")
        book = opened(play, small, rule("mail", reply=f"451 {TOLD} {{limit}}", **QUOTA))
        assert [mail(book, 0) for _ in range(3)] == ["", "", "0 60 60 2"]

    def test_limit_of_a_rule_without_a_number_is_that_of_its_quota(self, play):
        book = opened(play, rule("mail", reply="451 no", **QUOTA), rule("mail", reply="250 {remaining} of {limit}"))
        assert mail(book, 0) == "1 of 2"

    def test_a_fault_that_comes_later_tells_what_is_left_by_then(self, play):
        quota = rule("body", per="client", over=1, within="60s", after_bytes=10, reply="451 {wait.seconds}")
        book = opened(play, quota)
        book >> Asked("a", "body")
        book.skip()
        book.at(20) >> Asked("a", "body")
        book.skip()
        book.at(25) >> Reached("a") << actions.Send(("451 55",))


def test_one_line_of_several_may_tell_of_the_quota(play):
    book = opened(play, rule("mail", reply=[f"451-{TOLD}", "451 later"], **QUOTA))
    assert [mail(book, now) for now in (0, 20, 30)] == ["", "", "0 30 30"]


def test_a_time_since_the_first_event(play):
    """Greylisting: this sender is let through when the first try is five minutes old."""
    book = opened(play, rule("rcpt", per="sender", first="5m", reply="451 {wait.seconds}"))
    said = [mail(book, now, moment="rcpt", sender="x@y.test", recipient="z@w.test") for now in (10, 70, 309.5, 310)]
    assert said == ["300", "240", "1", ""]


def test_all_conditions_of_a_rule_must_hold_so_the_most_generous_counts(play):
    book = opened(play, rule("mail", first="30s", over=1, within="60s", reply="451 {wait.seconds}"))
    assert [mail(book, now) for now in (0, 10, 30)] == ["", "20", ""]


def test_the_most_generous_of_two_limits_says_what_remains(play):
    keys = {"after": 4, "over": 2, "within": "1h"}
    book = opened(play, rule("mail", chance="0%", reply="451 no", **keys), rule("mail", reply="250 {remaining}"))
    assert [mail(book, 0) for _ in range(5)] == ["3", "2", "1", "0", "0"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"over": 3, "within": "1h"}, ["2", "1", "0"]), ({"after": 2}, ["1", "0", "0"]), ({"over": 2}, ["1", "1", "1"])],
    ids=["window", "count", "places"],
)
def test_remaining_of_each_kind(play, keys, said):
    """What is in progress holds a place until it ends: here each ends before the next one begins."""
    book = opened(play, rule("mail", chance="0%", reply="451 no", **keys), rule("mail", reply="250 {remaining}"))
    assert [mail(book, 0) for _ in said] == said


def test_chance_takes_nothing_from_the_count(play):
    book = opened(play, rule("mail", chance="0%", reply="451 no", **QUOTA), rule("mail", reply="250 {remaining}"))
    assert [mail(book, 0) for _ in range(3)] == ["1", "0", "0"]


def test_a_user_who_logs_in_meanwhile_has_a_quota_of_his_own(play):
    book = opened(play, rule("mail", per="user", over=1, within="60s", reply="451 {wait.seconds}"))
    assert [mail(book, 0), mail(book, 0)] == ["", "60"]
    book >> Known("a", {"user": "jane"})
    assert mail(book, 0) == ""


@given(
    times=st.lists(st.integers(0, 100), min_size=1, max_size=30).map(sorted),
    n=st.integers(1, 5),
    seconds=st.integers(1, 50),
)
def test_a_window_keeps_its_word(times: list[int], n: int, seconds: int) -> None:
    """Told to wait, a client is refused until then and let through afterwards; `remaining` counts down to that."""
    limit, tally = OverWithin(n, seconds), Tally()
    for now in times:
        refused = limit.holds(tally, now, ("me",))
        quota = limit.quota(tally, now)
        assert refused == (quota.remaining == 0) == bool(quota.wait)
        if not refused:
            tally.window.append(now)
        else:
            assert quota.wait is not None
            assert limit.holds(Tally(window=tally.window.copy()), now + quota.wait * 0.999, ("me",))
            assert not limit.holds(Tally(window=tally.window.copy()), now + quota.wait * 1.001 + 1e-6, ("me",))


def test_a_quota_of_none_never_lets_through() -> None:
    assert OverWithin(0, 10.0).quota(Tally(), 0.0) == Quota(0, None, 0.0)


@pytest.mark.parametrize(
    ("text", "keys", "found"),
    [
        ("{wait.seconds}", {"over": 1}, "knows when it lets a client through again; allowed: within"),
        ("{reset.ms}", {"nth": 1}, "knows when it lets a client through again"),
        ("{wait.date}", {"first": 3}, "knows when it lets a client through again"),
        ("{remaining}", {"first": "5m"}, "knows how many more it lets through; allowed: over = N or after = N"),
        ("{remaining}", {"after": "5m"}, "knows how many more it lets through"),
    ],
)
def test_a_placeholder_that_nothing_can_fill_is_an_error(text, keys, found):
    with pytest.raises(ScenarioError, match=rf"reply: \{text}: no rule of this phase at 'mail' {found}"):
        loads(document(rule("mail", reply=f"451 {text}", **keys)))


def test_the_quota_must_be_at_the_same_moment():
    quota = rule("mail", reply="451 no", **QUOTA)
    with pytest.raises(ScenarioError, match="no rule of this phase at 'rcpt' knows"):
        loads(document(quota, rule(["mail", "rcpt"], reply="250 {remaining}")))
    loads(document(rule("any", reply="451 no", **QUOTA), rule(["mail", "rcpt"], reply="250 {remaining}")))


def test_a_knob_of_that_name_stands_in_place_of_the_placeholder(play):
    text = document(rule("mail", reply="451 {wait.seconds} {wait.ms}"), params={"wait": "1.5s"})
    book = play(text) >> Opened("a")
    assert mail(book.skip(), 0) == "1.5 1500"


def test_headers_of_a_rule_join_those_of_its_fault():
    asks = rule("request", fault="x", status=429, headers={"retry-after": "1", "via": "b"})
    made = loads(document(asks, protocol="http", fault={"x": {"headers": {"via": "a", "age": "3"}}}))
    (joined,) = made.rules()
    assert dict(joined.headers or ()) == {"age": "3", "retry-after": "1", "via": "b"}
