"""What was read of a recorded run, as the tables of a scenario: readers make a `Recording`, and `writing` makes TOML of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from notnow.errors import NotNowError

MOST_RULES = 2_000  # of a scenario: one beyond that takes seconds to load, and nobody reads it
Table = dict[str, Any]  # the keys of a rule, as TOML has them


class ReplayError(NotNowError, ValueError):
    """A recording that cannot be read, or holds nothing that can be played."""


class Part(Struct):
    """A phase of the scenario to be: its name, how it ends, its rules. `lasts` is in seconds of scenario time."""

    name: str
    lasts: float | None = None
    until: Mapping[str, int] = {}
    rules: list[Table] = field(default_factory=list)


class Recording(Struct):
    """A run as the tables of a scenario.

    `tables` are those that stand beside the phases ([server], [certificate], [expect]). `about` are the lines of the comment
    at its top: where it comes from, and what could not be told. `tally` says what was read, in a sentence.
    """

    protocol: str
    summary: str
    tally: str
    parts: list[Part]
    tables: Table = field(default_factory=dict)
    about: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def by_ordinal(on: str, met: Mapping[int, Table | None], **more: Any) -> list[Table]:
    """Rules for the events of a moment by their numbers, from 1. Neighbours that met the same fault share a rule."""
    rules: list[Table] = []
    first = last = 0
    for n in sorted(met):
        if rules and n == last + 1 and met[n] == met[first]:
            rules[-1] = {"on": on, **more, **_span(first, n), **(met[n] or {})}
        else:
            first = n
            rules.append({"on": on, **more, **_span(n, n), **(met[n] or {})})
        last = n
    return rules


def _span(first: int, last: int) -> Table:
    """The events from the first to the last, as conditions."""
    if first == last:
        return {"nth": first}
    return {"first": last} if first == 1 else {"after": first - 1, "first": last}


def literal(text: str) -> str:
    """A text that was recorded, as a text of a rule: its braces are no placeholders, and what TOML cannot hold is replaced."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("{", "{{").replace("}", "}}")
