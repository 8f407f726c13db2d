"""Where a client turned to, when it gave up and how it behaved: assertions over pairs of fakes and stock clients."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from notnow import FakeSMTP, ManualClock, Scenario
from notnow.conduct.judging import UnknownRuleError
from smtp_client import MESSAGE, one, rules, then

HOUR, DAY = 3600.0, 86_400.0
REFUSED = one("connect", reply="421 not now")


def send(*fakes: FakeSMTP, between: float = 0.0) -> bool:
    """smtplib tries these servers in turn, so many seconds apart; True if one of them has taken the message."""
    for fake in fakes:
        try:
            with smtplib.SMTP(fake.host, fake.port, local_hostname="client.test") as client:
                client.sendmail("a@client.test", ["b@server.test"], MESSAGE)
        except smtplib.SMTPException:
            fake.settle()
            fake.clock.advance(between)
        else:
            return True
    return False


def fails(check: Callable[[], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


def outage(lasts: str, *texts: str) -> FakeSMTP:
    return FakeSMTP(rules(*(texts or (REFUSED,)), then("up"), phase=f'lasts = "{lasts}"'), clock=ManualClock())


# ---- another server -----------------------------------------------------------------------------


@contextmanager
def pair(primary: str | Scenario = "smtp/overload") -> Iterator[tuple[FakeSMTP, FakeSMTP]]:
    clock = ManualClock()
    with FakeSMTP(primary, name="primary", clock=clock) as first, FakeSMTP(name="backup", clock=clock) as second:
        yield first, second


class TestFellBack:
    def test_to_the_next_one(self):
        with pair() as (primary, backup):
            assert send(primary, backup)
            primary.assert_fell_back_to(backup)
            primary.assert_fell_back_to(backup, within=0)

    @pytest.mark.parametrize("moment", ["mail", "rcpt", "message"])
    def test_after_a_refusal_later_on(self, moment):
        with pair(rules(one(moment, reply="451 4.3.0 not now"))) as (primary, backup):
            assert send(primary, backup)
            primary.assert_fell_back_to(backup)

    def test_in_time_and_too_late(self):
        with pair() as (primary, backup):
            assert send(primary, backup, between=5)
            primary.assert_fell_back_to(backup, within="5s")
            text = fails(lambda: primary.assert_fell_back_to(backup, within="4s"))
        first, _, picture = text.partition("\n\n")
        assert first == "expected the client to fall back from primary to backup within 4s, but that took 5s"
        marked = [line for line in picture.splitlines() if line.startswith("->")]
        assert "421" in marked[0]
        assert any("backup" in line for line in marked)

    def test_the_time_runs_from_the_first_refusal(self):
        with pair() as (primary, backup):
            assert send(primary, primary, backup, between=5)
            primary.assert_fell_back_to(backup, within=10)
            assert "but that took 10s" in fails(lambda: primary.assert_fell_back_to(backup, within=9))

    def test_never(self):
        with pair() as (primary, backup):
            assert not send(primary, primary)
            text = fails(lambda: primary.assert_fell_back_to(backup))
        assert text.startswith("expected the client to fall back from primary to backup, but it never came to backup")

    def test_who_came_before_and_not_since(self):
        with pair() as (primary, backup):
            assert send(backup)
            assert not send(primary)
            text = fails(lambda: primary.assert_fell_back_to(backup))
            assert ", but it had been at backup before, and not since\n" in text
            assert send(backup)
            primary.assert_fell_back_to(backup)

    def test_who_was_not_sent_away(self):
        with pair("smtp/healthy") as (primary, backup):
            assert send(primary)
            assert send(backup)
            assert ", but primary refused nothing\n" in fails(lambda: primary.assert_fell_back_to(backup))

    def test_the_other_way_round(self):
        with pair() as (primary, backup):
            assert send(primary, backup)
            assert ", but backup refused nothing\n" in fails(lambda: backup.assert_fell_back_to(primary))


# ---- giving up ----------------------------------------------------------------------------------


def keep_trying(fake: FakeSMTP, interval: float, until: float) -> None:
    """A sender that tries every so many seconds, and a last time before `until` is over."""
    begun = fake.clock.now()
    while fake.clock.now() - begun < until and not send(fake):
        fake.clock.advance(interval)


class TestGaveUp:
    def test_after_five_days(self):
        with outage("10d") as fake:
            keep_trying(fake, 3 * HOUR, until=5 * DAY)
            fake.assert_gave_up(after="5d")
            fake.assert_gave_up(after=5 * DAY)

    def test_too_early(self):
        with outage("10d") as fake:
            keep_trying(fake, 3 * HOUR, until=5 * DAY - HOUR - 3 * HOUR)
            text = fails(lambda: fake.assert_gave_up(after="5d"))
        assert text.startswith(
            "expected the client to try for 5d and then give up, but its last try came after 4d 18h\n"
        )

    def test_too_late(self):
        with outage("10d") as fake:
            keep_trying(fake, 3 * HOUR, until=5 * DAY + 6 * HOUR)
            text = fails(lambda: fake.assert_gave_up(after="5d"))
        assert text.startswith("expected the client to try for 5d and then give up, but it still tried after 5d 3h\n")

    def test_the_last_try_may_be_a_whole_interval_before(self):
        with outage("10d") as fake:
            for wait in (HOUR, 2 * HOUR, 4 * HOUR):
                assert not send(fake)
                fake.clock.advance(wait)
            assert not send(fake)
            # At 7 h it may have looked at the age, and found that it was past the limit.
            for after in (3 * HOUR + 1, 7 * HOUR, 11 * HOUR):
                fake.assert_gave_up(after=after)
            for after in (3 * HOUR, 11 * HOUR + 1):
                fails(lambda after=after: fake.assert_gave_up(after=after))

    def test_at_once(self):
        with outage("10d") as fake:
            assert not send(fake)
            fake.assert_gave_up(after=0)
            assert "its last try came after " in fails(lambda: fake.assert_gave_up(after="5d"))

    def test_nothing_was_refused(self):
        with FakeSMTP(clock=ManualClock()) as fake:
            assert "but nobody connected, so nothing was refused" in fails(lambda: fake.assert_gave_up(after="5d"))
            assert send(fake)
            assert "but nothing was refused" in fails(lambda: fake.assert_gave_up(after="5d"))

    def test_as_a_scenario_expects_it(self):
        scenario = rules(REFUSED, then("up", "[expect]\ngave_up = '5d'"), phase="lasts = '10d'")
        with FakeSMTP(scenario, clock=ManualClock()) as fake:
            keep_trying(fake, 3 * HOUR, until=2 * DAY)
            assert "to try for 5d and then give up" in fails(fake.assert_expected)
            fake.play(scenario)
            keep_trying(fake, 3 * HOUR, until=5 * DAY)
            fake.assert_expected()


# ---- conduct ------------------------------------------------------------------------------------


@contextmanager
def after_a_421_to_ehlo() -> Iterator[FakeSMTP]:
    """smtplib goes on with HELO after a 421 to EHLO, which some rules advise against; it is patient otherwise."""
    with outage("10m", one("ehlo", reply="421 4.3.2 not now")) as fake:
        assert not send(fake)
        fake.clock.advance(2 * HOUR)
        assert send(fake)
        yield fake


class TestConduct:
    def test_of_who_behaves_well(self):
        with FakeSMTP("smtp/overload", outage="10m", clock=ManualClock()) as fake:
            assert not send(fake)
            fake.clock.advance(HOUR)
            assert send(fake)
            for level in ("must", "should", "advice"):
                fake.assert_conduct(level=level)
            fake.assert_conduct("*")

    def test_a_must_was_broken(self):
        with outage("10m", one("rcpt", reply="451 4.7.1 later")) as fake:
            assert not send(fake, fake)
            fake.clock.advance(HOUR)
            assert send(fake)
            text = fails(fake.assert_conduct)
        said, _, picture = text.partition("\n\ntimeline")
        assert said.startswith(
            "expected a client that behaves well, but a rule of conduct was broken\n\n"
            "broken: smtp.wait-before-retry (must): The client waits before it tries the same server again.\n"
        )
        assert "`notnow conduct smtp.wait-before-retry` explains it" in said
        assert sum(line.startswith("->") for line in picture.splitlines()) == 4  # two, in the timeline and transcript

    def test_the_level(self):
        with after_a_421_to_ehlo() as fake:
            fake.assert_conduct()
            fake.assert_conduct(level="should")
            text = fails(lambda: fake.assert_conduct(level="advice"))
        assert "2 rules of conduct were broken" in text
        assert "broken: smtp.nothing-but-quit (advice)" in text
        assert "broken: smtp.no-downgrade (advice)" in text

    def test_single_rules_whatever_their_level(self):
        with after_a_421_to_ehlo() as fake:
            fake.assert_conduct("smtp.wait-before-retry", "smtp.tries-again")
            text = fails(lambda: fake.assert_conduct("smtp.wait-before-retry", "smtp.no-downgrade"))
            assert "a rule of conduct was broken\n\nbroken: smtp.no-downgrade" in text

    def test_patterns(self):
        with after_a_421_to_ehlo() as fake:
            fake.assert_conduct("smtp.*-retry")
            text = fails(lambda: fake.assert_conduct("smtp.no-*"))
            assert "a rule of conduct was broken\n\nbroken: smtp.no-downgrade" in text
            assert "2 rules of conduct were broken" in fails(lambda: fake.assert_conduct("smtp.*"))

    def test_what_the_scenario_expects_unless_single_rules_are_named(self):
        with FakeSMTP("smtp/overload", clock=ManualClock()) as fake:
            assert not send(fake)
            fake.assert_conduct("smtp.survives-421")
            text = fails(lambda: fake.assert_conduct(level="must"))
            assert text.startswith("expected every message to be delivered once, but none was")
            assert "smtp.tries-again (should)" in fails(fake.assert_conduct)

    def test_nobody_connected(self):
        with FakeSMTP(clock=ManualClock()) as fake:
            for given in ((), ("smtp.*",)):
                text = fails(lambda given=given: fake.assert_conduct(*given))
                assert text.startswith("expected a client that behaves well, but nobody connected\n")

    def test_nobody_since_the_last_play(self):
        with FakeSMTP(clock=ManualClock()) as fake:
            assert send(fake)
            fake.assert_conduct()
            fake.play("smtp/overload")
            assert "but nobody connected\n" in fails(fake.assert_conduct)

    @pytest.mark.parametrize("wanted", ["smtp.wait-before-rety", "ftp.*", "ftp.waits-after-421", ""])
    def test_no_rule_that_there_is(self, wanted):
        with FakeSMTP(clock=ManualClock()) as fake:
            assert send(fake)
            with pytest.raises(UnknownRuleError, match="there is no rule of conduct") as caught:
                fake.assert_conduct("smtp.*", wanted)
        assert repr(wanted) in str(caught.value)
        assert ("did you mean 'smtp.wait-before-retry'?" in str(caught.value)) is (wanted == "smtp.wait-before-rety")

    def test_no_level_that_there_is(self):
        with FakeSMTP(clock=ManualClock()) as fake:
            assert send(fake)
            with pytest.raises(ValueError, match="level is 'shoud'; allowed: must, should, advice"):
                fake.assert_conduct(level="shoud")


@pytest.mark.parametrize(
    "check",
    [
        FakeSMTP.assert_delivered,
        FakeSMTP.assert_no_duplicates,
        lambda fake: fake.assert_never_exceeded(connections=1),
        lambda fake: fake.assert_amplification(at_most=1),
    ],
)
def test_what_a_full_journal_has_dropped_may_break_any_claim_about_the_whole_run(
    check: Callable[[FakeSMTP], None],
) -> None:
    for limit in (1000, 10):
        with FakeSMTP(journal_limit=limit) as fake:
            for n in range(3):
                with smtplib.SMTP(fake.host, fake.port, local_hostname="client.test") as client:
                    client.sendmail("a@client.test", [f"{n}@server.test"], f"Message-ID: <{n}@client.test>\r\n\r\n")
                fake.wait_for(lambda j: j.connections[-1].ended_by, timeout=5)
            if limit == 1000:
                check(fake)
                continue
            with pytest.raises(AssertionError, match=f"the journal dropped {fake.journal.dropped} exchanges"):
                check(fake)
