"""The cells of a sweep: a fault at an event, or two, as a scenario that does it once and is healthy otherwise."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from notnow.chaos.faults import fault as faults
from notnow.chaos.faults.fault import Fault
from notnow.chaos.steps import Step
from notnow.errors import Problem, ScenarioError
from notnow.language.loading import loads
from notnow.language.scenario import Scenario


class Hit(Struct, frozen=True):
    """A fault at an event."""

    step: Step
    fault: Fault

    @property
    def id(self) -> str:
        """`rcpt#2:421-open`."""
        return f"{self.step.id}:{self.fault.name}"

    @property
    def acts(self) -> tuple[str, int, str]:
        """The moment at which its rule acts, the number of the event there, and the verb whose events are counted, if not all."""
        return (
            (self.fault.on, self.step.inner, "") if self.fault.on else (self.step.moment, self.step.nth, self.step.verb)
        )

    @property
    def in_words(self) -> str:
        """`RCPT TO:<b@x.test> is answered 421, and the connection closes`."""
        return f"{self.step.said} {self.fault.about}"

    @property
    def rule(self) -> str:
        """Its rule in TOML."""
        moment, nth, verb = self.acts
        which = [f'where = {{ command = "{verb}" }}'] if verb else []
        lines = [f'on = "{moment}"', *which, *([] if self.fault.stays else [f"nth = {nth}"])]
        return "\n".join(["[[phase.rule]]", *lines, self.fault.keys.replace("{half}", str(self.step.size // 2)), ""])


class Cell(Struct, frozen=True):
    """One fault, or two, and the scenario in TOML that plays them."""

    hits: tuple[Hit, ...]
    toml: str

    @property
    def id(self) -> str:
        """`rcpt#2:421-open`, or two of these with a plus between them."""
        return "+".join(hit.id for hit in self.hits)

    @property
    def in_words(self) -> str:
        return ", and later ".join(hit.in_words for hit in self.hits)

    @property
    def scenario(self) -> Scenario:
        return loads(self.toml, name=f"sweep {self.id}")


class Base(NamedTuple):
    """What all scenarios of a sweep have in common: the protocol, and the tables that set the server up, in TOML."""

    protocol: str
    tables: str = ""

    @property
    def healthy(self) -> Scenario:
        return loads(self._head("Healthy: the run that a sweep begins with."), name=f"{self.protocol}/healthy")

    def cell(self, *hits: Hit) -> Cell:
        """The cell of these faults."""
        told = ", and later ".join(hit.in_words for hit in hits)
        return Cell(hits, self._head(told) + (_until_reconnected(hits[0]) if hits[0].fault.stays else _once(hits)))

    def _head(self, summary: str) -> str:
        return f"summary = {_text(summary)}\nprotocol = {_text(self.protocol)}\n{self.tables}"


class Plan(NamedTuple):
    """The cells of a sweep, and how many were left out, by the reason."""

    cells: list[Cell]
    left_out: Counter[str]


def base_of(scenario: Scenario) -> Base:
    """The base of a sweep, from a scenario without faults. Raises ScenarioError for one that has any."""
    if scenario.faulty:
        found = f"{scenario.name} has faults of its own, at {', '.join(scenario.faulty[0].on)}"
        allowed = f"a protocol, or a scenario without faults, such as {scenario.protocol}/healthy"
        raise ScenarioError([Problem(found, allowed=allowed)])
    raw = tomllib.loads(scenario.text)
    kept: dict[str, Any] = {name: raw[name] for name in ("server", "certificate") if name in raw}
    if used := {name: value for name, value in scenario.knobs.items() if f"{{{name}}}" in str(kept)}:
        kept["params"] = used
    return Base(scenario.protocol, "".join(_tables(kept)))


def plan(base: Base, steps: Sequence[Step], only: Collection[str] = (), at: Collection[str] = ()) -> Plan:
    """Every fault at every event where it can act, in the order of the events.

    `only` are the faults and `at` the moments to which the sweep is confined; empty for all.
    """
    hits, left_out = _hits(base.protocol, steps, only, at)
    return Plan([base.cell(hit) for hit in hits], left_out)


def pairs(
    base: Base, first: Hit, steps: Sequence[Step], since: int, only: Collection[str] = (), at: Collection[str] = ()
) -> Plan:
    """A fault and a second one: at each event that came after the first one, in the run that met the first one alone.

    `since` is the index of the exchange at which the first one acted. What the client did not come to in that run, it
    does not come to with a second fault either.
    """
    hits, left_out = _hits(base.protocol, [step for step in steps if step.index > since], only, at)
    once = [hit for hit in hits if not (first.fault.stays or hit.fault.stays)]
    if len(once) < len(hits):
        left_out["a fault that lasts is not one of two: counts restart with its phase"] += len(hits) - len(once)
    return Plan([base.cell(first, hit) for hit in once if hit.acts != first.acts], left_out)


def _hits(
    protocol: str, steps: Iterable[Step], only: Collection[str], at: Collection[str]
) -> tuple[list[Hit], Counter[str]]:
    found, left_out = [], Counter[str]()
    for step in (step for step in steps if not at or step.moment in at):
        for fault in faults.of_protocol(protocol):
            if not fault.fits(step) or (only and fault.name not in only):
                continue
            if fault.differs(step):
                found.append(Hit(step, fault))
            else:
                left_out[f"{fault.name} is {fault.same_as} there: {fault.because}"] += 1
    return found, left_out


# ---- TOML ----------------------------------------------------------------------------------------


def _once(hits: Iterable[Hit]) -> str:
    return "\n[[phase]]\n" + "\n".join(hit.rule for hit in hits)


def _until_reconnected(hit: Hit) -> str:
    """From this event on, until a client connects again."""
    moment, nth, _ = hit.acts
    before = f"\n[[phase]]\nuntil = {{ {moment} = {nth - 1} }}\n" if nth > 1 else ""
    return f"{before}\n[[phase]]\nuntil = {{ connect = {hit.step.connected + 1} }}\n\n{hit.rule}\n[[phase]]\n"


def _tables(tables: Mapping[str, Any]) -> Iterator[str]:
    """Tables of a scenario, as text."""
    for name, table in tables.items():
        named = (
            {f"{name}.{_key(key)}": value for key, value in table.items()} if name == "certificate" else {name: table}
        )
        for header, keys in named.items():
            yield "\n".join([f"\n[{header}]", *(f"{_key(key)} = {_value(value)}" for key, value in keys.items()), ""])


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(text: str) -> str:
    """A basic string of TOML, which JSON's are but for DEL."""
    return json.dumps(text).replace("\x7f", "\\u007f")
