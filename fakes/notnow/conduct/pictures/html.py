"""A report as one self-contained HTML file: the result, the timeline as a picture, the verdicts, the transcript."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from notnow._version import __version__
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures import verdict
from notnow.conduct.pictures.chart import Chart
from notnow.conduct.pictures.lanes import Picture, picture
from notnow.conduct.pictures.report import BARS, Report
from notnow.conduct.pictures.timeline import Talk, talk
from notnow.conduct.reading.storm import storm
from notnow.conduct.reading.waits.backoff import BackOff
from notnow.look.rendering import render

MOST = 200  # most lanes in the picture
ITEMS = 20  # most items, and doubts, below the result
TURNS = 2000  # most exchanges in the transcript: each connection has its share

_TONES = {
    "well behaved": "good",
    "nothing tested": "warn",
    "nothing judged": "warn",
    "inconclusive": "warn",
    "interrupted": "warn",
}


def page(report: Report, others: Sequence[Report] = ()) -> str:
    """The whole report; of `others`, which were judged at the same time, the outcome."""
    marked = [evidence for one in report.of("broken") for evidence in one.finding.evidence]
    seen = picture(report.run, marked, most=MOST)
    talks = _talks(report, seen)
    return render(
        "report.html",
        version=__version__,
        command=shlex.join(report.client.command),
        storm=storm(report.run),
        most=MOST,
        chart=Chart(seen),
        waits=list(_waits(report)),
        items_shown=ITEMS,
        talks=talks,
        zero=report.zero,
        marked={evidence.index for evidence in marked},
        anchors=_anchors(talks),
        others=[(one, _TONES.get(one.outcome, "bad")) for one in others],
        **words(report),
    )


def words(report: Report) -> dict[str, Any]:
    """The outcome, the result and the verdicts, for the templates of the report and of the page."""
    found = report.result.items[:ITEMS] if report.result is not None else ()
    return {
        "report": report,
        "tone": _TONES.get(report.outcome, "bad"),
        "result_tone": _result_tone(report),
        "items": [(item.name, verdict.story(item, report.zero)) for item in found],
        "said": [*report.of("broken"), *report.of("inconclusive"), *report.of("held")],  # the worst first
        "tone_of": lambda one: _tone(one, report),
        "proof": lambda evidence: verdict.proof(evidence, report.zero),
        "evidence_shown": verdict.MOST,
    }


def _result_tone(report: Report) -> str:
    result = report.result
    if report.failed or result is None:
        return "bad"
    return "warn" if result.missing or result.doubts else "good"


def _tone(one: Verdict, report: Report) -> str:
    broken = "bad" if one in report.offences else "warn"
    return {"held": "good", "broken": broken, "inconclusive": "warn"}.get(one.outcome, "idle")


def _waits(report: Report) -> Iterator[tuple[str, list[str], list[float]]]:
    """For each server that the client came back to: a title, how its waits grew in words, and each wait if they are few."""
    herds, grew = report.herds(), report.waits()
    for name in [journal.server for journal in report.run.journals if journal.server in {*herds, *grew}]:
        words = [one.in_words() for one in (grew.get(name), herds.get(name)) if one is not None]
        bars = list(_bars(grew[name])) if name in grew else []
        yield f"Back-off at {name}" if len(report.servers) > 1 else "Back-off", words, bars


def _bars(waits: BackOff) -> tuple[float, ...]:
    return waits.gaps if waits.family is not None and len(waits.gaps) <= BARS else ()


def _talks(report: Report, seen: Picture) -> list[Talk]:
    """The transcript of each connection in the picture."""
    shown = {lane.index for lane in seen.lanes}
    connections = [c for j in report.run.journals for c in j.connections if c.index in shown]
    most = TURNS // max(1, len(connections))
    named = len(report.run.journals) > 1
    return [talk(c, named=named, most=most) for c in sorted(connections, key=lambda c: c.index)]


def _anchors(talks: list[Talk]) -> set[int]:
    """The indices of the connections and exchanges that the transcript shows, which links may go to."""
    return {one.connection.index for one in talks} | {x.index for one in talks for x, spoken in one.turns if spoken}
