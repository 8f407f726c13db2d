"""The OpenAPI document: whole, in step with the table of calls, and such that generators can read it."""

from __future__ import annotations

from typing import Any

import pytest

from notnow.control.app import MODULES  # importing them has filled the table
from notnow.control.calls import CALLS
from notnow.control.openapi import document


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    if isinstance(node, list):
        return set().union(*map(references, node))
    return set()


def operations() -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for path in document()["paths"].values() for one in path.values()}


def test_every_call_is_in_it() -> None:
    assert {call.handler.__module__ for call in CALLS} == {module.__name__ for module in MODULES}
    assert set(operations()) == {call.handler.__name__ for call in CALLS}


def test_every_reference_leads_somewhere() -> None:
    known = {f"#/components/schemas/{name}" for name in document()["components"]["schemas"]}
    assert references(document()) == known  # and no schema stands there for nothing


@pytest.mark.parametrize("name", sorted(operations()))
def test_every_call_says_what_it_does_and_what_it_may_answer(name: str) -> None:
    operation = operations()[name]
    assert operation["summary"].endswith((".", ":")) or "." in operation["summary"]
    assert {"401", "403", "422"} <= operation["responses"].keys()
    assert any(code.startswith("2") for code in operation["responses"])
    assert all("description" in parameter for parameter in operation["parameters"] if parameter["in"] == "path")


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("start_server", "201 400 401 403 408 409 413 415 422 503"),
        ("get_server", "200 401 403 404 422 503"),
        ("stop_server", "204 400 401 403 404 408 413 415 422 503"),
        ("wait_for", "200 401 403 404 408 422 503"),
        ("read_file", "200 401 403 404 413 422 503"),
    ],
)
def test_every_status_of_a_call_is_in_it(name: str, codes: str) -> None:
    assert sorted(operations()[name]["responses"]) == codes.split()
