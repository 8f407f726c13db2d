"""Rules about what becomes of an SMTP message and its recipients."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestNoSecondCopy:
    RULE = "smtp.no-second-copy"

    def test_held(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x>", MAIL, B, "DATA", ". <2@x>")
        play.held(self.RULE, "2 answered 250, and none sent again")

    def test_broken(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !250 ok | 421 bye")
        play.connect(MAIL, B, "DATA", ". <1@x>")
        play.broken(self.RULE, "<1@x> to b@y was answered 250, and sent again", "#1 . <1@x>", "#2 . <1@x>")

    def test_broken_on_another_server(self) -> None:
        play = Play("smtp", "primary", "backup")
        for server in (0, 1):
            play.connect(MAIL, C, B, "DATA", ". <1@x>", server=server)
        why = "<1@x> to c@y was answered 250, and sent again"
        play.broken(self.RULE, why, "primary #1 . <1@x>", "backup #1 . <1@x>")

    def test_without_a_message_id_the_content_counts(self, play: Play) -> None:
        for sha256 in ("1" * 64, "2" * 64, "1" * 64):
            play.connect(MAIL, B, "DATA", f". {{sha256={sha256[:20]}, message_id=none}}")
        why = "sha256:1111111111111111 to b@y was answered 250, and sent again"
        play.broken(self.RULE, why, "#1 .", "#3 .")

    def test_a_transaction_for_each_recipient_is_no_second_copy(self, play: Play) -> None:
        for recipient in (B, C, "RCPT TO:<d@y>"):
            play.connect(MAIL, recipient, "DATA", ". <1@x>")
        play.held(self.RULE, "3 answered 250, and none sent again")

    def test_a_copy_that_left_before_the_250_was_there(self, play: Play) -> None:
        lines = [play.connect(MAIL, B, "DATA") for _ in range(2)]
        for line in lines:
            line.says(". <1@x>")
        play.held(self.RULE, "1 answered 250, and none sent again")

    def test_another_recipient_is_no_second_copy(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x>", MAIL, C, "DATA", ". <1@x>")
        play.held(self.RULE, "2 answered 250, and none sent again")

    def test_a_message_that_was_not_stored_may_come_again(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !451 no", MAIL, B, "DATA", ". <1@x>")
        play.held(self.RULE, "1 answered 250, and none sent again")

    def test_a_client_that_left_before_the_250_has_not_read_it(self, play: Play) -> None:
        line = play.connect(MAIL, B, "DATA")
        line.says(". <1@x> -> …").leaving().says("(1m)")
        play.connect(MAIL, B, "DATA", ". <1@x>")
        play.held(self.RULE, "1 answered 250, and none sent again")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !451 no")
        play.not_exercised(self.RULE)

    def test_a_batch_that_is_run_again_under_new_names(self, play: Play) -> None:
        one, two = "{text_sha256=abc}", "{text_sha256=def}"
        batch = (MAIL, B, "DATA", f". <1@x> {one}", MAIL, B, "DATA", f". <2@x> {two}")
        play.connect(*batch, MAIL, f"{C} -> !421 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", f". <4@x> {one}", MAIL, B, "DATA", f". <5@x> {two}", MAIL, C, "DATA", ". <6@x>")
        why = "the text of <1@x> came to b@y again under another Message-ID: as a second copy, or as other mail"
        play.inconclusive(self.RULE, why, "", "#1 . <1@x>", "#2 . <4@x>")

    def test_a_single_text_under_another_name_is_other_mail_though_something_was_refused(self, play: Play) -> None:
        text = "{text_sha256=abc}"
        play.connect(MAIL, B, "DATA", f". <1@x> {text}", f"{MAIL} -> !421 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", f". <2@x> {text}")
        play.held(self.RULE, "2 answered 250, and none sent again")

    def test_a_421_after_the_250_makes_the_text_under_another_name_a_doubt(self, play: Play) -> None:
        text = "{text_sha256=abc}"
        play.connect(MAIL, B, "DATA", f". <1@x> {text} -> !250 ok | 421 bye").play.wait("1m")
        play.connect(MAIL, B, "DATA", f". <2@x> {text}")
        why = "the text of <1@x> came to b@y again under another Message-ID: as a second copy, or as other mail"
        play.inconclusive(self.RULE, why, "", "#1 . <1@x>", "#2 . <2@x>")

    def test_the_same_text_where_nothing_was_refused_is_other_mail(self, play: Play) -> None:
        for n in (1, 2):
            play.connect(MAIL, B, "DATA", f". <{n}@x> {{text_sha256=abc}}")
        play.held(self.RULE, "2 answered 250, and none sent again")


class TestResendsAllRecipients:
    RULE = "smtp.resend-all-recipients"

    def test_held(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !421 no").play.wait("1m")
        play.connect(MAIL, B, C, "DATA", ". <1@x>")
        play.held(self.RULE, "all recipients came again, once")

    def test_held_in_two_transactions(self, play: Play) -> None:
        play.connect(MAIL, B, C, "DATA -> !421 no").play.wait("1m")
        play.connect(MAIL, C, "DATA", ". <1@x>", MAIL, B, "DATA", ". <1@x>")
        play.held(self.RULE, "all recipients came again, once")

    def test_broken(self, play: Play) -> None:
        play.connect(MAIL, B, C, "DATA", ". <1@x> -> !451 no").play.wait("1m")
        play.connect(MAIL, C, "DATA", ". <1@x>")
        why = "451 at message made all of it void, and <1@x> to b@y never came again"
        play.broken(self.RULE, why, "#1 . <1@x>", "#2 connect")

    def test_broken_after_a_close_in_the_middle_of_the_message(self, play: Play) -> None:
        play.connect(MAIL, B, C, "DATA", "[body] <1@x> -> !").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <1@x>")
        why = "no reply at body made all of it void, and <1@x> to c@y never came again"
        play.broken(self.RULE, why, "#1 body", "#2 connect")

    def test_mail_to_one_of_them_may_be_other_mail(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !421 no").play.wait("1m")
        play.connect(MAIL, C, "DATA", ". <1@x>")
        why = "421 at rcpt made all of it void, and mail from a@x to b@y never came again, unless the next try was of other mail"
        play.inconclusive(self.RULE, why, "", f"#1 {C}", "#2 connect")

    def test_other_mail_is_no_retry(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !421 no").play.wait("1m")
        play.connect("MAIL FROM:<other@x>", B, "DATA", ". <2@x>")
        play.not_exercised(self.RULE)

    def test_one_recipient_is_no_occasion(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <1@x>")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_none_was_accepted(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !450 no", "RSET", "QUIT").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <1@x>")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_nothing_came_again(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !421 no").play.wait("1d")
        play.not_exercised(self.RULE)
