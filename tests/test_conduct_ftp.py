"""Rules of conduct for FTP: each is played over real fakes, by a client that keeps it and by one that breaks it."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import time
from collections.abc import Iterator
from io import BytesIO

import aioftp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftp_client import CarefulTransfer, Job, Raw, one, rules, then
from notnow import FakeFTP, ManualClock
from notnow.conduct.judging import judge, of_protocol, select
from notnow.conduct.reading.run import Run
from notnow.journal import Exchange, Journal, Recorder, Transfer
from notnow.time_travel.fast_forward import FastForward

NO = "421 Not now, says the test"
FULL = "421 There are too many connections from your internet address."
CUT = "426 Connection closed; transfer aborted."
PIECE = 70_000  # bytes that are worth being resumed


def playing(*texts: str, phase: str = "", **given: object) -> FakeFTP:
    return FakeFTP(rules(*texts, phase=phase), clock=ManualClock(), **given)


def found(fake: FakeFTP, name: str) -> tuple[str, str, list[str]]:
    """What a rule says: the outcome, why, and the evidence as connection and moment."""
    finding = select([f"ftp.{name}"])[0].judge(Run([fake.journal]))
    proof = [
        f"#{e.connection.number} {e.moment}" if isinstance(e, Exchange) else f"#{e.number}" for e in finding.evidence
    ]
    assert (finding.outcome in ("broken", "inconclusive")) == bool(proof)
    return finding.outcome, finding.why, proof


def held(fake: FakeFTP, name: str) -> str:
    outcome, why, _ = found(fake, name)
    assert outcome == "held", why
    return why


def broken(fake: FakeFTP, name: str) -> tuple[str, list[str]]:
    outcome, why, proof = found(fake, name)
    assert outcome == "broken", why
    return why, proof


def not_exercised(fake: FakeFTP, name: str) -> str:
    outcome, why, _ = found(fake, name)
    assert outcome == "not exercised", why
    return why


def says(fake: FakeFTP, *lines: str, heard: str = "") -> None:
    """A client that says these one after another whatever it hears, and reads to the end.

    `heard` is what comes when the fake has closed already.
    """
    with Raw(fake) as raw, contextlib.suppress(OSError):
        hears = hears_more(raw)
        for line in lines:
            raw.send(f"{line}\r\n")
            hears = hears and hears_more(raw)
        raw.sock.shutdown(1)
        raw.until_end()
    fake.wait_for(lambda j: heard in j.connections[-1].after)


def hears_more(raw: Raw) -> bool:
    """Read a reply; False if the connection has ended."""
    try:
        raw.reply()
    except EOFError:
        return False
    return True


def refused(fake: FakeFTP, times: int = 1, wait: float = 0) -> None:
    """A client that is refused at the greeting so many times, and waits in between."""
    for i in range(times):
        if i:
            fake.clock.advance(wait)
        with Raw(fake) as raw:
            assert raw.code()[0] in "45"


@contextlib.contextmanager
def session(fake: FakeFTP) -> Iterator[Raw]:
    with Raw(fake).hello() as raw:
        yield raw
        raw.say("QUIT")


def cut_up(raw: Raw, line: str, content: bytes) -> str:
    """An upload that the fake cuts."""
    with raw.data() as data:
        assert raw.code(line)[0] == "1"
        with contextlib.suppress(OSError):
            data.send(content)
        return raw.reply()


def cut_down(raw: Raw, line: str) -> str:
    with raw.data() as data:
        assert raw.code(line)[0] == "1"
        with contextlib.suppress(OSError):
            data.rest()
        return raw.reply()


@pytest.mark.parametrize("rule", of_protocol("ftp"), ids=lambda rule: rule.id)
class TestEveryRule:
    def test_a_quiet_session_exercises_none(self, rule):
        with playing() as fake:
            with session(fake) as raw:
                raw.put("STOR new.txt", b"12345")
                raw.get("RETR small.txt")
            assert rule.judge(Run([fake.journal])).outcome == "not exercised"

    def test_nobody_does(self, rule):
        with playing() as fake:
            assert rule.judge(Run([fake.journal])).outcome == "not exercised"


class TestNoticeClose:
    def test_nothing_more_is_said(self):
        with playing(one("pasv", reply=NO)) as fake:
            with Raw(fake).hello() as raw:
                assert raw.say("PASV") == NO
            assert held(fake, "notice-close") == "1 connection closed under it"

    def test_one_command_may_have_been_on_its_way(self):
        with playing(one("pasv", reply=NO)) as fake:
            says(fake, "USER ann", "PASS word", "PASV", "STOR a", heard="STOR")
            assert "1 of them it noticed by its next command" in held(fake, "notice-close")

    def test_it_takes_leave(self):
        with playing(one("pasv", reply=NO)) as fake:
            says(fake, "USER ann", "PASS word", "PASV", "QUIT")
            held(fake, "notice-close")

    def test_it_goes_on(self):
        with playing(one("pasv", reply=NO)) as fake:
            says(fake, "USER ann", "PASS word", "PASV", "TYPE I", "STOR a", "QUIT", heard="STOR")
            assert broken(fake, "notice-close") == ("TYPE, STOR came when the connection was closed", ["#1 pasv", "#1"])

    IDLE = one("idle", after="1m", reply=NO)

    def idled_out(self, *lines: str) -> FakeFTP:
        with playing(self.IDLE) as fake:
            with Raw(fake).hello() as raw:
                fake.clock.advance("1m")
                with contextlib.suppress(OSError):
                    for line in lines:
                        raw.send(f"{line}\r\n")
                    raw.sock.shutdown(1)
                    raw.until_end()
            fake.wait_for(lambda j: lines[-1] in j.connections[-1].after)
        return fake

    def test_who_was_idle_learns_of_it_by_its_next_command(self):
        why = held(self.idled_out("PASV"), "notice-close")
        assert why == "1 connection closed under it; 1 of them it noticed by its next command"

    def test_it_may_take_the_unsolicited_421_for_the_answer_to_that_one(self):
        held(self.idled_out("PASV", "LIST"), "notice-close")

    def test_and_not_by_the_one_after_that(self):
        why, proof = broken(self.idled_out("PASV", "LIST", "NLST"), "notice-close")
        assert (why, proof) == ("PASV, LIST, NLST came when the connection was closed", ["#1 idle", "#1"])

    def test_a_421_that_leaves_the_session_open_closes_nothing(self):
        with playing(one("cwd", reply=NO, close=False)) as fake:
            with session(fake) as raw:
                raw.say("CWD /")
                raw.say("PWD")
            not_exercised(fake, "notice-close")


class TestRefusedGreeting:
    def test_nothing_is_said(self):
        with playing(one("connect", reply=NO)) as fake:
            refused(fake, 2, 60)
            assert held(fake, "refused-greeting") == "2 refused greetings"

    def test_it_logs_in_all_the_same(self):
        with playing(one("connect", reply=NO)) as fake:
            says(fake, "USER ann", "PASS word", heard="USER")
            assert broken(fake, "refused-greeting") == ("USER came after 421", ["#1 connect", "#1"])

    def test_so_where_the_connection_stays_open(self):
        with playing(one("connect", reply=NO, close=False)) as fake:
            says(fake, "USER ann", "QUIT")
            assert broken(fake, "refused-greeting") == ("USER came after 421", ["#1 connect", "#1 user"])

    def test_a_refusal_later_on_is_none_of_the_greeting(self):
        with playing(one("user", reply="530 no")) as fake:
            says(fake, "USER ann", "USER ben", "QUIT")
            not_exercised(fake, "refused-greeting")

    def test_quit_is_well_and_so_is_to_ask_what_it_can(self):
        with playing(one("connect", reply=NO, close=False)) as fake:
            says(fake, "FEAT", "QUIT")
            held(fake, "refused-greeting")


class TestStartOver:
    KICKED = one("pasv", times=1, reply=NO)

    def kicked(self) -> FakeFTP:
        fake = playing(self.KICKED).start()
        says(fake, "USER ann", "PASS word", "PASV")
        return fake

    def test_from_the_login_on(self):
        with self.kicked() as fake:
            with session(fake) as raw:
                raw.get("RETR small.txt")
            assert held(fake, "start-over") == "it began anew on 1 connection"

    def test_as_if_it_were_logged_in(self):
        with self.kicked() as fake:
            says(fake, "RETR small.txt")
            why, proof = broken(fake, "start-over")
            assert (why, proof) == ("RETR came on a new connection as if it were the old one", ["#2 retr"])

    def test_as_if_there_were_a_data_connection(self):
        with self.kicked() as fake:
            says(fake, "USER ann", "PASS word", "STOR small.txt")
            assert broken(fake, "start-over")[1] == ["#2 stor"]

    def test_to_ask_what_it_can_is_no_beginning(self):
        with self.kicked() as fake:
            says(fake, "FEAT", "OPTS UTF8 ON", "USER ann", "PASS word", "CWD /")
            assert [x.code for x in fake.journal if x.moment == "opts"] == [530]
            held(fake, "start-over")

    def test_who_was_never_refused_has_nothing_to_begin_again(self):
        with playing() as fake:
            says(fake, "RETR small.txt")
            not_exercised(fake, "start-over")


class TestSetUpAgain:
    def kicked(self, *again: str) -> FakeFTP:
        with playing(one("stor", times=1, reply=NO), files={"in/": ""}) as fake:
            self.store(fake, "TYPE I", "CWD /in")
            self.store(fake, *again)
        return fake

    def store(self, fake: FakeFTP, *lines: str) -> None:
        with Raw(fake) as raw:
            assert raw.code() == "220"
            for line in ("USER ann", "PASS word", *lines):
                raw.say(line)
            raw.put("STOR a.bin", b"12345")

    def test_type_and_directory(self):
        assert held(self.kicked("CWD /in", "TYPE I"), "set-up-again") == "1 transfer set up again as before"

    def test_another_type(self):
        why, proof = broken(self.kicked("CWD /in"), "set-up-again")
        assert (why, proof) == ("'STOR a.bin' was of type I, and now it is of type A", ["#1 stor", "#2 stor"])

    def test_another_directory(self):
        why, proof = broken(self.kicked("TYPE I"), "set-up-again")
        assert (why, proof) == ("'STOR a.bin' was about /in/a.bin, and now it is about /a.bin", ["#1 stor", "#2 stor"])

    def test_a_type_that_was_refused_is_none(self):
        with playing(one("stor", times=1, reply=NO), one("type", nth=2, reply="450 no")) as fake:
            for _ in range(2):
                self.store(fake, "TYPE I")
            broken(fake, "set-up-again")


class TestMultiLineReplies:
    LONG = one("connect", reply=["220-Welcome", "220 to this server"])

    def test_read_to_the_last_line(self):
        with playing(self.LONG) as fake:
            with session(fake) as raw:
                raw.say("FEAT")
                raw.get("RETR small.txt")
            assert held(fake, "multi-line-replies") == "2 replies of several lines"

    def test_a_line_behind(self):
        """A client that takes each line for a reply: the rest of the greeting is its answer to USER."""
        with playing(self.LONG) as fake:
            with Raw(fake) as raw:
                assert raw.line() == "220-Welcome"
                raw.send("USER ann\r\n")
                assert raw.line() == "220 to this server"  # 2yz: no password is wanted
                raw.send("CWD /in\r\n")
                assert raw.line()[:3] == "331"
                assert raw.line()[:3] == "530"
            why, proof = broken(fake, "multi-line-replies")
            assert why == "CWD came as if a line of '220-Welcome' had been the reply to USER"
            assert proof == ["#1 connect", "#1 user", "#1 cwd"]

    def test_a_blunder_of_another_kind_is_no_proof(self):
        with playing(self.LONG) as fake:
            says(fake, "CWD /in", "QUIT")
            not_exercised(fake, "multi-line-replies")

    def test_a_refusal_of_several_lines(self):
        with playing(one("connect", reply=["421-Not", "421 now"])) as fake:
            refused(fake)
            assert (
                not_exercised(fake, "multi-line-replies") == "no command after it would show how the client has read it"
            )


class TestFirstDigit:
    @pytest.mark.parametrize(
        ("on", "lines", "proof"),
        [
            ("user", ["USER ann", "PASS word"], ["#1 user", "#1 pass"]),
            ("pass", ["USER ann", "PASS word", "CWD /"], ["#1 pass", "#1 cwd"]),
            ("login", ["USER ann", "PASS word", "PASV"], ["#1 pass", "#1 pasv"]),
            ("epsv", ["USER ann", "PASS word", "EPSV", "LIST"], ["#1 epsv", "#1 list"]),
            ("rnfr", ["USER ann", "PASS word", "RNFR small.txt", "RNTO b"], ["#1 rnfr", "#1 rnto"]),
        ],
    )
    @pytest.mark.parametrize("reply", ["421 no", "432 no", "530 no"])
    def test_it_goes_on_all_the_same(self, on, lines, proof, reply):
        with playing(one(on, reply=reply, close=False)) as fake:
            says(fake, *lines)
            why, evidence = broken(fake, "first-digit")
            last, refused = lines[-1].split()[0], lines[-2].split()[0]
            assert (why, evidence) == (f"{last} came although {refused} had been refused", proof)

    def test_it_stops_or_takes_another_way(self):
        with playing(one("epsv", reply="502 what?"), one("rnfr", times=1, reply="450 busy")) as fake:
            says(fake, "USER ann", "PASS word", "RNFR a", "EPSV", "PASV", "RNFR small.txt", "RNTO b", "QUIT")
            assert held(fake, "first-digit") == "it was refused twice what something else needs"


class TestWaitBeforeReconnect:
    @pytest.mark.parametrize("on", ["connect", "user", "pass", "login"])
    @pytest.mark.parametrize("wait", [0, 0.5, 1, 60])
    def test_a_second_or_more(self, on: str, wait: float):
        with playing(one(on, reply=NO)) as fake:
            for i in range(2):
                fake.clock.advance(wait if i else 0)
                says(fake, "USER ann", "PASS word")
            if wait >= 1:
                assert held(
                    fake, "wait-before-reconnect"
                ) == f"it waited at least {wait}{'s' if wait < 60 else ''}".replace("60", "1m")
            elif not wait:
                assert found(fake, "wait-before-reconnect")[0] == "inconclusive"
            else:
                why, proof = broken(fake, "wait-before-reconnect")
                assert why == "it came back 500ms after it was refused"
                assert proof == [f"#1 {'pass' if on == 'login' else on}", "#2 connect"]

    def test_a_close_without_a_word_is_a_refusal(self):
        with playing(one("connect", close=True)) as fake:
            says(fake)
            fake.clock.advance("500ms")
            says(fake)
            broken(fake, "wait-before-reconnect")

    def test_who_is_kicked_later_may_come_back_at_once(self):
        with playing(one("cwd", reply=NO)) as fake:
            for _ in range(2):
                says(fake, "USER ann", "PASS word", "CWD /")
            not_exercised(fake, "wait-before-reconnect")

    def test_so_may_who_makes_room_itself(self):
        with playing(one("connect", over=1, reply=FULL)) as fake:
            with Raw(fake).hello() as raw:
                refused(fake)
                raw.say("QUIT")
            with session(fake):
                not_exercised(fake, "wait-before-reconnect")


class TestNoRetryStorm:
    def test_a_few(self):
        with playing(one("connect", reply=NO)) as fake:
            refused(fake, 10, 1)
            assert held(fake, "no-retry-storm") == "10 connections refused"

    def test_many_in_a_long_time(self):
        with playing(one("connect", reply=NO)) as fake:
            refused(fake, 30, 6.1)
            held(fake, "no-retry-storm")

    def test_many_at_once(self):
        with playing(one("connect", reply=NO)) as fake:
            refused(fake, 12, 3)
            why, proof = broken(fake, "no-retry-storm")
            assert why == "11 connections were refused within 30s, and still it came"
            assert proof == [f"#{n} connect" for n in range(1, 12)]

    def test_one_is_no_occasion(self):
        with playing(one("connect", reply=NO)) as fake:
            refused(fake)
            not_exercised(fake, "no-retry-storm")


class TestFewerConnections:
    CAP = one("connect", over=2, reply=FULL)

    def test_it_makes_do(self):
        with playing(self.CAP) as fake:
            with Raw(fake).hello() as a, Raw(fake).hello() as b:
                refused(fake)
                a.get("RETR small.txt")
                b.get("RETR small.txt")
            assert held(fake, "fewer-connections") == "with 2 open it asked for no more"

    def test_it_makes_room_first(self):
        with playing(self.CAP) as fake:
            with Raw(fake).hello() as a, Raw(fake).hello():
                refused(fake)
                a.say("QUIT")
                with session(fake):
                    held(fake, "fewer-connections")

    def test_it_asks_for_more(self):
        with playing(self.CAP) as fake:
            with Raw(fake).hello(), Raw(fake).hello():
                refused(fake, 2, 60)
                why, proof = broken(fake, "fewer-connections")
            assert why == "it asked for one more when it had 2, and had been told that 2 are enough"
            assert proof == ["#3 connect", "#4 connect"]

    def test_at_the_login(self):
        words = "530 Sorry, the maximum number of clients (1) for this user are already connected."
        with playing(one("login", over=1, reply=words, close=True)) as fake:
            with Raw(fake).hello():
                says(fake, "USER ann", "PASS word")
                fake.clock.advance("1s")
                says(fake, "USER ann", "PASS word")
                assert broken(fake, "fewer-connections")[1] == ["#2 pass", "#3 pass"]

    def test_where_others_hold_the_places_it_has_nothing_to_give_up(self):
        with playing(one("connect", reply=FULL)) as fake:
            refused(fake, 3)
            not_exercised(fake, "fewer-connections")

    @pytest.mark.parametrize("words", [NO, "421 There are too many connected users, please try later."])
    def test_another_refusal_is_not_about_its_own(self, words: str):
        with playing(one("connect", over=1, reply=words)) as fake:
            with Raw(fake).hello():
                refused(fake, 2)
                not_exercised(fake, "fewer-connections")


class TestReconnectLazily:
    IDLE = one("idle", after="30s", reply=NO)

    def test_for_something(self):
        with playing(self.IDLE) as fake:
            with Raw(fake).hello() as raw:
                fake.clock.advance("30s")
                assert raw.reply() == NO
            with Raw(fake).hello() as raw:
                raw.get("RETR small.txt")
                fake.clock.advance("30s")
                assert raw.reply() == NO
            assert held(fake, "reconnect-lazily") == "it came back once, for something"

    def test_for_nothing(self):
        with playing(self.IDLE) as fake:
            for _ in range(2):
                with Raw(fake).hello() as raw:
                    fake.clock.advance("30s")
                    assert raw.reply() == NO
            why, proof = broken(fake, "reconnect-lazily")
            assert why == "it came back, did nothing, and timed out again"
            assert proof == ["#1 idle", "#2 idle"]

    def test_who_does_not_come_back_proves_nothing(self):
        with playing(self.IDLE) as fake:
            with Raw(fake).hello() as raw:
                fake.clock.advance("30s")
                assert raw.reply() == NO
            not_exercised(fake, "reconnect-lazily")


class TestResume:
    def cut(self, on: str, size: int = PIECE, **more: object) -> FakeFTP:
        return playing(one(on, times=1, after_bytes=size, reply=CUT, **more)).start()

    def test_a_download(self):
        with self.cut("retr") as fake, session(fake) as raw:
            assert cut_down(raw, "RETR big.bin") == CUT
            raw.say(f"REST {PIECE}")
            raw.get("RETR big.bin")
            assert held(fake, "resume") == "it went on once from where it was cut"

    def test_a_download_from_0(self):
        with self.cut("retr") as fake, session(fake) as raw:
            cut_down(raw, "RETR big.bin")
            raw.get("RETR big.bin")
            why, proof = broken(fake, "resume")
            assert why == "70 KB of /big.bin had come through, and it began again from 0"
            assert proof == ["#1 retr", "#1 retr"]

    def test_an_upload_that_was_under_way_when_all_were_kicked(self):
        with playing(then("kicked", one("enter", reply=NO)), phase='lasts = "10s"') as fake:
            with Raw(fake).hello() as raw, raw.data() as data:
                assert raw.code("STOR new.bin")[0] == "1"
                data.send(b"x" * PIECE)
                fake.wait_for(lambda j: len(fake.files["new.bin"]) == PIECE)
                fake.clock.advance("10s")
                assert raw.reply() == NO
            with session(fake) as raw:
                raw.put("STOR new.bin", b"x" * 100_000)
            assert broken(fake, "resume")[1] == ["#1 stor", "#2 stor"]

    @pytest.mark.parametrize("way", [[f"REST {PIECE}", "STOR new.bin"], ["SIZE new.bin", "APPE new.bin"]])
    def test_an_upload(self, way: list[str]):
        with self.cut("stor") as fake, session(fake) as raw:
            assert cut_up(raw, "STOR new.bin", b"x" * 100_000) == CUT
            raw.say(way[0])
            raw.put(way[1], b"x" * 30_000)
            held(fake, "resume")
            assert fake.files["new.bin"] == b"x" * 100_000

    def test_an_upload_from_0(self):
        with self.cut("stor") as fake, session(fake) as raw:
            cut_up(raw, "STOR new.bin", b"x" * 100_000)
            raw.put("STOR new.bin", b"x" * 100_000)
            broken(fake, "resume")

    def test_nothing_is_there_any_more(self):
        with self.cut("stor", keep=False) as fake, session(fake) as raw:
            cut_up(raw, "STOR new.bin", b"x" * 100_000)
            assert raw.code("SIZE new.bin") == "550"
            raw.put("STOR new.bin", b"x" * 100_000)
            not_exercised(fake, "resume")

    def test_a_small_piece_is_not_worth_it(self):
        with self.cut("stor", size=10) as fake, session(fake) as raw:
            cut_up(raw, "STOR new.bin", b"x" * 100)
            raw.put("STOR new.bin", b"x" * 100)
            not_exercised(fake, "resume")

    def test_what_the_client_has_broken_off_it_may_begin_again(self):
        with playing() as fake, session(fake) as raw:
            with raw.data() as data:
                assert raw.code("RETR big.bin")[0] == "1"
                data.exactly(PIECE)
            raw.reply()
            raw.get("RETR big.bin")
            not_exercised(fake, "resume")


class TestNoNoopFlood:
    def noops(self, n: int, wait: float) -> FakeFTP:
        with playing() as fake, session(fake) as raw:
            for _ in range(n):
                raw.say("NOOP")
                fake.clock.advance(wait)
        return fake

    def test_one_in_a_while(self):
        assert held(self.noops(30, 30), "no-noop-flood") == "30 NOOPs in a row at most"

    def test_one_a_second(self):
        why, proof = broken(self.noops(11, 1), "no-noop-flood")
        assert (why, proof) == ("11 NOOPs within 10s", ["#1 noop"] * 11)


class TestSpareThePassword:
    FULL = one(
        "login", reply="530 Sorry, the maximum number of clients (3) for this user are already connected.", close=True
    )

    def tries(self, n: int, wait: float, *rule: str, users: object = None) -> FakeFTP:
        with playing(*rule, **({} if users is None else {"users": users})) as fake:
            for _ in range(n):
                says(fake, "USER ann", "PASS word")
                fake.clock.advance(wait)
        return fake

    def test_a_few(self):
        assert held(self.tries(3, 1, self.FULL), "spare-the-password") == "3 tries at most for a user"

    def test_with_patience(self):
        held(self.tries(20, 201, self.FULL), "spare-the-password")

    def test_again_and_again(self):
        why, proof = broken(self.tries(6, 60, self.FULL), "spare-the-password")
        assert why == "the password of ann was given 4 times within 3m"
        assert proof == [f"#{n} pass" for n in range(1, 5)]

    def test_a_wrong_one(self):
        broken(self.tries(4, 1, users={"ann": "secret"}), "spare-the-password")

    def test_another_user_has_another_one(self):
        with playing(self.FULL) as fake:
            for name in ("ann", "ben", "cas", "dee", "eve"):
                says(fake, f"USER {name}", "PASS word")
            assert held(fake, "spare-the-password") == "1 try at most for a user"


class TestMendCutUpload:
    def cut(self, *more: str) -> FakeFTP:
        return playing(one("stor", times=1, after_bytes=4, reply=CUT, data="fin"), *more).start()

    def test_replaced(self):
        with self.cut() as fake, session(fake) as raw:
            assert cut_up(raw, "STOR a.bin", b"12345678") == CUT
            raw.put("STOR a.bin", b"12345678")
            assert held(fake, "mend-cut-upload") == "1 mended"

    def test_completed(self):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.bin", b"12345678")
            assert raw.say("SIZE a.bin") == "213 4"
            raw.put("APPE a.bin", b"5678")
            held(fake, "mend-cut-upload")

    def test_doubled(self):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.bin", b"12345678")
            raw.put("APPE a.bin", b"12345678")
            why, proof = broken(fake, "mend-cut-upload")
            assert fake.files["a.bin"] == b"123412345678"
            assert why == "8 bytes were appended to a partial /a.bin, whose size it had not asked for"
            assert proof == ["#1 stor", "#1 appe"]

    def test_to_have_asked_before_it_was_cut_is_not_enough(self):
        with self.cut() as fake, session(fake) as raw:
            raw.say("SIZE small.txt")
            cut_up(raw, "STOR a.bin", b"12345678")
            raw.put("APPE a.bin", b"5678")
            broken(fake, "mend-cut-upload")

    def test_what_is_whole_is_no_piece(self):
        with playing(one("stor", reply=["226 Done", NO])) as fake:
            with Raw(fake).hello() as raw:
                raw.put("STOR a.log", b"1234")
            with session(fake) as raw:
                raw.put("APPE a.log", b"5678")
            assert fake.files["a.log"] == b"12345678"
            not_exercised(fake, "mend-cut-upload")

    def test_a_gap(self):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.bin", b"12345678")
            raw.say("REST 6")
            assert raw.put("STOR a.bin", b"78")[:3] == "554"
            why, proof = broken(fake, "mend-cut-upload")
            assert why == "4 bytes of /a.bin had come, and it went on at 6"
            assert proof == ["#1 stor", "#1 stor"]

    def test_what_is_left_proves_nothing(self):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.bin", b"12345678")
            raw.put("STOR b.bin", b"1")
            assert not_exercised(fake, "mend-cut-upload") == (
                "1 piece left; what it has told its user is not seen from here"
            )


class TestRenameWholeFiles:
    def cut(self) -> FakeFTP:
        return playing(one("stor", times=1, after_bytes=4, reply=CUT, data="fin")).start()

    def test_a_piece(self):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.part", b"12345678")
            raw.say("RNFR a.part")
            raw.say("RNTO a.bin")
            why, proof = broken(fake, "rename-whole-files")
            assert (why, proof) == ("/a.part became /a.bin, and only a piece of it had come", ["#1 stor", "#1 rnto"])

    @pytest.mark.parametrize("path", ["a.part", "/a.part"])
    def test_the_whole(self, path: str):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.part", b"12345678")
            raw.put("STOR a.part", b"12345678")
            raw.say(f"RNFR {path}")
            raw.say("RNTO a.bin")
            assert held(fake, "rename-whole-files") == "1 file renamed"

    def test_what_was_deleted_is_no_piece(self):
        with self.cut() as fake, session(fake) as raw:
            cut_up(raw, "STOR a.part", b"12345678")
            raw.say("DELE a.part")
            not_exercised(fake, "rename-whole-files")


class TestTimeOut:
    @pytest.mark.parametrize("on", ["connect", "user", "cwd", "list"])
    def test_it_leaves(self, on: str):
        with playing(one(on, stall=True)) as fake:
            with Raw(fake) as raw:
                raw.send("USER ann\r\nPASS word\r\nCWD /\r\nPASV\r\nLIST\r\n")
                fake.wait_for(lambda j: j.count(on) == 1)
                fake.settle()
                fake.clock.advance("90s")
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert held(fake, "time-out") == "it left after 1m 30s"

    def test_it_stays(self):
        with playing(one("user", stall=True)) as fake:
            with Raw(fake) as raw:
                raw.reply()
                raw.send("USER ann\r\n")
                fake.wait_for(lambda j: j.count("user") == 1)
                fake.clock.advance("59m")
                not_exercised(fake, "time-out")
                fake.clock.advance("1m")
                assert broken(fake, "time-out") == ("it has waited 1h for a reply", ["#1 user", "#1"])

    def test_it_stays_until_the_fake_stops(self):
        fake = playing(one("user", stall=True)).start()
        with Raw(fake) as raw:
            raw.reply()
            raw.send("USER ann\r\n")
            fake.wait_for(lambda j: j.count("user") == 1)
            fake.clock.advance("2h")
            fake.stop()
        assert broken(fake, "time-out")[0] == "it has waited 2h for a reply"

    def test_a_reply_that_comes_late_is_one(self):
        with playing(one("user", delay="2h")) as fake:
            with Raw(fake) as raw:
                raw.reply()
                raw.send("USER ann\r\n")
                fake.wait_for(lambda j: j.count("user") == 1)
                fake.clock.advance("2h")
                assert raw.code() == "331"
            not_exercised(fake, "time-out")


# ---- real clients --------------------------------------------------------------------------------


def outcomes(fake: FakeFTP) -> dict[str, str]:
    return {v.rule.id.partition(".")[2]: v.outcome for v in judge(Run([fake.journal])) if v.outcome != "not exercised"}


def test_ftplib_that_comes_back_with_patience():
    with FastForward() as world, FakeFTP("ftp/overload", clock=world.clock) as fake:
        for _ in range(5):
            with contextlib.suppress(ftplib.error_temp), ftplib.FTP() as client:
                client.connect(fake.host, fake.port)
                client.login()
                client.storbinary("STOR a.bin", BytesIO(b"12345"))
                break
            time.sleep(20)
        assert outcomes(fake) == {
            "start-over": "held",
            "refused-greeting": "held",
            "wait-before-reconnect": "held",
            "no-retry-storm": "held",
        }


def test_ftplib_that_hammers():
    with FastForward() as world, FakeFTP("ftp/overload", clock=world.clock) as fake:
        for _ in range(12):
            with pytest.raises(ftplib.error_temp), ftplib.FTP() as client:
                client.connect(fake.host, fake.port)
            time.sleep(0.1)
        assert outcomes(fake) == {
            "refused-greeting": "held",
            "wait-before-reconnect": "broken",
            "no-retry-storm": "broken",
        }


def test_aioftp_is_kicked_out_of_an_upload_and_begins_again():
    async def main() -> None:
        for _ in range(2):
            with contextlib.suppress(OSError, aioftp.StatusCodeError):
                async with aioftp.Client.context(fake.host, fake.port) as client:
                    async with client.upload_stream("a.bin") as stream:
                        for _ in range(20):
                            await stream.write(b"x" * 100_000)
            await asyncio.sleep(60)

    with FastForward() as world, FakeFTP("ftp/killed-mid-upload", clock=world.clock) as fake:
        asyncio.run(main())
        assert fake.files["a.bin"] == b"x" * 2_000_000
        assert outcomes(fake)["resume"] == "broken"
        assert outcomes(fake)["mend-cut-upload"] == "held"
        assert outcomes(fake)["start-over"] == "held"


CAREFUL = ["overload", "kicked", "killed-mid-upload", "killed-mid-download", "at-stage", "too-many-users"]


@pytest.mark.parametrize("name", CAREFUL)
def test_a_careful_client_breaks_none(name: str):
    with FakeFTP(f"ftp/{name}", clock=ManualClock()) as fake:
        client = CarefulTransfer(fake, fake.clock.advance)
        assert client.transfer(Job("RETR", "big.bin"), Job("STOR", "new.bin", b"x" * 1_500_000))
        assert [v for v in judge(Run([fake.journal])) if v.outcome == "broken"] == []


# ---- any journal at all --------------------------------------------------------------------------

LINES = st.sampled_from(
    ["USER ann", "PASS word", "TYPE I", "TYPE", "CWD /in", "PWD", "PASV", "EPSV", "REST 3", "REST x", "STOR a", "APPE a", "STOU",
     "RETR big.bin", "LIST", "RNFR a", "RNTO b", "DELE a", "SIZE a", "SIZE", "FEAT", "NOOP", "ABOR", "QUIT", "", "\xff\xf4", "NONSENSE x"]
)  # fmt: skip
ACTS = st.lists(st.one_of(LINES, st.sampled_from(["data", "leave", "wait"])), max_size=15)
FAULTS = st.sampled_from(
    [
        one("connect", every=2, reply=NO),
        one("connect", over=1, reply=FULL),
        one("any", every=3, reply=["421-Not", "421 now"]),
        one("any", every=3, reply="421 open", close=False),
        one("any", every=4, close=True),
        one("any", every=5, stall=True),
        one("transfer", every=2, after_bytes=3, reply=CUT),
        one("idle", after="30s", reply=[NO, NO]),
        one("error", every=2, reply=NO),
        one("connect", reply=["220-Hello", "220 there"]),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FAULTS, max_size=3), st.lists(ACTS, max_size=4))
def test_whatever_a_client_does_every_rule_has_a_word_for_it(faults: list[str], sessions: list[list[str]]):
    with playing(*faults) as fake:
        with contextlib.ExitStack() as stack:
            for acts in sessions:
                raw = stack.enter_context(Raw(fake, patience=2.0))
                with contextlib.suppress(OSError, EOFError):
                    for act in acts:
                        if act == "wait":
                            fake.clock.advance("31s")
                        elif act == "leave":
                            raw.close()
                        elif act == "data":
                            port = "".join(x.reply or "" for x in fake.journal.exchanges[-1:])
                            if port.startswith("229"):
                                with raw.visit(int(port.split("|")[3])) as data:
                                    data.send(b"12345")
                        else:
                            raw.send(act.encode("latin-1") + b"\r\n")
                            fake.settle()
        fake.clock.advance("2h")
        verdicts = judge(Run([fake.journal]))
        assert [v.rule for v in verdicts] == list(of_protocol("ftp"))
        assert all(v.finding.evidence for v in verdicts if v.outcome == "broken")


def journal_of(n: int) -> Journal:
    """A journal of n exchanges in which nothing is ever settled: the dearest there is."""
    recorder = Recorder(ManualClock(), server="ftp", protocol="ftp", limit=n)
    while len(recorder.journal) < n - 12:
        connection = recorder.open("id", "127.0.0.1", 1)
        lines = [
            "",
            "USER ann",
            "PASS x",
            "TYPE I",
            "EPSV",
            "STOR a",
            "RNFR b",
            "NOOP",
            "SIZE a",
            "PASS x",
            "LIST",
            "CWD /",
        ]
        for line in lines:
            moment = line.split()[0].lower() if line else "connect"
            exchange = recorder.ask(connection, moment, line, "one")
            if moment in ("stor", "list"):
                facts = Transfer("/a", "upload" if moment == "stor" else "listing", None,
                                  offset=0, bytes=5, whole=False, data="fin")  # fmt: skip
                recorder.facts(exchange, facts)
            recorder.refused(exchange, "busy", "busy")
            recorder.answer(exchange, "421 no" if moment in ("connect", "cwd") else "200-so\n200 ok")
        recorder.clock.advance(7)
        recorder.end(exchange)
        recorder.close(connection, "fake")
    return recorder.journal


def test_judging_takes_time_that_grows_with_the_journal():
    def cost(n: int) -> float:
        journal, took = journal_of(n), float("inf")
        for _ in range(3):
            begun = time.process_time()
            judge(Run([journal]))
            took = min(took, time.process_time() - begun)
        return took

    assert cost(40_000) < 8 * cost(10_000) + 0.1  # a square would be 16 times
