"""Journals written by hand, as text: the outcome of a connection, the timeline, the transcript."""

from __future__ import annotations

import pytest

from conduct_playbook import Line, Play
from notnow.conduct.pictures.timeline import outcome, render, timeline, transcript

MAIL = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA")


def went(protocol: str, *lines: str) -> str:
    return outcome(Play(protocol).connect(*lines).connection)


class TestOutcome:
    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ((), ". nothing refused, nothing stored; still open"),
            (("QUIT", "(leaves)"), ". nothing refused, nothing stored; the client left"),
            (("-> !421 no",), "x connect: 421 no; the fake closed"),
            (("-> !",), "x connect: a close without a word; the fake closed"),
            (("-> !450 a | 450 b",), "x connect: 450 b; still open"),
            (("-> !450-a | 450-b | 450 c",), "x connect: 450-a …; still open"),
            ((*MAIL, ". <1@x>"), "+ 1 message stored; still open"),
            ((*MAIL, ". <1@x>", *MAIL, ". <2@x>"), "+ 2 messages stored; still open"),
            ((*MAIL, ". <1@x>", "MAIL -> !421 no"), "x 1 message stored; mail: 421 no; the fake closed"),
            (("NOOP -> 500 what",), "x noop: 500 what; still open"),
        ],
    )
    def test_smtp(self, lines: tuple[str, ...], said: str) -> None:
        assert went("smtp", *lines) == said

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("NOOP", ". nothing refused, nothing transferred; still open"),
            ("STOR a {bytes=1500} -> 226 done", "+ /a up: 1.5 KB; still open"),
            ("STOR a {bytes=2, offset=3} -> 226 done", "+ /a up: 2 bytes from 3; still open"),
            ("STOR a {bytes=0} -> 226 done", "+ /a up: 0 bytes; still open"),
            ("RETR a {bytes=2} -> !426 cut", "x /a down: 2 bytes, cut; retr: 426 cut; still open"),
            ("RETR a {bytes=0} -> !425 cut", "x retr: 425 cut; still open"),
            ("RETR a {bytes=0} -> 150 ok", ". nothing refused, nothing transferred; still open"),
            ("LIST {bytes=2} -> 226 done", "+ / listed: 2 bytes; still open"),
        ],
    )
    def test_ftp(self, line: str, said: str) -> None:
        assert went("ftp", line) == said

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ((), ". nothing refused; still open"),
            (("GET a.test/",), "+ 1 request answered; still open"),
            (("GET a.test/", "POST a.test/"), "+ 2 requests answered; still open"),
            (("GET a.test/ {whole=false} -> 200 OK",), ". nothing refused; still open"),
            (("GET a.test/ -> !503 busy",), "x request: 503 busy; still open"),
        ],
    )
    def test_http(self, lines: tuple[str, ...], said: str) -> None:
        assert went("http", *lines) == said

    def test_an_error(self) -> None:
        play = Play("smtp")
        line = play.connect("(leaves)")
        line.recorder.failed(line.connection, "reset\x1b[2J")
        assert outcome(line.connection) == "x reset\\x1b[2J; the client left"


class TestTimeline:
    def test_nobody_came(self) -> None:
        assert timeline(Play("smtp").journals) == "timeline (scenario time)\n   nobody connected"

    def test_a_line_for_each_connection(self) -> None:
        play = Play("smtp").wait(5)
        play.connect("-> !421 no")
        marked = play.wait("1m").connect("QUIT", "(leaves)")
        assert timeline(play.journals, [marked.connection]).splitlines() == [
            "timeline (scenario time)",
            "          0s  #1    x connect: 421 no; the fake closed",
            "->        1m  #2    . nothing refused, nothing stored; the client left",
        ]
        arrows = [line[:2] for line in timeline(play.journals, play.journals[0].exchanges[:1]).splitlines()]
        assert arrows == ["ti", "->", "  "]

    def test_several_servers_are_named(self) -> None:
        play = Play("smtp", "first", "second")
        play.connect(server=1)
        play.connect()
        said = ". nothing refused, nothing stored; still open"
        assert timeline(play.journals).splitlines()[1:] == [
            f"{'0s':>12}  second #1 {said}",
            f"{'0s':>12}  first #1  {said}",
        ]

    def test_a_long_line_is_cut(self) -> None:
        play = Play("smtp")
        play.connect(f"-> !421 {'no ' * 100}")
        assert [len(line) for line in timeline(play.journals).splitlines()] == [24, 100]

    @pytest.mark.parametrize(("count", "lines"), [(40, 41), (41, 42), (50, 42)])
    def test_of_many_the_middle_is_left_out(self, count: int, lines: int) -> None:
        play = Play("smtp")
        for _ in range(count):
            play.connect()
        found = timeline(play.journals).splitlines()
        assert len(found) == lines
        if count > 40:
            assert found[1] == f"  … of {count} connections, the first and last 20"
            assert [line.split()[1] for line in (*found[2:4], *found[-1:])] == ["#1", "#2", f"#{count}"]
            assert found[22].split()[1] == f"#{count - 19}"

    def test_dropped_exchanges_are_told(self) -> None:
        play = Play("smtp")
        play.journals[0].limit = 2
        play.connect("NOOP", "NOOP", "NOOP")
        assert "  … 2 older exchanges were dropped: journal_limit is 2" in timeline(play.journals)


class TestLanes:
    def shown(self, play: Play, *marked: Line) -> list[str]:
        return timeline(play.journals, [line.connection for line in marked]).splitlines()

    def test_the_head_of_a_lane(self) -> None:
        play = Play("http")
        play.connect(sni="a.test", certificate="first", alpn="h2")
        assert self.shown(play)[:3] == [
            "timeline (scenario time), a lane for each connection",
            f"{'':14}#1 SNI a.test",
            f"{'':14}certificate first, h2",
        ]
        bare = Play("http", "a", "b")
        bare.connect(server=1)
        bare.connect(version="TLSv1.3")
        assert self.shown(bare)[1:3] == [
            f"{'':14}{'a #1 SNI none':<43}b #1",
            f"{'':14}{'certificate none, no ALPN':<43}no TLS",
        ]

    def test_requests_in_order(self) -> None:
        play = Play("http")
        first = play.connect("GET a.test/", sni="a.test")
        second = play.wait(1).connect("GET b.test/x -> !503 busy", "(closes)", sni="a.test")
        first.says("(1s)", "POST a.test/ -> …", "(leaves)")
        first.recorder.failed(first.connection, "reset")
        assert self.shown(play, second)[3:] == [
            f"  {'0s':>10}  {'GET / 200':<43}|",
            f"  {'1s':>10}  {'|':<43}GET b.test/x 503",
            f"  {'2s':>10}  {'POST / no answer':<43}|",
            f"{'':14}reset",
            f"{'':14}{'(the client left)':<43}(the fake closed)",
        ]

    @pytest.mark.parametrize(("letters", "ending"), [(50, "x 200"), (51, "x 2…")])
    def test_a_long_cell_is_cut(self, letters: int, ending: str) -> None:
        play = Play("http")
        play.connect(f"GET a.test/{'x' * letters}", sni="a.test")
        row = self.shown(play)[3]
        assert (len(row), row.endswith(ending)) == (73, True)

    def test_what_is_marked(self) -> None:
        play = Play("http")
        line = play.connect("-> !421 no", "GET a.test/")
        assert self.shown(play, line)[3].startswith("->        0s  connect: 421 no")
        exchange = play.journals[0].exchanges[1]
        found = timeline(play.journals, [exchange]).splitlines()
        assert [text[:2] for text in found[3:5]] == ["  ", "->"]

    @pytest.mark.parametrize(("count", "lanes"), [(1, True), (4, True), (5, False)])
    def test_a_few_connections_alone_are_lanes(self, count: int, lanes: bool) -> None:
        play = Play("http")
        for _ in range(count):
            play.connect()
        assert ("a lane for each" in timeline(play.journals)) is lanes

    def test_servers_of_other_protocols_beside_them_have_no_lanes(self) -> None:
        web, mail = Play("http"), Play("smtp")
        for play in (web, mail):
            play.connect()
        assert "a lane for each" not in timeline([*web.journals, *mail.journals])

    def test_an_answer_that_did_not_come(self) -> None:
        play = Play("http")
        play.connect("GET a.test/ -> !", sni="a.test")
        assert self.shown(play)[3] == f"  {'0s':>10}  GET / closed"
        play = Play("http")
        play.connect("GET a.test/ -> !GOAWAY NO_ERROR, last stream 0 | 421 no", sni="a.test")
        assert "GOAWAY" in self.shown(play)[3]

    def test_an_unasked_frame(self) -> None:
        play = Play("http")
        play.connect("GET a.test/", "[enter] -> !GOAWAY NO_ERROR, last stream 1", sni="a.test")
        assert self.shown(play)[4].startswith(f"  {'0s':>10}  enter: GOAWAY NO_ERROR")


class TestTranscript:
    def said(self, play: Play, *marked: Line) -> list[str]:
        return transcript(play.journals, [line.connection for line in marked]).splitlines()[1:]

    def test_who_said_what(self) -> None:
        play = Play("smtp")
        play.connect("NOOP", "(90s)", "MAIL FROM:<a@x> -> !421 no", "QUIT")
        assert self.said(play) == [
            "   #1 from 192.0.2.1",
            f"{'0s':>12}  S  220 hello",
            f"{'0s':>12}  C  NOOP",
            f"{'':>12}  S  250 ok",
            f"{'1m 30s':>12}  C  MAIL FROM:<a@x>",
            f"{'':>12}  S  421 no   (and closes)   [reply, phase[0].rule[0]]",
            f"{'':>12}  C  QUIT  (after the fake had closed)",
        ]

    def test_more_than_a_line_after_the_close(self) -> None:
        play = Play("smtp")
        play.connect("-> !421 no", f"EHLO {'x' * 60}", "QUIT")
        assert self.said(play)[-1] == f"{'':>12}  C  EHLO {'x' * 55} …  (after the fake had closed)"

    def test_nothing_said(self) -> None:
        play = Play("smtp")
        play.connect("-> !", "NOOP")
        play.connect("MAIL -> …")
        assert [line.split("  ", 1)[1].strip() for line in self.said(play) if "  S  (" in line or "(says" in line] == [
            "0s  S  (a close without a word)   [close, phase[0].rule[0]]",
            "S  (says nothing)   [stall, phase[0].rule[0]]",
        ]

    def test_a_fake_that_stops(self) -> None:
        play = Play("smtp")
        play.connect("(stopped)")
        assert self.said(play)[-1] == f"{'0s':>12}  S  421 stopping   (and closes)   [stopped, the fake stops]"

    def test_the_connections_with_a_mark_alone(self) -> None:
        play = Play("smtp")
        play.connect()
        second = play.connect("-> !421 no")
        assert self.said(play, second) == [
            "   #2 from 192.0.2.1",
            f"{'0s':>12}  S  421 no   (and closes)   [reply, phase[0].rule[0]]",
        ]
        exchange = second.connection.exchanges[0]
        assert transcript(play.journals, [exchange]).splitlines()[2][:4] == "->  "

    def test_several_servers_and_tls(self) -> None:
        play = Play("smtp", "a", "b")
        play.connect(version="TLSv1.3", certificate="first", sni="x.test")
        play.connect(server=1, error="alert")
        assert [line for line in self.said(play) if line.startswith("   #")] == [
            "   #1 from 192.0.2.1 on a, TLS TLSv1.3, certificate first, SNI x.test",
            "   #1 from 192.0.2.1 on b, TLS failed: alert, SNI none",
        ]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            (
                "STOR a {bytes=1} -> 150 go | 226 done",
                ["C STOR a", "S 150 go", "D (PASV) 1 byte received, all of it", "S 226 done"],
            ),
            (
                "RETR a {bytes=2, offset=3} -> 226 done",
                ["C RETR a", "D (PASV) 2 bytes sent from byte 3, all of it", "S 226 done"],
            ),
            ("RETR a {bytes=2, data=reset} -> 426 cut", ["C RETR a", "D (PASV) 2 bytes sent, then reset", "S 426 cut"]),
            ("RETR a {bytes=2} -> 426 cut", ["C RETR a", "S 426 cut"]),
            ("RETR a {bytes=2, data=fin} -> …", ["C RETR a", "D (PASV) 2 bytes sent, then closed"]),
        ],
    )
    def test_a_transfer(self, line: str, said: list[str]) -> None:
        play = Play("ftp")
        play.connect(line)
        assert [" ".join(text.split()).removeprefix("0s ") for text in self.said(play)[2:]] == said

    def test_a_chunk_has_the_reply_of_its_message(self) -> None:
        play = Play("smtp")
        line = play.connect()
        line.recorder.ask(line.connection, "data", "BDAT 5 LAST", "one")
        line.recorder.ask(line.connection, "noop", "NOOP", "one")
        assert [text.split()[1:] for text in self.said(play)[2:]] == [
            ["C", "BDAT", "5", "LAST"],
            ["C", "NOOP"],
            ["(says", "nothing)"],
        ]

    def test_a_client_that_speaks_first(self) -> None:
        play = Play("http")
        play.connect("GET a.test/")
        assert self.said(play) == ["   #1 from 192.0.2.1", f"{'0s':>12}  C  GET a.test/", f"{'':>12}  S  200 OK"]


def test_both() -> None:
    play = Play("smtp")
    play.connect()
    assert render(play.journals) == f"{timeline(play.journals)}\n\n{transcript(play.journals)}"
