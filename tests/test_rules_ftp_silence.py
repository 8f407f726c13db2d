"""The rule about an FTP reply that does not come."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

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
