"""A scenario file as records, one for each table of the TOML: the document, its phases and their rules.

`conditions`, `faults`, `server` and `expect` have the other tables. Every key has its description here; the JSON Schema, the
reference in the docs and the error messages are printed from them. Checks that need more than one key are in
`notnow.language.checks`.
"""

from __future__ import annotations

from typing import Any

from notnow import protocols
from notnow.language.conditions import When
from notnow.language.expect import Expect
from notnow.language.faults import Fault
from notnow.language.server import Certificate, Limits, Server
from notnow.language.tables import Table, a_table, by_name, key, list_of, required
from notnow.language.values import Count, Flag, Length, Text, any_table, one_of


class Rule(When, Fault):
    """A moment, conditions that must all hold, and a fault. The first rule that matches wins."""

    fault: str | None = key(Text, about="Take the fault of this name, from [fault.NAME].")


class Phase(Table):
    """A part of the scenario with rules of its own."""

    name: str = key(Text, about="Its name in reports.", default="")
    lasts: float | None = key(Length, about="The phase ends after this time.")
    until: dict[str, int] | None = key(
        by_name(Count),
        about="The phase ends after this number of events of a moment. Refused events count, and the last one still belongs to the phase.",
    )
    rule: list[Rule] = key(list_of(a_table(Rule)), about="Its rules; the first that matches wins.", factory=list)


class Document(Table):
    """A scenario: phases of rules."""

    summary: str = key(Text, about="What happens, in one sentence.", default="")
    protocol: str = required(one_of(*protocols.NAMES), about="The protocol of the server.")
    sources: list[str] = key(list_of(Text), about="Where its behaviour and texts come from.", factory=list)
    repeat: bool = key(Flag, about="Play the phases again from the first after the last.", default=False)
    params: dict[str, Any] = key(
        any_table(), about="Knobs with their defaults; the default gives the type.", factory=dict
    )
    server: Server = key(a_table(Server), about="How the fake is set up.", factory=Server)
    certificate: dict[str, Certificate] = key(
        by_name(a_table(Certificate)),
        about="Certificates; the first that covers the SNI is shown, else the first.",
        factory=dict,
    )
    fault: dict[str, Fault] = key(by_name(a_table(Fault)), about="Faults under a name.", factory=dict)
    phase: list[Phase] = key(list_of(a_table(Phase)), about="The phases, in order; the last one lasts.", factory=list)
    expect: Expect = key(a_table(Expect), about="What a well-behaved client achieves here.", factory=Expect)


TABLES: tuple[type[Table], ...] = (Document, Phase, Rule, Fault, Server, Limits, Certificate, Expect)
