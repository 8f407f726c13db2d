"""What tests of every kind share: the two event loops that fakes run on."""

from __future__ import annotations

import os

import pytest

# CI runs both loops on its first Python, and names one for the others. There is no uvloop for Windows.
LOOPS = os.environ.get("NOTNOW_TEST_LOOPS", "asyncio" if os.name == "nt" else "asyncio,uvloop").split(",")


@pytest.fixture(params=LOOPS)
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice, with fakes on asyncio's loop and on uvloop: `serve` and `try` choose uvloop where they find it."""
    monkeypatch.setenv("NOTNOW_LOOP", request.param)
    return str(request.param)
