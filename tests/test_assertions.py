"""Assertions about clients, over real fakes: what passes, and the picture that comes with what does not."""

from __future__ import annotations

import smtplib
from collections.abc import Callable

import pytest

from notnow import FakeSMTP, ManualClock
from smtp_client import MESSAGE, CarefulSender, Raw, one, rules, then

NO = "421 4.3.2 Not now, says the test"
REFUSED = one("connect", reply=NO)


def outage(lasts: str = "100s", *texts: str) -> FakeSMTP:
    """A fake that is down for a while, on a clock that stands still."""
    return FakeSMTP(rules(*(texts or (REFUSED,)), then("recovered"), phase=f'lasts = "{lasts}"'), clock=ManualClock())


def healthy() -> FakeSMTP:
    return FakeSMTP(clock=ManualClock())


def tries(fake: FakeSMTP, *gaps: float, content: bytes = MESSAGE) -> list[int]:
    """A client that tries at once, and again after each gap (seconds): the codes that it got."""
    assert isinstance(fake.clock, ManualClock)
    sender = CarefulSender(fake, fake.clock.advance)
    codes = [sender.attempt(content)]
    for gap in gaps:
        fake.clock.advance(gap)
        codes.append(sender.attempt(content))
    fake.settle()
    return codes


def fails(check: Callable[[], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


class TestDelivered:
    def test_once(self):
        with healthy() as fake:
            assert tries(fake) == [250]
            fake.assert_delivered()
            fake.assert_delivered(times=1)
            fake.assert_no_duplicates()

    def test_none_at_all(self):
        with healthy() as fake:
            assert fails(fake.assert_delivered).startswith(
                "expected every message to be delivered once, but none was delivered: nobody connected\n\ntimeline"
            )

    def test_a_client_that_gives_up(self):
        with outage() as fake:
            assert tries(fake) == [421]
            text = fails(fake.assert_delivered)
        first, _, picture = text.partition("\n\n")
        assert first == (
            "expected every message to be delivered once, but none was delivered: "
            f"the client was told {NO!r} at connect and did not come back"
        )
        assert picture.splitlines() == [
            "timeline (scenario time)",
            f"->        0s  #1    x connect: {NO}; the fake closed",
            "",
            "transcript",
            "   #1 from 127.0.0.1",
            f"->        0s  S  {NO}   (and closes)   [reply, phase[0].rule[0]]",
        ]

    def test_a_client_that_came_back_in_vain(self):
        with outage() as fake:
            assert tries(fake, 1, 1) == [421, 421, 421]
            assert (
                f"the client came back twice and was refused again: the last time it was told {NO!r} at connect"
                in fails(fake.assert_delivered)
            )
        with outage("100s", one("mail", reply=NO)) as fake:
            assert tries(fake) == [421]
            with Raw(fake).hello():
                fake.settle()
                assert (
                    f"came back and got no message through; the last time that it was refused, it was told {NO!r} at mail"
                    in fails(fake.assert_delivered)
                )

    def test_a_client_that_never_came_to_the_dot(self):
        with healthy() as fake:
            with Raw(fake).hello().mail() as raw:
                raw.send("Subject: half")
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert "the client never finished a message" in fails(fake.assert_delivered)

    def test_a_close_without_a_word(self):
        with outage("100s", one("connect", close=True)) as fake:
            tries(fake)
            assert "got a close without a word at connect" in fails(fake.assert_delivered)

    def test_twice(self):
        with healthy() as fake:
            assert tries(fake, 5) == [250, 250]
            fake.assert_delivered(times=2)
            text = fails(fake.assert_delivered)
            assert text.startswith(
                "expected every message to be delivered once, but <1@client.test> to b@server.test was stored twice"
            )
            assert text.count("-> ") == 4  # both, in the timeline and in the transcript
            assert fails(fake.assert_no_duplicates).startswith(
                "expected nothing to be stored twice, but <1@client.test> to b@server.test was stored twice"
            )

    def test_copies_are_told_by_content_where_there_is_no_message_id(self):
        with healthy() as fake:
            tries(fake, content=b"Subject: one\r\n\r\n")
            tries(fake, content=b"Subject: two\r\n\r\n")
            fake.assert_delivered(times=1)
            tries(fake, content=b"Subject: two\r\n\r\n")
            assert "sha256:" in fails(fake.assert_delivered)

    def test_a_message_id_in_the_body_is_none(self):
        with healthy() as fake:
            tries(fake, content=b"Subject: one\r\n\r\nMessage-ID: <x@y>\r\n")
            tries(fake, content=b"Subject: two\r\n\r\nMessage-ID: <x@y>\r\n")
            fake.assert_delivered(times=1)


class TestRetried:
    def test_after_a_refusal(self):
        with outage() as fake:
            assert tries(fake, 60, 60) == [421, 421, 250]
            fake.assert_retried()
            fake.assert_retried(times=2)
            fake.assert_retried(times=(1, 2))
            fake.assert_retried(within="1m", times=1)
            fake.assert_retried(within=120, times=2)
            fake.assert_retried(first_delay=60)
            fake.assert_retried(first_delay=("30s", "1m"))
            fake.assert_delivered()

    def test_never(self):
        with outage() as fake:
            tries(fake)
            assert fails(fake.assert_retried).startswith(
                "expected the client to try again at least once, but it never tried again"
            )
            assert "it never tried again" in fails(lambda: fake.assert_retried(times=(0, 3), first_delay=1))

    def test_nothing_was_refused(self):
        with healthy() as fake:
            tries(fake, 5)
            assert "nothing was refused: there was nothing to retry" in fails(fake.assert_retried)

    def test_too_seldom_too_often_too_late(self):
        with outage() as fake:
            tries(fake, 60, 60)
            assert "at least 3 times, but it tried again twice" in fails(lambda: fake.assert_retried(times=3))
            assert "0 to 1 times, but it tried again twice" in fails(lambda: fake.assert_retried(times=(0, 1)))
            assert "twice within 1m of the first refusal, but it tried again once" in fails(
                lambda: fake.assert_retried(times=2, within="60s")
            )

    def test_too_soon(self):
        with outage() as fake:
            tries(fake, 60, 60)
            text = fails(lambda: fake.assert_retried(first_delay="5m"))
            assert text.startswith("expected a first delay of at least 5m, but it was 1m")
            assert text.count("-> ") == 4  # the refusal and the attempt
            assert "30s to 40s, but it was 1m" in fails(lambda: fake.assert_retried(first_delay=("30s", 40)))

    @pytest.mark.parametrize(
        ("gaps", "shape"), [((5, 5, 5, 5), "constant"), ((5, 10, 15, 20), "linear"), ((5, 10, 20, 40), "exponential")]
    )
    def test_the_shape_of_a_back_off(self, gaps, shape):
        with outage("1h") as fake:
            tries(fake, *gaps)
            fake.assert_retried(backoff=shape)
            for other in {"constant", "linear", "exponential"} - {shape}:
                text = fails(lambda other=other: fake.assert_retried(backoff=other))
                assert text.startswith(
                    f"expected {'an' if other == 'exponential' else 'a'} {other} back-off, but the gaps were 5s, "
                )
                assert f": {shape}" in text

    def test_too_few_gaps_to_tell(self):
        with outage("1h") as fake:
            tries(fake, 1, 2)
            assert "2 gaps (1s, 2s) cannot tell: it takes 3" in fails(
                lambda: fake.assert_retried(backoff="exponential")
            )

    def test_no_shape_that_there_is(self):
        with outage("1h") as fake:
            tries(fake, 1, 2, 3)
            with pytest.raises(ValueError, match="backoff is 'quadratic'; allowed: constant, linear, exponential"):
                fake.assert_retried(backoff="quadratic")

    def test_a_delay_runs_from_the_end_of_the_refusal(self):
        with outage("1h", one("connect", delay="30s", drip="1s", reply="421 x")) as fake:
            with Raw(fake) as raw:
                fake.wait_for(lambda j: j.count("connect"))
                fake.clock.advance("36s")  # five characters and a line end
                assert raw.until_end() == "421 x\r\n"
            fake.clock.advance("10s")
            with Raw(fake):
                fake.wait_for(lambda j: j.count("connect") == 2)
                fake.assert_retried(first_delay=(10, 10))

    def test_on_the_same_connection(self):
        with outage("10s", one("rcpt", reply="450 4.2.0 greylisted")) as fake:
            with smtplib.SMTP(fake.host, fake.port) as client:
                for _ in range(2):
                    try:
                        client.sendmail("a@b.test", ["c@d.test"], MESSAGE)
                    except smtplib.SMTPRecipientsRefused:
                        fake.clock.advance("10s")
            fake.assert_retried(times=(1, 1), first_delay=(10, 10))
            fake.assert_delivered()

    def test_another_sender_is_no_retry(self):
        with FakeSMTP(rules(one("rcpt", times=1, reply="450 no"))) as fake, Raw(fake).hello() as raw:
            for sender in ("one", "two"):
                raw.say(f"MAIL FROM:<{sender}@b.test>")
                raw.say("RCPT TO:<c@d.test>")
                raw.say("RSET")
            assert "it never tried again" in fails(fake.assert_retried)

    def test_a_goodbye_of_the_fake_that_stops_is_no_refusal_to_retry_in_vain(self):
        with healthy() as fake:
            raw = Raw(fake).hello()
        with raw:
            assert raw.reply().startswith("421")
        assert [x.fault for x in fake.journal.exchanges][-1] == "stopped"


class TestNeverExceeded:
    def test_one_at_a_time(self):
        leavings: list[Callable[[Raw], object]] = [
            lambda raw: raw.say("QUIT"), lambda raw: raw.send("QUIT\r\n"), lambda raw: raw.send("NOOP\r\n"), lambda raw: None, Raw.reset,
        ]  # fmt: skip
        for leave in leavings:
            with healthy() as fake:
                for _ in range(100):
                    with Raw(fake).hello() as raw:
                        leave(raw)
                fake.assert_never_exceeded(connections=1)

    def test_one_too_many(self):
        with FakeSMTP("smtp/too-many-connections", cap=2, clock=ManualClock()) as fake:
            raws = [Raw(fake) for _ in range(3)]
            for raw in raws:
                raw.reply()
            fake.assert_never_exceeded(connections=3)
            text = fails(lambda: fake.assert_never_exceeded(connections=2))
            assert text.startswith("expected at most 2 connections at a time, but there were 3")
            assert "->        0s  #3    x connect: 421" in text
            for raw in raws:
                raw.close()

    def test_refused_ones_count_while_they_come(self):
        with FakeSMTP("smtp/overload") as fake:
            for _ in range(5):
                with Raw(fake) as raw:
                    raw.until_end()
            fake.assert_never_exceeded(connections=1)


class TestExpected:
    def test_of_the_scenario(self):
        with FakeSMTP("smtp/overload", outage="10s", clock=ManualClock()) as fake:
            assert tries(fake) == [421]
            assert "expected every message to be delivered once" in fails(fake.assert_expected)
            fake.clock.advance(10)
            assert tries(fake) == [250]
            fake.assert_expected()

    def test_nothing_was_tested(self):
        with FakeSMTP("smtp/too-many-connections", clock=ManualClock()) as fake:
            assert tries(fake) == [250]
            said = "nothing was tested: smtp/too-many-connections has faults at connect, and none of them fired"
            assert said in fails(fake.assert_expected)
            assert said in fails(fake.assert_conduct)
            fake.assert_conduct("smtp.no-second-copy")

    def test_the_number_of_items_settles_what_the_wire_cannot_tell(self):
        with FakeSMTP("smtp/overload", outage="10s", clock=ManualClock()) as fake:
            assert tries(fake, 0, 10) == [421, 421, 250]
            assert "(--count N, count=N in pytest) would settle it" in fails(fake.assert_expected)
            fake.assert_expected(count=1)
            assert "expected 2 messages to be delivered, but there was 1" in fails(
                lambda: fake.assert_expected(count=2)
            )

    def test_since_the_last_play(self):
        with healthy() as fake:
            assert tries(fake, 1) == [250, 250]
            fails(fake.assert_expected)
            fake.play("smtp/healthy")
            assert "nobody connected" in fails(fake.assert_expected)
            assert tries(fake) == [250]
            fake.assert_expected()
            fails(fake.assert_delivered)  # reads the whole journal

    @pytest.mark.parametrize(
        ("expect", "good", "bad"),
        [
            ("delivered = { times = 2 }", (250, 250), (250,)),
            ("no_duplicates = true", (250,), (250, 250)),
            ("retried = { times = 1, first_delay = '5s' }", (421, 250), (421,)),
            ("never_exceeded = { connections = 1 }", (250, 250), None),
        ],
    )
    def test_each_key(self, expect, good, bad):
        for codes in (good, bad):
            if codes is None:
                continue
            lasts = "1s" if codes[0] == 250 else "5s"
            refused = REFUSED if codes[0] == 421 else ""
            scenario = rules(refused, then("up"), head="", phase=f'lasts = "{lasts}"')
            scenario = type(scenario)(
                **{**{f: getattr(scenario, f) for f in scenario.__slots__}, "expect": _expect(expect)}
            )
            with FakeSMTP(scenario, clock=ManualClock()) as fake:
                if codes[0] == 250:
                    fake.clock.advance("1s")
                assert tuple(tries(fake, *[5] * (len(codes) - 1))) == codes
                if codes is good:
                    fake.assert_expected()
                else:
                    fails(fake.assert_expected)


def _expect(text: str):
    return rules(then("x", f"[expect]\n{text}")).expect


def test_the_picture_is_bounded():
    with outage("1d") as fake:
        tries(fake, *[1] * 99)
        text = fails(fake.assert_delivered)
        assert "of 100 connections, the first and last 20" in text
        assert len(text.splitlines()) < 200
