"""From an occasion to the request that the store decides, and from its decision to the rule that fired.

`where` and chance are settled here; the store counts and tests the conditions.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

from msgspec import structs

from notnow.engine.connection import Connection, FiredRule, Occasion, slot_owner
from notnow.engine.events import Facts
from notnow.engine.plans import CompiledRule, Plan, RuleGroup, key_for
from notnow.engine.questions import (
    COUNTED,
    NOBODY,
    Candidate,
    Decision,
    DecisionRequest,
    Key,
    PhasePosition,
    Question,
    Slate,
    size_of,
    slate_of,
    slates_of,
)
from notnow.engine.slots import admissions
from notnow.language.condition import Owners

Drawn = Callable[[CompiledRule], bool]
REMEMBERED = 1024  # questions of a plan
LONGEST = 2048  # bytes of the facts of one that is remembered


def decision_request(occasion: Occasion, plan: Plan, position: PhasePosition, seed: int) -> DecisionRequest:
    connection = occasion.connection
    known = connection.known(plan.facts, plan.fields, occasion.facts) if plan.facts else ()
    question = None if plan.anew else plan.questions.get(known)
    if question is None:
        question = _question(plan, known, connection, seed)
    owners: Owners = (connection.id,)
    if plan.lasting:
        owners = (connection.id, slot_owner(connection.id, occasion.moment, occasion.stream))
    if connection.released:  # it is leaving: it is let in nowhere
        question = structs.replace(question, slots=(), windows=())
    return DecisionRequest(position, owners, question)


def _question(plan: Plan, known: tuple[object, ...], connection: Connection, seed: int) -> Question:
    """The question about facts of these values. The same facts ask it again, unless each event makes its own.

    Long facts do not: clients could fill the memory with them.
    """
    if plan.anew:
        return _made(plan, known, lambda rule: rule.chance is None or _draw(rule, connection, seed) < rule.chance)
    question = _made(plan, known)
    if question.size <= LONGEST:
        if len(plan.questions) >= REMEMBERED:
            plan.questions.clear()
        plan.questions[known] = question
    return question


def settled_rule(plan: Plan) -> tuple[CompiledRule, Question] | None:
    """The rule that fires at each event of a plan, with the same script, and the question: no fact and no count can change that."""
    if plan.facts or plan.anew:
        return None
    question = _made(plan, ())
    if question.first is None or not question.is_settled:
        return None
    rule = plan.rules[question.first.rule]
    return None if rule.has_placeholders or rule.deferred else (rule, question)


def _made(plan: Plan, values: tuple[object, ...], drawn: Drawn = lambda _: True) -> Question:
    """The question about facts of these values. `drawn`: true for the rules that chance lets through."""
    known = dict(zip(plan.facts, values, strict=True))
    slates: list[tuple[Key, Slate]] = []
    limits: list[tuple[Candidate, Key]] = []
    for group in _possible(plan, known) if plan.filters else plan.groups:
        for name, test in group.tests:
            if not test(known[name]):
                break
        else:
            key = key_for(group, known)
            slates.append((key, _drawn(group, drawn) if group.by_chance else group.slate))
            if plan.tells_quota:
                limits += [(rule.candidate, key) for rule in group.rules if rule.candidate.limits]
    slots, windows = admissions(plan, known) if plan.admissions else ((), ())
    made = Question(slates, slots, windows, plan.until, limits, known, plan.work, size_of(values))
    return made if plan.in_order else _in_order(made)


def _in_order(question: Question) -> Question:
    """The rules of all groups in the order of the file."""
    found = question.candidates
    candidates = sorted(found, key=lambda pair: pair[0].rule)
    if candidates == found:
        return question
    return structs.replace(question, slates=slates_of(question.counts, candidates))


def _possible(plan: Plan, known: Facts) -> tuple[RuleGroup, ...]:
    """The groups that no filter rejects."""
    groups = plan.groups
    for filter_ in plan.filters:
        if not filter_.rejects(known.get(filter_.fact)):
            groups += filter_.groups
    return groups


def _drawn(group: RuleGroup, drawn: Drawn) -> Slate:
    """The candidates of a group that chance lets through."""
    left = [rule.candidate for rule in group.rules if drawn(rule)]
    if len(left) == len(group.rules):
        return group.slate
    return slate_of(left, group.slate.counts) if left else COUNTED if group.slate.counts else NOBODY


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
    if not (limits := request.question.limits):
        return FiredRule(rule, occasion.moment, occasion.at)
    quotas = {limit.rule: quota for (limit, _), quota in zip(limits, decision.quotas, strict=True)}
    limit = rule.index if rule.index in quotas else min(quotas)
    return FiredRule(rule, occasion.moment, occasion.at, quotas[limit], plan.rules[limit])
