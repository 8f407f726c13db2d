"""Workers that come back together, or do not."""

from __future__ import annotations

import pytest

from conduct_playbook import BUSY, Play
from notnow.conduct.reading import attempts
from notnow.conduct.reading.waits.herd import Herd, herd

FIVE = [0.0] * 5


def workers(refused: list[float], *later: list[float], again: bool = False) -> str:
    """Workers are refused at these times, and come back at those; with `again`, they are refused each time but the last."""
    play, last = Play("smtp"), 0.0
    waves = [refused, *later]
    for number, wave in enumerate(waves):
        for at in wave:
            play.wait(at - last)
            last = at
            play.connect(*([BUSY] if number == 0 or (again and number < len(waves) - 1) else ["QUIT"]))
    told = {x.connection for x in attempts.refusals(play.journals[0].exchanges)}
    found = herd(play.journals[0].connections, told)
    return "" if found is None else found.in_words()


HERD, SPREAD = "as a herd, without jitter", "spread, not as a herd"


@pytest.mark.parametrize(
    ("refused", "back", "said"),
    [
        ([*FIVE, 0], [60, 60, 60.5, 61, 61, 62], f"6 workers, refused together, came back 1m later within 2s: {HERD}"),
        ([*FIVE, 0], [10, 25, 31, 44, 58, 60], f"6 workers, refused together, came back 10s later within 50s: {SPREAD}"),
        (FIVE, [60] * 5, f"5 workers, refused together, came back 1m later within 0s: {HERD}"),
        (FIVE, [60] * 4, ""),
        ([0] * 4, [60] * 5, ""),
        ([0, 0.25, 0.5, 0.75, 1.0], [61] * 5, f"5 workers, refused together, came back 1m later within 0s: {HERD}"),
        ([0, 0.25, 0.5, 0.75, 1.01], [61] * 5, ""),
        (FIVE, [60, 60, 60, 60, 66, 90], f"5 workers, refused together, came back 1m later within 6s: {HERD}"),
    ],
)  # fmt: skip
def test_workers(refused: list[float], back: list[float], said: str) -> None:
    assert workers(refused, back) == said


def test_of_several_returns_the_one_that_is_a_herd_counts() -> None:
    spread = [10.0, 14, 18, 22, 26]
    assert workers(FIVE, [60] * 5, [float(60 + n) for n in spread], again=True).endswith(f"1m later within 0s: {HERD}")
    assert workers(FIVE, spread, [86] * 5, again=True).endswith(SPREAD)


def test_of_two_herds_the_larger_counts() -> None:
    assert workers(FIVE, [60] * 7, [180] * 7, again=True).startswith("7 workers, refused together, came back 2m later")


@pytest.mark.parametrize(
    ("delay", "spread", "together"), [(60, 6.0, True), (60, 6.1, False), (0.1, 0.05, True), (0.1, 0.06, False)]
)
def test_workers_come_back_as_one_within_a_tenth_of_their_wait(delay: float, spread: float, together: bool) -> None:
    assert Herd(5, delay, spread).together is together
