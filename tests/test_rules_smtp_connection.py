"""Rules about an SMTP connection on which the client was told 421."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

MAIL, RCPT = "MAIL FROM:<a@x>", "RCPT TO:<b@y>"
BYE = "!421 4.3.2 bye"


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestNothingButQuit:
    RULE = "smtp.nothing-but-quit"

    def test_held(self, play: Play) -> None:
        play.connect(f"{MAIL} -> {BYE}", "QUIT")
        play.held(self.RULE, "told 421 once, and nothing after it but QUIT")

    def test_held_counts_each_421(self, play: Play) -> None:
        for _ in range(2):
            play.connect(f"-> {BYE}")
        play.held(self.RULE, "told 421 twice, and nothing after it but QUIT")

    def test_a_command_that_came_before_the_late_421_was_not_an_answer_to_it(self, play: Play) -> None:
        play.connect(f"{MAIL} -> (2s) {BYE} (stays)", "(early 1s) NOOP")
        play.held(self.RULE, "told 421 once, and nothing after it but QUIT")

    def test_broken_on_a_connection_that_stays(self, play: Play) -> None:
        play.connect(f"{MAIL} -> {BYE} (stays)", "NOOP")
        play.broken(self.RULE, "'NOOP' was sent after a 421", f"#1 {MAIL}", "#1 NOOP")

    def test_broken_after_the_close(self, play: Play) -> None:
        play.connect(f"-> {BYE}", "EHLO x")
        play.broken(self.RULE, "'EHLO x' was sent after a 421", "#1 connect", "#1")

    @pytest.mark.parametrize("crossing", ["[idle]", "[enter]", "[error]"])
    def test_one_command_may_cross_an_unasked_421(self, play: Play, crossing: str) -> None:
        line = play.connect(f"{crossing} -> {BYE} (stays)", "NOOP")
        play.held(self.RULE, "told 421 once, and nothing after it but QUIT")
        line.says("RSET")
        play.broken(self.RULE, "'RSET' was sent after a 421", f"#1 {crossing.strip('[]')}", "#1 RSET")

    def test_a_group_of_commands_leaves_in_one_go(self, play: Play) -> None:
        line = play.connect(f"{MAIL} -> {BYE} (stays)", RCPT, RCPT, "DATA")
        play.held(self.RULE, "told 421 once, and nothing after it but QUIT")
        line.says(RCPT)  # that one comes after the group
        play.broken(self.RULE, f"'{RCPT}' was sent after a 421", f"#1 {MAIL}", f"#1 {RCPT}")

    def test_a_group_may_arrive_after_the_close(self, play: Play) -> None:
        line = play.connect(f"{MAIL} -> {BYE}", RCPT, "DATA")
        play.held(self.RULE, "told 421 once, and nothing after it but QUIT")
        line.says("Subject: x")
        play.broken(self.RULE, "'Subject: x' was sent after a 421", f"#1 {MAIL}", "#1")

    def test_a_group_is_none_after_a_421_to_the_greeting(self, play: Play) -> None:
        play.connect(f"-> {BYE}", "RCPT TO:<b@y>")
        play.broken(self.RULE, "'RCPT TO:<b@y>' was sent after a 421", "#1 connect", "#1")

    def test_the_rest_of_a_message_is_on_its_way(self, play: Play) -> None:
        play.connect(MAIL, RCPT, "DATA", f"[body] -> {BYE}", "hello")
        play.held(self.RULE, "told 421 once, and nothing after it but QUIT")

    def test_not_exercised_without_a_421(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !451 no", "NOOP")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_the_fake_was_stopped(self, play: Play) -> None:
        play.connect("(stopped)", "NOOP", "NOOP")
        play.not_exercised(self.RULE)


class TestSurvives:
    RULE = "smtp.survives-421"

    def test_held(self, play: Play) -> None:
        play.connect(f"-> {BYE}")
        play.connect(f"{MAIL} -> {BYE}", "QUIT")
        play.held(self.RULE, "421 at connect, mail")

    def test_broken_by_a_message_after_data_was_refused(self, play: Play) -> None:
        play.connect(MAIL, RCPT, f"DATA -> {BYE}", "Subject: x")
        play.broken(self.RULE, "the message was sent after DATA had been answered 421", "#1 DATA", "#1")

    def test_broken_by_a_message_taken_for_commands(self, play: Play) -> None:
        play.connect(MAIL, RCPT, f"DATA -> {BYE} (stays)", "Subject: x -> 500 what")
        play.broken(self.RULE, "the message was sent after DATA had been answered 421", "#1 DATA", "#1 Subject: x")

    @pytest.mark.parametrize("said", ["QUIT", "RSET", "HELO x", "MAIL FROM:<a@x>"])
    def test_a_command_after_data_is_no_message(self, play: Play, said: str) -> None:
        play.connect(MAIL, RCPT, f"DATA -> {BYE} (stays)", said)
        play.held(self.RULE, "421 at data")

    def test_a_451_to_data_is_no_421(self, play: Play) -> None:
        play.connect(MAIL, RCPT, "DATA -> !451 no", "Subject: x -> 500 what")
        play.not_exercised(self.RULE)

    def test_chunks_leave_together_with_their_bdat(self, play: Play) -> None:
        play.connect(MAIL, RCPT, f"DATA -> {BYE} (stays)", "BDAT 5 -> 503 no", "hello -> 500 what")
        play.held(self.RULE, "421 at data")

    @pytest.mark.parametrize(("waited", "hung"), [("10m", True), ("599s", False)])
    def test_broken_by_a_client_that_hangs_for_ten_minutes(self, play: Play, waited: str, hung: bool) -> None:
        play.connect(f"{MAIL} -> {BYE} (stays)", f"({waited})")
        if hung:
            play.broken(self.RULE, "it was told 421 and did nothing for 10m", f"#1 {MAIL}", "#1")
        else:
            play.held(self.RULE, "421 at mail")

    def test_a_hang_runs_from_the_reply(self, play: Play) -> None:
        play.connect(f"{MAIL} -> (9m) {BYE} (stays)", "(9m)", "(leaves)")
        play.held(self.RULE, "421 at mail")

    def test_a_hang_ends_with_the_connection(self, play: Play) -> None:
        play.connect(f"{MAIL} -> {BYE} (stays)", "(1m)", "(leaves)").play.wait("1h")
        play.held(self.RULE, "421 at mail")

    def test_a_client_that_has_left_does_not_hang(self, play: Play) -> None:
        line = play.connect(f"{MAIL} -> {BYE} (stays)")
        line.leaving().says("(1h)")
        play.held(self.RULE, "421 at mail")

    def test_a_client_that_goes_on_does_not_hang(self, play: Play) -> None:
        play.connect(f"{MAIL} -> {BYE} (stays)", "NOOP", "(1h)")
        play.held(self.RULE, "421 at mail")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !451 no")
        play.not_exercised(self.RULE)
