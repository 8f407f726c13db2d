"""The rule about resuming an FTP transfer that was cut."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

RULE = "ftp.resume"


@pytest.fixture
def play() -> Play:
    return Play("ftp")


@pytest.mark.parametrize("verb", ["RETR", "STOR"])
def test_held(play: Play, verb: str) -> None:
    play.connect(f"{verb} big {{bytes=100000}} -> !426 cut", "REST 100000 -> 350 ok")
    play.connect(f"{verb} big {{offset=100000, bytes=1}} -> 226 ok")
    play.held(RULE, "it went on once from where it was cut")


@pytest.mark.parametrize("verb", ["RETR", "STOR"])
def test_broken(play: Play, verb: str) -> None:
    play.connect(f"{verb} big {{bytes=1000000}} -> !426 cut")
    play.connect(f"{verb} big {{bytes=5}} -> 226 ok")
    why = "1 MB of /big had come through, and it began again from 0"
    play.broken(RULE, why, f"#1 {verb} big", f"#2 {verb} big")


@pytest.mark.parametrize(("size", "outcome"), [(65_535, "not exercised"), (65_536, "broken")])
def test_what_is_worth_it(play: Play, size: int, outcome: str) -> None:
    play.connect(f"RETR big {{bytes={size}}} -> !426 cut", "RETR big")
    assert play.find(RULE).outcome == outcome


def test_pieces_add_up(play: Play) -> None:
    play.connect("RETR big {bytes=65536} -> !426 cut", "RETR big {offset=65536, bytes=4464} -> !426 cut", "RETR big")
    why = "70 KB of /big had come through, and it began again from 0"
    play.broken(RULE, why, "#1 RETR big", "#1 RETR big")


def test_another_segment_that_begins_at_0_goes_on_from_nothing(play: Play) -> None:
    second, first = play.connect(), play.connect()
    play.wait("1s")
    second.says("REST 100 -> 350 ok", "RETR big {offset=100, bytes=100000} -> !426 cut")
    first.says("RETR big {bytes=100}")
    play.not_exercised(RULE)
    second.says("RETR big {offset=100100, bytes=1}")
    play.held(RULE, "it went on once from where it was cut")


def test_appe_goes_on_without_an_offset(play: Play) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", "SIZE big -> 213 100000", "APPE big {bytes=1} -> !426 cut")
    play.held(RULE, "it went on once from where it was cut")
    play.connect("STOR big")
    why = "100 KB of /big had come through, and it began again from 0"
    play.broken(RULE, why, "#1 APPE big", "#2 STOR big")


@pytest.mark.parametrize("seen", ["SIZE big -> 550 none", "MLST big -> 550 none", "SIZE big -> 213 0"])
def test_a_file_that_is_gone_is_begun_again(play: Play, seen: str) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", seen, "STOR big -> 226 ok")
    play.not_exercised(RULE)


def test_another_file_that_is_gone_is_no_excuse(play: Play) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", "SIZE other -> 550 none", "STOR big")
    assert play.find(RULE).outcome == "broken"


def test_a_file_that_is_gone_is_an_excuse_once(play: Play) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", "SIZE big -> 550 none")
    play.connect("STOR big {bytes=100000} -> !426 cut", "STOR big")
    assert play.find(RULE).outcome == "broken"


@pytest.mark.parametrize("between", ["DELE big -> 250 ok", "RNFR big -> 350 go on", "REST 100000 -> 502 no", "TYPE A"])
def test_not_exercised_where_it_could_not_go_on(play: Play, between: str) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", between, "STOR big -> 226 ok")
    play.not_exercised(RULE)


@pytest.mark.parametrize("between", ["DELE big -> 550 none", "REST 100000 -> 350 ok", "TYPE I"])
def test_broken_where_it_could(play: Play, between: str) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", between, "STOR big -> 226 ok")
    assert play.find(RULE).outcome == "broken"


def test_the_other_direction_is_another_transfer(play: Play) -> None:
    play.connect("STOR big {bytes=100000} -> !426 cut", "RETR big")
    play.not_exercised(RULE)


def test_another_client_has_nothing_to_resume(play: Play) -> None:
    play.connect("RETR big {bytes=100000} -> !426 cut")
    play.connect("RETR big", client="192.0.2.2")
    play.not_exercised(RULE)


def test_what_the_client_has_cut_itself_is_its_own_business(play: Play) -> None:
    play.connect("RETR big {bytes=100000} -> 426 aborted", "(leaves)")
    play.connect("RETR big")
    play.not_exercised(RULE)


def test_a_transfer_under_way_when_the_fake_closes_was_cut(play: Play) -> None:
    play.connect("RETR big {bytes=100000} -> 150 begins", "(closes)")
    play.connect("RETR big")
    assert play.find(RULE).outcome == "broken"


def test_a_rule_may_cut_in_the_middle_of_a_transfer(play: Play) -> None:
    play.connect("RETR big {bytes=100000} -> 150 begins", "[transfer] -> !426 cut", "RETR big")
    assert play.find(RULE).outcome == "broken"


def test_a_rule_that_speaks_after_a_transfer_has_not_cut_it(play: Play) -> None:
    play.connect("RETR big {bytes=100000} -> 426 aborted", "NOOP -> !450 no", "RETR big")
    play.not_exercised(RULE)


def test_stou_and_listings_are_not_resumed(play: Play) -> None:
    for request in ("STOU", "LIST"):
        play.connect(f"{request} {{bytes=100000}} -> !426 cut", request)
    play.not_exercised(RULE)


def test_not_exercised_by_a_whole_transfer(play: Play) -> None:
    play.connect("RETR big {bytes=100000, whole=true} -> !226 done", "RETR big")
    play.not_exercised(RULE)
