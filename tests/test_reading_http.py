"""What rules of HTTP ask of the ledger, and what came through."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.expectations.delivery import delivered
from notnow.conduct.reading.http.retries import has_name, recurring, retries, surely_knew, told, tries

GET, POST = "GET a.site.test/", "POST a.site.test/pay"


@pytest.fixture
def play() -> Play:
    return Play("http")


@pytest.mark.parametrize(
    ("line", "states"),
    [
        (GET, ["delivered"]),
        (f"{GET} -> 399 see there", ["delivered"]),
        (f"{GET} -> 400 no", ["refused"]),
        (f"{GET} -> 503 no", ["missing"]),
        (f"{GET} -> !", ["missing"]),
        (f"{POST} {{stored=true}}", ["delivered"]),
        (POST, ["in doubt"]),
    ],
)
def test_what_came_through(play: Play, line: str, states: list[str]) -> None:
    play.connect(line)
    assert [item.state for item in play.run.ledger.items] == states


def test_copies_are_requests_of_the_same_body(play: Play) -> None:
    play.connect(*[f"{POST} {{body={size}, stored=true}}" for size in (5, 6, 5)], GET, GET)
    assert [(len(item.copies), item.state) for item in play.run.ledger.items][:2] == [
        (2, "duplicated"),
        (1, "delivered"),
    ]


@pytest.mark.parametrize(
    ("host", "named"),
    [("a.site.test", True), ("localhost", False), ("127.0.0.1", False), ("::1", False), ("", False)],
)
def test_an_sni_carries_a_fully_qualified_name(host: str, named: bool) -> None:
    assert has_name(host) is named


def test_a_request_after_a_close_is_none_of_the_journal(play: Play) -> None:
    line = play.connect(GET, "(closes)")
    play.recorders[0].said_after(line.connection, b"GET / HTTP/1.1\r\nHost: a.site.test\r\n\r\n")
    play.connect(GET)
    assert len(play.run.ledger.tries) == 3
    assert [one.began.request for one in tries(play.run)] == [GET, GET]
    assert retries(play.run) == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"{GET} -> 503 busy", 503),
        (f"{GET} {{whole=false}} -> 404 none", 404),
        (f"{GET} {{whole=false}} -> 400 no", 400),
        (f"{GET} {{whole=false}} -> 399 there", None),
        (GET, 200),
        (f"{GET} {{whole=false}} -> 200 OK | RST_STREAM INTERNAL_ERROR", None),
        (f"{GET} {{whole=false}} -> 200 OK | RST_STREAM REFUSED_STREAM", None),
        (f"{GET} -> !", None),
    ],
)
def test_a_client_is_told_a_status_by_a_whole_answer(play: Play, line: str, status: int | None) -> None:
    play.connect(line)
    (one,) = tries(play.run)
    assert told(one) == status


def test_a_request_recurs_if_it_is_made_for_itself_more_than_once(play: Play) -> None:
    play.connect(GET, GET, "GET a.site.test/once", POST, POST, f"{POST}/once -> 503 busy", f"{POST}/once")
    client = "192.0.2.1"
    assert recurring(play.run) == {(client, GET), (client, POST)}


def knew(play: Play) -> bool:
    before, again = tries(play.run)[-2:]
    return surely_knew(again, before)


@pytest.mark.parametrize(("gap", "known"), [("20ms", False), ("21ms", True)])
def test_a_stream_may_be_on_its_way_when_another_is_answered(play: Play, gap: str, known: bool) -> None:
    play.connect(GET, f"({gap})", GET)
    assert knew(play) is known


def test_over_http1_a_request_waits_for_the_answer_before(play: Play) -> None:
    play.connect(f"{GET} {{version=1.1}}", f"{GET} {{version=1.1}}")
    assert knew(play)


def test_a_connection_that_was_made_after_the_answer_came_after_it(play: Play) -> None:
    play.connect(GET)
    play.connect(GET)
    assert knew(play)


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        ((f"{GET} -> 503 busy", f"{GET} -> 404 none"), "not exercised"),
        ((f"{GET} -> 404 none", f"{GET} -> 503 busy"), "broken"),
        ((f"{POST} {{body=5}} -> !",), "not exercised"),
    ],
)
def test_nothing_has_to_come_through_where_all_is_refused_for_good(
    play: Play, lines: tuple[str, ...], outcome: str
) -> None:
    for line in lines:
        play.connect(line)
    assert delivered(play.run, 1).outcome == outcome
