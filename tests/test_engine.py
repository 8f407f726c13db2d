"""The engine, by playbooks: which rule acts, and what it does. Events in, scripts out, no sockets and no clock."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate
from typing import ClassVar, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from notnow.engine import actions, events
from notnow.engine.actions import BEHAVE
from notnow.engine.engine import _ANSWERED, Engine
from notnow.engine.unanswered import UNANSWERED
from notnow.language.loading import loads
from playbook import (
    BYE,
    NO,
    SILENT,
    SORRY,
    Alert,
    Answered,
    Asked,
    Certify,
    Close,
    Closed,
    Ended,
    Hang,
    Heard,
    Hello,
    Known,
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


class TestPlaybook:
    def test_a_mismatch_prints_both_scripts(self):
        with pytest.raises(AssertionError) as caught, playing() as play:
            play(document(rule("connect", reply=BYE))) >> Opened("a") << Proceed()
        assert "+   a: Send(lines=('421 4.3.2 bye',), drip=0.0)" in str(caught.value)
        assert "-   a: Proceed(instead=None, drip=0.0)" in str(caught.value)

    def test_what_nobody_expected_fails_too(self):
        with pytest.raises(AssertionError, match=r"\+ +a: Close"), playing() as play:
            play(document(rule("connect", reply=BYE))) >> Opened("a") << Send(BYE)


def test_the_engine_carries_out_every_event():
    assert {*_ANSWERED, *UNANSWERED, events.Opened, events.Tick} == set(get_args(events.Event))


class TestFaults:
    def test_nothing_wrong(self, play):
        book = play("smtp/healthy") >> Opened("a") << Proceed()
        book >> Asked("a", "ehlo") << Proceed() >> Asked("a", "mail") << Proceed() >> Leaving("a") >> Closed("a")

    def test_a_421_closes(self, play):
        play("smtp/overload") >> Opened("a") << Send("421 …") << Close()

    @pytest.mark.parametrize(
        ("keys", "proceeds", "closes"),
        [
            ({"delay": "1s"}, True, False),
            ({"reply": NO}, False, False),
            ({"reply": "250 ok", "close": True}, True, True),
            ({"reply": BYE}, False, True),
        ],
    )
    def test_a_script_knows_whether_the_command_takes_effect_and_the_connection_ends(
        self, play, keys, proceeds, closes
    ):
        book = play(document(rule("mail", **keys))) >> Opened("a") << Proceed() >> Asked("a", "mail")
        (script,) = book.skip().scripts
        assert (script.proceeds, script.closes) == (proceeds, closes)

    def test_an_answer_does_not_drip_by_itself(self, play):
        book = play(document(rule("request", status=503), protocol="http")) >> Opened("a") << Proceed()
        book >> Asked("a", "request") << actions.Respond(actions.Response(503), drip=0.0)

    @pytest.mark.parametrize(("status", "proceeds"), [(399, True), (400, False)])
    def test_a_request_takes_effect_below_400(self, play, status, proceeds):
        book = play(document(rule("request", status=status), protocol="http")) >> Opened("a") << Proceed()
        book >> Asked("a", "request")
        assert [script.proceeds for script in book.skip().scripts] == [proceeds]

    def test_no_other_refusal_does(self, play):
        (
            play(document(rule("mail", reply="550 5.7.1 no")))
            >> Opened("a")
            << Proceed()
            >> Asked("a", "mail")
            << Send("550 5.7.1 no")
            >> Asked("a", "mail")
            << Send("550 5.7.1 no")
        )

    @pytest.mark.parametrize(("close", "how"), [(True, "fin"), ("reset", "reset"), ("abrupt", "abrupt")])
    def test_ways_to_close(self, play, close, how):
        play(document(rule("connect", close=close))) >> Opened("a") << Close(how)
        play(document(rule("connect", reply=NO, close=close))) >> Opened("a") << SORRY << Close(how)

    def test_a_421_that_stays_open(self, play):
        book = play(document(rule("mail", reply=BYE, close=False))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Send(BYE) >> Asked("a", "noop") << Proceed()

    def test_a_bare_421_and_one_of_several_lines_close(self, play):
        play(document(rule("connect", reply="421"))) >> Opened("a") << Send("421") << Close()
        lines = ["421-so", "421 long"]
        play(document(rule("connect", reply=lines))) >> Opened("a") << Send(*lines) << Close()

    def test_the_421_of_two_replies_closes(self, play):
        lines = ["250 ok", "421 bye"]
        book = play(document(rule("message", reply=lines))) >> Opened("a") << Proceed()
        book >> Asked("a", "message") << Proceed(*lines) << Close()

    def test_a_text_that_has_421_in_it_does_not(self, play):
        book = play(document(rule("mail", reply="450 421 is not what this is"))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Send("450 421 is not what this is")

    @pytest.mark.parametrize("reply", ["250 2.0.0 fine", "354 go on"])
    def test_a_2yz_or_3yz_takes_effect(self, play, reply):
        book = play(document(rule("message", reply=reply))) >> Opened("a") << Proceed()
        book >> Asked("a", "message") << Proceed(reply)

    @pytest.mark.parametrize("reply", ["421 no", "550 no"])
    def test_keep_makes_a_refusal_take_effect(self, play, reply):
        book = play(document(rule("message", reply=reply, keep=True, close=False))) >> Opened("a") << Proceed()
        book >> Asked("a", "message") << Proceed(reply)

    def test_keep_false_takes_the_effect_from_a_250(self, play):
        book = play(document(rule("message", reply="250 ok", keep=False))) >> Opened("a") << Proceed()
        book >> Asked("a", "message") << Send("250 ok")

    def test_kept_and_closed_without_a_word(self, play):
        book = play(document(rule("message", close=True, keep=True))) >> Opened("a") << Proceed()
        book >> Asked("a", "message") << SILENT << Close()

    def test_a_2yz_that_closes(self, play):
        book = play(document(rule("mail", reply="250 ok", close=True))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Proceed("250 ok") << Close()

    def test_delay_and_drip_go_with_the_healthy_answer(self, play):
        book = play(document(rule("mail", delay="2s", drip="50ms"))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Wait(2.0) << Proceed(drip=0.05)

    def test_delay_and_drip_go_with_a_reply(self, play):
        scenario = document(rule("connect", delay="2s", drip="1s", reply=BYE))
        play(scenario) >> Opened("a") << Wait(2.0) << Send(BYE, drip=1.0) << Close()

    def test_no_delay_is_no_step(self, play):
        play(document(rule("connect", delay="0s", reply=BYE))) >> Opened("a") << Send(BYE) << Close()

    def test_a_stall_hangs_and_stays_open(self, play):
        book = play(document(rule("mail", stall=True))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Hang()

    def test_a_fault_by_its_name(self, play):
        scenario = document(rule("connect", fault="x"), fault={"x": {"reply": BYE}})
        book = play(scenario) >> Opened("a") << Send(BYE) << Close()
        assert (book.scripts[0].rule, book.scripts[0].fault) == ("phase[0].rule[0]", "x")

    def test_what_the_rule_says_itself_goes_first(self, play):
        scenario = document(rule("connect", fault="x", close=False), fault={"x": {"reply": BYE, "delay": "1s"}})
        play(scenario) >> Opened("a") << Wait(1.0) << Send(BYE)

    def test_a_fault_without_a_name_is_called_by_its_keys(self, play):
        book = (
            play(document(rule("connect", reply=BYE, delay="1s"))) >> Opened("a") << Wait(1.0) << Send(BYE) << Close()
        )
        assert book.scripts[0].fault == "reply+delay"

    def test_the_script_of_a_healthy_answer_names_no_rule(self, play):
        book = play("smtp/healthy") >> Opened("a") << Proceed()
        (script,) = book.scripts
        assert (script.rule, script.fault, script.phase, script.moment) == (None, None, "healthy", "connect")


class TestHandshake:
    FILE: ClassVar = {"certificate": {"right": {}, "wrong": {"names": ["other.test"]}}, "server": {"tls": "starttls"}}

    def test_a_certificate(self, play):
        book = play(document(rule("tls", certificate="wrong"), **self.FILE)) >> Opened("a") << Proceed()
        book >> Hello("a", "x.test") << Certify("wrong") << Proceed()

    def test_an_alert(self, play):
        scenario = document(rule("tls", where={"sni": "none"}, alert="unrecognized_name"))
        book = play(scenario) >> Opened("a") << Proceed() >> Hello("a", None) << Alert("unrecognized_name")
        book >> Opened("b") << Proceed() >> Hello("b", "x.test") << Proceed()

    def test_a_close(self, play):
        play(document(rule("tls", close=True))) >> Opened("a") << Proceed() >> Hello("a", None) << Close()

    def test_tls_and_sni_are_known_from_then_on(self, play):
        where = {"tls": True, "sni": "*.test"}
        book = play(document(rule("mail", where=where, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Proceed() >> Hello("a", "x.test") << Proceed() >> Asked("a", "mail") << SORRY

    def test_a_connection_refused_before_its_handshake_still_gets_one(self, play):
        scenario = document(rule("connect", reply=BYE), rule("tls", certificate="wrong"), **self.FILE)
        book = play(scenario) >> Opened("a") << Send(BYE) << Close()
        book >> Hello("a", None) << Certify("wrong") << Proceed() >> Asked("a", "ehlo")


class TestBody:
    def test_by_default_after_the_first_byte(self, play):
        book = play(document(rule("body", reply=BYE))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(1) << Proceed() >> Reached("a") << Send(BYE) << Close()

    def test_after_bytes(self, play):
        book = play(document(rule("body", reply=NO, after_bytes=1000))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(1000) << Proceed() >> Reached("a") << SORRY >> Reached("a")

    def test_never_if_it_ends_sooner(self, play):
        book = play(document(rule("body", reply=BYE, after_bytes=1000))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(1000) << Proceed() >> Ended("a", "mail") >> Reached("a")

    def test_decided_at_the_start_even_if_the_phase_ends_before_its_byte(self, play):
        one = phase(rule("body", reply=BYE, after_bytes=9), name="one", lasts="10s")
        book = play(document(one, phase(name="two"))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(9) << Proceed()
        book.at(20) >> Reached("a") << Send(BYE) << Close()
        assert (book.scripts[0].phase, book.scripts[0].rule) == ("one", "phase[0].rule[0]")

    def test_a_stall_in_the_middle(self, play):
        book = play(document(rule("body", stall=True, after_bytes=5))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(5) << Proceed() >> Reached("a") << Hang()

    def test_a_delay_alone_comes_before_the_body_is_read(self, play):
        book = play(document(rule("body", delay="3s"))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Wait(3.0) << Proceed()

    def test_a_reply_in_the_middle_is_just_said_whatever_its_code(self, play):
        book = play(document(rule("body", reply="250 too soon"))) >> Opened("a") << Proceed()
        book >> Asked("a", "body") << Watch(1) << Proceed() >> Reached("a") << Send("250 too soon")

    def test_a_rule_for_a_command_and_the_body_waits_only_in_the_body(self, play):
        book = play(document(rule(["data", "body"], reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "data") << SORRY
        book >> Asked("a", "body") << Watch(1) << Proceed() >> Reached("a") << SORRY


class TestRules:
    def test_the_first_that_matches_wins(self, play):
        book = (
            play(document(rule("mail", reply="450 first"), rule("mail", reply="451 second")))
            >> Opened("a")
            << Proceed()
        )
        book >> Asked("a", "mail") << Send("450 first")
        assert book.scripts[0].rule == "phase[0].rule[0]"

    def test_in_the_order_of_the_file_however_they_count(self, play):
        rules = [
            rule("mail", where={"sender": "no*"}, reply="450 0"),
            rule("mail", nth=1, reply="450 1"),
            rule("mail", where={"sender": "*"}, nth=2, reply="450 2"),
            rule("mail", nth=3, per="client", reply="450 3"),
            rule("mail", reply="450 4"),
        ]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        for n in (1, 2, 3, 4):
            book >> Asked("a", "mail", sender="yes@x.test") << Send(f"450 {n}")
        book >> Asked("a", "mail", sender="no@x.test") << Send("450 0")

    def test_every_rule_counts_whichever_wins(self, play):
        rules = [rule("mail", where={"sender": "a@*"}, reply="450 0"), rule("mail", nth=3, reply="450 third")]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        for _ in range(2):
            book >> Asked("a", "mail", sender="a@x.test") << Send("450 0")
        book >> Asked("a", "mail", sender="b@x.test") << Send("450 third")

    def test_a_rule_without_a_fault_is_an_exception(self, play):
        rules = [rule("rcpt", where={"recipient": "postmaster@*"}), rule("rcpt", reply=NO)]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        book >> Asked("a", "rcpt", recipient="postmaster@x.test") << Proceed()
        assert (book.scripts[0].rule, book.scripts[0].fault) == ("phase[0].rule[0]", None)
        book >> Asked("a", "rcpt", recipient="b@x.test") << SORRY

    def test_on_a_list(self, play):
        book = play(document(rule(["mail", "data"], reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << SORRY >> Asked("a", "rcpt") << Proceed() >> Asked("a", "data") << SORRY

    def test_any_covers_every_command_and_the_unknown_ones(self, play):
        book = play(document(rule("any", reply=NO))) >> Opened("a") << Proceed()
        for moment in ("ehlo", "starttls", "auth", "mail", "rcpt", "data", "rset", "noop", "quit", "unknown", "vrfy"):
            book >> Asked("a", moment) << SORRY
        for moment in ("body", "message"):
            book >> Asked("a", moment) << Proceed()
        book >> Hello("a", None) << Proceed()

    def test_rules_for_any_and_for_one_command_go_by_their_order(self, play):
        book = play(document(rule("noop"), rule("any", reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "noop") << Proceed() >> Asked("a", "rset") << SORRY

    def test_a_rule_without_conditions_always_fires(self, play):
        book = play(document(rule("mail", reply=NO))) >> Opened("a") << Proceed()
        assert fired(book, *mails(5)) == [True] * 5


class TestWhere:
    @pytest.mark.parametrize(
        ("wanted", "sender", "matches"),
        [
            ("*@x.test", "a@x.test", True),
            ("*@x.test", "a@y.test", False),
            ("A@X.test", "a@x.TEST", True),
            ("", "", True),
            ("none", "", False),
            ("none", None, True),
            ("*", None, False),
            (["a@*", "b@*"], "b@x.test", True),
            (["a@*", "b@*"], "c@x.test", False),
            (["a@*", "none"], None, True),
        ],
    )
    def test_a_fact(self, play, wanted, sender, matches):
        book = play(document(rule("mail", where={"sender": wanted}, reply=NO))) >> Opened("a") << Proceed()
        assert fired(book, Asked("a", "mail", sender=sender)) == [matches]

    def test_all_must_match(self, play):
        where = {"sender": "a@*", "recipient": "b@*"}
        book = play(document(rule("rcpt", where=where, reply=NO))) >> Opened("a") << Proceed()
        events = [
            Asked("a", "rcpt", sender=s, recipient=r) for s, r in (("a@x", "b@x"), ("a@x", "c@x"), ("c@x", "b@x"))
        ]
        assert fired(book, *events) == [True, False, False]

    def test_one_of_several_values_is_enough(self, play):
        book = play(document(rule("message", where={"recipient": "b@*"}, reply=NO))) >> Opened("a") << Proceed()
        assert fired(
            book, Asked("a", "message", recipient=("a@x", "b@x")), Asked("a", "message", recipient=("a@x",))
        ) == [
            True,
            False,
        ]

    def test_a_number(self, play):
        book = play(document(rule("mail", where={"size": [10, 20]}, reply=NO))) >> Opened("a") << Proceed()
        assert fired(book, *(Asked("a", "mail", size=n) for n in (10, 15, 20, None))) == [True, False, True, False]

    def test_a_header(self, play):
        where = {"header": {"Subject": "*sale*", "dkim-signature": "none"}}
        book = play(document(rule("message", where=where, reply=NO))) >> Opened("a") << Proceed()
        signed = {"subject": "Big SALE", "dkim-signature": "v=1"}
        events = [Asked("a", "message", header=h) for h in ({"subject": "Big SALE"}, signed, {"subject": "hello"}, {})]
        assert fired(book, *events) == [True, False, False, False]

    def test_the_client(self, play):
        book = play(document(rule("connect", where={"client": "10.*"}, reply=BYE)))
        book >> Opened("a", "10.0.0.1") << Send(BYE) << Close() >> Opened("b", "192.0.2.1") << Proceed()

    def test_a_user_is_known_once_logged_in(self, play):
        book = play(document(rule("mail", where={"user": "ann"}, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "auth", user="ann") << Proceed() >> Asked("a", "mail") << Proceed()
        book >> Known("a", {"user": "ann"}) >> Asked("a", "mail") << SORRY
        (
            book
            >> Known("a", {"user": None})
            >> Asked("a", "mail")
            << Proceed()
            >> Opened("b")
            << Proceed()
            >> Asked("b", "mail")
            << Proceed()
        )

    def test_whose_login_was_refused_is_nobody(self, play):
        rules = [rule("auth", where={"user": "ann"}, reply="535 no"), rule("mail", where={"user": "ann"}, reply=NO)]
        book = play(document(*rules)) >> Opened("a") << Proceed()
        book >> Asked("a", "auth", user="ann") << Send("535 no") >> Asked("a", "mail") << Proceed()

    def test_the_command_of_an_error(self, play):
        book = play(document(rule("error", where={"command": "RCPT"}, reply=BYE))) >> Opened("a") << Proceed()
        book >> Answered("a", 550, "MAIL") >> Answered("a", 550, "RCPT") << Send(BYE) << Close()


class TestPlaceholders:
    def said(self, play, reply, now=0.0, epoch=0.0, port=0, **keys):
        scenario = document(phase(rule("connect", reply=reply, close=False, **keys), lasts="90s"), phase())
        book = play(scenario, epoch=epoch, port=port).at(10) >> Opened("a", "10.0.0.1")
        book.skip()
        book.at(10 + now) >> Opened("b", "10.0.0.2")
        book.skip()
        return book.scripts[0].steps[0].lines

    def test_host_client_and_port(self, play):
        assert self.said(play, "421 {host} {client} {port}", port=2525) == ("421 fake.notnow.test 10.0.0.2 2525",)

    @pytest.mark.parametrize(
        ("keys", "limit"),
        [({"over": 0}, "0"), ({"after": 1}, "1"), ({"first": 9}, "9"), ({"nth": 2}, "2"), ({"first": "5m"}, "300")],
    )
    def test_limit_is_the_number_of_the_rule(self, play, keys, limit):
        assert self.said(play, "421 {limit}", **keys) == (f"421 {limit}",)

    @pytest.mark.parametrize("body", [None, "wait {left.seconds} s"])
    def test_in_the_headers_and_the_body_of_a_response(self, play, body):
        keys = {"status": 503, "headers": {"retry-after": "{left.seconds}"}, **({"body": body} if body else {})}
        scenario = document(phase(rule("request", **keys), lasts="90s"), phase(), protocol="http")
        book = play(scenario).at(10) >> Opened("a") << Proceed()
        response = actions.Response(503, (("retry-after", "90"),), body and "wait 90 s")
        book >> Asked("a", "request") << actions.Respond(response)

    def test_left(self, play):
        assert self.said(play, ["421-{left.seconds}", "421 x"], now=0) == ("421-90", "421 x")
        assert self.said(play, "421 {left.seconds}", now=30.5) == ("421 60",)
        date = formatdate(1_700_000_100.0, usegmt=True)
        assert self.said(play, "421 {left.date}", now=30, epoch=1_700_000_000.0) == (f"421 {date}",)

    @pytest.mark.parametrize(
        ("unit", "said"),
        [
            ("seconds", "60"),
            ("ms", "59500"),
            ("epoch", "1700000100"),
            ("date", formatdate(1_700_000_100.0, usegmt=True)),
        ],
    )
    def test_a_time_is_told_in_each_unit_and_never_too_short(self, play, unit, said):
        assert self.said(play, f"421 {{left.{unit}}}", now=30.5, epoch=1_700_000_000.0) == (f"421 {said}",)

    def test_left_in_enter_is_that_of_the_new_phase(self, play):
        shut = phase(rule("enter", reply="421 back in {left.seconds}"), lasts="30s")
        book = play(document(phase(lasts="10s"), shut, phase())) >> Opened("a") << Proceed()
        book.at(10) >> Tick() << To("a", Send("421 back in 30"), Close())

    def test_braces(self, play):
        assert self.said(play, "421 {{host}} {{{client}}}") == ("421 {host} {10.0.0.2}",)

    def test_in_a_reply_that_takes_effect(self, play):
        book = play("smtp/maintenance", warning="10s") >> Opened("a")
        book << Proceed("220 fake.notnow.test ESMTP going down for maintenance in 10 seconds")

    def test_the_value_of_a_knob_is_no_template(self, play):
        params = {"text": "{host} }{", "line": "421 {client}"}
        embedded = document(rule("connect", reply="421 {text} {host}"), params={"text": "x"})
        play(embedded, text=params["text"]) >> Opened("a") << Send("421 {host} }{ fake.notnow.test") << Close()
        alone = document(rule("connect", reply="{line}"), params={"line": "421 x"})
        play(alone, line=params["line"]) >> Opened("a") << Send("421 {client}") << Close()

    def test_a_knob_in_seconds(self, play):
        scenario = document(rule("connect", reply="421 {outage.seconds} {outage}"), params={"outage": "30s"})
        play(scenario, outage="2m") >> Opened("a") << Send("421 120 2m") << Close()


class TestAfterAClose:
    def test_nothing_more_is_said(self, play):
        scenario = document(
            phase(
                rule("connect", reply=BYE), rule("any", reply=NO), rule("idle", after="1s", reply=NO),
                rule("error", reply=NO), lasts="10s",
            ),
            phase(rule("enter", reply=NO)),
        )  # fmt: skip
        book = play(scenario) >> Opened("a") << Send(BYE) << Close()
        book >> Asked("a", "ehlo") >> Answered("a", 500) >> Reached("a") >> Heard("a") >> Ended("a", "mail")
        book.at(5) >> Tick()
        book.at(20) >> Tick()
        book.next_phase()
        book.play(scenario) >> Leaving("a") >> Closed("a")

    def test_not_even_what_waited_for_its_byte(self, play):
        rules = [rule("body", reply=NO, after_bytes=9), rule("error", reply=BYE)]
        book = play(document(*rules)) >> Opened("a") << Proceed() >> Asked("a", "body") << Watch(9) << Proceed()
        book >> Answered("a", 550) << Send(BYE) << Close() >> Reached("a")

    def test_nor_to_whom_it_does_not_know(self, play):
        book = play("smtp/healthy")
        for event in (Asked("x", "mail"), Hello("x", None), Answered("x", 500), Reached("x"), Heard("x"), Leaving("x")):
            book >> event
        book >> Ended("x", "mail") >> Closed("x")

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_whatever_happens(self, data):
        """Any events in any order: an engine that has closed a connection says no more there."""
        rules = [
            rule("connect", chance="30%", reply=BYE), rule("any", chance="20%", reply=BYE), rule("error", reply=BYE),
            rule("idle", after="5s", close=True), rule("enter", chance="50%", reply=BYE), rule("body", reply=BYE),
        ]  # fmt: skip
        engine = Engine(loads(document(phase(*rules, lasts="7s"), phase(*rules, until={"any": 3}), repeat=True)))
        closed, now = set(), 0.0
        for n in range(data.draw(st.integers(1, 40))):
            now += data.draw(st.sampled_from([0.0, 1.0, 4.0]))
            conn = f"{data.draw(st.integers(0, n // 3))}"
            made = [Asked(conn, "mail"), Asked(conn, "body"), Reached(conn), Answered(conn, 550), Tick(), Leaving(conn)]
            event = data.draw(st.sampled_from([Opened(f"{n}"), *made]))
            for script in engine.feed(event, now):
                assert script.conn not in closed
                if script.closes:
                    closed.add(script.conn)


def test_nor_does_the_fake_behave_on_a_connection_that_it_closes():
    engine = Engine(loads(document(rule("mail", reply=BYE))))
    engine.feed(Opened("a"), 0.0)
    assert engine.behaves("a", "noop", {}, 1.0)
    assert not engine.behaves("a", "mail", {}, 2.0)
    engine.feed(Asked("a", "mail"), 2.0)
    assert not engine.behaves("a", "noop", {}, 3.0)


UNDECIDED = loads(
    document(
        phase(rule("mail", over=1, per="sender", reply=NO), rule("error", reply="421 {client}"), lasts="7s"),
        phase(rule("idle", after="5s", reply=BYE), rule("noop", nth=2, reply=NO), until={"rset": 2}),
        phase(lasts="3s"),
        phase(rule("any", where={"sender": "1"}, reply=NO), lasts="5s"),
        repeat=True,
    )
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_asks_for_no_script_needs_none(data):
    """Any events in any order: an engine that is asked first whether it behaves, or takes an event in without a word, does and
    remembers the same as another one.
    """
    asked, fed = Engine(UNDECIDED), Engine(UNDECIDED)
    now = 0.0
    for conn in "abc":
        assert asked.feed(Opened(conn), now) == fed.feed(Opened(conn), now)
    for n in range(data.draw(st.integers(1, 30))):
        now += data.draw(st.sampled_from([0.0, 1.0, 4.0]))
        conn = data.draw(st.sampled_from("abcx"))
        moments = ("ehlo", "mail", "mail", "noop", "rset", "body", "xclient")
        made = [
            *(Asked(conn, moment, sender=f"{n % 2}") for moment in moments),
            Answered(conn, 550),
            Heard(conn),
            Tick(),
        ]
        known = [Known(conn, {"user": "ann"}), Known(conn, {"user": None})]
        event = data.draw(st.sampled_from([*made, *known, Leaving(conn), Ended(conn, "mail"), Closed(conn)]))
        scripts = fed.feed(event, now)
        if isinstance(event, events.Asked) and asked.behaves(conn, event.moment, event.facts, now):
            assert [(s.conn, s.steps, s.moment, s.decision) for s in scripts] == [(conn, BEHAVE, event.moment, 0)]
        elif asked.absorbs(event, now):
            assert not scripts
        else:
            assert asked.feed(event, now) == scripts
        for one, other in zip(asked._connections.values(), fed._connections.values(), strict=True):
            assert structs.asdict(one) == structs.asdict(other)
        assert asked.due == fed.due
    assert asked.play(UNDECIDED, now) == fed.play(UNDECIDED, now)


@pytest.mark.parametrize(
    ("keys", "steps"),
    [
        ({"goaway": {}}, [actions.GoAway("NO_ERROR", "current", closes=True)]),
        ({"goaway": {}, "close": False}, [actions.GoAway("NO_ERROR", "current", closes=False)]),
        ({"goaway": {"code": "CANCEL", "last": 5}}, [actions.GoAway("CANCEL", 5, closes=True)]),
        (
            {"altsvc": 'h2=":1"', "origin": ["https://a.test"], "goaway": {}},
            [
                actions.AltSvc('h2=":1"'),
                actions.Origin(("https://a.test",)),
                actions.GoAway("NO_ERROR", "current", closes=True),
            ],
        ),
    ],
)
def test_frames_go_before_an_answer(play, keys, steps):
    book = play(document(rule("request", **keys), protocol="http")) >> Opened("a") << Proceed()
    book >> Asked("a", "request", stream=1)
    for step in [*steps, Proceed()]:
        book << step
