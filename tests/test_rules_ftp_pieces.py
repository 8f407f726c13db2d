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
        play.connect(CUT, "STOR a {bytes=399, offset=501} -> 226 ok")
        play.broken(self.RULE, "500 bytes of /a had come, and it went on at 501", "#1 STOR a", "#1 STOR a")

    def test_a_gap_counts_from_all_that_is_there(self, play: Play) -> None:
        play.connect(CUT, "STOR a {bytes=100, offset=500} -> !426 cut", "STOR a {bytes=1, offset=600} -> 226 ok")
        play.held(self.RULE, "1 mended")
        play.connect(CUT, "STOR a {bytes=100, offset=400} -> !426 cut", "STOR a {bytes=1, offset=501} -> 226 ok")
        play.broken(self.RULE, "500 bytes of /a had come, and it went on at 501", "#2 STOR a", "#2 STOR a")

    def test_appended_pieces_add_up(self, play: Play) -> None:
        play.connect(CUT, "SIZE a", "APPE a {bytes=100} -> !426 cut", "STOR a {bytes=1, offset=600} -> 226 ok")
        play.held(self.RULE, "1 mended")
        play.connect(CUT, "SIZE a", "APPE a {bytes=100} -> !426 cut", "STOR a {bytes=1, offset=601} -> 226 ok")
        play.broken(self.RULE, "600 bytes of /a had come, and it went on at 601", "#2 APPE a", "#2 STOR a")

    def test_broken_by_appending_blindly(self, play: Play) -> None:
        play.connect(CUT, "APPE a {bytes=900} -> 226 ok")
        why = "900 bytes were put behind a piece of /a, and it had not asked how much that is"
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
        play.connect(CUT, "STOR a -> 425 no", "STOR a {bytes=399, offset=501} -> 226 ok")
        assert play.find(self.RULE).outcome == "broken"

    def test_a_try_beyond_the_end_that_never_began_is_a_gap_all_the_same(self, play: Play) -> None:
        play.connect(CUT, "STOR a {offset=501} -> 425 no")
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

    def test_not_exercised_where_the_client_has_cut(self, play: Play) -> None:
        play.connect("STOR a {bytes=500} -> 426 aborted", "APPE a {bytes=900} -> 226 ok")
        play.not_exercised(self.RULE)


class TestRenameWholeFiles:
    RULE = "ftp.rename-whole-files"

    def test_held(self, play: Play) -> None:
        play.connect("STOR a.part {bytes=500} -> 226 ok", "RNFR a.part -> 350 go on", "RNTO a")
        play.held(self.RULE, "1 file renamed")

    def test_held_after_mending(self, play: Play) -> None:
        play.connect(CUT, "STOR a {bytes=900} -> 226 ok", "RNFR a -> 350 go on", "RNTO b")
        play.held(self.RULE, "1 file renamed")

    def test_broken(self, play: Play) -> None:
        play.connect(CUT, "RNFR a -> 350 go on", "RNTO b")
        why = "a got another name, and only a piece of it had come"
        play.broken(self.RULE, why, "#1 STOR a", "#1 RNFR a")

    def test_broken_by_its_path(self, play: Play) -> None:
        play.connect("STOR in/a {bytes=5} -> !426 cut")
        play.connect("RNFR /in/a -> 350 go on")
        why = "a got another name, and only a piece of it had come"
        play.broken(self.RULE, why, "#1 STOR in/a", "#2 RNFR /in/a")

    def test_a_piece_that_was_deleted_is_gone(self, play: Play) -> None:
        play.connect(CUT, "DELE a -> 250 ok", "RNFR a -> 350 go on")
        play.held(self.RULE, "1 file renamed")

    @pytest.mark.parametrize(("code", "accepted"), [(399, True), (400, False), (550, False)])
    def test_a_refused_rnfr_renames_nothing(self, play: Play, code: int, accepted: bool) -> None:
        play.connect(CUT, f"RNFR a -> {code} x")
        assert play.find(self.RULE).outcome == ("broken" if accepted else "not exercised")

    def test_a_transfer_that_never_began_leaves_no_piece(self, play: Play) -> None:
        play.connect("STOR a -> !425 no", "RNFR a -> 350 go on")
        play.held(self.RULE, "1 file renamed")

    def test_what_another_client_has_cut_is_not_known(self, play: Play) -> None:
        play.connect(CUT)
        play.connect("RNFR a -> 350 go on", client="192.0.2.2")
        play.held(self.RULE, "1 file renamed")

    def test_a_whole_upload_under_a_rule_leaves_no_piece(self, play: Play) -> None:
        play.connect("STOR a {bytes=500} -> !226 ok", "RNFR a -> 350 go on")
        play.held(self.RULE, "1 file renamed")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(CUT, "DELE a -> 250 ok")
        play.not_exercised(self.RULE)
