"""From an occasion to the request that the store decides, and from its decision to the rule that fired.

`where` and chance are settled here; the store counts and tests the conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain

from notnow.engine.connection import Connection, FiredRule, Occasion
from notnow.engine.events import NOTHING, Facts
from notnow.engine.plans import CompiledRule, Plan, RuleGroup, key_for
from notnow.engine.slots import admission
from notnow.engine.store import Candidate, Decision, DecisionRequest, Key, PhasePosition, Slot
from notnow.language.condition import Owners


def decision_request(occasion: Occasion, plan: Plan, position: PhasePosition, seed: int) -> DecisionRequest:
    connection = occasion.connection
    if (same := plan.same) is not None:
        counted = (same.key,) if same.counts else ()
        return DecisionRequest(
            position, (connection.id,), counted, same.candidates, (), (), plan.until, (), NOTHING, plan.work
        )
    known = connection.known(plan.facts, occasion.facts) if plan.facts else NOTHING
    counts: list[Key] = []
    found: list[Sequence[tuple[Candidate, Key]]] = []
    limits: list[tuple[Candidate, Key]] = []
    groups = _possible(plan, known) if plan.filters else plan.groups
    for group in groups:
        for name, test in group.tests:
            if not test(known.get(name)):
                break
        else:
            key = key_for(group, known) if group.per else group.key
            if group.counts:
                counts.append(key)
            found.append(group.candidates or _drawn(group, key, connection, seed))
            if plan.tells_quota:
                limits += [(rule.candidate, key) for rule in group.rules if rule.candidate.limits]
    candidates = found[0] if len(found) == 1 else list(chain.from_iterable(found))
    if not plan.in_order:
        candidates = sorted(candidates, key=lambda pair: pair[0].rule)
    owners: Owners = (connection.id,)
    slots: Sequence[Slot] = ()
    windows: Sequence[Key] = ()
    if plan.admissions:
        owners, slots, windows = admission(occasion, plan, known)
    return DecisionRequest(
        position, owners, counts or (), candidates, slots, windows, plan.until, limits or (), known, plan.work
    )


def _possible(plan: Plan, known: Facts) -> tuple[RuleGroup, ...]:
    """The groups that no filter rejects."""
    groups = plan.groups
    for filter_ in plan.filters:
        if not filter_.rejects(known.get(filter_.fact)):
            groups += filter_.groups
    return groups


def _drawn(group: RuleGroup, key: Key, connection: Connection, seed: int) -> list[tuple[Candidate, Key]]:
    """The candidates of a group that chance lets through."""
    return [
        (rule.candidate, key)
        for rule in group.rules
        if rule.chance is None or _draw(rule, connection, seed) < rule.chance
    ]


def _draw(rule: CompiledRule, connection: Connection, seed: int) -> float:
    """A number in [0, 1) from the seed, the rule, the connection, and the number of its draws there; nothing else."""
    drawn = connection.draws.get(rule.chance_key, 0) + 1
    connection.draws = {**connection.draws, rule.chance_key: drawn}
    at = f"{seed}/{rule.chance_key}/{connection.number}/{drawn}"
    return int.from_bytes(blake2b(at.encode(), digest_size=7).digest(), "big") / 2.0**56


def fired_rule(occasion: Occasion, plan: Plan, request: DecisionRequest, decision: Decision) -> FiredRule | None:
    """The rule that the decision names, with the quota that its answer may report."""
    if decision.rule is None:
        return None
    rule = plan.rules[decision.rule]
    if not request.limits:
        return FiredRule(rule, occasion.moment, occasion.at)
    quotas = {limit.rule: quota for (limit, _), quota in zip(request.limits, decision.quotas, strict=True)}
    limit = rule.index if rule.index in quotas else min(quotas)
    return FiredRule(rule, occasion.moment, occasion.at, quotas[limit], plan.rules[limit])
