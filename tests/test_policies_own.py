"""Policies of the user's own: objects of retry libraries, functions, lists, and the report or journal of a client."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import stamina
import tenacity
import urllib3
from tests.truth.wire import Line, Wire, Worker

from notnow.chaos.policies import calls, libraries, policy
from notnow.errors import ScenarioError
from playbook import document, rule


def waits(given: Any, count: int = 5, **options: Any) -> list[float]:
    made, rng = policy(given, **options), Random(1)
    return [made.wait.seconds(attempt, 0, rng) for attempt in range(1, count + 1)]


# ---- libraries -----------------------------------------------------------------------------------


def test_a_wait_of_tenacity() -> None:
    assert waits(tenacity.wait_exponential(multiplier=1, max=6)) == [1, 2, 4, 6, 6]
    assert waits(tenacity.wait_chain(tenacity.wait_fixed(3), tenacity.wait_fixed(7))) == [3, 7, 7, 7, 7]
    assert waits(tenacity.wait_incrementing(1, 2) + tenacity.wait_fixed(1)) == [2, 4, 6, 8, 10]


def test_a_retrying_of_tenacity_has_its_stop() -> None:
    made = policy(
        tenacity.AsyncRetrying(
            wait=tenacity.wait_fixed(3), stop=tenacity.stop_after_attempt(4) | tenacity.stop_after_delay(60)
        )
    )
    assert made.wait.seconds(1, 0, Random(1)) == 3
    assert [made.gives_up(n, at) for n, at in ((3, 59), (4, 0), (1, 60))] == [False, True, True]


def test_a_function_that_tenacity_has_decorated() -> None:
    @tenacity.retry(wait=tenacity.wait_fixed(7), stop=tenacity.stop_after_attempt(2))
    def send() -> None:
        raise AssertionError("it is not called")

    assert waits(send) == [7] * 5
    assert policy(send).gives_up(2, 0)


def test_a_caller_of_stamina() -> None:
    """The formula of its documentation: min(wait_max, wait_initial * 2^(n - 1) + up to wait_jitter)."""
    caller = stamina.RetryingCaller(attempts=3, timeout=60, wait_initial=1, wait_max=20, wait_jitter=0)
    for own in (
        caller,
        caller.on(ValueError),
        stamina.AsyncRetryingCaller(attempts=3, timeout=60, wait_initial=1, wait_max=20, wait_jitter=0),
    ):
        assert waits(own) == [1, 2, 4, 8, 16]
        assert [policy(own).gives_up(n, at) for n, at in ((2, 59), (3, 0), (1, 60))] == [False, True, True]
    assert waits(stamina.retry_context(on=ValueError, wait_initial=2, wait_jitter=0), 2) == [2, 4]


def test_a_function_that_stamina_has_decorated() -> None:
    """Its options are read, also below another decorator; it is never called."""
    options: Any = {"on": ValueError, "attempts": 3, "timeout": 60, "wait_initial": 1, "wait_max": 3, "wait_jitter": 0}

    @stamina.retry(**options)
    def send(attempt: int) -> None:
        raise AssertionError("it is not called")

    @stamina.retry(**options)
    async def send_async(attempt: int) -> None:
        raise AssertionError("it is not called")

    class Outbox:
        @stamina.retry(**options)
        def send(self, attempt: int) -> None:
            raise AssertionError("it is not called")

    for own in (send, send_async, Outbox.send, Outbox().send, functools.wraps(send)(lambda n: send(n))):
        assert waits(own) == [1, 2, 3, 3, 3]
        assert [policy(own).gives_up(n, at) for n, at in ((2, 59), (3, 0), (1, 60))] == [False, True, True]


def test_what_stamina_may_hide_one_day_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    @stamina.retry(on=ValueError)
    def send(attempt: int) -> None:
        raise AssertionError("it is not called")

    said = "policy 'mine:send': its options of stamina cannot be read; allowed: a stamina.RetryingCaller with the same options"
    monkeypatch.setattr(libraries.inspect, "getclosurevars", lambda _: libraries.inspect.ClosureVars({}, {}, {}, set()))
    with pytest.raises(ScenarioError) as error:
        policy(send, name="mine:send")
    assert str(error.value) == said


def test_the_parts_of_stamina_that_are_used_are_there() -> None:
    caller = stamina.RetryingCaller()
    assert {"attempts", "timeout", "wait_initial", "wait_max"} <= caller._context_kws.keys()
    assert caller.on(ValueError)._caller is caller
    assert {"wait", "stop"} <= stamina.retry_context(on=ValueError)._t_kw.keys()


def test_a_retry_of_urllib3() -> None:
    """{backoff factor} * 2^({number of previous retries}), and none before the first retry."""
    retry = urllib3.Retry(total=4, backoff_factor=0.5, backoff_max=3)
    assert waits(retry) == [0, 1, 2, 3, 3]
    made = policy(retry)
    assert made.heeds
    assert [made.gives_up(n, 0) for n in (4, 5)] == [False, True]
    assert not policy(urllib3.Retry(3, respect_retry_after_header=False)).heeds
    assert policy(urllib3.Retry(total=False)).gives_up(1, 0)
    assert policy(urllib3.Retry(total=9, status=2)).gives_up(3, 0)


# ---- functions and lists -------------------------------------------------------------------------


def test_functions_and_lists() -> None:
    assert waits(lambda attempt: attempt * 2) == [2, 4, 6, 8, 10]
    assert waits(lambda attempt: timedelta(minutes=attempt), 2) == [60, 120]
    assert waits(lambda attempt, rng: rng.uniform(attempt, attempt)) == [1, 2, 3, 4, 5]
    assert waits([1, 2.5]) == [1, 2.5, 2.5, 2.5, 2.5]
    assert waits((timedelta(seconds=3),)) == [3] * 5


def test_what_a_name_stands_for_joins_the_other_words() -> None:
    own = {"mine:wait": lambda attempt: 4, "mine:text": "constant(9s) + attempts(2)"}
    made = policy("mine:wait + attempts(3)", load=own.__getitem__)
    assert (made.wait.seconds(1, 0, Random(1)), made.gives_up(3, 0), made.own) == (4, True, True)
    assert waits("mine:text", load=own.__getitem__) == [9] * 5


def _raises(attempt: int) -> float:
    raise LookupError("no such attempt")


def _exits(attempt: int) -> float:
    raise SystemExit(3)


async def _coroutine(attempt: int) -> float:
    await asyncio.sleep(0)
    return 1.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (_raises, "it raised LookupError: no such attempt after attempt 1"),
        (_exits, "it raised SystemExit: 3 after attempt 1"),
        (_coroutine, "it is a coroutine function, and a wait is told at once"),
        (lambda attempt: -1, "it returned -1 after attempt 1; allowed: seconds from 0 on"),
        (lambda attempt: float("nan"), "it returned nan after attempt 1"),
        (lambda attempt: float("inf"), "it returned inf after attempt 1"),
        (lambda attempt: None, "it returned None after attempt 1"),
        (lambda attempt: True, "it returned true after attempt 1"),
        (lambda: 1, "it cannot be called with (attempt) or (attempt, rng): its parameters are ()"),
        (lambda a, b, c: 1, "it cannot be called with (attempt) or (attempt, rng): its parameters are (a, b, c)"),
        ([1, -2], "it returned -2 after attempt 2"),
        ([], "[] is no policy; allowed: a text; a tenacity wait"),
        (5, "5 is no policy"),
        (tenacity.stop_after_attempt(3), "it has no wait"),
        (tenacity.wait_fixed(-1), "it returned -1.0 after attempt 1"),
    ],
)
def test_what_is_no_wait_is_named(given: Any, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        policy(given, name="mine:wait")
    assert str(error.value).startswith(f"policy 'mine:wait': {said}")


def test_a_wait_that_is_never_reached_need_not_be_told() -> None:
    made = policy(lambda attempt: [1, 5, 15][attempt - 1])
    assert [made.wait.seconds(n, 0, Random(1)) for n in (1, 2, 3)] == [1, 5, 15]
    with pytest.raises(ScenarioError, match="it raised IndexError: list index out of range after attempt 4"):
        made.wait.seconds(4, 0, Random(1))


def test_a_stop_that_raises_is_named() -> None:
    class Broken(tenacity.stop.stop_base):
        def __call__(self, retry_state: Any) -> bool:
            raise LookupError("no stop")

    made = policy(tenacity.Retrying(stop=Broken(), wait=tenacity.wait_fixed(1)), name="mine:send")
    with pytest.raises(ScenarioError, match="policy 'mine:send': it raised LookupError: no stop after attempt 3"):
        made.gives_up(3, 10)


def test_a_late_call_that_takes_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = policy(lambda attempt: attempt)
    monkeypatch.setattr(calls, "PATIENCE", 0.0)
    with pytest.raises(ScenarioError, match=r"it took \S+ after attempt 99; a wait is told, and not slept"):
        made.wait.seconds(99, 0, Random(1))


def test_late_calls_that_take_long_together_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is short enough; thousands of them would take hours."""
    monkeypatch.setattr(calls, "SLOW", -1.0)
    monkeypatch.setattr(calls, "MOST_SLOW", 5.0)
    now = iter(range(10_000))
    own = calls.Own("mine:wait", lambda attempt, before: attempt)
    monkeypatch.setattr(calls.true_time, "monotonic", lambda: next(now))
    assert [own.seconds(n, 0, Random(1)) for n in range(1, 6)] == [1, 2, 3, 4, 5]
    with pytest.raises(
        ScenarioError, match="policy 'mine:wait': its calls have taken 6s in all; a wait is told, and not slept"
    ):
        own.seconds(6, 0, Random(1))


def test_a_function_that_sleeps_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"it takes \d+ms or more each time; a wait is told, and not slept"):
        policy(lambda attempt: time.sleep(0.03) or attempt, name="mine:wait")


def test_a_function_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    goes_on = Event()
    monkeypatch.setattr(calls, "PATIENCE", 0.05)
    try:
        with pytest.raises(ScenarioError, match=r"it has not returned from call 3 within 50ms; a wait is told"):
            policy(lambda attempt: (attempt < 3 or goes_on.wait()) and attempt, name="mine:wait")
    finally:
        goes_on.set()


# ---- the report of a client ----------------------------------------------------------------------


def report(path: Path, gaps: list[float], **more: Any) -> str:
    file = path / "run.json"
    file.write_text(json.dumps({"backoff": {"smtp": {"gaps": gaps, **more}}}), "utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("gaps", "next_waits"),
    [
        ([60.0, 120.0, 240.0, 480.0, 960.0], [60, 120, 240, 480, 960, 1920]),
        ([30.0] * 6, [30] * 6),
        ([10.0, 20.0, 30.0, 40.0, 50.0, 60.0], [10, 20, 30, 40, 50, 60]),
        ([900.0, 3.0, 200.0, 1.0, 400.0, 2.0, 77.0], [900, 3, 200, 1, 400, 2]),
        ([0.0] * 5, [0] * 6),
    ],
)
def test_the_back_off_of_a_report_goes_on(tmp_path: Path, gaps: list[float], next_waits: list[float]) -> None:
    assert waits(report(tmp_path, gaps), 6) == pytest.approx(next_waits, rel=0.02)


def test_the_jitter_of_a_report_is_taken(tmp_path: Path) -> None:
    rng = random.Random(5)
    gaps = [rng.uniform(0, 60 * 2**n) for n in range(9)]
    wait = policy(report(tmp_path, gaps)).wait
    drawn = [wait.seconds(6, 0, Random(seed)) for seed in range(200)]
    assert max(drawn) > 3 * min(drawn)


def test_a_client_that_heeds_retry_after_does_so_here(tmp_path: Path) -> None:
    assert policy(report(tmp_path, [30.0] * 4, retry_after=True)).heeds
    assert not policy(report(tmp_path, [30.0] * 4, retry_after=None)).heeds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "it has no back-off"),
        ("{}", "it has no back-off"),
        ("{", "it is neither one JSON object nor the lines of a journal"),
        ("", "it is neither one JSON object nor the lines of a journal"),
        ("\0", "it is no text; allowed: a report"),
        ('{"backoff": {"smtp": {"gaps": [NaN, 1, 2, 4]}}}', "its back-off is none of notnow's"),
        ('{"backoff": {"smtp": {"gaps": "fast"}}}', "its back-off is none of notnow's"),
        ('{"backoff": {}}', "it holds no retry: no client came back for what it was refused"),
        ('{"backoff": {"smtp": {"gaps": [1, 2]}}}', "its back-off cannot be told: 2 waits (1s, 2s): too few to tell"),
    ],
)
def test_a_report_without_back_off_says_so(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ScenarioError) as error:
        policy(str(file))
    assert said in str(error.value)


# ---- the journal of a client ---------------------------------------------------------------------


LISTENING = '{"event": "listening", "name": "smtp", "protocol": "smtp"}\n'  # as notnow serve --json begins
DOUBLING = (60.0, 120.0, 240.0, 480.0)


def journal(path: Path, gaps: Sequence[float], *, delay: float = 0.0, head: str = LISTENING) -> str:
    """The journal of a client that is refused `delay` seconds after it came, and comes back after these gaps."""
    slow = {"delay": f"{delay}s"} if delay else {}
    wire = Wire(document(rule("connect", reply="421 4.3.2 Too busy", **slow)), "smtp")

    def client() -> Worker:
        for gap in gaps:
            wire.connect(Line).leave()
            yield gap
        wire.connect(Line).leave()

    wire.run([client()])
    file = path / "run.jsonl"
    with file.open("w", encoding="utf-8") as out:
        out.write(head)
        wire.recorder.journal.export(out)
    return str(file)


@pytest.mark.parametrize("delay", [0.0, 25.0])
def test_the_back_off_of_a_journal_goes_on(tmp_path: Path, delay: float) -> None:
    """A wait begins when the refusal has left, however long the server took for it."""
    assert waits(journal(tmp_path, DOUBLING, delay=delay), 6) == pytest.approx([60 * 2**n for n in range(6)])


def test_a_journal_joins_the_other_words(tmp_path: Path) -> None:
    file = journal(tmp_path, DOUBLING)
    made = policy(f"{file} + attempts(3)")
    assert made.name.startswith(f"{file} [exponential, base 1m, factor 2, no jitter (")
    assert made.name.endswith(")] + attempts(3)")
    assert (made.wait.seconds(3, 0, Random(1)), made.gives_up(3, 0), made.heeds) == (pytest.approx(240), True, False)


def test_a_journal_that_ends_in_the_middle_of_a_line_and_has_others_in_it(tmp_path: Path) -> None:
    file = Path(journal(tmp_path, DOUBLING, head=f"{LISTENING}a word of the client\n"))
    file.write_text(file.read_text("utf-8")[:-9], "utf-8")
    assert waits(str(file), 2) == pytest.approx([60, 120])


@pytest.mark.parametrize(
    ("gaps", "more", "said"),
    [
        ((), {}, "it holds no retry: no client came back for what it was refused; allowed: a report of notnow try"),
        ((60, 120), {}, "its back-off cannot be told: 2 waits (1m, 2m): too few to tell"),
        (DOUBLING, {"head": ""}, "it lacks the line that says what smtp speaks, with the event 'play'"),
        ((), {"head": '{"event": "exchange", "index": 1}\n'}, "this is no entry of a journal ('server'): {"),
    ],
)
def test_a_journal_without_back_off_says_so(tmp_path: Path, gaps: Sequence[float], more: Any, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        policy(journal(tmp_path, gaps, **more))
    assert said in str(error.value)
