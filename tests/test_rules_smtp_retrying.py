"""Rules about trying SMTP again: when, how often, and for how long."""

from __future__ import annotations

import pytest

from conduct_playbook import BUSY, Play, tries
from notnow.conduct.judging import judge, select
from notnow.conduct.reading.ledger import COUNT
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import SETTLED_BY

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"
NAMED = (MAIL, f"{B} -> !451 later")
LETTER = (MAIL, B, "DATA", ". <1@x>")


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestWaitBeforeRetry:
    RULE = "smtp.wait-before-retry"

    def test_held(self, play: Play) -> None:
        tries(play, "2m", "1m")
        play.held(self.RULE, "it waited at least 1m")

    @pytest.mark.parametrize(("gap", "outcome"), [("999ms", "broken"), ("1s", "held")])
    def test_less_than_a_second_is_no_wait(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(MAIL, f"{B} -> !451 no").play.wait(gap)
        play.connect(*LETTER)
        assert play.find(self.RULE).outcome == outcome

    def test_broken(self, play: Play) -> None:
        for gap in ("1m", "3ms"):
            play.connect(MAIL, f"{B} -> !451 no").play.wait(gap)
        play.connect(*LETTER)
        play.broken(self.RULE, "it came back 3ms after it was refused", f"#2 {B}", "#3 connect")

    def test_the_wait_runs_from_the_reply(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> (1m) !421 busy").play.wait("500ms")
        play.connect(*LETTER)
        play.broken(self.RULE, "it came back 500ms after it was refused", f"#1 {B}", "#2 connect")

    def test_broken_on_the_same_connection(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !451 no", "RSET", *LETTER)
        play.broken(self.RULE, "it came back 0s after it was refused", f"#1 {B}", f"#1 {MAIL}")

    @pytest.mark.parametrize(("code", "outcome"), [(452, "not exercised"), (552, "not exercised"), (451, "broken")])
    def test_recipients_that_are_too_many_may_come_in_the_next_transaction(
        self, play: Play, code: int, outcome: str
    ) -> None:
        play.connect(MAIL, B, f"{C} -> !{code} no", "DATA", ". <1@x>", MAIL, C, "DATA", ". <1@x>")
        assert play.find(self.RULE).outcome == outcome

    @pytest.mark.parametrize("refusal", [("-> !421 busy",), (f"{MAIL} -> !421 busy",)])
    def test_a_client_with_a_single_item_tries_nothing_else(self, play: Play, refusal: tuple[str, ...]) -> None:
        for _ in range(2):
            play.connect(*refusal).play.wait("3ms")
        play.connect(*LETTER)
        for count, outcome in ((None, "inconclusive"), (1, "broken"), (2, "inconclusive")):
            ((verdict),) = judge(Run(play.journals, count=count), select([self.RULE]))
            assert verdict.outcome == outcome

    def test_a_connection_that_names_no_mail_may_be_for_other_mail(self, play: Play) -> None:
        tries(play, "1m", "3ms")
        why = "a try came 3ms after a refusal, for the same mail or for other mail"
        play.inconclusive(self.RULE, why, SETTLED_BY, "#2 connect", "#3 connect")

    def test_a_worker_whose_connection_was_open_before_may_have_other_mail(self, play: Play) -> None:
        first, second = play.connect(MAIL), play.connect()
        first.says(f"{B} -> !451 no")
        second.says(*LETTER)
        why = "a try came 0s after a refusal, for the same mail or for other mail"
        play.inconclusive(self.RULE, why, "", f"#1 {B}", f"#2 {MAIL}")

    @pytest.mark.parametrize(("requests", "outcome"), [(4, "inconclusive"), (5, "broken")])
    def test_many_at_once_with_one_envelope_are_one_mail(self, play: Play, requests: int, outcome: str) -> None:
        for _ in range(requests):
            play.connect(MAIL, f"{B} -> !451 no", "QUIT")
        assert play.find(self.RULE).outcome == outcome

    def test_a_refused_sender_may_have_other_mail(self, play: Play) -> None:
        for _ in range(2):
            play.connect(f"{MAIL} -> !451 no", "QUIT")
        play.connect(*LETTER)
        why = "a try came 0s after a refusal, for the same mail or for other mail"
        play.inconclusive(self.RULE, why, SETTLED_BY, f"#1 {MAIL}", "#2 connect")

    def test_a_try_that_was_of_other_mail_for_certain_is_no_retry(self, play: Play) -> None:
        play.connect(*LETTER)
        play.connect(MAIL, B, "DATA", ". <2@x> -> !451 no")
        play.connect(MAIL, C, "DATA -> !451 no")
        play.connect(MAIL, B, "RSET")  # the first or the second message
        play.not_exercised(self.RULE)

    def test_other_mail_buys_no_retry_at_once(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !421 no")
        play.connect("MAIL FROM:<other@x>", C, "DATA", ". <2@x>", *LETTER)
        play.broken(self.RULE, "it came back 0s after it was refused", f"#1 {B}", f"#2 {MAIL}")

    def test_mail_that_was_begun_on_a_closed_connection_was_not_refused(self, play: Play) -> None:
        play.connect(*LETTER, "[idle] -> !421 timeout", MAIL, C)
        play.connect(MAIL, C, "DATA", ". <2@x>")
        play.not_exercised(self.RULE)

    def test_the_first_try_of_other_mail_is_no_retry(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no")
        play.connect("MAIL FROM:<other@x>", C, "DATA", ". <2@x>").play.wait("1m")
        play.connect(*LETTER)
        play.held(self.RULE, "it waited at least 1m")

    def test_another_server_is_no_retry(self) -> None:
        play = Play("smtp", "primary", "backup")
        play.connect(BUSY)
        play.connect(server=1)
        play.not_exercised(self.RULE)

    def test_another_client_is_no_retry(self, play: Play) -> None:
        play.connect(BUSY)
        play.connect(client="192.0.2.2")
        play.not_exercised(self.RULE)

    def test_a_new_connection_after_one_that_took_mail_need_not_wait(self, play: Play) -> None:
        play.connect(*LETTER, MAIL, f"{C} -> !421 enough")
        play.connect(MAIL, C, "DATA", ". <2@x>")
        play.not_exercised(self.RULE)

    def test_one_that_took_mail_and_stays_open_asks_for_time(self, play: Play) -> None:
        play.connect(*LETTER, MAIL, f"{C} -> !451 no", "RSET", MAIL, C, "DATA", ". <2@x>")
        play.broken(self.RULE, "it came back 0s after it was refused", f"#1 {C}", f"#1 {MAIL}")

    def test_a_connection_that_took_mail_only_later_does_not_count(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !451 no", "RSET", "MAIL FROM:<other@x>", C, "DATA", ". <2@x>")
        play.connect(*LETTER)
        play.broken(self.RULE, "it came back 0s after it was refused", f"#1 {B}", "#2 connect")


def test_mail_refused_before_its_recipient_may_be_for_another_one(play: Play) -> None:
    play.connect(MAIL, B, "DATA", ". <1@x> -> !451 later", "QUIT").play.wait("2ms")
    play.connect(f"{MAIL} -> !451 later")
    assert play.find("smtp.wait-before-retry").outcome == "inconclusive"


def test_a_recipient_that_has_it_and_is_asked_for_again_shows_that_it_may_be_other_mail(play: Play) -> None:
    play.connect(MAIL, B, f"{C} -> !450 busy", "DATA", ". <1@x>", "QUIT").play.wait("3ms")
    play.connect(MAIL, f"{B} -> !450 busy", f"{C} -> !450 busy")
    assert play.find("smtp.wait-before-retry").outcome == "inconclusive"


class TestRetryInterval:
    RULE = "smtp.retry-interval"
    SHORT = "shorter than the 30 minutes of §4.5.4.1, which lets smarter strategies differ"

    def test_held(self, play: Play) -> None:
        tries(play, "30m", "1h")
        play.held(self.RULE, "intervals 30m, 1h: at least the 30 minutes of §4.5.4.1")

    def test_held_with_a_grade(self, play: Play) -> None:
        tries(play, "30m", "29m")
        play.held(self.RULE, f"intervals 30m, 29m: {self.SHORT}")

    @pytest.mark.parametrize("recipients", [(B, C), (C, B)])
    def test_the_message_with_the_shortest_interval_is_graded(self, play: Play, recipients: tuple[str, str]) -> None:
        for at, recipient in zip(("0s", "10m"), recipients, strict=True):
            play.wait(at).connect(MAIL, f"{recipient} -> !421 no")
        play.wait("10m").connect(MAIL, f"{C} -> !421 no")
        play.wait("25m").connect(MAIL, f"{B} -> !421 no")
        shortest = "10m" if recipients == (B, C) else "20m"
        play.held(self.RULE, f"intervals {shortest}: {self.SHORT}")

    def test_many_intervals_are_listed_in_part(self, play: Play) -> None:
        tries(play, *["10m"] * 6)
        play.held(self.RULE, f"intervals 10m, 10m, 10m, 10m, 10m, 10m: {self.SHORT}")
        play.wait("11m").connect(BUSY)
        play.held(self.RULE, f"intervals 10m, 10m, 10m, 10m, …, 11m: {self.SHORT}")

    @pytest.mark.parametrize(("gap", "outcome"), [("5m", "held"), ("299s", "broken")])
    def test_twelve_tries_an_hour_are_the_limit(self, play: Play, gap: str, outcome: str) -> None:
        tries(play, *[gap] * 12, last=NAMED)
        assert play.find(self.RULE).outcome == outcome

    def test_broken(self, play: Play) -> None:
        tries(play, "1h", *["1m"] * 12, last=NAMED)
        why = "it tried 13 times within 12m"
        play.broken(self.RULE, why, *(f"#{n} connect" for n in range(2, 15)))

    def test_connections_that_name_no_mail_may_be_for_one_after_the_other(self, play: Play) -> None:
        tries(play, *["1m"] * 12)
        why = "it tried 13 times within 12m, with one message or with several"
        play.inconclusive(self.RULE, why, "", *(f"#{n} connect" for n in range(1, 14)))

    def test_not_exercised_by_one_try(self, play: Play) -> None:
        tries(play)
        play.not_exercised(self.RULE)


class TestTriesAgain:
    RULE = "smtp.tries-again"
    HELD = "all mail that was refused for now was tried again"

    def test_held(self, play: Play) -> None:
        tries(play, "1m")
        play.held(self.RULE, self.HELD)

    def test_broken(self, play: Play) -> None:
        tries(play)
        play.broken(self.RULE, "the mail behind #1 got 421 and was not tried again", "#1 connect")

    def test_broken_after_a_close_without_a_reply(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !")
        play.broken(self.RULE, "mail from a@x got no reply and was not tried again", f"#1 {MAIL}")

    def test_one_retry_is_enough(self, play: Play) -> None:
        tries(play, "1m", "1m")
        play.held(self.RULE, self.HELD)

    def test_a_recipient_that_came_again(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !450 no", "DATA", ". <1@x>", MAIL, C, "DATA", ". <1@x>")
        play.held(self.RULE, self.HELD)

    def test_broken_by_a_recipient_that_did_not(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !450 no", "DATA", ". <1@x>")
        play.broken(self.RULE, "<1@x> to c@y got 450 and was not tried again", f"#1 {C}")

    @pytest.mark.parametrize(("code", "counts"), [(552, True), (550, False), (450, True)])
    def test_a_552_to_rcpt_is_a_452(self, play: Play, code: int, counts: bool) -> None:
        play.connect(MAIL, B, f"{C} -> !{code} no", "DATA", ". <1@x>")
        if counts:
            play.broken(self.RULE, f"<1@x> to c@y got {code} and was not tried again", f"#1 {C}")
        else:
            play.not_exercised(self.RULE)

    def test_tried_on_another_server(self) -> None:
        play = Play("smtp", "primary", "backup")
        play.connect(MAIL, B, "DATA -> !421 no")
        play.connect(*LETTER, server=1)
        play.held(self.RULE, self.HELD)

    def test_other_mail_on_another_server_is_not_it(self) -> None:
        play = Play("smtp", "primary", "backup")
        play.connect(MAIL, B, "DATA -> !421 no")
        play.connect("MAIL FROM:<other@x>", B, "DATA", ". <2@x>", server=1)
        play.broken(self.RULE, "mail from a@x to b@y got 421 and was not tried again", "primary #1 DATA")

    def test_mail_whose_recipients_nobody_knows_is_sought_by_its_sender(self) -> None:
        play = Play("smtp", "primary", "backup")
        play.connect(f"{MAIL} -> !421 no")
        play.connect(*LETTER, server=1)
        play.held(self.RULE, self.HELD)

    def test_not_exercised_by_a_5yz(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !550 no")
        play.not_exercised(self.RULE)

    def test_other_mail_of_the_same_sender_is_no_proof(self, play: Play) -> None:
        play.connect(*LETTER)
        play.connect(f"{MAIL} -> !421 no")
        play.connect(MAIL, C, "DATA", ". <3@x>")
        why = "1 try refused for now may have been of mail that never came again"
        play.inconclusive(self.RULE, why, SETTLED_BY, f"#2 {MAIL}")

    def test_a_later_connection_that_names_no_mail_may_have_been_for_it(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("1m")
        for _ in range(2):
            play.connect(BUSY)
        why = "3 tries refused for now may have been of mail that never came again"
        play.inconclusive(self.RULE, why, SETTLED_BY, "#2 connect", "#3 connect", "#1 DATA")

    def test_other_mail_does_not_stand_for_what_was_refused_at_the_dot(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !451 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <2@x>")
        play.broken(self.RULE, "<1@x> to b@y got 451 and was not tried again", "#1 . <1@x>")

    def test_each_of_40_senders(self, play: Play) -> None:
        for n in range(40):
            play.connect(f"MAIL FROM:<s{n}@x> -> !421 no")
        play.broken(self.RULE, "mail from s0@x got 421 and was not tried again", "#1 MAIL FROM:<s0@x>")

    def test_with_the_number_of_items_nothing_is_left_open(self, play: Play) -> None:
        """Every mail came through, so the one that MAIL had refused did."""
        play.connect(*LETTER)
        play.connect(f"{MAIL} -> !421 busy").play.wait("1m")
        play.connect(MAIL, C, "DATA", ". <2@x>")
        for count, outcome in ((None, "inconclusive"), (2, "held"), (3, "inconclusive")):
            for rule in (self.RULE, "smtp.no-bounce-for-421"):
                ((verdict),) = judge(Run(play.journals, count=count), select([rule]))
                assert (verdict.outcome, COUNT in verdict.finding.settled_by) == (outcome, count is None)


class TestFinalIsFinal:
    RULE = "smtp.final-is-final"

    def test_held(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !550 no", C, "DATA", ". <1@x>")
        play.held(self.RULE, "1 refusal for good, and none asked for again")

    def test_broken(self, play: Play) -> None:
        for _ in range(2):
            play.connect(MAIL, B, "DATA", ". <1@x> -> !554 no")
        play.broken(self.RULE, "<1@x> to b@y got 554 and was asked for again, once", "#1 . <1@x>", "#2 . <1@x>")

    def test_broken_by_many_of_one_envelope(self, play: Play) -> None:
        for _ in range(5):
            play.connect(MAIL, f"{B} -> !550 no", "QUIT")
        why = "mail from a@x to b@y got 550 and was asked for again, 4 times"
        play.broken(self.RULE, why, *(f"#{n} {B}" for n in range(1, 6)))

    def test_four_of_one_envelope_may_be_four_messages(self, play: Play) -> None:
        for _ in range(4):
            play.connect(MAIL, f"{B} -> !550 no", "QUIT")
        why = "mail from a@x to b@y got 550, and was asked for again for the same mail or for other mail"
        play.inconclusive(self.RULE, why, SETTLED_BY, f"#1 {B}", f"#2 {B}")

    def test_another_server_may_know_better(self) -> None:
        play = Play("smtp", "primary", "backup")
        for server in (0, 1):
            play.connect(MAIL, B, "DATA", ". <1@x> -> !554 no", server=server)
        play.held(self.RULE, "1 refusal for good, and none asked for again")

    @pytest.mark.parametrize("line", [f"{MAIL} -> !550 no", "-> !554 no"])
    def test_a_refused_sender_or_connection_says_nothing_of_the_mail(self, play: Play, line: str) -> None:
        for _ in range(3):
            play.connect(line)
        play.not_exercised(self.RULE)


class TestReuseAfterIdle:
    RULE = "smtp.reuse-after-idle"
    CLOSED = (*LETTER, "[idle] -> !421 timeout")

    def test_held(self, play: Play) -> None:
        play.connect(*self.CLOSED, MAIL, C)
        play.connect(MAIL, C, "DATA", ". <2@x>")
        play.held(self.RULE, "mail begun on a closed connection came again, once")

    def test_broken(self, play: Play) -> None:
        play.connect(*self.CLOSED, MAIL)
        why = "mail from a@x was begun on a connection that the server had closed, and never came again"
        play.broken(self.RULE, why, "#1 idle", "#1")

    def test_what_is_said_after_a_refusal_is_not_begun_after_idle(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !421 no", "RSET", MAIL)
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("said", ["QUIT", "NOOP"])
    def test_not_exercised_without_mail(self, play: Play, said: str) -> None:
        play.connect(*self.CLOSED, said)
        play.not_exercised(self.RULE)
