"""The calls of the control API about the catalogue, and about the text of a scenario."""

from __future__ import annotations

from notnow import words
from notnow.control.calls import call
from notnow.control.fleet import Fleet
from notnow.control.models import Check, Checked, Knob, ScenarioDetails, ScenarioList, ScenariosQuery, ScenarioSummary
from notnow.control.problems import RefusedError, as_dict
from notnow.errors import ScenarioError
from notnow.language import catalogue
from notnow.language.loading import loads


@call("GET", "/v1/scenarios")
def list_scenarios(fleet: Fleet, query: ScenariosQuery) -> ScenarioList:
    """The catalogue: scenarios that match a pattern such as smtp/*, with their knobs and defaults."""
    names = catalogue.names(query.pattern, fleet.search_paths)
    found = [catalogue.scenario(name, search_paths=fleet.search_paths) for name in names]
    return ScenarioList(scenarios=[ScenarioSummary(**catalogue.Entry.of(scenario).as_dict()) for scenario in found])


@call("GET", "/v1/scenarios/{name:path}", errors=(404, 422))
def show_scenario(fleet: Fleet, name: str) -> ScenarioDetails:
    """A scenario explained: its phases and rules in words, its knobs, what a good client does, its text."""
    if name.endswith(".toml") or not all(part.replace("-", "").replace("_", "").isalnum() for part in name.split("/")):
        raise RefusedError(404, f"{name!r} is no name of the catalogue; see GET /v1/scenarios")
    try:
        scenario = catalogue.scenario(name, search_paths=fleet.search_paths)
    except ScenarioError as error:
        raise RefusedError(404, str(error), error.problems) from None
    return ScenarioDetails(
        **catalogue.Entry.of(scenario).as_dict(),
        knobs=[
            Knob(name=knob.name, default=scenario.knobs[knob.name], kind=knob.kind, comment=knob.comment)
            for knob in words.knobs(scenario)
        ],
        phases=[
            {
                "name": phase.name,
                "ends": phase.ends,
                "rules": [{"when": r.when, "does": r.does, "lines": list(r.lines)} for r in phase.rules],
            }
            for phase in words.phases(scenario)
        ],
        expects=list(words.expectations(scenario)),
        sources=list(scenario.sources),
        toml=scenario.text,
    )


@call("POST", "/v1/scenarios/check")
def check_scenario(fleet: Fleet, body: Check) -> Checked:  # noqa: ARG001
    """Check the text of a scenario file, as `notnow check` does: every mistake, with its line and what is allowed."""
    try:
        scenario = loads(body.toml, knobs=body.knobs)
    except ScenarioError as error:
        return Checked(valid=False, problems=[as_dict(p) for p in error.problems], warnings=[])
    return Checked(valid=True, problems=[], warnings=[as_dict(p) for p in scenario.warnings])
