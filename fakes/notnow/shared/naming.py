"""A scenario as a text that every replica can load, and the names of services."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b

from notnow.language.loading import loads
from notnow.language.scenario import Scenario


def told_scenario(scenario: Scenario) -> str:
    """A scenario as a text that every replica can load."""
    # ASCII, so that the bytes that Redis compares are those of any replica
    return json.dumps({"name": scenario.name, "toml": scenario.text, "knobs": dict(scenario.knobs)}, sort_keys=True)


def loaded(told: str) -> Scenario:
    """The scenario that another replica told."""
    found = json.loads(told)
    return loads(found["toml"], name=found["name"], knobs=found["knobs"])


def digest(*told: str) -> str:
    """Names what scenarios do; scenarios of different names may do the same."""
    found = [(one["toml"], one["knobs"]) for one in map(json.loads, told)]
    return blake2b(json.dumps(found, sort_keys=True).encode(), digest_size=8).hexdigest()


def name_of(servers: Mapping[str, Scenario]) -> str:
    """The name of a service that its user has not named: replicas with the same servers find each other."""
    names = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(servers))[:60]
    return f"{names}-{digest(*(told_scenario(scenario) for scenario in servers.values()))}"
