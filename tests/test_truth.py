"""The judge is judged: generated clients whose truth is known, and the verdicts on them.

`python -m tests.truth` plays thousands more, and counts.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.truth.properties import OPEN, Judged, wrong

PROTOCOLS = ("smtp", "ftp", "http")
CLIENTS = 100  # of each protocol


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_verdict_on_a_client_agrees_with_the_truth(protocol: str) -> None:
    """No unsound pass, no false alarm, nothing held without an occasion, and the same verdict under other names."""
    played = import_module(f"tests.truth.{protocol}")

    @seed(1)
    @settings(
        max_examples=CLIENTS,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(played.programs, played.scenarios)
    def agrees(program: Any, scenario: str) -> None:
        assert [said for said in wrong(Judged(played, program, scenario), scenario) if said[0] not in OPEN] == []

    agrees()
