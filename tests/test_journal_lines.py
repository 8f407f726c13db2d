"""Entries as lines of JSON: what `json.dumps` writes, whatever a client has said."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.clock import ManualClock
from notnow.journal import (
    Arrival,
    Connection,
    ConnectionClose,
    ConnectionLost,
    Entry,
    Exchange,
    GoAwayFrame,
    Journal,
    Mark,
    Parameters,
)
from notnow.journal import repeated as _repeated
from notnow.journal.lines import json_line, json_lines
from notnow.journal.repeated import Lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_it_is_the_line_of_json_dumps(entry):
    assert json_line(entry) == json.dumps(entry)


@pytest.mark.parametrize("text", ["plain", "\x7f", "é", "\udce9", "\0\x1b[31m", '"\\/\n'])
def test_a_line_is_one_of_printable_ascii(text):
    line = json_line({"request": text})
    assert all(" " <= character <= "~" for character in line)
    assert json.loads(line) == {"request": text}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_same_number(value):
    assert json.loads(json_line({"at": value})) == {"at": value}


@pytest.mark.parametrize("odd", ["plain", "ä", "\x7f", "\udcff"])
def test_many_lines_are_the_lines_of_each(odd: str) -> None:
    entries = [{"request": "a"}, {"request": odd}, {"request": "b", "at": 1.5}]
    assert json_lines(iter(entries)) == "".join(f"{json.dumps(entry)}\n" for entry in entries)
    assert json_lines([]) == ""


JOURNALS = [Journal(ManualClock(), server=name) for name in ("smtp", "ä", '"connection": 1')]
TIMES = st.sampled_from([0.0, 0.5, 2.0, 0.0001, 1234.567891, 7.1234567, 1e5]) | st.floats(0.001, 1e6)
WORDS = st.sampled_from(["a", '"connection": 1, "opened_at": 0.5', "\x7f", "\udce9"])


def maybe(**fields: Any) -> st.SearchStrategy[Mapping[str, Any]]:
    """Some of these fields, each with one of its values."""
    return st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in fields.items()})


CONNECTIONS = st.builds(
    lambda number, journal, at, fields: Connection(journal, number, "id", "127.0.0.1", 7, 9, at, **fields),
    st.integers(1, 99),
    st.sampled_from(JOURNALS),
    TIMES,
    maybe(
        closed_at=[0.5, 3.0, 7.1], closed_index=[3, 1000], ended_by=["client", "fake"], failure=[ConnectionLost("x")], after=["b"],
        after_arrival=[Arrival(3, 2.5)], unread=["c"], unread_arrival=[Arrival(3, 2.5)], goaways=[(GoAwayFrame("NO_ERROR", 1),)],
    ),
)  # fmt: skip
EXCHANGES = st.builds(
    lambda connection, index, at, wall, moment, fields: Exchange(
        index, at, wall, moment, **{"request": "", "phase": "one", "connection": connection, **fields}
    ),
    CONNECTIONS,
    st.integers(1, 2**40),
    TIMES,
    st.floats(0, 4e9),
    WORDS,
    maybe(
        request=["QUIT"], reply=["421 no", "421-a\n421 b"], phase=["two"], rule=["phase[0].rule[0]"], fault=["reply"],
        end=[ConnectionClose(), ConnectionClose("reset")], answered_at=[0.0, 2.05, 9e6], frames=[(GoAwayFrame("NO_ERROR", 1),)],
        arrival=[Arrival(3, 2.5)], facts=[Parameters({"A": "B"})],
    ),
)  # fmt: skip
MARKS = st.builds(Mark, st.integers(1, 99), TIMES, st.just("phase"), WORDS)


@pytest.mark.parametrize("most", [1, 1000])
@given(st.lists(EXCHANGES | CONNECTIONS | MARKS, max_size=12))
def test_entries_that_differ_in_numbers_have_the_lines_that_they_have_alone(most: int, entries: list[Entry]) -> None:
    lines, alone = Lines(), "".join(f"{json.dumps(entry.as_dict())}\n" for entry in entries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_repeated, "MOST", most)
        assert lines.of(iter(entries)) == alone
        assert lines.of(entries) == alone  # once they are known
        assert len(lines._known) <= most


def test_what_is_told_of_a_refusal_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, entries = Lines(), list[Entry]()
    for number in range(1, 4):
        connection = Connection(JOURNALS[0], number, "id", "::1", 7, number, 0.5, 0.5, number + 2, ended_by="fake")
        entries += [
            Exchange(number + 1, 0.5, 1e9, "connect", "", "one", connection, "421 no", answered_at=0.5),
            connection,
        ]
    first = lines.of(entries[:2])
    monkeypatch.setattr(_repeated, "json_line", None)
    assert first + lines.of(entries[2:]) == json_lines(entry.as_dict() for entry in entries)
