"""A report as text: how the client ended, the timeline, the verdicts, the outcome."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from notnow.conduct.judging import of_protocol
from notnow.conduct.pictures import verdict
from notnow.conduct.pictures.lanes import LEGEND, Picture, picture, strip
from notnow.conduct.pictures.report import UNTOLD, Report
from notnow.conduct.pictures.timeline import timeline
from notnow.conduct.pictures.verdict import nameless, story
from notnow.conduct.reading.storm import storm
from notnow.page import Page, console
from notnow.units import show

if TYPE_CHECKING:
    from rich.console import Console

    from notnow.conduct.judging import Verdict
    from notnow.conduct.reading.result import Result

NAMED = 4  # most rules named in the last line
ITEMS = 10  # most items, and doubts, below the result
STRIP = 32  # width of a lane in characters
SHORT = 1.0  # scenario seconds; a shorter run is not drawn to scale

_STYLES = {"held": "green", "broken": "bold red", "inconclusive": "yellow", "not exercised": "dim"}


def as_text(report: Report, *, verbose: bool = False, terminal: int | None = None) -> str:
    """The report as it is printed in a pipe, or for a terminal of this width."""
    text = io.StringIO()
    print_report(report, verbose=verbose, to=console(text, terminal))
    return text.getvalue()


def print_report(report: Report, *, verbose: bool = False, to: Console | None = None) -> None:
    """Print the report, to standard output unless told otherwise."""
    page = Page(to)
    if any(journal.connections for journal in report.run.journals):
        if report.result is not None:
            _result(page, report.result, report)
        if report.client.command or report.client.exit is not None:
            page.line(f"client {report.client}", style="" if report.client.exit == 0 else "yellow")
        page.line()
        _timeline(page, report)
        _waits(page, report)
        page.line()
        page.line(f"load: {storm(report.run).in_words()}")
        _verdicts(page, report, verbose=verbose)
        page.line()
    style = "bold red" if report.exit else "bold green" if report.outcome == "well behaved" else "bold yellow"
    page.line(summary(report), style=style)


# ---- the result --------------------------------------------------------------------------------


def _result(page: Page, result: Result, report: Report) -> None:
    """The result in one line, and below it its items: when each was refused, and what the client did next."""
    style = "bold red" if report.failed else "bold yellow" if result.missing or result.doubts else "bold green"
    page.line(result.sentence, style=style)
    for item in result.items[:ITEMS]:
        page.line(f"{item.name}: {story(item, report.zero)}", indent=2)
    if len(result.items) > ITEMS:
        page.line(f"… and {len(result.items) - ITEMS} more (--json has all)", indent=2, style="dim")
    if result.missing > len(result.lost):
        page.line(nameless(result.missing - len(result.lost), report.run.ledger, report.zero), indent=2)
    said = result.word == "unknown" and not result.missing and len(result.doubts) == 1  # the sentence has it
    for doubt in result.doubts[:ITEMS] if not said else ():
        page.line(f"{doubt.why}; {doubt.settled_by} would settle it", indent=2, style="yellow")


# ---- the timeline ------------------------------------------------------------------------------


def _timeline(page: Page, report: Report) -> None:
    marked = [evidence for one in report.of("broken") for evidence in one.finding.evidence]
    seen = picture(report.run, marked)
    if seen.span >= SHORT and len(seen.lanes) > 1:
        _lanes(page, seen)
        return
    for line in timeline(report.run.journals, marked).splitlines():
        page.line(_coloured(line))


def _lanes(page: Page, seen: Picture) -> None:
    page.line(f"timeline, {show(seen.span)} of scenario time from left to right")
    page.line(LEGEND, style="dim")
    if seen.dropped:
        page.line(f"… {seen.dropped} older exchanges were dropped: the journal was full", style="dim")
    if seen.left_out:
        page.line(f"… the first and last {len(seen.lanes) // 2} connections; {seen.left_out} more between", style="dim")
    rows = [
        (
            Text("->" if lane.marked else "", style="yellow"),
            Text(f"{show(lane.start):>8}", style="dim"),
            lane.who,
            Text(f"|{strip(lane, seen.span, STRIP)}|"),
            Text(lane.outcome),
        )
        for lane in seen.lanes
    ]
    for row in rows:
        row[3].highlight_regex("x", "bold red")
        row[3].highlight_regex(r"\+", "green")
        row[3].highlight_regex("!", "yellow")
        _colour(row[4])
    page.columns(rows, ("", "", "cyan", "", ""))


def _coloured(line: str) -> Text:
    text = Text(line)
    text.highlight_regex(r"^->", "yellow")
    return _colour(text)


def _colour(text: Text) -> Text:
    """Colour the marks and 421s of an outcome: `x connect: 421 …; the fake closed`."""
    text.highlight_regex(r"(?<= )x (?=\w)|^x (?=\w)", "red")
    text.highlight_regex(r"(?<= )\+ (?=\w)|^\+ (?=\w)", "green")
    text.highlight_regex(r"\b421\b[^;|]*", "bold red")
    return text


def _waits(page: Page, report: Report) -> None:
    """The growth of the client's waits, in words, and as bars if there are enough of them."""
    for title, lines in report.back_off():
        page.line()
        page.heading(title)
        for line in lines:
            page.line(line, indent=2)


# ---- the verdicts ------------------------------------------------------------------------------


def _verdicts(page: Page, report: Report, *, verbose: bool) -> None:
    broken, unclear, held, idle = map(report.of, ("broken", "inconclusive", "held", "not exercised"))
    page.line()
    page.heading("verdicts")
    for one in (*broken, *unclear, *held, *(idle if verbose else ())):
        _verdict(page, one, report)
    for said in _silent(report):
        page.line(said, indent=2)
    if idle and not verbose:
        page.line(f"not exercised by this run: {_rules(len(idle))} (-v lists them)", indent=2, style="dim")


def _verdict(page: Page, one: Verdict, report: Report) -> None:
    rule = one.rule
    lax = one.outcome == "broken" and one not in report.offences
    style = "yellow" if lax else _STYLES[one.outcome]
    head = Text.assemble(
        (f"{one.outcome:<7} ", style), (rule.id, "bold"), (f" ({rule.level})", "dim"), f" {rule.title}"
    )
    page.line(head, indent=2, hang=8)
    for line in verdict.details(one, report.zero):
        page.line(line, indent=10, style="" if one.outcome == "broken" else "dim")


def _silent(report: Report) -> list[str]:
    """Why there is no verdict, if there is none."""
    served = dict.fromkeys(server["protocol"] for server in report.servers)
    without = " and ".join(protocol for protocol in served if not of_protocol(protocol))
    if not report.verdicts:
        about = f"there is no rule of conduct for {without} yet, and " if without else ""
        return [f"nothing can judge this client: {about}{report.scenarios} expects nothing of it"]
    if without:
        return [f"there is no rule of conduct for {without} yet: only what the scenario expects is judged"]
    if not report.of("broken") and not report.of("held"):
        return ["this run gave no rule anything to judge"]
    return []


# ---- the outcome -------------------------------------------------------------------------------


def summary(report: Report) -> str:
    """The last line: the outcome in a sentence."""
    return f"notnow: {_SENTENCES.get(report.outcome, _of_rules)(report)}"


def _of_rules(report: Report) -> str:
    held, broken = _rules(len(report.of("held"))), report.of("broken")
    if report.outcome == "not well behaved":
        return f"not well behaved: {_what_failed(report)}"
    lax = f"; it broke {_ids(broken)}, which {_why_let_pass(report)}" if broken else ""
    return f"well behaved: {held} held{lax}"


def _what_failed(report: Report) -> str:
    """The result and the rules for which the client fails."""
    said = [f"it broke {_ids(report.offences)}"] if report.offences else []
    if report.failed and report.result is not None:
        said.insert(0, report.result.sentence)
    return "; ".join(said)


def _why_let_pass(report: Report) -> str:
    return "the baseline or --level lets pass" if report.baseline.broken else "--level lets pass"


def _nothing_tested(report: Report) -> str:
    if report.run.distrusted:
        return f"nothing was tested: {report.run.distrusted}"
    return f"nothing was tested: {report.run.untested}. `notnow show {report.scenarios}` says what would make one fire"


def _nothing_judged(_report: Report) -> str:
    return "nothing was judged: the client connected, but this run shows nothing about its conduct"


def _inconclusive(report: Report) -> str:
    """What cannot be told, and what would settle it."""
    if report.open_questions:
        one = report.open_questions[0]
        return f"inconclusive: {one.rule.id}: {one.finding.why}; {one.finding.settled_by} would settle it"
    assert report.result is not None, "without a result only an expectation can be inconclusive"
    return f"inconclusive: {report.result.sentence}"


def _ids(verdicts: Sequence[Verdict]) -> str:
    ids = list(dict.fromkeys(one.rule.id for one in verdicts))
    return ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")


def _never_connected(report: Report) -> str:
    where = ", ".join(f"{server['host']}:{server['port']}" for server in report.servers)
    if str(report.client) == UNTOLD:
        return f"no client has connected to {where} since the last play, so there is nothing to judge"
    if not report.client.command:
        return f"the client {report.client} and never connected to {where}, so there is nothing to judge"
    return (
        f"the client {report.client} and never connected to {where}, so its conduct is unknown. Pass it the address "
        "with {host}, {port} or {url} in its command, or with NOTNOW_HOST and NOTNOW_PORT in its environment; if it "
        "works on in the background, use --wait"
    )


def _ended_badly(report: Report) -> str:
    came = any(journal.connections for journal in report.run.journals)
    offences = f"; until then it broke {_ids(report.offences)}" if report.offences and came else ""
    return f"the client {report.client}{offences}{'' if came else '; it had never connected'}"


_SENTENCES = {
    "nothing tested": _nothing_tested,
    "nothing judged": _nothing_judged,
    "inconclusive": _inconclusive,
    "could not be run": lambda report: f"the client {report.client}",
    "never connected": _never_connected,
    "hung": _ended_badly,
    "died": _ended_badly,
    "interrupted": _ended_badly,
}


def _rules(n: int) -> str:
    return "1 rule" if n == 1 else f"{n} rules"
