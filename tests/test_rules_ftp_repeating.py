"""The rule about FTP requests that were refused for good."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

RULE = "ftp.final-is-final"
LOGIN = ("USER ann", "PASS secret")
NONE = "RETR a -> 550 none"
HELD = "1 refusal for good, and none asked for again at once"


@pytest.fixture
def play() -> Play:
    return Play("ftp")


def test_held(play: Play) -> None:
    play.connect(*LOGIN, NONE, "RETR b", "QUIT")
    play.held(RULE, HELD)


@pytest.mark.parametrize("request_", ["RETR a", "STOR a", "APPE a", "STOU a", "DELE a", "RNFR a"])
def test_broken(play: Play, request_: str) -> None:
    play.connect(*LOGIN, f"{request_} -> 550 no", "(2ms)", f"{request_} -> 550 no")
    why = f"'{request_}' got 550, and came again 2ms later"
    play.broken(RULE, why, f"#1 {request_}", f"#1 {request_}")


def test_broken_on_the_next_connection(play: Play) -> None:
    play.connect(*LOGIN, NONE, "(leaves)").play.wait("2ms")
    play.connect(*LOGIN, "TYPE I", NONE)
    play.broken(RULE, "'RETR a' got 550, and came again 2ms later", "#1 RETR a", "#2 RETR a")


def test_another_worker_may_ask_at_the_same_time(play: Play) -> None:
    lines = [play.connect(*LOGIN) for _ in range(2)]
    for line in lines:
        line.says(NONE)
    assert play.find(RULE).outcome == "held"


def test_what_was_sent_before_the_refusal_came_is_another_rule(play: Play) -> None:
    play.connect(*LOGIN, NONE, f"(with) {NONE}")
    assert play.find(RULE).outcome == "held"


@pytest.mark.parametrize("change", ["STOR a", "MKD in", "DELE b", "RNTO a", "SITE CHMOD"])
def test_a_command_that_may_change_the_answer(play: Play, change: str) -> None:
    play.connect(*LOGIN, NONE, change, "RETR a")
    play.held(RULE, HELD)


@pytest.mark.parametrize("nothing", ["MKD in -> 550 no", "TYPE I", "PASV", "NOOP"])
def test_a_command_that_changes_nothing(play: Play, nothing: str) -> None:
    play.connect(*LOGIN, NONE, nothing, "RETR a")
    assert play.find(RULE).outcome == "broken"


@pytest.mark.parametrize(("gap", "outcome"), [("999ms", "broken"), ("1s", "inconclusive")])
def test_a_client_that_asks_later_may_wait_for_the_file(play: Play, gap: str, outcome: str) -> None:
    play.connect(*LOGIN, NONE, f"({gap})", NONE)
    assert play.find(RULE).outcome == outcome


def test_another_user_or_client_may_be_told_something_else(play: Play) -> None:
    play.connect(*LOGIN, NONE, "(leaves)")
    play.connect("USER bob", "PASS secret", NONE, "(leaves)")
    play.connect(*LOGIN, NONE, client="192.0.2.2")
    assert play.find(RULE).outcome == "held"


@pytest.mark.parametrize(
    "line",
    ["RETR a -> !450 no", "RETR a -> 530 log in", "RNFR a -> 503 no", "MKD a -> 550 exists", "SIZE a -> 550 none"],
)
def test_not_exercised(play: Play, line: str) -> None:
    play.connect(line, line)
    play.not_exercised(RULE)
