"""A sample of generated clients over real sockets: the verdict on each is the one of the wire without sockets.

`python -m tests.truth --sockets --clients 500` plays more.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from tests.truth.over_sockets import can_play, differences

CLIENTS = 20  # of each protocol


@pytest.mark.parametrize("protocol", ["smtp", "ftp", "http"])
def test_the_same_verdict_over_real_sockets(protocol: str) -> None:
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
        assume(can_play(program, scenario))
        assert list(differences(protocol, program, scenario)) == []

    agrees()
