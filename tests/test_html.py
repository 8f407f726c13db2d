"""A report as a page of HTML: a line for each block of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

import reports
from conduct_playbook import BUSY, Play
from notnow.conduct.finding import Finding, held
from notnow.conduct.pictures import html
from notnow.conduct.pictures.report import Report
from notnow.conduct.reading.ledger import Doubt
from notnow.conduct.reading.result import Result
from notnow.units import plural

_BLOCKS = ("h1", "h2", "h3", "p", "dt", "dd", "li", "tr", "summary")


def blocks(report: Report) -> list[str]:
    """The blocks of the page: name and class, text. The picture, its table and its legend are left out."""
    page = html.page(report).replace(html.__version__, "V")
    body = re.sub(
        r"(?s)<figure.*</figure>\s*<details>.*?</details>", "", page.partition("</head>")[2].partition("</html>")[0]
    )
    return list(_blocks(ET.fromstring(body)))


def _blocks(element: ET.Element) -> Iterator[str]:
    style = f".{kind.strip().replace(' ', '.')}" if (kind := element.get("class")) else ""
    if element.tag in _BLOCKS:
        yield f"{element.tag}{style}: {' '.join(' '.join(element.itertext()).split())}".strip()
    else:
        if element.tag in ("article", "section"):
            yield f"{element.tag}{style}"
        for child in element:
            yield from _blocks(child)


PAGE = """\
h1: not well behaved in smtp/x
section.card.warn
p.sentence: reported: 1 of 2 items, and the client exited with 75
li: mail from c@x 0s mail: 421 busy, 1m mail: 421 busy, 3m mail: 421 busy
dt: client
dd: 'send mail' -n 2
dd: exited with 75 after 1.25s
dt: smtp
dd: smtp/x
dd: smtp://h:1
dt: seed
dd: 7
dd: 60 times as fast
h2: Timeline
h2: Load
dt: tries
dd: 4
dt: tries an item
dd: 2
dt: at most in a second
dd: 2
dt: at a server known to be busy
dd: 2
h2: Back-off
p: 2 waits (1m, 2m): too few to tell
h2: Verdicts
article.card.bad
h3: broken smtp.broken should
p: It keeps smtp.broken.
p.why: it came | at once
li: smtp #1 at 0s: connect -> 220 hello
p.dim: Servers mind.
p.dim: RFC 5321 §4.5.4.1; notnow conduct smtp.broken explains it
article.card.warn
h3: broken smtp.lax advice
p: It keeps smtp.lax.
p.why: it did
li: smtp #1 at 0s: connect -> 220 hello
p.dim: Servers mind.
p.dim: RFC 5321 §4.5.4.1; notnow conduct smtp.lax explains it
article.card.warn
h3: inconclusive smtp.open should
p: It keeps smtp.open.
p.why: nobody can tell
li: smtp #1 at 0s: connect -> 220 hello
p: another run would settle it
article.card.good
h3: held smtp.held should
p: It keeps smtp.held.
p.why: it waited 1m
summary: Not exercised by this run: 1
article.card.idle
h3: not exercised smtp.idle should
p: It keeps smtp.idle.
h2: Transcript
section.talk
h3: #1 from 192.0.2.1
tr.s.marked: 0s S 220 hello
tr.c: 0s C MAIL FROM:<a@x>
tr.s: S 250 ok
tr.c: 0s C RCPT TO:<b@y>
tr.s: S 250 ok
tr.c: 0s C DATA
tr.s: S 354 go on
tr.c: 0s C . <1@x>
tr.s: S 250 ok
tr.c: 0s C MAIL FROM:<c@x>
tr.s.refused: S 421 busy (and closes) [reply, phase[0].rule[0]]
section.talk
h3: #2 from 192.0.2.1
tr.s: 1m S 220 hello
tr.c: 1m C MAIL FROM:<c@x>
tr.s.refused: S 421 busy (and closes) [reply, phase[0].rule[0]]
section.talk
h3: #3 from 192.0.2.1
tr.s: 3m S 220 hello
tr.c: 3m C MAIL FROM:<c@x>
tr.s.refused: S 421 busy (and closes) [reply, phase[0].rule[0]]
"""


def test_a_page() -> None:
    play = reports.lost()
    assert blocks(reports.of(play, *reports.every_outcome(play), speed=60.0)) == PAGE.splitlines()


def test_a_page_on_nothing() -> None:
    found = blocks(reports.of(Play("smtp"), reports.said("smtp.idle", Finding("not exercised")), judged=False))
    assert {"p: Nobody connected.", "p: This run gave no rule anything to judge."} < set(found)


@pytest.mark.parametrize(
    ("result", "style"),
    [
        (Result("lost", missing=1), "bad"),
        (Result("reported", missing=1), "warn"),
        (Result("unknown", doubts=(Doubt("why", "a look"),)), "warn"),
        (Result("delivered", asked=1), "good"),
    ],
)
def test_the_colour_of_a_result(result: Result, style: str) -> None:
    assert blocks(reports.of(Play("smtp"), result=result))[1] == f"section.card.{style}"


@pytest.mark.parametrize(("verdicts", "style"), [([], "warn"), ([reports.said("smtp.held", held())], "good")])
def test_the_colour_of_an_outcome(verdicts: list[reports.Verdict], style: str) -> None:
    play = Play("smtp")
    play.connect("QUIT")
    report = reports.of(play, *verdicts, judged=False)
    assert f'<h1><span class="outcome {style}">{report.outcome}</span> in smtp/x</h1>' in html.page(report)
    assert "section.card" not in "".join(blocks(report))


@pytest.mark.parametrize(("n", "more"), [(20, 0), (21, 1), (23, 3)])
def test_of_many_items_the_first_are_named(n: int, more: int) -> None:
    play = Play("smtp")
    for i in range(n):
        play.connect(f"MAIL FROM:<{i}@x> -> !451 no", "QUIT").play.wait("1m")
    found = blocks(reports.of(play))
    assert len([line for line in found if line.startswith("li: mail from")]) == 20
    assert [line for line in found if line.endswith("more")] == ([f"li.dim: … and {more} more"] if more else [])


def test_of_many_connections_the_middle_is_left_out() -> None:
    play = Play("smtp")
    for _ in range(203):
        play.connect(BUSY).play.wait("1m")
    found = blocks(reports.of(play))
    assert "p.dim: The first and last 100 connections; 3 between them are left out." in found
    assert found.count("section.talk") == 200


def test_a_journal_that_was_full() -> None:
    play = Play("smtp")
    play.journals[0].limit = 2
    play.connect(*["NOOP"] * 5)
    assert "p.dim: The oldest 4 exchanges were dropped: the journal was full." in blocks(reports.of(play))


@pytest.mark.parametrize(("noops", "left_out"), [(1999, 0), (2000, 1)])
def test_of_a_long_connection_the_middle_is_left_out(noops: int, left_out: int) -> None:
    play = Play("smtp")
    play.connect(*["NOOP"] * noops)
    lines = [line for line in blocks(reports.of(play)) if line.startswith("tr")]
    said = [line for line in lines if "left out" in line]
    assert said == [f"tr: … {plural(left_out, 'exchange')} left out; notnow try --json has them all"] * bool(left_out)
    assert len([line for line in lines if "NOOP" in line]) == 1999
    assert (lines[0], lines[-1]) == ("tr.s: 0s S 220 hello", "tr.s: S 250 ok")


def test_of_many_connections_each_keeps_its_first_and_last_words() -> None:
    play = Play("smtp")
    for _ in range(200):
        play.connect(*["NOOP"] * 14).play.wait("1m")
    assert len([line for line in blocks(reports.of(play)) if "tr.c" in line and "NOOP" in line]) == 200 * 9


def test_evidence_leads_to_its_line_in_the_transcript() -> None:
    play = reports.lost()
    page = html.page(reports.of(play, *reports.every_outcome(play)))
    first = play.journals[0].exchanges[0].index
    assert f'<li><a href="#e{first}">smtp #1 at 0s: connect -&gt; 220 hello</a></li>' in page
    assert f'<tr id="e{first}" class="s marked">' in page
