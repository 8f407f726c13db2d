"""What `fake_smtp` adds to a test: 500 empty tests with it and 500 without, in turns.

Both runs begin with one test that uses it: what is paid once a session (imports, the thread) is no part of
the difference.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.processes import Took, python
from tests.bench.table import Bench, Row, Skip, Target

TESTS = 500
FIRST = "import pytest\n\ndef test_first(fake_smtp):\n    pass\n\n"
EMPTY = "@pytest.mark.parametrize('n', range({n}))\ndef test_empty({arguments}):\n    pass\n"
FILES = {
    "with": FIRST + EMPTY.format(n=TESTS, arguments="n, fake_smtp"),
    "without": FIRST + EMPTY.format(n=TESTS, arguments="n"),
    "never": EMPTY.format(n=TESTS + 1, arguments="n").join(("import pytest\n\n", "")),
}
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def write(directory: Path) -> None:
    (directory / "pytest.ini").write_text("[pytest]\n")
    for name, text in FILES.items():
        (directory / f"test_{name}.py").write_text(text)


def run(quick: bool) -> list[Row]:
    rounds = 3 if quick else 5
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory)
        fixtures = [sys.executable, *PYTEST, "--fixtures", "test_never.py"]
        if "fake_smtp" not in subprocess.run(fixtures, cwd=directory, capture_output=True, text=True).stdout:
            raise Skip("there is no fixture fake_smtp yet")
        seen: dict[str, list[Took]] = {kind: [] for kind in FILES}
        python(directory, *PYTEST, "test_with.py")
        for _ in range(rounds):
            for kind in FILES:
                seen[kind].append(python(directory, *PYTEST, f"test_{kind}.py"))
    each = [a - b for a, b in zip(seen["with"], seen["without"], strict=True)]
    once = [a - b for a, b in zip(seen["without"], seen["never"], strict=True)]
    note = f"and once a session, by the wall clock, {statistics.median(t.wall for t in once):.0f} ms for imports and the thread"
    return [
        Row(
            "fixture", "fake_smtp, added to an empty test", statistics.median(t.wall for t in each) / TESTS, "ms",
            "the empty test", statistics.median(t.wall for t in seen["never"]) / TESTS,
            target=Target("figure", "≤", 1.0), note=note,
        ),
        Row(
            "fixture", "  the processor's part of it", statistics.median(t.cpu for t in each) / TESTS, "ms",
            "the empty test", statistics.median(t.cpu for t in seen["never"]) / TESTS,
            target=Target("figure", "≤", 1.0),
        ),
    ]  # fmt: skip


def profile(into: Path) -> None:
    """The main thread of pytest only: what the loop's thread does meanwhile shows as waiting."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        python(Path(name), *PYTEST, "test_with.py")
        python(Path(name), "-m", "cProfile", "-o", str(into), *PYTEST, "test_with.py")


BENCHES = (Bench("fixture", "what fake_smtp adds to an empty test", run, profile),)
