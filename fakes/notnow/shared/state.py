"""How a service stands, as Redis tells it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from notnow.engine.questions import PhasePosition


class State(Struct, frozen=True):
    """A service as Redis has it. `play` counts the scenarios that it has played, `kicks` how often it cut off all clients."""

    run: str = ""  # names one life of the server, from its first replica to its last
    advanced: float = 0.0
    version: int = 0
    play: int = 1
    kicks: int = 0
    position: PhasePosition = PhasePosition()
    scenario: str = ""


class Beat(Struct, frozen=True):
    """A lease that was renewed, and the version of the news. Scenario time was 0 between these two times of
    `true_time.monotonic`, since Redis has read its clock between question and answer.
    """

    version: int
    earliest: float
    latest: float


def state_of(told: Mapping[str, str]) -> State:
    since = told["since"]
    return State(
        told["run"],
        float(told["advanced"]),
        int(told["version"]),
        int(told["play"]),
        int(told["kicks"]),
        PhasePosition(int(told["phase"]), int(told["lap"]), float(since) if since else None),
        told["scenario"],
    )
