"""A report as Markdown, for the summary page of a CI job."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from notnow.conduct.judging import Verdict
from notnow.conduct.pictures import verdict
from notnow.conduct.pictures.report import Report
from notnow.conduct.pictures.timeline import timeline
from notnow.conduct.reading.storm import storm
from notnow.terminal import safe_lines

NAMED = 10  # items that are listed
LAX = "⚠️"  # broken, and lets pass
_MARKS = {"broken": "❌", "inconclusive": "❔", "held": "✅"}


def page(report: Report) -> str:
    """The whole report."""
    return "\n".join(_lines(report)) + "\n\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"### {'✅' if report.exit == 0 else '❌'} {_cell(report.scenarios)}: {report.outcome}"
    yield ""
    if report.result is not None:
        yield f"**{_cell(report.result.sentence)}**"
        yield ""
        yield from (f"- {_cell(item.name)}" for item in report.result.items[:NAMED])
        if len(report.result.items) > NAMED:
            yield f"- … and {len(report.result.items) - NAMED} more"
        yield ""
    yield f"{_client(report)}."
    yield f"Load: {storm(report.run).in_words()}."
    yield ""
    yield from _table(report)
    yield "<details><summary>Timeline</summary>"
    yield ""
    yield "````text"
    yield safe_lines(timeline(report.run.journals)).replace("````", "''''")
    yield "````"
    yield ""
    yield "</details>"


def _client(report: Report) -> str:
    command = report.client.command
    who = f"Client: `{_code(shlex.join(command))}`, which" if command else "The client"
    return f"{who} {_cell(str(report.client))}"


def _table(report: Report) -> Iterator[str]:
    shown = [one for outcome in _MARKS for one in report.of(outcome)]
    if not shown:
        return
    yield "| | rule | level | why |"
    yield "|---|---|---|---|"
    yield from (_row(one, report) for one in shown)
    yield ""


def _row(one: Verdict, report: Report) -> str:
    lax = one.outcome == "broken" and one not in report.offences
    lines = verdict.details(one) if one.outcome != "held" else [one.finding.why]
    why = "<br>".join(map(_cell, lines))
    return f"| {LAX if lax else _MARKS[one.outcome]} | `{one.rule.id}` | {one.rule.level} | {why} |"


def _cell(text: str) -> str:
    """A text that may hold a client's words: without markup, on one line."""
    said = safe_lines(text).replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#~!" else c for c in said)


def _code(text: str) -> str:
    return safe_lines(text).replace("\n", " ").replace("`", "'")
