"""The engine, by playbooks: silences, errors, phases, and a scenario that is swapped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notnow.engine.course import MOST_REPEATS
from notnow.engine.progress import Progress
from notnow.engine.questions import PhasePosition
from notnow.engine.store import Memory
from notnow.language.loading import loads
from playbook import (
    BYE,
    NO,
    SORRY,
    Answered,
    Asked,
    Close,
    Closed,
    Ended,
    Finished,
    Hang,
    Heard,
    Leaving,
    Opened,
    Playing,
    Proceed,
    Reached,
    Send,
    Tick,
    To,
    Wait,
    Watch,
    document,
    fired,
    mails,
    phase,
    playing,
    rule,
)


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


class TestIdle:
    CLOSES = document(rule("idle", after="30s", reply=BYE))
    WARNS = document(rule("idle", after="30s", reply="450 hello?"))

    def test_silence_since_the_last_word(self, play):
        book = play(self.CLOSES) >> Opened("a") << Proceed()
        book.at(20) >> Asked("a", "ehlo") << Proceed()
        book.at(49.9) >> Tick()
        assert book.engine.due == 50
        book.at(50) >> Tick() << To("a", Send(BYE), Close())
        assert book.scripts[0].moment == "idle"

    def test_nothing_is_due_while_nobody_is_there(self, play):
        book = play(self.CLOSES)
        assert book.engine.due is None
        book >> Opened("a") << Proceed()
        assert book.engine.due == 30

    def test_each_connection_for_itself(self, play):
        book = play(self.CLOSES) >> Opened("a") << Proceed()
        book.at(10) >> Opened("b") << Proceed()
        book.at(30) >> Tick() << To("a", Send(BYE), Close())
        book.at(40) >> Tick() << To("b", Send(BYE), Close())

    def test_bytes_of_a_body_end_a_silence(self, play):
        book = play(self.CLOSES) >> Opened("a") << Proceed()
        book.at(20) >> Heard("a")
        book.at(30) >> Tick()
        book.at(50) >> Tick() << To("a", Send(BYE), Close())

    def test_since_connect(self, play):
        book = play(document(rule("idle", after="30s", since="connect", reply=BYE))) >> Opened("a") << Proceed()
        book.at(29) >> Asked("a", "noop") << Proceed()
        book.at(30) >> Tick() << To("a", Send(BYE), Close())

    def test_since_any_is_the_default(self, play):
        book = play(document(rule("idle", after="30s", since="any", reply=BYE))) >> Opened("a") << Proceed()
        book.at(29) >> Asked("a", "noop") << Proceed()
        book.at(30) >> Tick()
        book.at(59) >> Tick() << To("a", Send(BYE), Close())

    def test_one_that_does_not_close_repeats(self, play):
        book = play(self.WARNS) >> Opened("a") << Proceed()
        for now in (30, 60, 90):
            book.at(now) >> Tick() << To("a", Send("450 hello?"))
        book.at(100) >> Asked("a", "noop") << Proceed()
        book.at(120) >> Tick()
        book.at(130) >> Tick() << To("a", Send("450 hello?"))

    def test_a_warning_and_then_the_end_whatever_their_order(self, play):
        warn, end = rule("idle", after="10s", reply="450 hello?"), rule("idle", after="30s", reply=BYE)
        for rules in ((warn, end), (end, warn)):
            book = play(document(*rules)) >> Opened("a") << Proceed()
            for now in (10, 20):
                book.at(now) >> Tick() << To("a", Send("450 hello?"))
            book.at(30) >> Tick()
            assert book.scripts[-1].closes
            book.skip()

    def test_counted_for_each_length_of_silence(self, play):
        rules = [rule("idle", after="10s", nth=1, reply="450 hello?"), rule("idle", after="30s", nth=1, reply=BYE)]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        book.at(10) >> Tick() << To("a", Send("450 hello?"))
        book.at(20) >> Tick()
        book.at(30) >> Tick() << To("a", Send(BYE), Close())

    def test_an_exception_of_the_same_length(self, play):
        rules = [rule("idle", after="30s", where={"client": "10.*"}), rule("idle", after="30s", reply=BYE)]
        book = play(document(*rules)) >> Opened("a", "10.0.0.1") << Proceed() >> Opened("b") << Proceed()
        book.at(30) >> Tick() << To("b", Send(BYE), Close())

    def test_times(self, play):
        book = play(document(rule("idle", after="30s", times=1, reply="450 hello?"))) >> Opened("a") << Proceed()
        book.at(30) >> Tick() << To("a", Send("450 hello?"))
        book.at(60) >> Tick()

    def test_a_client_that_waits_for_a_delayed_answer_is_not_idle(self, play):
        rules = [rule(["connect", "mail"], delay="20s"), rule("idle", after="30s", reply=BYE)]
        book = play(document(*rules)) >> Opened("a") << Wait(20.0) << Proceed()
        book.at(49) >> Tick()
        book.at(49) >> Asked("a", "mail") << Wait(20.0) << Proceed()
        book.at(60) >> Heard("a")
        book.at(98) >> Tick()
        book.at(99) >> Tick() << To("a", Send(BYE), Close())

    def test_since_the_command_begins_with_the_delayed_answer(self, play):
        rules = [rule("mail", delay="20s"), rule("idle", after="30s", since="command", reply=BYE)]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        book.at(5) >> Asked("a", "mail") << Wait(20.0) << Proceed()
        book.at(54) >> Tick()
        book.at(55) >> Tick() << To("a", Send(BYE), Close())

    def test_nor_one_to_whom_the_answer_drips(self, play):
        rules = [rule("connect", drip="1s", reply="220 12345678"), rule("idle", after="30s", reply=BYE)]
        book = play(document(*rules)) >> Opened("a") << Proceed("220 12345678", drip=1.0)
        book.at(43) >> Tick()
        book.at(44) >> Tick() << To("a", Send(BYE), Close())

    @pytest.mark.parametrize("moment", ["connect", "mail", "body"])
    def test_nor_one_that_hangs_on_a_stalled_answer(self, play, moment):
        book = play(document(rule(moment, stall=True), rule("idle", after="30s", reply=BYE))) >> Opened("a")
        if moment == "connect":
            book << Hang()
        else:
            book << Proceed() >> Asked("a", moment)
            book << Watch(1) << Proceed() >> Reached("a") << Hang() if moment == "body" else book << Hang()
        book.at(10) >> Heard("a")
        book.at(1000) >> Tick()

    def test_play_and_a_new_phase_set_the_timers_anew(self, play):
        book = (
            play(document(phase(lasts="10s"), phase(rule("idle", after="30s", reply=BYE)))) >> Opened("a") << Proceed()
        )
        book.at(10) >> Tick()
        assert book.engine.due == 30
        book.at(20).play(self.WARNS)
        book.at(30) >> Tick() << To("a", Send("450 hello?"))

    def test_who_is_gone_hears_nothing(self, play):
        book = play(self.CLOSES) >> Opened("a") << Proceed() >> Closed("a")
        book.at(30) >> Tick()
        assert book.engine.due is None

    def test_what_was_due_is_done_before_an_event_that_comes_later(self, play):
        book = play(self.CLOSES) >> Opened("a") << Proceed()
        book.at(40) >> Asked("a", "noop") << Send(BYE) << Close()
        assert [script.moment for script in book.scripts] == ["idle"]

    def test_a_jump_of_the_clock_over_silences_and_phases(self, play):
        warn = rule("idle", after="30s", reply="450 hello?")
        book = play(document(phase(warn, lasts="70s"), phase(rule("enter", reply=NO)))) >> Opened("a") << Proceed()
        book.at(1000) >> Tick() << To("a", Send("450 hello?"), Send("450 hello?"), Send(NO))

    def test_a_new_phase_forgets_when_a_timeout_last_expired(self, play):
        warn, end = rule("idle", after="10s", reply="450 hello?"), rule("idle", after="10s", reply=BYE)
        book = play(document(phase(warn, lasts="12s"), phase(end))) >> Opened("a") << Proceed()
        book.at(10) >> Tick() << To("a", Send("450 hello?"))
        book.at(12) >> Tick() << To("a", Send(BYE), Close())

    def test_the_timers_of_an_old_phase_are_not_due_in_the_new_one(self, play):
        warn, end = rule("idle", after="10s", reply="450 hello?"), rule("idle", after="1m", reply=BYE)
        book = play(document(phase(warn), phase(end))) >> Opened("a") << Proceed()
        book.at(5).next_phase()
        assert book.engine.due == 60
        book.at(60) >> Tick() << To("a", Send(BYE), Close())

    def test_a_client_that_speaks_after_a_stalled_answer_can_be_idle_again(self, play):
        book = play(document(rule("mail", stall=True), rule("idle", after="30s", reply=BYE))) >> Opened("a")
        book << Proceed() >> Asked("a", "mail") << Hang()
        book.at(100) >> Tick()
        assert book.engine.due is None
        book >> Asked("a", "noop") << Proceed()
        assert book.engine.due == 130
        book.at(130) >> Tick() << To("a", Send(BYE), Close())

    def test_nor_one_to_whom_the_body_of_a_response_drips(self, play):
        slow = rule("request", status=503, body="12345678", drip="2s")
        book = play(document(slow, rule("idle", after="30s", goaway={}), protocol="http")) >> Opened("a") << Proceed()
        book >> Asked("a", "request", stream=1)
        book.skip()
        book >> Ended("a", "request", stream=1)
        assert book.engine.due == 30  # a timer that goes off too early is set again
        book.at(30) >> Tick()
        assert book.engine.due == 46

    def test_a_jump_makes_up_for_a_bounded_number_of_timeouts(self, play):
        book = play(document(rule("idle", after="1ms", reply="450 hello?"))) >> Opened("a") << Proceed()
        book.at(1e6) >> Tick()
        assert len(book.scripts) == MOST_REPEATS + 1
        book.skip()
        assert book.engine.due == pytest.approx(1e6 + 0.001)

    def test_no_timeout_is_left_out_for_a_phase_that_ends_within_the_jump(self, play):
        warn = rule("idle", after="1s", reply="450 hello?")
        book = play(document(phase(warn, lasts="10s"), phase(rule("enter", reply=NO)))) >> Opened("a") << Proceed()
        book.at(1e6) >> Tick() << To("a", *[Send("450 hello?")] * 9, SORRY)

    def test_a_timeout_does_not_expire_while_its_script_is_carried_out(self, play):
        book = play(document(rule("idle", after="1s", reply="450 hello?")), slow=True) >> Opened("a") << Proceed()
        book.at(1) >> Tick() << To("a", Send("450 hello?"))
        book.at(5) >> Tick()
        assert book.engine.due is None
        book.at(9.5) >> Finished("a")
        assert book.engine.due == 10.5  # the expiries in between are left out
        book.at(10.5) >> Tick() << To("a", Send("450 hello?"))

    def test_a_script_that_is_quickly_carried_out_delays_no_timeout(self, play):
        book = play(document(rule("idle", after="1s", reply="450 hello?")), slow=True) >> Opened("a") << Proceed()
        book.at(1) >> Tick() << To("a", Send("450 hello?"))
        book.at(1.25) >> Finished("a")
        assert book.engine.due == 2

    def test_one_that_is_carried_out_as_the_next_is_due_takes_its_place(self, play):
        book = play(document(rule("idle", after="1s", reply="450 hello?")), slow=True) >> Opened("a") << Proceed()
        book.at(1) >> Tick() << To("a", Send("450 hello?"))
        book.at(2) >> Finished("a")
        assert book.engine.due == 3

    def test_a_jump_waits_for_the_last_of_its_scripts(self, play):
        book = play(document(rule("idle", after="1s", reply="450 hello?")), slow=True) >> Opened("a") << Proceed()
        book.at(2) >> Tick() << To("a", Send("450 hello?"), Send("450 hello?"))
        book.at(4) >> Finished("a")
        assert book.engine.due is None
        book >> Finished("a")
        assert book.engine.due == 5

    def test_a_longer_timeout_waits_for_the_script_of_a_shorter_one(self, play):
        warn, end = rule("idle", after="10s", reply="450 hello?"), rule("idle", after="30s", reply=BYE)
        book = play(document(warn, end), slow=True) >> Opened("a") << Proceed()
        book.at(10) >> Tick() << To("a", Send("450 hello?"))
        book.at(35) >> Tick()
        book >> Finished("a")
        book >> Tick() << To("a", Send(BYE), Close())

    def test_a_jump_of_the_most_that_is_made_up_for_leaves_nothing_out(self, play):
        book = play(document(rule("idle", after="1s", reply="450 hello?"))) >> Opened("a") << Proceed()
        book.at(MOST_REPEATS + 1) >> Tick()
        assert len(book.scripts) == MOST_REPEATS + 1
        book.skip()


class TestError:
    def test_in_addition_to_the_reply_that_left(self, play):
        book = play("smtp/too-many-errors", errors=2) >> Opened("a") << Proceed()
        book >> Answered("a", 550, "RCPT") >> Answered("a", 503, "DATA") << Send("421 …") << Close()

    def test_only_a_4yz_or_5yz(self, play):
        book = play(document(rule("error", reply=BYE))) >> Opened("a") << Proceed()
        (
            book
            >> Answered("a", 250, "MAIL")
            >> Answered("a", 354, "DATA")
            >> Answered("a", 400, "MAIL")
            << Send(BYE)
            << Close()
        )

    def test_per_connection(self, play):
        book = play(document(rule("error", per="connection", nth=2, reply=BYE)))
        for conn in "ab":
            book >> Opened(conn) << Proceed()
        book >> Answered("a", 550) >> Answered("b", 550) >> Answered("a", 550) << Send(BYE) << Close()

    def test_a_reply_that_is_just_said(self, play):
        book = play(document(rule("error", reply="250 never mind"))) >> Opened("a") << Proceed()
        book >> Answered("a", 550) << Send("250 never mind") >> Answered("a", 550) << Send("250 never mind")

    def test_not_after_a_close(self, play):
        book = (
            play(document(rule("connect", reply=BYE), rule("error", reply=NO))) >> Opened("a") << Send(BYE) << Close()
        )
        book >> Answered("a", 421)

    def test_an_event_on_a_connection_that_is_closing_is_not_counted(self, play):
        rules = [rule("ehlo", reply=BYE), rule("mail", nth=1, reply=NO), rule("error", nth=1, reply="450 sorry")]
        book = play(document(*rules)) >> Opened("a") << Proceed() >> Asked("a", "ehlo") << Send(BYE) << Close()
        book >> Asked("a", "mail") >> Answered("a", 421)
        book >> Opened("b") << Proceed() >> Asked("b", "mail") << SORRY >> Answered("b", 451) << Send("450 sorry")


class TestEnter:
    DOWN = phase(rule("enter", reply=BYE), name="down")

    def test_on_a_phase(self, play):
        book = play(document(phase(name="up", lasts="10s"), self.DOWN))
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book >> Closed("b")
        book.at(10) >> Tick() << To("a", Send(BYE), Close()) << To("c", Send(BYE), Close())
        assert {(s.moment, s.phase) for s in book.scripts} == {("enter", "down")}

    def test_with_the_first_event_after_it(self, play):
        book = play(document(phase(lasts="10s"), self.DOWN)) >> Opened("a") << Proceed()
        book.at(11) >> Opened("b") << To("a", Send(BYE), Close()) << Proceed()

    def test_by_hand(self, play):
        book = play(document(phase(), self.DOWN)) >> Opened("a") << Proceed()
        book.next_phase() << To("a", Send(BYE), Close())

    def test_at_play(self, play):
        book = play("smtp/healthy") >> Opened("a") << Proceed()
        book.play(document(rule("enter", reply=NO))) << To("a", SORRY)

    def test_the_one_that_ended_the_phase_is_live_too(self, play):
        book = play(document(phase(until={"connect": 2}), self.DOWN)) >> Opened("a") << Proceed()
        book >> Opened("b") << Proceed() << To("a", Send(BYE), Close()) << To("b", Send(BYE), Close())

    def test_who_was_turned_away_is_not(self, play):
        book = play(document(phase(rule("connect", reply=BYE), until={"connect": 1}), self.DOWN))
        book >> Opened("a") << Send(BYE) << Close()

    def test_where_and_delay(self, play):
        down = phase(rule("enter", where={"client": "10.*"}, delay="1s", close="reset"))
        book = play(document(phase(), down)) >> Opened("a") << Proceed() >> Opened("b", "10.0.0.1") << Proceed()
        book.next_phase() << To("b", Wait(1.0), Close("reset"))

    def test_an_exception_says_nothing(self, play):
        down = phase(rule("enter", where={"client": "10.*"}), rule("enter", close=True))
        book = play(document(phase(), down)) >> Opened("a", "10.0.0.1") << Proceed() >> Opened("b") << Proceed()
        book.next_phase() << To("b", Close())

    def test_all_but_a_few(self, play):
        book = play(document(phase(), phase(rule("enter", over=1, reply=BYE))))
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book.next_phase() << To("b", Send(BYE), Close()) << To("c", Send(BYE), Close())

    def test_a_rule_for_connect_and_enter(self, play):
        hello = rule(["connect", "enter"], reply="220 hello again")
        book = play(document(phase(), phase(hello))) >> Opened("a") << Proceed()
        book.next_phase() << To("a", Send("220 hello again"))
        book >> Opened("b") << Proceed("220 hello again")


class TestPhases:
    def test_lasts(self, play):
        book = play("smtp/overload", outage="5s").at(100) >> Opened("a") << Send("421 …") << Close()
        assert book.engine.due == 105
        book.at(104.9) >> Opened("b") << Send("421 …") << Close()
        book.at(105) >> Opened("c") << Proceed()
        book.phase("recovered")
        assert book.engine.due is None

    def test_time_starts_with_the_first_connection(self, play):
        book = play(document(phase(name="1", lasts="10s"), phase(name="2"))).at(1000) >> Tick()
        book.phase("1")
        assert book.engine.due is None
        book >> Opened("a") << Proceed()
        book.at(1009) >> Tick()
        book.phase("1").at(1010) >> Tick()
        book.phase("2")

    def test_or_when_it_is_started(self, play):
        book = play(document(phase(name="1", lasts="10s"), phase(name="2"))).at(5).start().at(8).start()
        assert book.engine.due == 15
        book.at(9) >> Opened("a") << Proceed()
        book.at(15) >> Tick()
        book.phase("2")

    def test_until_a_count_and_the_last_one_still_belongs_to_it(self, play):
        book = play(document(phase(rule("connect", reply=BYE), name="1", until={"connect": 3}), phase(name="2")))
        for conn in "abc":
            book.phase("1") >> Opened(conn) << Send(BYE) << Close()
            assert book.scripts[0].phase == "1"
        book.phase("2") >> Opened("d") << Proceed()

    def test_until_any_counts_every_command(self, play):
        book = play(document(phase(name="1", until={"any": 3}), phase(name="2"))) >> Opened("a") << Proceed()
        book >> Asked("a", "ehlo") << Proceed() >> Asked("a", "body") << Proceed() >> Asked("a", "vrfy") << Proceed()
        book.phase("1") >> Asked("a", "noop") << Proceed()
        book.phase("2")

    def test_until_an_error(self, play):
        book = play(document(phase(name="1", until={"error": 1}), phase(name="2"))) >> Opened("a") << Proceed()
        book >> Answered("a", 250) >> Answered("a", 550)
        book.phase("2")

    def test_until_one_of_several(self, play):
        scenario = document(phase(name="1", until={"connect": 3, "mail": 2}), phase(name="2"))
        book = play(scenario) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Proceed() >> Opened("b") << Proceed()
        book.phase("1") >> Asked("b", "mail") << Proceed()
        book.phase("2")

    @pytest.mark.parametrize(("times", "name"), [((0, 1, 2), "2"), ((0, 1, 10), "2"), ((0, 1), "1")])
    def test_the_earlier_of_both(self, play, times, name):
        book = play(document(phase(name="1", until={"connect": 3}, lasts="10s"), phase(name="2")))
        for n, now in enumerate(times):
            book.at(now) >> Opened(f"{n}") << Proceed()
        book.phase(name)

    def test_a_phase_that_ended_by_count_does_not_end_its_follower_in_time(self, play):
        scenario = document(
            phase(name="1", until={"connect": 1}, lasts="10s"), phase(name="2", lasts="10s"), phase(name="3")
        )
        book = play(scenario).at(5) >> Opened("a") << Proceed()
        book.at(14) >> Tick()
        book.phase("2").at(15) >> Tick()
        book.phase("3")

    def test_by_hand(self, play):
        book = play(document(phase(name="1"), phase(name="2", lasts="10s"), phase(name="3"))).at(5)
        book.next_phase().phase("2")
        book.at(50) >> Opened("a") << Proceed()
        book.phase("2").at(60) >> Tick()
        book.phase("3").next_phase().phase("3")

    def test_counts_restart(self, play):
        book = play(document(phase(rule("mail", nth=2, reply=NO), lasts="10s"), phase(rule("mail", nth=2, reply=NO))))
        book >> Opened("a") << Proceed() >> Asked("a", "mail") << Proceed()
        book.at(10) >> Asked("a", "mail") << Proceed() >> Asked("a", "mail") << SORRY

    def test_counts_restart_where_places_do_not(self, play):
        rules = [rule("connect", over=1, reply=BYE), rule("connect", nth=1, delay="1s")]
        book = play(document(phase(*rules, lasts="10s"), phase(*rules)))
        book >> Opened("a") << Wait(1.0) << Proceed()
        book.at(10) >> Closed("a") >> Opened("b") << Wait(1.0) << Proceed() >> Opened("c") << Send(BYE) << Close()

    def test_times_and_durations_restart(self, play):
        rules = [rule("mail", first="5s", times=1, reply=NO)]
        book = play(document(phase(*rules, lasts="10s"), phase(*rules))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << SORRY >> Asked("a", "mail") << Proceed()
        book.at(20) >> Asked("a", "mail") << SORRY >> Asked("a", "mail") << Proceed()

    def test_repeat(self, play):
        book = play("smtp/flapping-overload", down="10s", up="20s")
        for now, refused in ((0, True), (9, True), (10, False), (29, False), (30, True), (40, False), (60, True)):
            book.at(now) >> Opened(f"{now}")
            (book << Send("421 …") << Close()) if refused else (book << Proceed())

    def test_until_counts_anew_in_each_lap(self, play):
        scenario = document(phase(name="1", until={"connect": 2}), phase(name="2", until={"connect": 1}), repeat=True)
        book = play(scenario)
        for n, name in enumerate("112112"):
            book.phase(name) >> Opened(f"{n}") << Proceed()

    def test_repeat_of_one_phase_restarts_its_counts(self, play):
        book = (
            play(document(phase(rule("mail", nth=1, reply=NO), lasts="10s"), repeat=True)) >> Opened("a") << Proceed()
        )
        assert fired(book, *mails(2)) + fired(book.at(10), *mails(2)) == [True, False] * 2

    def test_a_jump_over_many_phases(self, play):
        phases = [phase(name=f"{n}", lasts="10s") for n in range(5)]
        book = play(document(*phases, phase(rule("connect", reply=BYE), name="end"))) >> Opened("a") << Proceed()
        book.at(31) >> Tick()
        book.phase("3")
        assert book.engine.due == 40
        book.at(9999) >> Opened("b") << Send(BYE) << Close()
        book.phase("end")

    def test_a_jump_over_many_laps_keeps_the_beat(self, play):
        book = play("smtp/flapping-overload", down="10s", up="20s") >> Opened("a") << Send("421 …") << Close()
        book.at(30 * 1_000_000 + 5) >> Opened("b") << Send("421 …") << Close()
        book.at(30 * 1_000_000 + 10) >> Opened("c") << Proceed()

    def test_a_jump_over_laps_says_all_that_was_due_to_who_is_there(self, play):
        scenario = document(phase(rule("enter", reply=NO), lasts="10s"), phase(lasts="10s"), repeat=True)
        book = play(scenario) >> Opened("a") << Proceed()
        book.at(60) >> Tick() << To("a", *[SORRY] * 3)

    def test_a_jump_over_laps_is_short_when_nobody_is_there(self, play):
        scenario = document(phase(rule("enter", reply=NO), lasts="1ms"), phase(lasts="1ms"), repeat=True)
        book = play(scenario) >> Opened("a") << Proceed() >> Closed("a")
        book.at(1e9) >> Opened("b") << Proceed()

    def test_a_jump_over_laps_makes_up_for_a_bounded_number_of_them(self, play):
        scenario = document(phase(rule("enter", reply=NO), lasts="1ms"), phase(lasts="1ms"), repeat=True)
        book = play(scenario) >> Opened("a") << Proceed()
        book.at(1e5) >> Tick()
        assert len(book.scripts) in (MOST_REPEATS, MOST_REPEATS + 1)
        book.skip()
        assert book.engine.due == pytest.approx(1e5, abs=0.0011)

    def test_the_laps_before_the_jump_keep_what_is_due_to_a_client(self, play):
        scenario = document(phase(rule("enter", reply=NO), lasts="10s"), repeat=True)
        book = play(scenario) >> Opened("a") << Proceed()
        book.at(10 * MOST_REPEATS) >> Tick()
        assert len(book.scripts) == MOST_REPEATS
        book.skip()

    def test_each_lap_of_one_phase_restarts_its_counts_for_a_client_that_stays(self, play):
        rules = [rule("enter", reply="450 again"), rule("mail", nth=1, reply=NO)]
        book = play(document(phase(*rules, lasts="10s"), repeat=True)) >> Opened("a") << Proceed()
        assert fired(book, *mails(2)) == [True, False]
        for now in (10, 20):
            book.at(now) >> Tick() << To("a", Send("450 again"))
            assert fired(book, *mails(2)) == [True, False]

    def test_so_does_each_lap_that_begins_by_hand(self, play):
        book = play(document(phase(rule("mail", nth=1, reply=NO)), repeat=True)) >> Opened("a") << Proceed()
        assert fired(book, *mails(2)) + fired(book.next_phase(), *mails(2)) == [True, False] * 2

    @pytest.mark.parametrize("counted", [{"times": 1}, {"nth": 2}])
    def test_a_lap_restarts_the_counts_of_a_key_under_which_a_client_stays(self, play, counted):
        full = rule("connect", over=1, reply=BYE, **counted)
        book = play(document(phase(full, lasts="10s"), repeat=True)) >> Opened("a") << Proceed()
        book >> Opened("b") << Send(BYE) << Close() >> Opened("c") << Proceed()
        book.at(10)
        if counted == {"nth": 2}:
            book >> Opened("d") << Proceed()
        book >> Opened("e") << Send(BYE) << Close() >> Opened("f") << Proceed()


class TestLaps:
    @pytest.fixture
    def progress(self) -> Progress:
        text = document(phase(lasts="1m"), phase(lasts="1m"), repeat=True)
        progress = Progress(loads(text), Memory())
        progress.start(0)
        return progress

    def test_the_first_phase_after_the_last_begins_another(self, progress):
        for at in (60, 120, 180, 240):
            progress.next_phase(at)
        assert progress.position == PhasePosition(0, 2, 240)

    @pytest.mark.parametrize(("now", "lap"), [(119, 0), (130, 1), (370, 3)])
    def test_those_that_are_over_can_be_left_out(self, progress, now, lap):
        progress.skip_laps(now, keep=0)
        assert progress.position == PhasePosition(0, lap, 120 * lap)


class TestPlay:
    def test_phases_and_counts_start_anew(self, play):
        scenario = document(phase(rule("mail", nth=2, reply=NO), name="1", lasts="10s"), phase(name="2"))
        book = play(scenario) >> Opened("a") << Proceed() >> Asked("a", "mail") << Proceed()
        book.at(5).play(scenario) >> Asked("a", "mail") << Proceed() >> Asked("a", "mail") << SORRY
        assert book.engine.due is None  # time starts with the next connection
        book.at(6) >> Opened("b") << Proceed()
        assert book.engine.due == 16

    def test_live_connections_keep_their_places(self, play):
        cap = document(rule("connect", over=2, reply=BYE))
        book = play("smtp/healthy") >> Opened("a") << Proceed() >> Opened("b") << Proceed() >> Opened("c") << Proceed()
        book >> Closed("c")
        book.play(cap) >> Opened("d") << Send(BYE) << Close() >> Closed("a") >> Opened("e") << Proceed()

    def test_but_not_those_who_are_leaving_or_were_refused(self, play):
        cap = document(rule("connect", over=1, reply=BYE, close=False))
        book = play(cap) >> Opened("a") << Proceed() >> Opened("b") << Send(BYE) >> Leaving("a")
        book.play(cap) >> Opened("c") << Proceed() >> Opened("d") << Send(BYE)

    def test_places_by_client(self, play):
        book = play("smtp/healthy") >> Opened("a", "10.0.0.1") << Proceed()
        book.play("smtp/too-many-per-client", cap=1)
        book >> Opened("b", "10.0.0.1") << Send("421 …") << Close() >> Opened("c", "10.0.0.2") << Proceed()

    def test_what_is_in_progress_keeps_its_place(self, play):
        book = play("smtp/healthy") >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> Asked("a", "mail", sender="x@x") << Proceed()
        book.play(document(rule("mail", per="sender", over=1, reply=NO)))
        book >> Asked("b", "mail", sender="x@x") << SORRY >> Asked("b", "mail", sender="y@x") << Proceed()
        book >> Ended("a", "mail") >> Opened("c") << Proceed() >> Asked("c", "mail", sender="x@x") << Proceed()

    def test_a_window_starts_empty(self, play):
        rate = document(rule("connect", over=1, within="1h", reply=BYE))
        book = play(rate) >> Opened("a") << Proceed()
        book.play(rate) >> Opened("b") << Proceed() >> Opened("c") << Send(BYE) << Close()

    def test_a_fault_that_waited_for_its_byte_is_off(self, play):
        book = play(document(rule("body", reply=BYE))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(1) << Proceed()
        book.play("smtp/healthy") >> Reached("a")


def test_nothing_is_left_of_a_phase_whose_time_has_not_begun(play: Playing) -> None:
    scenario = document(phase(rule("mail", reply="451 {left.seconds}"), lasts="1m"), phase())
    book = play(scenario) >> Opened("a") << Proceed()
    book.at(5).play(scenario)  # its time begins with the next connection
    book >> Asked("a", "mail") << Send("451 0")
