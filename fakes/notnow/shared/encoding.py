"""Requests to a store, and its decisions, as plain data: what another process, or Redis, can read.

    encoded(request)  ->  EncodedRequest  ->  pack(…): bytes  ->  unpack_request(bytes)  ->  decoded(…)

A key of a tally becomes a JSON text, because facts may hold bytes that were no UTF-8 (lone surrogates), which JSON escapes.
A condition becomes its class's name and its fields: `Over(3)` is `("Over", (3,))`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct, structs

from notnow.engine.questions import (
    Candidate,
    Decision,
    DecisionRequest,
    Key,
    PhasePosition,
    Question,
    size_of,
    slates_of,
)
from notnow.language.condition import Condition, Variant
from notnow.language.conditions import CONDITIONS

EncodedField = float | bool | str | None | tuple[float | bool | str | None, ...]
EncodedCondition = tuple[str, tuple[EncodedField, ...]]
EncodedCandidate = tuple[int, bool, tuple[EncodedCondition, ...]]  # the rule, whether it refuses, its conditions

# Every class of condition, by its name.
CLASSES: Mapping[str, type[Condition]] = {
    one.__name__: one for one in (*CONDITIONS.values(), *Variant.__subclasses__())
}


class EncodedRequest(Struct, frozen=True, array_like=True, gc=False):
    """A `DecisionRequest`, field by field. Keys, and the facts, are JSON texts."""

    position: tuple[int, int, float | None]
    owners: tuple[str, ...]
    counts: list[str]
    candidates: list[tuple[EncodedCandidate, str]]
    slots: list[tuple[str, str]]
    windows: list[str]
    until: list[tuple[str, int]]
    limits: list[tuple[EncodedCandidate, str]]
    facts: str
    work: bool


def encoded(request: DecisionRequest, facts: bool = True) -> EncodedRequest:
    """A request as plain data; without its facts, which only explanations read, it is shorter."""
    position, question = request.position, request.question
    return EncodedRequest(
        (position.phase, position.lap, position.since),
        request.owners,
        [key_text(key) for key in question.counts],
        [(_candidate(candidate), key_text(key)) for candidate, key in question.candidates],
        [(key_text(key), owner) for key, owner in request.slots],
        [key_text(key) for key in question.windows],
        list(question.until),
        [(_candidate(candidate), key_text(key)) for candidate, key in question.limits],
        json.dumps(dict(question.facts)) if facts else "{}",
        question.work,
    )


def decoded(plain: EncodedRequest) -> DecisionRequest:
    """The request that was encoded."""
    facts = _frozen(json.loads(plain.facts))
    question = Question(
        slates_of(
            [key_of(text) for text in plain.counts],
            [(_decoded_candidate(one), key_of(text)) for one, text in plain.candidates],
        ),
        [(key_of(text), plain.owners.index(owner)) for text, owner in plain.slots],
        [key_of(text) for text in plain.windows],
        plain.until,
        [(_decoded_candidate(one), key_of(text)) for one, text in plain.limits],
        facts,
        plain.work,
        size_of(tuple(facts.values())),
    )
    return DecisionRequest(PhasePosition(*plain.position), plain.owners, question)


pack = msgspec.msgpack.Encoder().encode  # an EncodedRequest, a Decision, None, or other plain data
unpack_request = msgspec.msgpack.Decoder(EncodedRequest).decode
unpack_decision = msgspec.msgpack.Decoder(Decision | None).decode


@lru_cache(maxsize=4096)
def key_text(key: Key) -> str:
    """The key of a tally as a text; different keys have different texts."""
    return json.dumps(key, separators=(",", ":"))


@lru_cache(maxsize=4096)
def key_of(text: str) -> Key:
    """The key that `key_text` wrote."""
    key = _frozen(json.loads(text))
    assert isinstance(key, tuple), "a key is a tuple"
    return key


def _frozen(value: Any) -> Any:
    """What JSON has read, with tuples where it was given tuples."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return {key: _frozen(one) for key, one in value.items()} if isinstance(value, dict) else value


@lru_cache(maxsize=4096)  # a rule's candidate is made once, when the scenario is compiled
def _candidate(candidate: Candidate) -> EncodedCandidate:
    conditions = tuple((type(one).__name__, tuple(map(_field, structs.astuple(one)))) for one in candidate.conditions)
    return candidate.rule, candidate.refuses, conditions


def _field(value: EncodedField) -> EncodedField:
    """The field of a condition; a duration is a float of a class of its own."""
    return float(value) if isinstance(value, float) else value


@lru_cache(maxsize=4096)
def _decoded_candidate(plain: EncodedCandidate) -> Candidate:
    rule, refuses, conditions = plain
    return Candidate(rule, tuple(CLASSES[name](*fields) for name, fields in conditions), refuses)
