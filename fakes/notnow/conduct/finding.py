"""A finding: what a rule or an expectation says of a run, with what proves it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from notnow.journal import Connection, Exchange

Outcome = Literal["held", "broken", "not exercised"]
Evidence = Exchange | Connection


class Finding(Struct, frozen=True):
    """The outcome, what was seen, and the exchanges or connections that prove it.

    `expected` is what an expectation asked of the client; a rule leaves it empty, because its title says it.
    `seen` may grade a rule that was held.
    """

    outcome: Outcome
    seen: str = ""
    evidence: tuple[Evidence, ...] = ()
    expected: str = ""

    @property
    def why(self) -> str:
        """The finding in a sentence: what was seen, after what was expected."""
        return f"expected {self.expected}, but {self.seen}" if self.expected else self.seen


NOT_EXERCISED = Finding("not exercised")


def not_exercised(seen: str) -> Finding:
    """The client had an occasion to break the rule, but what it did proves nothing; `seen` says why."""
    return Finding("not exercised", seen)


def held(seen: str = "", *evidence: Evidence) -> Finding:
    return Finding("held", seen, evidence)


def broken(seen: str, *evidence: Evidence) -> Finding:
    """The client broke the rule; `evidence` has at least one exchange or connection that proves it."""
    assert evidence, "a broken rule needs evidence"
    return Finding("broken", seen, evidence)
