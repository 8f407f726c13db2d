"""Rules about commands that an FTP client must not repeat too often."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

FULL = "!530 Sorry, the maximum number of clients (3) for this user are already connected."


@pytest.fixture
def play() -> Play:
    return Play("ftp")


class TestNoNoopFlood:
    RULE = "ftp.no-noop-flood"

    def test_held(self, play: Play) -> None:
        play.connect(*["NOOP"] * 10)
        play.connect("NOOP")
        play.held(self.RULE, "10 NOOPs in a row at most")

    def test_not_exercised_by_one(self, play: Play) -> None:
        play.connect("NOOP")
        play.not_exercised(self.RULE)

    def test_a_pool_asks_before_each_piece_of_work(self, play: Play) -> None:
        play.connect(*["NOOP", "RETR a"] * 20)
        play.not_exercised(self.RULE)

    def test_broken(self, play: Play) -> None:
        play.connect(*["NOOP", "(2s)"] * 11)
        play.broken(self.RULE, "11 NOOPs within 20s", *["#1 NOOP"] * 11)

    @pytest.mark.parametrize(("gap", "outcome"), [("6s", "broken"), ("6001ms", "held")])
    def test_within_a_minute(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(*["NOOP", f"({gap})"] * 11)
        assert play.find(self.RULE).outcome == outcome

    def test_not_exercised(self, play: Play) -> None:
        play.connect("USER ann", *["STAT"] * 20)
        play.not_exercised(self.RULE)


class TestSpareThePassword:
    RULE = "ftp.spare-the-password"

    def test_held(self, play: Play) -> None:
        play.connect("USER ann", f"PASS x -> {FULL}")
        play.held(self.RULE, "1 try at most for a user")
        play.wait("1s")
        play.connect("USER ann", f"PASS x -> {FULL}", f"PASS x -> {FULL}")
        play.held(self.RULE, "3 tries at most for a user")

    def test_broken(self, play: Play) -> None:
        for _ in range(4):
            play.connect("USER ann", f"PASS x -> {FULL}").play.wait("1m")
        why = "the password of ann was given 4 times within 3m"
        play.broken(self.RULE, why, *(f"#{n} PASS x" for n in range(1, 5)))

    def test_a_password_without_a_user(self, play: Play) -> None:
        play.connect(*[f"PASS x -> {FULL}"] * 4)
        play.broken(self.RULE, "the password of nobody was given 4 times within 0s", *["#1 PASS x"] * 4)

    @pytest.mark.parametrize(("gap", "outcome"), [("200s", "broken"), ("201s", "held")])
    def test_within_ten_minutes(self, play: Play, gap: str, outcome: str) -> None:
        for _ in range(4):
            play.connect("USER ann", f"PASS x -> {FULL}").play.wait(gap)
        assert play.find(self.RULE).outcome == outcome

    def test_each_user_is_counted_by_itself(self, play: Play) -> None:
        for number in range(6):
            play.connect(f"USER ann{number % 2}", f"PASS x -> {FULL}").play.wait("1s")
        play.held(self.RULE, "3 tries at most for a user")

    def test_each_client_is_counted_by_itself(self, play: Play) -> None:
        for number in range(6):
            play.connect("USER ann", f"PASS x -> {FULL}", client=f"192.0.2.{number % 2}").play.wait("1s")
        play.held(self.RULE, "3 tries at most for a user")

    def test_passwords_that_were_sent_at_the_same_time_count_once(self, play: Play) -> None:
        for _ in range(9):
            play.connect("USER ann", f"PASS x -> {FULL}")
        play.held(self.RULE, "1 try at most for a user")

    def test_not_exercised_by_another_code(self, play: Play) -> None:
        play.connect(*["USER ann", "PASS x -> !421 no (stays)"] * 6)
        play.not_exercised(self.RULE)
