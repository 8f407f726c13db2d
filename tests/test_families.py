"""Families of back-off, tried on clients whose family is known: libraries, and published formulas."""

from __future__ import annotations

import random
import time

import pytest

from backoff_table import CLIENTS, Client, accepted
from notnow.conduct.reading.waits import backoff, families

HONEST = [client for client in CLIENTS if client.family != "immediate"]
BY_NAME = {client.name: client for client in CLIENTS}


@pytest.mark.parametrize("client", HONEST, ids=lambda client: client.name)
@pytest.mark.parametrize("count", [3, 4, 6, 8, 12])
def test_an_honest_client_is_accepted(client: Client, count: int) -> None:
    """In 99 % of runs; of 20 runs with these seeds, in all but one. `python -m tests.backoff_table` makes more of them."""
    if count >= client.least:
        assert accepted(client, client.family, count, 20) >= 19 / 20


@pytest.mark.parametrize(
    ("name", "claim", "most"),
    [
        ("linear ±10 %", "exponential", 0.05),
        ("linear ±10 %", "constant", 0),
        ("linear ±10 %", "immediate", 0),
        ("tenacity wait_incrementing(10, 10)", "exponential", 0),
        ("tenacity wait_exponential", "linear", 0),
        ("doubling ±10 %", "linear", 0),
        ("gRPC", "linear", 0.1),
        ("gRPC", "constant", 0),
        ("tenacity wait_fixed(5)", "exponential", 0),
        ("tenacity wait_fixed(5)", "linear", 0),
        ("constant ±10 %", "exponential", 0.1),
        ("stamina", "constant", 0),
        ("at once", "constant", 0),
        ("at once", "exponential", 0),
    ],
)
def test_another_family_is_contradicted_by_8_gaps(name: str, claim: families.Family, most: float) -> None:
    assert accepted(BY_NAME[name], claim, 8, 60) <= most


def test_a_linear_client_is_called_linear() -> None:
    called = [backoff.shape(BY_NAME["linear ±10 %"].gaps(8, seed)) for seed in range(100)]
    assert called.count("linear") >= 97


@pytest.mark.parametrize("client", HONEST, ids=lambda client: client.name)
def test_no_honest_client_is_irregular(client: Client) -> None:
    called = [backoff.shape(client.gaps(count, seed)) for count in (4, 12) for seed in range(20)]
    assert called.count("irregular") <= 1


def test_the_claim_is_contradicted_in_one_of_a_hundred_runs_at_most() -> None:
    """Whatever the parameters: drawn anew for each run, from ranges that clients have."""
    wrong = 0
    for seed in range(600):
        chance = random.Random(seed)
        base, factor = 10 ** chance.uniform(-0.5, 2), chance.uniform(1.3, 3)
        low, cap, count = chance.choice((0.0, 0.5, 0.8, 1.0)), base * 10 ** chance.uniform(1, 3), chance.randint(3, 12)
        waits = [min(cap, base * factor**n) * chance.uniform(low, 1) + chance.uniform(0, 0.005) for n in range(count)]
        wrong += backoff.contradiction(waits, "exponential") is not None
    assert wrong <= 6


def test_twelve_gaps_take_a_few_milliseconds() -> None:
    gaps = [BY_NAME["AWS full jitter"].gaps(12, seed) for seed in range(20)]
    start = time.process_time()
    for one in gaps:
        families.fits.__wrapped__(tuple(one))
    assert (time.process_time() - start) / len(gaps) < 0.05
