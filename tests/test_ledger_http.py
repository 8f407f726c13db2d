"""The ledger of HTTP: which requests are tries of the same item, and what became of it."""

from __future__ import annotations

import pytest
from msgspec.structs import force_setattr, replace

from conduct_playbook import Play
from notnow.conduct.reading.ledger import Item, Ledger, Try
from notnow.conduct.reading.run import Run
from notnow.journal import Arrival, CertificateRejected, Failure, GoAwayFrame, HandshakeAbandoned, Request

GET, POST = "GET a.site.test/", "POST a.site.test/pay"
BUSY, GONE = f"{GET} -> !503 busy", f"{GET} -> !"
KEYED = f"{POST} {{body=5, stored=true, idempotency-key=a}}"
REQUEST = Request(
    stream=1, version="1.1", method="GET", authority="a.site.test", host="a.site.test", path="/", misdirected=(),
    status=503, body_bytes=0, body_sha256=None, sent=0, whole=True, stored=False,
)  # fmt: skip


@pytest.fixture
def play() -> Play:
    return Play("http")


def endings(item: Item) -> list[str]:
    return [one.ending for one in item.tries]


def items(ledger: Ledger) -> list[tuple[list[str], str]]:
    return [(endings(item), item.state) for item in ledger.items]


def only(play: Play) -> Item:
    (item,) = play.run.ledger.items
    return item


# ---- how a request ends --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 302, 304])
def test_a_good_answer_is_accepted(play: Play, status: int) -> None:
    play.connect(f"{GET} -> {status} well")
    assert items(play.run.ledger) == [(["accepted"], "delivered")]


@pytest.mark.parametrize("status", [408, 421, 425, 429, 500, 502, 503, 504, 507, 520, 529])
def test_a_refusal_for_now_is_deferred(play: Play, status: int) -> None:
    play.connect(f"{GET} -> !{status} no")
    assert items(play.run.ledger) == [(["deferred"], "missing")]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 501, 505, 506, 508, 510, 511])
def test_a_refusal_for_good_is_refused(play: Play, status: int) -> None:
    play.connect(f"{GET} -> !{status} no")
    assert items(play.run.ledger) == [(["refused"], "refused")]


def test_retry_after_says_that_a_refusal_is_for_now(play: Play) -> None:
    play.connect(f"{GET} {{retry-after=60}} -> !413 too much")
    assert items(play.run.ledger) == [(["deferred"], "missing")]


def test_a_refusal_counts_though_its_page_was_cut(play: Play) -> None:
    play.connect(f"{GET} {{whole=false}} -> !404 none", "(closes)")
    assert items(play.run.ledger) == [(["refused"], "refused")]


@pytest.mark.parametrize(
    "lines",
    [
        (GONE,),
        (f"{GET} -> !RST_STREAM INTERNAL_ERROR",),
        (f"{GET} {{whole=false}} -> !200 OK", "(closes)"),
        (f"{GET} -> …", "(closes)"),
        (f"{GET} -> …", "(leaves)"),
    ],
    ids=["closed", "reset", "cut", "closed while it waits", "left waiting"],
)
def test_a_request_without_a_whole_answer_is_unanswered(play: Play, lines: tuple[str, ...]) -> None:
    play.connect(*lines)
    assert items(play.run.ledger) == [(["unanswered"], "missing")]


@pytest.mark.parametrize("said", ["!RST_STREAM REFUSED_STREAM", "!GOAWAY NO_ERROR, last stream 1"])
def test_a_request_that_was_not_processed_is_deferred(play: Play, said: str) -> None:
    play.connect(f"{POST} {{stream=3, body=5}} -> {said}", "(closes)")
    assert items(play.run.ledger) == [(["deferred"], "missing")]


def test_the_last_stream_of_a_goaway_was_processed(play: Play) -> None:
    play.connect(f"{GET} {{stream=1}} -> !GOAWAY NO_ERROR, last stream 1", "(closes)")
    assert endings(only(play)) == ["unanswered"]


def test_a_goaway_ends_the_streams_that_it_excludes(play: Play) -> None:
    play.connect(f"{GET} {{stream=3}} -> …", "(1s)", "[enter] -> !GOAWAY NO_ERROR, last stream 1")
    play.wait("5s").connect(GET)
    assert endings(only(play)) == ["deferred", "accepted"]
    assert only(play).tries[1].delay == 5


@pytest.mark.parametrize(("line", "ending"), [(f"{GET} -> …", "unanswered"), (f"{GET} {{whole=false}}", "abandoned")])
def test_a_stream_that_the_client_resets_ends_there(play: Play, line: str, ending: str) -> None:
    opened = play.connect(line)
    play.wait("1s")
    recorder = play.recorders[0]
    recorder.more(opened.connection.exchanges[-1], cancelled=recorder.now())
    opened.says(GET, "(1s)", "(leaves)")
    assert endings(only(play)) == [ending, "accepted"]
    assert only(play).tries[0].ended_at == 1001


def test_a_client_that_leaves_before_a_good_answer_is_whole_may_have_enough(play: Play) -> None:
    play.connect(f"{GET} {{whole=false}}", "(leaves)")
    assert items(play.run.ledger) == [(["abandoned"], "in doubt")]


def test_a_request_may_still_wait(play: Play) -> None:
    play.connect(f"{GET} -> …")
    play.connect(GET)
    assert items(play.run.ledger) == [(["unanswered"], "in doubt"), (["accepted"], "delivered")]


def test_the_end_of_a_request_is_that_of_its_answer(play: Play) -> None:
    play.connect(f"{GET} -> (3s) !503 busy")
    play.wait("2s").connect(GET)
    first, again = only(play).tries
    assert (first.started_at, first.ended_at, again.delay) == (1000.0, 1003.0, 2.0)
    assert first.by is first.began


# ---- which tries belong together -----------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        BUSY, GONE, f"{GET} -> !421 Misdirected Request", f"{GET} -> !404 none",
        f"{GET} {{stream=3}} -> !RST_STREAM REFUSED_STREAM",
    ],
)  # fmt: skip
def test_the_same_request_after_a_failure_is_its_retry(play: Play, line: str) -> None:
    play.connect(line)
    play.connect(line)
    play.connect(GET)
    assert only(play).state == "delivered"
    assert [one.later is not None for one in only(play).tries] == [True, True, False]


def test_a_get_after_a_good_answer_is_another_item(play: Play) -> None:
    play.connect(GET, GET)
    assert items(play.run.ledger) == [(["accepted"], "delivered")] * 2


def test_a_post_after_a_good_answer_is_the_same_done_twice(play: Play) -> None:
    play.connect(*[f"{POST} {{body=5, stored=true}}"] * 2, f"{POST} {{body=6, stored=true}}")
    assert items(play.run.ledger) == [(["accepted", "accepted"], "duplicated"), (["accepted"], "delivered")]


def test_posts_side_by_side_are_different_items(play: Play) -> None:
    line = play.connect("->")
    for _ in range(2):
        x = play.recorders[0].ask(line.connection, "request", "POST a.site.test/", "one")
        play.recorders[0].arrived(x, Arrival(1, 1000.0))
        play.recorders[0].facts(x, replace(REQUEST, method="POST", status=200, stored=True))
    assert items(play.run.ledger) == [(["accepted"], "delivered")] * 2


def test_requests_side_by_side_are_different_items(play: Play) -> None:
    waiting = [play.connect(f"{GET} -> …") for _ in range(3)]
    play.wait("1s")
    for line in waiting:
        line.answers("200 OK")
    assert items(play.run.ledger) == [(["accepted"], "delivered")] * 3


def test_each_of_several_that_failed_side_by_side_has_its_own_retry(play: Play) -> None:
    waiting = [play.connect(f"{GET} -> …") for _ in range(3)]
    play.wait("1s")
    for line in waiting:
        line.answers("503 busy")
    for _ in range(2):
        play.wait("1s").connect(GET)
    assert sorted(items(play.run.ledger)) == [
        (["deferred"], "missing"),
        (["deferred", "accepted"], "delivered"),
        (["deferred", "accepted"], "delivered"),
    ]


def test_the_first_to_fail_is_tried_again_first(play: Play) -> None:
    slow, quick = play.connect(f"{GET} -> …"), play.connect(f"{GET} -> …")
    quick.answers("503 busy")
    play.wait("3s")
    slow.answers("503 busy")
    play.wait("2s").connect(GET)
    (found,) = [item for item in play.run.ledger.items if len(item.tries) == 2]
    assert found.tries[1].delay == 5


@pytest.mark.parametrize("other", ["GET b.site.test/", "GET a.site.test/?page=2", "HEAD a.site.test/"])
def test_another_request_is_another_item(play: Play, other: str) -> None:
    play.connect(BUSY)
    play.connect(other)
    assert items(play.run.ledger) == [(["deferred"], "missing"), (["accepted"], "delivered")]


def test_another_client_asks_for_itself(play: Play) -> None:
    play.connect(BUSY)
    play.connect(GET, client="192.0.2.2")
    assert items(play.run.ledger) == [(["deferred"], "missing"), (["accepted"], "delivered")]


def test_another_server_is_asked_for_the_same(play: Play) -> None:
    play = Play("http", "front", "back")
    play.connect(BUSY)
    play.connect(GET, server=1)
    assert only(play).state == "delivered"


def test_another_body_is_another_request(play: Play) -> None:
    play.connect(f"{POST} {{body=5}} -> !503 busy")
    play.connect(f"{POST} {{body=6, stored=true}}")
    assert [item.name for item in play.run.ledger.items] == [POST, POST]
    assert items(play.run.ledger) == [(["deferred"], "missing"), (["accepted"], "delivered")]


def test_a_body_that_had_not_come_whole_may_be_the_one_that_comes_again(play: Play) -> None:
    play.connect(f"{POST} {{body=5, body_sha256=none}} -> !503 busy")
    play.connect(f"{POST} -> !503 busy")
    play.connect(f"{POST} {{body=6}}")
    assert endings(only(play)) == ["deferred", "deferred", "accepted"]


def test_a_request_that_may_have_crossed_the_refusal_on_another_connection_proves_no_retry(play: Play) -> None:
    other = play.connect("GET a.site.test/other")
    play.connect(BUSY)
    other.says(GET)
    assert items(play.run.ledger)[1:] == [(["deferred"], "in doubt"), (["accepted"], "delivered")]
    assert play.run.ledger.items[1].in_doubt.startswith("the same request came so soon after it")


@pytest.mark.parametrize("line", [f"{GET} -> !421 Misdirected Request", GONE])
def test_a_connection_that_is_there_already_may_carry_the_retry(play: Play, line: str) -> None:
    other = play.connect("GET a.site.test/other")
    play.connect(line)
    other.says(GET)
    assert [len(item.tries) for item in play.run.ledger.items] == [1, 2]


def test_later_a_connection_that_is_there_already_carries_the_retry(play: Play) -> None:
    other = play.connect("GET a.site.test/other")
    play.connect(BUSY)
    other.says("(1s)", GET)
    assert [len(item.tries) for item in play.run.ledger.items] == [1, 2]


def test_requests_that_came_in_one_piece_are_different_items(play: Play) -> None:
    line = play.connect("->")
    for _ in range(2):
        play.recorders[0].ask(line.connection, "request", "", "one")
    first, second = line.connection.exchanges[1:]
    for x in (first, second):
        play.recorders[0].facts(x, REQUEST)
    force_setattr(second, "arrival", Arrival(first.index, first.at))
    assert len(play.run.ledger.items) == 2


def test_a_request_that_arrived_while_the_answer_was_due_is_another_item(play: Play) -> None:
    line = play.connect("->")
    recorder = play.recorders[0]
    first = recorder.ask(line.connection, "request", "", "one")
    recorder.facts(first, REQUEST)
    play.wait("1s")
    arrival = recorder.now()
    play.wait("1s")
    recorder.answer(first, "503 busy")
    exchange = recorder.ask(line.connection, "request", "", "one")
    recorder.arrived(exchange, arrival)
    recorder.facts(exchange, REQUEST)
    assert len(play.run.ledger.items) == 2


def test_a_part_of_a_body_proves_nothing_where_several_bodies_came(play: Play) -> None:
    play.connect(f"{POST} {{body=6, stored=true}}")
    play.connect(f"{POST} {{body=5, body_sha256=none}} -> !503 busy")
    play.connect(f"{POST} {{body=7, stored=true}}")
    assert items(play.run.ledger) == [
        (["accepted"], "delivered"), (["deferred"], "in doubt"), (["accepted"], "delivered")
    ]  # fmt: skip


def test_an_idempotency_key_names_the_item(play: Play) -> None:
    for line in (f"{KEYED} -> !503 busy", KEYED, KEYED):
        play.connect(line)
    item = only(play)
    assert (item.repeatable, endings(item), item.state) == (True, ["deferred", "accepted", "accepted"], "delivered")


def test_a_copy_with_the_same_idempotency_key_is_none_too_many(play: Play) -> None:
    for line in (f"{KEYED} -> !", KEYED):
        play.connect(line)
    assert (only(play).surplus, only(play).state) == ([], "delivered")


def test_a_request_that_could_be_repeated_by_its_idempotency_key_is_not_kept_back(play: Play) -> None:
    play.connect(f"{POST} {{body=5, idempotency-key=a}} -> !")
    assert only(play).state == "missing"


def test_another_idempotency_key_leaves_the_request_before_in_doubt(play: Play) -> None:
    play.connect(f"{POST} {{body=5, idempotency-key=a}} -> !503 busy")
    play.connect(f"{POST} {{body=5, stored=true, idempotency-key=b}}")
    assert items(play.run.ledger) == [(["deferred"], "in doubt"), (["accepted"], "delivered")]
    play.connect(KEYED)
    assert [item.state for item in play.run.ledger.items] == ["delivered", "delivered"]


def test_the_same_request_while_one_waits_may_be_its_retry(play: Play) -> None:
    for _ in range(2):
        play.connect(f"{GET} -> …")
    play.wait("1s").connect(GET)
    play.wait("1s")
    for connection in play.journals[0].connections[:2]:
        play.recorders[0].close(connection, "client")
    assert [item.state for item in play.run.ledger.items] == ["in doubt", "missing", "delivered"]
    assert play.run.ledger.items[0].in_doubt.startswith("the same request came while it waited")


def test_the_same_request_at_the_same_time_is_no_retry(play: Play) -> None:
    lines = [play.connect(f"{GET} -> …"), play.connect(GET)]
    play.wait("1s")
    lines[0].says("(leaves)")
    assert [item.state for item in play.run.ledger.items] == ["missing", "delivered"]


@pytest.mark.parametrize("bodies", [("body_bytes=2", "body=5"), ("body=5", "body_bytes=2")])
def test_of_two_tries_that_may_come_again_the_first_to_end_does(play: Play, bodies: tuple[str, str]) -> None:
    lines = [play.connect(f"{POST} {{{body}}} -> …") for body in bodies]
    for line in lines:
        play.wait("1m")
        line.answers("503 busy")
    play.connect(f"{POST} {{body=5, stored=true}}")
    assert items(play.run.ledger) == [(["deferred", "accepted"], "delivered"), (["deferred"], "missing")]


# ---- what was said after the close ---------------------------------------------------------------


def test_a_request_after_the_close_is_a_try(play: Play) -> None:
    line = play.connect(GET, "(closes)")
    play.recorders[0].said_after(
        line.connection,
        b"GET /next HTTP/1.1\r\nHost: a.site.test\r\nAccept: */*\r\n\r\nPOST /pay HTTP/1.1\r\nhost:a.site.test\r\n\r\nx",
    )
    _, get, post = play.run.ledger.items
    assert [(item.name, endings(item), item.state) for item in (get, post)] == [
        ("GET a.site.test/next", ["unanswered"], "missing"),
        ("POST a.site.test/pay", ["unanswered"], "refused"),
    ]
    assert get.tries[0].by is line.connection
    play.connect("GET a.site.test/next")
    assert [item.state for item in play.run.ledger.items] == ["delivered", "delivered", "refused"]


def test_a_post_after_the_close_may_have_any_body(play: Play) -> None:
    line = play.connect(GET, "(closes)")
    play.recorders[0].said_after(line.connection, b"POST /pay HTTP/1.1\r\nhost: a.site.test\r\n\r\n")
    play.wait("1m").connect(f"{POST} {{body=5, stored=true}}")
    assert items(play.run.ledger)[1:] == [(["unanswered", "accepted"], "delivered")]


@pytest.mark.parametrize(("goaway", "ending"), [([GoAwayFrame("NO_ERROR", 1)], "deferred"), ([], "unanswered")])
def test_a_stream_after_the_goaway_of_a_close_was_not_processed(
    play: Play, goaway: list[GoAwayFrame], ending: str
) -> None:
    line = play.connect("GET a.site.test/1")
    for frame in goaway:
        play.recorders[0].goaway(line.connection, frame)
    line.says("(closes)")
    play.recorders[0].said_after(line.connection, b"\0", words=b"POST /pay HTTP/2\r\nhost: a.site.test\r\n\r\n")
    _, post = play.run.ledger.items
    assert (post.name, endings(post)) == (POST, [ending])


def test_frames_after_the_close_name_no_request(play: Play) -> None:
    line = play.connect(GET, "(closes)")
    play.recorders[0].said_after(line.connection, b"\0\0\0\4\1\0\0\0\0")
    assert len(play.run.ledger.items) == 1


def test_a_request_that_was_never_read_is_a_try(play: Play) -> None:
    line = play.connect("-> …")
    play.recorders[0].unread(line.connection, b"GET /next HTTP/1.1\r\nHost: a.site.test\r\n\r\n")
    line.says("(1s)", "(leaves)")
    play.connect("GET a.site.test/next")
    assert endings(only(play)) == ["unanswered", "accepted"]
    assert (only(play).tries[0].started_at, only(play).tries[0].ended_at) == (1000.0, 1001.0)


def test_a_request_after_the_close_is_known_by_its_idempotency_key(play: Play) -> None:
    line = play.connect("GET a.site.test/1", "(closes)")
    head = b"POST /pay HTTP/1.1\r\nHost: a.site.test\r\nIdempotency-Key: a\r\n\r\n"
    play.recorders[0].said_after(line.connection, head, words=head)
    play.connect(KEYED)
    _, post = play.run.ledger.items
    assert (endings(post), post.state) == (["unanswered", "accepted"], "delivered")


# ---- what became of them -------------------------------------------------------------------------


def test_a_get_may_be_repeated(play: Play) -> None:
    play.connect(GET)
    assert (only(play).repeatable, only(play).asks_first) == (True, False)


def test_a_post_that_was_carried_out_without_an_answer_and_came_again_is_duplicated(play: Play) -> None:
    play.connect(f"{POST} {{body=5, stored=true}} -> !")
    play.connect(f"{POST} {{body=5, stored=true}}")
    assert (only(play).asks_first, only(play).state) == (True, "duplicated")


def test_a_post_that_was_refused_may_come_again(play: Play) -> None:
    play.connect(f"{POST} {{body=5}} -> !503 busy")
    play.connect(f"{POST} {{body=5, stored=true}}")
    assert only(play).state == "delivered"


def test_a_post_that_was_carried_out_is_delivered_whatever_was_said(play: Play) -> None:
    play.connect(f"{POST} {{body=5, stored=true}} -> !")
    assert items(play.run.ledger) == [(["unanswered"], "delivered")]


def test_a_post_without_an_answer_is_rightly_kept_back(play: Play) -> None:
    play.connect(f"{POST} {{body=5}} -> !")
    assert (only(play).kept_back, only(play).state) == (True, "refused")


@pytest.mark.parametrize("said", ["!503 busy", "!RST_STREAM REFUSED_STREAM"])
def test_a_post_that_was_not_carried_out_may_come_again(play: Play, said: str) -> None:
    play.connect(f"{POST} {{body=5}} -> {said}")
    assert (only(play).kept_back, only(play).state) == (False, "missing")


def test_a_proxy_must_not_repeat_a_post(play: Play) -> None:
    play.connect(f"{POST} {{body=5}} -> !503 busy")
    play.connect(f"{GET} -> !503 busy")
    assert [item.state for item in Run(play.journals, proxy=True).ledger.items] == ["refused", "missing"]


# ---- connections without a request ---------------------------------------------------------------


def nameless(play: Play) -> list[Try]:
    assert not play.run.ledger.items
    return play.run.ledger.nameless


def test_a_connection_that_was_closed_is_a_try_of_something(play: Play) -> None:
    line = play.connect("-> !")
    assert (only(play).name, items(play.run.ledger)) == ("the request behind #1", [(["unanswered"], "missing")])
    assert only(play).tries[0].by is line.connection


def test_connections_side_by_side_were_for_an_item_each(play: Play) -> None:
    waiting = [play.connect("->") for _ in range(3)]
    for line in waiting:
        line.says("(closes)")
    assert [item.name for item in play.run.ledger.items] == [f"the request behind #{n}" for n in (1, 2, 3)]


def test_connections_one_after_another_were_for_the_same_item(play: Play) -> None:
    for _ in range(3):
        play.connect("-> !").play.wait("1s")
    assert items(play.run.ledger) == [(["unanswered"] * 3, "missing")]


def test_connections_that_come_at_once_again_and_again_may_be_for_something_else(play: Play) -> None:
    for _ in range(3):
        play.connect("-> !")
    play.connect(GET)
    ledger = play.run.ledger
    assert items(ledger) == [(["unanswered", "unanswered", "accepted"], "delivered")]
    assert [one.began.connection.number for one in ledger.nameless] == [3]
    assert [doubt.why for doubt in ledger.doubts] == [
        "1 connection ended before it carried a request; it may have been any request"
    ]


def test_after_several_items_a_connection_may_have_been_for_any(play: Play) -> None:
    for line in [play.connect("->") for _ in range(2)]:
        line.says("(closes)")
    play.connect("-> !")
    ledger = play.run.ledger
    (one,) = ledger.nameless
    assert one.owners == tuple(ledger.items)
    assert len(one.owners) == 2


def test_a_client_that_asks_for_one_thing_came_for_that(play: Play) -> None:
    for line in ("-> !", BUSY, "-> !", GET):
        play.connect(line)
    assert items(play.run.ledger) == [(["unanswered", "deferred", "unanswered", "accepted"], "delivered")]
    ledger = play.run.ledger
    first, second, *_ = ledger.items[0].tries
    assert (second.earlier, first.later) == (first, second)
    assert (ledger.nameless, ledger.doubts) == ([], [])


def test_a_post_that_was_never_sent_may_come_again(play: Play) -> None:
    for line in (f"{POST} {{body=5}} -> !503 busy", "-> !"):
        play.connect(line)
    assert (only(play).kept_back, only(play).state) == (False, "missing")


@pytest.mark.parametrize(("path", "doubts"), [("", 1), ("new", 0)])
def test_a_retry_on_a_connection_that_was_open_is_not_of_one_that_was_lost_but_a_new_request_may_be(
    play: Play, path: str, doubts: int
) -> None:
    line = play.connect(f"{GET} -> !503 busy", f"{GET}other -> !503 busy")
    play.wait("1m").connect("-> !").play.wait("1m")
    line.says(f"{GET}{path}")
    assert len(play.run.ledger.doubts) == doubts


def test_a_connection_after_a_good_answer_was_for_something_else(play: Play) -> None:
    play.connect(GET)
    line = play.connect("-> !")
    assert items(play.run.ledger) == [(["accepted"], "delivered")]
    (doubt,) = play.run.ledger.doubts
    assert doubt.why == "1 connection ended before it carried a request; it may have been any request"
    assert doubt.evidence == (line.connection,)


def test_a_connection_beside_others_may_have_been_for_any(play: Play) -> None:
    for line in ("GET a.site.test/1", "-> !", "GET a.site.test/2"):
        play.connect(line)
    ledger = play.run.ledger
    (one,) = ledger.nameless
    assert (one.ending, one.item, one.owners) == ("unanswered", None, tuple(ledger.items))
    assert ledger.doubts == []


def test_requests_that_follow_are_fewer_than_the_connections(play: Play) -> None:
    play.connect("GET a.site.test/1")
    waiting = [play.connect("->") for _ in range(3)]
    for line in waiting:
        line.says("(closes)")
    play.wait("1s").connect("GET a.site.test/2")
    (doubt,) = play.run.ledger.doubts
    assert doubt.why == "2 connections ended before they carried a request; it may have been any request"
    assert doubt.evidence == (waiting[1].connection, waiting[2].connection)


def test_a_request_that_came_at_once_while_others_were_under_way_was_for_itself(play: Play) -> None:
    slow = play.connect("GET a.site.test/1 -> …")
    play.connect("-> !")
    play.connect("GET a.site.test/2")
    play.wait("1s")
    slow.answers("200 OK")
    assert len(play.run.ledger.doubts) == 1


def test_a_connection_that_was_not_used_is_abandoned(play: Play) -> None:
    play.connect("->", "(leaves)")
    assert [one.ending for one in nameless(play)] == ["abandoned"]
    assert play.run.ledger.doubts == []


def test_a_connection_that_lives_is_no_try(play: Play) -> None:
    play.connect("->")
    assert nameless(play) == []


def test_a_connection_to_another_server_may_be_the_retry() -> None:
    play = Play("http", "front", "back")
    play.connect("-> !")
    play.connect(GET, server=1)
    assert play.run.ledger.doubts == []


@pytest.mark.parametrize("failure", [CertificateRejected("unknown_ca"), HandshakeAbandoned(done=True)])
def test_a_client_rightly_refuses_a_certificate_that_it_must_not_trust(play: Play, failure: Failure) -> None:
    line = play.connect("->", certificate="wrong", defects=("untrusted",))
    play.recorders[0].failed(line.connection, failure)
    line.says("(leaves)")
    assert [one.ending for one in nameless(play)] == ["refused"]
    assert play.run.ledger.doubts == []


def test_a_client_that_refuses_a_good_certificate_has_asked_for_nothing(play: Play) -> None:
    line = play.connect("->", certificate="right")
    play.recorders[0].failed(line.connection, CertificateRejected("unknown_ca"))
    line.says("(leaves)")
    assert [one.ending for one in nameless(play)] == ["abandoned"]
