"""The simulation of storms is validated: real clients over sockets give the same figures as simulated ones.

Both draw from the same seed in the same order, and under fast_forward time is exact, so nothing is left for the seed to
explain: counts are equal, and times differ by no more than the microseconds in which that clock counts.
"""

from __future__ import annotations

from collections import Counter

import pytest

from crowd_clients import Crowd, peak
from notnow import FakeSMTP
from notnow.chaos import storm
from notnow.chaos.crowd.figures import Storm
from notnow.chaos.policies import policy

SERVER = {"outage": "60s", "capacity": "5/s", "queue": 20, "refusal_cost": "10%"}
OUTAGE = 60.0
CLIENTS, SPREAD = 200, 20.0
FULL_JITTER = "exponential(base=20s, cap=2m, jitter=full)"
IMPATIENT = "constant(20s) + attempts(5)"
MICROSECONDS = 1e-4  # seconds: some of them for each of a client's attempts


def over_sockets(text: str, timeout: float, seed: int) -> Crowd:
    with FakeSMTP("smtp/busy", **SERVER) as fake:
        fake.clock.advance(0)  # scenario time begins before the first client comes
        return Crowd(fake.host, fake.port, policy(text), timeout, seed).run(CLIENTS, SPREAD)


def simulated(text: str, timeout: float, seed: int) -> Storm:
    return storm("smtp/busy", policy=text, clients=CLIENTS, spread=SPREAD, timeout=timeout, seed=seed, **SERVER)


def per_second(times: list[float]) -> list[int]:
    counts = Counter(int(at) for at in times)
    return [counts[second] for second in range(max(counts) + 1)]


@pytest.mark.parametrize(("text", "timeout"), [(FULL_JITTER, 30.0), (IMPATIENT, 3.0)], ids=["full jitter", "impatient"])
def test_two_hundred_clients_are_as_simulated(fast_forward, text: str, timeout: float) -> None:
    wire, told = over_sockets(text, timeout, seed=7), simulated(text, timeout, seed=7)
    print(f"over sockets: {wire}\nsimulated:    {told}")
    assert (len(wire.through), len(wire.gave_up)) == (told.through, told.gave_up)
    assert len(wire.attempts) == told.attempts
    assert wire.refused == told.refused + told.busy
    assert wire.abandoned == told.abandoned
    assert peak(wire.attempts) == told.peak
    assert per_second(wire.attempts) == list(told.series.attempts)
    assert told.drained == pytest.approx(wire.settled - OUTAGE, abs=MICROSECONDS)
    assert told.goodput == pytest.approx(told.through / (max(wire.through) - OUTAGE), rel=MICROSECONDS)
