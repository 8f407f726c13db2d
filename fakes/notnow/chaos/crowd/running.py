"""`notnow.chaos.storm`, once its arguments are to be checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from notnow.chaos.crowd.figures import Storm, figures
from notnow.chaos.crowd.simulation import Simulation, Told
from notnow.chaos.crowd.terms import Terms, terms
from notnow.chaos.policies import Policy, policy
from notnow.language.scenario import Scenario


def simulated(terms: Terms, policy: Policy, told: Told | None = None) -> Storm:
    """The figures of a policy under these terms."""
    return figures(Simulation(terms, policy, told).run())


def storm(scenario: str | Path | Scenario, given: Any, **of_terms: Any) -> Storm:
    """The figures of what a user gave. Raises ScenarioError."""
    return simulated(terms(scenario, **of_terms), policy(given))
