"""The report on one run of a client: its command, how it ended, the verdicts; as plain data and as JUnit XML."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from notnow._version import __version__
from notnow.conduct.baseline import NOTHING_KNOWN, Known
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures import verdict
from notnow.conduct.reading import attempts
from notnow.conduct.reading.comebacks import comebacks
from notnow.conduct.reading.result import FAILURES, Exit, Result
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.storm import storm
from notnow.conduct.reading.waits import backoff
from notnow.conduct.reading.waits.backoff import BackOff
from notnow.conduct.reading.waits.herd import Herd, herd
from notnow.conduct.rules.rule import Level
from notnow.terminal import safe_lines
from notnow.units import show

if TYPE_CHECKING:
    from junitparser import TestCase

RunOutcome = Literal[
    "well behaved",
    "not well behaved",
    "nothing tested",
    "nothing judged",
    "inconclusive",
    "could not be run",
    "hung",
    "died",
    "never connected",
    "interrupted",
]
UNTOLD = "did not say how it ended"  # a client of fakes that somebody else started
BARS = 20  # most waits that are drawn as bars
EXITS: Mapping[RunOutcome, int] = {
    "well behaved": 0,
    "not well behaved": 1,
    "nothing tested": 4,
    "nothing judged": 4,
    "inconclusive": 4,
    "could not be run": 3,
    "hung": 3,
    "died": 3,
    "never connected": 3,
    "interrupted": 130,  # as shells report Ctrl-C
}


@dataclass(frozen=True, slots=True)
class Client:
    """A client's run: the command, none if somebody else ran it, and how it ended.

    `exit` is its own exit code, None if it is not known; `signal` the name of the signal that killed it; `duration` is in real
    seconds, 0 if it is not known. `hung`: we killed it at its time limit. `failure`: why it could not be run.
    """

    command: tuple[str, ...]
    exit: int | None = None
    signal: str | None = None
    duration: float = 0.0
    hung: bool = False
    interrupted: bool = False
    failure: str = ""

    @property
    def ended(self) -> Exit:
        """How it ended, for the result of its run."""
        return Exit(self.exit, hung=self.hung)

    def __str__(self) -> str:
        if self.failure:
            return self.failure
        took = f" after {show(self.duration)}" if self.duration else ""
        if self.hung:
            return f"was still running{took} (--timeout), and was killed"
        if self.interrupted:
            return f"was stopped{took}"
        if self.exit is None and self.signal is None:
            return UNTOLD
        return f"died by {self.signal}{took}" if self.signal else f"exited with {self.exit}{took}"


@dataclass(frozen=True, slots=True)
class Report:
    """The report of `notnow try`.

    `servers` says for each fake where it listened and what it played. A broken rule of one of the `levels` fails the
    client. So does a `result` that is a failure and not among the `accepted`; it is None where only some rules are judged.
    What the `baseline` knows fails nobody.
    """

    client: Client
    run: Run
    verdicts: Sequence[Verdict]
    servers: Sequence[Mapping[str, Any]]
    speed: float
    levels: Collection[Level]
    result: Result | None = None
    accepted: Collection[str] = ()
    baseline: Known = NOTHING_KNOWN

    @property
    def offences(self) -> list[Verdict]:
        """The broken rules for which the client fails."""
        broken = [v for v in self.of("broken") if v.rule.level in self.levels]
        return [v for v in broken if v.rule.id not in self.baseline.broken]

    @property
    def failed(self) -> bool:
        """True if the result is one for which the client fails."""
        word = self.result.word if self.result is not None else ""
        return word in FAILURES and word not in self.accepted and word != self.baseline.result

    @property
    def open_questions(self) -> list[Verdict]:
        """The expectations that are inconclusive."""
        inconclusive = [v for v in self.of("inconclusive") if v.rule.protocol == "expect"]
        return [v for v in inconclusive if v.rule.level in self.levels]

    def of(self, outcome: str) -> list[Verdict]:
        return [v for v in self.verdicts if v.outcome == outcome]

    @property
    def outcome(self) -> RunOutcome:
        client, result = self.client, self.result
        judged = self.of("held") or self.of("broken")
        first: tuple[tuple[object, RunOutcome], ...] = (
            (client.failure, "could not be run"),
            (client.interrupted, "interrupted"),
            (client.hung, "hung"),
            (client.signal, "died"),
            (not any(j.connections for j in self.run.journals), "never connected"),
            (self.offences or self.failed, "not well behaved"),
            (self.run.untested and (result is not None or not judged), "nothing tested"),
            (self.open_questions, "inconclusive"),
            (result is not None and result.word == "unknown" and "unknown" not in self.accepted, "inconclusive"),
            (not judged and (result is None or result.word == "nothing asked"), "nothing judged"),
        )
        return next((outcome for holds, outcome in first if holds), "well behaved")

    @property
    def exit(self) -> int:
        return EXITS[self.outcome]

    def waits(self) -> dict[str, BackOff]:
        """How the client's waits grew, for each server that it came back to: with the item that it tried most often."""
        found, run = {}, self.run
        for journal in run.journals:
            own = run if len(run.journals) == 1 else Run([journal], run.scenarios, count=run.count)
            if row := comebacks(own, run.count).longest:
                found[journal.server] = backoff.of_comebacks(row)
        return found

    def herds(self) -> dict[str, Herd]:
        """How the client's workers came back, for each server that refused several of them together."""
        found = {}
        for journal in self.run.journals:
            refused = {x.connection for x in attempts.refusals(journal.since_play())}
            if (came := herd(journal.connections, refused)) is not None:
                found[journal.server] = came
        return found

    def back_off(self) -> Iterator[tuple[str, list[str]]]:
        """For each server that the client came back to: a title, and how its waits grew, in words and as bars."""
        herds, grew = self.herds(), self.waits()
        for name in [journal.server for journal in self.run.journals if journal.server in {*herds, *grew}]:
            waits = grew.get(name)
            lines = [waits.in_words()] if waits is not None else []
            if waits is not None and waits.family is not None and len(waits.gaps) <= BARS:
                lines += waits.picture()
            if name in herds:
                lines.append(herds[name].in_words())
            yield f"back-off at {name}" if len(self.servers) > 1 else "back-off", lines

    @property
    def names(self) -> str:
        """The names of the servers."""
        return ", ".join(server["name"] for server in self.servers)

    @property
    def scenarios(self) -> str:
        return ", ".join(server["scenario"] for server in self.servers)

    @property
    def zero(self) -> float:
        """The time of the first connection, in scenario seconds."""
        return min((j.connections[0].opened_at for j in self.run.journals if j.connections), default=0.0)


def as_dict(report: Report, *, journals: bool = True, most: int | None = None) -> dict[str, Any]:
    """The report for JSON. `most` bounds each list that grows with the run: evidence, items, doubts, gaps."""
    client = report.client
    return {
        "notnow": __version__,
        "outcome": report.outcome,
        "exit": report.exit,
        **_result(report, most),
        "storm": storm(report.run).as_dict(),
        "seed": report.servers[0]["seed"],
        "speed": report.speed,
        "servers": [{k: v for k, v in server.items() if k != "event"} for server in report.servers],
        "client": {
            "command": list(client.command),
            "exit": client.exit,
            "signal": client.signal,
            "duration": round(client.duration, 3),
            "ended": str(client),
        },
        "backoff": {name: _waits(waits, most) for name, waits in report.waits().items()},
        "herds": {name: herd.in_words() for name, herd in report.herds().items()},
        "verdicts": [verdict.as_dict(one, most) for one in report.verdicts],
        **(
            {"journals": {journal.server: list(journal.as_dicts()) for journal in report.run.journals}}
            if journals
            else {}
        ),
    }


def _waits(waits: BackOff, most: int | None) -> dict[str, Any]:
    return {
        "gaps": [round(gap, 6) for gap in waits.gaps[:most]],
        "shape": waits.family,
        "family": waits.family,
        "base": waits.base,
        "factor": waits.factor,
        "step": waits.step,
        "cap": waits.cap,
        "jitter": waits.jitter and {"kind": waits.jitter.kind, "size": round(waits.jitter.size, 4)},
        "possible": list(waits.possible),
        "settled_by": waits.settled_by,
        "sure": waits.sure,
        "retry_after": waits.heeds,
        "words": waits.in_words(),
    }


def _result(report: Report, most: int | None) -> dict[str, Any]:
    """The result, and the items that it is about."""
    result = report.result
    if result is None:
        return {}
    return {
        "result": result.word,
        "result_in_words": result.sentence,
        "items": {
            "asked": result.asked,
            "missing": result.missing,
            "lost": [item.name for item in result.lost[:most]],
            "duplicated": [item.name for item in result.duplicated[:most]],
            "refused": [item.name for item in result.refused[:most]],
        },
        "doubts": [{"why": doubt.why, "settled_by": doubt.settled_by} for doubt in result.doubts[:most]],
    }


def write_json(report: Report, to: TextIO) -> None:
    to.write(json.dumps(as_dict(report), indent=2) + "\n")


# ---- JUnit XML -----------------------------------------------------------------------------------


def write_junit(report: Report, path: str) -> None:
    """Write the report as JUnit XML."""
    Path(path).write_text(junit([report]), "utf-8", errors="replace")


def junit(reports: Sequence[Report]) -> str:
    """JUnit XML with a test suite for each report: a test case for the client and one for each rule.

    A rule that was not exercised is skipped. So is a broken rule that does not fail the client, with its evidence.
    """
    from junitparser import JUnitXml, TestSuite

    xml = JUnitXml()
    for report in reports:
        suite = TestSuite(f"notnow try {report.scenarios}")
        suite.add_property("seed", str(report.servers[0]["seed"]))
        suite.add_property("command", safe_lines(" ".join(report.client.command)))
        suite.add_testcases([_client_case(report), *(_case(report, one) for one in report.verdicts)])
        xml.add_testsuite(suite)
    text = io.BytesIO()
    xml.write(text, pretty=True)
    return text.getvalue().decode("utf-8")


def _client_case(report: Report) -> TestCase:
    """The test case of the run: the result, or why there is none."""
    from junitparser import Error, Failure, Skipped, TestCase

    case = TestCase("result", "notnow.try", round(report.client.duration, 3))
    said = safe_lines(report.result.sentence if report.result is not None else str(report.client))
    if report.exit in (3, 130):
        case.result = [Error(safe_lines(f"the client {report.client}: {report.outcome}"), report.outcome)]
    elif report.failed:
        case.result = [Failure(said, report.outcome)]
    elif report.exit == EXITS["nothing tested"]:
        case.result = [Skipped(safe_lines(f"{report.outcome}: {report.run.untested or said}"))]
    case.system_out = said
    return case


def _case(report: Report, one: Verdict) -> TestCase:
    from junitparser import Failure, Skipped, TestCase

    case = TestCase(one.rule.id, f"notnow.{one.rule.protocol}")
    why = safe_lines(one.finding.why)
    if one.outcome == "not exercised":
        case.result = [Skipped(why or "not exercised by this run")]
    elif one.outcome == "inconclusive":
        case.result = [Skipped(f"inconclusive: {why}; {one.finding.settled_by} would settle it")]
    elif one.outcome == "broken":
        fails = one in report.offences
        result = Failure(why, one.rule.level) if fails else Skipped(f"broken, but {_excuse(report, one)}: {why}")
        result.text = safe_lines(verdict.in_words(one, report.zero))
        case.result = [result]
    return case


def _excuse(report: Report, one: Verdict) -> str:
    """Why a broken rule fails nobody."""
    return "known" if one.rule.id in report.baseline.broken else f"only {one.rule.level}"
