"""A finding: what a rule or an expectation says of a run, with what proves it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from notnow.journal import Connection, Exchange

Outcome = Literal["held", "broken", "inconclusive", "not exercised"]
Evidence = Exchange | Connection


class Finding(Struct, frozen=True):
    """The outcome, what was seen, and the exchanges or connections that prove it.

    "broken": the journal leaves no innocent explanation. "held": the run gave the client an occasion, and the client did right.
    "inconclusive": it gave an occasion, and the journal cannot tell; `settled_by` says what would. "not exercised": there
    was no occasion.

    `expected` is what an expectation asked of the client; a rule leaves it empty, because its title says it.
    `seen` may grade a rule that was held.
    """

    outcome: Outcome
    seen: str = ""
    evidence: tuple[Evidence, ...] = ()
    expected: str = ""
    settled_by: str = ""

    @property
    def why(self) -> str:
        """The finding in a sentence: what was seen, after what was expected."""
        return f"expected {self.expected}, but {self.seen}" if self.expected else self.seen


NOT_EXERCISED = Finding("not exercised")
HELD = Finding("held")


def not_exercised(seen: str) -> Finding:
    """The client had an occasion to break the rule, but what it did proves nothing; `seen` says why."""
    return Finding("not exercised", seen)


def inconclusive(seen: str, settled_by: str, *evidence: Evidence) -> Finding:
    """The journal cannot tell; `settled_by` completes the sentence "it would be settled by …"."""
    return Finding("inconclusive", seen, evidence, settled_by=settled_by)


def held(seen: str = "", *evidence: Evidence) -> Finding:
    return Finding("held", seen, evidence)


def broken(seen: str, *evidence: Evidence) -> Finding:
    """The client broke the rule; `evidence` has at least one exchange or connection that proves it."""
    assert evidence, "a broken rule needs evidence"
    return Finding("broken", seen, evidence)
