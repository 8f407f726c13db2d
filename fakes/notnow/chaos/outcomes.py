"""What became of a client's items in one run of a sweep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from notnow.chaos.cells import Cell
from notnow.chaos.steps import Step, steps
from notnow.conduct.judging import judge
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.result import FAILURES, Exit, Result, result
from notnow.conduct.reading.result import Word as ResultWord
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Level
from notnow.language.scenario import Scenario

Word = ResultWord | Literal["not reached"]
Copies = Literal["", "recognisable", "not recognisable"]
BAD: frozenset[Word] = FAILURES | {"hung"}
LEVELS: tuple[Level, ...] = ("must",)
ACCEPTED: frozenset[Word] = frozenset({"reported", "refused"})


class Played(NamedTuple):
    """A run of a client: what the fake saw, how the client ended, how many real seconds it took, what it printed or raised."""

    run: Run
    ended: Exit
    took: float
    output: str = ""
    raised: Exception | None = None


class Outcome(Struct, frozen=True):
    """The outcome of a cell.

    `word` is the result of its run, or "not reached" if the client did not come to the event. `broken` are the rules of
    conduct that it broke. `copies`: the client could not avoid a second copy of an item that was kept and yet refused; the
    receiver can recognise it, or cannot. `exposed`: an item went in clear text that goes over TLS without the fault. `story` is the timeline and transcript of a run that went wrong. `took` is in real
    seconds.
    """

    cell: Cell
    word: Word
    sentence: str
    broken: tuple[str, ...] = ()
    copies: Copies = ""
    exposed: bool = False
    story: str = ""
    output: str = ""
    took: float = 0.0

    @property
    def bad(self) -> bool:
        """True if the client lost, doubled or exposed something, denied its success, hung, or broke a rule."""
        return self.word in BAD or self.exposed or bool(self.broken)


class Healthy(NamedTuple):
    """The run without a fault. `asked` is how many items the client has in each run; None if it differs from run to run."""

    played: Played
    result: Result
    steps: list[Step]
    asked: int | None

    @property
    def failure(self) -> str:
        """The reason why a sweep cannot begin; empty if the client got everything through."""
        if not self.played.run.connections:
            return f"the client never connected, and {self.result.ended}"
        return "" if self.result.word == "delivered" else self.result.sentence


def healthy(played: Played, scenario: Scenario, count: int | None) -> Healthy:
    found = result(played.run.ledger, played.ended, count)
    return Healthy(played, found, steps(scenario, played.run.exchanges), found.asked)


def outcome(
    cell: Cell,
    played: Played,
    sound: Healthy,
    levels: Collection[Level] = LEVELS,
    *,
    told: bool = False,
    short: str = "",
) -> Outcome:
    """The outcome of a cell, beside the healthy run of the same client.

    A broken rule of conduct counts if it has one of these `levels`. `told`: the outcome has its story though it is good.
    `short` says what came through in part only (see `contents`).
    """
    run = played.run
    found = result(run.ledger, played.ended, sound.asked)
    word = _word(cell, found, run)
    if short and word in ("delivered", "false alarm"):
        word = "lost" if played.ended.good else "reported"
    verdicts = judge(run, accepted=word if word in ACCEPTED else "")
    made = Outcome(
        cell,
        word,
        found.sentence if word == found.word else f"{word}: {short}; {played.ended}" if short else _EXPLAINED[word],
        tuple(one.rule.id for one in verdicts if one.outcome == "broken" and one.rule.level in levels),
        _copies(found, run),
        _in_clear(run) and not _in_clear(sound.played.run),
        took=played.took,
    )
    if not (told or made.bad):
        return made
    fired = [x for x in run.exchanges if x.rule is not None]
    return replace(made, story=render(run.journals, fired), output=played.output)


def _in_clear(run: Run) -> bool:
    """True if an item came through without TLS."""
    kept = (one for item in run.ledger.items for one in item.copies)
    return any(one.connection.tls is None or one.connection.tls.error is not None for one in kept)


def _word(cell: Cell, found: Result, run: Run) -> Word:
    fired = {x.rule for x in run.exchanges if x.rule is not None and not x.stopped}
    if len(fired) < len(cell.hits):
        return "not reached"
    if found.word == "false alarm" and any(hit.fault.kept for hit in cell.hits):
        return "reported"
    return found.word


_EXPLAINED: Mapping[Word, str] = {
    "not reached": "the client did not come to this event, so nothing was tested",
    "reported": "reported: the server kept the item and refused it, and the client reported the refusal",
}


def _copies(found: Result, run: Run) -> Copies:
    """Whether the receiver can recognise the copies of items that came through more than once."""
    if found.duplicated:
        return "" if any(item.marked for item in found.duplicated) else "not recognisable"
    doubled = [item for item in run.ledger.of_state("delivered") if len(item.copies) > 1 and not item.repeatable]
    return "recognisable" if doubled else ""
