"""Rules about an FTP client that comes back after a refusal."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

LOGIN = ("USER ann", "PASS secret")
BUSY = "-> !421 System busy"
OWN = "-> !421 There are too many connections from your internet address."
OTHERS = "-> !421 Too many users are connected, please try again later."
IDLE = "[idle] -> !421 Timeout."


@pytest.fixture
def play() -> Play:
    return Play("ftp")


class TestWaitBeforeReconnect:
    RULE = "ftp.wait-before-reconnect"

    def test_held(self, play: Play) -> None:
        play.connect(BUSY).play.wait("2m")
        play.connect("USER ann", "PASS x -> !421 no").play.wait("1m")
        play.connect("USER ann -> !421 no").play.wait("3m")
        play.connect()
        play.held(self.RULE, "it waited at least 1m")

    @pytest.mark.parametrize(("gap", "outcome"), [("999ms", "broken"), ("1s", "held")])
    def test_less_than_a_second_is_no_wait(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(BUSY).play.wait(gap)
        play.connect()
        assert play.find(self.RULE).outcome == outcome

    def test_broken(self, play: Play) -> None:
        play.connect(BUSY).play.wait("100ms")
        play.connect()
        play.broken(self.RULE, "it came back 100ms after it was refused", "#1 connect", "#2 connect")

    @pytest.mark.parametrize(("gap", "outcome"), [("49ms", "inconclusive"), ("51ms", "broken")])
    def test_what_comes_sooner_may_have_been_dialled_at_the_same_time(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(BUSY).play.wait(gap)
        play.connect()
        assert play.find(self.RULE).outcome == outcome

    def test_it_may_be_another_worker_where_other_connections_are_open(self, play: Play) -> None:
        play.connect(*LOGIN)
        play.connect(BUSY).play.wait("100ms")
        play.connect()
        why = "it connected 100ms after it was refused, which may have been another worker"
        play.inconclusive(self.RULE, why, "one connection at a time", "#2 connect", "#3 connect")

    def test_a_client_that_hammers_knew_of_the_first_refusal(self, play: Play) -> None:
        for _ in range(4):
            play.connect(BUSY).play.wait("20ms")
        play.broken(self.RULE, "it came back 60ms after it was refused", "#1 connect", "#4 connect")

    def test_it_may_be_the_worker_that_was_refused_first(self, play: Play) -> None:
        for _ in range(3):
            play.connect(BUSY).play.wait("2ms")
        play.wait("996ms").connect()
        assert play.find(self.RULE).outcome == "inconclusive"

    def test_one_that_waited_does_not_excuse_one_that_did_not(self, play: Play) -> None:
        play.connect(BUSY).play.wait("1m")
        play.connect(BUSY).play.wait("100ms")
        play.connect(BUSY)
        assert play.find(self.RULE).outcome == "broken"

    def test_another_client_does_not_come_back(self, play: Play) -> None:
        play.connect(BUSY).play.wait("100ms")
        play.connect(client="192.0.2.2")
        play.not_exercised(self.RULE)

    def test_a_client_that_makes_room_itself_need_not_wait(self, play: Play) -> None:
        first = play.connect(*LOGIN)
        play.connect(OTHERS)
        first.says("(leaves)")
        play.connect()
        play.not_exercised(self.RULE)

    def test_not_exercised_by_a_refused_transfer(self, play: Play) -> None:
        play.connect(*LOGIN, "RETR a -> !421 no")
        play.connect()
        play.not_exercised(self.RULE)


class TestNoRetryStorm:
    RULE = "ftp.no-retry-storm"

    def test_held(self, play: Play) -> None:
        for _ in range(10):
            play.connect(BUSY).play.wait("1s")
        play.held(self.RULE, "10 connections refused")

    def test_dials_at_the_same_time_count_once(self, play: Play) -> None:
        for _ in range(20):
            play.connect(BUSY)
        play.not_exercised(self.RULE)

    def test_broken(self, play: Play) -> None:
        for _ in range(12):
            play.connect(BUSY).play.wait("1s")
        evidence = [f"#{n} connect" for n in range(1, 12)]
        play.broken(self.RULE, "11 connections were refused within 10s, and still it came", *evidence)

    @pytest.mark.parametrize(("gap", "outcome"), [("6s", "broken"), ("6001ms", "held")])
    def test_within_a_minute(self, play: Play, gap: str, outcome: str) -> None:
        for _ in range(11):
            play.connect(BUSY).play.wait(gap)
        assert play.find(self.RULE).outcome == outcome

    def test_each_client_is_counted_by_itself(self, play: Play) -> None:
        for number in range(12):
            play.connect(BUSY, client=f"192.0.2.{number % 2}").play.wait("1s")
        play.held(self.RULE, "6 connections refused")

    def test_not_exercised_by_one(self, play: Play) -> None:
        play.connect(BUSY)
        play.connect(*LOGIN, "RETR a -> !421 no")
        play.not_exercised(self.RULE)


class TestFewerConnections:
    RULE = "ftp.fewer-connections"

    def test_held(self, play: Play) -> None:
        play.connect(*LOGIN)
        play.connect(OWN)
        play.held(self.RULE, "with 1 open it asked for no more")

    def test_held_by_asking_with_fewer(self, play: Play) -> None:
        lines = [play.connect(*LOGIN) for _ in range(2)]
        play.connect(OWN)
        lines[0].says("(leaves)")
        play.connect(OWN)
        play.held(self.RULE, "with 1 open it asked for no more")

    def test_broken(self, play: Play) -> None:
        play.connect(*LOGIN)
        play.connect(OWN).play.wait("1m")
        play.connect(OWN)
        why = "it asked for one more when it had 1, and had been told that 1 are enough"
        play.broken(self.RULE, why, "#2 connect", "#3 connect")

    def test_dials_at_the_same_time_ask_for_no_more(self, play: Play) -> None:
        play.connect(*LOGIN)
        for _ in range(3):
            play.connect(OWN)
        play.held(self.RULE, "with 1 open it asked for no more")

    @pytest.mark.parametrize("end", ["QUIT", "(leaves)", "(closes)"])
    def test_a_connection_that_has_ended_does_not_count(self, play: Play, end: str) -> None:
        play.connect(*LOGIN, end)
        play.connect(OWN)
        play.connect(OWN)
        play.not_exercised(self.RULE)

    def test_too_many_of_others_is_no_occasion(self, play: Play) -> None:
        play.connect(*LOGIN)
        play.connect(OTHERS)
        play.connect(OTHERS)
        play.not_exercised(self.RULE)

    def test_connections_of_another_client_do_not_count(self, play: Play) -> None:
        play.connect(*LOGIN, client="192.0.2.2")
        play.connect(OWN)
        play.connect(OWN)
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize(
        "words",
        [
            "Too many connections from this IP",
            "Sorry, the maximum number of clients (3) for this user are already connected.",
            "I can't accept more than 2 connections as the same user",
            "This user is already logged in",
        ],
    )
    def test_the_words_of_servers(self, play: Play, words: str) -> None:
        play.connect(*LOGIN)
        play.connect("USER ann", f"PASS x -> !530 {words}")
        play.held(self.RULE, "with 1 open it asked for no more")

    def test_not_exercised_by_a_transfer(self, play: Play) -> None:
        play.connect(*LOGIN)
        play.connect(*LOGIN, "RETR a -> !421 too many connections from your ip")
        play.not_exercised(self.RULE)


class TestReconnectLazily:
    RULE = "ftp.reconnect-lazily"

    def test_held(self, play: Play) -> None:
        play.connect(*LOGIN, IDLE)
        play.connect(*LOGIN, "RETR a -> 226 ok", IDLE)
        play.held(self.RULE, "it came back once, for something")

    def test_broken(self, play: Play) -> None:
        play.connect(*LOGIN, IDLE)
        play.connect(*LOGIN, "CWD in", "PWD", IDLE)
        play.broken(self.RULE, "it came back, did nothing, and timed out again", "#1 idle", "#2 idle")

    @pytest.mark.parametrize(
        "purpose", ["STOR a", "DELE a", "SITE CHMOD", "LIST", "RNFR a", "MDTM a", "PASV", "STAT a"]
    )
    def test_a_purpose(self, play: Play, purpose: str) -> None:
        play.connect(*LOGIN, IDLE)
        play.connect(*LOGIN, purpose, IDLE)
        play.held(self.RULE, "it came back once, for something")

    def test_a_connection_that_is_not_sent_away_may_yet_do_something(self, play: Play) -> None:
        play.connect(*LOGIN, IDLE)
        play.connect(*LOGIN)
        play.not_exercised(self.RULE)

    def test_connections_side_by_side_are_no_return(self, play: Play) -> None:
        lines = [play.connect(*LOGIN) for _ in range(2)]
        for line in lines:
            line.says(IDLE)
        play.not_exercised(self.RULE)

    def test_another_client_does_not_come_back(self, play: Play) -> None:
        play.connect(*LOGIN, IDLE)
        play.connect(*LOGIN, IDLE, client="192.0.2.2")
        play.not_exercised(self.RULE)
