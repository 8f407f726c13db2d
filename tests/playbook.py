"""Playbooks: a script of what clients do (`>>`) and of what the fake does about it (`<<`), exact and without a clock.

    play("smtp/overload") >> Opened("a") << Send("421 4.3.2 All server ports are busy") << Close()

Time is an argument: `.at(30)` says when the next events come. Every action must be named, in order; the first one
that differs fails the test with a diff of the two scripts. Give `play` as a fixture of `playing()`, which also fails
for what the fake did after the last event and nobody expected.
"""

from __future__ import annotations

import contextlib
import difflib
import json
from collections.abc import Iterator
from typing import Any

from notnow.engine import actions, events
from notnow.engine.actions import Alert, Certify, Close, EndData, Hang, Script, Wait, Watch
from notnow.engine.engine import Engine
from notnow.engine.events import Answered, Closed, Ended, Event, Finished, Heard, Hello, Known, Leaving, Reached, Tick
from notnow.language import catalogue
from notnow.language.loading import loads
from notnow.language.scenario import Scenario

__all__ = [
    "BYE", "NO", "SILENT", "SORRY", "Alert", "Answered", "Asked", "Certify", "Close", "Closed", "EndData", "Ended", "Hang", "Heard", "Hello", "Known", "Leaving",
    "Opened", "Playbook", "Proceed", "Reached", "Send", "Tick", "To", "Wait", "Watch", "document", "fired", "mails", "phase", "playing",
    "rule",
]  # fmt: skip

HOST = "fake.notnow.test"
CLIENT = "192.0.2.1"


# ---- scenarios in a line or two ------------------------------------------------------------------


def rule(on: str | list[str], **keys: Any) -> dict[str, Any]:
    return {"on": on, **keys}


def phase(*rules: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**keys, "rule": list(rules)}


def document(*parts: dict[str, Any], protocol: str = "smtp", **top: Any) -> str:
    """The TOML of a scenario of these phases; rules that stand alone make one phase."""
    loose = [part for part in parts if "on" in part]
    phases = [phase(*loose)] if loose else list(parts)
    return "".join(f"{key} = {toml(value)}\n" for key, value in {"protocol": protocol, **top, "phase": phases}.items())


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


NO = "451 4.3.0 no"
BYE = "421 4.3.2 bye"


# ---- words ---------------------------------------------------------------------------------------


def Opened(conn: str, client: str = CLIENT) -> events.Opened:
    return events.Opened(conn, client)


def Asked(conn: str, moment: str, stream: int = 0, **facts: Any) -> events.Asked:
    return events.Asked(conn, moment, facts, stream)


def Send(*lines: str, drip: float = 0.0) -> actions.Send:
    """Reply lines; one that ends in "…" stands for any that begins so."""
    return actions.Send(lines, drip)


def Proceed(*instead: str, drip: float = 0.0) -> actions.Proceed:
    """Behave, with these lines in place of the healthy reply."""
    return actions.Proceed(instead or None, drip)


SILENT = actions.Proceed(())
SORRY = Send(NO)


class To:
    """What is done on another connection than that of the event."""

    def __init__(self, conn: str, *steps: actions.Action) -> None:
        self.conn, self.steps = conn, steps


# ---- the playbook --------------------------------------------------------------------------------


class Playbook:
    """One engine, its script as it was and as it should have been.

    With `slow=True`, a script of the moment `idle` is under way until the playbook says `Finished`.
    """

    def __init__(self, scenario: str | Scenario, *, now: float = 0.0, slow: bool = False, **given: Any) -> None:
        options = {k: given.pop(k) for k in ("seed", "store", "port", "epoch") if k in given}
        self.engine = Engine(resolve(scenario, given), host=HOST, **options)
        self.now, self.slow = now, slow
        self.scripts: list[Script] = []  # of the last event
        self._conn = ""
        self._unsaid: list[str] = []
        self._before: list[str] = []
        self._expected: list[str] = []

    def at(self, now: float) -> Playbook:
        self.now = now
        return self

    def __rshift__(self, event: Event) -> Playbook:
        self._begin(f"{event}", getattr(event, "conn", ""))
        return self._did(self.engine.feed(event, self.now))

    def next_phase(self) -> Playbook:
        self._begin("next_phase()")
        return self._did(self.engine.next_phase(self.now))

    def play(self, scenario: str | Scenario, **knobs: Any) -> Playbook:
        self._begin("play(…)")
        return self._did(self.engine.play(resolve(scenario, knobs), self.now))

    def start(self) -> Playbook:
        self._begin("start()")
        self.engine.start(self.now)
        return self

    def __lshift__(self, expected: actions.Action | To) -> Playbook:
        conn, steps = (expected.conn, expected.steps) if isinstance(expected, To) else (self._conn, (expected,))
        for step in steps:
            self._expect(f"{conn}: {step}")
        return self

    def done(self) -> Playbook:
        """Nothing more is said about the last event."""
        if self._unsaid:
            self._differ()
        return self

    def skip(self) -> Playbook:
        """Whatever is said about the last event is right."""
        self._unsaid = []
        return self

    def phase(self, name: str) -> Playbook:
        assert self.engine.phase == name
        return self

    def _begin(self, what: str, conn: str = "") -> None:
        self.done()
        self._before += [*(f"  {line}" for line in self._expected), f"at {self.now:g}: {what}"]
        self._expected = []
        self._conn = conn

    def _did(self, scripts: list[Script]) -> Playbook:
        self.scripts = scripts
        self._unsaid = [f"{script.conn}: {step}" for script in scripts for step in script.steps]
        for script in scripts:
            if script.moment == "idle" and not self.slow:
                self.engine.feed(Finished(script.conn), self.now)
        return self

    def _expect(self, line: str) -> None:
        head, dots, _ = line.partition("…")
        if self._unsaid and (self._unsaid[0].startswith(head) if dots else self._unsaid[0] == line):
            self._expected.append(self._unsaid.pop(0))
        else:
            self._differ(line)

    def _differ(self, *wanted: str) -> None:
        __tracebackhide__ = True
        was = [*self._before, *(f"  {line}" for line in (*self._expected, *self._unsaid))]
        should = [*self._before, *(f"  {line}" for line in (*self._expected, *wanted))]
        self._unsaid = []
        diff = "\n".join(difflib.ndiff(should, was))
        raise AssertionError(f"the fake did (+) something else than the script (-):\n{diff}")


def resolve(scenario: str | Scenario, knobs: dict[str, Any]) -> Scenario:
    """A scenario of the catalogue, the text of one, or one that is there."""
    if isinstance(scenario, Scenario):
        return scenario.with_knobs(**knobs)
    return loads(scenario, knobs=knobs) if "=" in scenario else catalogue.scenario(scenario, **knobs)


class Playing:
    """Makes playbooks: `play(scenario, **knobs)`, with `seed`, `store`, `port` and `epoch` for the engine."""

    def __init__(self) -> None:
        self.books: list[Playbook] = []

    def __call__(self, scenario: str | Scenario, **given: Any) -> Playbook:
        self.books.append(Playbook(scenario, **given))
        return self.books[-1]


@contextlib.contextmanager
def playing() -> Iterator[Playing]:
    made = Playing()
    yield made
    for book in made.books:
        book.done()


def mails(n: int, conn: str = "a") -> list[events.Asked]:
    return [Asked(conn, "mail", sender="x@y.test")] * n


def fired(book: Playbook, *told: Event) -> list[bool]:
    """For each event, whether a rule has changed what it gets; what that is goes unchecked."""
    found = []
    for event in told:
        found.append(any(script.fault for script in (book >> event).scripts))
        book.skip()
    return found
