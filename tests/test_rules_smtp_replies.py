"""Rules about how an SMTP client reads the codes of replies."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"
OTHER = "MAIL FROM:<other@x>"
END = ("DATA", ". <1@x>")


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestTooManyRecipients:
    RULE = "smtp.too-many-recipients"
    HELD = "the accepted recipients got the message, the others got it later"

    @pytest.mark.parametrize("code", [452, 552])
    def test_held(self, play: Play, code: int) -> None:
        play.connect(MAIL, B, f"{C} -> !{code} too many", *END, MAIL, C, *END)
        play.held(self.RULE, self.HELD)

    @pytest.mark.parametrize("code", [452, 552])
    def test_broken_where_the_rest_never_comes(self, play: Play, code: int) -> None:
        play.connect(MAIL, B, f"{C} -> !{code} too many", *END)
        play.broken(self.RULE, "c@y was over the limit, and was not tried again", f"#1 {C}")

    def test_broken_where_the_accepted_ones_get_no_message(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !452 too many", "RSET")
        play.broken(self.RULE, "the accepted recipients were not sent the message", f"#1 {C}", "#1 RSET")

    def test_broken_by_leaving(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !452 too many", "(leaves)")
        play.broken(self.RULE, "the accepted recipients were not sent the message", f"#1 {C}", "#1")

    def test_asked_again_in_the_same_transaction(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !452 too many", C, *END)
        play.held(self.RULE, self.HELD)

    def test_a_client_that_may_still_say_data(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !452 too many")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("code", [450, 550, 451])
    def test_another_code_is_no_occasion(self, play: Play, code: int) -> None:
        play.connect(MAIL, B, f"{C} -> !{code} no", *END)
        play.not_exercised(self.RULE)

    def test_not_exercised_where_none_was_accepted(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !452 too many", "RSET")
        play.not_exercised(self.RULE)


class TestActsOnTheCode:
    RULE = "smtp.acts-on-the-code"
    UNSEEN = "nothing that was refused in an odd form is known to have been tried again"
    ODD = {
        "!421": "a bare 421",
        "!432 no": "a 432",
        "!451-no | 451 later": "a 451 of several lines",
        "!451 später": "a 451 in another script",
    }

    @pytest.mark.parametrize("reply", ODD)
    def test_held(self, play: Play, reply: str) -> None:
        play.connect(MAIL, B, f"DATA -> {reply}").play.wait("1m")
        play.connect(MAIL, B, *END)
        play.held(self.RULE, "1 reply of an odd form, acted on as others are")

    @pytest.mark.parametrize("reply", ODD)
    def test_broken_by_going_on(self, play: Play, reply: str) -> None:
        play.connect(MAIL, B, f"DATA -> {reply} (stays)", "Subject: x -> 500 what")
        why = f"the message was sent as if {self.ODD[reply]} had accepted it"
        play.broken(self.RULE, why, "#1 DATA", "#1 Subject: x")

    def test_broken_by_going_on_after_the_close(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421", "Subject: x")
        play.broken(self.RULE, "the message was sent as if a bare 421 had accepted it", "#1 DATA", "#1")

    @pytest.mark.parametrize("reply", ODD)
    def test_broken_by_giving_up_only_then(self, play: Play, reply: str) -> None:
        play.connect(MAIL, B, f"DATA -> {reply}")
        play.connect(OTHER, B, "DATA -> !451 no").play.wait("1m")
        play.connect(OTHER, B, *END)
        why = f"after {self.ODD[reply]} it never tried again, after a plain reply it did"
        play.broken(self.RULE, why, "#1 DATA", "#2 DATA")

    def test_a_client_that_drops_both_does_not_judge_by_the_form(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !432 no")
        play.connect(OTHER, B, "DATA -> !451 no").play.wait("1d")
        play.not_exercised(self.RULE, self.UNSEEN)

    def test_a_client_that_has_not_had_as_long_may_yet_come(self, play: Play) -> None:
        play.connect(OTHER, B, "DATA -> !451 no").play.wait("2m")
        play.connect(MAIL, B, "DATA -> !432 no")
        play.connect(OTHER, B, *END)
        play.not_exercised(self.RULE, self.UNSEEN)

    def test_two_replies_are_counted(self, play: Play) -> None:
        for _ in range(2):
            play.connect(MAIL, B, "DATA -> !432 no").play.wait("1m")
        play.held(self.RULE, "2 replies of an odd form, acted on as others are")

    @pytest.mark.parametrize("code", [421, 450, 451, 452, 454, 455])
    def test_the_usual_codes_are_no_occasion(self, play: Play, code: int) -> None:
        play.connect(MAIL, B, f"DATA -> !{code} no")
        play.not_exercised(self.RULE)

    def test_an_odd_5yz_is_no_occasion(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !541")
        play.not_exercised(self.RULE)


class TestClassFirst:
    RULE = "smtp.class-first"

    def test_held(self, play: Play) -> None:
        for code in ("4.7.28", "4.3.2"):
            play.connect(f"{MAIL} -> !421 {code} no").play.wait("1m")
        play.connect(f"{MAIL} -> !421 no").play.wait("1m")
        play.connect(MAIL)
        play.held(self.RULE, "told 4.7.28, 4.3.2, no enhanced code")

    def test_one_code_makes_no_difference(self, play: Play) -> None:
        for _ in range(3):
            play.connect(f"{MAIL} -> !421 4.7.28 no").play.wait("1m")
        play.not_exercised(self.RULE)

    def test_broken(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 4.7.28 no")
        play.connect(OTHER, B, "DATA -> !421 4.3.2 no").play.wait("1m")
        play.connect(OTHER, B, *END)
        why = "after 4.7.28 it never tried again, after 4.3.2 it did"
        play.broken(self.RULE, why, "#1 DATA", "#2 DATA")

    def test_a_client_may_drop_a_refused_recipient_and_retry_refused_mail(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !452 4.5.3 no", "DATA -> !451 4.3.0 no").play.wait("1m")
        play.connect(MAIL, B, "DATA -> !451 4.3.0 no").play.wait("1m")
        play.connect(MAIL, B, *END)
        play.not_exercised(self.RULE)

    def test_a_client_may_drop_a_recipient_beside_others_that_were_accepted(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !452 4.5.3 no", C, *END)
        play.connect(OTHER, f"{B} -> !451 4.3.0 no").play.wait("1m")
        play.connect(OTHER, B, "DATA", ". <2@x>")
        play.not_exercised(self.RULE)

    def test_what_came_back_once_is_not_dropped_for_its_code(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 4.7.28 no").play.wait("1m")
        play.connect(MAIL, B, "DATA -> !421 4.7.28 no")
        play.connect(OTHER, B, "DATA -> !421 4.3.2 no").play.wait("1m")
        play.connect(OTHER, B, *END)
        play.held(self.RULE, "told 4.7.28, 4.3.2")

    def test_a_status_that_is_none_is_not_read_as_one(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !421 4.7.2828 no")
        play.not_exercised(self.RULE)

    def test_not_exercised_without_enhanced_codes(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !421 no")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_a_recipient_alone_was_refused(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !450 4.2.1 no", *END)
        play.not_exercised(self.RULE)
