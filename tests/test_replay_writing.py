"""From the tables of a recording to TOML that loads, and from numbered events to rules."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.chaos.replay import recording as recording_module
from notnow.chaos.replay import writing
from notnow.chaos.replay.recording import Part, Recording, ReplayError, Table, by_ordinal, literal

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**60), 2**60) | TEXT | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
REPLY = {"reply": "421 no"}


def recorded(*parts: Part, **more: Any) -> Recording:
    return Recording("smtp", "A run.", "", list(parts), **more)


@given(st.dictionaries(TEXT, VALUES, max_size=4), st.sampled_from(["server", "certificate", "expect"]))
def test_every_table_is_written_as_it_is(table: Table, name: str) -> None:
    text = "\n".join(writing._lines(recorded(tables={name: table})))
    assert tomllib.loads(text)[name] == table
    assert all(char.isprintable() or char == "\n" for char in text)


@given(st.lists(TEXT, max_size=3))
def test_a_comment_stays_a_comment(lines: list[str]) -> None:
    text = "\n".join(writing._lines(recorded(about=lines)))
    assert tomllib.loads(text) == {"summary": "A run.", "protocol": "smtp"}


@given(st.text())
def test_recorded_words_are_said_as_they_were(words: str) -> None:
    """But for what TOML cannot hold. Whatever stands in braces is no placeholder."""
    from notnow.language.knobs import render

    said = render(literal(words), lambda name: pytest.fail(f"{name} was taken for a placeholder"))
    assert said == words.encode("utf-8", "replace").decode()


def test_a_rule_begins_with_its_moment() -> None:
    text = writing.document(
        recorded(Part("one", 90, rules=[{"close": False, **REPLY, "nth": 2, "on": "rcpt"}]), Part("two")), "x"
    )
    assert text == (
        'summary  = "A run."\nprotocol = "smtp"\n\n[[phase]]\nname = "one"\nlasts = "90s"\n\n[[phase.rule]]\n'
        'on    = "rcpt"\nnth   = 2\nreply = "421 no"\nclose = false\n\n[[phase]]\nname = "two"\n'
    )


def test_what_makes_no_scenario_is_refused_with_the_reason() -> None:
    with pytest.raises(
        ReplayError, match=r"log: what was recorded makes no scenario: log:\d+: phase\[0\].rule\[0\].on: .*nosuch"
    ):
        writing.document(recorded(Part("one", rules=[{"on": "nosuch", **REPLY}])), "log")


def test_too_many_rules_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "MOST_RULES", 2)
    rules = by_ordinal("rcpt", {1: REPLY, 3: REPLY, 5: REPLY})
    with pytest.raises(ReplayError, match="log: a scenario that repeats it would have 3 rules; allowed: 2"):
        writing.document(recorded(Part("one", rules=rules)), "log")
    assert recording_module.MOST_RULES == 2000


@given(
    st.dictionaries(st.integers(1, 30), st.sampled_from([{"reply": "421 a"}, {"reply": "421 b"}, None]), max_size=20)
)
def test_rules_say_of_each_event_what_it_met(met: dict[int, Table | None]) -> None:
    rules = by_ordinal("rcpt", met)
    found = {n: [rule for rule in rules if _fits(rule, n)] for n in range(1, 40)}
    assert all(len(fitting) <= 1 for fitting in found.values())
    assert {n: fitting[0].get("reply") for n, fitting in found.items() if fitting} == {
        n: told and told["reply"] for n, told in met.items()
    }


def _fits(rule: Table, n: int) -> bool:
    if "nth" in rule:
        return bool(rule["nth"] == n)
    return bool(rule.get("after", 0) < n <= rule["first"])


@pytest.mark.parametrize(("seconds", "written"), [(90, "90s"), (1.5, "1.5s"), (0, "0.001s"), (1 / 3, "0.333333s")])
def test_a_length_of_time(seconds: float, written: str) -> None:
    assert writing.duration(seconds) == written
