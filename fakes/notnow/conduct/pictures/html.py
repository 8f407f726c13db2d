"""A report as one self-contained HTML file: the timeline as a picture, the verdicts, the transcript."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from notnow._version import __version__
from notnow.conduct.finding import Evidence
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures import verdict
from notnow.conduct.pictures.lanes import Lane, Picture, picture
from notnow.conduct.pictures.report import Report
from notnow.conduct.pictures.timeline import transcript
from notnow.conduct.reading.result import Result
from notnow.conduct.reading.storm import storm
from notnow.terminal import by_direction, isolated, safe_lines
from notnow.units import plural, show

MOST = 200  # most lanes in the picture
ITEMS = 20  # most items, and doubts, below the result
LINES = 4000  # most lines of the transcript
WIDTH, RIGHT, TOP, LANE, LETTER = 1000, 40, 54, 30, 7.3  # of the SVG, in its own units
TICKS = 8  # most ticks on the axis
NARROW = 36  # a wait drawn shorter has no label

_STEPS = (
    *(n / 1000 for n in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(1, 2, 5, 10, 15, 30),
    *(60 * n for n in (1, 2, 5, 10, 15, 30)),
    *(3600 * n for n in (1, 2, 3, 6, 12)),
    *(86400 * n for n in (1, 2, 5, 10, 30, 100)),
)  # seconds between two ticks

CSS = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1c2127; --dim: #5f6b7a; --line: #d5dbe3; --card: #f5f7f9;
  --bad: #c6262e; --warn: #a35c00; --good: #1a7f37; --band: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171c; --text: #e4e8ed; --dim: #97a3b2; --line: #363e49; --card: #1d2229;
    --bad: #ff7b72; --warn: #e3a341; --good: #56d364; --band: #1a1f26; } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; max-width: 64rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code, pre, .said { font: 13px/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dt { color: var(--dim); } dd { margin: 0; }
article { border-left: 4px solid var(--line); background: var(--card); padding: .6rem .9rem; margin: .6rem 0; }
article p { margin: .2rem 0; } .dim { color: var(--dim); }
.bad { color: var(--bad); } .warn { color: var(--warn); } .good { color: var(--good); }
article.bad, article.warn, article.good { color: inherit; }
article.bad { border-color: var(--bad); } article.warn { border-color: var(--warn); }
article.good { border-color: var(--good); }
article.bad b { color: var(--bad); } article.warn b { color: var(--warn); } article.good b { color: var(--good); }
svg { width: 100%; height: auto; font: 12px ui-monospace, monospace; } svg text { fill: var(--text); }
svg .dim { fill: var(--dim); } svg .band { fill: var(--band); } svg .grid { stroke: var(--line); }
svg .open { stroke: var(--dim); stroke-width: 4; stroke-linecap: round; }
svg .wait { stroke: var(--dim); stroke-width: 1.5; stroke-dasharray: 2 4; fill: none; }
svg .phase { stroke: var(--good); stroke-dasharray: 5 3; }
svg circle.bad { fill: var(--bad); } svg path.warn { fill: var(--warn); } svg circle.good { fill: var(--good); }
svg text.bad { fill: var(--bad); font-weight: bold; } svg text.good { fill: var(--good); }
"""

_MARKS = {
    "well behaved": "good",
    "nothing tested": "warn",
    "nothing judged": "warn",
    "inconclusive": "warn",
    "interrupted": "warn",
}


def page(report: Report) -> str:
    """The whole report."""
    html = ET.Element("html", lang="en")
    head = _add(html, "head")
    _add(head, "meta", charset="utf-8")
    _add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", f"{report.outcome}: {report.scenarios}")
    _add(head, "style", CSS)
    body = _add(html, "body")
    title = _add(body, "h1")
    _add(title, "span", report.outcome, **{"class": _MARKS.get(report.outcome, "bad")}).tail = f" in {report.scenarios}"
    if report.result is not None:
        _result(body, report, report.result)
    _facts(body, report)
    _timeline(body, report)
    for heading, lines in report.back_off():
        _add(body, "h2", heading.capitalize())
        _add(body, "pre", "\n".join(lines))
    _verdicts(body, report)
    _add(body, "h2", "Transcript")
    _add(body, "pre", "\n".join(_transcript(report)))
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _result(body: ET.Element, report: Report, result: Result) -> None:
    """The result in a sentence, and the tries of the items that it is about."""
    style = "bad" if report.failed else "warn" if result.missing or result.doubts else "good"
    card = _add(body, "article", **{"class": style})
    _add(_add(card, "p"), "b", result.sentence)
    for item in result.items[:ITEMS]:
        _add(card, "p", f"{item.name}: {verdict.story(item, report.zero)}", **{"class": "said"})
    if len(result.items) > ITEMS:
        _add(card, "p", f"… and {len(result.items) - ITEMS} more", **{"class": "dim"})
    for doubt in result.doubts[:ITEMS]:
        _add(card, "p", f"{doubt.why}; {doubt.settled_by} would settle it", **{"class": "dim"})


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    made = ET.SubElement(parent, tag, {k: safe_lines(v) for k, v in attributes.items()})
    if tag in _WITHOUT_ELEMENTS:
        made.text = isolated(safe_lines(text))
    else:
        _write(made, safe_lines(text))
    return made


_WITHOUT_ELEMENTS = ("title", "style", "text")  # these may hold only text


def _write(element: ET.Element, text: str) -> None:
    """Put a text into an empty element. Right-to-left words are isolated, so that they do not reorder their neighbours."""
    element.text, last = "", None
    for piece, turns in by_direction(text):
        if turns:
            last = ET.SubElement(element, "bdi")
            last.text = piece
        elif last is None:
            element.text = piece
        else:
            last.tail = piece


def _marked(report: Report) -> list[Evidence]:
    return [evidence for one in report.of("broken") for evidence in one.finding.evidence]


def _transcript(report: Report) -> list[str]:
    lines = transcript(report.run.journals, _marked(report)).splitlines()[1:]  # without its title
    if len(lines) <= LINES:
        return lines
    middle = f"… {len(lines) - LINES} lines are left out; `notnow try --json` has them all"
    return [*lines[: LINES // 2], middle, *lines[-LINES // 2 :]]


def _facts(body: ET.Element, report: Report) -> None:
    facts = _add(body, "dl")
    fast = f", {report.speed:g} times as fast" if report.speed != 1 else ""
    servers = [f"{s['name']}: {s['scenario']} at {s['url']}" for s in report.servers]
    for name, value in (
        ("client", shlex.join(report.client.command)),
        ("", str(report.client)),
        *(("server", server) for server in servers),
        ("load", storm(report.run).in_words()),
        ("seed", f"{report.servers[0]['seed']}{fast}"),
        ("notnow", __version__),
    ):
        _add(facts, "dt", name)
        _add(_add(facts, "dd"), "code", value)


# ---- the picture ---------------------------------------------------------------------------------


def _timeline(body: ET.Element, report: Report) -> None:
    seen = picture(report.run, _marked(report), most=MOST)
    _add(body, "h2", "Timeline")
    if not seen.lanes:
        _add(body, "p", "Nobody connected.")
        return
    for told in _left_out(seen):
        _add(body, "p", told, **{"class": "dim"})
    body.append(svg(seen))


def _left_out(seen: Picture) -> Iterator[str]:
    if seen.left_out:
        yield f"The first and last {MOST // 2} connections; {seen.left_out} between them are left out."
    if seen.dropped:
        yield f"The oldest {seen.dropped} exchanges were dropped: the journal was full."


def svg(seen: Picture) -> ET.Element:
    """The lanes, one below the other; scenario time runs from left to right, to scale."""
    height = TOP + LANE * len(seen.lanes) + 34
    drawing = ET.Element("svg", viewBox=f"0 0 {WIDTH} {height}", role="img", xmlns="http://www.w3.org/2000/svg")
    _add(drawing, "title", f"{plural(len(seen.lanes), 'connection')} in {show(seen.span)} of scenario time")
    scale = _Scale(seen.span, 30 + LETTER * max(len(lane.who) + 2 for lane in seen.lanes))
    for i in range(0, len(seen.lanes), 2):
        _add(drawing, "rect", **_box(0, TOP + LANE * i, WIDTH, LANE), **{"class": "band"})
    _axis(drawing, seen, scale)
    for i, lane in enumerate(seen.lanes):
        _waits(drawing, i, lane, scale)
    for i, lane in enumerate(seen.lanes):
        _lane(drawing, i, lane, scale)
    _legend(drawing, scale.left, height - 12)
    return drawing


@dataclass(frozen=True, slots=True)
class _Scale:
    """The horizontal scale, from scenario seconds to x; the names of the lanes are on its `left`."""

    span: float
    left: float

    def x(self, at: float) -> float:
        return self.left + (WIDTH - self.left - RIGHT) * (at / self.span if self.span > 0 else 0.0)


def _y(lane: int) -> float:
    return TOP + LANE * (lane + 0.5)


def _box(x: float, y: float, width: float, height: float) -> dict[str, str]:
    return {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{height:.1f}"}


def _line(drawing: ET.Element, start: tuple[float, float], end: tuple[float, float], kind: str) -> ET.Element:
    ends = dict(zip(("x1", "y1", "x2", "y2"), (f"{n:.1f}" for n in (*start, *end)), strict=True))
    return _add(drawing, "line", **ends, **{"class": kind})


def _words(drawing: ET.Element, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
    _add(drawing, "text", text, x=f"{x:.1f}", y=f"{y:.1f}", **{"class": kind, "text-anchor": anchor})


def _axis(drawing: ET.Element, seen: Picture, scale: _Scale) -> None:
    bottom = TOP + LANE * len(seen.lanes)
    step = next((step for step in _STEPS if seen.span / step <= TICKS), _STEPS[-1])
    for i in range(int(seen.span / step) + 1):
        x = scale.x(i * step)
        _line(drawing, (x, TOP), (x, bottom), "grid")
        _words(drawing, x, TOP - 8, show(i * step), "dim", "middle")
    several = len({server for _, server, _ in seen.phases}) > 1
    for at, server, name in seen.phases[:TICKS]:  # more would overlap
        x = scale.x(at)
        for start, end in ((TOP - 27, TOP - 20), (TOP, bottom)):  # the time of the tick stands between them
            _line(drawing, (x, start), (x, end), "phase")
        anchor = "end" if x > WIDTH * 0.8 else "start"
        _words(drawing, x, TOP - 30, f"phase {name}" + (f" of {server}" if several else ""), "good", anchor)


def _waits(drawing: ET.Element, i: int, lane: Lane, scale: _Scale) -> None:
    for wait in lane.waits:
        start, end = scale.x(wait.start), scale.x(wait.end)
        to = i if wait.to is None else wait.to
        path = f"M{start:.1f} {_y(i):.1f} H{end:.1f} V{_y(to):.1f}"
        _add(_add(drawing, "path", d=path, **{"class": "wait"}), "title", f"waits {show(wait.end - wait.start)}")
        if end - start > NARROW + 40:  # the label 421 needs room, too
            _words(drawing, (start + 40 + end) / 2, _y(i) - 4, show(wait.end - wait.start), "dim", "middle")


def _lane(drawing: ET.Element, i: int, lane: Lane, scale: _Scale) -> None:
    y = _y(i)
    group = _add(drawing, "g")
    _add(group, "title", f"{lane.who}: {lane.outcome}")
    _words(group, 8, y + 4, f"{'→ ' if lane.marked else ''}{lane.who}", "bad" if lane.marked else "")
    _line(group, (scale.x(lane.start), y), (scale.x(lane.end), y), "open")
    drawn = {(point.kind, round(scale.x(point.at))): point for point in lane.points}  # one mark for each kind and pixel
    for point in sorted(drawn.values(), key=lambda p: ("done", "refused", "421").index(p.kind)):
        _point(group, scale.x(point.at), y, point.kind, f"{show(max(0.0, point.at))}: {point.text}")
    told = [point for point in lane.points if point.kind == "421"]
    if told:
        _words(group, scale.x(told[-1].at) + 9, y - 4, "421" if len(told) == 1 else f"421 x{len(told)}", "bad")


def _point(group: ET.Element, x: float, y: float, kind: str, text: str = "") -> None:
    if kind == "refused":
        made = _add(group, "path", d=f"M{x:.1f} {y - 7:.1f} l7 7 l-7 7 l-7 -7 z", **{"class": "warn"})
    else:
        style = "bad" if kind == "421" else "good"
        made = _add(group, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="6", **{"class": style})
    if text:
        _add(made, "title", text)


def _legend(drawing: ET.Element, x: float, y: float) -> None:
    for kind, words in (("421", "421"), ("refused", "refused otherwise"), ("done", "came through")):
        _point(drawing, x, y - 4, kind)
        _words(drawing, x + 12, y, words, "dim")
        x += 40 + 8 * len(words)
    for kind, words in (("open", "connected"), ("wait", "waits before it comes back")):
        _line(drawing, (x, y - 4), (x + 24, y - 4), kind)
        _words(drawing, x + 32, y, words, "dim")
        x += 60 + 8 * len(words)


# ---- the verdicts --------------------------------------------------------------------------------


def _verdicts(body: ET.Element, report: Report) -> None:
    _add(body, "h2", "Verdicts")
    if not report.of("broken") and not report.of("held"):
        _add(body, "p", "This run gave no rule anything to judge.")
    for one in (*report.of("broken"), *report.of("inconclusive"), *report.of("held")):
        _verdict(body, one, report)
    if rest := report.of("not exercised"):
        more = _add(body, "details")
        _add(more, "summary", f"Not exercised by this run: {len(rest)}")
        for one in rest:
            _verdict(more, one, report)


def _verdict(parent: ET.Element, one: Verdict, report: Report) -> None:
    broken = "bad" if one in report.offences else "warn"
    kind = {"held": "good", "broken": broken, "inconclusive": "warn"}.get(one.outcome, "")
    card = _add(parent, "article", **{"class": kind})
    head = _add(card, "p")
    _add(head, "b", one.outcome).tail = " "
    _add(head, "code", one.rule.id).tail = " "
    _add(head, "span", f"({one.rule.level})", **{"class": "dim"}).tail = f" {safe_lines(one.rule.title)}"
    for line in _said(one, report):
        _add(card, "p", line, **{"class": "said"})


def _said(one: Verdict, report: Report) -> Sequence[str]:
    why = [one.rule.why] if one.outcome == "broken" and one.rule.why else []
    return [*verdict.details(one, report.zero), *why]
