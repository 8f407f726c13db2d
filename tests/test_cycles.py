"""Fakes that start and stop in every state of a client, and many at once. `python -m tests.soak.cycles` runs a thousand cycles each.

In a process of its own: here, pytest's plugin keeps the journals of a test's fakes for its report.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.soak import cycles

COUNT = 30  # the first third is not looked at
PATIENCE = 1800  # real seconds; on a busy machine, 600 were not enough


def test_nothing_is_left_and_nothing_grows(each_loop: str) -> None:
    command = [sys.executable, "-m", "tests.soak.cycles", "--count", str(COUNT), "--loop", each_loop]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    for state in cycles.STATES:
        assert f"\n{state} " in f"\n{done.stdout}"
    assert done.stdout.endswith("200 fakes at once: nothing is left\n")
