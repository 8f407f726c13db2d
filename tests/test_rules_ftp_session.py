"""Rules about the end of an FTP control connection, and what has to be said again on the next."""

from __future__ import annotations

import pytest
from msgspec.structs import force_setattr

from conduct_playbook import Play
from notnow.journal import Arrival

LOGIN = ("USER ann", "PASS secret")
BYE = "!421 Service not available"


@pytest.fixture
def play() -> Play:
    return Play("ftp")


class TestNoticeClose:
    RULE = "ftp.notice-close"

    def test_held(self, play: Play) -> None:
        play.connect(*LOGIN, f"PASV -> {BYE}", "QUIT")
        play.held(self.RULE, "1 connection closed under it")

    def test_the_first_command_may_have_been_on_its_way(self, play: Play) -> None:
        play.connect(*LOGIN, f"PASV -> {BYE}", "PORT 1,2", "QUIT")
        play.held(self.RULE, "1 connection closed under it; 1 of them it noticed by its next command")

    def test_broken(self, play: Play) -> None:
        play.connect(*LOGIN, f"PASV -> {BYE}", "PORT 1,2", "STOR a")
        play.broken(self.RULE, "PORT, STOR came when the connection was closed", "#1 PASV", "#1")

    def test_a_command_may_take_an_unasked_421_for_its_answer(self, play: Play) -> None:
        play.connect(*LOGIN, f"[enter] -> {BYE}", "SYST", "PWD", "QUIT")
        play.held(self.RULE, "1 connection closed under it")

    def test_broken_when_an_unasked_421_has_been_read_and_the_close_seen(self, play: Play) -> None:
        play.connect(*LOGIN, f"[enter] -> {BYE}", "SYST", "PWD", "PASV")
        play.broken(self.RULE, "SYST, PWD, PASV came when the connection was closed", "#1 enter", "#1")

    def test_an_urgent_abor_is_leave_taking(self, play: Play) -> None:
        play.connect(*LOGIN, f"PASV -> {BYE}", "\xff\xf4\xffABOR", "QUIT")
        play.held(self.RULE, "1 connection closed under it")

    def test_a_refused_greeting_is_another_rule(self, play: Play) -> None:
        play.connect(f"-> {BYE}", "USER ann", "PASS x")
        play.not_exercised(self.RULE)

    def test_not_exercised_by_a_close_of_no_rule(self, play: Play) -> None:
        play.connect(*LOGIN, "(closes)", "PASV", "STOR a")
        play.not_exercised(self.RULE)

    def test_what_came_before_the_close_is_another_rule(self, play: Play) -> None:
        line = play.connect(*LOGIN, f"PASV -> {BYE}", "PORT 1,2", "STOR a")
        force_setattr(line.connection, "after_arrival", Arrival(0, 0.0))
        play.not_exercised(self.RULE)


class TestPlain421:
    RULE = "ftp.plain-421"
    STAYS = "RETR a -> !421 no (stays)"

    @pytest.mark.parametrize("later", ["RETR a", "PASV", "NOOP"])
    def test_held_by_going_on(self, play: Play, later: str) -> None:
        play.connect(*LOGIN, self.STAYS, later)
        play.held(self.RULE, "it went on after 1 421 that left it open")

    def test_held_by_going_on_after_one_that_nobody_asked_for(self, play: Play) -> None:
        play.connect(*LOGIN, "PASV", "[idle] -> !421 Passive data channel timed out. (stays)", "PASV")
        play.held(self.RULE, "it went on after 1 421 that left it open")

    def test_broken_by_dropping_it_for_another_connection(self, play: Play) -> None:
        play.connect(*LOGIN, self.STAYS, "(leaves)")
        play.connect(*LOGIN, "RETR a", "QUIT")
        why = "it dropped a connection that the 421 had left open, and made another one"
        play.broken(self.RULE, why, "#1 RETR a", "#1")

    ENDED = "it ended a connection that the 421 had left open, as it may do after any 4yz"

    @pytest.mark.parametrize("again", [True, False])
    def test_a_client_that_says_quit_may_do_so_after_any_failure(self, play: Play, again: bool) -> None:
        play.connect(*LOGIN, self.STAYS, "QUIT", "(leaves)")
        if again:
            play.connect(*LOGIN, "RETR a", "QUIT")
        play.inconclusive(self.RULE, self.ENDED, "another 4yz, such as 450, in place of the 421")

    def test_a_client_that_leaves_may_give_up_after_any_4yz(self, play: Play) -> None:
        play.connect(*LOGIN, self.STAYS, "(leaves)")
        play.inconclusive(self.RULE, self.ENDED)

    @pytest.mark.parametrize("lines", [("RETR a -> !450 no",), ("RETR a",)])
    def test_a_client_that_always_drops_its_connections(self, play: Play, lines: tuple[str, ...]) -> None:
        play.connect(*LOGIN, *lines, "(leaves)")
        play.connect(*LOGIN, self.STAYS, "(leaves)")
        play.connect(*LOGIN, "RETR a", "QUIT")
        play.inconclusive(self.RULE, self.ENDED)

    def test_a_connection_that_was_made_before_is_no_other_one(self, play: Play) -> None:
        line = play.connect(*LOGIN)
        play.connect(*LOGIN)
        line.says(self.STAYS, "(leaves)")
        assert play.find(self.RULE).outcome == "inconclusive"

    @pytest.mark.parametrize("line", ["RETR a -> !421 no", "RETR a -> !450 no"])
    def test_not_exercised(self, play: Play, line: str) -> None:
        play.connect(*LOGIN, line)
        play.connect(*LOGIN)
        play.not_exercised(self.RULE)

    def test_not_exercised_where_the_server_closes_it_later(self, play: Play) -> None:
        play.connect(*LOGIN, self.STAYS, "(closes)")
        play.connect(*LOGIN)
        play.not_exercised(self.RULE)


class TestStartOver:
    RULE = "ftp.start-over"

    def test_held(self, play: Play) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect(*LOGIN, "PASV -> 227 (1,2)", "RETR a -> 226 ok")
        play.held(self.RULE, "it began anew on 1 connection")

    def test_a_connection_without_commands_did_not_begin(self, play: Play) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect()
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("refused", ["RETR a -> 530 log in", "RNTO b -> 503 RNFR first", "TYPE I -> 530 log in"])
    def test_broken(self, play: Play, refused: str) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect(refused)
        verb, request = refused[:4], refused.partition(" ->")[0]
        play.broken(self.RULE, f"{verb} came on a new connection as if it were the old one", f"#2 {request}")

    @pytest.mark.parametrize(("facts", "outcome"), [("{mode=none}", "broken"), ("{mode=PASV}", "held")])
    def test_a_transfer_needs_pasv_or_port(self, play: Play, facts: str, outcome: str) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect(*LOGIN, f"RETR a {facts} -> 425 no data connection")
        assert play.find(self.RULE).outcome == outcome

    def test_what_a_rule_refuses_is_not_out_of_order(self, play: Play) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect("RETR a -> !530 no")
        play.not_exercised(self.RULE)

    def test_a_login_that_was_refused_is_another_rule(self, play: Play) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect("USER ann", "PASS x -> !530 no", "TYPE I -> 530 log in")
        play.held(self.RULE, "it began anew on 1 connection")

    def test_a_command_that_always_comes_too_early_is_a_habit(self, play: Play) -> None:
        play.connect("TYPE I -> 530 log in", *LOGIN, f"RETR a -> {BYE}")
        play.connect("TYPE I -> 530 log in", *LOGIN)
        play.held(self.RULE, "it began anew on 1 connection")

    def test_features_may_be_asked_for_before_the_login(self, play: Play) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect("FEAT -> 530 log in", *LOGIN)
        play.held(self.RULE, "it began anew on 1 connection")

    def test_another_client_has_no_old_connection(self, play: Play) -> None:
        play.connect(*LOGIN, f"RETR a -> {BYE}")
        play.connect("RETR a -> 530 log in", client="192.0.2.2")
        play.not_exercised(self.RULE)

    def test_a_refusal_that_leaves_the_connection_open_is_no_occasion(self, play: Play) -> None:
        play.connect(*LOGIN, "RETR a -> !450 no")
        play.connect("RETR a -> 530 log in")
        play.not_exercised(self.RULE)


class TestSetUpAgain:
    RULE = "ftp.set-up-again"

    def test_held(self, play: Play) -> None:
        play.connect(*LOGIN, "TYPE I", f"STOR a -> {BYE}")
        play.connect(*LOGIN, "TYPE I", "STOR a -> 226 ok")
        play.held(self.RULE, "1 transfer set up again as before")

    def test_broken_by_another_directory(self, play: Play) -> None:
        play.connect(*LOGIN, f"STOR a {{path=/in/a}} -> {BYE}")
        play.connect(*LOGIN, "STOR a -> 226 ok")
        play.broken(self.RULE, "'STOR a' was about /in/a, and now it is about /a", "#1 STOR a", "#2 STOR a")

    def test_a_file_of_the_same_name_in_another_directory_may_be_another_file(self, play: Play) -> None:
        play.connect(*LOGIN, f"STOR a {{path=/in/a}} -> {BYE}")
        play.connect(*LOGIN, "CWD out", "STOR a {path=/out/a} -> 226 ok")
        why = "'STOR a' was about /in/a, and now it is about /out/a, which may be another file"
        play.inconclusive(self.RULE, why)

    def test_a_type_that_the_client_chose_is_its_own(self, play: Play) -> None:
        play.connect(*LOGIN, "TYPE I", f"STOR a -> {BYE}")
        play.connect(*LOGIN, "TYPE A", "STOR a -> 226 ok")
        play.not_exercised(self.RULE)

    def test_broken_by_another_type(self, play: Play) -> None:
        play.connect(*LOGIN, "TYPE I", f"STOR a -> {BYE}")
        play.connect(*LOGIN, "STOR a -> 226 ok")
        play.broken(self.RULE, "'STOR a' was of type I, and now it is of type A", "#1 STOR a", "#2 STOR a")

    def test_type_a_is_what_a_connection_begins_with(self, play: Play) -> None:
        play.connect(*LOGIN, f"STOR a -> {BYE}")
        play.connect(*LOGIN, "TYPE A N", "STOR a -> 226 ok")
        play.held(self.RULE, "1 transfer set up again as before")

    def test_a_type_that_was_refused_is_not_set(self, play: Play) -> None:
        play.connect(*LOGIN, f"STOR a -> {BYE}")
        play.connect(*LOGIN, "TYPE I -> 504 no", "STOR a -> 226 ok")
        play.held(self.RULE, "1 transfer set up again as before")

    def test_the_type_of_a_listing_does_not_matter(self, play: Play) -> None:
        play.connect(*LOGIN, "TYPE I", f"LIST -> {BYE}")
        play.connect(*LOGIN, "LIST -> 226 ok")
        play.held(self.RULE, "1 transfer set up again as before")

    def test_stou_gets_another_name_each_time(self, play: Play) -> None:
        play.connect(*LOGIN, f"STOU {{path=/x1}} -> {BYE}")
        play.connect(*LOGIN, "STOU {path=/x2} -> 226 ok")
        play.not_exercised(self.RULE)

    def test_what_came_through_need_not_be_the_same(self, play: Play) -> None:
        play.connect(*LOGIN, "TYPE I", "STOR a -> 226 ok")
        play.connect(*LOGIN, "STOR a -> 226 ok")
        play.not_exercised(self.RULE)

    def test_not_exercised_on_the_same_connection(self, play: Play) -> None:
        play.connect(*LOGIN, "TYPE I", "STOR a -> !450 no", "TYPE A", "STOR a -> 226 ok")
        play.not_exercised(self.RULE)
