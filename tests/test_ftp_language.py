"""What a scenario for FTP can say beyond a reply to a command, from its file to the wire."""

from __future__ import annotations

import contextlib

import pytest

from ftp_client import MODES, Raw, one, rules
from notnow import FakeFTP, FakeSMTP, ManualClock, ScenarioError
from smtp_client import Raw as SmtpRaw


def refused(*texts: str, protocol: str = "ftp", head: str = "") -> str:
    with pytest.raises(ScenarioError) as caught:
        rules(*texts, protocol=protocol, head=head)
    return str(caught.value)


class TestPreliminary:
    """A 1yz reply is said at once; what it announces comes after `delay` (RFC 959 §4.2 and §5.4)."""

    @pytest.mark.parametrize("final", [[], ["220 Ready"], ["220-Ready", "220 for you"]])
    def test_a_greeting_of_120(self, final):
        scenario = rules(one("connect", reply=["120 Ready in 1 minute", *final], delay="1m"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake) as raw:
            assert raw.reply() == "120 Ready in 1 minute"
            fake.settle()
            assert raw.silent()
            fake.clock.advance("1m")
            assert raw.reply().split("\n") == (final or ["220 fake.notnow.test FTP server (notnow) ready."])
            raw.login()
            greeting = fake.journal.exchanges[0]
            assert greeting.codes == (120, 220)
            assert (greeting.answered_at, greeting.refused) == (60, False)

    def test_without_a_delay(self):
        with FakeFTP(rules(one("connect", reply=["120 Wait", "220 Ready"]))) as fake, Raw(fake) as raw:
            assert raw.replies(2) == ["120 Wait", "220 Ready"]
            assert raw.login().code("PWD") == "257"

    def test_of_which_nothing_comes(self):
        with FakeFTP(rules(one("connect", reply="120 Wait", stall=True))) as fake, Raw(fake) as raw:
            assert raw.reply() == "120 Wait"
            fake.settle()
            assert raw.silent()

    @pytest.mark.parametrize(("more", "end"), [({"close": True}, ""), ({}, "421 Not now\r\n")])
    def test_of_which_no_good_comes(self, more, end):
        with (
            FakeFTP(rules(one("connect", reply=["120 Wait", *end.split("\r\n")[:-1]], **more))) as fake,
            Raw(fake) as raw,
        ):
            assert raw.until_end() == f"120 Wait\r\n{end}"
            assert fake.journal.connections[0].ended_by == "fake"

    def test_of_a_command(self):
        with FakeFTP(rules(one("rein", reply=["120 Wait", "220 Ready"]))) as fake, Raw(fake).hello() as raw:
            assert [raw.code("REIN"), raw.code()] == ["120", "220"]
            assert raw.code("PWD") == "530"  # it has taken effect

    def test_where_there_is_none(self):
        assert "found '120 Wait'; allowed: 2yz to 5yz" in refused(one("connect", reply="120 Wait"), protocol="smtp")
        assert "reply" in refused(one("noop", reply="020 x"))


class TestMiddleLines:
    """RFC 959 §4.2: between the first line and the last one there is free text."""

    LINES = ("211-Status:", " 230 users", "Next line", "", "211-and", "211 End")

    @pytest.mark.parametrize("drip", [None, "0.001s"])
    def test_are_said_as_they_stand(self, drip):
        scenario = rules(one("stat", reply=list(self.LINES), **({"drip": drip} if drip else {})))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            raw.send("STAT\r\nNOOP\r\n")
            fake.wait_for(lambda j: j.count("noop"))
            assert tuple(raw.line() for _ in self.LINES) == self.LINES
            assert raw.code() == "200"
            assert next(x for x in fake.journal if x.moment == "stat").codes == (211,)

    def test_two_replies_with_some(self):
        with (
            FakeFTP(rules(one("connect", reply=["120-a", "b", "120 c", "220-d", "e", "220 f"]))) as fake,
            Raw(fake) as raw,
        ):
            assert raw.replies(2) == ["120-a\nb\n120 c", "220-d\ne\n220 f"]

    def test_what_is_none(self):
        assert "a middle line that begins with three digits has a space" in refused(
            one("stat", reply=["211-a", "230 b", "211 c"])
        )
        assert "a last line with a space after the code" in refused(one("stat", reply=["211-a", "b"]))
        assert "reply lines such as" in refused(one("stat", reply=["a", "211 b"]))
        assert "reply lines such as" in refused(one("stat", reply=["211-a", "b\nc", "211 d"]))
        assert "on every line (RFC 5321 §4.2.1)" in refused(one("ehlo", reply=["250-a", "b", "250 c"]), protocol="smtp")


class TestAfterBytes:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("size", [0, "0B", "1KB", 1000])
    def test_of_an_upload(self, size, mode):
        with FakeFTP(rules(one("stor", after_bytes=size, reply="426 Cut"))) as fake, Raw(fake).hello() as raw:
            with raw.data(mode) as data:
                assert raw.code("STOR new")[0] == "1"
                with contextlib.suppress(OSError):
                    data.send(b"x" * 5000)
                assert raw.reply() == "426 Cut"
            assert fake.files["new"] == b"x" * (1000 if size in ("1KB", 1000) else 0)
            assert fake.files.partial == ("new",)

    @pytest.mark.parametrize("name", ["big.bin", "empty"])
    @pytest.mark.parametrize("fault", [{"reply": "426 Cut"}, {"stall": True}, {"reply": "421 Bye", "data": "reset"}])
    def test_none_of_a_download(self, name, fault):
        with FakeFTP(rules(one("retr", after_bytes=0, **fault)), files={"empty": b"", "big.bin": "1MB"}) as fake:
            with Raw(fake).hello() as raw, raw.data() as data:
                assert raw.code(f"RETR {name}")[0] == "1"
                fake.wait_for(lambda j: j.exchanges[-1].fault)
                got = bytearray()
                if "stall" in fault:
                    assert raw.silent()
                    return
                with contextlib.suppress(ConnectionResetError):
                    data.rest(got)
                assert (raw.reply(), got) == (fault["reply"], b"")

    def test_none_of_a_message(self):
        scenario = rules(one("body", after_bytes=0, reply="421 4.3.2 Bye"), protocol="smtp")
        with FakeSMTP(scenario) as fake, SmtpRaw(fake) as raw:
            for line in ("EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>"):
                raw.say(line) if line != "EHLO x" else (raw.reply(), raw.say(line))
            raw.send("DATA\r\n")
            assert raw.until_end().endswith("\r\n421 4.3.2 Bye\r\n")

    @pytest.mark.parametrize("size", [-1, "1 MB", 1.5, True, "many"])
    def test_what_is_no_size(self, size):
        assert "after_bytes" in refused(one("stor", after_bytes=size, reply="426 Cut"))


class TestIdleControlConnection:
    """`since = "command"`: there are servers that count a transfer as silence."""

    def test_a_transfer_is_no_activity(self):
        scenario = rules(one("idle", after="5m", since="command", reply="421 Timeout."))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw, raw.data() as data:
            fake.clock.advance("4m")
            assert raw.code("STOR new")[0] == "1"
            for n in range(1, 5):
                data.send(b"x")
                fake.wait_for(lambda _, n=n: len(fake.files["new"]) == n)
                fake.clock.advance("1m")
                assert raw.silent()
            data.send(b"x")
            fake.wait_for(lambda _: len(fake.files["new"]) == 5)
            fake.clock.advance("1m")
            assert raw.until_end() == "421 Timeout.\r\n"
            assert fake.files.partial == ("new",)

    def test_a_command_is(self):
        scenario = rules(one("idle", after="5m", since="command", reply="421 Timeout."), one("noop", delay="1m"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            for _ in range(3):
                fake.clock.advance("4m")
                raw.send("NOOP\r\n")
                fake.settle()
                fake.clock.advance("1m")
                assert raw.code() == "200"
            fake.clock.advance("299s")
            assert raw.silent()
            fake.clock.advance("1s")
            assert raw.until_end() == "421 Timeout.\r\n"
