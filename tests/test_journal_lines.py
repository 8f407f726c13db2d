"""Entries as lines of JSON: what `json.dumps` writes, whatever a client has said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.journal.lines import json_line, json_lines

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
