"""A run: its parts, its exchanges, and whether it has tested anything."""

from __future__ import annotations

import pytest

from conduct_playbook import BUSY, Play
from notnow.conduct.reading.result import result
from notnow.conduct.reading.run import Run, burst
from notnow.journal import CertificateRejected
from notnow.language import catalogue
from notnow.language.scenario import Scenario

MAIL = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". <1@x>", "QUIT")
OVERLOAD, HEALTHY, GREYLISTING = (catalogue.scenario(f"smtp/{name}") for name in ("overload", "healthy", "greylisting"))
AT_CONNECT = "smtp/overload has faults at connect, and none of them fired"


def test_the_exchanges_of_several_servers_are_in_order() -> None:
    play = Play("smtp", "a", "b")
    for server in (1, 0, 1):
        play.connect(server=server)
    run = Run(play.journals)
    assert [x.connection.server for x in run.exchanges] == ["b", "a", "b"]
    assert [c.server for c in run.connections] == ["b", "a", "b"]
    assert [x.connection.server for x in Run(play.journals[1:]).exchanges] == ["b", "b"]


def test_what_came_before_the_scenario_was_played_counts_only_in_the_whole_run() -> None:
    play = Play("smtp")
    play.connect(BUSY).play.recorders[0].mark("play", "smtp/overload")
    play.connect(BUSY)
    assert [len(Run(play.journals, whole=whole).exchanges) for whole in (False, True)] == [1, 2]


@pytest.mark.parametrize(
    ("protocol", "line"), [("smtp", "MAIL FROM:<a@x>"), ("ftp", "STOR a.bin"), ("http", "GET a.test/")]
)
def test_what_a_full_journal_dropped_since_the_last_play_leaves_the_result_open(protocol: str, line: str) -> None:
    play = Play(protocol)
    play.journals[0].limit = 2
    play.connect(*(f"{line}{n}" for n in range(3)))
    assert "the journal dropped 2 exchanges" in [doubt.why for doubt in result(Run(play.journals).ledger).doubts]
    play.recorders[0].mark("play", "x")
    play.connect()
    assert [Run(play.journals, whole=whole).ledger.dropped for whole in (False, True)] == [0, 3]


def test_a_part_keeps_what_is_known_of_the_run() -> None:
    mail, web = Play("smtp"), Play("http")
    run = Run([*mail.journals, *web.journals], [OVERLOAD], whole=True, proxy=True)
    part = run.of("http")
    assert (part.journals, part.scenarios, part.whole, part.proxy) == ((web.journals[0],), (OVERLOAD,), True, True)
    assert run.of("http") is part
    assert part.of("http") is part


class TestTested:
    @pytest.mark.parametrize(
        ("scenarios", "line", "why"),
        [
            ([OVERLOAD], "QUIT", AT_CONNECT),
            ([OVERLOAD], BUSY, ""),
            ([OVERLOAD], "(stopped)", AT_CONNECT),
            ([HEALTHY], "QUIT", ""),
            ([HEALTHY, OVERLOAD], "QUIT", AT_CONNECT),
            ([], "QUIT", ""),
            ([GREYLISTING, OVERLOAD], "QUIT", f"smtp/greylisting has faults at rcpt and {AT_CONNECT}"),
        ],
    )
    def test_by_a_fault_that_fired(self, scenarios: list[Scenario], line: str, why: str) -> None:
        play = Play("smtp")
        play.connect(line)
        assert Run(play.journals, scenarios).untested == why

    def rejecting(self, *trusted: bool) -> Run:
        play = Play("http")
        for of_the_ca in trusted:
            defects = () if of_the_ca else ("expired",)
            line = play.connect("-> ", version="TLSv1.3", certificate="good", defects=defects)
            line.fails(CertificateRejected("unknown_ca"))
        return Run(play.journals)

    def test_a_client_that_was_not_told_whom_to_trust(self) -> None:
        run = self.rejecting(True, True)
        assert run.untested == run.distrusted
        assert run.distrusted.startswith(
            "the client rejected the certificate (TLS alert unknown_ca), because it does not"
        )
        assert self.rejecting(False).untested == ""
        assert self.rejecting(True, False).untested == ""
        assert Run(Play("http").journals).untested == ""


@pytest.mark.parametrize(
    ("gaps", "found"), [((1, 1), [1, 2, 3]), ((1, 1.1), []), ((5, 1, 0.5), [2, 3, 4]), ((0, 0, 0), [1, 2, 3]), ((), [])]
)
def test_a_burst_is_more_than_so_many_within_so_many_seconds(gaps: tuple[float, ...], found: list[int]) -> None:
    play = Play("smtp")
    play.connect()
    for gap in gaps:
        play.wait(gap).connect()
    assert [x.connection.number for x in burst(play.journals[0].exchanges, 2, 2.0)] == found


def test_the_ledger_of_several_protocols_has_the_nameless_tries_of_each() -> None:
    mail, web = Play("smtp"), Play("http")
    for play, lines in ((mail, (BUSY, BUSY)), (web, ("-> !", "-> !"))):
        for line in lines:
            play.connect(line)
    parts = [len(play.run.ledger.nameless) for play in (mail, web)]
    assert len(Run([*mail.journals, *web.journals]).ledger.nameless) == sum(parts) > 0
