"""A report as a page of HTML: the page a line a block, and the picture in it a line an element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest

import reports
from conduct_playbook import BUSY, Play
from notnow.conduct.finding import Finding, held
from notnow.conduct.pictures import html
from notnow.conduct.pictures.html import svg
from notnow.conduct.pictures.lanes import Lane, Picture, Point, Wait
from notnow.conduct.pictures.report import Report
from notnow.conduct.reading.ledger import Doubt
from notnow.conduct.reading.result import Result

_PLACES = ("viewBox", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "width", "height", "d")


def drawn(element: ET.Element, depth: int = 0) -> Iterator[str]:
    """The elements of a drawing: name and class, place, text."""
    style, anchor = element.get("class"), element.get("text-anchor")
    name = ".".join(filter(None, [element.tag, style, anchor if anchor != "start" else ""]))
    places = " ".join(value for key in _PLACES if (value := element.get(key)))
    yield "  " * depth + " ".join(filter(None, [name, places, f"{element.text!r}" if element.text else ""]))
    for child in element:
        yield from drawn(child, depth + 1)


def lane(
    who: str, start: float, end: float, *points: Point, waits: tuple[Wait, ...] = (), marked: bool = False
) -> Lane:
    return Lane(who, start, end, False, points, waits, f"{who} was told", marked)


BUSY_TWICE = (Point(-1, "421", "connect: busy"), Point(1, "421", "noop: busy"))
LANES = (
    lane("#1", 0, 1, *BUSY_TWICE, waits=(Wait(1, 60, 1),), marked=True),
    lane("#2", 60, 65, Point(62, "refused", "no"), Point(62, "done", "kept"), waits=(Wait(65, 67, 2), Wait(65, 71, None))),
    lane("#3", 67, 80, Point(70, "421", "bye")),
)  # fmt: skip
SEEN = Picture(LANES, 80, 0, ((64, "a", "up"), (66, "b", "down")), 0)
DRAWN = """\
svg 0 0 1000 178
  title '3 connections in 1m 20s of scenario time'
  rect.band 0.0 54.0 1000.0 30.0
  rect.band 0.0 114.0 1000.0 30.0
  line.grid 59.2 54.0 59.2 144.0
  text.dim.middle 59.2 46.0 '0s'
  line.grid 171.8 54.0 171.8 144.0
  text.dim.middle 171.8 46.0 '10s'
  line.grid 284.4 54.0 284.4 144.0
  text.dim.middle 284.4 46.0 '20s'
  line.grid 397.0 54.0 397.0 144.0
  text.dim.middle 397.0 46.0 '30s'
  line.grid 509.6 54.0 509.6 144.0
  text.dim.middle 509.6 46.0 '40s'
  line.grid 622.2 54.0 622.2 144.0
  text.dim.middle 622.2 46.0 '50s'
  line.grid 734.8 54.0 734.8 144.0
  text.dim.middle 734.8 46.0 '1m'
  line.grid 847.4 54.0 847.4 144.0
  text.dim.middle 847.4 46.0 '1m 10s'
  line.grid 960.0 54.0 960.0 144.0
  text.dim.middle 960.0 46.0 '1m 20s'
  line.phase 779.8 27.0 779.8 34.0
  line.phase 779.8 54.0 779.8 144.0
  text.good 779.8 24.0 'phase up of a'
  line.phase 802.4 27.0 802.4 34.0
  line.phase 802.4 54.0 802.4 144.0
  text.good.end 802.4 24.0 'phase down of b'
  path.wait M70.5 69.0 H734.8 V99.0
    title 'waits 59s'
  text.dim.middle 422.6 65.0 '59s'
  path.wait M791.1 99.0 H813.6 V129.0
    title 'waits 2s'
  path.wait M791.1 99.0 H858.7 V99.0
    title 'waits 6s'
  g
    title '#1: #1 was told'
    text.bad 8.0 73.0 '→ #1'
    line.open 59.2 69.0 70.5 69.0
    circle.bad 47.9 69.0 6
      title '0s: connect: busy'
    circle.bad 70.5 69.0 6
      title '1s: noop: busy'
    text.bad 79.5 65.0 '421 x2'
  g
    title '#2: #2 was told'
    text 8.0 103.0 '#2'
    line.open 734.8 99.0 791.1 99.0
    circle.good 757.3 99.0 6
      title '1m 2s: kept'
    path.warn M757.3 92.0 l7 7 l-7 7 l-7 -7 z
      title '1m 2s: no'
  g
    title '#3: #3 was told'
    text 8.0 133.0 '#3'
    line.open 813.6 129.0 960.0 129.0
    circle.bad 847.4 129.0 6
      title '1m 10s: bye'
    text.bad 856.4 125.0 '421'
  circle.bad 59.2 162.0 6
  text.dim 71.2 166.0 '421'
  path.warn M123.2 155.0 l7 7 l-7 7 l-7 -7 z
  text.dim 135.2 166.0 'refused otherwise'
  circle.good 299.2 162.0 6
  text.dim 311.2 166.0 'came through'
  line.open 435.2 162.0 459.2 162.0
  text.dim 467.2 166.0 'connected'
  line.wait 567.2 162.0 591.2 162.0
  text.dim 599.2 166.0 'waits before it comes back'
"""


def test_what_is_drawn_and_where() -> None:
    assert list(drawn(svg(SEEN))) == DRAWN.splitlines()


def test_a_run_that_took_no_time() -> None:
    lines = list(drawn(svg(Picture(LANES[2:], 0, 0, ((0, "a", "up"),), 0))))
    assert lines[0] == "svg 0 0 1000 118"
    assert lines[1] == "  title '1 connection in 0s of scenario time'"
    assert "  text.good 59.2 24.0 'phase up'" in lines
    assert [line for line in lines if "grid" in line] == ["  line.grid 59.2 54.0 59.2 84.0"]


@pytest.mark.parametrize(
    ("span", "ticks"),
    [
        (0.008, "0s 1ms 2ms 3ms 4ms 5ms 6ms 7ms 8ms"),
        (8, "0s 1s 2s 3s 4s 5s 6s 7s 8s"),
        (8.5, "0s 2s 4s 6s 8s"),
        (1000, "0s 5m 10m 15m"),
        (86400, "0s 3h 6h 9h 12h 15h 18h 21h 1d"),
        (900 * 86400, "0s 100d 200d 300d 400d 500d 600d 700d 800d 900d"),
    ],
)
def test_the_ticks_of_the_axis(span: float, ticks: str) -> None:
    seen = svg(Picture((lane("#1", 0, span),), span, 0, (), 0))
    assert [text.text for text in seen.iter("text") if text.get("text-anchor") == "middle"] == ticks.split()


def test_no_more_phases_than_there_is_room_for() -> None:
    phases = tuple((float(at), "a", f"{at}") for at in range(9))
    words = [text.text for text in svg(Picture(LANES, 80, 0, phases, 0)).iter("text")]
    assert ("phase 7" in words, "phase 8" in words) == (True, False)


def blocks(report: Report) -> list[str]:
    """The blocks of the body, without the picture."""
    body = re.sub(r"(?s)<svg.*</svg>", "", html.page(report).partition("<body>")[2].partition("</body>")[0])
    return re.sub(r"<(h1|h2|p|article|dt|details|pre)\b", r"\n<\1", body.replace(html.__version__, "V")).split("\n")[1:]


PAGE = """\
<h1><span class="bad">not well behaved</span> in smtp/x</h1>
<article class="warn">
<p><b>reported: 1 of 2 items, and the client exited with 75</b></p>
<p class="said">mail from c@x: 0s mail: 421 busy, 1m mail: 421 busy, 3m mail: 421 busy</p></article><dl>
<dt>client</dt><dd><code>'send mail' -n 2</code></dd>
<dt></dt><dd><code>exited with 75 after 1.25s</code></dd>
<dt>server</dt><dd><code>smtp: smtp/x at smtp://h:1</code></dd>
<dt>load</dt><dd><code>4 tries (2 an item), at most 2 in a second, 2 at a server known to be busy</code></dd>
<dt>seed</dt><dd><code>7, 60 times as fast</code></dd>
<dt>notnow</dt><dd><code>V</code></dd></dl>
<h2>Timeline</h2>
<h2>Back-off</h2>
<pre>2 waits (1m, 2m): too few to tell</pre>
<h2>Verdicts</h2>
<article class="bad">
<p><b>broken</b> <code>smtp.broken</code> <span class="dim">(should)</span> It keeps smtp.broken.</p>
<p class="said">it came | at once</p>
<p class="said">smtp #1 at 0s: connect -&gt; 220 hello</p>
<p class="said">RFC 5321 §4.5.4.1; `notnow conduct smtp.broken` explains it</p>
<p class="said">Servers mind.</p></article>
<article class="warn">
<p><b>broken</b> <code>smtp.lax</code> <span class="dim">(advice)</span> It keeps smtp.lax.</p>
<p class="said">it did</p>
<p class="said">smtp #1 at 0s: connect -&gt; 220 hello</p>
<p class="said">RFC 5321 §4.5.4.1; `notnow conduct smtp.lax` explains it</p>
<p class="said">Servers mind.</p></article>
<article class="warn">
<p><b>inconclusive</b> <code>smtp.open</code> <span class="dim">(should)</span> It keeps smtp.open.</p>
<p class="said">nobody can tell</p>
<p class="said">smtp #1 at 0s: connect -&gt; 220 hello</p>
<p class="said">another run would settle it</p></article>
<article class="good">
<p><b>held</b> <code>smtp.held</code> <span class="dim">(should)</span> It keeps smtp.held.</p>
<p class="said">it waited 1m</p></article>
<details><summary>Not exercised by this run: 1</summary>
<article class="">
<p><b>not exercised</b> <code>smtp.idle</code> <span class="dim">(should)</span> It keeps smtp.idle.</p></article></details>
<h2>Transcript</h2>
<pre>   #1 from 192.0.2.1
-&gt;        0s  S  220 hello
          0s  C  MAIL FROM:&lt;a@x&gt;
              S  250 ok
          0s  C  RCPT TO:&lt;b@y&gt;
              S  250 ok
          0s  C  DATA
              S  354 go on
          0s  C  . &lt;1@x&gt;
              S  250 ok
          0s  C  MAIL FROM:&lt;c@x&gt;
              S  421 busy   (and closes)   [reply, phase[0].rule[0]]</pre>
"""


def test_a_page() -> None:
    play = reports.lost()
    assert blocks(reports.of(play, *reports.every_outcome(play), speed=60.0)) == PAGE.splitlines()


def test_a_page_on_nothing() -> None:
    found = blocks(reports.of(Play("smtp"), reports.said("smtp.idle", Finding("not exercised")), judged=False))
    assert "<p>Nobody connected." in "".join(found)
    assert "<p>This run gave no rule anything to judge.</p>" in found


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
    assert blocks(reports.of(Play("smtp"), result=result))[1] == f'<article class="{style}">'


@pytest.mark.parametrize(("verdicts", "style"), [([], "warn"), ([reports.said("smtp.held", held())], "good")])
def test_the_colour_of_an_outcome(verdicts: list[reports.Verdict], style: str) -> None:
    play = Play("smtp")
    play.connect("QUIT")
    report = reports.of(play, *verdicts, judged=False)
    assert blocks(report)[0] == f'<h1><span class="{style}">{report.outcome}</span> in smtp/x</h1><dl>'


@pytest.mark.parametrize(("n", "more"), [(20, 0), (21, 1), (23, 3)])
def test_of_many_items_the_first_are_named(n: int, more: int) -> None:
    play = Play("smtp")
    for i in range(n):
        play.connect(f"MAIL FROM:<{i}@x> -> !451 no", "QUIT").play.wait("1m")
    found = blocks(reports.of(play))
    assert len([line for line in found if line.startswith('<p class="said">mail from')]) == 20
    assert f'<p class="dim">… and {more} more</p></article><dl>' in found if more else "more</p>" not in "".join(found)


def test_of_many_connections_the_middle_is_left_out() -> None:
    play = Play("smtp")
    for _ in range(203):
        play.connect(BUSY).play.wait("1m")
    found = blocks(reports.of(play))
    assert '<p class="dim">The first and last 100 connections; 3 between them are left out.</p>' in found


def test_a_journal_that_was_full() -> None:
    play = Play("smtp")
    play.journals[0].limit = 2
    play.connect(*["NOOP"] * 5)
    found = blocks(reports.of(play))
    assert '<p class="dim">The oldest 4 exchanges were dropped: the journal was full.</p>' in found


@pytest.mark.parametrize(("noops", "left_out"), [(1999, 0), (2000, 2)])
def test_of_a_long_transcript_the_middle_is_left_out(noops: int, left_out: int) -> None:
    play = Play("smtp")
    play.connect(*["NOOP"] * noops)
    page = html.page(reports.of(play))
    transcript = page.rpartition("<pre>")[2].partition("</pre>")[0].splitlines()
    middle = f"… {left_out} lines are left out; `notnow try --json` has them all"
    assert (len(transcript), middle in transcript) == (4000 + bool(left_out), bool(left_out))
    assert (transcript[0], transcript[-1].split()) == ("   #1 from 192.0.2.1", ["S", "250", "ok"])
