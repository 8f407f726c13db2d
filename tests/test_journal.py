"""The journal, written by hand."""

from __future__ import annotations

import io
import json

import pytest

from notnow import ManualClock
from notnow.journal import LONGEST, Connection, Exchange, Journal, Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(ManualClock(), server="smtp", limit=5)


def connect(recorder: Recorder, n: int = 1) -> Connection:
    return recorder.open(f"id-{n}", "127.0.0.1", 40000 + n)


def say(recorder: Recorder, connection: Connection, moment: str = "noop", reply: str | None = "250 OK") -> Exchange:
    exchange = recorder.ask(connection, moment, moment.upper(), "one")
    if reply is not None:
        recorder.answer(exchange, reply)
    return exchange


def test_exchanges_are_numbered_in_the_order_in_which_they_happened(recorder: Recorder) -> None:
    a, b = connect(recorder, 1), connect(recorder, 2)
    said = [say(recorder, a), say(recorder, b), say(recorder, a)]
    assert [x.index for x in recorder.journal] == sorted(x.index for x in said)
    assert [x.connection.number for x in recorder.journal] == [1, 2, 1]
    assert a.exchanges == (said[0], said[2])


def test_two_journals_of_one_clock_share_an_order() -> None:
    clock = ManualClock()
    a, b = Recorder(clock, server="a"), Recorder(clock, server="b")
    first, second = say(a, connect(a)), say(b, connect(b))
    assert first.index < second.index


def test_times_are_scenario_times(recorder: Recorder) -> None:
    exchange = recorder.ask(connect(recorder), "mail", "MAIL", "one")
    recorder.journal.clock.advance(30)  # type: ignore[attr-defined]
    recorder.answer(exchange, "250 OK")
    assert (exchange.at, exchange.answered_at) == (0, 30)
    assert exchange.wall > 1_700_000_000


def test_a_request_that_had_to_wait_says_when_it_arrived(recorder: Recorder) -> None:
    connection = connect(recorder)
    first = recorder.ask(connection, "mail", "MAIL", "one")
    assert (first.arrived_at, first.arrived_index, "arrived_at" in first.as_dict()) == (0, first.index, False)
    recorder.clock.advance(1)  # type: ignore[attr-defined]
    arrival = recorder.now()
    recorder.clock.advance(2)  # type: ignore[attr-defined]
    recorder.answer(first, "250 OK")
    second = recorder.ask(connection, "rset", "RSET", "one")
    recorder.arrived(second, arrival)
    assert (second.at, second.arrived_at, first.answered_at) == (3, 1, 3)
    assert first.index < second.arrived_index < second.index
    assert (second.as_dict()["arrived_at"], second.as_dict()["arrived_index"]) == (1, arrival.index)


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
def test_a_reply_has_one_code_however_many_lines(recorder: Recorder, reply: str | None, codes: tuple[int, ...]) -> None:
    exchange = say(recorder, connect(recorder), reply=reply)
    assert exchange.codes == codes
    assert exchange.code == (codes[0] if codes else None)


def test_a_4yz_a_5yz_and_a_close_without_a_word_are_refusals(recorder: Recorder) -> None:
    connection = connect(recorder)
    assert not say(recorder, connection).refused
    assert say(recorder, connection, reply="450 later").refused
    assert say(recorder, connection, reply="250 Ok\n421 bye").refused
    silent = say(recorder, connection, reply=None)
    assert not silent.refused
    recorder.end(silent)
    assert silent.refused
    begun = say(recorder, connection, reply="150 here it comes")
    assert begun.unanswered
    assert not begun.refused
    recorder.end(begun)
    assert begun.refused  # what was to follow a 1yz never came (RFC 959 §4.2.1)


def test_moments_are_counted_dropped_ones_too(recorder: Recorder) -> None:
    connection = connect(recorder)
    for _ in range(8):
        say(recorder, connection)
    assert (recorder.journal.count("noop"), recorder.journal.count("mail")) == (8, 0)


def test_it_is_bounded_and_says_so(recorder: Recorder) -> None:
    first = connect(recorder, 1)
    say(recorder, first)
    recorder.close(first, "client")
    second = connect(recorder, 2)
    for _ in range(7):
        say(recorder, second)
    assert (len(recorder.journal), recorder.journal.dropped) == (5, 3)
    assert recorder.journal.connections == (second,)  # the first is over, and nothing is left of it
    assert len(second.exchanges) == 5
    out = io.StringIO()
    recorder.journal.export(out)
    assert json.loads(out.getvalue().splitlines()[0]) == {"event": "dropped", "count": 3}


def test_what_was_dropped_since_the_last_play_is_counted_apart(recorder: Recorder) -> None:
    connection = connect(recorder)
    for _ in range(7):
        say(recorder, connection)
    assert (recorder.journal.dropped, recorder.journal.dropped_since_play) == (2, 2)
    recorder.mark("play", "smtp/overload")
    for _ in range(5):
        say(recorder, connection)
    assert (recorder.journal.dropped, recorder.journal.dropped_since_play) == (7, 0)
    say(recorder, connection)
    assert (recorder.journal.dropped, recorder.journal.dropped_since_play) == (8, 1)
    merged = Journal.merged([recorder.journal, Recorder(recorder.clock).journal])
    assert (merged.dropped, merged.dropped_since_play) == (8, 1)
    recorder.reset()
    assert (recorder.journal.dropped, recorder.journal.dropped_since_play) == (0, 0)


def test_a_connection_of_which_all_is_dropped_goes_when_it_ends(recorder: Recorder) -> None:
    first, second = connect(recorder, 1), connect(recorder, 2)
    say(recorder, first)
    for _ in range(5):
        say(recorder, second)
    assert recorder.journal.connections == (first, second)
    recorder.close(first, "client")
    assert recorder.journal.connections == (second,)


def test_long_lines_are_clipped(recorder: Recorder) -> None:
    exchange = recorder.ask(connect(recorder), "unknown", "x" * 10_000_000, "one")
    assert len(exchange.request) < LONGEST + 50
    assert "10000000 characters" in exchange.request


def test_what_is_said_after_a_close_is_kept_clipped_and_counted(recorder: Recorder) -> None:
    connection = connect(recorder)
    recorder.said_after(connection, b"QUIT\r\n")
    recorder.said_after(connection, b"x" * 5_000)
    assert connection.after.startswith("QUIT\r\nxxx")
    assert len(connection.after) <= LONGEST
    assert connection.after_bytes == 5_006


def test_the_first_words_after_a_close_have_a_time(recorder: Recorder) -> None:
    connection = connect(recorder)
    recorder.close(connection, "fake")
    recorder.clock.advance(1)  # type: ignore[attr-defined]
    recorder.said_after(connection, b"MAIL\r\n")
    recorder.clock.advance(1)  # type: ignore[attr-defined]
    recorder.said_after(connection, b"RCPT\r\n")
    arrival = connection.after_arrival
    assert arrival is not None
    assert (arrival.at, connection.as_dict()["after_at"]) == (1, 1)
    assert connection.closed_index is not None
    assert arrival.index > connection.closed_index


def test_words_that_were_left_unread_at_a_close_have_come_before_it(recorder: Recorder) -> None:
    connection, arrival = connect(recorder), recorder.now()
    recorder.close(connection, "fake")
    recorder.said_after(connection, b"RCPT\r\n", arrival=arrival)
    assert connection.after_arrival == arrival


def test_what_is_said_to_a_fake_that_stalls_is_kept_with_its_time(recorder: Recorder) -> None:
    connection = connect(recorder)
    assert "unread" not in connection.as_dict()
    recorder.clock.advance(5)  # type: ignore[attr-defined]
    recorder.unread(connection, b"PASS x\r\n", lambda text: text.replace("x", "***"))
    recorder.unread(connection, b"y" * 5_000)
    assert connection.unread.startswith("PASS ***\r\nyyy")
    assert (len(connection.unread), connection.as_dict()["unread_at"]) == (LONGEST, 5)


def test_since_play_leaves_out_what_was_before(recorder: Recorder) -> None:
    connection = connect(recorder)
    say(recorder, connection)
    recorder.mark("play", "smtp/overload")
    after = say(recorder, connection)
    assert recorder.journal.since_play() == (after,)


def test_reset_forgets_all_but_who_is_still_there(recorder: Recorder) -> None:
    gone, here = connect(recorder, 1), connect(recorder, 2)
    say(recorder, gone)
    say(recorder, here)
    recorder.close(gone, "client")
    recorder.reset()
    assert (len(recorder.journal), recorder.journal.count("noop"), recorder.journal.connections) == (0, 0, (here,))
    assert here.exchanges == ()


def test_an_export_is_json_lines_in_order(recorder: Recorder) -> None:
    connection = connect(recorder)
    recorder.mark("play", "smtp/healthy")
    say(recorder, connection, "connect", "220 hello")
    say(recorder, connection, "quit", "221 bye")
    recorder.close(connection, "client")
    out = io.StringIO()
    recorder.journal.export(out)
    entries = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [e["event"] for e in entries] == ["play", "exchange", "exchange", "closed"]
    assert [e["index"] for e in entries] == sorted(e["index"] for e in entries)
    assert entries[2]["reply"] == "221 bye"
    assert entries[3]["ended_by"] == "client"


def test_listeners_hear_what_is_complete_until_they_stop(recorder: Recorder) -> None:
    heard: list[object] = []
    stop = recorder.journal.subscribe(heard.append)
    exchange = say(recorder, connect(recorder), reply=None)
    assert heard == []
    recorder.answer(exchange, "250 OK")
    assert heard == [exchange]
    stop()
    say(recorder, exchange.connection)
    assert heard == [exchange]


def test_a_limit_is_one_or_more() -> None:
    with pytest.raises(ValueError, match="journal_limit is 0; allowed: 1 or more"):
        Recorder(ManualClock(), limit=0)
