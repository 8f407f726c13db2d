"""A sweep: a client's healthy run, then every event of it with every fault, each healthy again afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest

from msgspec import Struct

from notnow import true_time
from notnow.chaos import cells as planning
from notnow.chaos.cells import Base, Cell, Plan
from notnow.chaos.contents import Usual, shortened, usual
from notnow.chaos.matrix import Matrix
from notnow.chaos.outcomes import LEVELS, Healthy, Outcome, Played, healthy, outcome
from notnow.chaos.steps import Step, steps
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Level
from notnow.errors import NotNowError, Problem, ScenarioError, nearest
from notnow.language.scenario import Scenario
from notnow.servers.base.runner import Runner

Player = Callable[[Scenario], Played]
Work = Callable[[Cell], Outcome]
Spread = Callable[[Work, Iterable[Cell]], Iterable[Outcome]]  # runs the work for many cells, side by side or in turn
Told = Callable[[Outcome, int], object]  # called with each outcome, and the number of cells that are known by then


class SweepError(NotNowError, RuntimeError):
    """A sweep could not begin: the client failed without any fault. `output` is the end of what it printed.

    `before` is what came of a first run, if the client failed in the second one only.
    """

    def __init__(self, failure: str, output: str = "", before: str = "") -> None:
        told = (
            f"the client behaves differently from run to run, without any fault: first {before}; then {failure}. If it needs "
            "state, such as a queue, put that in place before each run (on the command line: --before CMD)"
        )
        super().__init__(told if before else f"the client fails without any fault: {failure}")
        self.output = output


class Terms(Struct, frozen=True):
    """What to sweep, and how to judge it.

    `only` are faults, `at` moments, `cells` the ids of single cells, and each of these confines the sweep unless it is empty.
    `pairs`: two faults at a time as well. `budget` is in real seconds. `count` is how many items the client was given, where
    the healthy run cannot tell. A broken rule of one of the `levels` makes a cell bad.
    """

    only: Collection[str] = ()
    at: Collection[str] = ()
    cells: Collection[str] = ()
    pairs: bool = False
    budget: float | None = None
    count: int | None = None
    levels: Collection[Level] = LEVELS


class Sweep:
    """The work of a sweep. `play` runs the client once, against a fake that plays a scenario."""

    def __init__(self, base: Base, play: Player, terms: Terms, spread: Spread = map, told: Told | None = None) -> None:
        self.base, self.play, self.terms, self._spread, self._told = base, play, terms, spread, told
        self._deadline = None if terms.budget is None else true_time.monotonic() + terms.budget
        self._seen: dict[str, tuple[list[Step], int]] = {}  # what the client did in each cell, and where the fault was
        self._known = 0
        self._calm: list[Run] = []  # the healthy runs
        self._usual: Mapping[str, Usual] = {}
        self._confirming = threading.Lock()

    def run(self) -> Matrix:
        """All of it. Raises SweepError if the client fails in its healthy run, ScenarioError for a cell that does not exist."""
        runner = Runner.acquire()  # the loop of the fakes starts once, and not for each cell
        try:
            return self._swept()
        finally:
            runner.release()

    def _swept(self) -> Matrix:
        first, second = self._healthy_runs()
        planned = self._singles(first.steps)
        done = self._outcomes(planned.cells, first)
        if self.terms.pairs or any("+" in cell for cell in self.terms.cells):
            more = self._pairs(done)
            planned = Plan(planned.cells + more.cells, planned.left_out + more.left_out)
            done += self._outcomes(more.cells, first)
        return Matrix(self.base, first, second, self._wanted(done), planned.left_out, len(planned.cells) - len(done))

    def _healthy_runs(self) -> list[Healthy]:
        """Two runs without a fault. Raises SweepError if the client fails in one."""
        calm, runs = self.base.healthy, list[Healthy]()
        for _ in range(2):
            found = healthy(self.play(calm), calm, self.terms.count)
            if found.failure:
                before = runs[0].result.sentence if runs else ""
                raise SweepError(found.failure, found.played.output, before) from found.played.raised
            runs.append(found)
        self._calm = [one.played.run for one in runs]
        self._usual = usual(self._calm)
        same = runs[0].asked == runs[1].asked
        return runs if same else [one._replace(asked=None) for one in runs]

    # ---- what to run -----------------------------------------------------------------------------

    def _singles(self, seen: Sequence[Step]) -> Plan:
        """The cells with one fault. With a budget, the first events of each kind come first."""
        found = planning.plan(self.base, seen, self.terms.only, self.terms.at)
        if self.terms.budget is not None:
            found.cells.sort(key=lambda cell: cell.hits[0].step.nth)
        if not self.terms.cells:
            return found
        ids, firsts = [cell.id for cell in found.cells], [cell.split("+")[0] for cell in self.terms.cells]
        if strange := next((one for one in firsts if one not in ids), None):
            raise ScenarioError([_no_cell(strange, ids)])
        return Plan([cell for cell in found.cells if cell.id in firsts], Counter())

    def _pairs(self, singles: Iterable[Outcome]) -> Plan:
        """The cells with two faults, a second one for each first one in turn, so that a part of them covers the whole."""
        lists, left_out = [], Counter[str]()
        for i, one in enumerate(singles):
            if one.word == "not reached":
                continue
            found = planning.pairs(
                self.base, one.cell.hits[0], *self._seen[one.cell.id], self.terms.only, self.terms.at
            )
            turn = i % max(1, len(found.cells))
            lists.append(found.cells[turn:] + found.cells[:turn])
            left_out += found.left_out
        every = [cell for row in zip_longest(*lists) for cell in row if cell is not None]
        if not self.terms.cells:
            return Plan(every, left_out)
        wanted = [cell for cell in every if cell.id in self.terms.cells]
        if strange := {one for one in self.terms.cells if "+" in one} - {cell.id for cell in wanted}:
            raise ScenarioError([_no_cell(min(strange), [cell.id for cell in every])])
        return Plan(wanted, Counter())

    def _wanted(self, done: list[Outcome]) -> list[Outcome]:
        """Without the cells that ran only because they are the first half of one that was asked for."""
        return [one for one in done if one.cell.id in self.terms.cells] if self.terms.cells else done

    # ---- running ---------------------------------------------------------------------------------

    def _outcomes(self, cells: Sequence[Cell], sound: Healthy) -> list[Outcome]:
        """The outcomes of as many cells as the budget allows, in the order of the client's events."""

        def work(cell: Cell) -> Outcome:
            scenario = cell.scenario
            played = self.play(scenario)
            fired = [x.index for x in played.run.exchanges if x.rule is not None]
            self._seen[cell.id] = (steps(scenario, played.run.exchanges), min(fired, default=0))
            told = cell.id in self.terms.cells
            return outcome(cell, played, sound, self.terms.levels, told=told, short=self._shortened(played))

        self._known += len(cells)
        done = []
        for found in self._spread(work, self._in_time(cells)):
            done.append(found)
            if self._told is not None:
                self._told(found, self._known)
        return sorted(done, key=lambda one: [(hit.step.index, hit.id) for hit in one.cell.hits])

    def _shortened(self, played: Played) -> str:
        """What came through in part only. A third healthy run then shows whether the client's content changes with time."""
        found = shortened(played.run, self._usual)
        if not found:
            return ""
        with self._confirming:
            if len(self._calm) == 2:
                self._calm.append(self.play(self.base.healthy).run)
                self._usual = usual(self._calm)
        return shortened(played.run, self._usual)

    def _in_time(self, cells: Iterable[Cell]) -> Iterator[Cell]:
        for cell in cells:
            if self._deadline is not None and true_time.monotonic() >= self._deadline:
                return
            yield cell


def _no_cell(name: str, ids: Sequence[str]) -> Problem:
    such = f", such as {ids[0]}" if ids else "; after the first fault, this client comes to none"
    allowed = f"an event to which the client comes and a fault{such}"
    return Problem(f"there is no cell {name!r}", allowed=allowed, nearest=nearest(name, ids))
