"""Fixtures for tests of every kind: the two event loops that fakes run on, fast_forward, and a watchdog."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from notnow.time_travel.fast_forward import FastForward

# CI runs both loops on its first Python, and names one for the others. There is no uvloop for Windows.
LOOPS = os.environ.get("NOTNOW_TEST_LOOPS", "asyncio" if os.name == "nt" else "asyncio,uvloop").split(",")

SHARE = int(
    os.environ.get("NOTNOW_TEST_SHARE", "1")
)  # run one test in so many: CI has no time for more on a slow machine

with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    # On a busy machine anything may be slow. It inherits the rest: Hypothesis has a profile of its own for CI.
    settings.register_profile("busy", settings(deadline=None, suppress_health_check=[HealthCheck.too_slow]))
    settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = items[::SHARE]


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay until the end: `gc.collect`, which many tests call, need not look at them."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(params=LOOPS)
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice, with fakes on asyncio's loop and on uvloop: `serve` and `try` choose uvloop where they find it."""
    monkeypatch.setenv("NOTNOW_LOOP", request.param)
    return str(request.param)


@pytest.fixture
def forward() -> Iterator[FastForward]:
    """fast_forward, without a fake."""
    from notnow.time_travel.fast_forward import FastForward

    with FastForward() as on:
        yield on


@pytest.fixture
def watchdog() -> Iterator[None]:
    """A test that hangs fails after five minutes: a busy machine takes a minute for the longest."""
    signal.signal(signal.SIGALRM, _bark)
    signal.alarm(300)
    yield
    signal.alarm(0)


def _bark(*_: object) -> None:
    raise AssertionError("this test hangs")
