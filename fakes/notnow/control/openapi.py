"""The OpenAPI document, made of the table of calls and of the models."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from notnow._version import __version__
from notnow.control.calls import CALLS, MEDIA_TYPES, Call
from notnow.control.models import ProblemDetails
from notnow.control.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from pydantic import BaseModel

ALWAYS = (401, 403, 503)  # what any call may be answered: by the guard, or while notnow stops
WITH_BODY = (400, 408, 413, 415, 422)
SCHEMAS: dict[str, Any] = {
    "state": {"schema": {"type": "object", "additionalProperties": True}},
    "events": {},
}  # OpenAPI 3.1 has no schema of events
PATHS: dict[str, tuple[str, str]] = {
    "name": ("string", "The name of a server; with /v1/scenarios, of a scenario."),
    "path": ("string", "The path of a file."),
    "index": ("integer", "The index of an exchange."),
}


@cache
def document() -> dict[str, Any]:
    """The whole document (OpenAPI 3.1)."""
    models = _models()
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for call in CALLS:
        path = call.path.replace(":path}", "}")
        paths.setdefault(path, {})[call.method.lower()] = _operation(call)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "notnow",
            "version": __version__,
            "summary": "Start, change, watch and judge fakes that say 421.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _models() -> list[type[BaseModel]]:
    found = [model for call in CALLS for model in (call.body, call.answer) if model is not None]
    return list(dict.fromkeys([*found, ProblemDetails]))


def _operation(call: Call) -> dict[str, Any]:
    summary, rest = call.about
    operation: dict[str, Any] = {
        "operationId": call.handler.__name__,
        "tags": [call.path.split("/")[2]],  # generators make a module of each
        "summary": summary,
        "parameters": [*_path_parameters(call), *_query_parameters(call)],
        "responses": _responses(call),
    }
    if rest:
        operation["description"] = rest
    if call.body is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{call.body.__name__}"}}}
        operation["requestBody"] = {"content": content, "required": bool(call.body.model_json_schema().get("required"))}
    return operation


def _path_parameters(call: Call) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATHS[name][1],
            "schema": {"type": PATHS[name][0]},
        }
        for name in call.parameters
    ]


def _query_parameters(call: Call) -> list[dict[str, Any]]:
    if "asked" in call.takes:
        return [
            {"name": "timeout", "in": "query", "schema": {"type": "string"}, "description": 'Real time, such as "5s".'},
            {"name": "phase", "in": "query", "schema": {"type": "string"}, "description": "The name of a phase."},
            {
                "name": "moments",
                "in": "query",
                "style": "form",
                "explode": True,
                "description": "Moments of the protocol, such as connect=3.",
                "schema": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
            },
        ]
    if call.query is None:
        return []
    schema = call.query.model_json_schema(ref_template="#/components/schemas/{model}")
    found = []
    for name, about in schema["properties"].items():
        parameter = {"name": name, "in": "query", "schema": {k: v for k, v in about.items() if k != "description"}}
        if "description" in about:
            parameter["description"] = about["description"]
        if about.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    return found


def _responses(call: Call) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(call.status).phrase}
    content: dict[str, Any] = {}
    if call.answer is not None:
        content["application/json"] = {"schema": {"$ref": f"#/components/schemas/{call.answer.__name__}"}}
    for kind in call.media:
        content[MEDIA_TYPES[kind].partition(";")[0]] = SCHEMAS.get(kind, {"schema": {"type": "string"}})
    if content:
        good["content"] = content
    codes = {*ALWAYS, *call.errors, *(WITH_BODY if call.method != "GET" else ()), 422}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    refused = {str(code): {"description": HTTPStatus(code).phrase, "content": problem} for code in sorted(codes)}
    return {str(call.status): good, **refused}
