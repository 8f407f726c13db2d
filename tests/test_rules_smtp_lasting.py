"""Rules about an SMTP outage that lasts: bounces, giving up, and the pace of retries."""

from __future__ import annotations

import pytest

from conduct_playbook import BUSY, Play, tries
from notnow.conduct.reading.smtp.delivery import SETTLED_BY

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"
NAMED = (MAIL, f"{B} -> !451 later")
LETTER = (MAIL, B, "DATA", ". <1@x>")


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestNoBounceFor421:
    RULE = "smtp.no-bounce-for-421"
    UNSEEN = "the client was not seen again: the journal cannot tell whether it still has the mail"

    def test_held(self, play: Play) -> None:
        tries(play, "1m")
        play.held(self.RULE, "mail that was refused with 421 was tried again")

    def test_broken_by_a_bounce(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("1m")
        play.connect("MAIL FROM:<>", "RCPT TO:<a@x>", "DATA", ". <2@x>")
        play.broken(self.RULE, "a@x was sent a bounce after one 421", "#1 DATA", "#2 MAIL FROM:<>")

    def test_a_bounce_may_be_for_other_mail_of_the_sender(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no")
        play.connect(MAIL, f"{C} -> !550 no").play.wait("1m")
        play.connect("MAIL FROM:<>", "RCPT TO:<a@x>", "DATA", ". <2@x>")
        why = "a@x was sent a bounce, for the mail that was refused once with 421 or for other mail"
        play.inconclusive(self.RULE, why, "the text of the bounce", "#1 DATA", "#3 MAIL FROM:<>")

    def test_of_two_only_one_came_again(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no")
        play.connect("MAIL FROM:<other@x>", B, "DATA -> !421 no").play.wait("1m")
        play.connect(*LETTER)
        why = "mail that was refused with 421 may never have come again: the journal cannot tell whether the client treated it as failed"
        play.inconclusive(self.RULE, why, SETTLED_BY, "#2 DATA")

    def test_what_names_no_mail_leaves_it_open_whether_or_not_named_mail_came_again(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no")
        for _ in range(2):
            play.connect(BUSY)
        why = "mail that was refused with 421 may never have come again: the journal cannot tell whether the client treated it as failed"
        play.inconclusive(self.RULE, why, SETTLED_BY, "#1 DATA")
        play.wait("1m").connect(*LETTER)
        play.inconclusive(self.RULE, why, SETTLED_BY, "#2 connect")

    def test_a_bounce_to_somebody_else(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("1m")
        play.connect("MAIL FROM:<>", "RCPT TO:<other@x>", "DATA", ". <2@x>")
        play.not_exercised(self.RULE, self.UNSEEN)

    def test_a_bounce_that_came_before(self, play: Play) -> None:
        play.connect("MAIL FROM:<>", "RCPT TO:<a@x>", "DATA", ". <2@x>")
        play.connect(MAIL, B, "DATA -> !421 no")
        play.not_exercised(self.RULE, self.UNSEEN)

    @pytest.mark.parametrize(("later", "dropped"), [("6h", True), ("21599s", False)])
    def test_other_mail_hours_later_proves_nothing(self, play: Play, later: str, dropped: bool) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait(later)
        play.connect("MAIL FROM:<other@x>", B, "DATA", ". <2@x>")
        if dropped:
            why = "hours later it went on with other mail, and this one has not come again so far"
            play.inconclusive(self.RULE, why, "a longer run", "#1 DATA", "#2 . <2@x>")
        else:
            play.not_exercised(self.RULE, self.UNSEEN)

    def test_mail_that_was_tried_twice_is_not_dropped_for_one_421(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("1m")
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("7h")
        play.connect("MAIL FROM:<other@x>", B, "DATA", ". <2@x>")
        play.held(self.RULE, "mail that was refused with 421 was tried again")

    def test_not_exercised_by_a_client_that_is_not_seen_again(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("2d")
        play.not_exercised(self.RULE, self.UNSEEN)

    def test_not_exercised_by_another_4yz(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !451 no")
        play.not_exercised(self.RULE)


class TestGiveUpTime:
    RULE = "smtp.give-up-time"
    SHORT = ": shorter than the 4-5 days of §4.5.4.1"

    @pytest.mark.parametrize(
        ("span", "seen", "grade"),
        [("5d", "5d", ""), ("92h", "3d 20h", ""), ("331199s", "3d 19h", SHORT), ("1d", "1d", SHORT)],
    )
    def test_held_by_giving_up(self, play: Play, span: str, seen: str, grade: str) -> None:
        tries(play, span)
        play.wait("20d")
        play.held(self.RULE, f"it gave up after {seen}{grade}")

    def test_held_by_a_client_that_still_tries(self, play: Play) -> None:
        tries(play, "1d", "1d")
        play.held(self.RULE, "it tried for 2d")

    def test_broken_by_giving_up_within_a_day(self, play: Play) -> None:
        tries(play, "1h", "1h")
        play.wait("86401s")
        play.broken(self.RULE, "it gave up after 2h; §4.5.4.1 has 4-5 days", "#3 connect")

    def test_a_silence_of_a_day_is_no_end_yet(self, play: Play) -> None:
        tries(play, "1h", "1h")
        play.wait("1d")
        play.not_exercised(self.RULE)

    def test_a_silence_of_twice_the_longest_wait_is_no_end_yet(self, play: Play) -> None:
        tries(play, "1h", "20h")
        play.wait("40h")
        play.not_exercised(self.RULE)
        play.wait("1s")
        play.broken(self.RULE, "it gave up after 21h; §4.5.4.1 has 4-5 days", "#3 connect")

    def test_the_message_given_up_soonest_counts(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !421 no")
        play.connect("MAIL FROM:<other@x>", B, "DATA -> !421 no").play.wait("1d")
        play.connect(MAIL, B, "DATA -> !421 no").play.wait("1d")
        play.connect("MAIL FROM:<other@x>", B, "DATA -> !421 no").play.wait("20d")
        play.held(self.RULE, f"it gave up after 1d{self.SHORT}")

    @pytest.mark.parametrize(("last", "outcome"), [("30d", "held"), ("2592001s", "broken")])
    def test_broken_by_trying_for_a_month(self, play: Play, last: str, outcome: str) -> None:
        tries(play, last)
        assert play.find(self.RULE).outcome == outcome

    def test_broken_for_ever(self, play: Play) -> None:
        tries(play, "20d", "20d")
        play.broken(self.RULE, "it still tries after 40d", "#1 connect", "#3 connect")

    def test_mail_that_came_through_was_not_given_up(self, play: Play) -> None:
        tries(play, "1h", last=LETTER)
        play.wait("20d")
        play.not_exercised(self.RULE)

    def test_not_exercised_within_a_day(self, play: Play) -> None:
        tries(play, "86399s")
        play.not_exercised(self.RULE)


class TestIntervalsGrow:
    RULE = "smtp.intervals-grow"

    def test_held(self, play: Play) -> None:
        tries(play, "1m", "2m", "4m")
        play.held(self.RULE, "the gaps were 1m, 2m, 4m: exponential")

    def test_a_constant_pace_of_five_minutes_is_slow_enough(self, play: Play) -> None:
        tries(play, "5m", "5m", "5m")
        play.held(self.RULE, "the gaps were 5m, 5m, 5m: constant")

    @pytest.mark.parametrize(("gap", "seen"), [("299s", "4m 59s"), ("5s", "5s")])
    def test_broken_by_a_constant_pace_below(self, play: Play, gap: str, seen: str) -> None:
        tries(play, gap, gap, gap, last=NAMED)
        evidence = ["#2 connect", "#3 connect", "#4 connect"]
        play.broken(self.RULE, f"the gaps were {seen}, {seen}, {seen}: constant", *evidence)

    def test_broken_by_gaps_that_shrink(self, play: Play) -> None:
        tries(play, "8m", "4m", "2m", last=NAMED)
        evidence = ["#2 connect", "#3 connect", "#4 connect"]
        play.broken(self.RULE, "the gaps were 8m, 4m, 2m: they shrink", *evidence)

    def test_connections_that_name_no_mail_may_be_for_one_after_the_other(self, play: Play) -> None:
        tries(play, "5s", "5s", "5s")
        why = "the gaps were 5s, 5s, 5s: constant, for one message or for several"
        play.inconclusive(self.RULE, why, "", "#2 connect", "#3 connect", "#4 connect")

    def test_tries_that_came_at_once_may_be_of_other_mail(self, play: Play) -> None:
        line = play.connect(f"{MAIL} -> !450 no")
        for _ in range(3):
            play.wait("1ms")
            line.says(f"{MAIL} -> !450 no")
        outcomes = {play.find(rule).outcome for rule in (self.RULE, "smtp.wait-before-retry")}
        assert outcomes == {"inconclusive"}

    def test_half_as_long_is_no_shrinking_yet(self, play: Play) -> None:
        tries(play, "8m", "6m", "4m")
        play.held(self.RULE, "the gaps were 8m, 6m, 4m: constant")

    def test_a_pace_that_quickens_little_by_little_does_not_shrink(self, play: Play) -> None:
        tries(play, "9m", "8m", "7m", "6m", "5m", "4m")
        play.held(self.RULE, "the gaps were 9m, 8m, 7m, 6m, 5m, 4m: irregular")

    def test_a_jitter_that_an_exponential_may_have_is_no_constant_pace(self, play: Play) -> None:
        tries(play, "8s", "6s", "9s")
        play.held(self.RULE, "the gaps were 8s, 6s, 9s: constant")

    def test_a_jitter_may_make_gaps_shrink_for_a_while(self, play: Play) -> None:
        tries(play, "8m", "9m", "1m", "2m", "5m")
        play.held(self.RULE, "the gaps were 8m, 9m, 1m, 2m, 5m: constant")

    def test_the_ceiling_may_be_reached(self, play: Play) -> None:
        tries(play, "1m", "2m", "4m", "8m", "8m", "8m")
        play.held(self.RULE, "the gaps were 1m, 2m, 4m, 8m, 8m, 8m: exponential")

    def test_not_exercised_by_three_tries(self, play: Play) -> None:
        tries(play, "5s", "5s")
        play.not_exercised(self.RULE)


class TestJitter:
    RULE = "smtp.jitter"
    SPREAD = "no group of connections came back together"

    def herd(self, play: Play, *gaps: str, workers: int = 4) -> None:
        """Workers of one client are refused side by side, and come back with these gaps between them."""
        lines = [play.connect(MAIL, f"RCPT TO:<{n}@y>") for n in range(workers)]
        for line in lines:
            line.says("DATA -> !421 no")
        play.wait("1m")
        again = [play.wait(gap).connect(MAIL) for gap in ("0s", *gaps)]
        for number, line in enumerate(again):
            line.says(f"RCPT TO:<{number}@y>", "DATA", f". <{number}@x>")

    def test_held(self, play: Play) -> None:
        self.herd(play, "1s", "1s", "1s")
        play.held(self.RULE, self.SPREAD)

    def test_broken(self, play: Play) -> None:
        self.herd(play, "20ms", "20ms", "20ms")
        play.broken(self.RULE, "4 connections came back within 60ms", "#5", "#6", "#7", "#8")

    @pytest.mark.parametrize(("last", "outcome"), [("99ms", "broken"), ("101ms", "held")])
    def test_within_a_tenth_of_a_second(self, play: Play, last: str, outcome: str) -> None:
        self.herd(play, "0s", "0s", last)
        assert play.find(self.RULE).outcome == outcome

    def test_connections_that_overlap_are_side_by_side(self, play: Play) -> None:
        for _ in range(2):
            lines = [play.connect(MAIL, f"RCPT TO:<{n}@y>") for n in range(4)]
            for line in lines:
                line.says("DATA -> !421 no")
            play.wait("1m")
        play.broken(self.RULE, "4 connections came back within 0s", "#5", "#6", "#7", "#8")

    def test_three_are_no_herd(self, play: Play) -> None:
        self.herd(play, "0s", "0s", workers=3)
        play.not_exercised(self.RULE)

    def test_one_after_the_other_is_no_herd(self, play: Play) -> None:
        lines = [play.connect(MAIL, f"RCPT TO:<{n}@y>") for n in range(4)]
        for line in lines:
            line.says("DATA -> !421 no")
        play.wait("1m")
        for n in range(4):
            play.connect(MAIL, f"RCPT TO:<{n}@y>", "DATA", f". <{n}@x>")
        play.held(self.RULE, "they came back one after the other")

    @pytest.mark.parametrize(
        "named", [(True, False, True, False), (True, True, True, False), (False, False, False, True)]
    )
    def test_so_may_those_of_a_group_that_names_some(self, play: Play, named: tuple[bool, ...]) -> None:
        lines = [play.connect(MAIL, f"RCPT TO:<{n}@y>") for n in range(4)]
        for line in lines:
            line.says("DATA -> !421 no")
        play.wait("1m")
        for n, names in enumerate(named):
            play.connect(*((MAIL, f"RCPT TO:<{n}@y>", "DATA", f". <{n}@x>") if names else (BUSY,)))
        why = "4 connections came back within 0s, for the same mail or for other mail"
        play.inconclusive(self.RULE, why, SETTLED_BY, "#5", "#6", "#7", "#8")

    def test_connections_that_name_no_mail_may_be_for_other_mail(self, play: Play) -> None:
        for wait in ("1m", "0s"):
            for _ in range(4):
                play.connect(BUSY)
            play.wait(wait)
        why = "4 connections came back within 0s, for the same mail or for other mail"
        play.inconclusive(self.RULE, why, SETTLED_BY, "#5", "#6", "#7", "#8")

    def test_each_server_has_its_own_herd(self) -> None:
        play = Play("smtp", "primary", "backup")
        for server in (0, 1):
            lines = [play.connect(MAIL, f"RCPT TO:<{server}{n}@y>", server=server) for n in range(2)]
            for line in lines:
                line.says("DATA -> !421 no")
        play.wait("1m")
        for server in (0, 0, 1, 1):
            play.connect(BUSY, server=server)
        play.not_exercised(self.RULE)

    def test_not_exercised_by_one_worker(self, play: Play) -> None:
        tries(play, "1m", "1m", "1m", "1m")
        play.not_exercised(self.RULE)
