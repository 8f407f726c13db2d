"""The shape of a back-off."""

from __future__ import annotations

import random
import smtplib

import httpx
import pytest

from notnow import FakeHTTP, FakeSMTP, ManualClock
from notnow.conduct.reading import attempts
from notnow.conduct.reading.backoff import Herd, analyse, herd, of_retries, shape
from toml_rules import one, rules, then


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


# ---- measured ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ([], "no retry"),
        ([5], "1 wait (5s): too few to tell"),
        ([5, 10], "2 waits (5s, 10s): too few to tell"),
        ([0, 0, 0], "immediate; a guess"),
        ([0] * 6, "immediate; sure"),
        ([60, 120, 240, 480], "exponential, ×2, first wait 1m, no jitter; likely"),
        ([1, 3, 9], "exponential, ×3, first wait 1s, no jitter; a guess"),
        ([1, 2, 4, 8, 8, 8], "exponential, ×2, first wait 1s, capped at 8s, no jitter; sure"),
        ([10, 20, 30, 40, 50, 60], "linear, +10s each time, first wait 10s, no jitter; sure"),
        ([300, 310, 295, 305], "constant, first wait 5m, jitter ±2%; likely"),
        ([10, 1, 30, 2], "irregular, first wait 10s; likely"),
    ],
)
def test_a_back_off_in_words(gaps: list[float], words: str) -> None:
    assert analyse(gaps).in_words() == words


def test_jitter_is_the_distance_from_the_regular_waits() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        found = analyse([10 * chance.uniform(0.95, 1.05) for _ in range(20)])
        assert found.shape == "constant"
        assert 0.02 < found.jitter < 0.08
        grows = analyse([2**n * chance.uniform(0.9, 1.1) for n in range(8)])
        assert grows.factor == pytest.approx(2, rel=0.06)
        assert grows.jitter < 0.35


def test_the_picture_is_to_scale() -> None:
    assert analyse([0, 5, 10]).picture(10) == [
        "  1.        0s  ▏",
        "  2.        5s  █████",
        "  3.       10s  ██████████",
    ]


@pytest.mark.parametrize(
    ("waits", "heeds"), [([10, 10, 10], True), ([10, 12, 14], True), ([10, 9, 10], False), ([10, 60, 10], False)]
)
def test_retry_after_is_seen_to_be_heeded(waits: list[float], heeds: bool) -> None:
    busy = one("request", first=len(waits), status=503, headers={"retry-after": 10})
    with FakeHTTP(rules(busy, protocol="http"), clock=ManualClock()) as fake, httpx.Client() as client:
        client.get(fake.url)
        for wait in waits:
            fake.clock.advance(wait)
            client.get(fake.url)
        found = of_retries(attempts.retries(fake.journal.exchanges))
    assert found.gaps == pytest.approx(waits)
    assert found.heeds is heeds
    assert ("not as Retry-After says" in found.in_words()) is not heeds


def test_a_retry_after_may_be_a_date_or_nonsense() -> None:
    busy = one("request", first=1, status=503, headers={"retry-after": "{left.date}"})
    odd = one("request", first=2, status=503, headers={"retry-after": "soon"})
    scenario = rules(busy, odd, then("recovered"), protocol="http", phase='lasts = "1m"')
    with FakeHTTP(scenario, clock=ManualClock()) as fake, httpx.Client() as client:
        for wait in (0, 60):
            fake.clock.advance(wait)
            client.get(fake.url)
        (told,) = of_retries(attempts.retries(fake.journal.exchanges)).told
        assert told == pytest.approx(60, abs=1)
        fake.play(scenario)
        for _ in range(3):
            client.get(fake.url)
        assert of_retries(attempts.retries(fake.journal.since_play())).told == (pytest.approx(60, abs=1), None)


def workers(delays: list[float]) -> str:
    """So many are refused at once, and each comes back after its own delay."""
    with FakeSMTP(rules(one("connect", first=len(delays), reply="421 no")), clock=ManualClock()) as fake:
        for _ in delays:
            with pytest.raises(smtplib.SMTPConnectError):
                smtplib.SMTP(fake.host, fake.port)
        now = 0.0
        for delay in sorted(delays):
            fake.clock.advance(delay - now)
            now = delay
            smtplib.SMTP(fake.host, fake.port, local_hostname="client.test").quit()
        refused = {x.connection for x in attempts.refusals(fake.journal.exchanges)}
        found = herd(fake.journal.connections, refused)
    return "" if found is None else found.in_words()


def test_workers_that_come_back_at_one_time_are_a_herd() -> None:
    assert workers([60, 60, 60.5, 61, 61, 62]) == (
        "6 workers, refused together, came back 1m later within 2s: as a herd, without jitter"
    )


def test_workers_with_jitter_are_none() -> None:
    assert workers([10, 25, 31, 44, 58, 60]) == (
        "6 workers, refused together, came back 10s later within 50s: spread, not as a herd"
    )


def test_a_few_are_no_herd() -> None:
    assert workers([60, 60, 60, 60]) == ""


@pytest.mark.parametrize(("last", "named"), [(7.6, "exponential"), (7.59, "irregular")])
def test_gaps_stay_at_a_ceiling_within_a_twentieth(last: float, named: str) -> None:
    assert shape([1, 2, 4, 8, last]) == named


def test_a_gap_below_the_ceiling_by_more_than_a_twentieth_still_grows() -> None:
    found = analyse([1, 2, 4, 7, 8, 8])
    assert (found.shape, found.cap) == ("exponential", 8)


@pytest.mark.parametrize(("spread", "together"), [(6.0, True), (6.1, False)])
def test_workers_come_back_as_one_within_a_tenth_of_their_wait(spread: float, together: bool) -> None:
    assert Herd(5, 60.0, spread).together is together
