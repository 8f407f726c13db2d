"""The JSON Schema of a scenario file, for editors."""

from __future__ import annotations

from typing import Any

from notnow import protocols
from notnow.language import facts
from notnow.language.grammar import Document

_PLACEHOLDER = {"type": "string", "pattern": r"\{[^{}]+\}"}
_ABOUT = ("title", "description", "default")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors. A placeholder may stand for any value."""
    schema = Document.model_json_schema()
    on = schema["$defs"]["Rule"]["properties"]["on"]
    moments = {"enum": sorted({moment for protocol in protocols.every() for moment in protocol.moments})}
    on["anyOf"] = [moments, {"type": "array", "items": moments, "minItems": 1}]
    schema["$defs"]["Rule"]["properties"]["where"] |= facts.json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "notnow scenario"}
    described = {**schema, "properties": {k: v for k, v in schema["properties"].items() if k != "params"}}
    filled: dict[str, Any] = _with_placeholders(described)
    filled["properties"]["params"] = schema["properties"]["params"]
    return {**filled, **head}


def _with_placeholders(node: Any) -> Any:
    """The same schema, in which a text with a placeholder may replace any single value."""
    if isinstance(node, list):
        return [_with_placeholders(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    tables = "$ref" in node.get("items", ())
    if "enum" in node or "pattern" in node or (node.get("type") in ("boolean", "integer", "array") and not tables):
        about = {key: node[key] for key in _ABOUT if key in node}
        kept = {key: value for key, value in node.items() if key not in about and key != "items"}
        if "items" in node:
            kept["items"] = _with_placeholders(node["items"])
        return {**about, "anyOf": [kept, _PLACEHOLDER]}
    node = {key: value for key, value in node.items() if (key, value) != ("default", None)}
    return {key: value if key in _ABOUT else _with_placeholders(value) for key, value in node.items()}
