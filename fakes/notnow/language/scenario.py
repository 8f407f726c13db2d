"""A scenario as a value: phases of rules, checked, with the knobs put in. `notnow.language.loading` makes one from TOML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from notnow.errors import Problem
from notnow.hosts import is_address
from notnow.language.expect import Expect
from notnow.language.faults import FAULT_KEYS
from notnow.language.grammar import Rule
from notnow.language.server import Certificate, Server


class Phase(Struct, frozen=True):
    """A stretch of a scenario, ready to play. `lasts` is in seconds of scenario time."""

    name: str
    rules: tuple[Rule, ...] = ()
    lasts: float | None = None
    until: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario with its knobs put in; immutable.

    `warnings` are about keys that are legal and probably have no effect. `reload` loads the same text again.
    """

    name: str
    protocol: str
    phases: tuple[Phase, ...]
    summary: str
    sources: tuple[str, ...]
    repeat: bool
    knobs: Mapping[str, Any]
    server: Server
    certificates: Mapping[str, Certificate]
    expect: Expect
    faults: tuple[str, ...]
    text: str
    file: str
    warnings: tuple[Problem, ...]
    reload: Callable[..., Scenario] = field(repr=False, compare=False)

    def __hash__(self) -> int:  # a mapping among the fields has none
        return hash((self.name, self.text))

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """How IPython and Hypothesis print it: as its TOML, which can be saved and played."""
        printer.text(f"toml(r'''\n{self.text.strip()}\n''')")

    def with_knobs(self, /, **knobs: Any) -> Scenario:
        """The same scenario with other values for some of its knobs.

        Raises ScenarioError for a knob that it does not have or a value of the wrong type.
        """
        if not knobs:
            return self
        return self.reload(knobs={**self.knobs, **knobs})

    def rules(self) -> Iterator[Rule]:
        """The rules of all phases, in order."""
        for phase in self.phases:
            yield from phase.rules

    def by_path(self) -> dict[str, Rule]:
        """The rules by their key paths, such as `phase[0].rule[1]`."""
        return {f"phase[{i}].rule[{j}]": rule for i, one in enumerate(self.phases) for j, rule in enumerate(one.rules)}

    @property
    def faulty(self) -> list[Rule]:
        """The rules that misbehave: those with a fault."""
        return [rule for rule in self.rules() if any(getattr(rule, key) is not None for key in FAULT_KEYS)]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names of its certificates; `www` stands for whatever a wildcard covers."""
        names = [name for certificate in self.certificates.values() for name in certificate.names]
        hosts = [f"www{name[1:]}" if name.startswith("*.") else name for name in names if not is_address(name)]
        return tuple(dict.fromkeys(hosts))
