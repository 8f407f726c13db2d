"""Rules about an FTP reply that does not come, or comes late."""

from __future__ import annotations

import pytest
from msgspec.structs import force_setattr

from conduct_playbook import Play
from notnow.journal import Arrival

RULE = "ftp.time-out"
STALL = "USER ann -> …"


@pytest.fixture
def play() -> Play:
    return Play("ftp")


def test_held(play: Play) -> None:
    play.connect(STALL, "(5m)", "(leaves)")
    play.connect(STALL, "(1m)", "(leaves)").play.wait("2d")
    play.held(RULE, "it left after 5m")


def test_held_however_late_it_leaves(play: Play) -> None:
    play.connect(STALL, "(2h)", "(leaves)")
    play.held(RULE, "it left after 2h")


@pytest.mark.parametrize(("waited", "outcome"), [("3599s", "not exercised"), ("1h", "broken")])
def test_for_ever(play: Play, waited: str, outcome: str) -> None:
    play.connect(STALL, f"({waited})")
    assert play.find(RULE).outcome == outcome


def test_broken(play: Play) -> None:
    play.connect(STALL, "(2h)")
    play.broken(RULE, "it has waited 2h for a reply", "#1 USER ann", "#1")


@pytest.mark.parametrize("end", ["(closes)", "(stopped)"])
def test_broken_by_a_client_that_waits_until_the_fake_ends_it(play: Play, end: str) -> None:
    play.connect(STALL, "(2h)", end).play.wait("1d")
    play.broken(RULE, "it has waited 2h for a reply", "#1 USER ann", "#1")


def test_broken_by_waiting_for_the_greeting_until_the_fake_stops(play: Play) -> None:
    play.connect("-> …", "(3h)", "(stopped)")
    play.broken(RULE, "it has waited 3h for a reply", "#1 connect", "#1")


def test_a_preliminary_reply_is_none(play: Play) -> None:
    play.connect("RETR a -> !150 begins", "(2h)")
    play.broken(RULE, "it has waited 2h for a reply", "#1 RETR a", "#1")


@pytest.mark.parametrize("line", ["USER ann -> !331 password", "USER ann -> !", "USER ann"])
def test_not_exercised_where_nothing_is_due(play: Play, line: str) -> None:
    play.connect(line, "(2h)")
    play.not_exercised(RULE)


def test_not_exercised_where_the_client_went_on(play: Play) -> None:
    play.connect(STALL, "NOOP", "(2h)")
    play.not_exercised(RULE)


class TestInStep:
    RULE = "ftp.in-step"
    LATE = "NOOP -> (5s) !200 ok"

    def test_held(self, play: Play) -> None:
        play.connect(self.LATE, "QUIT")
        play.connect(self.LATE, "NOOP")
        play.held(self.RULE, "it waited for 2 late replies")

    def test_held_by_leaving(self, play: Play) -> None:
        play.connect(STALL, "(5m)", "(leaves)")
        play.held(self.RULE, "it waited for 1 late reply")

    def test_broken(self, play: Play) -> None:
        play.connect(self.LATE, "(early 2s) PASV")
        play.broken(self.RULE, "PASV came while the reply to NOOP was due", "#1 NOOP", "#1 PASV")

    def test_broken_by_commands_in_one_piece(self, play: Play) -> None:
        play.connect("USER ann", "(with) PASS secret")
        play.broken(self.RULE, "PASS came while the reply to USER was due", "#1 USER ann", "#1 PASS secret")

    def test_broken_before_the_greeting(self, play: Play) -> None:
        play.connect("-> (5s) 220 hello", "(early 2s) USER ann")
        play.broken(self.RULE, "USER came while the greeting was due", "#1 connect", "#1 USER ann")

    def test_broken_during_a_transfer(self, play: Play) -> None:
        play.connect("RETR a -> 150 go | (5s) 226 done", "(with) PASV")
        play.broken(self.RULE, "PASV came while the reply to RETR was due", "#1 RETR a", "#1 PASV")

    def test_broken_while_the_fake_stalls(self, play: Play) -> None:
        play.connect(STALL, "(5m)", "(unread) NOOP", "(leaves)")
        play.broken(self.RULE, "NOOP came while the reply to USER was due", "#1 USER ann", "#1")

    def test_broken_before_the_close(self, play: Play) -> None:
        line = play.connect("USER ann -> (5s) !421 no", "PASS secret")
        force_setattr(line.connection, "after_arrival", Arrival(0, play.clock.now() - 3))
        play.broken(self.RULE, "PASS came while the reply to USER was due", "#1 USER ann", "#1")

    @pytest.mark.parametrize("verb", ["ABOR", "STAT", "QUIT"])
    def test_some_may_come_during_a_transfer(self, play: Play, verb: str) -> None:
        play.connect("RETR a -> (5s) !226 done", f"(early 2s) {verb}")
        assert play.find(self.RULE).outcome != "broken"
        play.connect(STALL, f"(unread) {verb}", "(leaves)")
        play.held(self.RULE, "it waited for 2 late replies")

    def test_what_crosses_an_unasked_reply_is_in_step(self, play: Play) -> None:
        play.connect("USER ann", "[idle] -> (2s) !421 bye (stays)", "(early 1s) NOOP")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_no_reply_is_late(self, play: Play) -> None:
        play.connect("USER ann", "PASS secret", "QUIT")
        play.not_exercised(self.RULE)
