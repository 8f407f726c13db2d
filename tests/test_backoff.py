"""The back-off of a client: its family, in words, and by which gap a claim is contradicted."""

from __future__ import annotations

import random
from collections import Counter

import httpx
import pytest

from notnow import FakeHTTP, ManualClock
from notnow.conduct.reading.comebacks import comebacks
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.waits import families
from notnow.conduct.reading.waits.backoff import (
    Jitter,
    analyse,
    contradiction,
    may_grow,
    of_comebacks,
    possible,
    shape,
    steady,
)
from toml_rules import one, rules, then

EITHER = ("exponential", "linear")


@pytest.mark.parametrize(
    ("gaps", "names"),
    [
        ([60, 120, 240, 480], ("exponential",)),
        ([60, 120, 240], EITHER),  # one gap beyond the two that any curve meets
        ([60, 120, 180, 240], ("linear",)),
        ([1, 2, 3], ("linear", "exponential")),
        ([5, 5, 5], ("constant",)),
        ([300, 310, 295, 305], ("constant", "linear")),
        ([300, 310, 320, 330], ("linear",)),
        ([0.001, 0.0, 0.002], ("immediate",)),
        ([0.03, 0.03, 0.039], ("immediate",)),
        ([1, 2, 4, 8, 16, 16, 16], ("exponential",)),
        ([10, 20, 30, 40, 40, 40], ("linear",)),
        ([1, 4, 4, 4], ("linear", "exponential")),  # ×4 or +3, up to 4
        ([4, 4, 4, 8, 16, 32, 60, 60], ("exponential",)),  # a floor of 4
        ([0, 2, 4, 8, 16], ("exponential",)),  # a first retry at once
        ([0, 60, 120], ("exponential", "linear", "constant")),
        ([8, 4, 2, 1], ("irregular",)),
        ([480, 240, 120, 60, 30, 15], ("irregular",)),
        ([1, 500, 2, 300, 1, 700, 3, 400], ("irregular",)),
    ],
)
def test_families_that_the_gaps_do_not_contradict(gaps: list[float], names: tuple[str, ...]) -> None:
    assert possible(gaps) == names
    assert shape(gaps) == names[0]


@pytest.mark.parametrize("gaps", [[], [1], [1, 2]])
def test_fewer_than_three_gaps_cannot_tell(gaps: list[float]) -> None:
    assert possible(gaps) == ()
    assert shape(gaps) is None
    assert contradiction(gaps, "exponential") is None


@pytest.mark.parametrize("unit", [0.1, 1.0, 60.0, 3600.0])
def test_the_unit_does_not_matter(unit: float) -> None:
    chance = random.Random(4)
    waits = [2**n * chance.uniform(0.9, 1.1) for n in range(8)]
    assert possible([unit * wait for wait in waits]) == ("exponential",)


def test_a_long_back_off_is_judged_by_its_beginning() -> None:
    doubles = [min(60, 2**n) for n in range(24)]
    assert analyse([*doubles, *[0.0] * 1000]).family == "exponential"


# ---- a claim -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "claim", "by"),
    [
        ([5, 5, 5, 5, 5], "exponential", 2),
        ([1, 2, 4, 8, 16], "linear", 3),
        ([1, 2, 4, 8, 16], "constant", 2),
        ([10, 20, 30, 40, 50], "exponential", 3),
        ([8, 4, 2, 1, 0.5], "exponential", 2),
        ([0, 0, 0, 0], "exponential", 2),
        ([0, 0, 0, 0], "constant", 2),
    ],
)
def test_a_contradiction_names_the_gap(gaps: list[float], claim: str, by: int) -> None:
    found = contradiction(gaps, claim)
    assert found is not None
    assert (found.by, found.p < 0.01) == (by, True)
    assert contradiction(gaps[: by + 1], claim) is not None
    assert contradiction(gaps[:by], claim) is None


@pytest.mark.parametrize("claim", ["constant", "linear", "exponential"])
def test_little_is_no_contradiction(claim: str) -> None:
    assert contradiction([5, 7, 6], claim) is None


@pytest.mark.parametrize(
    ("gaps", "is_steady"),
    [
        ([0, 0.01, 0], True),
        ([5, 5, 5], True),
        ([5, 5.2, 4.9, 5.1, 5, 5.2], True),
        ([5, 5], False),
        ([5, 9, 6], False),  # an exponential one with full jitter may have these
        ([1, 2, 4], False),
        ([8, 4, 2, 1], False),
    ],
)
def test_a_steady_client_does_not_back_off(gaps: list[float], is_steady: bool) -> None:
    assert steady(gaps) is is_steady


@pytest.mark.parametrize(
    ("gaps", "grows"),
    [([5, 10], True), ([1, 2, 4], True), ([5, 9, 6], True), ([5, 5, 5, 5], False), ([8, 4, 2, 1], False)],
)
def test_a_back_off_may_grow_unless_the_gaps_contradict_it(gaps: list[float], grows: bool) -> None:
    assert may_grow(gaps) is grows


# ---- measured ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gaps", "words"),
    [
        ([], "no retry"),
        ([5], "1 wait (5s): too few to tell"),
        ([5, 10], "2 waits (5s, 10s): too few to tell"),
        ([0, 0, 0], "immediate (sure)"),
        ([60, 120, 240, 480], "exponential, base 1m, factor 2, no jitter (sure)"),
        (
            [60, 120, 240],
            "exponential, base 1m, factor 2, no jitter (likely; linear is not excluded: 1 more gap would settle it)",
        ),
        ([1, 2, 4, 8, 16, 16, 16], "exponential, base 1s, factor 2, no jitter, cap 16s (sure)"),
        ([0, 2, 4, 8, 16], "exponential, base 2s, factor 2, no jitter, from gap 2 on (sure)"),
        ([10, 20, 30, 40, 50, 60], "linear, base 10s, step 10s, no jitter (sure)"),
        (
            [5, 6, 4.2, 5.5, 4.7, 5.1],
            "constant, base 5.08s, ±18% jitter (a guess; linear and exponential are not excluded: 16 more gaps would settle it)",
        ),
        ([1, 4, 4, 4], "linear, base 1s, step 3s, no jitter, cap 4s (a guess; exponential is not excluded)"),
        ([10, 1, 30, 2], "constant, base 30s, full jitter (a guess; linear and exponential are not excluded)"),
        ([8, 4, 2, 1], "irregular, first wait 8s (sure)"),
    ],
)
def test_a_back_off_in_words(gaps: list[float], words: str) -> None:
    assert analyse(gaps).in_words() == words


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("proportional", 0.9, 1.1), ("equal", 0.5, 1), ("full", 0, 1), ("added", 1, 1)]
)
def test_the_kind_of_jitter(kind: str, low: float, high: float) -> None:
    kinds = []
    for seed in range(15):
        chance = random.Random(seed)
        more = 3 if kind == "added" else 0
        found = analyse([2**n * chance.uniform(low, high) + chance.uniform(0, more) for n in range(8)])
        assert found.jitter is not None
        kinds.append((found.family, found.jitter.kind))
    assert Counter(kinds).most_common(1)[0][0] == ("exponential", kind)


@pytest.mark.parametrize("cap", [20, 3600])
def test_decorrelated_jitter(cap: float) -> None:
    found = []
    for seed in range(20):
        chance, wait, gaps = random.Random(seed), 1.0, []
        for _ in range(12):
            wait = min(cap, chance.uniform(1, 3 * wait))
            gaps.append(wait)
        found.append(analyse(gaps))
    right = [one for one in found if (one.family, one.jitter) == ("exponential", Jitter("decorrelated"))]
    assert len(right) >= 16
    assert all(one.cap is None or one.cap == pytest.approx(cap) for one in right)
    assert all("decorrelated jitter" in one.in_words() and "factor" not in one.in_words() for one in right)


def test_the_size_of_the_jitter_is_measured() -> None:
    for seed in range(10):
        chance = random.Random(seed)
        found = analyse([10 * chance.uniform(0.95, 1.05) for _ in range(20)])
        assert found.family == "constant"
        assert found.jitter is not None
        assert 0.03 < found.jitter.size < 0.06


# Gaps; the shares of the likelihood that a constant, a linear, an exponential and no family at all have; the back-off in words.
SHARES = [
    ([60, 120, 240], "0.00104 0.0153 0.981 0.00307", "exponential, base 1m, factor 2, no jitter (likely; linear is not excluded: 1 more gap would settle it)"),
    ([10, 20, 30, 40, 40, 40], "1.23e-08 0.997 0.00298 3.75e-09", "linear, base 10s, step 10s, no jitter, cap 40s (sure)"),
    ([0, 2, 4, 8, 16], "1.78e-06 4.29e-05 1 5.87e-07", "exponential, base 2s, factor 2, no jitter, from gap 2 on (sure)"),
    ([4, 4, 4, 8, 16, 32, 60, 60], "7.81e-10 1.28e-06 1 4.21e-14", "exponential, base 4s, factor 2, no jitter, cap 1m, from gap 3 on (sure)"),
    ([5, 6, 4.2, 5.5, 4.7, 5.1], "0.807 0.107 0.00617 0.0801", "constant, base 5.08s, ±18% jitter (a guess; linear and exponential are not excluded: 16 more gaps would settle it)"),
    ([3.1, 8.2, 14, 19.5, 33.3], "0.00198 0.537 0.457 0.00369", "linear, base 3.01s, step 5.84s, ±14% jitter (a guess; exponential is not excluded: 5 more gaps would settle it)"),
    ([9.4, 22.1, 37.9, 88.8, 144.6, 340.1], "4.56e-06 0.000344 1 0.000124", "exponential, base 9.96s, factor 2, ±10% jitter (sure)"),
    ([0.8, 1.1, 3.9, 2.2, 11.8, 9.7, 31.2], "0.000331 0.0563 0.901 0.0429", "exponential, base 1.2s, factor 1.8, full jitter (likely; linear is not excluded: 2 more gaps would settle it)"),
    ([2.1, 2.7, 5.8, 3.3, 7.2, 18.9, 16.4], "0.00419 0.0408 0.932 0.023", "exponential, base 697ms, decorrelated jitter (likely; linear is not excluded: 8 more gaps would settle it)"),
    ([1.4, 2.3, 5.1, 9.6, 16.8, 33.1], "1.6e-06 9.21e-05 1 2.43e-05", "exponential, base 1.34s, factor 1.9, ±7% jitter (sure)"),
    ([2.5, 2.9, 6.8, 8.3, 18.2, 32.4, 66.9, 130.1], "2.04e-09 9.6e-07 1 1.34e-06", "exponential, base 1.01s, factor 2, up to 2.83s of jitter added (sure)"),
    ([11.5, 21.0, 32.9, 41.2, 51.8], "0.000178 0.989 0.0111 0.000163", "linear, base 11.44s, step 10.1s, ±3% jitter (likely; exponential is not excluded: 1 more gap would settle it)"),
    ([480, 240, 120, 60, 30], "2.69e-10 5.61e-11 8.51e-12 1", "irregular, first wait 8m (sure)"),
    ([30, 1, 500, 2, 300, 1.5], "1.26e-05 1.67e-05 1.45e-05 1", "irregular, first wait 30s (sure)"),
    ([0.2, 0.1, 0.4, 0.3], "0.251 0.253 0.139 0.358", "linear, base 195ms, step 97ms, full jitter (a guess; constant and exponential are not excluded)"),
    ([1.5, 2.9, 3.8, 7.3, 14.1, 3.7, 1.1, 3.0], "0.00326 0.0119 0.927 0.058", "exponential, base 567ms, decorrelated jitter (likely; linear is not excluded: 1 more gap would settle it)"),
    ([2.2, 5.3, 12, 12, 12, 12, 2.0, 3.3, 9.5, 12], "1.6e-09 1.37e-10 1 2.45e-10", "exponential, base 730ms, decorrelated jitter, cap 12s (sure)"),
    ([1, 2.2, 3.9, 8.3, 10, 10, 10], "1.54e-07 0.105 0.895 2.81e-08", "exponential, base 1.03s, factor 2, ±5% jitter, cap 10s (a guess; linear is not excluded: 2 more gaps would settle it)"),
    ([61.2, 123.9, 181.3, 200, 200], "0.000155 0.933 0.0672 7.9e-05", "linear, base 1m 1s, step 1m 1s, ±1% jitter, cap 3m 20s (likely; exponential is not excluded: 3 more gaps would settle it)"),
    ([1.1, 2.4, 4.9, 8.6, 12, 12, 12], "1.44e-07 0.14 0.86 2.87e-08", "exponential, base 1.16s, factor 2, ±6% jitter, cap 12s (a guess; linear is not excluded: 2 more gaps would settle it)"),
    ([60, 60, 60], "1 0.000259 6.23e-06 6.99e-05", "constant, base 1m, no jitter (sure)"),
    ([0.05, 0.06, 0.11, 0.2], "0.00472 0.0919 0.899 0.00451", "exponential, base 60ms, factor 1.8, no jitter, from gap 2 on (a guess; linear is not excluded: 1 more gap would settle it)"),
    ([10.2, 10.9, 12, 12], "0.124 0.577 0.289 0.01", "linear, base 10.2s, step 700ms, ±1% jitter, cap 12s (a guess; exponential and constant are not excluded)"),
    ([1.2, 2.9, 2.9, 2.9], "0.00197 0.105 0.893 0.000481", "exponential, base 397ms, decorrelated jitter, cap 2.9s (a guess; linear is not excluded: 2 more gaps would settle it)"),
    ([0.6, 1.8, 3.5, 5.0, 7.5, 7.2, 8.3, 8.9, 5.5], "0.00107 0.794 0.205 5.68e-05", "linear, base 590ms, step 1.75s, equal jitter, cap 8.9s (a guess; exponential is not excluded)"),
    ([1.1, 2.0, 0.3, 0.8, 13.5, 14.8, 13.5, 6.3, 12.2, 12.2, 11.7, 3.3], "0.181 0.359 0.435 0.0253", "exponential, base 1.17s, factor 1.8, full jitter, cap 14.8s (a guess; linear and constant are not excluded)"),
    ([10.5, 23.4, 33.1, 41.0, 52.0, 60, 60, 60, 60], "2.03e-10 0.992 0.00768 1.11e-11", "linear, base 10.5s, step 10.13s, up to 3.61s of jitter added, cap 1m (likely; exponential is not excluded)"),
]  # fmt: skip


@pytest.mark.parametrize(("gaps", "shares", "words"), SHARES)
def test_how_likely_each_family_is(gaps: list[float], shares: str, words: str) -> None:
    found = [fit.likelihood for fit in families.fits(tuple(gaps)).values()]
    assert " ".join(f"{likelihood / sum(found):.3g}" for likelihood in found) == shares
    assert analyse(gaps).in_words() == words


def test_so_many_more_gaps_settle_it() -> None:
    gaps = [60.0, 120.0, 240.0]
    found = analyse(gaps)
    assert (found.possible, found.settled_by) == (("linear",), 1)
    assert analyse([*gaps, 480.0]).possible == ()
    capped = analyse([1, 4, 4, 4])
    assert (capped.possible, capped.settled_by) == (("exponential",), None)


def test_the_picture_is_to_scale() -> None:
    assert analyse([5, 10]).picture()[1] == f"  2.       10s  {'█' * 50}"
    assert analyse([0, 5, 10]).picture(10) == [
        "  1.        0s  ▏",
        "  2.        5s  █████",
        "  3.       10s  ██████████",
    ]


# ---- Retry-After ---------------------------------------------------------------------------------


def test_a_gap_that_retry_after_demanded_says_nothing() -> None:
    assert shape([1, 2, 30, 8, 16], (None, None, 30, None, None)) == "exponential"
    assert possible([1, 2, 30, 8, 16]) != ("exponential",)
    assert contradiction([30, 30, 30, 30], "exponential", (30, 30, 30, 30)) is None
    assert analyse([30, 30, 30, 30], (30, 30, 30, 30)).family is None


def test_a_gap_that_ignores_retry_after_says_something() -> None:
    assert possible([5, 5, 5, 5], (30, 30, 30, 30)) == ("constant",)
    assert possible([60, 120, 240, 480], (10, 10, 10, 10)) == ("exponential",)
    assert possible([5, 5, 5], (0, 0, 0)) == ("constant",)


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
        found = of_comebacks(comebacks(Run([fake.journal], whole=True)).longest)
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
        (told,) = of_comebacks(comebacks(Run([fake.journal], whole=True)).longest).told
        assert told == pytest.approx(60, abs=1)
        fake.play(scenario)
        for _ in range(3):
            client.get(fake.url)
        assert of_comebacks(comebacks(Run([fake.journal])).longest).told == (pytest.approx(60, abs=1), None)
