"""The journal, written by hand."""

from __future__ import annotations

import io
import json

import pytest

from notnow import ManualClock
from notnow.journal import LONGEST, Connection, Exchange, Journal


@pytest.fixture
def journal() -> Journal:
    return Journal(ManualClock(), server="smtp", limit=5)


def connect(journal: Journal, n: int = 1) -> Connection:
    return journal.open(f"id-{n}", "127.0.0.1", 40000 + n)


def say(journal: Journal, connection: Connection, moment: str = "noop", reply: str | None = "250 OK") -> Exchange:
    exchange = journal.ask(connection, moment, moment.upper(), "one")
    if reply is not None:
        journal.answer(exchange, reply)
    return exchange


def test_exchanges_are_numbered_in_the_order_in_which_they_happened(journal: Journal) -> None:
    a, b = connect(journal, 1), connect(journal, 2)
    said = [say(journal, a), say(journal, b), say(journal, a)]
    assert [x.index for x in journal] == sorted(x.index for x in said)
    assert [x.connection.number for x in journal] == [1, 2, 1]
    assert a.exchanges == (said[0], said[2])


def test_two_journals_of_one_clock_share_an_order() -> None:
    clock = ManualClock()
    a, b = Journal(clock, server="a"), Journal(clock, server="b")
    first, second = say(a, connect(a)), say(b, connect(b))
    assert first.index < second.index


def test_times_are_scenario_times(journal: Journal) -> None:
    exchange = journal.ask(connect(journal), "mail", "MAIL", "one")
    journal.clock.advance(30)  # type: ignore[attr-defined]
    journal.answer(exchange, "250 OK")
    assert (exchange.at, exchange.answered_at) == (0, 30)
    assert exchange.wall > 1_700_000_000


@pytest.mark.parametrize(
    ("reply", "codes"),
    [
        ("250 OK", (250,)),
        ("421", (421,)),
        ("250-a\n250-b\n250 c", (250,)),
        ("250 2.0.0 Ok\n421 4.3.2 closing", (250, 421)),
        ("250 one \u2028421 no line end", (250,)),
        ("²50 no code", ()),
        (None, ()),
    ],
)
def test_a_reply_has_one_code_however_many_lines(journal: Journal, reply: str | None, codes: tuple[int, ...]) -> None:
    exchange = say(journal, connect(journal), reply=reply)
    assert exchange.codes == codes
    assert exchange.code == (codes[0] if codes else None)


def test_a_4yz_a_5yz_and_a_close_without_a_word_are_refusals(journal: Journal) -> None:
    connection = connect(journal)
    assert not say(journal, connection).refused
    assert say(journal, connection, reply="450 later").refused
    assert say(journal, connection, reply="250 Ok\n421 bye").refused
    silent = say(journal, connection, reply=None)
    assert not silent.refused
    silent.closed = True
    assert silent.refused
    begun = say(journal, connection, reply="150 here it comes")
    assert begun.unanswered
    assert not begun.refused
    begun.closed = True
    assert begun.refused  # what was to follow a 1yz never came (RFC 959 §4.2.1)


def test_moments_are_counted_dropped_ones_too(journal: Journal) -> None:
    connection = connect(journal)
    for _ in range(8):
        say(journal, connection)
    assert (journal.count("noop"), journal.count("mail")) == (8, 0)


def test_it_is_bounded_and_says_so(journal: Journal) -> None:
    first = connect(journal, 1)
    say(journal, first)
    journal.close(first, "client")
    second = connect(journal, 2)
    for _ in range(7):
        say(journal, second)
    assert (len(journal), journal.dropped) == (5, 3)
    assert journal.connections == (second,)  # the first is over, and nothing is left of it
    assert len(second.exchanges) == 5
    out = io.StringIO()
    journal.export(out)
    assert json.loads(out.getvalue().splitlines()[0]) == {"event": "dropped", "count": 3}


def test_a_connection_of_which_all_is_dropped_goes_when_it_ends(journal: Journal) -> None:
    first, second = connect(journal, 1), connect(journal, 2)
    say(journal, first)
    for _ in range(5):
        say(journal, second)
    assert journal.connections == (first, second)
    journal.close(first, "client")
    assert journal.connections == (second,)


def test_long_lines_are_clipped(journal: Journal) -> None:
    exchange = journal.ask(connect(journal), "unknown", "x" * 10_000_000, "one")
    assert len(exchange.request) < LONGEST + 50
    assert "10000000 characters" in exchange.request


def test_what_is_said_after_a_close_is_kept_clipped_and_counted(journal: Journal) -> None:
    connection = connect(journal)
    connection.said_after(b"QUIT\r\n")
    connection.said_after(b"x" * 5_000)
    assert connection.after.startswith("QUIT\r\nxxx")
    assert len(connection.after) <= LONGEST
    assert connection.after_bytes == 5_006


def test_since_play_leaves_out_what_was_before(journal: Journal) -> None:
    connection = connect(journal)
    say(journal, connection)
    journal.mark("play", "smtp/overload")
    after = say(journal, connection)
    assert journal.since_play() == (after,)


def test_reset_forgets_all_but_who_is_still_there(journal: Journal) -> None:
    gone, here = connect(journal, 1), connect(journal, 2)
    say(journal, gone)
    say(journal, here)
    journal.close(gone, "client")
    journal.reset()
    assert (len(journal), journal.count("noop"), journal.connections) == (0, 0, (here,))
    assert here.exchanges == ()


def test_an_export_is_json_lines_in_order(journal: Journal) -> None:
    connection = connect(journal)
    journal.mark("play", "smtp/healthy")
    say(journal, connection, "connect", "220 hello")
    say(journal, connection, "quit", "221 bye")
    journal.close(connection, "client")
    out = io.StringIO()
    journal.export(out)
    entries = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [e["event"] for e in entries] == ["play", "exchange", "exchange", "closed"]
    assert [e["index"] for e in entries] == sorted(e["index"] for e in entries)
    assert entries[2]["reply"] == "221 bye"
    assert entries[3]["ended_by"] == "client"


def test_listeners_hear_what_is_complete_until_they_stop(journal: Journal) -> None:
    heard: list[object] = []
    stop = journal.subscribe(heard.append)
    exchange = say(journal, connect(journal), reply=None)
    assert heard == []
    journal.answer(exchange, "250 OK")
    assert heard == [exchange]
    stop()
    say(journal, exchange.connection)
    assert heard == [exchange]


def test_a_limit_is_one_or_more() -> None:
    with pytest.raises(ValueError, match="journal_limit is 0; allowed: 1 or more"):
        Journal(ManualClock(), limit=0)
