"""Entries as lines of JSON: what `json.dumps` writes, whatever a client has said."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notnow.clock import ManualClock
from notnow.journal import (
    TLS,
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
from notnow.journal.journal import iso
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


def refused(number: int, journal: Journal, at: float, other: Mapping[str, Any], more: Mapping[str, Any]) -> list[Entry]:
    known = {
        "client": "127.0.0.1", "opened_at": at, "closed_at": at, "closed_index": number + 2, "ended_by": "fake", **other,
    }  # fmt: skip
    said = {
        "request": "", "phase": "one", "reply": "421 no", "answered_at": at, "end": ConnectionClose(), **more,
    }  # fmt: skip
    connection = Connection(journal, number, "id", peer_port=7, index=number, **known)
    return [Exchange(number + 1, at, 1e9 + number, "connect", connection=connection, **said), connection]


CONNECTION: list[dict[str, Any]] = [
    {"client": "::1"}, {"ended_by": "client"}, {"opened_at": 0.25}, {"closed_at": None}, {"closed_at": 9e6}, {"closed_index": None},
    {"after_arrival": Arrival(3, 2.5), "after": "b"}, {"unread_arrival": Arrival(3, 2.5), "unread": "c"},
    {"failure": ConnectionLost("x")}, {"tls": TLS("a")}, {"goaways": (GoAwayFrame("NO_ERROR", 1),)},
]  # fmt: skip
EXCHANGE: list[dict[str, Any]] = [
    {"request": "QUIT"}, {"reply": "421 other"}, {"reply": None}, {"phase": "two"}, {"rule": "phase[0].rule[0]"}, {"fault": "reply"},
    {"end": None}, {"answered_at": None}, {"answered_at": 9e6, "fault": "reply"}, {"frames": (GoAwayFrame("NO_ERROR", 1),)},
    {"arrival": Arrival(3, 2.5)}, {"facts": Parameters({"A": "B"})},
]  # fmt: skip
REFUSED = st.builds(
    refused,
    st.integers(1, 99),
    st.sampled_from(JOURNALS),
    TIMES,
    st.just({}) | st.sampled_from(CONNECTION),
    st.just({}) | st.sampled_from(EXCHANGE),
)
MARKS = st.builds(Mark, st.integers(1, 99), TIMES, st.just("phase"), WORDS)


@pytest.mark.parametrize("most", [1, 1000])
@given(st.lists(st.lists(EXCHANGES | CONNECTIONS | MARKS, max_size=3) | REFUSED, max_size=6))
def test_entries_that_differ_in_numbers_have_the_lines_that_they_have_alone(
    most: int, parts: list[list[Entry]]
) -> None:
    entries = [entry for part in parts for entry in part]
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


@pytest.mark.parametrize(
    ("other", "more"), [*((other, {}) for other in CONNECTION), *(({}, more) for more in EXCHANGE)], ids=str
)
def test_a_refusal_that_differs_from_the_others_has_its_own_lines(
    other: Mapping[str, Any], more: Mapping[str, Any]
) -> None:
    alike = [refused(number, JOURNALS[0], 0.5 + number, {}, {}) for number in (1, 2)]
    entries = [*alike[0], *refused(3, JOURNALS[0], 7.0, other, more), *alike[1]]
    alone = [f"{json.dumps(entry.as_dict())}\n" for entry in entries]
    assert Lines().of(entries) == "".join(alone)
    assert Lines().of(entries[2:]) == "".join(alone[2:])
    assert Lines().of(entries[:3]) == "".join(alone[:3])


AROUND = [0, 1e-7, 2.4e-7, 5e-7, 1e-6, 1.5e-6, 2e-6, 3e-6, 0.0005, 0.000997, 0.000998, 0.000999]  # in a millisecond


@given(
    st.integers(0, 4 * 10**9),
    st.lists(st.tuples(st.sampled_from([0, 1, 499, 998, 999, 1000]), st.sampled_from(AROUND))),
)
def test_times_of_a_millisecond_have_the_text_that_they_have_alone(second: int, times: list[tuple[int, float]]) -> None:
    lines = Lines()
    for milli, more in times:
        for wall in (second + milli / 1000 + more, second + milli / 1000 - more):
            assert lines._wall(wall) == iso(wall)


def test_a_time_is_written_once_a_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, written = Lines(), []
    monkeypatch.setattr(_repeated, "iso", lambda wall: written.append(wall) or iso(wall))
    assert [lines._wall(1e9 + i / 10_000 + 5e-5) for i in range(20)] == ["2001-09-09T01:46:40.000+00:00"] * 10 + [
        "2001-09-09T01:46:40.001+00:00"
    ] * 10
    assert len(written) == 2
