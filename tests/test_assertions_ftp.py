"""Assertions about FTP clients, over real fakes: what passes, and the picture that comes with what does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from ftp_client import Raw, one, port_of, rules, then
from notnow import FakeFTP, ManualClock
from notnow.conduct.pictures.timeline import render, timeline, transcript
from notnow.conduct.reading import attempts

NO = "421 Not now, says the test"
CUT = "426 Connection closed; transfer aborted."


def healthy(**given: object) -> FakeFTP:
    return FakeFTP(clock=ManualClock(), **given)


def outage(*texts: str, lasts: str = "100s") -> FakeFTP:
    """A fake with these rules for a while, on a clock that stands still."""
    return FakeFTP(rules(*texts, then("recovered"), phase=f'lasts = "{lasts}"'), clock=ManualClock())


def cut(on: str, size: int, **fault: object) -> FakeFTP:
    """A fake that cuts the first transfer of a kind at a byte."""
    return FakeFTP(rules(one(on, times=1, after_bytes=size, **(fault or {"reply": CUT}))), clock=ManualClock())


def fails(check: Callable[[], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


def first_line(check: Callable[[], None]) -> str:
    return fails(check).partition("\n\n")[0]


def up(raw: Raw, name: str = "new.txt", content: bytes = b"12345", verb: str = "STOR") -> str:
    return raw.put(f"{verb} {name}", content)


def cut_up(raw: Raw, content: bytes = b"1234567890", line: str = "STOR new.txt") -> str:
    """An upload to a fake that cuts it."""
    with raw.data() as data:
        assert raw.code(line)[0] == "1"
        data.send(content)
        return raw.reply()


def cut_down(raw: Raw, line: str = "RETR small.txt") -> str:
    with raw.data() as data:
        raw.fake.settle()
        assert raw.code(line)[0] == "1"
        data.rest()
        return raw.reply()


class TestDelivered:
    def test_an_upload_a_download_or_a_listing(self):
        for act in (
            up,
            lambda raw: raw.get("RETR small.txt"),
            lambda raw: raw.get("LIST"),
            lambda raw: raw.get("NLST"),
        ):
            with healthy() as fake, Raw(fake).hello() as raw:
                act(raw)
                fake.assert_delivered()
                fake.assert_delivered(times=1)
                fake.assert_no_duplicates()

    def test_none_at_all(self):
        with healthy() as fake:
            assert fails(fake.assert_delivered).startswith(
                "expected every file to be delivered once, but none was delivered: nobody connected\n\ntimeline"
            )

    def test_a_client_that_never_began(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            raw.code("PASV")
            assert first_line(fake.assert_delivered) == (
                "expected every file to be delivered once, but the client never asked for anything: it began no transfer; "
                "the number of items that the client was given (--count N, count=N in pytest) would settle it"
            )

    def test_a_client_that_gives_up(self):
        with outage(one("connect", reply=NO)) as fake, Raw(fake) as raw:
            raw.until_end()
            text = fails(fake.assert_delivered)
        first, _, picture = text.partition("\n\n")
        assert first == (
            f"expected every file to be delivered once, but none was delivered: the client was told {NO!r} at connect and did not come back"
        )
        assert picture.splitlines() == [
            "timeline (scenario time)",
            f"->        0s  #1    x connect: {NO}; the fake closed",
            "",
            "transcript",
            "   #1 from 127.0.0.1",
            f"->        0s  S  {NO}   (and closes)   [reply, phase[0].rule[0]]",
        ]

    def test_one_that_was_refused_and_left(self):
        with outage(one("retr", reply="450 busy")) as fake, Raw(fake).hello() as raw:
            raw.code("RETR small.txt")
            assert "told '450 busy' at retr and did not come back" in first_line(fake.assert_delivered)
            raw.code("RETR small.txt")
            assert "came back once and was refused again: the last time it was told '450 busy' at retr" in first_line(
                fake.assert_delivered
            )
            raw.get("LIST")
            assert (
                "got no transfer through; the last time that it was refused, it was told '450 busy' at retr"
                in first_line(fake.assert_delivered)
            )

    def test_one_that_was_cut_and_left(self):
        for fake, act, name in (
            (cut("stor", 3), cut_up, "the upload of /new.txt"),
            (cut("retr", 3), cut_down, "the download of /small.txt"),
        ):
            with fake, Raw(fake).hello() as raw:
                assert act(raw) == CUT
                assert "was told" in first_line(fake.assert_delivered)
                raw.put("STOR other.txt", b"whole")
                text = fails(fake.assert_delivered)
                assert text.startswith(
                    f"expected every file to be delivered once, but {name} never came through: it was cut after 3 bytes"
                )
                assert text.count("-> ") == 2  # in the timeline and in the transcript

    def test_one_that_was_refused_beside_one_that_came(self):
        with outage(one("stor", where={"path": "/b"}, reply="452 full")) as fake, Raw(fake).hello() as raw:
            up(raw, "a")
            up(raw, "b")
            assert first_line(fake.assert_delivered).endswith(
                "the upload of /b never came through: the client was told '452 full'"
            )

    def test_one_that_never_began(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw, "a")
            raw.code("PASV")
            assert raw.code("STOR b") == "150"
            raw.close()
            fake.wait_for(lambda j: j.connections[-1].ended_by)
            why = "the upload of /b: the client broke it off, and may not have wanted the rest"
            assert why in first_line(fake.assert_delivered)

    def test_one_that_was_given_up(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw, "a")
            raw.code("PASV")
            assert raw.code("STOR b") == "150"
            assert [raw.code("ABOR"), raw.code()] == ["426", "226"]
            why = "the upload of /b: the client broke it off, and may not have wanted the rest"
            assert why in first_line(fake.assert_delivered)

    def test_cut_and_then_whole(self):
        with cut("stor", 3) as fake, Raw(fake).hello() as raw:
            cut_up(raw)
            up(raw)
            fake.assert_delivered(times=1)
            fake.assert_no_duplicates()
            fake.assert_no_partial_files()

    @pytest.mark.parametrize("verb", ["RETR", "STOR"])
    def test_cut_and_then_resumed(self, verb):
        with cut(verb.lower(), 3) as fake, Raw(fake).hello() as raw:
            if verb == "STOR":
                cut_up(raw)
            else:
                cut_down(raw)
            assert raw.code("REST 3") == "350"
            if verb == "STOR":
                up(raw, content=b"4567890")
                fake.assert_stored("new.txt", b"1234567890")
            else:
                raw.get("RETR small.txt")
            fake.assert_delivered(times=1)

    def test_whole_and_then_cut(self):
        """The last word counts: a good copy was replaced by a piece."""
        with FakeFTP(rules(one("stor", nth=2, after_bytes=3, reply=CUT))) as fake, Raw(fake).hello() as raw:
            up(raw)
            cut_up(raw)
            assert first_line(fake.assert_delivered).endswith("never came through: it was cut after 3 bytes")

    def test_twice(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            up(raw)
            fake.assert_delivered(times=2)
            text = fails(fake.assert_delivered)
            assert text.startswith(
                "expected every file to be delivered once, but the upload of /new.txt was stored twice"
            )
            assert text.count("-> ") == 3  # the connection in the timeline, and both in the transcript
            raw.get("RETR small.txt")
            raw.get("RETR small.txt")
            fake.assert_delivered(times=2)

    def test_looking_again_is_not_doing_twice(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            raw.get("RETR small.txt")
            raw.get("RETR small.txt")
            fake.assert_delivered(times=1)

    def test_a_file_that_has_changed_is_another(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw, content=b"1")
            up(raw, content=b"2")
            fake.assert_delivered(times=1)
            up(raw, content=b"2")
            assert "was stored twice" in first_line(fake.assert_delivered)

    def test_the_same_path_in_other_words_is_the_same_file(self):
        with healthy(files={"d/": b""}) as fake, Raw(fake).hello() as raw:
            up(raw, "d/x")
            assert raw.code("CWD d") == "250"
            up(raw, "./x")
            assert "the upload of /d/x was stored twice" in first_line(fake.assert_delivered)

    def test_up_and_down_again_are_two_things(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            raw.get("RETR new.txt")
            fake.assert_delivered(times=1)

    def test_listings_count_where_nothing_else_was_asked_for(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            for _ in range(3):
                raw.get("LIST")
            fake.assert_delivered(times=3)
            up(raw)
            fake.assert_delivered(times=1)

    def test_stou(self):
        """It has another name each time; a copy is told by its content, and a cut one is made good by the next."""
        with cut("stou", 3) as fake, Raw(fake).hello() as raw:
            cut_up(raw, line="STOU")
            assert "the upload of STOU never came through" in first_line(lambda: self.delivered_with(fake, raw))
            up(raw, "", b"12345", "STOU")
            up(raw, "", b"67890", "STOU")
            fake.assert_delivered(times=1)
            fake.assert_no_duplicates()
            up(raw, "", b"12345", "STOU")
            assert "was stored twice" in first_line(fake.assert_delivered)
            assert "was stored twice" in first_line(fake.assert_no_duplicates)

    def delivered_with(self, fake: FakeFTP, raw: Raw) -> None:
        up(raw, "another")
        fake.assert_delivered()

    def test_appe_twice_is_twice(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw, verb="APPE")
            up(raw, verb="APPE")
            assert "was stored twice" in first_line(fake.assert_no_duplicates)

    def test_kept_and_told_421(self):
        """The client cannot know, and the name of the file tells the receiver that it is the same."""
        with FakeFTP(rules(one("stor", times=1, reply=NO, keep=True))) as fake:
            with Raw(fake).hello() as raw:
                assert up(raw) == NO
                fake.assert_delivered(times=1)
            with Raw(fake).hello() as raw:
                up(raw)
                fake.assert_no_duplicates()
                up(raw)
            assert "was stored 3 times" in first_line(fake.assert_no_duplicates)

    def test_a_226_that_was_a_lie_delivers_nothing(self):
        with FakeFTP(rules(one("stor", reply="226 sure", keep=False))) as fake, Raw(fake).hello() as raw:
            assert up(raw) == "226 sure"
            assert "the server accepted it and did not keep it" in first_line(fake.assert_delivered)

    def test_no_room(self):
        with FakeFTP(rules(head='[server]\nquota = "3B"\nfiles = {}')) as fake, Raw(fake).hello() as raw:
            assert up(raw)[:3] == "552"
            fails(fake.assert_delivered)


class TestRetried:
    def test_on_another_connection(self):
        with outage(one("connect", reply=NO)) as fake:
            for gap in (0, 10, 20, 40, 80):
                fake.clock.advance(gap)
                with Raw(fake) as raw:
                    raw.reply()
            fake.assert_retried(times=(4, 4), first_delay=(10, 10), backoff="exponential", within="150s")
            assert "the gaps were 10s, 20s, 40s, 1m 20s: exponential" in fails(
                lambda: fake.assert_retried(backoff="constant")
            )

    @pytest.mark.parametrize("line", ["RETR small.txt", "STOR x", "LIST", "MLSD", "APPE x"])
    def test_the_same_transfer_on_the_same_connection(self, line):
        with outage(one("transfer", reply="450 busy")) as fake, Raw(fake).hello() as raw:
            assert raw.code(line) == "450"
            fake.clock.advance(30)
            assert raw.code("NOOP") == "200"
            raw.code("EPSV")
            assert raw.code(line) == "450"
            fake.assert_retried(times=(1, 1), first_delay=(30, 30))

    def test_another_file_is_no_retry(self):
        with outage(one("transfer", reply="450 busy")) as fake, Raw(fake).hello() as raw:
            assert raw.code("RETR a") == "450"
            assert raw.code("RETR b") == "450"
            assert "it never tried again" in fails(fake.assert_retried)
            assert raw.code("RETR b") == "450"
            fake.assert_retried(times=(1, 1))

    @pytest.mark.parametrize("how", ["426", "421"])
    def test_after_a_cut(self, how):
        with cut("stor", 3, reply=f"{how} cut") as fake:
            with Raw(fake).hello() as raw:
                cut_up(raw)
                fake.clock.advance(5)
                if how == "426":
                    up(raw)
                else:
                    with Raw(fake).hello() as second:
                        up(second)
            fake.assert_retried(times=(1, 1), first_delay=(5, 5))
            fake.assert_delivered()

    def test_a_resumption_is_a_retry(self):
        with cut("retr", 3) as fake, Raw(fake).hello() as raw:
            cut_down(raw)
            fake.clock.advance(7)
            raw.code("REST 3")
            raw.get("RETR small.txt")
            fake.assert_retried(times=(1, 1), first_delay=(7, 7))

    def test_a_login_that_was_refused(self):
        with outage(one("login", times=2, reply="530 not now")) as fake, Raw(fake) as raw:
            assert raw.code() == "220"
            for gap in (0, 10, 20):
                fake.clock.advance(gap)
                raw.say("USER ann")
                raw.say("PASS x")
            fake.assert_retried(times=(2, 2), first_delay=(10, 10))

    def test_a_client_of_its_own_fault_is_no_refusal(self):
        with healthy(users={"ann": "x"}) as fake, Raw(fake) as raw:
            raw.reply()
            raw.say("USER ann")
            raw.say("PASS y")
            raw.say("RETR nothing")
            assert "nothing was refused: there was nothing to retry" in fails(fake.assert_retried)


class TestStored:
    def test_by_content_hash_and_size(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw, "d.txt", "größer".encode())
            fake.assert_stored("d.txt")
            for name in ("d.txt", "/d.txt", "./d.txt", "x/../d.txt"):
                fake.assert_stored(name, "größer".encode(), size=8)
            fake.assert_stored("d.txt", "größer")
            fake.assert_stored("d.txt", sha256=hashlib.sha256("größer".encode()).hexdigest().upper())
            fake.assert_stored("small.txt", "A small file.\n", size=14)
            fake.assert_stored("big.bin", size=3_000_000)

    def test_what_is_not_there(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            assert first_line(lambda: fake.assert_stored("nwe.txt")) == (
                "expected nwe.txt to be stored, but there is no such file; there is new.txt"
            )
            assert first_line(lambda: fake.assert_stored("zzz")) == (
                "expected zzz to be stored, but there is no such file; there are big.bin, new.txt, small.txt"
            )

    def test_a_refused_upload_is_marked(self):
        with outage(one("stor", reply="452 full")) as fake, Raw(fake).hello() as raw:
            up(raw)
            text = fails(lambda: fake.assert_stored("new.txt"))
            assert "->        0s  C  STOR new.txt\n                S  452 full" in text.replace(
                "              S", "                S"
            )

    @pytest.mark.parametrize("name", ["new.txt", "/new.txt", "./new.txt", "d/../new.txt"])
    def test_only_a_piece(self, name):
        with cut("stor", 3) as fake, Raw(fake).hello() as raw:
            cut_up(raw)
            text = fails(lambda: fake.assert_stored(name))
            assert text.startswith(f"expected {name} to be stored, but only a piece of it has come, 3 bytes")
            assert text.count("-> ") == 2

    @pytest.mark.parametrize(
        ("content", "seen"),
        [
            (b"12346", "it has all 5 bytes, and is another from byte 4 on"), (b"1234", "it has 5 bytes in place of 4, and is another from byte 4 on"),
            (b"123456", "it has 5 bytes in place of 6, and is another from byte 5 on"), (b"", "it has 5 bytes in place of 0, and is another from byte 0 on"),
        ],
    )  # fmt: skip
    def test_another_content(self, content, seen):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            assert first_line(lambda: fake.assert_stored("new.txt", content)) == (
                f"expected new.txt to be stored as it should be, but {seen}"
            )

    def test_another_size_or_hash(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            assert "with 6 bytes, but it has 5" in first_line(lambda: fake.assert_stored("new.txt", size=6))
            assert "with the SHA-256 0abc, but 5 bytes have 59944" in first_line(
                lambda: fake.assert_stored("new.txt", sha256="0abc")
            )

    def test_a_resume_that_lost_bytes_is_found(self):
        """What a client that trusts its own count does: it goes on where it thinks that it was."""
        with cut("stor", 3) as fake, Raw(fake).hello() as raw:
            cut_up(raw)
            with raw.data() as data:
                assert raw.code("APPE new.txt")[0] == "1"
                data.send(b"67890")
                data.end()
                raw.reply()
            fake.assert_no_partial_files()
            assert "5678" not in fake.files["new.txt"].decode()
            assert "is another from byte 3 on" in first_line(lambda: fake.assert_stored("new.txt", b"1234567890"))


class TestNoPartialFiles:
    def test_whole_ones(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            fake.assert_no_partial_files()

    def test_a_piece(self):
        with cut("stor", 3) as fake, Raw(fake).hello() as raw:
            cut_up(raw)
            text = fails(fake.assert_no_partial_files)
            assert text.startswith("expected every file to be whole, but only 3 bytes of new.txt have come")
            assert text.count("-> ") == 2
            assert raw.code("DELE new.txt") == "250"
            fake.assert_no_partial_files()  # a client that cleans up

    def test_moved_away_it_is_one_still(self):
        with cut("stor", 3) as fake, Raw(fake).hello() as raw:
            cut_up(raw)
            raw.code("RNFR new.txt")
            raw.code("RNTO old.txt")
            assert "3 bytes of old.txt" in first_line(fake.assert_no_partial_files)


class TestNeverExceeded:
    def test_data_connections_do_not_count(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            up(raw)
            raw.hold("PORT")
            fake.assert_never_exceeded(connections=1)
            with Raw(fake):
                fake.wait_for(lambda j: j.count("connect") == 2)
                assert "there were 2" in fails(lambda: fake.assert_never_exceeded(connections=1))

    def test_one_after_the_other(self):
        with healthy() as fake:
            for _ in range(50):
                with Raw(fake).hello() as raw:
                    raw.send("QUIT\r\n")
            fake.assert_never_exceeded(connections=1)


class TestExpected:
    def expecting(self, expect: str, *texts: str) -> FakeFTP:
        return FakeFTP(rules(*texts, then("x", f"[expect]\n{expect}"), phase='lasts = "10s"'), clock=ManualClock())

    def test_no_partial_files(self):
        with self.expecting("no_partial_files = true", one("stor", times=1, after_bytes=3, reply=CUT)) as fake:
            with Raw(fake).hello() as raw:
                cut_up(raw)
                assert "expected every file to be whole" in fails(fake.assert_expected)
                up(raw)
                fake.assert_expected()

    def test_no_partial_files_false_expects_nothing(self):
        with self.expecting("no_partial_files = false", one("stor", after_bytes=3, reply=CUT)) as fake:
            with Raw(fake).hello() as raw:
                cut_up(raw)
                fake.assert_expected()

    def test_the_others_of_a_scenario(self):
        with self.expecting(
            "delivered = { times = 1 }\nno_duplicates = true\nretried = { times = 1 }", one("stor", reply="450 no")
        ) as fake:
            with Raw(fake).hello() as raw:
                up(raw)
                assert "none was delivered" in fails(fake.assert_expected)
                fake.clock.advance(10)
                up(raw)
                fake.assert_expected()

    def test_of_the_healthy_one_of_the_catalogue(self):
        with healthy() as fake, Raw(fake).hello() as raw:
            fails(fake.assert_expected)
            up(raw)
            fake.assert_expected()


# ---- what is read out of a journal ---------------------------------------------------------------


def test_refusals():
    with FakeFTP(rules(one("stor", times=1, after_bytes=3, reply=CUT), one("dele", reply="450 no"))) as fake:
        with Raw(fake).hello() as raw:
            cut_up(raw)
            up(raw)
            up(raw, "b")
            raw.get("RETR small.txt")
            raw.get("LIST")
            raw.code("DELE b")
        assert [x.moment for x in attempts.refusals(fake.journal)] == ["transfer", "dele"]


class TestPicture:
    """Both channels on one timeline."""

    def story(self) -> FakeFTP:
        fake = cut("retr", 5)
        with fake, Raw(fake).hello() as raw:
            cut_down(raw)
            fake.clock.advance(5)
            with raw.listen() as data:
                raw.code("REST 5")
                raw.code(raw.where(data))
                raw.code("RETR small.txt")
                assert data.rest() == b"l file.\n".rjust(9, b"l")
                raw.reply()
            with raw.data() as data:
                fake.settle()  # it has been accepted by then
                raw.code("STOR x")
                data.send(b"1")
                data.end()
                raw.reply()
            raw.code("STOR y")
            raw.code("QUIT")
        return fake

    def test_the_transcript(self):
        lines = transcript([self.story().journal]).splitlines()
        start = next(i for i, line in enumerate(lines) if "RETR" in line)
        ports = ("C  PORT", "C  PASV", "Passive Mode", "200 PORT")  # which are others each time
        told = [line for line in lines[start:] if not any(word in line for word in ports)]
        assert told == [
            "          0s  C  RETR small.txt",
            "              S  125 Data connection already open. Transfer starting.",
            "              D  (passive) 5 bytes sent, then closed",
            "          0s  D  (5 bytes so far)",
            "              S  426 Connection closed; transfer aborted.   [reply+after_bytes, phase[0].rule[0]]",
            "          5s  C  REST 5",
            "              S  350 Restarting at position 5.",
            "          5s  C  RETR small.txt",
            "              S  125 Data connection already open. Transfer starting.",
            "              D  (active) 9 bytes sent from byte 5, all of it",
            "              S  226 Transfer complete.",
            "          5s  C  STOR x",
            "              S  125 Data connection already open. Transfer starting.",
            "              D  (passive) 1 byte received, all of it",
            "              S  226 Transfer complete.",
            "          5s  C  STOR y",
            "              S  425 Use PORT or PASV first.",
            "          5s  C  QUIT",
            "              S  221 Goodbye.",
        ]

    def test_the_timeline(self):
        (line,) = timeline([self.story().journal]).splitlines()[1:]
        assert (
            line
            == "          0s  #1    x /small.txt down: 5 bytes, cut; transfer: 426 Connection closed; transfer aborted.; "[
                :100
            ]
        )

    @pytest.mark.parametrize(
        ("how", "words"),
        [("fin", "then closed"), ("reset", "then reset"), ("drain", "then half-closed, the rest dropped")],
    )
    def test_how_a_data_connection_has_ended(self, how, words):
        with cut("stor", 3, data=how) as fake, Raw(fake).hello() as raw:
            cut_up(raw)
            assert f"D  (passive) 3 bytes received, {words}" in transcript([fake.journal])

    def test_one_that_let_nobody_through(self):
        with FakeFTP(rules(one("pasv", data="reset"))) as fake, Raw(fake).hello() as raw:
            port = raw.say("PASV")
            assert raw.code("RETR small.txt") == "150"
            with raw.visit(port_of(port)):
                raw.reply()
            assert "D  (passive) 0 bytes sent, then reset" in transcript([fake.journal])

    def test_while_it_goes_on(self):
        with healthy() as fake, Raw(fake).hello() as raw, raw.data() as data:
            fake.settle()
            raw.code("STOR x")
            data.send(b"123")
            fake.settle()
            lines = transcript([fake.journal]).splitlines()
            assert lines[-2:] == [
                "          0s  C  STOR x",
                "              S  125 Data connection already open. Transfer starting.",
            ]
            assert "nothing refused, nothing transferred; still open" in timeline([fake.journal])

    def test_a_command_in_between_stands_after_the_transfer_it_came_into(self):
        with healthy() as fake, Raw(fake).hello() as raw, raw.data() as data:
            fake.settle()
            raw.code("STOR x")
            data.send(b"123")
            fake.settle()
            fake.clock.advance(3)
            raw.say("STAT")
            data.end()
            raw.reply()
            lines = [line for line in transcript([fake.journal]).splitlines() if "S   " not in line][-7:]
            assert lines == [
                "          0s  C  STOR x",
                "              S  125 Data connection already open. Transfer starting.",
                "              D  (passive) 3 bytes received, all of it",
                "              S  226 Transfer complete.",
                "          3s  C  STAT",
                "              S  211-FTP server status:",
                "              S  211 End of status.",
            ]
            assert "Transfer elapsed time: 3.0 secs" in transcript([fake.journal])

    def test_of_two_fakes_in_one_order(self):
        clock = ManualClock()
        with FakeFTP(clock=clock, name="one") as a, FakeFTP(clock=clock, name="two") as b:
            with Raw(a).hello() as raw:
                up(raw)
            clock.advance(2)
            with Raw(b).hello() as raw:
                raw.get("RETR small.txt")
            text = render([a.journal, b.journal])
        assert "          0s  one #1 + /new.txt up: 5 bytes; " in text
        assert "          2s  two #1 + /small.txt down: 14 bytes; " in text
        assert text.index("on one") < text.index("STOR new.txt") < text.index("on two") < text.index("RETR small.txt")
