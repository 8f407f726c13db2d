"""All rules of conduct, and the verdict of each on a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from importlib import import_module

from msgspec import Struct
from msgspec.structs import replace

from notnow import protocols
from notnow.conduct.finding import Finding, Outcome, inconclusive, not_exercised
from notnow.conduct.reading.ledger import COUNT
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Rule
from notnow.errors import NotNowError, unknown
from notnow.garbage import uncollected
from notnow.units import plural


class UnknownRuleError(NotNowError, ValueError):
    """No rule of conduct has this id or matches this pattern."""


class Verdict(Struct, frozen=True):
    """A rule and its finding."""

    rule: Rule
    finding: Finding

    @property
    def outcome(self) -> Outcome:
        return self.finding.outcome


def of_protocol(protocol: str) -> tuple[Rule, ...]:
    """The rules of a protocol, in the order of its modules; none for a protocol that has no rules yet."""
    module = protocols.get(protocol).rules
    found: tuple[Rule, ...] = import_module(module).RULES if module is not None else ()
    return found


def all_rules() -> tuple[Rule, ...]:
    return tuple(rule for protocol in protocols.NAMES for rule in of_protocol(protocol))


def select(patterns: Iterable[str], among: Sequence[Rule] | None = None) -> list[Rule]:
    """The rules of these ids or patterns (`smtp.*`). Raises UnknownRuleError for one that matches nothing."""
    rules = all_rules() if among is None else among
    chosen: list[Rule] = []
    for pattern in patterns:
        found = [rule for rule in rules if fnmatchcase(rule.id, pattern)]
        if not rules:
            raise UnknownRuleError(f"{pattern!r} names no rule of conduct: there are none for this protocol yet")
        if not found:
            raise UnknownRuleError(str(unknown("rule of conduct", pattern, [rule.id for rule in rules])))
        chosen += [rule for rule in found if rule not in chosen]
    return chosen


@uncollected()
def judge(run: Run, rules: Iterable[Rule] | None = None, *, accepted: str = "") -> list[Verdict]:
    """The verdict of each rule on a run; by default, of all rules of the protocols that took part.

    `accepted`: the result of the run, if the user accepts it.
    """
    if rules is None:
        rules = [rule for p in dict.fromkeys(j.protocol for j in run.journals) for rule in of_protocol(p)]
    judged = [rule.for_proxy() for rule in rules] if run.proxy else rules
    found = [Verdict(rule, rule.judge(run.of(rule.protocol))) for rule in judged]
    return [settled(one, run, accepted=accepted) for one in found]


def _counted(finding: Finding) -> Finding:
    """An inconclusive finding without the advice to tell the number of items, where that is known."""
    left = finding.settled_by.removesuffix(COUNT).removesuffix(", or ")
    return replace(finding, settled_by=left or "a fault that acts only after the client has named the item")


def settled(verdict: Verdict, run: Run, *, accepted: str) -> Verdict:
    """The verdict after the steps that are common to all rules."""
    outcome = verdict.outcome
    if outcome == "inconclusive" and run.count is not None:
        verdict = Verdict(verdict.rule, _counted(verdict.finding))
    if accepted in verdict.rule.gives_way and outcome in ("broken", "inconclusive"):
        reported = "the client reported to its caller what did not come through, and that is accepted"
        why = reported if accepted == "reported" else f"the result is accepted: {accepted}"
        return Verdict(verdict.rule, not_exercised(why))
    if run.dropped and outcome == "held":
        lost = f"the journal dropped {plural(run.dropped, 'exchange')}, so it does not show the whole run"
        return Verdict(verdict.rule, inconclusive(lost, "a larger journal_limit, or a shorter run"))
    return verdict
