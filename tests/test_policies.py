"""Policies: their words, waits, stops and guards."""

from __future__ import annotations

from random import Random

import pytest

from notnow.chaos.policies import policy
from notnow.chaos.policies.guards import (
    FAILED,
    GIVEN_UP,
    Breaker,
    Budget,
    Guard,
    Hold,
    RetryThrottling,
    Throttle,
    Tokens,
)
from notnow.chaos.policies.words import WORDS
from notnow.errors import ScenarioError

CHANCE = Random(1)


def waits(text: str, count: int = 6, seed: int = 1) -> list[float]:
    """The first waits of a policy, one after the other."""
    wait, rng, found = policy(text).wait, Random(seed), [0.0]
    for attempt in range(1, count + 1):
        found.append(wait.seconds(attempt, found[-1], rng))
    return found[1:]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("constant(5m)", [300] * 6),
        ("constant(2.5)", [2.5] * 6),
        ("waits(1m, 5m, 15m)", [60, 300, 900, 900, 900, 900]),
        ("linear(base=1m, step=30s)", [60, 90, 120, 150, 180, 210]),
        ("linear(1m, 1m, cap=3m)", [60, 120, 180, 180, 180, 180]),
        ("exponential(1m)", [60, 120, 240, 480, 960, 1920]),
        (" exponential( base = 1s , factor=3, cap=20s )+attempts(3)", [1, 3, 9, 20, 20, 20]),
        ("exponential(base=1s, factor=1)", [1] * 6),
    ],
)
def test_waits_without_chance(text: str, seconds: list[float]) -> None:
    assert waits(text) == seconds


def test_a_wait_that_no_number_holds_is_its_cap() -> None:
    assert policy("exponential(1s, factor=10, cap=1h)").wait.seconds(5000, 0, CHANCE) == 3600


@pytest.mark.parametrize(("jitter", "low", "mean"), [("full", 0.0, 0.5), ("equal", 0.5, 0.75)])
def test_jitter_draws_from_its_range(jitter: str, low: float, mean: float) -> None:
    """AWS Architecture Blog: random_between(0, temp), and temp / 2 + random_between(0, temp / 2)."""
    drawn = [
        wait / 64 for seed in range(2000) for wait in waits(f"exponential(64s, cap=64s, jitter={jitter})", 1, seed)
    ]
    assert low <= min(drawn) < low + 0.01
    assert 0.99 < max(drawn) <= 1
    assert sum(drawn) / len(drawn) == pytest.approx(mean, abs=0.02)


def test_decorrelated_jitter_draws_from_the_wait_before() -> None:
    """sleep = min(cap, random_between(base, sleep * 3)), of the same page."""
    seen = [waits("exponential(1s, cap=50s, jitter=decorrelated)", 8, seed) for seed in range(300)]
    for row in seen:
        for before, wait in zip([1.0, *row], row, strict=False):
            assert 1 <= wait <= min(50, 3 * max(before, 1 / 3))
    assert max(map(max, seen)) == 50


def test_the_same_chance_gives_the_same_waits() -> None:
    text = "exponential(1s, jitter=full)"
    assert waits(text, seed=7) == waits(text, seed=7) != waits(text, seed=8)


@pytest.mark.parametrize(
    ("text", "attempts", "elapsed", "stops"),
    [
        ("constant(1s)", 10**6, 1e9, False),
        ("constant(1s) + attempts(3)", 2, 0, False),
        ("constant(1s) + attempts(3)", 3, 0, True),
        ("constant(1s) + within(1m)", 99, 59.9, False),
        ("constant(1s) + within(1m)", 1, 60, True),
        ("constant(1s) + within(1m) + attempts(5)", 5, 0, True),
    ],
)
def test_stops(text: str, attempts: int, elapsed: float, stops: bool) -> None:
    assert policy(text).gives_up(attempts, elapsed) is stops


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'policy: it is empty; allowed: words joined by +, such as "exponential(base=1m, cap=1h, jitter=full) + attempts(8)"'),
        ("constant(1s) +", "policy 'constant(1s) +': a word is missing beside a +; allowed: words joined by +"),
        ("constant(1s", "policy 'constant(1s': a parenthesis is missing"),
        ("constant(1s))", "a parenthesis is missing"),
        ("2 ** 99", "'2 ** 99' cannot be read"),
        ("__import__('os')", "there is no word '__import__'; allowed: constant, linear, exponential, waits, attempts"),
        ("exponental(1m)", "did you mean 'exponential'?"),
        ("attempts(3)", "policy 'attempts(3)': it has no wait; allowed: one of constant, linear, exponential, waits"),
        ("constant(1s) + constant(2s)", "it has several waits"),
        ("constant", "constant lacks wait; allowed: a number and a unit"),
        ("waits()", "waits() has no wait; allowed: one or more, such as waits(1m, 5m, 15m)"),
        ("constant(1s, 2s)", "constant has 2 values; allowed: 1: wait"),
        ("retry_after(1) + constant(1s)", "retry_after has 1 values; allowed: 0: none"),
        ("exponential(1m, jiter=full)", "there is no parameter of exponential 'jiter'; allowed: base, factor, cap, jitter; did you mean 'jitter'?"),
        ("exponential(1m, base=2m)", "base of exponential is given twice"),
        ("exponential(1m, jitter=half)", "jitter of exponential is 'half'; allowed: none, full, equal, decorrelated"),
        ("exponential(1m, factor=0.5)", "factor of exponential is '0.5'; allowed: a number from 1 on"),
        ("exponential(1m, cap=0)", "cap of exponential is '0'; allowed: more than 0"),
        ("constant(-1)", "wait of constant is '-1'"),
        ("constant(nan)", "wait of constant is 'nan'"),
        ("constant(inf)", "wait of constant is 'inf'"),
        ("constant(1e99)", "wait of constant is '1e99'"),
        ("constant(1s) + attempts(0)", "most of attempts is '0'; allowed: a whole number from 1 on"),
        ("constant(1s) + tokens(0/s)", "rate of tokens is '0/s'"),
        ("constant(1s) + budget(200%)", "ratio of budget is '200%'; allowed: a share such as 10%"),
        ("mine:wait", "'mine:wait' names an object; allowed: the object itself, in Python"),
        ("nowhere.json", "policy 'nowhere.json': it cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_named(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        policy(text)
    assert said in str(error.value)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_says_what_it_does(word: str) -> None:
    assert WORDS[word].doc
    assert WORDS[word].role in ("wait", "stop", "guard", "heeds")


# ---- guards --------------------------------------------------------------------------------------


def asks(guard: Guard, at: float, *, retry: bool = True, ok: bool | None = None) -> Hold | None:
    """A client asks at this time, and is told at once, if the guard lets it."""
    held = guard.hold(at, retry, CHANCE)
    if held is None:
        guard.goes(at, retry)
        if ok is not None:
            guard.told(at, ok)
    return held


def test_each_client_has_guards_of_its_own() -> None:
    (make,) = policy("constant(1s) + budget(10%)").guards
    assert make() is not make()


def test_a_budget_pays_for_a_share_of_retries() -> None:
    budget = Budget(0.5, 2)
    assert [asks(budget, 0) for _ in range(3)] == [None, None, GIVEN_UP]
    assert asks(budget, 0, retry=False) is None
    assert asks(budget, 0) is GIVEN_UP
    assert asks(budget, 0, retry=False) is None
    assert [asks(budget, 0) for _ in range(2)] == [None, GIVEN_UP]
    for _ in range(100):
        asks(budget, 0, retry=False)
    assert [asks(budget, 0) for _ in range(3)] == [None, None, GIVEN_UP]


def test_grpc_stops_to_retry_at_half_of_its_tokens() -> None:
    """gRFC A6: maxTokens 4, tokenRatio 1/2: retries as long as there are more than 2."""
    throttling = RetryThrottling(4, 0.5)
    assert asks(throttling, 0, ok=False) is None
    assert asks(throttling, 0, ok=False) is None
    assert asks(throttling, 0) is GIVEN_UP
    assert asks(throttling, 0, retry=False, ok=True) is None
    assert asks(throttling, 0) is None


def test_a_breaker_opens_lets_one_through_and_closes() -> None:
    breaker = Breaker(2, 30)
    assert asks(breaker, 0, ok=False) is None
    assert asks(breaker, 0, ok=True) is None
    assert asks(breaker, 0, ok=False) is None
    assert asks(breaker, 1, ok=False) is None
    assert asks(breaker, 30.9) is FAILED
    assert asks(breaker, 31) is None  # half-open
    assert asks(breaker, 31) is FAILED
    breaker.told(32, ok=False)
    assert asks(breaker, 61.9) is FAILED
    assert asks(breaker, 62, ok=True) is None
    assert [asks(breaker, 62) for _ in range(3)] == [None] * 3


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = Tokens(2, 3)
    assert [asks(bucket, 10) for _ in range(4)] == [None, None, None, Hold("later", 0.5)]
    assert asks(bucket, 10.5) is None
    assert asks(bucket, 10.5) == Hold("later", 0.5)
    assert [asks(bucket, 99) for _ in range(4)] == [None, None, None, Hold("later", 0.5)]


def refused_share(throttle: Throttle, accepted: float) -> float:
    """The share of 4,000 attempts, 100 a second, that a client refuses itself while the server accepts this share."""
    rng, held = Random(3), 0
    for n in range(4000):
        at = n / 100
        if throttle.hold(at, True, rng) is FAILED:
            held += 1
        else:
            throttle.goes(at, True)
            throttle.told(at, rng.random() < accepted)
    return held / 4000


@pytest.mark.parametrize(("accepted", "low", "high"), [(1.0, 0.0, 0.0), (0.6, 0.0, 0.02), (0.0, 0.97, 1.0)])
def test_throttling_refuses_as_the_server_does(accepted: float, low: float, high: float) -> None:
    """With k = 2, half of what the server gets may be refused before a client refuses any (SRE book, "Handling Overload")."""
    assert low <= refused_share(Throttle(2, 120), accepted) <= high


def test_throttling_forgets() -> None:
    throttle = Throttle(2, 120)
    for _ in range(100):
        throttle.goes(0, True)
    chances = [(throttle._fade(at), throttle.requests / (throttle.requests + 1))[1] for at in (0, 120, 1200)]
    assert chances == pytest.approx([100 / 101, 36.79 / 37.79, 0.0045], abs=0.001)
