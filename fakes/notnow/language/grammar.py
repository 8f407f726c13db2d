"""A scenario file as pydantic models, one for each table of the TOML: the document, its phases and their rules.

`conditions`, `faults`, `server` and `expect` have the other tables. Every field has its description here; the JSON Schema, the
reference in the docs and the error messages are printed from them. Checks that need more than one field are in
`notnow.language.checks`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from notnow import protocols
from notnow.language.conditions import When
from notnow.language.expect import Expect
from notnow.language.faults import Fault
from notnow.language.server import Certificate, Limits, Server
from notnow.language.values import Count, Length, Table, choice_of


class Rule(When, Fault):
    """A moment, conditions that must all hold, and a fault. The first rule that matches wins."""

    fault: str | None = Field(default=None, description="Take the fault of this name, from [fault.NAME].")


class Phase(Table):
    """A part of the scenario with rules of its own."""

    name: str = Field(default="", description="Its name in reports.")
    lasts: Length | None = Field(default=None, description="The phase ends after this time.")
    until: dict[str, Count] | None = Field(
        default=None,
        description="The phase ends after this number of events of a moment. Refused events count, and the last one still belongs to the phase.",
    )
    rule: list[Rule] = Field(default_factory=list, description="Its rules; the first that matches wins.")


class Document(Table):
    """A scenario: phases of rules."""

    summary: str = Field(default="", description="What happens, in one sentence.")
    protocol: Annotated[
        str, BeforeValidator(choice_of(*protocols.NAMES)), WithJsonSchema({"enum": list(protocols.NAMES)})
    ] = Field(description="The protocol of the server.")
    sources: list[str] = Field(default_factory=list, description="Where its behaviour and texts come from.")
    repeat: bool = Field(default=False, description="Play the phases again from the first after the last.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Knobs with their defaults; the default gives the type."
    )
    server: Server = Field(default_factory=Server, description="How the fake is set up.")
    certificate: dict[str, Certificate] = Field(
        default_factory=dict, description="Certificates; the first that covers the SNI is shown, else the first."
    )
    fault: dict[str, Fault] = Field(default_factory=dict, description="Faults under a name.")
    phase: list[Phase] = Field(default_factory=list, description="The phases, in order; the last one lasts.")
    expect: Expect = Field(default_factory=Expect, description="What a well-behaved client achieves here.")


TABLES: tuple[type[Table], ...] = (Document, Phase, Rule, Fault, Server, Limits, Certificate, Expect)
