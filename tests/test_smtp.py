"""FakeSMTP over real sockets: every moment acts, every fault is what it says, and healthy means healthy."""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from notnow import FakeSMTP, ManualClock, protocols
from notnow.journal import CertificateRejected
from smtp_client import MESSAGE, Raw, one, plain, rules, then, trusting

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 4.3.2 Not now, says the test"


def _greeted(raw: Raw) -> None:
    assert raw.reply().startswith("220")


def _after_ehlo(raw: Raw, *lines: str) -> None:
    raw.hello()
    for line in lines:
        assert raw.say(line)[0] in "23", line


MAIL, RCPT = "MAIL FROM:<a@client.test>", "RCPT TO:<b@server.test>"

# How a client comes to each moment: what it does before, and what it says there.
REACH: dict[str, tuple[Callable[[Raw], None], bytes]] = {
    "connect": (lambda raw: None, b""),
    "ehlo": (_greeted, b"EHLO client.test\r\n"),
    "starttls": (_after_ehlo, b"STARTTLS\r\n"),
    "auth": (_after_ehlo, f"AUTH PLAIN {plain('user', 'word')}\r\n".encode()),
    "mail": (_after_ehlo, f"{MAIL}\r\n".encode()),
    "rcpt": (lambda raw: _after_ehlo(raw, MAIL), f"{RCPT}\r\n".encode()),
    "data": (lambda raw: _after_ehlo(raw, MAIL, RCPT), b"DATA\r\n"),
    "body": (lambda raw: _after_ehlo(raw, MAIL, RCPT, "DATA"), b"Subject: half a mess"),
    "message": (lambda raw: _after_ehlo(raw, MAIL, RCPT, "DATA"), MESSAGE + b".\r\n"),
    "rset": (_after_ehlo, b"RSET\r\n"),
    "noop": (_after_ehlo, b"NOOP\r\n"),
    "quit": (_after_ehlo, b"QUIT\r\n"),
    "any": (_after_ehlo, b"VRFY somebody\r\n"),
}
HEALTHY = {
    "connect": "220", "ehlo": "250", "starttls": "220", "auth": "235", "mail": "250", "rcpt": "250", "data": "354",
    "message": "250", "rset": "250", "noop": "250", "quit": "221", "any": "252",
}  # fmt: skip
everywhere = pytest.mark.parametrize("moment", REACH)
with_a_reply = pytest.mark.parametrize("moment", HEALTHY)


def only(moment: str, **fault: object) -> FakeSMTP:
    """A fake with one rule, and a clock that stands still. `any` would act on EHLO already."""
    on = one("any", where={"command": "VRFY"}, **fault) if moment == "any" else one(moment, **fault)
    return FakeSMTP(rules(on), tls="starttls", clock=ManualClock())


def reach(fake: FakeSMTP, moment: str) -> Raw:
    before, line = REACH[moment]
    raw = Raw(fake)
    try:
        before(raw)
        raw.send(line)
    except OSError:  # a reset that came soon
        raw.close()
        raise
    return raw


def the_exchange(fake: FakeSMTP, fault: str):
    (exchange,) = [x for x in fake.journal if x.fault == fault]
    assert exchange.rule == "phase[0].rule[0]"
    return exchange


def test_the_table_of_moments_is_all_acted_on():
    elsewhere = {"tls", "enter", "error", "idle"}
    assert set(REACH) | elsewhere == set(protocols.get("smtp").moments)


class TestEveryMoment:
    """Each fault, at each moment that can have it."""

    @everywhere
    def test_a_421_is_said_in_these_words_and_closes(self, moment):
        with only(moment, reply=NO) as fake, reach(fake, moment) as raw:
            assert raw.until_end() == f"{NO}\r\n"
            exchange = the_exchange(fake, "reply")
            assert (exchange.reply, exchange.code, exchange.closed) == (NO, 421, True)
            assert exchange.connection.ended_by == "fake"

    @everywhere
    def test_a_451_leaves_the_connection_open(self, moment):
        with only(moment, reply="451 4.3.0 later") as fake, reach(fake, moment) as raw:
            assert raw.reply() == "451 4.3.0 later"
            if moment in ("body",):
                raw.send(b"age\r\n.\r\n")
            assert raw.say("NOOP")[:3] == ("451" if moment == "noop" else "250")
            assert not the_exchange_of(fake, moment).closed

    @everywhere
    def test_a_close_says_nothing(self, moment):
        with only(moment, close=True) as fake, reach(fake, moment) as raw:
            assert raw.until_end() == ""
            exchange = the_exchange(fake, "close")
            assert (exchange.reply, exchange.closed) == (None, True)

    @everywhere
    def test_a_reset_is_one(self, moment):
        with only(moment, close="reset") as fake:
            with pytest.raises(ConnectionResetError), reach(fake, moment) as raw:
                raw.until_end()
            assert the_exchange(fake, "close").closed

    @everywhere
    def test_an_abrupt_close(self, moment):
        with only(moment, close="abrupt") as fake, reach(fake, moment) as raw:
            assert raw.until_end() == ""
            assert the_exchange(fake, "close").closed

    @everywhere
    def test_a_421_that_does_not_close(self, moment):
        with only(moment, reply=NO, close=False) as fake, reach(fake, moment) as raw:
            assert raw.reply() == NO
            if moment == "body":
                raw.send(b"age\r\n.\r\n")
            assert raw.say("RSET")[:3] in ("421" if moment == "rset" else "250")
            assert not the_exchange_of(fake, moment).closed

    @everywhere
    def test_a_stalled_answer_never_comes_and_the_fake_serves_others(self, moment):
        with only(moment, stall=True) as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "stall" for x in j))
            fake.clock.advance("30d")
            assert raw.silent()
            assert the_exchange(fake, "stall").reply is None
            raw.close()
            fake.wait_for(lambda j: j.connections[0].ended_by == "client")
            fake.play("smtp/healthy")
            with Raw(fake) as another:
                assert another.hello().deliver().startswith("250")

    @with_a_reply
    def test_a_delay_is_scenario_time(self, moment):
        with only(moment, delay="10s") as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "delay" for x in j))
            fake.clock.advance("9s")
            assert raw.silent()
            fake.clock.advance("1s")
            assert raw.reply()[:3] == HEALTHY[moment]
            exchange = the_exchange(fake, "delay")
            assert exchange.answered_at == pytest.approx(exchange.at + 10)

    @with_a_reply
    def test_a_drip_sends_byte_by_byte(self, moment):
        with only(moment, drip="1s") as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "drip" for x in j))
            fake.settle()
            for so_far in range(1, 4):
                assert raw.sock.recv(100) == HEALTHY[moment][so_far - 1].encode()
                assert raw.silent()
                fake.clock.advance("1s")
            fake.clock.advance("1h")
            assert raw.reply()
            exchange = the_exchange(fake, "drip")
            assert exchange.answered_at - exchange.at == len(exchange.reply.replace("\n", "\r\n")) + 1

    @everywhere
    def test_delay_drip_and_reply_go_together(self, moment):
        with only(moment, reply=NO, delay="10s", drip="1s") as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "reply+delay+drip" for x in j))
            fake.clock.advance("10s")
            assert raw.sock.recv(100) == b"4"
            fake.clock.advance("3s")
            assert raw.sock.recv(100) == b"21 "
            fake.clock.advance("1h")
            assert raw.until_end() == f"{NO[4:]}\r\n"

    @with_a_reply
    def test_another_good_reply_takes_effect(self, moment):
        code = {"connect": "220", "data": "354", "quit": "221"}.get(moment, "250")
        with only(moment, reply=[f"{code}-in the words", f"{code} of the test"]) as fake, reach(fake, moment) as raw:
            assert raw.reply() == f"{code}-in the words\n{code} of the test"
            if moment == "quit":
                assert raw.ended
            if moment == "message":
                assert len(fake.messages) == 1
            if moment == "data":
                raw.send(MESSAGE + b".\r\n")
                assert raw.reply().startswith("250")
                assert len(fake.messages) == 1
            if moment == "starttls":
                raw.wrap(trusting(fake))
                assert raw.say("NOOP").startswith("250")

    @with_a_reply
    def test_keep_false_says_yes_and_does_no(self, moment):
        with only(moment, reply="250 sure", keep=False) as fake, reach(fake, moment) as raw:
            assert raw.reply() == "250 sure"
            effect = {
                "ehlo": lambda: raw.say(MAIL).startswith("503"),
                "mail": lambda: raw.say(RCPT).startswith("503"),
                "rcpt": lambda: raw.say("DATA").startswith("503"),
                "data": lambda: raw.say("NOOP").startswith("250"),
                "message": lambda: not fake.messages,
                "quit": lambda: raw.say("NOOP").startswith("250"),
            }
            assert effect.get(moment, lambda: True)()

    def test_keep_true_says_no_and_does_yes(self):
        with only("message", reply=NO, keep=True) as fake, reach(fake, "message") as raw:
            assert raw.until_end() == f"{NO}\r\n"
            assert [m["Subject"] for m in fake.messages] == ["hello"]
            assert the_exchange(fake, "reply+keep").facts.stored

    def test_keep_true_and_a_bare_close(self):
        with only("message", close=True, keep=True) as fake, reach(fake, "message") as raw:
            assert raw.until_end() == ""
            assert len(fake.messages) == 1

    def test_two_replies_and_the_close_after_both(self):
        with only("message", reply=["250 2.0.0 Ok", NO]) as fake, reach(fake, "message") as raw:
            assert raw.until_end() == f"250 2.0.0 Ok\r\n{NO}\r\n"
            assert len(fake.messages) == 1
            assert the_exchange(fake, "reply").codes == (250, 421)

    def test_any_covers_every_command_and_no_other_moment(self):
        with FakeSMTP(rules(one("any", reply="451 no"))) as fake, Raw(fake) as raw:
            assert raw.reply().startswith("220")
            for line in ("EHLO x", "HELO x", "NOOP", "RSET", "VRFY x", "HELP", "EXPN x", "BDAT 0 LAST", "", "QUIT"):
                assert raw.say(line) == "451 no", line

    def test_a_rule_without_a_fault_is_an_exception(self):
        with FakeSMTP(rules(one("mail", where={"sender": "vip@*"}), one("mail", reply="451 no"))) as fake:
            with Raw(fake).hello() as raw:
                assert raw.say("MAIL FROM:<vip@client.test>").startswith("250")
            with Raw(fake).hello() as raw:
                assert raw.say("MAIL FROM:<a@client.test>") == "451 no"


def the_exchange_of(fake: FakeSMTP, moment: str):
    (exchange,) = [x for x in fake.journal if x.fault and x.moment in (moment, "vrfy")][:1]
    return exchange


class TestConditions:
    """What the adapter tells the engine at each moment."""

    @pytest.mark.parametrize(
        ("on", "where"),
        [
            ("connect", {"client": "127.0.0.1"}),
            ("mail", {"sender": "a@client.test"}),
            ("mail", {"size": 94}),
            ("mail", {"command": "MAIL"}),
            ("mail", {"tls": False}),
            ("mail", {"sni": "none"}),
            ("mail", {"user": "none"}),
            ("rcpt", {"sender": "a@client.test", "recipient": "b@server.test", "size": 94}),
            ("data", {"sender": "a@client.test", "recipient": "b@*", "size": 94}),
            ("body", {"sender": "a@client.test", "recipient": "b@*", "size": 94}),
            ("message", {"sender": "a@client.test", "recipient": "b@*", "size": 94}),
            ("message", {"header": {"subject": "*ell*"}}),
            ("message", {"header": {"Subject": "hello", "x-none": "none"}}),
        ],
    )
    def test_what_is_known(self, on, where):
        with FakeSMTP(rules(one(on, where=where, reply=NO))) as fake, Raw(fake) as raw:
            if on != "connect":
                raw.hello()
                raw.send(f"{MAIL} SIZE={len(MESSAGE)}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
            assert raw.until_end().endswith(f"{NO}\r\n")

    @pytest.mark.parametrize(
        ("on", "where"),
        [
            ("connect", {"client": "127.0.0.2"}),
            ("mail", {"sender": "none"}),
            ("rcpt", {"recipient": "c@*"}),
            ("mail", {"tls": True}),
            ("message", {"size": 93}),
            ("message", {"header": {"subject": "none"}}),
        ],
    )
    def test_what_is_not_so(self, on, where):
        with FakeSMTP(rules(one(on, where=where, reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.deliver().startswith("250")

    def test_the_null_sender_is_empty_at_every_moment(self):
        for on in ("mail", "rcpt", "data", "body", "message"):
            with FakeSMTP(rules(one(on, where={"sender": ""}, reply=NO))) as fake, Raw(fake).hello() as raw:
                raw.send(b"MAIL FROM:<>\r\n" + f"{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
                assert raw.until_end().endswith(f"{NO}\r\n"), on

    def test_who_is_logged_in_is_known_from_then_on(self):
        with FakeSMTP(rules(one("mail", where={"user": "ann"}, reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.say(MAIL).startswith("250")
            assert raw.say("RSET").startswith("250")
            assert raw.say(f"AUTH PLAIN {plain('ann', 'x')}").startswith("235")
            assert raw.say(MAIL) == NO

    def test_tls_and_sni_are_known_after_starttls(self):
        where = {"tls": True, "sni": "localhost"}
        with FakeSMTP(rules(one("mail", where=where, reply=NO)), tls="starttls") as fake, Raw(fake).hello() as raw:
            assert raw.say(MAIL).startswith("250")
            raw.starttls(trusting(fake))
            assert raw.say("EHLO x").startswith("250")
            assert raw.say(MAIL) == NO

    def test_a_place_in_a_transaction_is_free_when_it_ends(self):
        """`over` at MAIL counts what is in progress: it ends with the reply to the dot, RSET, EHLO, or the end."""
        with (
            FakeSMTP(rules(one("mail", over=1, reply="432 busy"))) as fake,
            Raw(fake).hello() as first,
            Raw(fake).hello() as second,
        ):
            for end in ("RSET", "EHLO x"):
                assert first.say(MAIL).startswith("250")
                assert second.say(MAIL) == "432 busy"
                assert first.say(end).startswith("250")
                assert second.say(MAIL).startswith("250")
                assert second.say("RSET").startswith("250")
            assert first.deliver().startswith("250")
            assert second.say(MAIL).startswith("250")
            assert first.say(MAIL) == "432 busy"
            assert second.say("QUIT").startswith("221")
            assert first.say(MAIL).startswith("250")


class TestBody:
    """The moment `body`: amid the message, at a byte that does not depend on how it is cut into pieces."""

    @pytest.mark.parametrize("pieces", [1, 7, 1000])
    def test_after_bytes_is_when_so_many_have_passed(self, pieces):
        body = b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n"
        with FakeSMTP(rules(one("body", after_bytes=500, reply=NO))) as fake, Raw(fake).hello().mail() as raw:
            raw.send(body[:499])
            fake.settle()
            assert raw.silent()
            for i in range(499, len(body), pieces):
                raw.send(body[i : i + pieces])
            assert raw.until_end() == f"{NO}\r\n"
            assert not fake.messages

    def test_never_if_the_message_ends_sooner(self):
        with FakeSMTP(rules(one("body", after_bytes=500, reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.deliver().startswith("250")
            assert raw.say("NOOP").startswith("250")

    def test_the_final_dot_is_no_byte_of_the_message(self):
        with FakeSMTP(rules(one("body", after_bytes=len(MESSAGE) + 1, reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.deliver().startswith("250")
        with FakeSMTP(rules(one("body", after_bytes=len(MESSAGE), reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.deliver() == NO

    def test_a_refusal_amid_the_body_that_does_not_close_is_the_answer_to_the_dot(self):
        with FakeSMTP(rules(one("body", times=1, reply="452 full"))) as fake, Raw(fake).hello() as raw:
            assert raw.deliver() == "452 full"
            assert raw.deliver().startswith("250")
            assert len(fake.messages) == 1

    def test_a_delay_amid_the_body_holds_the_answer_up(self):
        with FakeSMTP(rules(one("body", delay="1m")), clock=ManualClock()) as fake, Raw(fake).hello().mail() as raw:
            raw.send(MESSAGE + b".\r\n")
            fake.wait_for(lambda j: any(x.fault == "delay" for x in j))
            fake.clock.advance("59s")
            assert raw.silent()
            fake.clock.advance("1s")
            assert raw.reply().startswith("250")

    def test_the_journal_says_how_much_had_come(self):
        with FakeSMTP(rules(one("body", after_bytes=5, reply=NO))) as fake, Raw(fake).hello().mail() as raw:
            raw.send("Subject: x\r\n")
            raw.until_end()
            assert fake.journal.exchanges[-1].request == "(12 bytes so far)"


class TestUnasked:
    """`enter`, `idle`, `error`: what a client hears without having asked."""

    def test_enter_acts_on_every_live_connection_and_after_the_reply_that_ended_the_phase(self):
        down = then("down", one("enter", reply=NO))
        with (
            FakeSMTP(rules(down, phase="until = { mail = 2 }")) as fake,
            Raw(fake).hello() as one_,
            Raw(fake).hello() as two,
        ):
            assert one_.say(MAIL).startswith("250")
            two.send(f"{MAIL}\r\n")
            assert two.until_end() == f"250 2.1.0 Ok\r\n{NO}\r\n"
            assert one_.until_end() == f"{NO}\r\n"
            assert [x.moment for x in fake.journal][-3:] == ["mail", "enter", "enter"]

    def test_enter_reaches_the_connection_that_ended_the_phase_by_coming(self):
        down = then("down", one("enter", reply=NO))
        with FakeSMTP(rules(down, phase="until = { connect = 2 }")) as fake, Raw(fake).hello() as first:
            with Raw(fake) as second:
                assert re.fullmatch(rf"220 .*\r\n{NO}\r\n", second.until_end())
            assert first.until_end() == f"{NO}\r\n"

    def test_enter_when_the_command_comes_before_the_tick(self):
        """The phase has ended by time and a command is what shows it: the 421 is said all the same."""
        fake = FakeSMTP(rules(then("down", one("enter", reply=NO)), phase='lasts = "10s"'), clock=ManualClock())
        fake._bridge._tick = lambda: None  # nobody wakes the engine
        with fake, Raw(fake).hello() as raw:
            fake.clock.advance("11s")
            assert raw.silent()
            raw.send("NOOP\r\n")
            assert raw.until_end() == f"{NO}\r\n"
            assert [x.moment for x in fake.journal][-2:] == ["noop", "enter"]
            assert fake.journal.connections[0].ended_by == "fake"

    def test_enter_interrupts_a_delay_and_a_stall(self):
        slow = one("noop", delay="1h"), one("rset", stall=True)
        with FakeSMTP(rules(*slow, then("down", one("enter", reply=NO))), clock=ManualClock()) as fake:
            with Raw(fake).hello() as delayed, Raw(fake).hello() as stalled:
                delayed.send("NOOP\r\n")
                stalled.send("RSET\r\n")
                fake.wait_for(lambda j: j.count("noop") and j.count("rset"))
                fake.next_phase()
                assert delayed.until_end() == f"{NO}\r\n"
                assert stalled.until_end() == f"{NO}\r\n"
                fake.clock.advance("2h")  # nothing more is said, and nothing breaks

    def test_enter_waits_for_a_reply_that_drips(self):
        with FakeSMTP(rules(one("noop", drip="1s"), then("down", one("enter", reply=NO))), clock=ManualClock()) as fake:
            with Raw(fake).hello() as raw:
                raw.send("NOOP\r\n")
                fake.wait_for(lambda j: j.count("noop"))
                fake.next_phase()
                fake.clock.advance("1m")
                assert raw.until_end() == f"250 2.0.0 Ok\r\n{NO}\r\n"

    def test_enter_says_nothing_to_a_connection_that_it_has_closed(self):
        with (
            FakeSMTP(rules(one("noop", reply=NO), then("down", one("enter", reply="421 again")))) as fake,
            Raw(fake).hello() as raw,
        ):
            assert raw.say("NOOP") == NO
            fake.next_phase()
            assert raw.until_end() == ""
            assert fake.journal.count("enter") == 0

    def test_a_good_reply_on_enter_is_said(self):
        with FakeSMTP(rules(then("down", one("enter", reply="250 still here")))) as fake, Raw(fake).hello() as raw:
            fake.next_phase()
            assert raw.reply() == "250 still here"
            assert raw.say("NOOP").startswith("250")

    def test_idle(self):
        with FakeSMTP(rules(one("idle", after="5m", reply=NO)), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            fake.clock.advance("4m")
            assert raw.say("NOOP").startswith("250")
            fake.clock.advance("4m 59s".replace(" 59s", ""))
            assert raw.silent()
            fake.clock.advance("1m")
            assert raw.until_end() == f"{NO}\r\n"
            assert fake.journal.exchanges[-1].moment == "idle"

    def test_a_slow_sender_is_not_idle_amid_its_message(self):
        with (
            FakeSMTP(rules(one("idle", after="5m", reply=NO)), clock=ManualClock()) as fake,
            Raw(fake).hello().mail() as raw,
        ):
            for byte in b"slow\r\n.\r\n":
                fake.clock.advance("4m")
                raw.send(bytes([byte]))
                fake.settle()
            assert raw.reply().startswith("250")
            fake.clock.advance("5m")
            assert raw.until_end() == f"{NO}\r\n"

    def test_who_is_silent_amid_its_message_is_idle(self):
        with (
            FakeSMTP(rules(one("idle", after="5m", reply=NO)), clock=ManualClock()) as fake,
            Raw(fake).hello().mail() as raw,
        ):
            raw.send("half a line")
            fake.settle()
            fake.clock.advance("5m")
            assert raw.until_end() == f"{NO}\r\n"
            assert not fake.messages

    def test_who_waits_for_our_answer_is_not_idle(self):
        scenario = rules(
            one("idle", after="5m", reply=NO), one(["connect", "noop"], delay="1h"), one("rset", drip="4m")
        )
        with FakeSMTP(scenario, clock=ManualClock()) as fake, Raw(fake) as raw:
            fake.wait_for(lambda j: j.count("connect"))
            fake.clock.advance("1h")
            raw.hello()
            raw.send("NOOP\r\n")
            fake.settle()
            fake.clock.advance("1h")
            assert raw.reply() == "250 2.0.0 Ok"
            raw.send("RSET\r\n")
            fake.settle()
            fake.clock.advance("1h")
            assert raw.reply() == "250 2.0.0 Ok"
            reset, idle = (next(x for x in fake.journal if x.moment == moment) for moment in ("rset", "idle"))
            assert idle.at == reset.answered_at + 300

    def test_nobody_is_told_421_for_idling_after_a_close(self):
        with (
            FakeSMTP(
                rules(one("idle", after="5m", reply="421 idle"), one("connect", reply=NO)), clock=ManualClock()
            ) as fake,
            Raw(fake) as raw,
        ):
            fake.wait_for(lambda j: j.count("connect"))
            fake.clock.advance("1h")
            assert raw.until_end() == f"{NO}\r\n"

    def test_error_adds_a_reply_after_the_one_that_was_an_error(self):
        with FakeSMTP(rules(one("error", per="connection", nth=2, reply=NO))) as fake, Raw(fake).hello() as raw:
            assert raw.say("BOGUS").startswith("500")
            raw.send("DATA\r\n")
            assert raw.until_end() == f"503 5.5.1 Error: need RCPT command\r\n{NO}\r\n"

    def test_error_follows_the_replies_of_rules_and_knows_the_command(self):
        scenario = rules(
            one("error", where={"command": "RCPT"}, reply=NO), one("rcpt", reply="550 who"), one("noop", reply="450 no")
        )
        with FakeSMTP(scenario) as fake, Raw(fake).hello() as raw:
            assert raw.say("NOOP") == "450 no"
            assert raw.say(MAIL).startswith("250")
            raw.send(f"{RCPT}\r\n")
            assert raw.until_end() == f"550 who\r\n{NO}\r\n"

    def test_a_421_is_followed_by_nothing(self):
        with FakeSMTP(rules(one("error", reply="421 error"), one("noop", reply=NO))) as fake, Raw(fake).hello() as raw:
            raw.send("NOOP\r\n")
            assert raw.until_end() == f"{NO}\r\n"


class TestHealthy:
    """What a good client may do when nothing is wrong."""

    def test_ehlo_offers_what_works(self):
        with FakeSMTP(tls="starttls") as fake, Raw(fake) as raw:
            assert raw.reply() == "220 fake.notnow.test ESMTP notnow"
            assert raw.say("EHLO x").split("\n")[1:] == [
                "250-PIPELINING", "250-SIZE 33554432", "250-8BITMIME", "250-SMTPUTF8", "250-ENHANCEDSTATUSCODES",
                "250-DSN", "250-CHUNKING", "250-BINARYMIME", "250-STARTTLS", "250-AUTH PLAIN LOGIN CRAM-MD5 XOAUTH2",
                "250 HELP",
            ]  # fmt: skip

    def test_starttls_is_offered_only_where_it_can_be_had(self):
        with FakeSMTP() as fake, Raw(fake) as raw:
            raw.reply()
            assert "STARTTLS" not in raw.say("EHLO x")
            assert raw.say("STARTTLS").startswith("502")
        with FakeSMTP(tls="starttls") as fake, Raw(fake).hello() as raw:
            raw.starttls(trusting(fake))
            assert "STARTTLS" not in raw.say("EHLO x")
            assert raw.say("STARTTLS").startswith("503")

    def test_pipelining(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            raw.send(f"{MAIL}\r\n{RCPT}\r\n{RCPT}\r\nDATA\r\n")
            assert [r[:3] for r in raw.replies(4)] == ["250", "250", "250", "354"]
            raw.send(MESSAGE + f".\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\nQUIT\r\n")
            assert [r[:3] for r in raw.replies(6)] == ["250", "250", "250", "354", "250", "221"]
            assert raw.ended
            assert len(fake.messages) == 2

    def test_smtputf8(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say("MAIL FROM:<jürgen@münchen.test> SMTPUTF8 BODY=8BITMIME").startswith("250")
            assert raw.say("RCPT TO:<δοκιμή@παράδειγμα.test>").startswith("250")
            assert raw.say("DATA").startswith("354")
            raw.send("Subject: Grüße\r\n\r\nüber\r\n.\r\n".encode())
            assert raw.reply().startswith("250")
            (message,) = fake.messages
            assert message.envelope.sender == "jürgen@münchen.test"
            assert message.envelope.recipients == ("δοκιμή@παράδειγμα.test",)
            assert message["Subject"] == "Grüße"

    def test_8bitmime_keeps_every_byte(self):
        content = b"Subject: x\r\n\r\n" + bytes(b for b in range(256) if b not in b"\r\n") + b"\r\n"
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.deliver(content).startswith("250")
            assert fake.messages[0].envelope.content == content

    def test_the_null_sender(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.deliver(sender="").startswith("250")
            assert fake.messages[0].envelope.sender == ""

    @pytest.mark.parametrize("address", ['"a b"@x.test', "Postmaster", "@a.test,@b.test:c@d.test", "x@[127.0.0.1]"])
    def test_odd_addresses(self, address):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say(MAIL).startswith("250")
            assert raw.say(f"RCPT TO:<{address}>").startswith("250")

    @pytest.mark.parametrize(
        "line", ["MAIL", "MAIL FROM:", "MAIL FROM:<", "MAIL FROM:<a@", "MAIL TO:<a@b.test>", "MAIL FROM:<a@b.test> =", "MAIL FROM:<a@b.test> SIZE=x"]
    )  # fmt: skip
    def test_bad_paths_are_refused(self, line):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say(line)[:2] in ("50", "55")
            assert raw.say(MAIL).startswith("250")

    def test_size(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say(f"{MAIL} SIZE=33554433").startswith("552")
            assert raw.say(f"{MAIL} SIZE=33554432").startswith("250")

    def test_a_message_over_size_is_552_and_its_client_goes_on(self):
        with FakeSMTP() as fake, Raw(fake).hello().mail() as raw:
            line = b"x" * 998 + b"\r\n"
            for _ in range(34):
                raw.send(line * 1000)
            raw.send(b".\r\n")
            assert raw.reply().startswith("552")
            assert raw.deliver().startswith("250")
            assert len(fake.messages) == 1

    def test_auth_as_a_parameter_of_mail(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say("MAIL FROM:<a@b.test> SIZE=10 AUTH=<> BODY=8BITMIME").startswith("250")

    def test_helo_and_commands_out_of_order(self):
        with FakeSMTP() as fake, Raw(fake) as raw:
            raw.reply()
            assert raw.say(MAIL).startswith("503")
            assert raw.say("DATA").startswith("503")
            assert raw.say("HELO").startswith("501")
            assert raw.say("EHLO").startswith("501")
            assert raw.say("HELO x") == "250 fake.notnow.test"
            assert raw.say(RCPT).startswith("503")
            assert raw.say(MAIL).startswith("250")
            assert raw.say("DATA").startswith("503")
            assert raw.say(MAIL).startswith("503")
            assert raw.say("RSET").startswith("250")
            assert raw.say(RCPT).startswith("503")
            assert raw.say("HELP").startswith("214")
            assert raw.say("noop please").startswith("250")

    def test_quit_and_then_the_end(self):
        for tls in ("none", "starttls", "implicit"):
            with FakeSMTP(tls=tls) as fake, Raw(fake, tls=trusting(fake) if tls == "implicit" else None).hello() as raw:
                if tls == "starttls":
                    raw.starttls(trusting(fake))
                assert raw.say("QUIT").startswith("221")
                assert raw.ended
                raw.close()
                fake.wait_for(lambda j: j.connections[0].ended_by)
                assert fake.journal.connections[0].ended_by == "client"

    def test_who_ends_its_side_still_reads_the_replies(self):
        with FakeSMTP() as fake, Raw(fake) as raw:
            raw.send(f"EHLO x\r\n{MAIL}\r\n")
            raw.sock.shutdown(1)
            assert re.findall(r"(?m)^\d+ ", raw.until_end()) == ["220 ", "250 ", "250 "]

    def test_even_if_the_replies_take_their_time(self):
        with FakeSMTP(rules(one("noop", delay="1h")), clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            raw.send("NOOP\r\nRSET\r\n")
            raw.sock.shutdown(1)
            fake.wait_for(lambda j: j.count("noop"))
            fake.settle()
            fake.clock.advance("1h")
            assert raw.until_end() == "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n"

    def test_smtplib_and_the_message_it_sends(self):
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "a@client.test", "b@server.test", "Übung"
        message.set_content("..dots\n.\n..\nand Umläute\n")
        with FakeSMTP() as fake, smtplib.SMTP(fake.host, fake.port) as client:
            client.send_message(message)
            (got,) = fake.messages
            assert got["Subject"] == "Übung"
            assert got.get_content() == "..dots\n.\n..\nand Umläute\n"
            assert got.envelope.sender == "a@client.test"
            assert got.envelope.connection == 1


class TestContent:
    """The message is what was sent, to the byte."""

    def test_dot_stuffing(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            sent = b"..\r\n...\r\n..x\r\n.y\r\nz.\r\n\r\n..\r\n"
            assert raw.deliver(sent).startswith("250")
            assert fake.messages[0].envelope.content == b".\r\n..\r\n.x\r\ny\r\nz.\r\n\r\n.\r\n"

    @pytest.mark.parametrize("cut", range(1, 6))
    def test_the_end_split_at_every_place(self, cut):
        with FakeSMTP() as fake, Raw(fake).hello().mail() as raw:
            data = b"x\r\n.\r\n"
            raw.send(data[:cut])
            fake.settle()
            raw.send(data[cut:])
            assert raw.reply().startswith("250")
            assert fake.messages[0].envelope.content == b"x\r\n"

    def test_the_end_byte_by_byte_and_what_looks_like_it(self):
        with FakeSMTP() as fake, Raw(fake).hello().mail() as raw:
            body = b"a\n.\nb\r.\rc\r\n.\nd\n.\r\ne\r\n. \r\n..\r\n"
            for byte in body + b".\r\n":
                raw.send(bytes([byte]))
                fake.settle()
            assert raw.reply().startswith("250")
            assert fake.messages[0].envelope.content == b"a\n.\nb\r.\rc\r\n\nd\n.\r\ne\r\n \r\n.\r\n"

    def test_an_empty_message(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.deliver(b"").startswith("250")
            assert fake.messages[0].envelope.content == b""

    def test_five_megabytes(self):
        content = b"Subject: big\r\n\r\n" + b"".join(b"%070d\r\n" % i for i in range(70_000))
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.deliver(content).startswith("250")
            assert fake.messages[0].envelope.content == content


class TestAuth:
    """AUTH PLAIN and LOGIN; users; and a journal without passwords."""

    USERS = {"ann": "s3cret-päss"}

    def test_plain_with_an_initial_response(self):
        with FakeSMTP(users=self.USERS) as fake, Raw(fake).hello() as raw:
            assert raw.say(MAIL).startswith("530")
            assert raw.say(f"AUTH PLAIN {plain('ann', 's3cret-päss')}").startswith("235")
            assert raw.deliver().startswith("250")
            assert fake.messages[0].envelope.user == "ann"
            self.no_secrets(fake)

    def test_plain_with_a_challenge(self):
        with FakeSMTP(users=self.USERS) as fake, Raw(fake).hello() as raw:
            assert raw.say("AUTH PLAIN") == "334 "
            assert raw.say(plain("ann", "s3cret-päss")).startswith("235")
            self.no_secrets(fake)

    @pytest.mark.parametrize("initial", [True, False])
    def test_login(self, initial):
        name, word = (base64.b64encode(x.encode()).decode() for x in ("ann", "s3cret-päss"))
        with FakeSMTP(users=self.USERS) as fake, Raw(fake).hello() as raw:
            if initial:
                assert raw.say(f"auth login {name}") == "334 UGFzc3dvcmQ6"
            else:
                assert raw.say("AUTH LOGIN") == "334 VXNlcm5hbWU6"
                assert raw.say(name) == "334 UGFzc3dvcmQ6"
            assert raw.say(word).startswith("235")
            self.no_secrets(fake)

    def no_secrets(self, fake: FakeSMTP) -> None:
        text = "\n".join(map(str, fake.journal.as_dicts()))
        assert "s3cret" not in text
        for secret in (plain("ann", "s3cret-päss"), base64.b64encode("s3cret-päss".encode()).decode()):
            assert secret not in text

    def test_without_users_any_login_is_good_and_none_is_needed(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.deliver().startswith("250")
            assert raw.say(f"AUTH PLAIN {plain('anybody', 'x')}").startswith("235")
            assert raw.say(f"AUTH PLAIN {plain('anybody', 'x')}").startswith("503")

    @pytest.mark.parametrize(
        ("lines", "reply"),
        [
            ([f"AUTH PLAIN {plain('ann', 'wrong')}"], "535"),
            ([f"AUTH PLAIN {plain('bob', 's3cret-päss')}"], "535"),
            (["AUTH PLAIN", "*"], "501"),
            (["AUTH PLAIN *"], "501"),
            (["AUTH LOGIN", "*"], "501"),
            (["AUTH LOGIN", "YW5u", "*"], "501"),
            (["AUTH PLAIN not-base64!"], "501"),
            (["AUTH PLAIN", "not-base64!"], "501"),
            (["AUTH PLAIN YW5u"], "501"),
            (["AUTH PLAIN ="], "501"),
            (["AUTH LOGIN", "ÄÖÜ"], "501"),
            (["AUTH CRAM-MD5", "YW5uIHg="], "501"),
            (["AUTH CRAM-MD5 YW5u"], "501"),
            (["AUTH XOAUTH2 YW5u"], "501"),
            (["AUTH KERBEROS_V4"], "504"),
            (["AUTH"], "501"),
        ],
    )
    def test_what_is_no_login(self, lines, reply):
        with FakeSMTP(users=self.USERS) as fake, Raw(fake).hello() as raw:
            for line in lines[:-1]:
                assert raw.say(line).startswith("334")
            assert raw.say(lines[-1])[:3] == reply
            assert raw.say(MAIL).startswith("530")
            assert raw.say(f"AUTH PLAIN {plain('ann', 's3cret-päss')}").startswith("235")
            assert fake.journal.count("auth") == 2

    def test_not_before_ehlo_nor_after_helo(self):
        with FakeSMTP() as fake, Raw(fake) as raw:
            raw.reply()
            assert raw.say(f"AUTH PLAIN {plain('a', 'b')}").startswith("503")
            assert raw.say("HELO x").startswith("250")
            assert raw.say(f"AUTH PLAIN {plain('a', 'b')}").startswith("503")

    def test_starttls_forgets_who_it_was(self):
        with FakeSMTP(users=self.USERS, tls="starttls") as fake, Raw(fake).hello() as raw:
            assert raw.say(f"AUTH PLAIN {plain('ann', 's3cret-päss')}").startswith("235")
            raw.starttls(trusting(fake))
            assert raw.say("EHLO x").startswith("250")
            assert raw.say(MAIL).startswith("530")
        with FakeSMTP(tls="starttls") as fake, Raw(fake).hello() as raw:
            assert raw.say(f"AUTH PLAIN {plain('ann', 'x')}").startswith("235")
            raw.starttls(trusting(fake))
            assert raw.say("EHLO x").startswith("250")
            raw.deliver()
            assert fake.messages[0].envelope.user is None

    def test_a_421_at_auth_comes_when_the_credentials_are_in(self):
        scenario = rules(one("auth", where={"user": "ann"}, reply=NO))
        with FakeSMTP(scenario) as fake, Raw(fake).hello() as raw:
            assert raw.say("AUTH LOGIN").startswith("334")
            assert raw.say("YW5u").startswith("334")
            raw.send("eA==\r\n")
            assert raw.until_end() == f"{NO}\r\n"
            assert [x.request for x in fake.journal][2:] == ["AUTH LOGIN", "********", "********"]

    def test_credentials_that_come_after_the_421_are_not_in_the_journal(self):
        secret = plain("ann", "s3cret-päss")
        for on in ("connect", "ehlo"):
            with FakeSMTP(rules(one(on, reply=NO))) as fake, Raw(fake) as raw:
                raw.send(f"EHLO x\r\nAUTH PLAIN {secret[:9]}")
                fake.wait_for(lambda j: j.connections and j.connections[0].ended_by == "fake")
                raw.send(f"{secret[9:]}\r\nNOOP\r\n")
                assert raw.until_end().endswith(f"{NO}\r\n")
                raw.close()
                fake.wait_for(lambda j: "NOOP" in j.connections[0].after)
                assert "AUTH PLAIN ********\r\nNOOP" in fake.journal.connections[0].after
                self.no_secrets(fake)

    def test_a_command_that_only_looks_like_auth_is_masked_too(self):
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say(f"AUTH\tPLAIN\t{plain('ann', 's3cret-päss')}").startswith("500")
            self.no_secrets(fake)


class TestAfterTheClose:
    """What is said once the fake has decided to close: by the client it is written down, by the fake nothing."""

    @pytest.mark.parametrize("on", ["connect", "mail"])
    def test_what_the_client_still_says_is_in_the_journal(self, on):
        with FakeSMTP(rules(one(on, reply=NO))) as fake, Raw(fake) as raw:
            if on == "mail":
                raw.hello()
            raw.send(f"{MAIL}\r\nNOOP\r\n" if on == "mail" else "EHLO x\r\n")
            raw.line()
            raw.send("QUIT\r\n")
            assert raw.until_end() == ""
            raw.close()
            fake.wait_for(lambda j: "QUIT" in j.connections[0].after)
            after = fake.journal.connections[0].after
            assert after == ("NOOP\r\nQUIT\r\n" if on == "mail" else "EHLO x\r\nQUIT\r\n")
            assert fake.journal.connections[0].after_bytes == len(after)

    def test_the_journal_knows_of_the_close_before_the_client_does(self):
        for on in ("connect", "mail", "message"):
            with FakeSMTP(rules(one(on, reply=NO))) as fake:
                for _ in range(20):
                    with Raw(fake) as raw:
                        if on != "connect":
                            raw.hello()
                            raw.send(f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + MESSAGE + b".\r\n")
                        while raw.line() != NO:
                            pass
                        connection = fake.journal.connections[-1]
                        assert connection.ended_by == "fake"
                        assert connection.exchanges[-1].closed
                        assert connection.exchanges[-1].reply == NO


def test_what_a_client_has_read_is_there_already():
    """Reading the messages and the journal is a barrier."""
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        for i in range(1, 101):
            assert raw.deliver(b"Subject: %d\r\n\r\n" % i).startswith("250")
            assert len(fake.messages) == i
            assert fake.messages[-1]["Subject"] == str(i)
            assert fake.journal.exchanges[-1].reply.startswith("250")
            assert fake.journal.count("message") == i


def test_the_order_of_the_journal_is_that_of_the_wire():
    with FakeSMTP() as fake, Raw(fake).hello() as one_, Raw(fake).hello() as two:
        for i in range(20):
            assert (one_ if i % 3 else two).say(f"NOOP {i}").startswith("250")
        asked = [x.request for x in fake.journal if x.moment == "noop"]
        assert asked == [f"NOOP {i}" for i in range(20)]
        indexes = [x.index for x in fake.journal]
        assert indexes == sorted(set(indexes))


def test_messages_are_kept_with_their_envelopes():
    clock = ManualClock()
    with FakeSMTP(clock=clock) as fake, Raw(fake).hello() as raw:
        clock.advance("1h")
        raw.deliver(MESSAGE, "x@client.test", "b@server.test", "c@server.test")
        (message,) = fake.messages
        assert message["Subject"] == "hello"
        envelope = message.envelope
        assert (envelope.sender, envelope.recipients) == ("x@client.test", ("b@server.test", "c@server.test"))
        assert (envelope.content, envelope.at, envelope.connection, envelope.user) == (MESSAGE, 3600, 1, None)
        assert fake.messages[0] is message


def test_one_broken_handshake_leaves_the_others_alone():
    with FakeSMTP(tls="starttls") as fake, Raw(fake).hello() as good:
        with Raw(fake).hello() as bad, pytest.raises(ssl.SSLError):
            bad.starttls(ssl.create_default_context())
        fake.wait_for(lambda j: j.connections[1].ended_by)
        assert fake.journal.connections[1].failure == CertificateRejected("unknown_ca")
        good.starttls(trusting(fake))
        assert good.say("EHLO x").startswith("250")
        assert good.deliver().startswith("250")
