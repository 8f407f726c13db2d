"""What tests of every kind share: the two event loops that fakes run on."""

from __future__ import annotations

import sys

import pytest

LOOPS = [
    "asyncio",
    pytest.param("uvloop", marks=pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop for Windows")),
]


@pytest.fixture(params=LOOPS)
def each_loop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice, with fakes on asyncio's loop and on uvloop: `serve` and `try` choose uvloop where they find it."""
    monkeypatch.setenv("NOTNOW_LOOP", request.param)
    return str(request.param)
