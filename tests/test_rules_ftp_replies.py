"""Rules about how an FTP client reads replies."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

LOGIN = ("USER ann", "PASS secret")


@pytest.fixture
def play() -> Play:
    return Play("ftp")


class TestMultiLineReplies:
    RULE = "ftp.multi-line-replies"

    SILENT = "no command after it would show how the client has read it"

    def test_held(self, play: Play) -> None:
        play.connect("-> 220-Welcome | 220 to us", *LOGIN)
        play.held(self.RULE, "1 reply of several lines")

    def test_replies_are_counted(self, play: Play) -> None:
        play.connect("-> 220-Welcome | 220 to us", *LOGIN, "FEAT -> 211-Features | 211 End")
        play.held(self.RULE, "2 replies of several lines")

    def test_broken(self, play: Play) -> None:
        # Taken for one reply a line: USER got "220 to us", and PASS need not be said.
        play.connect("-> 220-Welcome | 220 to us", "USER ann -> 331 password", "TYPE I -> 530 log in")
        why = "TYPE came as if a line of '220-Welcome' had been the reply to USER"
        play.broken(self.RULE, why, "#1 connect", "#1 USER ann", "#1 TYPE I")

    def test_a_client_that_was_told_to_go_on_is_not_mistaken(self, play: Play) -> None:
        play.connect("-> 220-Welcome | 220 to us", "USER ann -> 230 welcome", "TYPE I -> 530 log in")
        play.not_exercised(self.RULE, self.SILENT)

    @pytest.mark.parametrize("lines", [(), ("QUIT",), ("USER ann -> 331 password", "QUIT")])
    def test_not_exercised_where_a_client_that_is_one_line_behind_would_do_the_same(
        self, play: Play, lines: tuple[str, ...]
    ) -> None:
        play.connect("-> 220-Welcome | 220 to us", *lines)
        play.not_exercised(self.RULE, self.SILENT)

    def test_a_preliminary_reply_is_read_together_with_the_next(self, play: Play) -> None:
        play.connect("-> 220-Welcome | 220 to us", *LOGIN, "RETR a -> 150 begins | 226 ok", "RNTO b -> 503 no")
        play.held(self.RULE, "1 reply of several lines")

    def test_a_command_that_a_rule_refuses_is_not_out_of_order(self, play: Play) -> None:
        play.connect("-> 220-Welcome | 220 to us", "USER ann -> 331 password", "TYPE I -> !530 no")
        play.held(self.RULE, "1 reply of several lines")

    def test_a_hyphen_elsewhere_is_no_second_line(self, play: Play) -> None:
        play.connect("-> 220 Welcome - to us", "USER ann", "TYPE I -> 530 log in")
        play.not_exercised(self.RULE)

    def test_each_connection_begins_in_step(self, play: Play) -> None:
        play.connect("-> 220-Welcome | 220 to us")
        play.connect("USER ann -> 331 password", "TYPE I -> 530 log in")
        play.not_exercised(self.RULE, self.SILENT)


class TestFirstDigit:
    RULE = "ftp.first-digit"
    BROKEN = (
        ("USER ann", "PASS secret"),
        ("PASS secret", "PASV"),
        ("PASS secret", "RETR a"),
        ("PASS secret", "CWD in"),
        ("PASV", "RETR a"),
        ("PORT 1,2", "LIST"),
        ("EPSV", "STOR a"),
        ("EPRT |1|", "APPE a"),
        ("RNFR a", "RNTO b"),
    )

    @pytest.mark.parametrize(("refused", "next_one"), BROKEN)
    @pytest.mark.parametrize("code", ["450", "550"])
    def test_broken(self, play: Play, refused: str, next_one: str, code: str) -> None:
        play.connect(f"{refused} -> !{code} no", f"{next_one} -> {code} no")
        why = f"{next_one.split()[0]} came although {refused.split()[0]} had been refused"
        play.broken(self.RULE, why, f"#1 {refused}", f"#1 {next_one}")

    @pytest.mark.parametrize(("refused", "next_one"), BROKEN)
    def test_held_by_asking_again(self, play: Play, refused: str, next_one: str) -> None:
        play.connect(f"{refused} -> !450 no", f"{refused} -> 200 ok", next_one)
        play.held(self.RULE, "it was refused once what something else needs")

    @pytest.mark.parametrize("other", ["EPSV", "PORT 1,2", "EPRT |1|"])
    def test_one_way_to_a_data_connection_makes_up_for_another(self, play: Play, other: str) -> None:
        play.connect("PASV -> !450 no", f"{other} -> 200 ok", "RETR a")
        play.held(self.RULE, "it was refused once what something else needs")

    def test_what_does_not_need_it_may_follow(self, play: Play) -> None:
        play.connect("RNFR a -> !450 no", "PASV -> 227 (1,2)", "RETR a -> 226 ok", "QUIT")
        play.held(self.RULE, "it was refused once what something else needs")

    def test_a_399_is_no_refusal_and_a_400_is_one(self, play: Play) -> None:
        play.connect("RNFR a -> 399 go on", "RNTO b", "USER x -> 400 no")
        play.held(self.RULE, "it was refused once what something else needs")

    def test_broken_after_the_close(self, play: Play) -> None:
        play.connect("USER ann -> !421 no", "PASS secret", "TYPE I")
        play.broken(self.RULE, "PASS came although USER had been refused", "#1 USER ann", "#1")

    def test_what_was_on_its_way_is_another_rule(self, play: Play) -> None:
        play.connect("USER ann -> !530 no", "(with) PASS secret -> 503 no", "QUIT")
        play.connect("USER ann -> (5s) !530 no", "(early 2s) PASS secret -> 503 no", "QUIT")
        assert play.find(self.RULE).outcome == "held"

    @pytest.mark.parametrize("after", ["TYPE I", "USER bob", "QUIT"])
    def test_held_by_what_does_not_need_it_after_the_close(self, play: Play, after: str) -> None:
        play.connect("USER ann -> !421 no", after)
        play.held(self.RULE, "it was refused once what something else needs")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(*LOGIN, "RETR a -> !450 no", "RETR a")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_another_way_is_refused_to_nobody(self, play: Play) -> None:
        play.connect(*LOGIN, "EPSV -> 229 (|||1|)", "RETR a")
        play.not_exercised(self.RULE)


class TestRefusedGreeting:
    RULE = "ftp.refused-greeting"
    FULL = "-> !421 Too many connections"

    def test_held(self, play: Play) -> None:
        play.connect(self.FULL, "QUIT")
        play.connect(self.FULL)
        play.held(self.RULE, "2 refused greetings")

    @pytest.mark.parametrize("verb", ["USER", "PASS", "ACCT"])
    def test_broken_after_the_close(self, play: Play, verb: str) -> None:
        play.connect(self.FULL, f"{verb} x")
        play.broken(self.RULE, f"{verb} came after 421", "#1 connect", "#1")

    def test_broken_on_a_connection_that_stays(self, play: Play) -> None:
        play.connect(f"{self.FULL} (stays)", "FEAT", "USER ann")
        play.broken(self.RULE, "USER came after 421", "#1 connect", "#1 USER ann")

    def test_what_was_said_before_the_greeting_came_is_another_rule(self, play: Play) -> None:
        play.connect("-> (5s) !421 no (stays)", "(early 2s) USER ann")
        play.held(self.RULE, "1 refused greeting")

    def test_held_by_other_commands(self, play: Play) -> None:
        play.connect(f"{self.FULL} (stays)", "FEAT", "QUIT")
        play.held(self.RULE, "1 refused greeting")

    def test_not_exercised_where_nothing_was_said(self, play: Play) -> None:
        play.connect("-> !", "USER ann")
        play.not_exercised(self.RULE)

    def test_not_exercised_after_the_greeting(self, play: Play) -> None:
        play.connect("USER ann -> !421 no", "PASS x")
        play.not_exercised(self.RULE)
