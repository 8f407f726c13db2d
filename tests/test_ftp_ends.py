"""What a scenario can say of the beginning and the end of a transfer: the moments `data` and `complete`, TLS included."""

from __future__ import annotations

import ssl

import pytest

from ftp_client import MODES, Data, Raw, one, rules, trusting
from notnow import FakeFTP, ManualClock, ScenarioError

TEN = b"0123456789"


def transfer(raw: Raw, data: Data, line: str) -> None:
    """All of a transfer, but for its final reply."""
    assert raw.code(line)[0] == "1"
    if line.startswith(("RETR", "LIST")):
        data.rest()
        if isinstance(data.sock, ssl.SSLSocket):
            data.end()
    else:
        data.send(TEN)
        data.end()


@pytest.fixture(params=["none", "starttls"])
def tls(request) -> str:
    return request.param


def begin(fake: FakeFTP) -> Raw:
    raw = Raw(fake)
    if fake.tls == "none":
        return raw.hello()
    assert raw.code() == "220"
    return raw.auth(trusting(fake)).login().protect(trusting(fake))


class TestComplete:
    """All has passed, and the final reply is next."""

    LINES = ("STOR new", "APPE new", "STOU", "RETR small.txt", "LIST")

    @pytest.mark.parametrize("line", LINES)
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("text", ["", one("transfer", delay="0s"), one("transfer", reply="226 So be it")])
    def test_a_final_reply_that_is_late(self, line, mode, text, tls):
        scenario = rules(one("complete", delay="1h"), text)
        with FakeFTP(scenario, clock=ManualClock(), tls=tls) as fake, begin(fake) as raw, raw.data(mode) as data:
            transfer(raw, data, line)
            fake.wait_for(lambda j: j.count("complete") == 1)
            fake.settle()
            assert raw.silent()
            raw.send("NOOP\r\n")
            fake.clock.advance("1h")
            assert raw.reply() == ("226 So be it" if "reply" in text else "226 Transfer complete.")
            assert raw.code() == "200"
            (asked,) = (x for x in fake.journal if x.facts)
            assert (asked.rule, asked.facts.whole) == ("phase[0].rule[0]", True)
            assert asked.answered_at == 3600

    @pytest.mark.parametrize("line", LINES)
    def test_one_that_never_comes(self, line, tls):
        with FakeFTP(rules(one("complete", stall=True)), tls=tls) as fake, begin(fake) as raw, raw.data() as data:
            transfer(raw, data, line)
            fake.wait_for(lambda j: j.count("complete") == 1)
            fake.settle()
            assert raw.silent()
            if line == "STOR new":
                fake.assert_stored("new", TEN)

    @pytest.mark.parametrize(
        ("fault", "kept"),
        [
            ({"reply": "451 Local error"}, False),
            ({"reply": "421 Bye"}, False),
            ({"reply": "226 Fine"}, True),
            ({"reply": "451 Local error", "keep": True}, True),
            ({"reply": "226 Fine", "keep": False}, False),
            ({"close": True}, True),
            ({"close": True, "keep": False}, False),
            ({"close": "reset"}, True),
        ],
    )
    @pytest.mark.parametrize("before", [None, b"before"])
    def test_one_that_refuses_takes_it_back(self, fault, kept, before):
        files = {} if before is None else {"new": before}
        with FakeFTP(rules(one("complete", **fault)), files=files) as fake, begin(fake) as raw, raw.data() as data:
            transfer(raw, data, "STOR new")
            if fault.get("close") == "reset":
                with pytest.raises(ConnectionResetError):
                    raw.reply()
            elif "close" in fault:
                assert raw.until_end() == ""
            else:
                assert raw.reply() == fault["reply"]
            fake.wait_for(lambda j: j.count("complete"))
            fake.settle()
            assert fake.files.get("new") == (TEN if kept else before)
            assert fake.files.partial == ()
            (asked,) = (x for x in fake.journal if x.facts)
            assert (asked.facts.whole, asked.facts.stored) == (kept, kept)

    def test_not_of_a_transfer_that_is_cut(self):
        scenario = rules(one("stor", after_bytes=5, reply="426 cut"), one("complete", reply="451 no"))
        with FakeFTP(scenario) as fake, begin(fake) as raw:
            assert raw.put("STOR new", TEN) == "426 cut"
            assert raw.put("STOU", TEN) == "451 no"
            assert fake.journal.count("complete") == 1

    @pytest.mark.parametrize("on", ["data", "complete"])
    def test_a_rule_that_ends_the_connection_is_not_held_up_by_another_one(self, on):
        scenario = rules(one("stor", reply="421 Bye", keep=True), one(on, where={"command": "RETR"}, reply="450 no"))
        with FakeFTP(scenario) as fake, begin(fake) as raw:
            assert raw.put("STOR new", TEN) == "421 Bye"
            fake.assert_stored("new", TEN)

    def test_where_and_counts(self):
        scenario = rules(one("complete", where={"command": "RETR", "path": "/small.*"}, nth=2, reply="451 no"))
        with FakeFTP(scenario) as fake, begin(fake) as raw:
            raw.put("STOR small.new", TEN)
            assert raw.get("RETR small.txt")
            with raw.data() as data:
                transfer(raw, data, "RETR small.txt")
                assert raw.reply() == "451 no"

    def test_a_place_is_held_until_the_reply(self):
        scenario = rules(one("transfer", over=1, reply="450 busy"), one("complete", times=1, delay="1m"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, begin(fake) as a, begin(fake) as b, a.data() as data:
            transfer(a, data, "STOR new")
            fake.wait_for(lambda j: j.count("complete"))
            assert b.put("STOR x", TEN) == "450 busy"
            fake.clock.advance("1m")
            assert a.code() == "226"
            assert b.put("STOR x", TEN).startswith("226")


class TestData:
    """The data connection is there."""

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("line", ["STOR new", "RETR small.txt", "LIST"])
    @pytest.mark.parametrize("how", ["fin", "reset"])
    def test_a_refusal_after_the_150(self, mode, line, how, tls):
        with FakeFTP(rules(one("data", reply="425 No way", data=how)), tls=tls) as fake, begin(fake) as raw:
            with raw.data(mode) as data:
                assert raw.code(line)[0] == "1"
                if tls == "starttls" or mode in ("PORT", "EPRT"):
                    assert data.sock
                assert raw.reply() == "425 No way"
                assert raw.code("NOOP") == "200"
            (asked,) = (x for x in fake.journal if x.facts)
            assert (asked.facts.bytes, asked.facts.whole, asked.facts.data) == (0, False, how)

    @pytest.mark.parametrize("line", ["STOR new", "RETR small.txt"])
    def test_a_delay_before_the_first_byte(self, line, tls):
        with FakeFTP(rules(one("data", delay="1m")), clock=ManualClock(), tls=tls) as fake, begin(fake) as raw:
            with raw.data() as data:
                assert raw.code(line)[0] == "1"
                assert data.sock
                fake.wait_for(lambda j: j.count("data"))
                fake.settle()
                fake.clock.advance("1m")
                if line == "STOR new":
                    data.send(TEN)
                else:
                    assert data.rest() == b"A small file.\n"
                data.end()
                assert raw.code() == "226"

    def test_another_final_reply(self):
        with FakeFTP(rules(one("data", reply="250 Well"))) as fake, begin(fake) as raw:
            assert raw.put("STOR new", TEN) == "250 Well"
            fake.assert_stored("new", TEN)


class TestResumed:
    """vsftpd (require_ssl_reuse) and ProFTPD want the session of the control connection on the data connection."""

    def begin(self, fake: FakeFTP, version: ssl.TLSVersion, reuse: bool) -> tuple[Raw, ssl.SSLContext]:
        context = trusting(fake)
        context.maximum_version = version
        raw = Raw(fake)
        if fake.tls == "implicit":
            raw.wrap(context)
            assert raw.code() == "220"
            raw.login()
        else:
            assert raw.code() == "220"
            raw.auth(context).login()
        assert raw.code("PBSZ 0") == raw.code("PROT P") == "200"
        if reuse:
            raw.private = _Resuming(context, raw.sock)  # type: ignore[assignment]
        else:
            raw.private = context
        return raw, context

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("mode", ["starttls", "implicit"])
    @pytest.mark.parametrize("on", ["data", "transfer", ["stor", "retr"]])
    def test_who_resumes_and_who_does_not(self, version, mode, on):
        scenario = rules(one(on, where={"resumed": False}, reply="522 SSL connection failed: session reuse required"))
        with FakeFTP(scenario, tls=mode) as fake:
            raw, _ = self.begin(fake, version, reuse=True)
            with raw:
                for _ in range(3):
                    assert raw.put("STOR new", TEN * 100_000).startswith("226")
                    fake.assert_stored("new", TEN * 100_000)
                    assert raw.get("RETR new") == TEN * 100_000
            raw, _ = self.begin(fake, version, reuse=False)
            with raw, raw.data() as data:
                assert raw.code("STOR other")[0] == "1"
                assert data.sock
                assert raw.reply() == "522 SSL connection failed: session reuse required"
                assert raw.code("NOOP") == "200"
            found = [x.facts.resumed for x in fake.journal if x.facts]
            assert found == [True] * 6 + [False]

    @pytest.mark.parametrize("on", ["transfer", "stor", ["stor", "retr"]])
    @pytest.mark.parametrize(
        ("key", "more"),
        [("after_bytes", {"after_bytes": 5}), ("over", {"over": 1}), ("over", {"over": 1, "within": "1h"})],
    )
    def test_what_is_decided_at_the_command_cannot_ask_for_it(self, on, key, more):
        with pytest.raises(
            ScenarioError, match=f"'resumed' has this rule decided at 'data', and '{key}' is decided at"
        ):
            rules(one(on, where={"resumed": False}, reply="425 no", **more))

    def test_in_the_clear_there_is_no_such_fact(self):
        scenario = rules(one("data", where={"resumed": False}, reply="522 no"))
        with FakeFTP(scenario, tls="starttls") as fake, Raw(fake).hello() as raw:
            assert raw.put("STOR new", TEN).startswith("226")

    def test_other_verbs_are_not_meant(self):
        scenario = rules(one("retr", where={"resumed": False}, reply="522 no"))
        with FakeFTP(scenario, tls="starttls") as fake, begin(fake) as raw:
            assert raw.put("STOR new", TEN).startswith("226")

    def test_an_upload_whose_client_reads_no_tickets_is_whole(self):
        with FakeFTP(tls="starttls") as fake, begin(fake) as raw:
            for size in (1, 65_536, 3_000_000):
                assert raw.put("STOR new", b"x" * size).startswith("226")
                assert fake.files.size("new") == size


class TestManner:
    """A rule at `data` that lets the transfer pass has the say in how its final reply is said, and in what follows."""

    FAULTS = (
        ({"reply": "226 So be it", "close": True}, "226 So be it", True),
        ({"reply": "226 So be it", "close": False}, "226 So be it", False),
        ({"reply": "421 Enough", "keep": True}, "421 Enough", True),
        ({"reply": ["226-So", "be", "226 it"]}, "226-So\nbe\n226 it", False),
        ({"close": True, "keep": True}, "", True),
        ({"delay": "0s"}, "226 Transfer complete.", False),
    )

    @pytest.mark.parametrize("line", ["RETR big.bin", "STOR new", "LIST"])
    @pytest.mark.parametrize(("fault", "said", "closes"), FAULTS)
    @pytest.mark.parametrize("text", ["", one("any", delay="0s"), one("complete", delay="0s")])
    def test_the_final_reply(self, line, fault, said, closes, text, tls):
        with FakeFTP(rules(one("data", **fault), text), tls=tls) as fake, begin(fake) as raw:
            with raw.data() as data:
                transfer(raw, data, line)
                assert not said or raw.reply() == said
            assert raw.ended if closes else raw.code("NOOP") == "200"
            (asked,) = (x for x in fake.journal if x.facts)
            assert asked.facts.whole
            if line == "STOR new":
                assert fake.files["new"] == TEN

    @pytest.mark.parametrize("text", ["", one("any", delay="0s")])
    def test_it_drips(self, text):
        with FakeFTP(rules(one("data", drip="1m"), text), clock=ManualClock()) as fake, begin(fake) as raw:
            with raw.data() as data:
                transfer(raw, data, "STOR new")
                fake.wait_for(lambda j: any(x.reply and "226" in x.reply for x in j))
                assert raw.sock.recv(100) == b"2"
                fake.clock.advance("1h")
                assert raw.reply() == "26 Transfer complete."

    @pytest.mark.parametrize("text", ["", one("any", delay="0s")])
    def test_what_is_aborted_is_told_so(self, text):
        with FakeFTP(rules(one("data", reply="226 So be it"), text)) as fake, begin(fake) as raw, raw.data() as data:
            assert raw.code("STOR new")[0] == "1"
            data.send(TEN)
            fake.wait_for(lambda _: fake.files.get("new") == TEN)
            assert [raw.code("ABOR"), raw.code(), raw.code("NOOP")] == ["426", "226", "200"]


class _Resuming:
    """A context that takes up the session of another connection, as `ftplib` users pass it by hand."""

    def __init__(self, context: ssl.SSLContext, control: ssl.SSLSocket) -> None:
        self.context, self.control = context, control

    def wrap_socket(self, sock, **given):
        return self.context.wrap_socket(sock, session=self.control.session, **given)


class TestGoesOn:
    @pytest.mark.parametrize("line", ["RETR big.bin", "STOR new"])
    @pytest.mark.parametrize("text", ["", one("any", delay="0s")])
    def test_a_226_before_the_data_are_out(self, line, text, tls):
        scenario = rules(one(["retr", "stor"], after_bytes=1000, reply="226 All of it", data="open"), text)
        with FakeFTP(scenario, tls=tls) as fake, begin(fake) as raw, raw.data() as data:
            assert raw.code(line)[0] == "1"
            if line == "STOR new":
                data.send(b"x" * 1000)
                assert raw.reply() == "226 All of it"
                data.send(b"x" * 1000)
                data.end()
                fake.wait_for(lambda _: not fake.files.partial)
                assert fake.files["new"] == b"x" * 2000
            else:
                assert data.exactly(1000)
                assert raw.reply() == "226 All of it"
                assert len(data.rest()) == 3_000_000 - 1000
                data.end()
            assert raw.code("NOOP") == "200"

    def test_a_whole_download_without_a_close_notify(self):
        with FakeFTP(rules(one("retr", data="ragged")), tls="starttls") as fake, begin(fake) as raw:
            for _ in range(2):
                with raw.data() as data:
                    assert raw.code("RETR big.bin")[0] == "1"
                    got = bytearray()
                    with pytest.raises(ssl.SSLEOFError):
                        data.rest(got)
                    assert got == fake.files["big.bin"]
                    assert raw.code() == "226"
            with raw.data() as data:
                assert raw.code("LIST")[0] == "1"
                data.rest()  # no error

    def test_what_cannot_go_on(self):
        for keys, why in (
            ({"data": "open", "reply": "226 x"}, "after_bytes and a reply"),
            ({"data": "open", "after_bytes": 5}, "after_bytes and a reply"),
            ({"data": "open", "after_bytes": 5, "reply": "421 x"}, "the control connection closes"),
            ({"data": "ragged", "after_bytes": 5, "reply": "426 x"}, "no close_notify anyway"),
        ):
            with pytest.raises(ScenarioError, match=why):
                rules(one("retr", **keys))
        with pytest.raises(ScenarioError, match="no transfer goes on here"):
            rules(one("pasv", data="ragged"))
