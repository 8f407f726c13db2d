"""Rules of conduct for SMTP clients: each is kept by one client and broken by another, over real fakes."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiosmtplib
import pytest
import tenacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live import SEED, variants
from live_smtp import SMTP
from notnow import FakeSMTP, ManualClock, Scenario
from notnow.conduct.finding import Finding
from notnow.conduct.judging import judge, select
from notnow.conduct.pictures.verdict import in_words
from notnow.conduct.reading.run import Run
from notnow.conduct.rules import smtp
from notnow.journal import Connection, Exchange, Message, Recorder
from notnow.time_travel.fast_forward import FastForward
from smtp_client import MESSAGE, CarefulSender, Raw, one, rules, then, trusting

MINUTE, HOUR, DAY = 60, 3600, 86_400
BUSY = "421 4.3.2 All server ports are busy"
NO = "421 4.3.0 Not now"


def fake(*texts: str, lasts: str = "", **options: object) -> FakeSMTP:
    """A fake on a clock that stands still, with these rules, for a while where it is given."""
    options.setdefault("clock", ManualClock())
    head = options.pop("head", "")
    phase, more = (f'lasts = "{lasts}"', [then("recovered")]) if lasts else ("", [])
    return FakeSMTP(rules(*texts, *more, head=head, phase=phase), **options)


def overload(lasts: str = "10m", at: str = "connect") -> FakeSMTP:
    return fake(one(at, reply=BUSY), lasts=lasts)


def found(rule: str, *fakes: FakeSMTP) -> Finding:
    for each in fakes:
        each.settle()
    ((verdict),) = judge(Run([each.journal for each in fakes]), select([f"smtp.{rule}"]))
    return verdict.finding


def kept(rule: str, *fakes: FakeSMTP) -> str:
    """Why a rule was held."""
    finding = found(rule, *fakes)
    assert finding.outcome == "held", finding
    return finding.why


def broke(rule: str, *fakes: FakeSMTP) -> tuple[str, list[str]]:
    """Why a rule was broken, and its evidence: what was said and answered, or which connection."""
    finding = found(rule, *fakes)
    assert finding.outcome == "broken", finding
    return finding.why, [_proof(evidence) for evidence in finding.evidence]


def _proof(evidence: Exchange | Connection) -> str:
    if isinstance(evidence, Connection):
        return f"{evidence.server} #{evidence.number}"
    said = (evidence.reply or "nothing").splitlines()[0][:3]
    return f"#{evidence.connection.number} {evidence.moment} {said}"


def unclear(rule: str, *fakes: FakeSMTP) -> str:
    """Why nobody can tell whether a rule was held."""
    finding = found(rule, *fakes)
    assert finding.outcome == "inconclusive", finding
    return finding.why


def idle(rule: str, *fakes: FakeSMTP) -> None:
    assert found(rule, *fakes).outcome == "not exercised"


def letter(number: int = 1) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@client.test>\r\n\r\nhello\r\n" % (number, number)


def tries(fake: FakeSMTP, *gaps: float, content: bytes = MESSAGE) -> list[int]:
    """A careful client that tries at once, and again after each gap."""
    sender = CarefulSender(fake, fake.clock.advance)
    codes = [sender.attempt(content)]
    for gap in gaps:
        fake.clock.advance(gap)
        codes.append(sender.attempt(content))
    return codes


def knocks(fake: FakeSMTP, times: int = 1) -> None:
    """A client that connects, hears that it is refused, and leaves."""
    for _ in range(times):
        with Raw(fake) as raw:
            assert raw.reply().startswith("421")


def delivers(fake: FakeSMTP, content: bytes, sender: str = "a@client.test", *recipients: str) -> None:
    with Raw(fake).hello() as raw:
        raw.deliver(content, sender, *recipients)


# ---- on the connection -------------------------------------------------------------------------------


class TestNothingButQuit:
    def test_held(self):
        with fake(one("mail", reply=NO, close=False)) as server, Raw(server).hello() as raw:
            assert raw.say("MAIL FROM:<a@b.test>").startswith("421")
            raw.say("QUIT")
            assert kept("nothing-but-quit", server) == "told 421 once, and nothing after it but QUIT"

    @pytest.mark.parametrize("at", ["connect", "ehlo", "mail", "rcpt", "data", "message"])
    def test_broken_where_the_connection_stays(self, at):
        with fake(one(at, reply=NO, close=False)) as server, Raw(server) as raw:
            raw.reply()
            for line in ("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA", ".", "NOOP"):
                raw.say(line)
            why, proof = broke("nothing-but-quit", server)
            assert "was sent after a 421" in why
            assert proof[0] == f"#1 {at} 421"
            assert len(proof) == 2

    def test_broken_after_the_close(self):
        with fake(one("connect", reply=NO)) as server, Raw(server) as raw:
            raw.reply()
            raw.send("EHLO x\r\n")
            server.wait_for(lambda j: j.connections[0].after)
            assert broke("nothing-but-quit", server) == ("'EHLO x' was sent after a 421", ["#1 connect 421", "smtp #1"])

    def test_what_was_sent_in_one_go_is_no_answer(self):
        with fake(one("mail", reply=NO, close=False)) as server, Raw(server).hello() as raw:
            raw.send("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
            raw.replies(3)
            raw.say("QUIT")
            kept("nothing-but-quit", server)

    def test_what_crosses_an_unasked_421_is_no_answer(self):
        with fake(one("idle", after="30s", reply=NO, close=False)) as server, Raw(server).hello() as raw:
            server.clock.advance("30s")
            raw.reply()
            raw.say("NOOP")
            kept("nothing-but-quit", server)
            raw.say("NOOP")
            assert broke("nothing-but-quit", server)[1] == ["#1 idle 421", "#1 noop 250"]


class TestSurvives421:
    @pytest.mark.parametrize("at", ["connect", "ehlo", "mail", "rcpt", "data", "message", "quit"])
    def test_held(self, at):
        with fake(one(at, reply=NO), lasts="10m") as server:
            CarefulSender(server, server.clock.advance).deliver(MESSAGE)
            assert kept("survives-421", server) == f"421 at {at}"

    @pytest.mark.parametrize("close", [True, False])
    def test_broken_by_a_message_that_goes_on(self, close):
        with fake(one("data", reply=NO, close=close)) as server, Raw(server).hello() as raw:
            for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"):
                raw.say(line)
            raw.send(MESSAGE)
            server.wait_for(lambda j: j.connections[0].after or j.count("unknown"))
            why, proof = broke("survives-421", server)
            assert why == "the message was sent after DATA had been answered 421"
            assert proof == ["#1 data 421", "smtp #1" if close else "#1 unknown 221"]

    def test_broken_by_a_client_that_hangs(self):
        with fake(one("connect", reply=NO, close=False)) as server, Raw(server) as raw:
            raw.reply()
            server.clock.advance("9m")
            kept("survives-421", server)
            server.clock.advance("1m")
            assert broke("survives-421", server) == (
                "it was told 421 and did nothing for 10m",
                ["#1 connect 421", "smtp #1"],
            )


class TestPatience:
    def test_held(self):
        with fake(one("message", delay="9m")) as server, Raw(server).hello() as raw:
            raw.mail()
            raw.send(MESSAGE + b".\r\n")
            server.wait_for(lambda j: j.count("message"))
            server.clock.advance("9m")
            assert raw.reply().startswith("250")
            assert kept("patience", server) == "it waited 9m for the reply to the final dot"

    @pytest.mark.parametrize(("stays", "outcome"), [("119s", "broken"), ("120s", "held")])
    def test_of_data(self, stays, outcome):
        with fake(one("data", stall=True)) as server:
            with Raw(server).hello() as raw:
                raw.say("MAIL FROM:<a@b.test>")
                raw.say("RCPT TO:<c@d.test>")
                raw.send("DATA\r\n")
                server.wait_for(lambda j: j.count("data"))
                server.clock.advance(stays)
            server.wait_for(lambda j: j.connections[0].ended_by)
            assert found("patience", server).outcome == outcome

    def test_broken(self):
        with fake(one("message", delay="9m")) as server:
            with Raw(server).hello() as raw:
                raw.mail()
                raw.send(MESSAGE + b".\r\n")
                server.wait_for(lambda j: j.count("message"))
                server.clock.advance("30s")
            server.wait_for(lambda j: j.connections[0].left_index)
            server.clock.advance("9m")
            assert broke("patience", server) == (
                "it left after 30s; 10m is what the reply to the final dot may take",
                ["#1 message 250", "smtp #1"],
            )


class TestActsOnTheCode:
    @pytest.mark.parametrize(
        "reply", ["421", ["421-one", "421-two", "421 three"], "432 4.3.2 later", "421 später", "450 4.2.0 plain"]
    )
    def test_held(self, reply):
        with fake(one("data", reply=reply), lasts="10m") as server:
            tries(server, 600)
            finding = found("acts-on-the-code", server)
            assert finding.outcome == ("not exercised" if "plain" in reply else "held")

    @pytest.mark.parametrize("reply", ["421", ["421-one", "421 two"], "432 later"])
    def test_broken_by_going_on(self, reply):
        with fake(one("data", reply=reply)) as server, Raw(server).hello() as raw:
            for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>", "DATA"):
                raw.say(line)
            raw.send(MESSAGE)
            server.wait_for(lambda j: j.connections[0].after or j.count("unknown"))
            why, proof = broke("acts-on-the-code", server)
            assert why.startswith("the message was sent as if a ")
            assert proof[0].startswith("#1 data 4")

    def test_broken_by_coming_back_after_plain_ones_only(self):
        plain, bare = (one("mail", where={"sender": f"{s}@*"}, reply=r) for s, r in (("plain", NO), ("bare", "421")))
        with fake(plain, bare, lasts="10m") as server:
            for sender in ("plain", "bare"):
                with Raw(server).hello() as raw:
                    assert raw.say(f"MAIL FROM:<{sender}@client.test>").startswith("421")
            server.clock.advance("10m")
            with Raw(server).hello() as raw:
                raw.deliver(MESSAGE, "plain@client.test")
            assert broke("acts-on-the-code", server) == (
                "after a bare 421 it never tried again, after a plain reply it did", ["#2 mail 421", "#1 mail 421"]
            )  # fmt: skip


class TestClassFirst:
    CODES = [one("mail", where={"sender": f"{i}@*"}, reply=f"421 4.7.{i} no") for i in (0, 28)]

    def test_held(self):
        with fake(*self.CODES, lasts="10m") as server:
            for sender in ("0", "28", "0", "28"):
                with Raw(server).hello() as raw:
                    raw.say(f"MAIL FROM:<{sender}@client.test>")
                    server.clock.advance("5m")
            assert kept("class-first", server) == "told 4.7.0, 4.7.28"

    def test_broken(self):
        with fake(*self.CODES, lasts="10m") as server:
            for sender, gap in (("28", 0), ("0", 600), ("0", 0)):
                with Raw(server).hello() as raw:
                    raw.say(f"MAIL FROM:<{sender}@client.test>")
                server.clock.advance(gap)
            why, proof = broke("class-first", server)
            assert why == "after 4.7.28 it never tried again, after 4.7.0 it did"
            assert proof == ["#1 mail 421", "#2 mail 421"]

    def test_not_exercised(self):
        with fake(one("connect", reply="421 no")) as server:
            tries(server, 60)
            idle("class-first", server)


# ---- trying again ------------------------------------------------------------------------------------


class TestWaitBeforeRetry:
    def test_held(self):
        with overload() as server:
            tries(server, 60, 600)
            assert kept("wait-before-retry", server) == "it waited at least 1m"

    @pytest.mark.parametrize("at", ["rcpt", "message"])
    def test_broken(self, at):
        with fake(one(at, times=1, reply=NO)) as server:
            tries(server, 0.5)
            assert broke("wait-before-retry", server) == (
                "it came back 500ms after it was refused", [f"#1 {at} 421", "#2 connect 220"]
            )  # fmt: skip

    def test_a_refused_connection_may_have_been_for_any_mail(self):
        with overload() as server:
            tries(server, 0.5)
            why = "a try came 500ms after a refusal, for the same mail or for other mail"
            assert unclear("wait-before-retry", server) == why

    def test_another_server_is_no_retry(self):
        clock = ManualClock()
        with overload() as server, fake(clock=clock) as _, FakeSMTP(clock=server.clock) as backup:
            knocks(server)
            tries(backup)
            idle("wait-before-retry", server, backup)
            knocks(server)  # and back again at once, perhaps with other mail
            unclear("wait-before-retry", server, backup)

    def test_the_first_try_of_other_mail_is_no_retry(self):
        with overload() as server:
            knocks(server, 3)  # three workers, with a message each
            server.clock.advance("10m")
            for number in (1, 2, 3):
                tries(server, content=letter(number))
            unclear("wait-before-retry", server)  # or one of them came back at once

    def test_mail_of_another_sender_is_no_retry(self):
        with fake(one("mail", where={"sender": "a@*"}, reply="450 4.7.1 no"), one("noop")) as server:
            with Raw(server).hello() as raw:
                raw.say("MAIL FROM:<a@client.test>")
            with Raw(server).hello() as raw:
                raw.deliver(MESSAGE, "b@client.test")
            idle("wait-before-retry", server)

    def test_a_connection_that_had_taken_mail_asks_for_another_one(self):
        with fake(one("mail", per="connection", after=1, reply="421 4.7.0 that many per connection")) as server:
            CarefulSender(server, lambda seconds: None).deliver(letter(1), letter(2), letter(3))
            assert len(server.messages) == 3
            idle("wait-before-retry", server)


class TestRetryInterval:
    def test_graded(self):
        with overload("1d") as server:
            tries(server, 300, 600, 1200)
            assert kept("retry-interval", server) == (
                "intervals 5m, 10m, 20m: shorter than the 30 minutes of §4.5.4.1, which lets smarter strategies differ"
            )
        with overload("1d") as server:
            tries(server, 1800, 3600)
            assert kept("retry-interval", server) == "intervals 30m, 1h: at least the 30 minutes of §4.5.4.1"

    def test_broken(self):
        with overload("1d") as server:
            tries(server, *[60] * 11)
            kept("retry-interval", server)
        with overload("1d", at="rcpt") as server:
            tries(server, *[60] * 12)
            why, proof = broke("retry-interval", server)
            assert why == "it tried 13 times within 12m"
            assert proof == [f"#{n} connect 220" for n in range(1, 14)]

    def test_not_exercised(self):
        with overload() as server:
            tries(server)
            idle("retry-interval", server)


class TestTriesAgain:
    @pytest.mark.parametrize("at", ["connect", "ehlo", "mail", "rcpt", "data", "message"])
    @pytest.mark.parametrize("reply", [NO, "451 4.3.0 later"])
    def test_each_stage(self, at, reply):
        with fake(one(at, reply=reply), lasts="10m") as server:
            tries(server)
            why, proof = broke("tries-again", server)
            assert why.endswith(f" got {reply[:3]} and was not tried again")
            assert proof == [f"#1 {at} {reply[:3]}"]
            server.clock.advance(600)
            tries(server)
            kept("tries-again", server)

    def test_another_server_is_another_try(self):
        with overload() as server, FakeSMTP(clock=server.clock) as backup:
            knocks(server)
            tries(backup)
            kept("tries-again", server, backup)

    def test_a_single_recipient(self):
        with fake(one("rcpt", where={"recipient": "slow@*"}, times=1, reply="450 4.2.0 greylisted")) as server:
            with smtplib.SMTP(server.host, server.port, "client.test") as client:
                refused = client.sendmail("a@client.test", ["b@server.test", "slow@server.test"], MESSAGE)
                assert broke("tries-again", server) == (
                    "<1@client.test> to slow@server.test got 450 and was not tried again", ["#1 rcpt 450"]
                )  # fmt: skip
                client.sendmail("a@client.test", list(refused), MESSAGE)
            kept("tries-again", server)


class TestNoBounce:
    def refused(self, server: FakeSMTP) -> None:
        with Raw(server).hello() as raw:
            assert raw.say("MAIL FROM:<a@client.test>").startswith("421")

    def test_held(self):
        with fake(one("mail", reply=NO), lasts="10m") as server:
            tries(server, 600)
            assert kept("no-bounce-for-421", server) == "mail that was refused with 421 was tried again"

    def test_a_bounce(self):
        with fake(one("mail", where={"sender": "a@*"}, reply=NO)) as server:
            self.refused(server)
            with Raw(server).hello() as raw:
                raw.deliver(MESSAGE, "", "a@client.test")
            assert broke("no-bounce-for-421", server) == (
                "a@client.test was sent a bounce after one 421", ["#1 mail 421", "#2 mail 250"]
            )  # fmt: skip

    def test_other_mail_goes_on(self):
        with fake(one("mail", where={"sender": "a@*"}, reply=NO)) as server:
            self.refused(server)
            server.clock.advance("5h")
            delivers(server, letter(2), "b@client.test")
            idle("no-bounce-for-421", server)
            server.clock.advance("1h")
            delivers(server, letter(3), "b@client.test")
            why = "hours later it went on with other mail, and this one has not come again so far"
            assert unclear("no-bounce-for-421", server) == why

    def test_who_is_not_seen_again_may_still_have_it(self):
        with overload() as server:
            tries(server)
            assert "the journal cannot tell" in found("no-bounce-for-421", server).why
            idle("no-bounce-for-421", server)


class TestGiveUpTime:
    @pytest.mark.parametrize(
        ("days", "why"),
        [(4.5, "it gave up after 4d 12h"), (2, "it gave up after 2d: shorter than the 4-5 days of §4.5.4.1")],
    )
    def test_held(self, days, why):
        with overload("90d") as server:
            tries(server, *[DAY / 4] * int(days * 4))
            server.clock.advance("5d")
            assert kept("give-up-time", server) == why

    def test_got_through_after_days(self):
        with overload("1d") as server:
            tries(server, *[DAY / 4] * 4)
            assert len(server.messages) == 1
            assert kept("give-up-time", server) == "it tried for 1d"

    def test_broken_too_soon(self):
        with overload("90d") as server:
            tries(server, HOUR)
            idle("give-up-time", server)
            server.clock.advance("2d")
            assert broke("give-up-time", server) == ("it gave up after 1h; §4.5.4.1 has 4-5 days", ["#2 connect 421"])

    def test_broken_never(self):
        with overload("90d") as server:
            tries(server, *[DAY] * 31)
            assert broke("give-up-time", server) == ("it still tries after 31d", ["#1 connect 421", "#32 connect 421"])


class TestIntervalsGrow:
    @pytest.mark.parametrize("gaps", [(5, 10, 20, 40), (1800, 1800, 1800), (60, 120, 180), (30, 90, 50, 200)])
    def test_held(self, gaps):
        with overload("1d") as server:
            tries(server, *gaps)
            assert kept("intervals-grow", server).startswith("the gaps were ")

    @pytest.mark.parametrize(
        ("gaps", "why"), [((5, 5, 5), "5s, 5s, 5s: constant"), ((80, 40, 20, 10), "they shrink")]
    )  # fmt: skip
    def test_broken(self, gaps, why):
        with overload("1d", at="rcpt") as server:
            tries(server, *gaps)
            said, proof = broke("intervals-grow", server)
            assert said.endswith(why)
            assert proof == [f"#{n} connect 220" for n in range(2, len(gaps) + 2)]

    def test_not_exercised(self):
        with overload("1d") as server:
            tries(server, 5, 5)
            idle("intervals-grow", server)


class TestJitter:
    def herd(self, server: FakeSMTP, *gaps: float) -> None:
        with contextlib.ExitStack() as stack:
            workers = [stack.enter_context(Raw(server)).hello() for _ in range(4)]
            for number, raw in enumerate(workers):
                raw.say(f"MAIL FROM:<{number}@client.test>")
            server.settle()
        for gap in gaps:
            server.clock.advance(gap)
            knock = Raw(server)
            self.back.append(knock.hello())
        for number, raw in enumerate(self.back):
            raw.deliver(letter(number), f"{number}@client.test")

    @pytest.fixture(autouse=True)
    def _back(self) -> Iterator[None]:
        self.back: list[Raw] = []
        yield
        for raw in self.back:
            raw.close()

    def test_held(self):
        with fake(one("mail", reply=NO), lasts="60s") as server:
            self.herd(server, 60, 3, 1, 7)
            assert kept("jitter", server) == "no group of connections came back together"

    def test_broken(self):
        with fake(one("mail", reply=NO), lasts="60s") as server:
            self.herd(server, 60, 0, 0, 0)
            assert broke("jitter", server) == (
                "4 connections came back within 0s", [f"smtp #{n}" for n in (5, 6, 7, 8)]
            )  # fmt: skip

    def test_one_after_the_other_is_no_herd(self):
        with fake(one("mail", reply=NO), lasts="60s") as server:
            for number in range(4):
                with Raw(server).hello() as raw:
                    raw.say(f"MAIL FROM:<{number}@client.test>")
            server.clock.advance(60)
            for number in range(4):
                with Raw(server).hello() as raw:
                    raw.deliver(letter(number), f"{number}@client.test")
            kept("jitter", server)

    def test_not_exercised(self):
        with overload() as server:
            tries(server, 600)
            idle("jitter", server)


class TestSilentClose:
    @pytest.mark.parametrize("at", ["connect", "mail", "data", "message"])
    def test_held(self, at):
        with fake(one(at, close=True), lasts="10m") as server:
            tries(server, 600)
            assert kept("silent-close", server) == "after a close without a reply it waited 10m"

    def test_broken_by_haste(self):
        with fake(one("data", times=1, close=True)) as server:
            tries(server, 0)
            assert broke("silent-close", server) == (
                "the server closed without a reply, and it came back 0s later", ["#1 data not", "#2 connect 220"]
            )  # fmt: skip

    def test_broken_by_staying_away(self):
        with fake(one("connect", close="reset")) as server:
            tries(server)
            assert broke("silent-close", server) == (
                "the server closed without a reply, and it did not try again", ["#1 connect not"]
            )  # fmt: skip

    def test_not_exercised(self):
        with overload() as server:
            tries(server)
            idle("silent-close", server)


# ---- several servers, several connections ------------------------------------------------------------


class TestSeveralHosts:
    @pytest.fixture
    def hosts(self) -> Iterator[tuple[FakeSMTP, FakeSMTP]]:
        with overload() as first, FakeSMTP(clock=first.clock) as second:
            yield first, second

    def test_the_next_is_tried(self, hosts):
        knocks(hosts[0])
        hosts[0].clock.advance(2)
        tries(hosts[1])
        assert kept("next-host", *hosts) == "it turned to another server 2s after smtp had refused it"
        assert kept("preference-order", *hosts) == "no server was skipped"

    def test_the_next_is_not_tried(self, hosts):
        tries(hosts[0], 300)
        assert broke("next-host", *hosts) == ("smtp refused it, and it tried no other server", ["#1 connect 421"])

    def test_the_next_is_tried_first(self, hosts):
        tries(hosts[1])
        assert broke("preference-order", *hosts) == ("it came to smtp without having tried smtp", ["smtp #1"])
        idle("next-host", *hosts)

    def test_the_first_is_passed_over_though_it_works(self, hosts):
        hosts[0].clock.advance("10m")
        tries(hosts[0])
        tries(hosts[1], content=letter(2))
        why, proof = broke("preference-order", *hosts)
        assert (why, proof) == ("it came to smtp though smtp had just taken its mail", ["#1 message 250", "smtp #1"])

    def test_who_remembers_a_busy_host_goes_to_the_next_at_once(self, hosts):
        knocks(hosts[0])
        for number in range(3):
            tries(hosts[1], content=letter(number))
        kept("preference-order", *hosts)

    def test_one_worker_is_refused_where_another_gets_through(self, hosts):
        knocks(hosts[0])
        hosts[0].clock.advance("10m")
        tries(hosts[0])
        tries(hosts[1], content=letter(2))
        kept("preference-order", *hosts)
        tries(hosts[1], content=letter(3))  # this one nobody had sent away
        broke("preference-order", *hosts)

    def test_not_exercised(self, hosts):
        tries(hosts[0])
        idle("next-host", hosts[0])
        idle("preference-order", hosts[0])


class TestRemembersBusyHost:
    def test_held(self):
        with overload("1d") as server:
            for _ in range(4):
                knocks(server, 5)
                server.clock.advance("1m")
            assert kept("remembers-busy-host", server) == "at most 5 refused connections in a minute"

    def test_broken(self):
        with overload("1d") as server:
            knocks(server, 1)
            server.clock.advance("59s")
            knocks(server, 6)
            why, proof = broke("remembers-busy-host", server)
            assert why == "it walked into a busy server 7 times within 59s"
            assert proof == [f"#{n} connect 421" for n in range(1, 8)]

    def test_connections_of_one_moment_may_have_been_opened_side_by_side(self):
        with overload("1d") as server:
            knocks(server, 20)
            unclear("remembers-busy-host", server)


class TestFewerConnections:
    @contextlib.contextmanager
    def full(self) -> Iterator[tuple[FakeSMTP, list[Raw]]]:
        """A client that has three connections, and is told that the fourth is too many."""
        with (
            FakeSMTP("smtp/too-many-connections", cap=3, clock=ManualClock()) as server,
            contextlib.ExitStack() as stack,
        ):
            raws = [stack.enter_context(Raw(server)) for _ in range(4)]
            assert [raw.reply()[:3] for raw in raws] == ["220", "220", "220", "421"]
            server.clock.advance("1m")
            yield server, raws

    def test_held(self):
        with self.full() as (server, raws):
            raws[0].say("QUIT")
            with Raw(server) as raw:
                raw.reply()
                assert kept("fewer-connections", server) == "4 connections before, 3 at most since"

    def test_broken(self):
        with self.full() as (server, _):
            knocks(server)
            assert broke("fewer-connections", server) == (
                "it had 4 connections when it was told that they are too many, and later 4 again",
                ["#4 connect 421", "smtp #5"],
            )

    def test_not_exercised(self):
        with overload() as server:
            knocks(server, 5)
            idle("fewer-connections", server)


# ---- what becomes of a message -----------------------------------------------------------------------


class TestNoSecondCopy:
    def test_held(self):
        with FakeSMTP("smtp/accepted-then-421", clock=ManualClock()) as server:
            assert CarefulSender(server, server.clock.advance).deliver(letter(1), letter(2))
            assert kept("no-second-copy", server) == "2 answered 250, and none sent again"

    @pytest.mark.parametrize("content", [MESSAGE, b"Subject: no name\r\n\r\n"])
    def test_broken(self, content):
        with FakeSMTP("smtp/accepted-then-421", clock=ManualClock()) as server:
            tries(server, 60, content=content)
            why, proof = broke("no-second-copy", server)
            assert why.endswith(" to b@server.test was answered 250, and sent again")
            assert proof == ["#1 message 250", "#2 message 250"]

    def test_on_another_server(self):
        with fake() as server, FakeSMTP(clock=server.clock) as backup:
            tries(server)
            tries(backup)
            broke("no-second-copy", server, backup)

    def test_the_text_that_comes_again_under_a_new_message_id(self):
        with FakeSMTP("smtp/accepted-then-421", clock=ManualClock()) as server:
            for number in (1, 2):
                head = b"Date: today, %d o'clock\r\nMessage-ID:\r\n <%d@client.test>\r\n" % (number, number)
                tries(server, content=head + b"Subject: hello\r\n\r\nhello\r\n")
                server.clock.advance(60)
            why = "the text of <1@client.test> came to b@server.test again under another Message-ID: as a second copy, or as other mail"
            assert unclear("no-second-copy", server) == why

    def test_one_that_was_kept_and_answered_421_is_to_be_sent_again(self):
        with FakeSMTP("smtp/kept-then-421", clock=ManualClock()) as server:
            tries(server, 60)
            assert len(server.messages) == 2
            kept("no-second-copy", server)

    def test_one_message_for_two_recipients_may_come_in_two_transactions(self):
        with fake() as server, Raw(server).hello() as raw:
            raw.deliver(MESSAGE, "a@client.test", "b@server.test")
            raw.deliver(MESSAGE, "a@client.test", "c@server.test")
            kept("no-second-copy", server)


class TestResendAllRecipients:
    CUT = one("rcpt", where={"recipient": "c@*"}, reply=NO)

    def cut(self, server: FakeSMTP) -> None:
        with Raw(server).hello() as raw:
            raw.say("MAIL FROM:<a@client.test>")
            assert raw.say("RCPT TO:<b@server.test>").startswith("250")
            assert raw.say("RCPT TO:<c@server.test>").startswith("421")
        server.clock.advance("10m")

    def test_held(self):
        with fake(self.CUT, lasts="10m") as server:
            self.cut(server)
            delivers(server, MESSAGE, "a@client.test", "b@server.test", "c@server.test")
            assert kept("resend-all-recipients", server) == "all recipients came again, once"

    def test_mail_to_one_of_them_may_be_other_mail(self):
        with fake(self.CUT, lasts="10m") as server:
            self.cut(server)
            delivers(server, MESSAGE, "a@client.test", "c@server.test")
            assert "unless the next try was of other mail" in unclear("resend-all-recipients", server)

    def test_a_cut_at_the_dot(self):
        with fake(one("message", reply=NO), lasts="10m") as server:
            delivers(server, MESSAGE, "a@client.test", "b@server.test", "c@server.test")
            server.clock.advance("10m")
            delivers(server, MESSAGE, "a@client.test", "b@server.test")
            assert broke("resend-all-recipients", server) == (
                "421 at message made all of it void, and <1@client.test> to c@server.test never came again",
                ["#1 message 421", "#2 connect 220"],
            )

    def test_not_exercised(self):
        with fake(self.CUT, lasts="10m") as server:
            self.cut(server)
            idle("resend-all-recipients", server)


class TestTooManyRecipients:
    FULL = [one("rcpt", per="connection", nth=2, reply="452 4.5.3 Too many recipients")]

    def begun(self, server: FakeSMTP) -> Raw:
        raw = Raw(server).hello()
        raw.say("MAIL FROM:<a@client.test>")
        assert raw.say("RCPT TO:<b@server.test>").startswith("250")
        assert raw.say("RCPT TO:<c@server.test>").startswith("452")
        return raw

    def test_held(self):
        with fake(*self.FULL) as server, self.begun(server) as raw:
            assert raw.say("DATA").startswith("354")
            raw.send(MESSAGE + b".\r\n")
            raw.reply()
            raw.deliver(MESSAGE, "a@client.test", "c@server.test")
            assert (
                kept("too-many-recipients", server)
                == "the accepted recipients got the message, the others got it later"
            )
            assert len(server.messages) == 2

    def test_broken_by_calling_it_off(self):
        with fake(*self.FULL) as server, self.begun(server) as raw:
            raw.say("RSET")
            why, proof = broke("too-many-recipients", server)
            assert why == "the accepted recipients were not sent the message"
            assert proof == ["#1 rcpt 452", "#1 rset 250"]

    def test_broken_by_forgetting_the_rest(self):
        with fake(*self.FULL) as server:
            with smtplib.SMTP(server.host, server.port, "client.test") as client:
                client.sendmail("a@client.test", ["b@server.test", "c@server.test"], MESSAGE)
            assert broke("too-many-recipients", server) == (
                "c@server.test was over the limit, and was not tried again", ["#1 rcpt 452"]
            )  # fmt: skip


class TestNoDowngrade:
    def test_helo(self):
        with fake(one("ehlo", times=1, reply=NO, close=False)) as server, Raw(server) as raw:
            raw.reply()
            raw.say("EHLO client.test")
            kept("no-downgrade", server)
            raw.say("HELO client.test")
            assert broke("no-downgrade", server) == (
                "HELO was sent after EHLO had been answered 421", ["#1 ehlo 421", "#1 ehlo 250"]
            )  # fmt: skip

    def test_helo_into_a_connection_that_the_421_has_closed(self):
        with fake(one("ehlo", times=1, reply=NO)) as server:
            with Raw(server) as raw:
                raw.reply()
                raw.say("EHLO client.test")
                kept("no-downgrade", server)
                raw.send("HELO client.test\r\n")
                raw.until_end()
            server.settle()
            assert broke("no-downgrade", server) == (
                "HELO was sent after EHLO had been answered 421", ["#1 ehlo 421", "smtp #1"]
            )  # fmt: skip

    @pytest.mark.parametrize("at", ["starttls", "mail"])
    def test_clear_text(self, at):
        with fake(one(at, times=1, reply=NO), tls="starttls") as server:
            with Raw(server).hello() as raw, contextlib.suppress(AssertionError):
                raw.starttls(trusting(server))
                raw.say("EHLO client.test")
                raw.say("MAIL FROM:<a@client.test>")
            with Raw(server).hello().starttls(trusting(server)) as raw:
                raw.say("EHLO client.test")
                raw.deliver()
            kept("no-downgrade", server)
            with Raw(server).hello() as raw:
                raw.deliver(letter(2))
            assert broke("no-downgrade", server) == (
                "mail came in clear text after TLS had failed", [f"#1 {at} 421", "#3 mail 250"]
            )  # fmt: skip

    def test_a_handshake_that_failed(self):
        with FakeSMTP("smtp/untrusted-certificate", clock=ManualClock()) as server:
            sender = CarefulSender(server, server.clock.advance, tls=trusting(server))
            sender.attempt()
            server.wait_for(lambda j: j.connections[0].ended_by)
            kept("no-downgrade", server)
            tries(server)
            assert broke("no-downgrade", server)[1] == ["#1 tls not", "#2 mail 250"]


# ---- whole clients -----------------------------------------------------------------------------------


def verdicts(server: FakeSMTP) -> dict[str, str]:
    """What was held and what was broken."""
    server.settle()
    found = judge(Run([server.journal]))
    return {v.rule.id.removeprefix("smtp."): v.outcome for v in found if v.outcome != "not exercised"}


def sends(server: FakeSMTP, number: int = 1) -> None:
    with smtplib.SMTP(server.host, server.port, "client.test", timeout=300) as client:
        client.sendmail("a@client.test", ["b@server.test"], letter(number))


def persistent(wait: tenacity.wait.wait_base, attempts: int) -> tenacity.Retrying:
    return tenacity.Retrying(wait=wait, stop=tenacity.stop_after_attempt(attempts), reraise=True)


@pytest.fixture
def forward() -> Iterator[FastForward]:
    with FastForward() as on:
        yield on


@pytest.mark.skipif(sys.platform == "win32", reason="fast_forward needs poll()")
class TestSenders:
    """What people send mail with, under an overload of ten minutes and elsewhere."""

    def test_smtplib_as_it_is(self, forward):
        with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as server:
            with pytest.raises(smtplib.SMTPConnectError):
                sends(server)
            assert verdicts(server) == {
                "nothing-but-quit": "held", "survives-421": "held", "remembers-busy-host": "held", "tries-again": "broken",
            }  # fmt: skip

    def test_smtplib_in_a_loop_without_a_wait(self, forward):
        with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as server:
            for _ in range(20):
                with pytest.raises(smtplib.SMTPConnectError):
                    sends(server)
            assert verdicts(server) == {
                "nothing-but-quit": "held", "survives-421": "held", "wait-before-retry": "inconclusive",
                "tries-again": "inconclusive", "no-bounce-for-421": "inconclusive", "remembers-busy-host": "inconclusive",
            }  # fmt: skip

    def test_smtplib_in_a_loop_over_its_queue(self, forward):
        with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as server:
            for wait in (1200, 0):
                for number in range(8):
                    with contextlib.suppress(smtplib.SMTPConnectError):
                        sends(server, number)
                time.sleep(wait)
            found = verdicts(server)  # each message was tried once, and again after 20 minutes
            assert "broken" not in found.values()
            assert found["wait-before-retry"] == "inconclusive"

    def test_tenacity_with_a_back_off(self, forward):
        with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as server:
            persistent(tenacity.wait_exponential(multiplier=60), 9)(sends, server)
            assert verdicts(server) == {
                "nothing-but-quit": "held", "survives-421": "held", "wait-before-retry": "held", "retry-interval": "held",
                "tries-again": "held", "no-bounce-for-421": "held", "intervals-grow": "held",
                "remembers-busy-host": "held", "no-second-copy": "held",
            }  # fmt: skip
            assert kept("intervals-grow", server) == "the gaps were 1m, 2m, 4m, 8m: exponential"

    def test_tenacity_as_it_is(self, forward):
        """By itself it waits not at all."""
        with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as server:
            with pytest.raises(smtplib.SMTPConnectError):
                persistent(tenacity.wait_none(), 5)(sends, server)
            assert verdicts(server)["wait-before-retry"] == "inconclusive"
        with FakeSMTP("smtp/at-stage", stage="rcpt", outage="10m", clock=forward.clock) as server:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                persistent(tenacity.wait_none(), 5)(sends, server)
            assert verdicts(server)["wait-before-retry"] == "broken"
            assert broke("intervals-grow", server)[0] == "the gaps were 0s, 0s, 0s, 0s: immediate"

    def test_tenacity_resends_what_was_accepted_if_it_retries_any_error(self, forward):
        """smtplib reports the 421 after the 250 from QUIT, if at all; who retries then sends a second copy."""

        def send() -> None:
            client = smtplib.SMTP(server.host, server.port, "client.test")
            client.sendmail("a@client.test", ["b@server.test"], letter())
            code, text = client.noop()
            client.close()
            if code != 250:
                raise smtplib.SMTPResponseException(code, text)

        with FakeSMTP("smtp/accepted-then-421", clock=forward.clock) as server:
            with pytest.raises(smtplib.SMTPResponseException):
                persistent(tenacity.wait_fixed(60), 2)(send)
            assert verdicts(server)["no-second-copy"] == "broken"

    def test_aiosmtplib_as_it_is(self, forward):
        async def main() -> None:
            await aiosmtplib.send(
                letter(), sender="a@client.test", recipients=["b@server.test"], hostname=server.host, port=server.port,
                local_hostname="client.test", timeout=60,
            )  # fmt: skip

        with FakeSMTP("smtp/at-stage", stage="rcpt", clock=forward.clock) as server:
            with pytest.raises(aiosmtplib.SMTPException):
                asyncio.run(main())
            assert verdicts(server)["tries-again"] == "broken"
            assert verdicts(server)["survives-421"] == "held"
        with FakeSMTP("smtp/healthy", clock=forward.clock) as server:
            server.play(rules(one("message", delay="5m")))
            with pytest.raises(aiosmtplib.SMTPException):
                asyncio.run(main())  # its time-out is a minute, as it is by default
            assert broke("patience", server)[0] == "it left after 1m; 10m is what the reply to the final dot may take"

    def test_aiosmtplib_with_several_workers(self, forward):
        async def worker(number: int) -> None:
            delay = 60.0 + 7 * number
            while True:
                try:
                    await aiosmtplib.send(
                        letter(number), sender=f"{number}@client.test", recipients=["b@server.test"],
                        hostname=server.host, port=server.port, local_hostname="client.test", timeout=60,
                    )  # fmt: skip
                except aiosmtplib.SMTPException:
                    await asyncio.sleep(delay)
                    delay *= 2
                else:
                    return

        async def main() -> None:
            await asyncio.gather(*map(worker, range(4)))

        with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as server:
            asyncio.run(main())
            server.assert_delivered()
            assert "broken" not in verdicts(server).values()
            assert kept("jitter", server) == "no group of connections came back together"


def alone() -> Iterator[Any]:
    """Every variant of every scenario that takes no other client, and no real time, to be met."""
    for name, knobs in variants(SMTP, "smtp"):
        case = SMTP.case(name)
        if not (case.fast or case.holding or case.witness):
            yield pytest.param(name, knobs, id="-".join([name, *map(str, knobs.values())]))


@pytest.mark.parametrize(("name", "knobs"), list(alone()))
def test_a_careful_client_breaks_no_rule_in_any_scenario(name, knobs):
    case = SMTP.case(name)
    with FakeSMTP(name, clock=ManualClock(), seed=SEED, **{**case.knobs, **knobs}) as server:
        client = SMTP.client(server, case, knobs, **({"patience": 0.25} if case.times_out(knobs) else {}))
        assert SMTP.deliver(client, case)
        server.settle()
        broken = [in_words(v) for v in judge(Run([server.journal])) if v.outcome == "broken"]
        assert not broken, "\n".join(broken)


# ---- no occasion, any journal ------------------------------------------------------------------------


def test_a_run_in_which_nothing_is_refused_exercises_next_to_nothing():
    with fake() as server:
        assert tries(server) == [250]
        outcomes = {v.rule.id: v.outcome for v in judge(Run([server.journal]))}
    assert outcomes.pop("smtp.no-second-copy") == "held"
    assert set(outcomes.values()) == {"not exercised"}
    assert len(outcomes) == 24


def test_a_client_that_only_greets_has_sent_nothing():
    with fake() as server, Raw(server).hello() as raw:
        raw.say("QUIT")
        assert {v.outcome for v in judge(Run([server.journal]))} == {"not exercised"}


LINES = st.sampled_from(
    ["EHLO x", "HELO x", "MAIL FROM:<a@b.test>", "MAIL FROM:<>", "mail from: x", "RCPT TO:<c@d.test>", "RCPT TO:<e@f.test>",
     "DATA", ".", "hello", "RSET", "NOOP", "QUIT", "STARTTLS", "AUTH PLAIN AGEAYg==", "", "\x00", "\xff"]
)  # fmt: skip
REPLIES = st.sampled_from(
    [
        "421",
        "421 x",
        "450 4.7.1 x",
        "452 4.5.3 x",
        "550 5.1.1 x",
        "250 x",
        "432 x",
        "4",
        ["421-x", "421 y"],
        ["250 x", "421 y"],
    ]
)
MOMENTS = st.sampled_from(
    ["connect", "ehlo", "mail", "rcpt", "data", "body", "message", "rset", "any", "error", "quit"]
)


@st.composite
def _faults(draw: st.DrawFn) -> Scenario:
    texts = []
    for _ in range(draw(st.integers(0, 4))):
        on = draw(MOMENTS)
        fault = draw(st.sampled_from(["reply", "close"]))
        keys = {"reply": draw(REPLIES)} if fault == "reply" else {"close": True}
        if fault == "reply" and on != "error":
            keys["close"] = draw(st.booleans())
        texts.append(one(on, nth=draw(st.integers(1, 3)), **keys))
    return rules(*texts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_client_and_no_server_make_a_rule_raise(data):
    clock = ManualClock()
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in range(data.draw(st.integers(1, 2))):
            with contextlib.suppress(ValueError):  # a reply that the loader does not take
                servers.append(stack.enter_context(FakeSMTP(data.draw(_faults()), clock=clock)))
        for server in servers:
            for _ in range(data.draw(st.integers(0, 3))):
                with contextlib.suppress(OSError, EOFError), Raw(server) as raw:
                    raw.reply()
                    for line in data.draw(st.lists(LINES, max_size=8)):
                        raw.send(line.encode("utf-8") + b"\r\n")
                    raw.sock.shutdown(1)
                    raw.until_end()
                clock.advance(data.draw(st.sampled_from([0, 1, 60, HOUR, DAY])))
        run = Run([server.journal for server in servers])
        _sound(run)


def _sound(run: Run) -> None:
    for verdict in judge(run, smtp.RULES):
        assert verdict.outcome in ("held", "broken", "inconclusive", "not exercised")
        assert bool(verdict.finding.evidence) >= (verdict.outcome == "broken")
        in_words(verdict)


TEXT = st.text(max_size=12) | LINES
REPLY = (
    st.none()
    | st.text(max_size=20)
    | st.sampled_from(["421 x", "250 x", "354 x", "421", "250 x\n421 y", "220 x", "552 5.2.2 x"])
)


@settings(max_examples=200, deadline=None)
@given(
    entries=st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([*"ab"]), MOMENTS | st.sampled_from(["starttls", "tls", "idle", "enter", "x"]),
            TEXT, REPLY, st.none() | st.sampled_from(["reply", "close", "stopped"]), st.booleans(),
            st.sampled_from([None, Message(None, "0", "", ()), Message("<1@x>", "0", "", ())]),
            st.sampled_from([None, "client", "fake"]), st.sampled_from([0, 0.01, 5, 4000, 90_000]),
        ),
        max_size=40,
    )
)  # fmt: skip
def test_no_journal_makes_a_rule_raise(entries):
    clock = ManualClock()
    recorders = [Recorder(clock, protocol="smtp", server=name) for name in ("one", "two")]
    live: dict[int, Connection] = {}
    for number, client, moment, request, reply, fault, closed, facts, end, later in entries:
        recorder = recorders[number % 2]
        if number not in live:
            live[number] = recorder.open(str(number), client, 1)
        connection = live[number]
        exchange = recorder.ask(connection, moment, request, "one")
        recorder.facts(exchange, facts)
        if fault == "stopped":
            recorder.stopped(exchange)
        elif fault is not None:
            recorder.refused(exchange, fault)
        if closed:
            recorder.end(exchange)
        clock.advance(later)
        if reply is not None:
            recorder.answer(exchange, reply)
        if end is not None:
            recorder.close(connection, end)
            del live[number]
    _sound(Run([recorder.journal for recorder in recorders]))
