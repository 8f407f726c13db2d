"""Fakes that start and stop in every state of a client, and many at once. `python -m tests.soak.cycles` runs a thousand cycles each.

In a process of its own: here, pytest's plugin keeps the journals of a test's fakes for its report.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak import cycles

if TYPE_CHECKING:
    import pytest

COUNT = 30  # the first third is not looked at
PATIENCE = 1800  # real seconds; on a busy machine, 600 were not enough


def test_nothing_is_left_and_nothing_grows(each_loop: str) -> None:
    command = [sys.executable, "-m", "tests.soak.cycles", "--count", str(COUNT), "--loop", each_loop]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    for state in cycles.STATES:
        assert f"\n{state} " in f"\n{done.stdout}"
    assert done.stdout.endswith("200 fakes at once: nothing is left\n")


def test_a_string_that_stays_after_each_cycle_is_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    @contextmanager
    def leaking() -> Iterator[None]:
        kept.append(os.urandom(8).hex())
        yield

    monkeypatch.setitem(cycles.STATES, "leaking", leaking)
    _, faults = cycles.cycles("leaking", COUNT)
    assert any(fault.startswith("blocks grow by ") for fault in faults), faults
