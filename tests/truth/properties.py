"""A verdict against the truth: what of it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from notnow.conduct import expected
from notnow.conduct.judging import Verdict, judge
from notnow.conduct.reading.result import Exit, Result, result
from notnow.conduct.reading.run import Run

if TYPE_CHECKING:
    from tests.truth.truth import Truth

Accusation = Callable[[Any, "Truth"], bool]  # of a program and its truth: whether the client deserves it
GOOD = ("delivered", "false alarm")


class Judged:
    """A generated client, and the verdict on it."""

    def __init__(self, protocol: ModuleType, program: Any, scenario: str) -> None:
        wire, self.truth = protocol.play(program, scenario)
        self.protocol, self.program = protocol, program
        self.journal, self.scenario = wire.recorder.journal, wire.scenario
        self.verdicts: dict[str, Verdict]
        self.result: Result
        self.tell(None)

    def tell(self, count: int | None) -> None:
        """Tell the judge how many items the client was given, or nothing about that."""
        self.run = Run([self.journal], [self.scenario], count=count)
        self.verdicts = {v.rule.id: v for v in judge(self.run)}
        self.result = result(self.run.ledger, Exit(self.truth.exit), count)
        self.verdicts |= {v.rule.id: v for v in expected.judge([self], self.run, count=count)}

    def has(self, outcome: str, rule: str) -> bool:
        return rule in self.verdicts and self.verdicts[rule].outcome == outcome

    @property
    def outcomes(self) -> dict[str, str]:
        """The outcome of every rule, and the result."""
        return {"result": self.result.word} | {name: verdict.outcome for name, verdict in self.verdicts.items()}

    @property
    def accusations(self) -> Mapping[str, Accusation]:
        """What has to be true for each rule of the protocol to be broken."""
        found: Mapping[str, Accusation] = self.protocol.ACCUSATIONS
        return found


def unsound_passes(judged: Judged) -> Iterator[str]:
    """Praise that the client does not deserve."""
    truth, word = judged.truth, judged.result.word
    yield from _passes(judged, truth.lost_in_sight)
    if truth.lost and word == "reported" and truth.exit == 0:
        yield "reported, though the client exited with 0"
    if truth.doubled and word in GOOD:
        yield f"{word}, though {truth.doubled} are doubled"
    if truth.doubled and judged.has("held", "expect.no-duplicates"):
        yield f"expect.no-duplicates held, though {truth.doubled} are doubled"
    if truth.came_at_once_by_name and judged.has("held", "smtp.wait-before-retry"):
        yield "smtp.wait-before-retry held, though the client came back at once"


def passes_out_of_sight(judged: Judged) -> Iterator[str]:
    """Praise of a client that lost what the wire has never shown by name: only the number of items can tell."""
    if not judged.truth.lost_in_sight:
        yield from _passes(judged, judged.truth.lost)


def _passes(judged: Judged, lost: Sequence[object]) -> Iterator[str]:
    if lost and judged.result.word in GOOD:
        yield f"{judged.result.word}, though {lost} are lost"
    if lost and judged.has("held", "expect.delivered"):
        yield f"expect.delivered held, though {lost} are lost"


def false_alarms(judged: Judged) -> Iterator[str]:
    """Accusations that the client does not deserve."""
    if not judged.protocol.has_twins(judged.program):
        yield from _alarms(judged)


def alarms_about_twins(judged: Judged) -> Iterator[str]:
    """Accusations of a client that has several items of one name: before their content comes, nothing tells them apart."""
    if judged.protocol.has_twins(judged.program):
        yield from _alarms(judged)


def _alarms(judged: Judged) -> Iterator[str]:
    truth = judged.truth
    untold = any(not item.said for item in truth.items.values())  # the client cannot know that it came through
    if not truth.missing and (judged.result.word == "lost" or (judged.result.word == "reported" and not untold)):
        yield f"{judged.result.word}, though nothing is lost: {judged.result.sentence}"
    if not truth.doubled and judged.result.word == "duplicated":
        yield "duplicated, though nothing is doubled"
    if not truth.missing and not truth.doubled and judged.has("broken", "expect.delivered"):
        yield "expect.delivered broken, though nothing is lost or doubled"
    if not truth.doubled and judged.has("broken", "expect.no-duplicates"):
        yield "expect.no-duplicates broken, though nothing is doubled"
    for rule, verdict in judged.verdicts.items():
        if verdict.outcome == "broken" and verdict.rule.protocol != "expect":
            deserved = judged.accusations.get(rule)
            if deserved is None or not deserved(judged.program, truth):
                yield f"{rule} broken: {verdict.finding.why}"


def without_occasion(judged: Judged) -> Iterator[str]:
    """Rules that are held in a run without a fault."""
    if not judged.truth.faults:
        for name, one in judged.verdicts.items():
            if one.outcome == "held" and one.rule.protocol != "expect" and name not in judged.protocol.NEEDS_NO_FAULT:
                yield f"{name} held without a fault: {one.finding.why}"


def counted(judged: Judged) -> Iterator[str]:
    """With the number of items told, the judge passes nothing that it should not, accuses nobody, and leaves nothing open."""
    yield from unsound_passes(judged)
    yield from false_alarms(judged)
    if not judged.truth.lost_in_sight:
        yield from _passes(judged, judged.truth.lost_by_number)
    if judged.result.word == "unknown":
        yield f"unknown: {judged.result.sentence}"
    for name in ("expect.delivered", "expect.no-duplicates"):
        if judged.has("inconclusive", name):
            yield f"{name} inconclusive: {judged.verdicts[name].finding.why}"


def mirrored(judged: Judged, other: Judged) -> Iterator[str]:
    """A client that differs only in names gets the same verdicts."""
    for name, outcome in judged.outcomes.items():
        if other.outcomes.get(name) != outcome:
            yield f"{name} differs: {outcome}, and {other.outcomes.get(name)} under other names"


def wrong(judged: Judged, scenario: str) -> Iterator[tuple[str, str]]:
    """All that is wrong with the verdicts on a client: the kind, and a sentence."""
    for kind, found in PROPERTIES.items():
        yield from ((kind, said) for said in found(judged))
    other = Judged(judged.protocol, *judged.protocol.mirror(judged.program, scenario))
    yield from ((MIRRORED, said) for said in mirrored(judged, other))
    judged.tell(len(judged.truth.items))
    yield from ((COUNTED, said) for said in counted(judged))


OUT_OF_SIGHT, TWINS = "pass of what the wire does not show", "false alarm about items of one name"
COUNTED, MIRRORED = "wrong although the number of items is told", "other verdict under other names"
PROPERTIES = {
    "unsound pass": unsound_passes,
    OUT_OF_SIGHT: passes_out_of_sight,
    "false alarm": false_alarms,
    TWINS: alarms_about_twins,
    "held without an occasion": without_occasion,
}
KINDS = (*PROPERTIES, COUNTED, MIRRORED)
OPEN = frozenset({OUT_OF_SIGHT, TWINS})  # the wire shows the same of a client that deserves the verdict
