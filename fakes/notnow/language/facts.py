"""Reads the values that a `where` asks for, by the facts of each protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from notnow import errors, protocols
from notnow.errors import Problem
from notnow.language import limits
from notnow.protocols.fact import Choice, Fact, Glob, Kind, Size, ValueNeverHeldError

ABSENT, PRESENT = "none", "*"


def kind_at(protocol: str, name: str, moment: str) -> Fact:
    """A fact at one moment: `command` has only the verbs that come there."""
    record = protocols.get(protocol)
    fact, at = record.facts[name], record.moments[moment]
    return replace(fact, kind=Choice(at.verbs), always=not at.unasked) if name == "command" and at.verbs else fact


def read(protocol: str, name: str, moments: Iterable[str], wanted: Any) -> object:
    """What `notnow.engine.matching` compares a fact with: a size as its bytes, `">=10MB"` as a `Comparison`.

    Raises ValueNeverHeldError for a value that the fact has at none of these moments, and for one that takes too long to compile.
    """
    if isinstance(wanted, str) and len(wanted) > limits.PATTERN:
        raise ValueNeverHeldError(f"a text of at most {limits.PATTERN:,} characters; this one has {len(wanted):,}")
    never = []
    for fact in (kind_at(protocol, name, moment) for moment in moments):
        if wanted == PRESENT or (wanted == ABSENT and not fact.always):
            return wanted
        try:
            return fact.kind.read(wanted)
        except ValueNeverHeldError as error:
            never.append(ValueNeverHeldError(_allowed(error, fact, wanted), error.nearest))
    raise never[0]


def _allowed(error: ValueNeverHeldError, fact: Fact, wanted: Any) -> str:
    if wanted == ABSENT:
        return f"{fact.allowed}; it is never absent here"
    return str(error) if str(error) != fact.kind.allowed else fact.allowed


def size(where: Mapping[str, Any]) -> int:
    """What the texts of a `where` count towards `limits.PATTERNS`, those in lists and of headers included."""
    values = [item for value in where.values() for item in (value if isinstance(value, list) else [value])]
    texts = [value for value in values if isinstance(value, str)]
    tables = [value for value in values if isinstance(value, Mapping)]
    # One that is too long by itself is told so by `read`.
    return sum(min(len(text), limits.PATTERN) + limits.PER_PATTERN for text in texts) + sum(map(size, tables))


def read_where(protocol: str, moments: Iterable[str], where: Mapping[str, Any]) -> dict[str, Any]:
    """A `where` that was checked, as `notnow.engine.matching` takes it."""
    moments = tuple(moments)

    def values(name: str, wanted: Any) -> Any:
        if name == "header" and isinstance(wanted, Mapping):
            return wanted
        many = isinstance(wanted, list)
        found = [read(protocol, name, moments, item) for item in (wanted if many else [wanted])]
        return found if many else found[0]

    return {name: values(name, wanted) for name, wanted in where.items()}


def doubt(protocol: str, name: str, wanted: Any) -> str | None:
    """Why a legal value probably does not have the effect that its author wants; None if nothing is suspicious."""
    kind = protocols.get(protocol).facts[name].kind
    return kind.doubt(wanted) if isinstance(kind, Glob) and isinstance(wanted, str) else None


def unknown(protocol: str, name: str) -> Problem:
    """The problem of an unknown fact. It offers our name for a fact that other tools call so."""
    known = protocols.get(protocol).facts
    problem = errors.unknown("fact", name, sorted(known))
    meant = _SYNONYMS.get(name.lower())
    return problem._replace(nearest=meant) if meant in known else problem


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a `where`: the facts of all protocols, each with its types."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for record in protocols.every():
        for name, fact in record.facts.items():
            kinds.setdefault(name, []).extend(item for item in _schemas(fact.kind) if item not in kinds.get(name, ()))
    properties = {name: _one_or_more(items) for name, items in kinds.items()}
    properties["header"] = {"type": "object", "minProperties": 1, "additionalProperties": properties["header"]}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _one_or_more(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"anyOf": [*items, {"type": "array", "items": {"anyOf": items}, "minItems": 1}]}


def _schemas(kind: Kind) -> list[dict[str, Any]]:
    if isinstance(kind, Size):
        pattern = r"^(none|\*|([<>]=?|!?=)?\s*[0-9][0-9.]*(B|KB|MB|GB)?)$"
        return [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": pattern}]
    if isinstance(kind, Choice) and any(isinstance(value, bool) for value in kind.values):
        words = [value for value in kind.values if isinstance(value, str)]
        bools = {"enum": [value for value in kind.values if isinstance(value, bool)]}
        return [bools, {"type": "string"}] if words else [bools, {"enum": [PRESENT]}]
    return [{"type": "string"}]


_SYNONYMS = {
    "host": "authority", "hostname": "authority", "domain": "authority", "url": "path", "uri": "path",
    "target": "path", "params": "query", "querystring": "query", "search": "query", "verb": "command",
    "from": "sender", "mail_from": "sender", "to": "recipient", "rcpt": "recipient", "rcpt_to": "recipient",
    "ip": "client", "address": "client", "peer": "client", "remote": "client", "server_name": "sni",
    "login": "user", "username": "user", "length": "size", "bytes": "size", "content_length": "size",
    "headers": "header", "subject": "header", "ssl": "tls", "secure": "tls", "file": "path", "filename": "path",
    "name": "path", "directory": "path", "passive": "mode", "active": "mode",
}  # fmt: skip
