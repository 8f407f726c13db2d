"""Rules about the piece of a file that a cut FTP upload leaves."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

CUT = "STOR a {bytes=500} -> !426 cut"


@pytest.fixture
def play() -> Play:
    return Play("ftp")


class TestMendCutUpload:
    RULE = "ftp.mend-cut-upload"
    LEFT = "1 piece left; what it has told its user is not seen from here"

    @pytest.mark.parametrize(
        "mending",
        [
            ("STOR a {bytes=900} -> 226 ok",),
            ("STOR a {bytes=400, offset=500} -> 226 ok",),
            ("STOR a {bytes=401, offset=499} -> 226 ok",),
            ("SIZE a -> 213 500", "APPE a {bytes=400} -> 226 ok"),
        ],
    )
    def test_held(self, play: Play, mending: tuple[str, ...]) -> None:
        play.connect(CUT).play.wait("1m")
        play.connect(*mending)
        play.held(self.RULE, "1 mended")

    def test_broken_by_a_gap_of_one_byte(self, play: Play) -> None:
        play.connect("TYPE I", CUT, "STOR a {bytes=399, offset=501} -> 226 ok")
        play.broken(self.RULE, "500 bytes of /a had come, and it went on at 501", "#1 STOR a", "#1 STOR a")

    def test_a_gap_counts_from_all_that_is_there(self, play: Play) -> None:
        play.connect(
            "TYPE I", CUT, "STOR a {bytes=100, offset=500} -> !426 cut", "STOR a {bytes=1, offset=600} -> 226 ok"
        )
        play.held(self.RULE, "1 mended")
        play.connect(
            "TYPE I", CUT, "STOR a {bytes=100, offset=400} -> !426 cut", "STOR a {bytes=1, offset=501} -> 226 ok"
        )
        play.broken(self.RULE, "500 bytes of /a had come, and it went on at 501", "#2 STOR a", "#2 STOR a")

    def test_appended_pieces_add_up(self, play: Play) -> None:
        play.connect(
            "TYPE I", CUT, "SIZE a", "APPE a {bytes=100} -> !426 cut", "STOR a {bytes=1, offset=600} -> 226 ok"
        )
        play.held(self.RULE, "1 mended")
        play.connect(
            "TYPE I", CUT, "SIZE a", "APPE a {bytes=100} -> !426 cut", "STOR a {bytes=1, offset=601} -> 226 ok"
        )
        play.broken(self.RULE, "600 bytes of /a had come, and it went on at 601", "#2 APPE a", "#2 STOR a")

    def test_broken_by_appending_blindly(self, play: Play) -> None:
        play.connect(CUT, "APPE a {bytes=900} -> 226 ok")
        why = "900 bytes were appended to a partial /a, whose size it had not asked for"
        play.broken(self.RULE, why, "#1 STOR a", "#1 APPE a")

    def test_what_was_asked_before_the_cut_is_out_of_date(self, play: Play) -> None:
        play.connect("SIZE a -> 213 0", CUT, "APPE a {bytes=900} -> 226 ok")
        assert play.find(self.RULE).outcome == "broken"

    @pytest.mark.parametrize(
        ("verb", "tells"), [*((v, True) for v in ["SIZE", "MLST", "MLSD", "LIST", "NLST", "STAT"]), ("NOOP", False)]
    )
    def test_ways_to_ask(self, play: Play, verb: str, tells: bool) -> None:
        play.connect(CUT, f"{verb} a -> 213 500", "APPE a {bytes=400} -> 226 ok")
        assert play.find(self.RULE).outcome == ("held" if tells else "broken")

    @pytest.mark.parametrize(("code", "tells"), [(450, True), (499, True), (500, False), (550, False)])
    def test_a_question_that_the_server_does_not_know_tells_nothing(self, play: Play, code: int, tells: bool) -> None:
        play.connect(CUT, f"SIZE a -> {code} no", "APPE a {bytes=400} -> 226 ok")
        assert play.find(self.RULE).outcome == ("held" if tells else "broken")

    def test_what_another_client_has_asked_tells_nothing(self, play: Play) -> None:
        line = play.connect(CUT)
        play.connect("SIZE a", client="192.0.2.2")
        line.says("APPE a {bytes=400} -> 226 ok")
        assert play.find(self.RULE).outcome == "broken"

    def test_a_try_that_never_began_changes_nothing(self, play: Play) -> None:
        play.connect("TYPE I", CUT, "STOR a -> 425 no", "STOR a {bytes=399, offset=501} -> 226 ok")
        assert play.find(self.RULE).outcome == "broken"

    def test_a_try_beyond_the_end_that_never_began_is_a_gap_all_the_same(self, play: Play) -> None:
        play.connect("TYPE I", CUT, "STOR a {offset=501} -> 425 no")
        play.broken(self.RULE, "500 bytes of /a had come, and it went on at 501", "#1 STOR a", "#1 STOR a")

    def test_mended_and_left(self, play: Play) -> None:
        play.connect(CUT, "STOR a -> 226 ok", "STOR b {bytes=1} -> !426 cut")
        play.held(self.RULE, f"1 mended, {self.LEFT}")

    def test_a_piece_that_is_left_proves_nothing(self, play: Play) -> None:
        play.connect(CUT)
        play.not_exercised(self.RULE, self.LEFT)

    def test_not_exercised(self, play: Play) -> None:
        play.connect("STOR a {bytes=500} -> 226 ok", "APPE a {bytes=500} -> 226 ok")
        play.not_exercised(self.RULE)

    def test_a_whole_upload_under_a_rule_leaves_no_piece(self, play: Play) -> None:
        play.connect("STOR a {bytes=500} -> !226 ok")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("gone", [("DELE a -> 250 ok",), ("RNFR a -> 350 go on", "RNTO b {source=/a}")])
    def test_not_exercised_where_the_piece_is_gone(self, play: Play, gone: tuple[str, ...]) -> None:
        play.connect(CUT, *gone, "APPE a {bytes=900} -> 226 ok")
        play.not_exercised(self.RULE)

    def test_a_reply_that_tells_the_size_is_as_good_as_a_question(self, play: Play) -> None:
        play.connect("STOR a {bytes=500} -> !426 cut after 500 bytes", "APPE a {bytes=400} -> 226 ok")
        play.held(self.RULE, "1 mended")
        play.connect("STOR b {bytes=500} -> !426 cut after 5000 bytes", "APPE b {bytes=400} -> 226 ok")
        assert play.find(self.RULE).outcome == "broken"

    def test_offsets_in_ascii_count_other_bytes(self, play: Play) -> None:
        play.connect("TYPE A", CUT, "STOR a {bytes=399, offset=501} -> 226 ok")
        play.held(self.RULE, "1 mended")

    def test_not_exercised_where_the_client_has_cut(self, play: Play) -> None:
        play.connect("STOR a {bytes=500} -> 426 aborted", "APPE a {bytes=900} -> 226 ok")
        play.not_exercised(self.RULE)


class TestRenameWholeFiles:
    RULE = "ftp.rename-whole-files"
    PART = "STOR a.part {bytes=500} -> !426 cut"
    WHOLE = "STOR a.part {bytes=900} -> 226 ok"
    WHY = "/a.part became /a, and only a piece of it had come"

    @staticmethod
    def rename(old: str, new: str, reply: str = "250 ok") -> tuple[str, str]:
        return f"RNFR {old} -> 350 go on", f"RNTO {new} {{source=/{old}}} -> {reply}"

    def test_held_after_mending(self, play: Play) -> None:
        play.connect(self.PART, self.WHOLE, *self.rename("a.part", "a"))
        play.held(self.RULE, "1 file renamed")

    def test_held_under_a_fresh_name(self, play: Play) -> None:
        play.connect(self.PART, "DELE a.part", "STOR a.part2 {bytes=9} -> 226 ok", *self.rename("a.part2", "a"))
        play.held(self.RULE, "1 file renamed")

    def test_broken(self, play: Play) -> None:
        play.connect(self.PART, *self.rename("a.part", "a"))
        play.broken(self.RULE, self.WHY, "#1 STOR a.part", "#1 RNTO a")

    @pytest.mark.parametrize(("reply", "outcome"), [("250 gone", "held"), ("399 gone", "held"), ("550 no", "broken")])
    def test_another_file_may_take_the_name_of_a_piece_that_was_deleted(
        self, play: Play, reply: str, outcome: str
    ) -> None:
        other = ("STOR other {bytes=9} -> 226 ok", *self.rename("other", "a.part"))
        play.connect(self.PART, f"DELE a.part -> {reply}", *other, *self.rename("a.part", "a"))
        assert play.find(self.RULE).outcome == outcome

    def test_broken_on_another_connection(self, play: Play) -> None:
        play.connect(self.PART)
        play.connect(*self.rename("a.part", "a"))
        play.broken(self.RULE, self.WHY, "#1 STOR a.part", "#2 RNTO a")

    @pytest.mark.parametrize(
        ("old", "new", "outcome"),
        [
            ("a.part", "a.bin", "broken"),
            ("tmpX1", "a.bin", "broken"),
            (".in.a", "a", "broken"),
            ("a.bin", "a", "broken"),
            ("a.part", "a.part.2", "inconclusive"),
            ("a.part", "a.bad", "inconclusive"),
            ("a.bin", "b.bin", "inconclusive"),
        ],
    )
    def test_a_piece_may_be_set_aside(self, play: Play, old: str, new: str, outcome: str) -> None:
        play.connect(f"STOR {old} {{bytes=5}} -> !426 cut", *self.rename(old, new))
        assert play.find(self.RULE).outcome == outcome

    @pytest.mark.parametrize("reply", ["450 no", "550 none"])
    def test_a_refused_rnto_renames_nothing(self, play: Play, reply: str) -> None:
        play.connect(self.PART, *self.rename("a.part", "a", reply))
        play.not_exercised(self.RULE)

    def test_a_file_that_it_has_not_uploaded_says_nothing(self, play: Play) -> None:
        play.connect(self.PART, *self.rename("other", "name"))
        play.not_exercised(self.RULE)

    def test_what_another_client_has_cut_is_not_known(self, play: Play) -> None:
        play.connect(self.PART)
        play.connect(*self.rename("a.part", "a"), client="192.0.2.2")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_nothing_was_cut(self, play: Play) -> None:
        play.connect(self.WHOLE, *self.rename("a.part", "a"))
        play.not_exercised(self.RULE)

    def test_a_whole_upload_under_a_rule_leaves_no_piece(self, play: Play) -> None:
        play.connect("STOR a.part {bytes=500} -> !226 ok", *self.rename("a.part", "a"))
        play.not_exercised(self.RULE)
