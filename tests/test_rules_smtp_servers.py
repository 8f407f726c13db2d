"""Rules about several SMTP servers, and several connections to one."""

from __future__ import annotations

import pytest

from conduct_playbook import BUSY, Play

FULL = "-> !421 4.7.0 Too many concurrent connections"
LETTER = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". <1@x>")


@pytest.fixture
def play() -> Play:
    return Play("smtp")


@pytest.fixture
def two() -> Play:
    return Play("smtp", "primary", "backup")


class TestNextHost:
    RULE = "smtp.next-host"

    def test_held(self, two: Play) -> None:
        two.connect(BUSY).play.wait("3s")
        two.connect(server=1)
        two.held(self.RULE, "it turned to another server 3s after primary had refused it")

    def test_held_names_the_longest_of_several_clients(self, two: Play) -> None:
        for client, wait in (("192.0.2.1", "3s"), ("192.0.2.2", "2s")):
            two.connect(BUSY, client=client).play.wait(wait)
            two.connect(server=1, client=client)
            two.connect(server=1, client=client)
        two.held(self.RULE, "it turned to another server 3s after primary had refused it")

    def test_broken(self, two: Play) -> None:
        two.connect(BUSY).play.wait("1h")
        two.broken(self.RULE, "primary refused it, and it tried no other server", "primary #1 connect")

    def test_another_client_at_the_backup_is_not_this_one(self, two: Play) -> None:
        two.connect(BUSY)
        two.connect(server=1, client="192.0.2.2")
        two.broken(self.RULE, "primary refused it, and it tried no other server", "primary #1 connect")

    def test_a_refused_transaction_is_no_refused_client(self, two: Play) -> None:
        two.connect("MAIL FROM:<a@x> -> !421 no")
        two.not_exercised(self.RULE)

    def test_not_exercised_with_one_server(self, play: Play) -> None:
        play.connect(BUSY)
        play.not_exercised(self.RULE)


class TestPreferenceOrder:
    RULE = "smtp.preference-order"
    HELD = "no server was skipped"

    def test_held(self, two: Play) -> None:
        two.connect(BUSY)
        two.connect(*LETTER, server=1)
        two.held(self.RULE, self.HELD)

    def test_broken_without_having_tried(self, two: Play) -> None:
        two.connect(server=1)
        two.connect()
        two.broken(self.RULE, "it came to backup without having tried primary", "backup #1")

    def test_broken_where_the_first_is_passed_over(self) -> None:
        three = Play("smtp", "one", "two", "three")
        three.connect(BUSY)
        three.connect(server=2)
        three.broken(self.RULE, "it came to three without having tried two", "three #1")

    def test_another_client_has_to_try_by_itself(self, two: Play) -> None:
        two.connect(BUSY)
        two.connect(server=1, client="192.0.2.2")
        two.broken(self.RULE, "it came to backup without having tried primary", "backup #1")

    def test_broken_where_the_first_had_just_taken_mail(self, two: Play) -> None:
        two.connect(*LETTER, "QUIT")
        two.connect(*LETTER, server=1)
        why = "it came to backup though primary had just taken its mail"
        two.broken(self.RULE, why, "primary #1 . <1@x>", "backup #1")

    def test_a_refusal_excuses_one_visit(self, two: Play) -> None:
        two.connect(BUSY)
        two.connect(*LETTER)
        two.connect(*LETTER, server=1)
        two.held(self.RULE, self.HELD)
        two.connect(*LETTER, server=1)
        why = "it came to backup though primary had just taken its mail"
        two.broken(self.RULE, why, "primary #2 . <1@x>", "backup #2")

    def test_a_recipient_that_was_refused_is_an_excuse(self, two: Play) -> None:
        two.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y> -> !450 no", "DATA", ". <1@x>")
        two.connect("MAIL FROM:<a@x>", "RCPT TO:<c@y>", "DATA", ". <1@x>", server=1)
        two.held(self.RULE, self.HELD)

    def test_mail_and_a_421_on_one_connection_is_an_excuse(self, two: Play) -> None:
        two.connect(*LETTER, "NOOP -> !421 bye")
        two.connect(*LETTER, server=1)
        two.held(self.RULE, self.HELD)

    def test_not_exercised(self, play: Play) -> None:
        play.connect(*LETTER)
        play.not_exercised(self.RULE)


class TestRemembersBusyHost:
    RULE = "smtp.remembers-busy-host"

    def test_held(self, play: Play) -> None:
        for _ in range(5):
            play.connect(BUSY).play.wait("1s")
        play.held(self.RULE, "at most 5 refused connections in a minute")

    def test_broken(self, play: Play) -> None:
        for _ in range(7):
            play.connect(BUSY).play.wait("1s")
        evidence = [f"#{n} connect" for n in range(1, 8)]
        play.broken(self.RULE, "it walked into a busy server 7 times within 6s", *evidence)

    def test_connections_within_a_second_may_have_been_opened_side_by_side(self, play: Play) -> None:
        for _ in range(20):
            play.connect(BUSY).play.wait("1ms")
        why = "6 connections were refused within 5ms, side by side or in turn"
        play.inconclusive(self.RULE, why, "", *(f"#{n} connect" for n in range(1, 7)))

    @pytest.mark.parametrize(("gap", "refused"), [("12s", 5), ("11999ms", 6)])
    def test_a_minute_is_a_sliding_window(self, play: Play, gap: str, refused: int) -> None:
        for _ in range(7):
            play.connect(BUSY).play.wait(gap)
        assert play.find(self.RULE).outcome == ("broken" if refused > 5 else "held")

    def test_each_client_is_counted_by_itself(self, play: Play) -> None:
        for number in range(6):
            play.connect(BUSY, client=f"192.0.2.{number}")
        play.held(self.RULE, "at most 1 refused connection in a minute")

    def test_each_server_is_counted_by_itself(self, two: Play) -> None:
        for number in range(6):
            two.connect(BUSY, server=number % 2)
        two.held(self.RULE, "at most 3 refused connections in a minute")

    @pytest.mark.parametrize("between", [(), ("MAIL FROM:<a@x> -> !421 no",), ("-> !451 no",)])
    def test_a_connection_that_was_not_told_421_at_once_ends_the_row(
        self, play: Play, between: tuple[str, ...]
    ) -> None:
        for number in range(8):
            play.connect(*(between if number == 4 else (BUSY,)))
        play.held(self.RULE, "at most 4 refused connections in a minute")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(*LETTER)
        play.not_exercised(self.RULE)


class TestFewerConnections:
    RULE = "smtp.fewer-connections"

    def test_held(self, play: Play) -> None:
        first = play.connect()
        play.connect()
        play.connect(FULL).play.wait("1m")
        first.says("(leaves)")
        play.connect()
        play.held(self.RULE, "3 connections before, 2 at most since")

    def test_broken(self, play: Play) -> None:
        play.connect()
        play.connect(FULL).play.wait("1m")
        play.connect()
        why = "it had 2 connections when it was told that they are too many, and later 2 again"
        play.broken(self.RULE, why, "#2 connect", "#3")

    @pytest.mark.parametrize(("later", "outcome"), [("999ms", "held"), ("1s", "broken")])
    def test_what_was_under_way_within_a_second_does_not_count(self, play: Play, later: str, outcome: str) -> None:
        play.connect()
        play.connect(FULL).play.wait(later)
        play.connect()
        assert play.find(self.RULE).outcome == outcome

    @pytest.mark.parametrize("end", ["QUIT", "(leaves)", "(closes)"])
    def test_a_connection_that_has_ended_does_not_count(self, play: Play, end: str) -> None:
        play.connect().says(end)
        play.connect(FULL)
        play.not_exercised(self.RULE)

    def test_each_client_is_counted_by_itself(self, play: Play) -> None:
        play.connect(client="192.0.2.2")
        play.connect(FULL).play.wait("1m")
        play.connect(client="192.0.2.2")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize(
        "words",
        ["too many", "Concurrent", "simultaneous", "All server ports are busy", "connection rate", "connection limit"],
    )
    def test_the_words_of_servers(self, play: Play, words: str) -> None:
        play.connect()
        play.connect(f"-> !421 {words}")
        play.held(self.RULE, "2 connections before, 0 at most since")

    def test_not_exercised_by_another_421(self, play: Play) -> None:
        play.connect()
        play.connect("-> !421 Not now").play.wait("1m")
        play.connect()
        play.not_exercised(self.RULE)
