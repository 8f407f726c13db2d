"""A verdict against the truth: what of it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from notnow.conduct import expected
from notnow.conduct.judging import Verdict, judge, of_protocol
from notnow.conduct.reading.result import Exit, Result, result
from notnow.conduct.reading.run import Run

if TYPE_CHECKING:
    from tests.truth.truth import Truth
    from tests.truth.wire import Wire

# Rules of FTP that some of its clients break; no client breaks the others.
DEPENDS = frozenset({"ftp.wait-before-reconnect", "ftp.final-is-final", "ftp.no-retry-storm"})
NEEDS_NO_FAULT = frozenset({"smtp.no-second-copy", "smtp.in-step"})  # a healthy run is an occasion for these


class Judged:
    """The verdict on a run."""

    def __init__(self, wire: Wire, truth: Truth, count: int | None = None) -> None:
        self.journal, self.scenario, self.truth = wire.recorder.journal, wire.scenario, truth
        self.run = Run([self.journal], [self.scenario])
        self.result: Result = result(self.run.ledger, Exit(truth.exit), count)
        self.verdicts: dict[str, Verdict] = {v.rule.id: v for v in judge(self.run)}
        self.verdicts |= {v.rule.id: v for v in expected.judge([self], self.run, count=count)}

    def outcome(self, rule: str) -> str:
        return self.verdicts[rule].outcome

    def broken(self, rule: str) -> bool:
        return rule in self.verdicts and self.outcome(rule) == "broken"

    def held(self, rule: str) -> bool:
        return rule in self.verdicts and self.outcome(rule) == "held"


def unsound_passes(judged: Judged) -> Iterator[str]:
    """Praise that the client does not deserve."""
    truth, word = judged.truth, judged.result.word
    if truth.lost and word in ("delivered", "false alarm"):
        yield f"{word}, though {truth.lost} are lost"
    if truth.lost and word == "reported" and truth.exit == 0:
        yield "reported, though the client exited with 0"
    if truth.lost and judged.held("expect.delivered"):
        yield f"expect.delivered held, though {truth.lost} are lost"
    if truth.doubled and word in ("delivered", "false alarm"):
        yield f"{word}, though {truth.doubled} are doubled"
    if truth.doubled and judged.held("expect.no-duplicates"):
        yield f"expect.no-duplicates held, though {truth.doubled} are doubled"
    if any(wait < 0.9 and named for i in truth.items.values() for wait, named in i.waits) and judged.held(
        "smtp.wait-before-retry"
    ):
        yield "smtp.wait-before-retry held, though the client came back at once"


def false_alarms(judged: Judged) -> Iterator[str]:
    """Accusations that the client does not deserve."""
    truth, items = judged.truth, judged.truth.items.values()
    if not truth.lost and judged.result.word in ("lost", "reported"):
        yield f"{judged.result.sentence}, though nothing is lost"
    if not truth.doubled and judged.result.word == "duplicated":
        yield "duplicated, though nothing is doubled"
    if not truth.lost and judged.broken("expect.delivered") and not truth.doubled:
        yield "expect.delivered broken, though nothing is lost or doubled"
    for rule, true in (
        ("smtp.wait-before-retry", any(item.came_at_once for item in items)),
        ("smtp.tries-again", any(item.dropped for item in items)),
        ("smtp.no-bounce-for-421", any(item.dropped for item in items)),
        ("smtp.final-is-final", any(item.repeated for item in items)),
        ("smtp.no-second-copy", bool(truth.doubled)),
        ("expect.no-duplicates", bool(truth.doubled)),
        ("smtp.resend-all-recipients", any(item.dropped for item in items)),
        ("smtp.survives-421", any(item.dropped for item in items)),
        ("ftp.wait-before-reconnect", any(item.came_at_once for item in items)),
        ("ftp.final-is-final", any(item.repeated for item in items)),
        *((rule.id, False) for rule in of_protocol("ftp") if rule.id not in DEPENDS),
    ):
        if judged.broken(rule) and not true:
            yield f"{rule} broken: {judged.verdicts[rule].finding.why}"


def without_occasion(judged: Judged) -> Iterator[str]:
    """Rules that are held in a run without a fault."""
    if not judged.truth.faults:
        for name, one in judged.verdicts.items():
            if one.outcome == "held" and one.rule.protocol != "expect" and name not in NEEDS_NO_FAULT:
                yield f"{name} held without a fault: {one.finding.why}"


PROPERTIES = {"unsound pass": unsound_passes, "false alarm": false_alarms, "held without an occasion": without_occasion}
