"""How the driver of fast_forward sees that a thread is blocked."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable

import pytest

from notnow.time_travel import watch
from notnow.time_travel.effort import Effort, effort
from notnow.time_travel.parties import Party

Idle = Callable[..., list[float]]


def test_a_driver_that_could_not_look_has_seen_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GIL was held for five seconds, or the machine was asleep: that says nothing about the thread."""
    party, now = Party(threading.current_thread().name), [0.0]
    party.bind()
    monkeypatch.setattr(watch, "real_monotonic", lambda: now[0])
    monkeypatch.setattr(watch, "effort", lambda _: Effort(run=0.0))
    seen = []
    for now[0] in (0.0, 5.0, 5.02, 5.04):
        seen.append(watch.idle(party))
    assert seen == [0.0, watch.LOOK, pytest.approx(watch.LOOK + 0.02), pytest.approx(watch.LOOK + 0.04)]


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Idle:
    """`watch.idle` at looks that are 20 ms apart, each with one of these efforts."""

    def looks(efforts: Iterable[Effort], outside: bool = False) -> list[float]:
        party, now = Party(threading.current_thread().name), [0.0]
        party.bind()
        party.outside = int(outside)
        monkeypatch.setattr(watch, "real_monotonic", lambda: now[0])
        seen = []
        for told in efforts:
            monkeypatch.setattr(watch, "effort", lambda _, told=told: told)
            seen.append(round(watch.idle(party), 3))
            now[0] += 0.02
        return seen

    return looks


def test_a_thread_that_sleeps_is_blocked(idle: Idle) -> None:
    assert idle([Effort(True, ("5", "1"), 1.0, 0.5)] * 3) == [0, 0.02, 0.04]


def test_a_thread_that_waits_for_a_processor_is_at_work(idle: Idle) -> None:
    """While it waits, the system counts nothing for it."""
    assert idle([Effort(False, ("5", "1"), 1.0, 0.5)] * 30) == [0] * 30


def test_a_thread_that_has_just_been_woken_is_at_work(idle: Idle) -> None:
    asleep, woken = Effort(True, ("5", "1"), 1.0, 0.5), Effort(False, ("5", "1"), 1.0, 0.5)
    assert idle([asleep, asleep, woken, woken, asleep]) == [0, 0.02, 0, 0, 0.02]


def test_a_thread_that_waits_for_the_interpreter_is_at_work(idle: Idle) -> None:
    """It wakes up every 5 ms to ask for it; one that polls in small steps does too, and is idle after half a second."""
    seen = idle([Effort(True, (str(look * 4), "1"), 1.0 + look / 1e5, 0.5) for look in range(30)])
    assert seen[:25] == [0] * 25
    assert seen[26:] == [0.52, 0.54, 0.56, 0.58]


def test_a_thread_outside_may_poll_in_small_steps(idle: Idle) -> None:
    seen = idle([Effort(True, (str(look * 4), "1"), 1.0 + look / 1e5, 0.5) for look in range(3)], True)
    assert seen == [0, 0.02, 0.04]


def test_a_thread_that_has_not_begun_is_at_work() -> None:
    party = Party("one that has no processor yet")
    assert [watch.idle(party) for _ in range(3)] == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_the_system_tells_who_sleeps_and_who_works() -> None:
    def blocked() -> None:
        native.append(threading.get_native_id())
        go.acquire()

    native: list[int] = []
    go = threading.Lock()
    go.acquire()
    thread = threading.Thread(target=blocked)
    thread.start()
    while not native or not effort(native[0]).asleep:
        pass
    before = effort(threading.get_native_id())
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    after = effort(threading.get_native_id())
    go.release()
    thread.join()
    assert (before.asleep, after.asleep) == (False, False)
    assert (after.run or 0) - (before.run or 0) > 0.01
    while effort(native[0]) != Effort():  # until it is gone
        pass
