"""A live connection as the engine knows it, and an occasion on which the engine decides about it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field

from notnow.engine.events import Facts
from notnow.engine.matching import with_fields
from notnow.engine.plans import CompiledPhase, CompiledRule, Plan
from notnow.language.condition import Quota
from notnow.protocols.moment import CONNECTION_FACTS

NONE: Mapping[Any, Any] = MappingProxyType({})  # most connections never need more


class FiredRule(Struct, frozen=True, gc=False):
    """A rule that fired at a moment, and the quota that its answer may report.

    `at` is when that was decided; the fault may come later. The quota is the rule's own if it has one, else that of the
    first rule with a limit at this moment; `limit` is the rule that it belongs to.
    """

    rule: CompiledRule
    moment: str
    at: float
    quota: Quota | None = None
    limit: CompiledRule | None = None


class Connection(Struct, eq=False):
    """What the engine remembers of a live connection. Times are in seconds of scenario time."""

    id: str
    number: int  # counts the connections of the scenario, from 1
    opened_at: float
    active_at: float  # the last byte of the client, or the end of our last answer
    command_at: float  # the last command, or the end of our answer to it
    transfer_at: float  # the last time that something was in progress
    facts: dict[str, object]
    closing: bool = False  # the fake has decided to close: it says nothing more here
    released: bool = False  # one of the two is leaving: the connection holds no slots
    passed: frozenset[str] = frozenset()  # moments that let it through
    in_progress: dict[str, tuple[str, Facts]] = field(default_factory=dict)  # slot owner -> the moment that began it
    deferred: Mapping[int, FiredRule] = NONE  # stream -> fault that waits for its byte
    has_timer: bool = False
    timed_out_at: Mapping[int, float] = NONE  # idle timeout of the phase -> when it last expired
    unfinished: int = 0  # idle scripts that are not carried out yet
    unfinished_since: float = 0.0
    draws: Mapping[str, int] = NONE  # chance key -> number of draws so far

    def let_through(self, moment: str, stream: int, facts: Facts, phase: CompiledPhase, now: float) -> None:
        """A moment has let it through. What begins there may last."""
        if moment not in self.passed:
            self.passed = _with(self.passed, moment)
        kind = phase.moments.get(moment)
        if kind is not None and kind.lasts:
            self.in_progress[slot_owner(self.id, moment, stream)] = moment, facts
            self.transfer_at = max(self.transfer_at, now)

    def undefer(self, stream: int) -> None:
        """The fault that waited for a byte of this stream waits no longer."""
        if stream in self.deferred:
            self.deferred = {other: fired for other, fired in self.deferred.items() if other != stream}

    def heard(self, now: float) -> None:
        """Bytes of the client have come."""
        self.active_at = max(self.active_at, now)
        if self.in_progress:
            self.transfer_at = self.active_at

    def answered(self, at: float) -> None:
        """Our answer to a command is out at this time."""
        self.active_at, self.command_at = max(self.active_at, at), max(self.command_at, at)

    def is_busy(self, now: float) -> bool:
        """True if idle scripts from before `now` are not carried out yet: another one would only queue behind them."""
        return self.unfinished > 0 and self.unfinished_since != now

    def known(self, names: tuple[str, ...], fields: tuple[str, ...], asked: Facts) -> tuple[object, ...]:
        """The facts of these names: of a request that has facts, or else of what is in progress; and of the connection.

        `fields` are those that are header fields.
        """
        found: Facts = {**self.facts, **asked} if asked else self._all_facts()
        if fields:
            found = with_fields(found, fields)
        if len(names) == 1:  # nearly always
            return (found.get(names[0]),)
        return tuple([found.get(name) for name in names])

    def loses(self, facts: Facts) -> set[str]:
        """The facts of the connection that no longer hold once these are known."""
        gone = (name for name, value in facts.items() if value is None and name in CONNECTION_FACTS)
        return {name for name in gone if self.facts.get(name) is not None}

    def _all_facts(self) -> Facts:
        if not self.in_progress:
            return self.facts
        known = dict(self.facts)
        for _, facts in self.in_progress.values():
            known |= facts
        return known


class Occasion(Struct, frozen=True, gc=False):
    """One moment of one connection, in the phase that plays. `plan` is None if no rule or count looks at it."""

    connection: Connection
    moment: str
    facts: Facts
    stream: int
    at: float
    phase: CompiledPhase
    plan: Plan | None


def slot_owner(conn: str, moment: str, stream: int) -> str:
    """What began at this moment on a connection, as the owner of a slot."""
    return f"{conn}/{moment}/{stream}"


@lru_cache(maxsize=1024)
def _with(passed: frozenset[str], moment: str) -> frozenset[str]:
    """One more moment: connections that have come equally far share one set."""
    return passed | {moment}
