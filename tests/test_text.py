"""A report as text: what is printed of runs that are written by hand, and the sentence at its end."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

import reports
from conduct_playbook import BUSY, Play
from notnow.conduct.baseline import Known
from notnow.conduct.finding import Finding, broken, held, inconclusive
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures import text
from notnow.conduct.pictures.report import Client, Report
from notnow.conduct.pictures.text import as_text, summary
from notnow.conduct.reading.ledger import Doubt
from notnow.conduct.reading.result import Result
from notnow.conduct.reading.run import Run
from notnow.language import catalogue

TEXT = """\
reported: 1 of 2 items, and the client exited with 75
  mail from c@x: 0s mail: 421 busy, 1m mail: 421 busy, 3m mail: 421 busy
client exited with 75 after 1.25s

timeline, 3m of scenario time from left to right
x 421, ! refused otherwise, + came through, - connected, . waits
->        0s  #1  |x.........                      |  x 1 message stored; mail: 421 busy; the fake closed
          1m  #2  |          x.................... |  x mail: 421 busy; the fake closed
          3m  #3  |                               x|  x mail: 421 busy; the fake closed

back-off
  2 waits (1m, 2m): too few to tell

load: 4 tries (2 an item), at most 2 in a second, 2 at a server known to be busy

verdicts
  broken  smtp.broken (should) It keeps smtp.broken.
          it came | at once
          smtp #1 at 0s: connect -> 220 hello
          RFC 5321 §4.5.4.1; `notnow conduct smtp.broken` explains it
  broken  smtp.lax (advice) It keeps smtp.lax.
          it did
          smtp #1 at 0s: connect -> 220 hello
          RFC 5321 §4.5.4.1; `notnow conduct smtp.lax` explains it
  inconclusive smtp.open (should) It keeps smtp.open.
          nobody can tell
          smtp #1 at 0s: connect -> 220 hello
          another run would settle it
  held    smtp.held (should) It keeps smtp.held.
          it waited 1m
  not exercised by this run: 1 rule (-v lists them)

notnow: not well behaved: it broke smtp.broken
"""


def seen(*lines: str) -> Play:
    play = Play("smtp")
    play.connect(*lines or ("QUIT",))
    return play


PLAY = seen()
PROOF = PLAY.journals[0].exchanges[0]
HELD, IDLE = reports.said("smtp.held", held()), reports.said("smtp.idle", Finding("not exercised"))
BROKEN, LAX = reports.said("smtp.broken", broken("x", PROOF)), reports.said("smtp.lax", broken("x", PROOF), "advice")
OPEN = reports.said("expect.delivered", inconclusive("nobody can tell", "another run"))
LOST, DELIVERED = Result("lost", asked=1, missing=1), Result("delivered", asked=1)
UNKNOWN = Result("unknown", doubts=(Doubt("it is dark", "a light"),))
HUNG = Client(("x",), hung=True, duration=2)


def test_a_report() -> None:
    play = reports.lost()
    assert as_text(reports.of(play, *reports.every_outcome(play))) == TEXT


def lines(report: Report, *, verbose: bool = False) -> list[str]:
    return [line.strip() for line in as_text(report, verbose=verbose).splitlines()]


def test_rules_that_were_not_exercised_are_listed_on_demand() -> None:
    report = reports.of(PLAY, HELD, IDLE, IDLE)
    assert "not exercised by this run: 2 rules (-v lists them)" in lines(report)
    told = lines(report, verbose=True)
    assert told.count("not exercised smtp.idle (should) It keeps smtp.idle.") == 2
    assert not [line for line in told if "-v lists" in line]
    assert not [line for line in lines(reports.of(PLAY, HELD)) if "not exercised" in line]


@pytest.mark.parametrize(
    ("gaps", "first"),
    [((0.5,), "timeline (scenario time)"), ((1,), "timeline, 1s of scenario time from left to right")],
)
def test_a_short_run_is_not_drawn_to_scale(gaps: tuple[float, ...], first: str) -> None:
    play = Play("smtp")
    play.connect(BUSY)
    for gap in gaps:
        play.wait(gap).connect(BUSY)
    assert first in lines(reports.of(play))


def test_nor_is_one_connection() -> None:
    assert "timeline (scenario time)" in lines(reports.of(seen(BUSY).wait("1m")))


def test_of_many_connections_and_a_full_journal() -> None:
    play = Play("smtp")
    play.journals[0].limit = 60
    for _ in range(45):
        play.connect("QUIT").play.wait("1m")
    found = lines(reports.of(play))
    assert "… 30 older exchanges were dropped: the journal was full" in found
    play.journals[0].limit = 900
    for _ in range(45):
        play.connect("QUIT").play.wait("1m")
    kept = len(play.journals[0].connections)
    assert f"… the first and last 20 connections; {kept - 40} more between" in lines(reports.of(play))


@pytest.mark.parametrize(("n", "more"), [(10, 0), (11, 1), (13, 3)])
def test_of_many_items_the_first_are_named(n: int, more: int) -> None:
    play = Play("smtp")
    for i in range(n):
        play.connect(f"MAIL FROM:<{i}@x> -> !451 no", "QUIT").play.wait("1m")
    found = lines(reports.of(play))
    assert len([line for line in found if line.startswith("mail from ")]) == 10
    assert [line for line in found if "--json" in line] == ([f"… and {more} more (--json has all)"] if more else [])


@pytest.mark.parametrize(
    ("result", "verdicts", "first", "last"),
    [
        (LOST, [HELD], "bold red", "bold red"),
        (Result("reported", asked=1, missing=1), [HELD], "bold yellow", "bold green"),
        (UNKNOWN, [HELD], "bold yellow", "bold red"),
        (DELIVERED, [HELD], "bold green", "bold green"),
        (DELIVERED, [BROKEN], "bold green", "bold red"),
    ],
)
def test_the_colours_of_the_first_line_and_the_last(
    monkeypatch: pytest.MonkeyPatch, result: Result, verdicts: list[Verdict], first: str, last: str
) -> None:
    terminal = partial(Console, force_terminal=True, color_system="standard", width=200)
    monkeypatch.setattr(text, "console", lambda to, _width: terminal(file=to))
    printed = as_text(reports.of(PLAY, *verdicts, result=result)).splitlines()
    codes = {"bold red": "1;31", "bold yellow": "1;33", "bold green": "1;32"}
    assert [line[: line.index("m")] for line in (printed[0], printed[-1])] == [
        f"\x1b[{codes[c]}" for c in (first, last)
    ]


def test_doubts_say_what_would_settle_them() -> None:
    """A single doubt is in the sentence of the result already."""
    assert "it is dark; a light would settle it" not in lines(reports.of(PLAY, HELD, result=UNKNOWN))
    assert "it is dark; a light would settle it" in lines(reports.of(PLAY, HELD, result=replace(UNKNOWN, missing=1)))


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (Client(("x",), 0, duration=2), "client exited with 0 after 2s"),
        (Client((), 1, duration=2), "client exited with 1 after 2s"),
        (Client(("x",)), "client did not say how it ended"),
    ],
)
def test_the_end_of_the_client(client: Client, said: str) -> None:
    assert said in lines(reports.of(PLAY, HELD, client=client))


def test_a_client_of_which_nothing_is_known_is_not_told_of() -> None:
    assert not [line for line in lines(reports.of(PLAY, HELD, client=Client(()))) if line.startswith("client")]


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], "nothing can judge this client: smtp/x expects nothing of it"),
        ([IDLE], "this run gave no rule anything to judge"),
    ],
)
def test_there_is_no_verdict(verdicts: list[Verdict], said: str) -> None:
    assert said in lines(reports.of(PLAY, *verdicts))


@pytest.mark.parametrize(
    ("verdicts", "fields", "said"),
    [
        ([HELD], {"result": DELIVERED}, "well behaved: 1 rule held"),
        ([HELD, HELD], {"result": DELIVERED}, "well behaved: 2 rules held"),
        ([HELD, LAX], {}, "well behaved: 1 rule held; it broke smtp.lax, which --level lets pass"),
        (
            [HELD, BROKEN],
            {"baseline": Known(broken=frozenset({"smtp.broken"}))},
            "well behaved: 1 rule held; it broke smtp.broken, which the baseline or --level lets pass",
        ),
        ([BROKEN, BROKEN], {}, "not well behaved: it broke smtp.broken"),
        (
            [BROKEN],
            {"result": LOST},
            "not well behaved: lost: 1 item, and it is unknown how the client ended; it broke smtp.broken",
        ),
        ([HELD], {"result": LOST}, "not well behaved: lost: 1 item, and it is unknown how the client ended"),
        (
            [reports.said(f"smtp.{n}", broken("x", PROOF)) for n in "abcd"],
            {},
            "not well behaved: it broke smtp.a, smtp.b, smtp.c, smtp.d",
        ),
        (
            [reports.said(f"smtp.{n}", broken("x", PROOF)) for n in "abcdef"],
            {},
            "not well behaved: it broke smtp.a, smtp.b, smtp.c, smtp.d and 2 more",
        ),
        (
            [OPEN, HELD],
            {"result": DELIVERED},
            "inconclusive: expect.delivered: nobody can tell; another run would settle it",
        ),
        ([HELD], {"result": UNKNOWN}, "inconclusive: unknown: it is dark; a light would settle it"),
        ([IDLE], {}, "nothing was judged: the client connected, but this run shows nothing about its conduct"),
        ([HELD], {"client": HUNG}, "the client was still running after 2s (--timeout), and was killed"),
        (
            [BROKEN],
            {"client": HUNG},
            "the client was still running after 2s (--timeout), and was killed; until then it broke smtp.broken",
        ),
        ([HELD], {"client": Client((), failure="is not there")}, "the client is not there"),
    ],
)
def test_the_last_line(verdicts: list[Verdict], fields: dict[str, Any], said: str) -> None:
    report = reports.of(PLAY, *verdicts, judged=False, **fields)
    assert summary(report) == f"notnow: {said}"
    assert as_text(report).replace("\n", " ").strip().endswith(said)


def test_the_last_line_on_nobody() -> None:
    nobody, untold = Play("smtp"), Client(())
    assert summary(reports.of(nobody, client=untold, judged=False)) == (
        "notnow: no client has connected to h:1 since the last play, so there is nothing to judge"
    )
    assert summary(reports.of(nobody, judged=False)).startswith(
        "notnow: the client exited with 75 after 1.25s and never connected to h:1, so its conduct is unknown. Pass it"
    )
    assert summary(reports.of(nobody, BROKEN, client=HUNG)).endswith("and was killed; it had never connected")


def test_the_last_line_on_a_run_that_tested_nothing() -> None:
    run = Run(PLAY.journals, [catalogue.scenario("smtp/overload")])
    report = Report(reports.DIED, run, [IDLE], [{"scenario": "smtp/overload"}], 1.0, ("must",), DELIVERED)
    assert summary(report) == (
        "notnow: nothing was tested: smtp/overload has faults at connect, and none of them fired. "
        "`notnow show smtp/overload` says what would make one fire"
    )
