"""The JSON Schema of a scenario file, for editors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from notnow import protocols
from notnow.language import facts
from notnow.language.grammar import Document
from notnow.language.tables import Key, Table

DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that editors and SchemaStore support well
ID = "https://json.schemastore.org/notnow.json"  # where SchemaStore will have it
_PLACEHOLDER = {"type": "string", "pattern": r"\{[^{}]+\}"}
_ABOUT = ("title", "description", "default")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors. A placeholder may stand for any value."""
    document, *others = map(_of_table, dict.fromkeys(_with_those_inside(Document)))
    tables = {table["title"]: table for table in others}
    rule = tables["Rule"]["properties"]
    moments = {"enum": sorted({moment for protocol in protocols.every() for moment in protocol.moments})}
    rule["on"]["anyOf"] = [moments, {"type": "array", "items": moments, "minItems": 1}]
    rule["where"] |= facts.json_schema()
    params = document["properties"].pop("params")
    filled: dict[str, Any] = _with_placeholders({**document, "definitions": tables})
    filled["properties"]["params"] = params
    return {"$schema": DRAFT, "$id": ID, **filled, "title": "notnow scenario"}


def _with_those_inside(table: type[Table]) -> Iterator[type[Table]]:
    """A table, and the tables that may stand in it."""
    yield table
    for one in table.KEYS.values():
        for inner in one.kind.tables:
            yield from _with_those_inside(inner)


def _of_table(table: type[Table]) -> dict[str, Any]:
    needed = [name for name, one in table.KEYS.items() if one.default is None]
    return {
        "title": table.__name__,
        "description": table.__doc__,
        "type": "object",
        "properties": {name: _of_key(name, one) for name, one in table.KEYS.items()},
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }


def _of_key(name: str, one: Key[Any]) -> dict[str, Any]:
    default = one.default() if one.default else None
    said = {} if default is None or isinstance(default, (Table, dict)) or default == [] else {"default": default}
    # Draft 7 ignores what stands beside a $ref.
    schema = {"allOf": [one.kind.schema]} if "$ref" in one.kind.schema else one.kind.schema
    return {"title": name.replace("_", " ").title(), "description": one.about, **said, **schema}


def _with_placeholders(node: Any) -> Any:
    """The same schema, in which a text with a placeholder may replace any single value."""
    if isinstance(node, list):
        return [_with_placeholders(item) for item in node]
    if not isinstance(node, dict):
        return node
    tables = "$ref" in node.get("items", ())
    if "enum" in node or "pattern" in node or (node.get("type") in ("boolean", "integer", "array") and not tables):
        about = {key: node[key] for key in _ABOUT if key in node}
        kept = {key: value for key, value in node.items() if key not in about and key != "items"}
        if "items" in node:
            kept["items"] = _with_placeholders(node["items"])
        return {**about, "anyOf": [kept, _PLACEHOLDER]}
    return {key: value if key in _ABOUT else _with_placeholders(value) for key, value in node.items()}
