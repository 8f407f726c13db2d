"""Rules about an SMTP server that says nothing."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

MAIL, RCPT = "MAIL FROM:<a@x>", "RCPT TO:<b@y>"
LETTER = (MAIL, RCPT, "DATA", ". <1@x>")


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestSilentClose:
    RULE = "smtp.silent-close"

    def test_held(self, play: Play) -> None:
        play.connect(MAIL, RCPT, "DATA -> !").play.wait("1m")
        play.connect(*LETTER)
        play.held(self.RULE, "after a close without a reply it waited 1m")

    def test_held_names_the_shortest_wait(self, play: Play) -> None:
        for wait in ("3m", "2m"):
            play.connect(MAIL, "RCPT TO:<b@y> -> !").play.wait(wait)
        play.connect(*LETTER)
        play.held(self.RULE, "after a close without a reply it waited 2m")

    def test_broken_by_giving_up(self, play: Play) -> None:
        play.connect(MAIL, RCPT, "DATA -> !").play.wait("1d")
        why = "the server closed without a reply, and it did not try again"
        play.broken(self.RULE, why, "#1 DATA")

    @pytest.mark.parametrize(("waited", "hurried"), [("999ms", True), ("1s", False)])
    def test_broken_by_coming_back_at_once(self, play: Play, waited: str, hurried: bool) -> None:
        play.connect(MAIL, RCPT, "DATA -> !").play.wait(waited)
        play.connect(*LETTER)
        if hurried:
            why = "the server closed without a reply, and it came back 999ms later"
            play.broken(self.RULE, why, "#1 DATA", "#2 connect")
        else:
            play.held(self.RULE, "after a close without a reply it waited 1s")

    def test_a_new_connection_after_one_that_took_mail_need_not_wait(self, play: Play) -> None:
        for _ in range(3):
            play.connect(*LETTER, "MAIL FROM:<b@x>", "RCPT TO:<c@y> -> !").play.wait("100ms")
        play.connect("MAIL FROM:<b@x>", "RCPT TO:<c@y>", "DATA", ". <2@x>")
        play.held(self.RULE, "after a close without a reply it came back on a new connection")

    def test_what_was_seen_elsewhere_was_not_given_up(self) -> None:
        play = Play("smtp", "primary", "backup")
        play.connect(MAIL, RCPT, "DATA -> !").play.wait("1m")
        play.connect(*LETTER, server=1)
        play.not_exercised(self.RULE)

    def test_a_tls_handshake_that_fails_is_no_close_without_a_reply(self, play: Play) -> None:
        play.connect("[tls] -> !").play.wait("1d")
        play.not_exercised(self.RULE)

    def test_a_421_is_a_reply(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !421 no").play.wait("1d")
        play.not_exercised(self.RULE)


class TestPatience:
    RULE = "smtp.patience"
    NAMES = {
        "": ("connect", "the connection", 300),
        MAIL: ("mail", "MAIL", 300),
        RCPT: ("rcpt", "RCPT", 300),
        "DATA": ("data", "DATA", 120),
        ". <1@x>": ("message", "the final dot", 600),
    }

    @pytest.mark.parametrize("at", NAMES)
    def test_held_by_a_client_that_leaves_when_it_may(self, play: Play, at: str) -> None:
        _, name, limit = self.NAMES[at]
        play.connect(f"{at} -> …".strip(), f"({limit}s)", "(leaves)")
        play.held(self.RULE, f"it waited {limit // 60}m for the reply to {name}")

    @pytest.mark.parametrize("at", NAMES)
    def test_broken_by_a_client_that_leaves_a_second_before(self, play: Play, at: str) -> None:
        moment, name, limit = self.NAMES[at]
        play.connect(f"{at} -> …".strip(), f"({limit - 1}s)", "(leaves)")
        why = f"it left after {limit // 60 - 1}m 59s; {limit // 60}m is what the reply to {name} may take"
        play.broken(self.RULE, why, f"#1 {at or moment}", "#1")

    def test_held_by_a_client_that_gets_a_late_reply(self, play: Play) -> None:
        play.connect(f"{MAIL} -> (2m) !250 ok", f"{RCPT} -> (3m) !250 ok")
        play.held(self.RULE, "it waited 3m for the reply to RCPT")

    def test_a_client_that_left_before_the_late_reply_is_impatient(self, play: Play) -> None:
        line = play.connect()
        line.says(f"{MAIL} -> …", "(1m)").leaving().says("(1m)")
        play.broken(self.RULE, "it left after 1m; 5m is what the reply to MAIL may take", f"#1 {MAIL}", "#1")

    @pytest.mark.parametrize(("late", "counts"), [("999ms", False), ("1s", True)])
    def test_a_reply_within_a_second_is_not_late(self, play: Play, late: str, counts: bool) -> None:
        play.connect(f"{MAIL} -> ({late}) !250 ok")
        if counts:
            play.held(self.RULE, "it waited 1s for the reply to MAIL")
        else:
            play.not_exercised(self.RULE)

    def test_a_client_that_still_waits_may_yet_leave(self, play: Play) -> None:
        play.connect(f"{MAIL} -> …", "(1h)")
        play.not_exercised(self.RULE)

    def test_other_commands_have_no_limit(self, play: Play) -> None:
        play.connect("NOOP -> …", "(2s)", "(leaves)")
        play.not_exercised(self.RULE)

    def test_a_fake_that_is_slow_without_a_rule_is_no_occasion(self, play: Play) -> None:
        play.connect(f"{MAIL} -> (4m) 250 ok", "(leaves)")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("said", ["RSET", "NOOP", "EHLO x"])
    def test_broken_by_another_command(self, play: Play, said: str) -> None:
        line = play.connect("EHLO x -> 250 PIPELINING", MAIL, RCPT, "DATA", ". <1@x> -> (3s) !250 ok")
        line.says(f"(early 2s) {said}")
        why = f"it said {said!r} after 1s; 10m is what the reply to the final dot may take"
        play.broken(self.RULE, why, "#1 . <1@x>", f"#1 {said}")

    def test_the_next_mail_may_be_pipelined(self, play: Play) -> None:
        line = play.connect("EHLO x -> 250 PIPELINING", MAIL, RCPT, "DATA", ". <1@x> -> (3s) !250 ok")
        line.says(f"(early 2s) {MAIL}")
        why = f"it said {MAIL!r} after 1s; 10m is what the reply to the final dot may take"
        play.inconclusive(self.RULE, why, "an EHLO reply without PIPELINING", "#1 . <1@x>", f"#1 {MAIL}")

    def test_a_group_leaves_in_one_go(self, play: Play) -> None:
        line = play.connect("EHLO x -> 250 PIPELINING", f"{MAIL} -> (3s) !250 ok")
        line.says(f"(early 3s) {RCPT}", "(early 3s) DATA")
        play.held(self.RULE, "it waited 3s for the reply to MAIL")

    def test_broken_by_words_to_a_server_that_stalls(self, play: Play) -> None:
        play.connect(MAIL, RCPT, "DATA", ". <1@x> -> …", "(1s)", "(unread) RSET")
        why = "it said 'RSET' after 1s; 10m is what the reply to the final dot may take"
        play.broken(self.RULE, why, "#1 . <1@x>", "#1")

    @pytest.mark.parametrize(
        ("offer", "said", "outcome"),
        [
            ("250 PIPELINING", MAIL, "inconclusive"),
            ("250 PIPELINING", "RSET", "broken"),
            ("250 ok", MAIL, "broken"),
            ("250 ok", RCPT, "broken"),
        ],
    )
    def test_a_server_that_stalls_may_have_offered_pipelining(
        self, play: Play, offer: str, said: str, outcome: str
    ) -> None:
        play.connect(f"EHLO x -> {offer}", MAIL, RCPT, "DATA", ". <1@x> -> …", "(1s)", f"(unread) {said}")
        assert play.find(self.RULE).outcome == outcome


class TestInStep:
    RULE = "smtp.in-step"
    OFFER = "EHLO x -> 250-y | 250 PIPELINING"

    def test_held(self, play: Play) -> None:
        play.connect("EHLO x", f"{MAIL} -> (3s) !250 ok", RCPT)
        play.held(self.RULE, "it waited for each reply")

    def test_broken_without_pipelining(self, play: Play) -> None:
        play.connect("EHLO x", f"{MAIL} -> (3s) !250 ok", f"(early 2s) {RCPT}")
        why = f"{RCPT!r} came while the reply to {MAIL!r} was due"
        play.broken(self.RULE, why, f"#1 {MAIL}", f"#1 {RCPT}")

    def test_broken_by_a_group_in_one_piece_without_pipelining(self, play: Play) -> None:
        play.connect("HELO x", MAIL, f"(with) {RCPT}")
        why = f"{RCPT!r} came while the reply to {MAIL!r} was due"
        play.broken(self.RULE, why, f"#1 {MAIL}", f"#1 {RCPT}")

    @pytest.mark.parametrize("first", ["DATA", "NOOP", "EHLO x"])
    def test_broken_after_the_last_command_of_a_group(self, play: Play, first: str) -> None:
        play.connect(self.OFFER, MAIL, RCPT, f"{first} -> (3s) !250 ok", "(early 2s) RSET")
        play.broken(self.RULE, f"'RSET' came while the reply to {first!r} was due", f"#1 {first}", "#1 RSET")

    @pytest.mark.parametrize("first", [MAIL, RCPT, "RSET", ". <1@x>", "BDAT 5"])
    def test_a_group_may_be_pipelined_where_that_was_offered(self, play: Play, first: str) -> None:
        play.connect(self.OFFER, f"{first} -> (3s) !250 ok", f"(early 2s) {RCPT}")
        play.not_exercised(self.RULE)

    def test_a_client_that_gives_up_may_say_quit(self, play: Play) -> None:
        play.connect("EHLO x", f"{MAIL} -> (3s) !250 ok", "(early 1s) QUIT")
        play.not_exercised(self.RULE)

    def test_not_exercised_where_every_reply_came_at_once(self, play: Play) -> None:
        play.connect("EHLO x", MAIL, RCPT)
        play.not_exercised(self.RULE)

    def test_a_handshake_at_a_port_in_clear_text_is_no_group_of_commands(self, play: Play) -> None:
        play.connect("\x16\x03\x01\x02 -> 500 what", *["(with) \x13\x02 -> 500 what"] * 2)
        play.not_exercised(self.RULE)

    def test_the_name_in_a_handshake_is_no_command(self, play: Play) -> None:
        """With TLS 1.3, EHLO may come in one piece with the end of the handshake."""
        play.connect("EHLO x", "STARTTLS -> 220 go", "[tls] localhost", "(with) EHLO x", "(leaves)")
        play.not_exercised(self.RULE)
