"""FakeFTP over real sockets: every moment acts, and every fault is what it says."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

import pytest

from ftp_client import Raw, one, port_of, rules, trusting
from notnow import FakeFTP, ManualClock, protocols

pytestmark = pytest.mark.usefixtures("each_loop")

NO = "421 Not now, says the test"


def _greeted(raw: Raw, *lines: str) -> None:
    assert raw.code() == "220"
    for line in lines:
        assert raw.code(line)[0] in "23", line


def _logged_in(raw: Raw, *lines: str) -> None:
    raw.hello()
    for line in lines:
        assert raw.code(line)[0] in "23", line


def _in_tls(raw: Raw, *lines: str) -> None:
    assert raw.code() == "220"
    raw.auth(trusting(raw.fake))
    for line in lines:
        assert raw.code(line)[0] in "23", line


def _with_data(raw: Raw) -> None:
    raw.hello().hold()


# How a client comes to each moment: what it does before, and what it says there.
REACH: dict[str, tuple[Callable[[Raw], None], str]] = {
    "connect": (lambda raw: None, ""),
    "user": (_greeted, "USER ann"),
    "pass": (lambda raw: _greeted(raw, "USER ann"), "PASS x"),
    "login": (lambda raw: _greeted(raw, "USER ann"), "PASS x"),
    "auth": (_greeted, "AUTH TLS"),
    "pbsz": (_in_tls, "PBSZ 0"),
    "prot": (lambda raw: _in_tls(raw, "PBSZ 0"), "PROT P"),
    "pasv": (_logged_in, "PASV"),
    "epsv": (_logged_in, "EPSV"),
    "port": (_logged_in, "PORT 127,0,0,1,100,100"),
    "eprt": (_logged_in, "EPRT |1|127.0.0.1|25700|"),
    "type": (lambda raw: _greeted(raw, "USER ann", "PASS x"), "TYPE I"),
    "rest": (_logged_in, "REST 3"),
    "cwd": (_logged_in, "CWD d"),
    "cdup": (lambda raw: _logged_in(raw, "CWD d"), "CDUP"),
    "pwd": (_logged_in, "PWD"),
    "mkd": (_logged_in, "MKD new"),
    "rmd": (_logged_in, "RMD d"),
    "dele": (_logged_in, "DELE a.txt"),
    "rnfr": (_logged_in, "RNFR a.txt"),
    "rnto": (lambda raw: _logged_in(raw, "RNFR a.txt"), "RNTO b.txt"),
    "size": (_logged_in, "SIZE a.txt"),
    "mdtm": (_logged_in, "MDTM a.txt"),
    "mfmt": (_logged_in, "MFMT 20200102030405 a.txt"),
    "mlst": (_logged_in, "MLST a.txt"),
    "stat": (_logged_in, "STAT"),
    "abor": (_logged_in, "ABOR"),
    "allo": (_logged_in, "ALLO 5"),
    "feat": (_logged_in, "FEAT"),
    "help": (_logged_in, "HELP"),
    "mode": (_logged_in, "MODE S"),
    "noop": (_logged_in, "NOOP"),
    "opts": (_logged_in, "OPTS UTF8 ON"),
    "rein": (_logged_in, "REIN"),
    "site": (_logged_in, "SITE HELP"),
    "stru": (_logged_in, "STRU F"),
    "syst": (_logged_in, "SYST"),
    "quit": (_logged_in, "QUIT"),
    "any": (_logged_in, "BOGUS"),
    "transfer": (_with_data, "RETR a.txt"),
    "retr": (_with_data, "RETR a.txt"),
    "stor": (_with_data, "STOR new"),
    "appe": (_with_data, "APPE a.txt"),
    "stou": (_with_data, "STOU"),
    "list": (_with_data, "LIST"),
    "nlst": (_with_data, "NLST"),
    "mlsd": (_with_data, "MLSD"),
}
HEALTHY = {
    "connect": "220", "user": "331", "pass": "230", "login": "230", "auth": "234", "pasv": "227", "epsv": "229", "rest": "350",
    "pwd": "257", "mkd": "257", "rnfr": "350", "size": "213", "mdtm": "213", "mfmt": "213", "stat": "211", "abor": "225", "allo": "202",
    "feat": "211", "help": "214", "rein": "220", "site": "214", "syst": "215", "quit": "221", "any": "500",
    **dict.fromkeys(("pbsz", "prot", "port", "eprt", "type", "mode", "noop", "opts", "stru"), "200"),
    **dict.fromkeys(("cwd", "cdup", "rmd", "dele", "rnto", "mlst"), "250"),
}  # fmt: skip
TRANSFERS = {"transfer", "retr", "stor", "appe", "stou", "list", "nlst", "mlsd"}
UPLOADS = {"stor", "appe", "stou"}

everywhere = pytest.mark.parametrize("moment", REACH)
with_a_reply = pytest.mark.parametrize("moment", HEALTHY)
at_transfers = pytest.mark.parametrize("moment", sorted(TRANSFERS))


def only(moment: str, **fault: object) -> FakeFTP:
    """A fake with one rule, and a clock that stands still. `any` would act on USER already."""
    where = {"where": {"command": "BOGUS"}} if moment == "any" else {}
    files = {"a.txt": "A small file.\n", "d/": b""}
    return FakeFTP(rules(one(moment, **where, **fault)), tls="starttls", clock=ManualClock(), files=files)


def reach(fake: FakeFTP, moment: str) -> Raw:
    before, line = REACH[moment]
    raw = Raw(fake)
    try:
        before(raw)
        fake.settle()  # a data connection has been accepted by then
        raw.send(line + "\r\n" if line else "")
    except OSError:  # a reset that came soon
        raw.close()
        raise
    return raw


def the_exchange(fake: FakeFTP, fault: str):
    (exchange,) = [x for x in fake.journal if x.fault == fault]
    assert exchange.rule == "phase[0].rule[0]"
    return exchange


def test_the_table_of_moments_is_all_acted_on():
    elsewhere = {"tls", "enter", "error", "idle", "data", "complete"}  # the last two: tests/test_ftp_ends.py
    assert set(REACH) | elsewhere == set(protocols.get("ftp").moments)
    assert set(HEALTHY) | TRANSFERS == set(REACH)


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
        with only(moment, reply="451 later") as fake, reach(fake, moment) as raw:
            assert raw.reply() == "451 later"
            assert raw.code("NOOP") == ("451" if moment == "noop" else "200")
            assert not next(x for x in fake.journal if x.fault).closed

    @everywhere
    def test_a_close_says_nothing(self, moment):
        with only(moment, close=True) as fake, reach(fake, moment) as raw:
            assert raw.until_end() == ""
            exchange = the_exchange(fake, "close")
            assert (exchange.reply, exchange.closed) == (None, True)

    @everywhere
    def test_a_reset_is_one(self, moment):
        with only(moment, close="reset") as fake:
            if moment in ("pbsz", "prot"):  # OpenSSL tells some versions of Python of an end
                with contextlib.suppress(ConnectionResetError), reach(fake, moment) as raw:
                    assert raw.until_end() == ""
            else:
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
            assert raw.code("SYST") == ("421" if moment == "syst" else "215")
            assert not next(x for x in fake.journal if x.fault).closed

    @everywhere
    def test_a_stalled_answer_never_comes_and_the_fake_serves_others(self, moment):
        with only(moment, stall=True) as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "stall" for x in j))
            fake.clock.advance("30d")
            assert raw.silent()
            assert the_exchange(fake, "stall").reply is None
            raw.close()
            fake.wait_for(lambda j: j.connections[0].ended_by == "client")
            fake.play("ftp/healthy")
            with Raw(fake).hello() as another:
                assert another.get("RETR a.txt") == b"A small file.\n"

    @with_a_reply
    def test_a_delay_is_scenario_time(self, moment):
        with only(moment, delay="10s") as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "delay" for x in j))
            fake.clock.advance("9s")
            assert raw.silent()
            fake.clock.advance("1s")
            assert raw.code() == HEALTHY[moment]
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
            assert raw.exactly(1) == b"4"
            assert raw.silent()
            fake.clock.advance("3s")
            assert raw.exactly(3) == b"21 "
            assert raw.silent()
            fake.clock.advance("1h")
            assert raw.until_end() == f"{NO[4:]}\r\n"

    @with_a_reply
    def test_another_good_reply_takes_effect(self, moment):
        code = HEALTHY[moment] if HEALTHY[moment][0] in "23" else "200"
        with only(moment, reply=[f"{code}-in the words", f"{code} of the test"]) as fake, reach(fake, moment) as raw:
            assert raw.reply() == f"{code}-in the words\n{code} of the test"
            if moment == "quit":
                assert raw.ended
            elif moment == "auth":
                raw.wrap(trusting(fake))
                assert raw.code("NOOP") == "200"
            elif moment in ("pbsz", "prot"):
                assert raw.code("PROT P") == "200"
            elif moment != "any":
                self.check(fake, raw, moment, True)

    @with_a_reply
    def test_keep_false_says_yes_and_does_no(self, moment):
        with only(moment, reply="250 sure", keep=False) as fake, reach(fake, moment) as raw:
            assert raw.reply() == "250 sure"
            if moment == "pbsz":
                assert raw.code("PROT P") == "503"
            elif moment not in ("auth", "prot", "any"):
                self.check(fake, raw, moment, False)

    @with_a_reply
    def test_keep_true_says_no_and_does_yes(self, moment):
        with only(moment, reply="450 no", keep=True) as fake, reach(fake, moment) as raw:
            assert raw.reply() == "450 no"
            if moment == "quit":
                assert raw.ended
            elif moment not in ("auth", "pbsz", "prot", "any"):
                self.check(fake, raw, moment, True)

    def check(self, fake: FakeFTP, raw: Raw, moment: str, done: bool) -> None:
        """Whether what was asked took effect shows in what comes next."""
        after: dict[str, tuple[str, str, str]] = {
            "user": ("PASS x", "230", "503"),
            "pass": ("PWD", "257", "530"),
            "login": ("PWD", "257", "530"),
            "pasv": ("ABOR", "225 ABOR", "225 No"),
            "epsv": ("ABOR", "225 ABOR", "225 No"),
            "port": ("RETR a.txt", "425 Can't", "425 Use"),
            "eprt": ("RETR a.txt", "425 Can't", "425 Use"),
            "type": ("SIZE a.txt", "213", "550"),
            "cwd": ("PWD", '257 "/d"', '257 "/"'),
            "cdup": ("PWD", '257 "/"', '257 "/d"'),
            "mkd": ("CWD new", "250", "550"),
            "rmd": ("CWD d", "550", "250"),
            "dele": ("SIZE a.txt", "550", "213"),
            "rnfr": ("RNTO b.txt", "250", "503"),
            "rnto": ("SIZE b.txt", "213", "550"),
            "mfmt": ("MDTM a.txt", "213 20200102030405", "213 2"),
            "rein": ("PWD", "530", "257"),
            "quit": ("NOOP", "", "200"),
        }
        line, yes, no = after.get(moment, ("STRU F" if moment == "noop" else "NOOP", "200", "200"))
        assert raw.say(line).startswith(yes if done else no)

    def test_any_covers_every_command_and_no_other_moment(self):
        with FakeFTP(rules(one("any", reply="450 no"))) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            for line in (
                "USER x",
                "PASS x",
                "RETR x",
                "STOR x",
                "LIST",
                "PASV",
                "XPWD",
                "BOGUS",
                "",
                "QUIT",
                "x" * 5000,
            ):
                assert raw.say(line) == "450 no", line

    def test_a_rule_without_a_fault_is_an_exception(self):
        scenario = rules(one("retr", where={"path": "/small.*"}), one("transfer", reply="450 no"))
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            assert raw.get("RETR small.txt")
            with raw.data():
                assert raw.say("RETR big.bin") == "450 no"
            with raw.data():
                assert raw.say("LIST") == "450 no"

    def test_a_login_that_is_refused_leaves_nobody_logged_in(self):
        with FakeFTP(rules(one("login", times=1, reply="530 not now"))) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            assert raw.code("USER ann") == "331"
            assert raw.say("PASS x") == "530 not now"
            assert raw.code("PWD") == "530"
            raw.login("ann")
            assert fake.journal.count("login") == 2

    def test_login_is_for_good_passwords_only(self):
        with FakeFTP(rules(one("login", reply=NO)), users={"ann": "x"}) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            raw.say("USER ann")
            assert raw.code("PASS y") == "530"
            raw.say("USER ann")
            raw.send("PASS x\r\n")
            assert raw.until_end() == f"{NO}\r\n"
            assert fake.journal.count("login") == 1


class TestConditions:
    """What the adapter tells the engine at each moment."""

    @pytest.mark.parametrize(
        ("on", "where", "line"),
        [
            ("user", {"user": "ann", "command": "USER"}, "USER ann"),
            ("pass", {"user": "anonymous"}, ""),
            ("login", {"user": "anonymous"}, ""),
            ("retr", {"path": "/d/a.txt", "command": "RETR", "user": "anonymous", "mode": "none"}, "RETR d/a.txt"),
            ("retr", {"path": "/a.txt"}, "RETR ../d/../a.txt"),
            ("retr", {"path": "/-x.bin"}, "RETR -x.bin"),
            ("stor", {"path": "/-l"}, "STOR -l"),
            ("list", {"path": "/"}, "LIST -la"),
            ("list", {"path": "/d"}, "LIST -l -a /d"),
            ("nlst", {"path": "/d"}, "NLST d"),
            ("cwd", {"path": "/d"}, "CWD d"),
            ("cwd", {"path": "/d"}, "XCWD d"),
            ("cdup", {"path": "/"}, "CDUP"),
            ("mfmt", {"path": "/a b"}, "MFMT 20200102030405 a b"),
            ("dele", {"path": "/A.TXT"}, "DELE a.txt"),
            ("any", {"path": "/a.txt", "command": "SIZE"}, "SIZE a.txt"),
            ("pwd", {"tls": False, "sni": "none", "client": "127.*"}, "PWD"),
            ("transfer", {"path": "/*.txt", "mode": "none"}, "APPE a.txt"),
        ],
    )  # fmt: skip
    def test_what_is_known(self, on, where, line):
        with FakeFTP(rules(one(on, where=where, reply=NO))) as fake, Raw(fake) as raw:
            raw.send(f"USER anonymous\r\nPASS x\r\n{line}\r\n")
            assert raw.until_end().endswith(f"{NO}\r\n")

    @pytest.mark.parametrize(
        ("mode", "is_"), [("PASV", "passive"), ("EPSV", "passive"), ("PORT", "active"), ("EPRT", "active")]
    )
    def test_the_mode_of_a_data_connection(self, mode, is_):
        other = {"passive": "active", "active": "passive"}[is_]
        scenario = rules(
            one("transfer", where={"mode": other}, reply=NO), one("transfer", where={"mode": is_}, reply="450 x")
        )
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw, raw.data(mode):
            fake.settle()
            assert raw.say("RETR small.txt") == "450 x"

    def test_who_is_logged_in_is_known_until_it_is_taken_back(self):
        with FakeFTP(rules(one("noop", where={"user": "ann"}, reply="450 ann"))) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            raw.say("USER ann")
            assert raw.code("NOOP") == "200"
            raw.say("PASS x")
            assert raw.say("NOOP") == "450 ann"
            assert raw.code("REIN") == "220"
            assert raw.code("NOOP") == "200"
            raw.login("bob")
            assert raw.code("NOOP") == "200"

    def test_tls_and_sni_are_known_after_auth(self):
        where = {"tls": True, "sni": "localhost"}
        with FakeFTP(rules(one("noop", where=where, reply=NO)), tls="starttls") as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            assert raw.code("NOOP") == "200"
            raw.auth(trusting(fake))
            assert raw.say("NOOP") == NO


class TestTLSMoment:
    @pytest.mark.parametrize("tls", ["starttls", "implicit"])
    def test_an_alert(self, tls):
        with FakeFTP(rules(one("tls", alert="unrecognized_name")), tls=tls) as fake:
            with Raw(fake) as raw, pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
                if tls == "starttls":
                    assert raw.code() == "220"
                    raw.auth(trusting(fake))
                else:
                    raw.wrap(trusting(fake))
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert fake.journal.connections[0].tls.error == "refused with the alert unrecognized_name"

    def test_a_421_at_connect_waits_for_tls(self):
        with FakeFTP(rules(one("connect", reply=NO)), tls="implicit") as fake, Raw(fake) as raw:
            fake.wait_for(lambda j: j.connections)
            fake.settle()
            assert raw.silent()
            raw.wrap(trusting(fake))
            assert raw.until_end() == f"{NO}\r\n"


class TestTransferRefused:
    """At the command, before a byte has passed: the data connection ends, and it is for the client to open another."""

    @at_transfers
    def test_by_a_reply(self, moment):
        with only(moment, reply="450 busy") as fake, reach(fake, moment) as raw:
            assert raw.reply() == "450 busy"
            assert raw.held[0].rest() == b""
            fake.play("ftp/healthy")
            assert raw.code("RETR a.txt") == "425"
            assert raw.get("RETR a.txt") == b"A small file.\n"
            assert "new" not in fake.files

    @at_transfers
    def test_the_port_is_closed_where_nobody_has_come(self, moment):
        with only(moment, reply="450 busy") as fake, Raw(fake).hello() as raw:
            port = port_of(raw.say("PASV"))
            assert raw.say(REACH[moment][1]) == "450 busy"
            with pytest.raises(ConnectionRefusedError):
                raw.visit(port)

    @at_transfers
    @pytest.mark.parametrize("how", ["fin", "reset", "drain"])
    def test_by_the_data_connection_alone(self, moment, how):
        """Then a 426 says so."""
        with only(moment, data=how) as fake, reach(fake, moment) as raw:
            assert raw.reply() == "426 Connection closed; transfer aborted."
            if how == "reset":
                with pytest.raises(ConnectionResetError):
                    raw.held[0].rest()
            else:
                assert raw.held[0].rest() == b""
            assert raw.code("NOOP") == "200"

    @at_transfers
    def test_what_the_journal_knows_of_it(self, moment):
        with only(moment, reply="450 busy") as fake, reach(fake, moment) as raw:
            assert raw.reply() == "450 busy"
            facts = the_exchange(fake, "reply").facts
            assert (facts.bytes, facts.whole, facts.data, facts.mode) == (0, False, None, "passive")

    @pytest.mark.parametrize("moment", ["retr", "stor"])
    def test_a_delay_before_it_begins(self, moment):
        with only(moment, delay="10s") as fake, reach(fake, moment) as raw:
            fake.wait_for(lambda j: any(x.fault == "delay" for x in j))
            fake.settle()
            assert raw.silent()
            fake.clock.advance("10s")
            assert raw.code()[0] == "1"
            if moment == "stor":
                raw.held[0].send(b"123")
                raw.held[0].end()
            else:
                assert raw.held[0].rest() == b"A small file.\n"
            assert raw.code() == "226"
            assert the_exchange(fake, "delay").answered_at == 10

    def test_a_drip_is_in_the_last_reply(self):
        with only("retr", drip="1s") as fake, reach(fake, "retr") as raw:
            assert raw.code()[0] == "1"
            assert raw.held[0].rest() == b"A small file.\n"
            assert raw.exactly(1) == b"2"
            fake.clock.advance("1h")
            assert raw.reply() == "26 Transfer complete."
            assert raw.code("NOOP") == "200"

    def test_other_words_for_its_end(self):
        with only("stor", reply="250 thank you") as fake, reach(fake, "stor") as raw:
            assert raw.code()[0] == "1"
            raw.held[0].send(b"123")
            raw.held[0].end()
            assert raw.reply() == "250 thank you"
            assert fake.files["new"] == b"123"

    def test_stored_and_then_told_421(self):
        with only("stor", reply=NO, keep=True) as fake, reach(fake, "stor") as raw:
            assert raw.code()[0] == "1"
            raw.held[0].send(b"123")
            raw.held[0].end()
            assert raw.until_end() == f"{NO}\r\n"
            assert fake.files["new"] == b"123"
            assert fake.files.partial == ()
            assert the_exchange(fake, "reply+keep").facts.stored

    def test_a_226_that_is_a_lie(self):
        with only("stor", reply="226 sure", keep=False) as fake, reach(fake, "stor") as raw:
            assert raw.reply() == "226 sure"
            assert "new" not in fake.files

    def test_quit_during_a_transfer_under_a_rule_lets_it_end(self):
        with only("stor", drip="1s") as fake, reach(fake, "stor") as raw:
            assert raw.code()[0] == "1"
            assert raw.code("QUIT") == "221"
            raw.held[0].send(b"123")
            raw.held[0].end()
            assert raw.exactly(1) == b"2"
            fake.clock.advance("1h")
            assert raw.until_end() == "26 Transfer complete.\r\n"

    def test_the_end_of_a_transfer_does_not_get_between_the_bytes_of_another_reply(self):
        scenario = rules(one("stat", reply="211 dripping", drip="1s"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                assert raw.code("STOR new")[0] == "1"
                raw.send("STAT\r\n")
                fake.settle()
                fake.clock.advance("3s")
                data.end()
                fake.settle()
            fake.clock.advance("1m")
            assert raw.replies(2) == ["211 dripping", "226 Transfer complete."]

    def test_what_waits_for_the_answer_to_stat_does_so_whatever_the_transfer_does(self):
        scenario = rules(one("stat", delay="10s"), one("stor", reply="226 mine"))
        with FakeFTP(scenario, clock=ManualClock()) as fake, Raw(fake).hello() as raw, raw.data() as data:
            raw.send("STOR new\r\nSTAT\r\nPWD\r\n")
            assert raw.code()[0] == "1"
            fake.wait_for(lambda j: j.count("stat"))
            data.end()
            assert raw.reply() == "226 mine"
            fake.settle()
            assert raw.silent()
            fake.clock.advance("10s")
            assert [reply[:3] for reply in raw.replies(2)] == ["211", "257"]
