"""What `fake_smtp` adds to a test: 500 empty tests with it and 500 without, in turns of 20.

All are tests of one run, since two runs of the same tests differ by more than a fixture. A test's share is its collection
and everything that pytest does around it. The first test uses the fixture, too: what is paid once a session (imports, the
thread) is no part of the difference.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.processes import python
from tests.bench.table import Bench, Row, Skip, Target

TESTS, TURN = 500, 20
TESTS_OF = f"""
import pytest

def test_first(fake_smtp):
    pass

@pytest.mark.parametrize("n", range({TESTS}))
def test_with(n, fake_smtp):
    pass

@pytest.mark.parametrize("n", range({TESTS}))
def test_without(n):
    pass
"""
CONFTEST = f"""
import gc, json, time
import pytest

SPENT = {{}}  # by the name of the function: seconds of the wall's clock, and of the processor

def pytest_collection():
    gc.disable()  # whose turn a full collection comes in is chance, and it takes as long as the rest

def pytest_collection_finish():
    gc.enable()

def spent(name):
    wall, cpu = time.perf_counter(), time.process_time()
    result = yield
    before = SPENT.get(name, (0.0, 0.0))
    SPENT[name] = before[0] + time.perf_counter() - wall, before[1] + time.process_time() - cpu
    return result

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(name):
    return (yield from spent(name))

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    first, *rest = items
    turn = lambda item: (item.callspec.params["n"] // {TURN}, item.originalname)
    items[:] = [first, *sorted(rest, key=turn)]

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    return (yield from spent(item.originalname))

def pytest_sessionfinish():
    with open("spent.json", "w") as file:
        json.dump(SPENT, file)
"""
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")


def write(directory: Path) -> None:
    (directory / "pytest.ini").write_text("[pytest]\n")
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_fixture.py").write_text(TESTS_OF)


def run(quick: bool) -> list[Row]:
    rounds = 3 if quick else 5
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write(directory)
        fixtures = [sys.executable, *PYTEST, "--fixtures"]
        if "fake_smtp" not in subprocess.run(fixtures, cwd=directory, capture_output=True, text=True).stdout:
            raise Skip("there is no fixture fake_smtp yet")
        seen = []
        python(directory, *PYTEST)
        for _ in range(rounds):
            python(directory, *PYTEST)
            seen.append(json.loads((directory / "spent.json").read_text()))
    return [
        _row("fake_smtp, added to an empty test", seen, 0),
        _row("  the processor's part of it", seen, 1),
    ]


def _row(work: str, seen: list[dict[str, list[float]]], clock: int) -> Row:
    """`clock`: 0 for the wall's, 1 for the processor's."""
    each = [(run["test_with"][clock] - run["test_without"][clock]) / TESTS * 1000 for run in seen]
    empty = statistics.median(run["test_without"][clock] for run in seen) / TESTS * 1000
    once = statistics.median(run["test_first"][0] for run in seen) * 1000
    note = f"from {min(each):.2f} to {max(each):.2f} in {len(each)} runs; once a session {once:.0f} ms for imports and the thread"
    return Row(
        "fixture", work, statistics.median(each), "ms", "the empty test", empty,
        target=Target("figure", "≤", 1.0), note="" if clock else note,
    )  # fmt: skip


def profile(into: Path) -> None:
    """The main thread of pytest only: what the loop's thread does meanwhile shows as waiting."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name))
        python(Path(name), *PYTEST)
        python(Path(name), "-m", "cProfile", "-o", str(into), *PYTEST)


BENCHES = (Bench("fixture", "what fake_smtp adds to an empty test", run, profile),)
