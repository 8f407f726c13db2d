"""The ledger of FTP: which transfers are tries of the same file, and what became of it."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.reading.ledger import Item, Ledger
from notnow.journal import CertificateRejected

LOGIN = ("USER ann", "PASS secret")
BUSY = "-> !421 busy"
PIECE = "whole=false, cut_by=client, data=fin, size=400"
SAME = "{stored=true, sha256=1, bytes=9}"
CUT = "-> !426 cut"


@pytest.fixture
def play() -> Play:
    return Play("ftp")


def states(play: Play) -> list[tuple[str, str]]:
    return [(item.name, item.state) for item in play.run.ledger.items]


def endings(item: Item) -> list[str]:
    return [one.ending for one in item.tries]


def only(play: Play) -> Item:
    (item,) = play.run.ledger.items
    return item


def doubts(ledger: Ledger) -> list[str]:
    return [doubt.why for doubt in ledger.doubts]


# ---- how a transfer ends -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "ending", "state"),
    [
        ("-> 150 go | 226 done", "accepted", "delivered"),
        ("-> 226 done | 421 bye", "accepted", "delivered"),
        ("-> !450 no", "deferred", "missing"),
        ("-> !421 no", "deferred", "missing"),
        ("{whole=false} -> 150 go | 426 cut", "deferred", "missing"),
        ("-> 550 none", "refused", "refused"),
        ("-> !", "unanswered", "missing"),
        ("{whole=false, cut_by=fake} -> 226 done", "unanswered", "missing"),
        (f"{{{PIECE}}} -> 426 cut", "abandoned", "in doubt"),
        (f"{{{PIECE}}} -> 226 done", "abandoned", "in doubt"),
        (f"{{{PIECE}}} -> !426 cut", "deferred", "missing"),
    ],
)
def test_how_a_download_ends(play: Play, reply: str, ending: str, state: str) -> None:
    play.connect(*LOGIN, f"RETR a {reply}")
    assert (endings(only(play)), only(play).state) == ([ending], state)


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        (("[transfer] -> !421 killed",), "deferred"),
        (("[enter] -> !421 kicked",), "deferred"),
        (("[idle] -> !",), "unanswered"),
        (("(closes)",), "unanswered"),
        (("(leaves)",), "abandoned"),
        (("ABOR", "[enter] -> !421 kicked"), "deferred"),
    ],
)
def test_a_transfer_without_a_final_reply(play: Play, lines: tuple[str, ...], ending: str) -> None:
    play.connect(*LOGIN, "RETR a {whole=false} -> 150 go", *lines)
    assert endings(only(play)) == [ending]


def test_a_client_that_leaves_a_stalled_transfer_was_not_answered(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {whole=false} -> …", "(leaves)")
    assert (endings(only(play)), only(play).state) == (["unanswered"], "missing")


def test_abor_is_the_clients_own_decision(play: Play) -> None:
    play.connect(*LOGIN, "STOR a {whole=false} -> 426 aborted", "ABOR -> 226 ok")
    assert (endings(only(play)), only(play).state) == (["abandoned"], "in doubt")


def test_a_transfer_that_is_under_way_is_in_doubt(play: Play) -> None:
    play.connect(*LOGIN, "STOR a {whole=false} -> 150 go")
    assert only(play).in_doubt == "its last try was still under way"


def test_a_try_begins_with_its_connection_and_ends_with_its_reply(play: Play) -> None:
    play.connect(*LOGIN, "(2s)", "RETR a -> (3s) 226 done", "RETR b")
    first, second = (item.tries[0] for item in play.run.ledger.items)
    assert (first.began.moment, first.ended_at - first.started_at) == ("connect", 5.0)
    assert (second.began.request, second.started_at) == ("RETR b", first.ended_at)


def test_what_happens_during_a_transfer_comes_before_its_end(play: Play) -> None:
    line = play.connect(*LOGIN)
    line.says("RETR a {whole=false} -> (3s) 426 cut")
    play.connect(*LOGIN, "RETR a")
    first, second = only(play).tries
    assert second.knew_of(first)


# ---- looking -------------------------------------------------------------------------------------


def test_listings_of_a_directory_are_one_item(play: Play) -> None:
    play.connect(*LOGIN, "LIST", "NLST", "MLSD", "NLST sub")
    assert states(play) == [("the listing of /", "delivered"), ("the listing of /sub", "delivered")]
    assert len(play.run.ledger.items[0].copies) == 3


def test_looks_do_not_count_for_a_client_that_asks_for_files(play: Play) -> None:
    play.connect(*LOGIN, "LIST -> !450 no", "SIZE a -> 213 5", "RETR a")
    play.connect(*LOGIN, "LIST", client="192.0.2.2")
    assert states(play) == [("the download of /a", "delivered"), ("the listing of /", "delivered")]


def test_a_sensor_that_asks_for_the_time_of_a_file(play: Play) -> None:
    play.connect(*LOGIN, "MDTM a -> 213 1", "MDTM a -> 213 1", "MDTM b -> 550 none")
    assert states(play) == [("the size or time of /a", "delivered"), ("the size or time of /b", "refused")]


def test_looking_again_in_vain_is_another_item(play: Play) -> None:
    play.connect(*LOGIN, "NLST", "NLST -> !421 no")
    assert states(play) == [("the listing of /", "delivered"), ("the listing of /, again", "missing")]


def test_a_probe_is_a_look(play: Play) -> None:
    play.connect(*LOGIN, "RETR lock -> 550 none", f"STOR lock {SAME}")
    assert states(play) == [("the upload of /lock", "delivered")]


def test_a_download_that_is_refused_for_good_is_no_probe_without_an_upload(play: Play) -> None:
    play.connect(*LOGIN, "RETR lock -> 550 none", f"STOR other {SAME}")
    assert states(play) == [("the download of /lock", "refused"), ("the upload of /other", "delivered")]


# ---- questions that lead nowhere -----------------------------------------------------------------

NO_MORE = "the client asked about it, and may have wanted no more"


def test_questions_do_not_count_for_a_client_that_was_on_its_way_to_a_file(play: Play) -> None:
    for name in ("a", "b"):
        play.connect(*LOGIN, f"SIZE {name} -> 213 5", "EPSV -> !421 no").play.wait("10s")
    assert states(play) == [("the transfer of /a", "missing"), ("the transfer of /b", "missing")]
    assert (play.run.ledger.nameless, doubts(play.run.ledger)) == ([], [])


@pytest.mark.parametrize("lines", [("SIZE b -> !421 no",), ("SIZE b -> 213 5", "EPSV -> !450 no")])
def test_a_file_that_was_asked_about_in_vain_is_in_doubt(play: Play, lines: tuple[str, ...]) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", *lines).play.wait("10s")
    play.connect(*LOGIN, f"STOR c {SAME}")
    assert states(play)[1] == ("the transfer of /b", "in doubt")
    assert [item.doubt for item in play.run.ledger.of_state("in doubt")] == [NO_MORE]


@pytest.mark.parametrize(
    "lines",
    [
        (f"STOR b {SAME}",),
        (f"STOR b.tmp {SAME}", "RNFR b.tmp -> 350 go", "RNTO b {source=/b.tmp} -> 250 ok"),
        ("SIZE b -> 213 5",),
    ],
)
def test_a_question_is_settled_by_a_transfer_or_an_answer(play: Play, lines: tuple[str, ...]) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", "SIZE b -> !450 no", *lines)
    assert {state for _, state in states(play)} == {"delivered"}


def test_a_question_about_what_has_come_is_a_look(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", "SIZE a -> !421 no")
    assert states(play) == [("the upload of /a", "delivered")]
    play.wait("10s").connect(*LOGIN, "SIZE a -> !421 no")
    assert states(play) == [("the upload of /a", "delivered"), ("the transfer of /a", "in doubt")]


def test_a_client_that_is_kicked_after_a_question_was_not_on_its_way(play: Play) -> None:
    play.connect(*LOGIN, "MDTM a -> 213 1", "[enter] -> !421 kicked")
    assert ("the size or time of /a", "delivered") in states(play)


def test_a_command_for_a_transfer_after_the_close_was_on_its_way(play: Play) -> None:
    play.connect(*LOGIN, "SIZE a -> 213 5", "[idle] -> !421 Timeout.", "EPSV")
    assert states(play) == [("the transfer of /a", "missing")]


# ---- pieces --------------------------------------------------------------------------------------


def segments(play: Play, *offsets: int, last: str = "size=400") -> None:
    lines = [play.connect(*LOGIN, "TYPE I") for _ in offsets]
    for offset, line in zip(offsets, lines, strict=True):
        end = f"RETR a {{offset={offset}, bytes=100, {last if offset == 300 else PIECE}}}"
        line.says(end if offset == 300 else f"{end} -> 426 cut")


def test_segments_are_one_try(play: Play) -> None:
    segments(play, 0, 100, 200, 300)
    assert (endings(only(play)), only(play).state) == (["accepted"], "delivered")
    assert only(play).tries[0].kept is not None


def test_segments_in_any_order(play: Play) -> None:
    segments(play, 300, 0, 200, 100)
    assert (endings(only(play)), only(play).state) == (["accepted"], "delivered")


def test_the_size_tells_the_end_of_a_binary_file(play: Play) -> None:
    segments(play, 0, 100, 200, 300, last=PIECE)
    assert only(play).state == "delivered"


def test_segments_that_leave_a_part_out_are_in_doubt(play: Play) -> None:
    segments(play, 0, 100, 300)
    assert (only(play).state, endings(only(play))) == ("in doubt", ["abandoned"])


def test_a_segment_that_failed_is_missing_though_the_others_came(play: Play) -> None:
    segments(play, 0, 100, 300)
    play.connect(*LOGIN, "TYPE I", "RETR a {offset=200, bytes=50, size=400, whole=false, cut_by=fake} -> !426 cut")
    assert only(play).state == "missing"
    play.wait("1s")
    play.connect(*LOGIN, "TYPE I", f"RETR a {{offset=250, bytes=50, {PIECE}}} -> 426 cut")
    assert (only(play).state, endings(only(play))) == ("delivered", ["deferred", "accepted"])


def test_a_segment_that_is_cut_beyond_the_start_of_the_next_had_all_it_needed(play: Play) -> None:
    segments(play, 0, 200, 300)
    play.connect(*LOGIN, "TYPE I", "RETR a {offset=100, bytes=150, size=400, whole=false, cut_by=fake} -> 426 cut")
    assert only(play).state == "delivered"


def test_a_segment_that_is_cut_before_the_start_of_the_next_is_missing(play: Play) -> None:
    segments(play, 0, 200, 300)
    play.connect(*LOGIN, "TYPE I", "RETR a {offset=100, bytes=50, size=400, whole=false, cut_by=fake} -> 426 cut")
    assert only(play).state == "missing"


def test_a_segment_that_failed_though_the_server_sent_the_rest_to_another(play: Play) -> None:
    play.connect(*LOGIN, "TYPE I", "RETR a {bytes=400, size=400}")
    play.connect(*LOGIN, "TYPE I", "RETR a {offset=200, whole=false} -> !421 no")
    assert only(play).state == "missing"


def test_a_resumed_download_is_one_item(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {bytes=100, whole=false, cut_by=fake} -> !421 cut").play.wait("5s")
    play.connect(*LOGIN, "RETR a {offset=100, bytes=300}")
    assert (endings(only(play)), only(play).state) == (["deferred", "accepted"], "delivered")
    assert only(play).tries[1].delay == 5.0


def test_a_resumed_download_whose_second_piece_was_asked_for_on_a_closed_connection(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {bytes=100, whole=false, cut_by=fake} -> 426 cut", "[idle] -> !421 Timeout.", "RETR a")
    assert only(play).state == "missing"
    play.wait("5s").connect(*LOGIN, "RETR a {offset=100, bytes=300}")
    assert only(play).state == "delivered"


def test_a_gap_in_a_resumed_download(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {bytes=100, whole=false, cut_by=fake} -> !421 cut")
    play.connect(*LOGIN, "RETR a {offset=101, bytes=300}")
    assert only(play).state == "missing"


def test_a_client_that_has_the_beginning_asks_only_for_the_rest(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {offset=100, bytes=300}")
    assert only(play).state == "delivered"


def test_fetching_again_is_not_doing_twice(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {bytes=5}", "RETR a {bytes=5}")
    assert (endings(only(play)), only(play).state) == (["accepted", "accepted"], "delivered")


def test_fetching_again_in_vain_is_another_item(play: Play) -> None:
    play.connect(*LOGIN, "RETR a {bytes=5}", "RETR a -> !421 no")
    assert states(play) == [("the download of /a", "delivered"), ("the download of /a, again", "missing")]


def test_data_that_were_whole_count_though_the_control_connection_was_lost(play: Play) -> None:
    play.connect(*LOGIN, "TYPE I", "RETR a {bytes=400, size=400, whole=false} -> !")
    assert (endings(only(play)), only(play).state) == (["unanswered"], "delivered")


# ---- uploads -------------------------------------------------------------------------------------


def test_a_resumed_upload_is_one_item(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {{bytes=5, whole=false}} {CUT}", f"STOR a {SAME}")
    play.connect(*LOGIN, f"STOR b {{bytes=5, whole=false}} {CUT}", f"APPE b {SAME}")
    assert states(play) == [("the upload of /a", "delivered"), ("the upload of /b", "delivered")]


def test_an_upload_that_was_kept_and_denied_may_come_again(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {SAME[:-1]}, whole=true}} -> !426 cut", f"STOR a {SAME}")
    assert (endings(only(play)), only(play).state) == (["deferred", "accepted"], "delivered")
    assert (len(only(play).copies), only(play).marked) == (2, True)


@pytest.mark.parametrize("verb", ["APPE", "STOU"])
def test_nobody_recognises_what_is_appended_or_stored_under_another_name(play: Play, verb: str) -> None:
    play.connect(*LOGIN, f"{verb} a {SAME[:-1]}, whole=true}} -> !426 cut", f"{verb} a {SAME}")
    assert (len(only(play).copies), only(play).marked) == (2, False)


def test_the_same_content_again_after_it_was_accepted_is_the_same_item(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", f"STOR a {SAME}")
    assert len(only(play).copies) == 2


@pytest.mark.parametrize("between", ["STOR a {stored=true, sha256=2}", "DELE a"])
def test_other_content_is_another_item(play: Play, between: str) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", between, f"STOR a {SAME}")
    assert {state for _, state in states(play)} == {"delivered"}
    assert all(len(item.copies) == 1 for item in play.run.ledger.items)


@pytest.mark.parametrize(("content", "copies"), [("1", 2), ("2", 1)])
def test_the_same_piece_appended_again_is_a_copy(play: Play, content: str, copies: int) -> None:
    play.connect(*LOGIN, "APPE log {sha256=1}", f"APPE log {{sha256={content}}}")
    assert len(play.run.ledger.items[0].copies) == copies


def test_stou_is_told_by_its_command_and_its_content(play: Play) -> None:
    play.connect(*LOGIN, "STOU {path=/, whole=false} -> !426 cut", "STOU {path=/x.1, sha256=1}")
    assert (states(play), endings(only(play))) == ([("the upload of STOU", "delivered")], ["deferred", "accepted"])
    play.connect(*LOGIN, "STOU {path=/x.2, sha256=2}", "STOU {path=/x.3, sha256=1}")
    assert [len(item.copies) for item in play.run.ledger.items] == [2, 1]


def test_a_good_file_that_a_piece_has_replaced_is_missing(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", "STOR a {bytes=3, whole=false} -> !426 cut")
    assert [state for _, state in states(play)] == ["delivered", "missing"]


def test_a_second_upload_that_fails_may_have_been_the_same(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {SAME}", "STOR a -> !421 no")
    again = play.run.ledger.items[1]
    assert (again.name, again.state, again.in_doubt) == (
        "the upload of /a, again",
        "in doubt",
        "it may be what had come through already",
    )


def test_two_servers_may_get_the_same_file() -> None:
    play = Play("ftp", "primary", "backup")
    play.connect(*LOGIN, f"STOR a {SAME}")
    play.connect(*LOGIN, f"STOR a {SAME}", server=1)
    assert len(play.run.ledger.items) == 2


def test_an_upload_that_falls_back_to_another_server_is_one_item() -> None:
    play = Play("ftp", "primary", "backup")
    play.connect(*LOGIN, "STOR a -> !421 no")
    play.connect(*LOGIN, f"STOR a {SAME}", server=1)
    assert only(play).state == "delivered"


# ---- names ---------------------------------------------------------------------------------------


def rename(old: str, new: str, reply: str = "250 ok") -> tuple[str, str]:
    return f"RNFR {old} -> 350 go on", f"RNTO {new} {{source=/{old}}} -> {reply}"


def test_a_temporary_name_and_the_final_one_are_one_item(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a.tmp {{bytes=5, whole=false}} {CUT}", f"STOR a.tmp {SAME}", *rename("a.tmp", "a"))
    assert states(play) == [("the upload of /a", "delivered")]


def test_an_upload_under_its_temporary_name_replaces_the_one_before(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a.part {SAME} -> 226 done | 421 bye")
    play.connect(*LOGIN, f"STOR a.part {SAME}", *rename("a.part", "a"))
    assert (states(play), len(only(play).copies)) == ([("the upload of /a", "delivered")], 1)


def test_the_next_file_may_have_the_same_temporary_name(play: Play) -> None:
    play.connect(*LOGIN, f"STOR tmp {SAME}", *rename("tmp", "a"), f"STOR tmp {SAME}", *rename("tmp", "b"))
    assert states(play) == [("the upload of /a", "delivered"), ("the upload of /b", "delivered")]


def test_a_file_whose_rename_failed_has_not_come(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a.tmp {SAME}", *rename("a.tmp", "a", "!450 no"))
    assert states(play) == [("the upload of /a.tmp", "missing")]
    play.connect(*LOGIN, *rename("a.tmp", "a"))
    assert (endings(only(play)), only(play).state) == (["deferred", "accepted"], "delivered")


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.bin.part1", "a.bin.part2"), (".in.a.bin.x7", ".in.a.bin.y8"), ("tmp-1_a.bin", "tmp-2_a.bin")],
)
def test_a_fresh_temporary_name_made_in_the_same_way(play: Play, first: str, second: str) -> None:
    play.connect(*LOGIN, f"STOR {first} {{bytes=5, whole=false}} {CUT}")
    play.connect(*LOGIN, f"DELE {first}", f"STOR {second} {SAME}", *rename(second, "a.bin"))
    assert states(play) == [("the upload of /a.bin", "delivered")]
    assert endings(only(play)) == ["deferred", "accepted"]


@pytest.mark.parametrize("failed", ["b.bin.part1", "aa.bin.part1", "a.bin.part.old"])
def test_a_name_made_in_another_way_is_another_file(play: Play, failed: str) -> None:
    play.connect(*LOGIN, f"STOR {failed} {{bytes=5, whole=false}} {CUT}")
    play.connect(*LOGIN, f"STOR a.bin.part2 {SAME}", *rename("a.bin.part2", "a.bin"))
    assert states(play) == [(f"the upload of /{failed}", "missing"), ("the upload of /a.bin", "delivered")]


def test_a_file_that_failed_under_its_own_name_may_come_by_a_temporary_one(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {{bytes=5, whole=false}} {CUT}", f"STOR tmpX {SAME}", *rename("tmpX", "a"))
    assert (endings(only(play)), only(play).state) == (["deferred", "accepted"], "delivered")


def test_a_smaller_file_is_not_the_one_that_was_cut(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a.1 {{bytes=10, whole=false}} {CUT}")
    play.connect(*LOGIN, f"STOR a.2 {SAME}", *rename("a.2", "a"))
    assert [state for _, state in states(play)] == ["missing", "delivered"]


def test_a_file_that_came_before_is_not_the_one_that_failed(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a.2 {SAME}", *rename("a.2", "a"), "STOR a.1 -> !450 no")
    assert [state for _, state in states(play)] == ["delivered", "missing"]


def test_a_temporary_name_without_the_final_one_leaves_a_doubt(play: Play) -> None:
    play.connect(*LOGIN, f"STOR tmpX1 {{bytes=5, whole=false}} {CUT}")
    play.connect(*LOGIN, f"STOR tmpY2 {SAME}", *rename("tmpY2", "a"))
    failed = play.run.ledger.items[0]
    assert (failed.state, failed.in_doubt) == ("in doubt", "it may be what came through later as /a")


def test_a_piece_that_was_deleted_may_have_come_under_any_name(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a {{bytes=5, whole=false}} {CUT}", "DELE a", f"STOR other {SAME}")
    assert play.run.ledger.items[0].state == "in doubt"


# ---- after the close -----------------------------------------------------------------------------


def test_a_file_asked_for_after_the_close_is_a_try(play: Play) -> None:
    play.connect(*LOGIN, "RETR big", "[idle] -> !421 Timeout.", "RETR small.txt")
    assert states(play) == [("the download of /big", "delivered"), ("the download of /small.txt", "missing")]
    assert play.run.ledger.items[1].tries[0].by is play.journals[0].connections[0]


def test_a_file_asked_for_after_the_close_is_in_the_directory_of_the_session(play: Play) -> None:
    play.connect(*LOGIN, "CWD in", "[idle] -> !421 Timeout.", "STOR a")
    play.connect(*LOGIN, "CWD in", f"STOR a {{path=/in/a, {SAME[1:]}")
    assert states(play) == [("the upload of /in/a", "delivered")]


def test_a_file_asked_for_while_the_fake_stalls(play: Play) -> None:
    play.connect(*LOGIN, "RETR a", "NOOP -> …", "(unread) RETR b", "(leaves)")
    assert states(play) == [("the download of /a", "delivered"), ("the download of /b", "missing")]


def test_a_command_after_the_close_was_to_lead_somewhere(play: Play) -> None:
    play.connect(*LOGIN, "NLST", "[idle] -> !421 Timeout.", "TYPE A")
    assert doubts(play.run.ledger) == ["1 connection ended before it named a file; it may have been any file"]
    play.connect(*LOGIN, "NLST")
    assert doubts(play.run.ledger) == []


@pytest.mark.parametrize("said", ["QUIT", "NOOP"])
def test_leave_taking_after_the_close_leads_nowhere(play: Play, said: str) -> None:
    play.connect(*LOGIN, "NLST", "[idle] -> !421 Timeout.", said)
    assert play.run.ledger.nameless == []


def test_a_look_that_failed_was_to_lead_to_a_file(play: Play) -> None:
    play.connect(*LOGIN, "NLST -> !421 no")
    play.connect(*LOGIN, "NLST", "RETR a", "RETR b")
    assert doubts(play.run.ledger) == ["1 connection ended before it named a file; it may have been any file"]


MISSED = "the listing of / failed and never came again, so files in it may be missing"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("RETR d/a", "NLST -> !421 no"), [MISSED]),
        (("RETR d/a", "NLST -> !450 no", "RETR d/b"), [MISSED]),
        (("RETR d/a", "NLST -> !450 no", "LIST"), []),
        (("RETR d/a", "LIST", "NLST -> !450 no"), []),
        (("RETR d/a", "NLST -> !450 no", "RETR b"), []),
        (("RETR d/a", "NLST -> !550 no"), []),
        (("STOR d/a", "NLST -> !421 no"), []),
    ],
)
def test_a_client_that_fetches_files_may_have_missed_those_that_it_could_not_list(
    play: Play, lines: tuple[str, ...], expected: list[str]
) -> None:
    play.connect(*LOGIN, *lines)
    assert (doubts(play.run.ledger), play.run.ledger.nameless) == (expected, [])


def test_a_file_that_is_left_under_a_temporary_name_is_in_doubt(play: Play) -> None:
    play.connect(*LOGIN, f"STOR a.part {SAME} -> !421 no")
    play.connect(*LOGIN, f"STOR report-part-2.csv {SAME}")
    assert [state for _, state in states(play)] == ["in doubt", "delivered"]


def test_a_file_may_be_what_was_refused_for_good_later(play: Play) -> None:
    play.connect(*LOGIN, "STOR a -> !421 no").play.wait("1s")
    play.connect("USER ann", "PASS x -> !530 no")
    assert only(play).in_doubt == "the client may have come back for it, and was refused for good"


def test_a_client_that_is_refused_for_good_after_it_got_everything_came_for_more(play: Play) -> None:
    play.connect(*LOGIN, "RETR a", "QUIT")
    for _ in range(2):
        play.wait("1s").connect("USER ann", "PASS x -> !530 no")
    assert states(play) == [("the download of /a", "delivered"), ("what #2 was to do", "refused")]
    assert (endings(play.run.ledger.items[1]), play.run.ledger.nameless) == (["refused"] * 2, [])


def test_a_client_that_was_refused_for_good_and_came_back_got_everything(play: Play) -> None:
    play.connect("USER ann", "PASS x -> !530 no").play.wait("1s")
    play.connect(*LOGIN, "RETR a", "QUIT")
    assert states(play) == [("the download of /a", "delivered")]


# ---- connections that name no file ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        ((BUSY,), "deferred"),
        (("-> !",), "unanswered"),
        ((*LOGIN[:1], "PASS x -> !530 too many"), "refused"),
        ((*LOGIN, "PASV -> !421 no"), "deferred"),
        ((*LOGIN, "PASV -> …", "(leaves)"), "unanswered"),
        ((*LOGIN, "[enter] -> !421 kicked"), "deferred"),
    ],
)
def test_a_client_that_never_named_a_file_had_something_to_do(play: Play, lines: tuple[str, ...], ending: str) -> None:
    play.connect(*lines)
    state = "refused" if ending == "refused" else "missing"
    assert (endings(only(play)), states(play)) == ([ending], [("what #1 was to do", state)])


def test_a_client_that_only_wanted_to_log_in(play: Play) -> None:
    play.connect(BUSY).play.wait("1m")
    play.connect(*LOGIN, "QUIT")
    assert (endings(only(play)), only(play).state) == (["deferred", "accepted"], "delivered")


def test_a_client_that_left_before_its_password_has_not_logged_in(play: Play) -> None:
    play.connect(BUSY).play.wait("1m")
    play.connect(LOGIN[0], "QUIT")
    assert (endings(only(play)), only(play).state) == (["deferred"], "missing")


@pytest.mark.parametrize(
    "lines", [(*LOGIN, "QUIT"), ("[idle] -> !421 Login time-out",), (*LOGIN, "EPSV -> !500 no", "PASV", "QUIT")]
)
def test_a_client_that_was_refused_nothing_is_not_known_to_want_anything(play: Play, lines: tuple[str, ...]) -> None:
    play.connect(*lines)
    assert play.run.ledger.items == [] or only(play).tries[0].ending == "refused"


def test_a_client_with_one_file_came_for_that(play: Play) -> None:
    for _ in range(3):
        play.connect(BUSY).play.wait("1s")
    play.connect(*LOGIN, "RETR a")
    ledger = play.run.ledger
    assert (endings(only(play)), ledger.nameless, doubts(ledger)) == (["deferred"] * 3 + ["accepted"], [], [])


@pytest.mark.parametrize(("wait", "doubtful"), [("999ms", True), ("1s", False)])
def test_a_client_with_several_files_may_have_come_for_any(play: Play, wait: str, doubtful: bool) -> None:
    play.connect(BUSY).play.wait(wait)
    play.connect(*LOGIN, "RETR a", "RETR b")
    (nameless,) = play.run.ledger.nameless
    assert (len(nameless.owners), bool(doubts(play.run.ledger))) == (2, doubtful)


def test_a_connection_that_is_refused_after_the_only_file_had_come(play: Play) -> None:
    play.connect(*LOGIN, "RETR a", "QUIT").play.wait("1s")
    play.connect(BUSY)
    assert doubts(play.run.ledger) == ["1 connection ended before it named a file; it may have been any file"]


def test_another_server_may_be_asked_at_once() -> None:
    play = Play("ftp", "primary", "backup")
    line = play.connect(*LOGIN, server=1)
    play.connect(BUSY)
    play.connect(*LOGIN, "RETR a", "RETR b", server=1)
    line.says("QUIT")
    assert play.run.ledger.doubts == []


def test_dials_side_by_side_do_not_follow_each_other(play: Play) -> None:
    lines = [play.connect() for _ in range(2)]
    for _ in range(3):
        play.connect(BUSY)
    for n, line in enumerate(lines):
        line.says(*LOGIN, f"RETR {n}")
    assert doubts(play.run.ledger) == ["3 connections ended before they named a file; it may have been any file"]


def test_a_client_that_fetches_in_pieces_makes_do_with_fewer_connections(play: Play) -> None:
    play.connect(BUSY)
    segments(play, 0, 100, 200, 300)
    assert play.run.ledger.doubts == []


@pytest.mark.parametrize("handshake", [(), ("[tls] localhost",)])
def test_a_certificate_that_the_client_rejects_is_no_fault_of_its_own(play: Play, handshake: tuple[str, ...]) -> None:
    line = play.connect("AUTH TLS -> 234 go on", *handshake, certificate="wrong", defects=("name",))
    for x in line.connection.exchanges[2:]:
        play.recorders[0].refused(x, "certificate", "phase[0].rule[0]")
    line.fails(CertificateRejected("bad_certificate"))
    assert (endings(only(play)), only(play).state) == (["refused"], "refused")
