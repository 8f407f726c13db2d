"""The house: no circle among modules, and no import that runs back up. Imports for types alone count as well."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest
from grimp import Layer

# From the top down. A folder may import what stands below it, and never what stands above or, where they are independent, beside it.
FLOORS = {
    "notnow": [
        Layer("cli", "fast_forward", "pytest_plugin", "pytest_fixtures", "pytest_properties", "pytest_run", "pytest_markers", "pytest_report",
            "pytest_sweep", "pytest_workers",
            independent=False),
        Layer("chaos"),
        Layer("control"),
        Layer("words"),
        Layer("time_travel"),
        Layer("servers"),
        Layer("shared"),
        Layer("conduct", "engine", independent=True),
        Layer("language"),
        Layer("journal", "protocols", independent=False),
        Layer(
            "_version", "bounds", "clock", "environment", "errors", "garbage", "hosts", "http_words", "look", "page", "terminal",
            "true_time",
            "units", independent=False,
        ),
    ],
    "notnow.servers": [Layer("listening"), Layer("workers"), Layer("smtp", "ftp", "http", independent=True), Layer("base")],
    "notnow.control": [
        Layer("server"),
        Layer("app"),
        Layer("page"),
        Layer("copies", "openapi", "guard", "api", "scenarios", "events", "timelines", "verdicts", "waiting", "underway", independent=True),
        Layer("problems"),
        Layer("remote"),
        Layer("remote_files"),
        Layer("calls", "models", "client", independent=True),
        Layer("fleet"),
        Layer("feed"),
    ],
    "notnow.conduct": [
        Layer("reporting"),
        Layer("assertions", "expected", "messages", "files", "requests", independent=False),
        Layer("expectations"),
        Layer("pictures"),
        Layer("baseline"),
        Layer("judging"),
        Layer("rules"),
        Layer("reading"),
        Layer("finding", "arguments", independent=False),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("notnow", cache_dir=None)


def test_no_circle_among_modules(graph: grimp.ImportGraph) -> None:
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail("a circle: " + " imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("container", FLOORS)
def test_no_import_runs_back_up(graph: grimp.ImportGraph, container: str) -> None:
    illegal = graph.find_illegal_dependencies_for_layers(FLOORS[container], containers={container})
    assert [f"{route.heads} -> {route.tails}" for found in illegal for route in found.routes] == []


def test_every_folder_has_its_floor(graph: grimp.ImportGraph) -> None:
    for container, floors in FLOORS.items():
        known = {f"{container}.{module}" for floor in floors for module in floor.module_tails}
        assert graph.find_children(container) - {"notnow.__main__"} == known


def test_every_folder_says_what_is_in_it(graph: grimp.ImportGraph) -> None:
    folders = {module for module in graph.modules if graph.find_children(module)}
    silent = {name for name in folders if not (__import__(name, fromlist=["__doc__"]).__doc__ or "").strip()}
    assert silent == set()
