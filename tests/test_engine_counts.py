"""The engine, by playbooks: what it counts, who is in, and chance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition
from hypothesis.stateful import rule as step

from notnow.engine import events
from notnow.engine.engine import Engine
from notnow.language.loading import loads
from playbook import (
    BYE,
    NO,
    SORRY,
    Asked,
    Close,
    Closed,
    Ended,
    Hang,
    Known,
    Leaving,
    Opened,
    Playing,
    Proceed,
    Send,
    Wait,
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


class TestCounts:
    @pytest.mark.parametrize(
        ("condition", "which"),
        [
            ({"nth": 1}, [1]),
            ({"nth": 3}, [3]),
            ({"every": 2}, [2, 4, 6]),
            ({"every": 3}, [3, 6]),
            ({"first": 2}, [1, 2]),
            ({"after": 4}, [5, 6]),
            ({"after": 1, "first": 3}, [2, 3]),
            ({"every": 2, "first": 4}, [2, 4]),
            ({"times": 2}, [1, 2]),
            ({"every": 2, "times": 2}, [2, 4]),
            ({"after": 3, "times": 1}, [4]),
        ],
    )
    def test_by_number(self, play, condition, which):
        book = play(document(rule("mail", **condition, reply=NO))) >> Opened("a") << Proceed()
        assert [n for n, hit in enumerate(fired(book, *mails(6)), 1) if hit] == which

    def test_first_by_duration_counts_from_the_first_event(self, play):
        book = play(document(rule("mail", first="60s", reply=NO))).at(100) >> Opened("a") << Proceed()
        seen = []
        for now in (500, 559.9, 560, 600):
            seen += fired(book.at(now), *mails(1))
        assert seen == [True, True, False, False]

    def test_after_by_duration(self, play):
        book = play(document(rule("mail", after="60s", reply=NO))).at(100) >> Opened("a") << Proceed()
        seen = []
        for now in (500, 559.9, 560, 600):
            seen += fired(book.at(now), *mails(1))
        assert seen == [False, False, True, True]

    def test_a_duration_and_a_number(self, play):
        book = play(document(rule("mail", first=2, after="10s", reply=NO))) >> Opened("a") << Proceed()
        assert fired(book, *mails(1)) + fired(book.at(10), *mails(2)) == [False, True, False]

    def test_only_what_where_matches_is_counted(self, play):
        book = play(document(rule("mail", where={"sender": "a@*"}, nth=2, reply=NO))) >> Opened("a") << Proceed()
        events = [Asked("a", "mail", sender=s) for s in ("a@x", "b@x", "b@x", "a@x", "a@x")]
        assert fired(book, *events) == [False, False, False, True, False]

    def test_a_list_of_moments_is_counted_together(self, play):
        book = play(document(rule(["mail", "rcpt"], nth=3, reply=NO))) >> Opened("a") << Proceed()
        assert fired(book, Asked("a", "mail"), Asked("a", "rcpt"), Asked("a", "rcpt")) == [False, False, True]

    def test_what_chance_does_not_choose_is_counted_too(self, play):
        rules = [rule("mail", chance="0%", reply="450 never"), rule("mail", chance="100%", nth=3, reply=NO)]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        assert fired(book, *mails(4)) == [False, False, True, False]

    def test_times_counts_what_fired_not_what_came(self, play):
        rules = [rule("mail", first=2, reply="450 first"), rule("mail", times=1, reply=NO)]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        for reply in ("450 first", "450 first", NO):
            book >> Asked("a", "mail") << Send(reply)
        book >> Asked("a", "mail") << Proceed()

    def test_refused_connections_are_counted(self, play):
        book = play(document(rule("connect", first=3, reply=BYE)))
        assert fired(book, *(Opened(c) for c in "abcd")) == [True, True, True, False]


class TestPer:
    def per(self, play, per, *events, on="mail", **condition):
        """Which of the events are the second of their kind."""
        book = play(document(rule(on, per=per, reply=NO, close=False, **(condition or {"nth": 2}))))
        for conn, client in (("a", "10.0.0.1"), ("b", "10.0.0.1"), ("c", "10.0.0.2")):
            book >> Opened(conn, client) << Proceed()
        return fired(book, *events)

    def test_server(self, play):
        assert self.per(play, "server", *(Asked(c, "mail") for c in "abc")) == [False, True, False]

    def test_client(self, play):
        assert self.per(play, "client", *(Asked(c, "mail") for c in "acb")) == [False, False, True]

    def test_connection(self, play):
        assert self.per(play, "connection", *(Asked(c, "mail") for c in "abcb")) == [False, False, False, True]

    def test_user(self, play):
        logins = [Known(conn, {"user": user}) for conn, user in (("a", "ann"), ("b", "bob"), ("c", "ann"))]
        assert self.per(play, "user", *logins, *(Asked(c, "mail") for c in "abc")) == [False] * 5 + [True]

    def test_sender(self, play):
        events = [Asked("a", "mail", sender=s) for s in ("x@x", "y@x", "x@x")]
        assert self.per(play, "sender", *events) == [False, False, True]

    def test_recipient(self, play):
        events = [Asked("a", "rcpt", recipient=r) for r in ("x@x", "y@x", "y@x")]
        assert self.per(play, "recipient", *events, on="rcpt") == [False, False, True]

    def test_host(self, play):
        assert self.per(play, "host", *(Asked(c, "mail") for c in "abc")) == [False, True, False]

    def test_a_list_is_a_key_of_all(self, play):
        events = [
            Asked(c, "rcpt", sender=s, recipient=r)
            for c, s, r in (("a", "1", "2"), ("a", "1", "3"), ("a", "2", "2"), ("c", "1", "2"), ("b", "1", "2"))
        ]
        assert self.per(play, ["client", "sender", "recipient"], *events, on="rcpt") == [False] * 4 + [True]

    def test_durations_run_for_each_key(self, play):
        book = play("smtp/greylisting", wait="5m") >> Opened("a") << Proceed()
        ask = {r: Asked("a", "rcpt", sender="s@x", recipient=r) for r in ("b@x", "c@x")}
        assert fired(book.at(0), ask["b@x"]) == [True]
        assert fired(book.at(299), ask["b@x"], ask["c@x"]) == [True, True]
        assert fired(book.at(300), ask["b@x"], ask["c@x"]) == [False, True]
        assert fired(book.at(599), ask["c@x"]) == [False]

    def test_times_for_each_key(self, play):
        events = [Asked(c, "mail") for c in "aabbc"]
        assert self.per(play, "connection", *events, times=1) == [True, False, True, False, True]


class TestOver:
    def test_live_connections(self, play):
        book = play("smtp/too-many-connections", cap=2) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> Opened("c") << Send("421 …") << Close() >> Closed("c")
        book >> Closed("a") >> Opened("d") << Proceed() >> Opened("e") << Send("421 …") << Close()

    def test_a_transaction_without_a_stream_is_that_of_stream_0(self, play):
        book = play(document(rule("mail", per="sender", over=1, reply=NO))) >> Opened("a") << Proceed()
        book >> events.Asked("a", "mail", {"sender": "x@y.test"}) << Proceed() >> Ended("a", "mail", stream=0)
        book >> Opened("b") << Proceed() >> Asked("b", "mail", sender="x@y.test") << Proceed()

    def test_none_at_all(self, play):
        play(document(rule("connect", over=0, reply=BYE))) >> Opened("a") << Send(BYE) << Close()

    def test_who_was_refused_takes_no_place_even_if_it_stays(self, play):
        book = play(document(rule("connect", over=1, reply=BYE, close=False)))
        book >> Opened("a") << Proceed()
        book >> Opened("b") << Send(BYE) >> Closed("a") >> Opened("c") << Proceed()

    def test_another_rule_that_refuses_takes_no_place_either(self, play):
        rules = [rule("connect", where={"client": "10.*"}, reply="554 no"), rule("connect", over=1, reply=BYE)]
        book = play(document(*rules)) >> Opened("a", "10.0.0.1") << Send("554 no") >> Opened("b") << Proceed()
        book >> Opened("c") << Send(BYE) << Close()

    def test_a_fault_that_lets_through_takes_one(self, play):
        rules = [rule("connect", over=1, reply=BYE), rule("connect", delay="1s")]
        play(document(*rules)) >> Opened("a") << Wait(1.0) << Proceed() >> Opened("b") << Send(BYE) << Close()

    def test_a_stalled_client_is_not_in(self, play):
        rules = [rule("connect", over=1, reply=BYE), rule("connect", stall=True, nth=1)]
        book = play(document(*rules)) >> Opened("a") << Hang() >> Opened("b") << Proceed()
        book >> Opened("c") << Send(BYE) << Close()

    def test_a_place_is_free_as_soon_as_the_fake_decides_to_close(self, play):
        rules = [rule("connect", over=1, reply=BYE), rule("mail", reply=BYE, delay="9s")]
        book = (
            play(document(*rules))
            >> Opened("a")
            << Proceed()
            >> Asked("a", "mail")
            << Wait(9.0)
            << Send(BYE)
            << Close()
        )
        book >> Opened("b") << Proceed()

    def test_a_place_is_free_as_soon_as_the_client_leaves(self, play):
        book = play(document(rule("connect", over=1, reply=BYE))) >> Opened("a") << Proceed() >> Leaving("a")
        book >> Opened("b") << Proceed() >> Closed("a") >> Opened("c") << Send(BYE) << Close()

    def test_who_leaves_takes_no_new_place(self, play):
        book = play(document(rule("ehlo", over=1, reply=NO))) >> Opened("a") << Proceed() >> Leaving("a")
        book >> Asked("a", "ehlo") << Proceed() >> Opened("b") << Proceed() >> Asked("b", "ehlo") << Proceed()

    def test_at_another_moment_those_who_have_passed_there(self, play):
        book = play(document(rule("ehlo", over=1, reply=NO)))
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book >> Asked("b", "ehlo") << Proceed() >> Asked("a", "ehlo") << SORRY >> Closed("b")
        book >> Asked("c", "ehlo") << Proceed() >> Asked("a", "ehlo") << SORRY

    def test_who_is_in_is_not_turned_away_when_it_asks_again(self, play):
        book = play(document(rule("ehlo", over=1, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "ehlo") << Proceed() >> Asked("a", "ehlo") << Proceed()

    def test_where(self, play):
        book = play(document(rule("connect", where={"client": "10.*"}, over=1, reply=BYE)))
        book >> Opened("a", "10.0.0.1") << Proceed() >> Opened("b", "192.0.2.1") << Proceed()
        book >> Opened("c", "192.0.2.1") << Proceed() >> Opened("d", "10.0.0.2") << Send(BYE) << Close()

    def test_per_client(self, play):
        book = play("smtp/too-many-per-client", cap=1) >> Opened("a", "10.0.0.1") << Proceed()
        book >> Opened("b", "10.0.0.2") << Proceed() >> Opened("c", "10.0.0.1") << Send("421 …") << Close()
        book >> Closed("a") >> Opened("d", "10.0.0.1") << Proceed()

    def test_two_caps_at_once(self, play):
        rules = [rule("connect", per="client", over=1, reply="421 client"), rule("connect", over=2, reply="421 server")]
        book = play(document(*rules)) >> Opened("a", "10.0.0.1") << Proceed()
        book >> Opened("b", "10.0.0.1") << Send("421 client") << Close() >> Opened("c", "10.0.0.2") << Proceed()
        book >> Opened("d", "10.0.0.3") << Send("421 server") << Close()

    def test_at_mail_those_in_progress(self, play):
        book = play("smtp/microsoft-concurrency", cap=1)
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book >> Asked("a", "mail") << Proceed() >> Asked("b", "mail") << Send("432 …")
        book >> Ended("a", "mail") >> Asked("b", "mail") << Proceed() >> Asked("a", "mail") << Send("432 …")
        book >> Leaving("b") >> Asked("c", "mail") << Proceed() >> Closed("c") >> Asked("a", "mail") << Proceed()

    def test_one_that_is_in_progress_is_not_counted_against_itself(self, play):
        book = play(document(rule("mail", over=1, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Proceed() >> Asked("a", "mail") << Proceed()

    def test_places_of_connections_and_of_what_is_in_progress_do_not_mix(self, play):
        rules = [rule("mail", over=1, reply="450 mail"), rule("any", over=1, reply="450 any")]
        book = play(document(*rules)) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> Asked("a", "mail") << Proceed() >> Asked("b", "mail") << Send("450 mail")
        book >> Ended("a", "mail") >> Asked("b", "mail") << Send("450 any")
        book >> Closed("a") >> Asked("b", "mail") << Proceed()

    def test_it_does_not_restart_with_the_phase(self, play):
        busy = rule("connect", over=1, reply=BYE)
        book = play(document(phase(busy, lasts="10s"), phase(lasts="10s"), phase(busy))) >> Opened("a") << Proceed()
        book.at(15) >> Opened("b") << Proceed() >> Closed("b")
        book.at(25) >> Opened("c") << Send(BYE) << Close() >> Closed("a") >> Opened("d") << Proceed()

    def test_who_came_in_a_phase_without_the_rule_is_in_as_well(self, play):
        book = play(document(phase(lasts="10s"), phase(rule("connect", over=1, reply=BYE)))) >> Opened("a") << Proceed()
        book.at(20) >> Opened("b") << Send(BYE) << Close()


class TestWithin:
    def test_a_sliding_window(self, play):
        book = play("smtp/connection-rate", connections=2, window="60s")
        seen = []
        for n, now in enumerate((0, 30, 59, 60, 61, 90, 90)):
            seen += fired(book.at(now), Opened(f"{n}"))
        assert seen == [False, False, True, False, True, False, True]

    def test_it_counts_what_was_let_through_and_not_who_is_still_there(self, play):
        book = (
            play(document(rule("connect", over=1, within="60s", reply=BYE))) >> Opened("a") << Proceed() >> Closed("a")
        )
        book >> Opened("b") << Send(BYE) << Close()

    def test_per_key(self, play):
        book = play("smtp/gmail-daily-limit", messages=1)
        for conn, user in (("a", "ann"), ("b", "bob")):
            book >> Opened(conn) << Proceed() >> Known(conn, {"user": user})
        book >> Asked("a", "message") << Proceed() >> Asked("a", "message") << Send("550 …")
        book >> Asked("b", "message") << Proceed()
        book.at(86_400) >> Asked("a", "message") << Proceed()

    def test_it_does_not_restart_with_the_phase(self, play):
        limit = rule("mail", over=1, within="60s", reply=NO)
        book = play(document(phase(limit, lasts="10s"), phase(limit))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Proceed()
        book.at(20) >> Asked("a", "mail") << SORRY
        book.at(60) >> Asked("a", "mail") << Proceed()


class Cap(RuleBasedStateMachine):
    """Whatever comes in whatever order: never more than N are in, and nobody is refused while fewer are."""

    N = 3

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine(loads(document(rule("connect", over=self.N, reply=BYE), rule("mail", nth=7, reply=BYE))))
        self.live: dict[str, bool] = {}  # connection -> holds a place
        self.made = self.now = 0

    @property
    def inside(self) -> int:
        return sum(self.live.values())

    @step()
    def opens(self) -> None:
        self.made += 1
        before = self.inside
        (script,) = self.engine.feed(Opened(f"{self.made}", f"10.0.0.{self.made % 3}"), float(self.made))
        assert script.closes == (before >= self.N)
        self.live[f"{self.made}"] = not script.closes

    @precondition(lambda self: self.live)
    @step(data=st.data())
    def asks(self, data: st.DataObject) -> None:
        conn = data.draw(st.sampled_from(sorted(self.live)))
        scripts = self.engine.feed(Asked(conn, data.draw(st.sampled_from(["ehlo", "mail", "noop"]))), float(self.made))
        if any(script.closes for script in scripts):
            self.live[conn] = False

    @precondition(lambda self: self.live)
    @step(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        conn = data.draw(st.sampled_from(sorted(self.live)))
        self.engine.feed(Leaving(conn), float(self.made))
        self.live[conn] = False

    @precondition(lambda self: self.live)
    @step(data=st.data())
    def goes(self, data: st.DataObject) -> None:
        conn = data.draw(st.sampled_from(sorted(self.live)))
        self.engine.feed(Closed(conn), float(self.made))
        del self.live[conn]

    @invariant()
    def no_more_than_n(self) -> None:
        assert self.inside <= self.N


Cap.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCap = Cap.TestCase


class TestChance:
    COIN = document(rule("mail", chance="50%", reply=NO))

    def draws(self, play, scenario, n=200, conn="a", **given):
        book = play(scenario, **given) >> Opened(conn) << Proceed()
        return fired(book, *mails(n, conn))

    def test_the_same_seed_gives_the_same_faults(self, play):
        assert self.draws(play, self.COIN, seed=7) == self.draws(play, self.COIN, seed=7)

    def test_a_seed_that_was_written_down_gives_the_same_faults_in_another_version(self, play):
        assert "".join("NY"[hit] for hit in self.draws(play, self.COIN, 16, seed=7)) == "YNYNYYYYNNYYYYYN"

    def test_another_seed_others(self, play):
        assert self.draws(play, self.COIN, seed=7) != self.draws(play, self.COIN, seed=8)

    def test_another_connection_others(self, play):
        book = play(self.COIN) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        assert fired(book, *mails(200, "a")) != fired(book, *mails(200, "b"))

    def test_another_event_others(self, play):
        assert len(set(self.draws(play, self.COIN))) == 2

    def test_it_is_the_number_of_the_connection_that_decides_and_not_its_name(self, play):
        assert self.draws(play, self.COIN, conn="a") == self.draws(play, self.COIN, conn="z")

    @pytest.mark.parametrize(("chance", "share"), [("20%", 0.2), ("50%", 0.5), ("90%", 0.9), ("0%", 0), ("100%", 1)])
    def test_the_share_is_right(self, play, chance, share):
        hits = sum(self.draws(play, document(rule("mail", chance=chance, reply=NO)), 10_000))
        assert hits == pytest.approx(share * 10_000, abs=150 if 0 < share < 1 else 0)

    def test_another_rule_does_not_change_the_draws_of_this_one(self, play):
        coin = rule("mail", chance="50%", reply=NO)
        others = [
            rule("mail", chance="50%", where={"sender": "nobody@*"}, reply="450 x"),
            rule("mail", chance="0%", per="client", reply="450 x"),
            rule("idle", after="1h", reply=NO),
            rule("enter", reply="450 hello"),
            rule("error", chance="50%", reply="450 sorry"),
        ]
        alone = self.draws(play, document(coin))
        for other in others:
            assert self.draws(play, document(other, coin)) == alone
        assert self.draws(play, document(coin, rule("mail", chance="0%", reply="450 x"))) == alone

    def test_two_rules_alike_draw_apart(self, play):
        coins = [rule("mail", chance="50%", reply=NO), rule("mail", chance="50%", reply=NO)]
        hits = sum(self.draws(play, document(*coins), 10_000))
        assert hits == pytest.approx(7_500, abs=150)

    def test_another_lap_draws_anew(self, play):
        scenario = document(phase(rule("mail", chance="50%", reply=NO), lasts="10s"), repeat=True)
        book = play(scenario) >> Opened("a") << Proceed()
        assert fired(book, *mails(200)) != fired(book.at(10), *mails(200))

    def test_play_starts_chance_anew(self, play):
        book = play(self.COIN) >> Opened("a") << Proceed()
        before = fired(book, *mails(200))
        book.play(self.COIN)
        assert fired(book, *mails(200)) == before
