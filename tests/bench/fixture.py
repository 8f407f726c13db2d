"""What `fake_smtp` adds to a test: 500 empty tests with it and 500 without, in turns."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.table import Bench, Row, Skip, Target

TESTS = 500
WITH = "import pytest\n\n@pytest.mark.parametrize('n', range({n}))\ndef test_empty(n, fake_smtp):\n    pass\n"
WITHOUT = WITH.replace(", fake_smtp", "")


def pytest(directory: Path, *arguments: str) -> float:
    """Run pytest there; seconds. Raises Skip if the run is not a success."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    took = time.perf_counter() - start
    if done.returncode:
        if missing := re.search(r"fixture '\w+' not found", done.stdout):
            raise Skip(missing[0])
        raise RuntimeError(f"pytest has failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took


def run(quick: bool) -> list[Row]:
    rounds = 3 if quick else 9
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")
        (directory / "test_with.py").write_text(WITH.format(n=TESTS))
        (directory / "test_without.py").write_text(WITHOUT.format(n=TESTS))
        pytest(directory, "test_with.py")
        pairs = [(pytest(directory, "test_with.py"), pytest(directory, "test_without.py")) for _ in range(rounds)]
    each = statistics.median((a - b) / TESTS * 1e3 for a, b in pairs)
    empty = statistics.median(b / TESTS * 1e3 for _, b in pairs)
    return [
        Row(
            "fixture", f"fake_smtp, added to an empty test ({TESTS} of them)", each, "ms", "the empty test", empty,
            target=Target("figure", "≤", 1.0), note="import of notnow and start of its thread are spread over the tests",
        )
    ]  # fmt: skip


def profile(into: Path) -> None:
    """The main thread of pytest only: what the loop's thread does meanwhile shows as waiting."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")
        (directory / "test_with.py").write_text(WITH.format(n=TESTS))
        command = [sys.executable, "-m", "cProfile", "-o", str(into), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        subprocess.run(command, cwd=directory, check=True, stdout=subprocess.DEVNULL)


BENCHES = (Bench("fixture", "what fake_smtp adds to an empty test", run, profile),)
