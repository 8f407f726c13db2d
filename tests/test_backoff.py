"""The shape of a back-off."""

from __future__ import annotations

import random

import pytest

from notnow.conduct.backoff import shape


@pytest.mark.parametrize(
    ("gaps", "name"),
    [
        ([60, 120, 240, 480], "exponential"),
        ([1, 3, 9], "exponential"),
        ([60, 120, 180, 240], "linear"),
        ([1, 2, 3], "linear"),
        ([1, 2, 4], "exponential"),
        ([5, 5, 5], "constant"),
        ([300, 310, 295, 305], "constant"),
        ([0.001, 0.0, 0.002], "immediate"),
        ([1, 2, 4, 8, 8, 8], "exponential"),
        ([1, 2, 4, 4, 4], "exponential"),
        ([10, 20, 30, 40, 40, 40], "linear"),
        ([1, 4, 4, 4], "irregular"),
        ([1, 2, 4, 8, 2], "irregular"),
        ([0, 60, 120], "irregular"),
        ([10, 1, 30, 2], "irregular"),
        ([8, 4, 2, 1], "irregular"),
    ],
)
def test_shapes_have_names(gaps: list[float], name: str) -> None:
    assert shape(gaps) == name


@pytest.mark.parametrize("gaps", [[], [1], [1, 2]])
def test_fewer_than_three_gaps_cannot_tell(gaps: list[float]) -> None:
    assert shape(gaps) is None


def test_a_doubling_with_a_little_jitter_is_still_exponential() -> None:
    for seed in range(100):
        chance = random.Random(seed)
        assert shape([2**n * chance.uniform(0.9, 1.1) for n in range(6)]) == "exponential"
