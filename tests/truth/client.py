"""What generated clients of all protocols have in common: workers that take tasks, and try each until it is done."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from hypothesis import strategies as st
from tests.truth.truth import Truth
from tests.truth.wire import Line, Wire

TRIES = 6  # most tries of an item
Exits = Literal["honest", "zero", "alarm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What a program of any protocol says.

    `workers` share the tasks. `keeps`: a worker keeps its connection for its next task, after `pause` seconds. `waits` are
    its pauses between tries, the last one for ever after; with none it drops what was deferred. `repeats`: it tries again
    what was refused for good. `swallows`: it takes for done what it said on a connection that was closed already.
    `gives_up` is the moment at which a failure makes it drop what it was to do. `exits` is the exit code: "honest" is 75 if
    something did not come through.
    """

    workers: int = 1
    keeps: bool = False
    pause: float = 0.0
    waits: tuple[float, ...] = (60.0,)
    repeats: bool = False
    swallows: bool = False
    gives_up: str = ""
    exits: Exits = "honest"


@dataclass(slots=True)
class Task:
    """Items that a client tries together: `what` says what they are, `left` are those that are not done."""

    what: Any
    left: list[Any]
    tries: int = 0


H = TypeVar("H", bound=Habits)
L = TypeVar("L", bound=Line)


@dataclass
class Client(Generic[H, L]):
    """Plays a program on a wire, and knows the truth of it."""

    program: H
    wire: Wire
    truth: Truth = field(default_factory=Truth)
    tasks: list[Task] = field(default_factory=list)

    def begin(self, line: L | None, task: Task) -> L | None:
        """One try at what is left of a task. Returns the connection if it is still good."""
        raise NotImplementedError

    def quit(self, line: L) -> None:
        """Leave a connection."""
        raise NotImplementedError

    def settle(self) -> None:
        """Everything is over: look at what the server has."""

    def play(self) -> Truth:
        for task in self.tasks:
            for key in task.left:
                self.truth.item(key)
        self.wire.run([self._worker() for _ in range(self.program.workers)])
        truth = self.truth
        self.settle()
        unsent = any(not item.accepted and not item.refused for item in truth.items.values())
        truth.exit = {"honest": 75 if unsent else 0, "zero": 0, "alarm": 75}[self.program.exits]
        truth.went_on = self.wire.went_on
        truth.faults = sum(x.fault is not None for x in self.wire.recorder.journal.exchanges)
        return truth

    def _worker(self) -> Generator[float, None, None]:
        line: L | None = None
        while self.tasks:
            task = self.tasks.pop(0)
            while task.left:
                dead = line is not None and line.over
                line = self.begin(line, task)
                if not task.left:
                    break
                pause = None if dead and self.program.swallows else self._pause(task)
                if pause is None:
                    self.drop(task, sure=dead and self.program.swallows)
                else:
                    line = self._part(line)
                    yield pause
            line = self._part(line)
            if self.program.keeps and self.program.pause and self.tasks:
                yield self.program.pause
        if line is not None:
            self.quit(line)

    def _part(self, line: L | None) -> L | None:
        """The connection, if the client keeps it."""
        if line is not None and not self.program.keeps:
            self.quit(line)
            return None
        return line

    def _pause(self, task: Task) -> float | None:
        waits = self.program.waits
        task.tries += 1
        if not waits or task.tries >= TRIES or self.wire.asked == self.program.gives_up:
            return None
        return waits[min(task.tries, len(waits)) - 1]

    # ---- noting what is true -------------------------------------------------------------------------

    def drop(self, task: Task, *, sure: bool = False) -> None:
        """The client gives up what is left; `sure`: it takes it for done."""
        for key in task.left:
            item = self.truth.item(key)
            item.dropped, item.accepted = True, item.accepted or sure
        task.left.clear()

    def tries(self, task: Task, *, named: bool) -> None:
        """A try of all that is left begins; `named`: the wire shows what it is."""
        for key in task.left:
            item = self.truth.item(key)
            item.begins(self.wire.clock.now(), named=named)
            item.repeated += item.refused

    def fails(self, keys: Sequence[Hashable], *, named: bool) -> None:
        """These did not come through, for now."""
        for key in keys:
            self.truth.item(key).fails(self.wire.clock.now(), named=named)

    def succeeds(self, task: Task, keys: Sequence[Hashable]) -> None:
        """The client has read that these are accepted."""
        for key in keys:
            self.truth.item(key).accepted = True
            task.left.remove(key)

    def refused(self, task: Task, keys: Sequence[Hashable]) -> None:
        """The client has read that these are refused for good."""
        for key in keys:
            self.truth.item(key).refused = True
            if not self.program.repeats:
                task.left.remove(key)


HABITS: dict[str, st.SearchStrategy[Any]] = {
    "workers": st.sampled_from((1, 1, 1, 2, 3)),
    "keeps": st.booleans(),
    "pause": st.sampled_from((0.0, 10.0, 400.0)),
    "waits": st.sampled_from(((60.0,), (), (0.0,), (0.2,), (5.0,), (1800.0,), (1.0, 2.0, 4.0, 8.0))),
    "repeats": st.sampled_from((False, False, True)),
    "swallows": st.sampled_from((False, False, False, True)),
    "exits": st.sampled_from(("honest", "honest", "zero", "alarm")),
}
CONDITIONS = (
    "", "nth = 1", "nth = 2", "first = 1", "first = 2", "first = 4", "after = 1", "every = 2", 'first = "20m"',
)  # fmt: skip
LASTS = ("", 'lasts = "30s"', 'lasts = "10m"', "until = { connect = 3 }")


def document(protocol: str, rules: list[str], lasts: str) -> str:
    """A scenario: rules in a first phase, and a healthy one after it where the first one ends."""
    return (
        f'protocol = "{protocol}"\n\n[[phase]]\nname = "one"\n{lasts}\n'
        + "".join("[[phase.rule]]\n" + rule for rule in rules)
        + ('\n[[phase]]\nname = "healthy"\n' if lasts else "")
        + "\n[expect]\ndelivered = { times = 1 }\nno_duplicates = true\n"
    )
