"""`python -m tests.mutation`: makes mutants of a folder, and prints those that its tests let pass.

The mutated code is compiled in memory, in a fork of this process (`warm`) or in a process of its own: no file changes. The
tests that bear the module's name run first, then the others of its folder; the first test that fails kills the mutant.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType

import pytest
from tests.mutation.mutants import Mutant, mutants, unchanged
from tests.mutation.warm import WarmTests, silence

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "fakes" / "notnow"
# A folder, and the tests of it that are fast: most are playbooks and tables, without sockets.
_READING = (
    "test_ledger_*.py", "test_rules_*.py", "test_reading_*.py", "test_attempts.py", "test_backoff.py", "test_families.py",
    "test_herd.py", "test_result.py", "test_storm.py",
)  # fmt: skip
TESTS = {
    "conduct/rules": ("test_rules_*.py",),
    "conduct/reading": _READING,
    "conduct": (
        *_READING, "test_judging.py", "test_arguments.py", "test_assertions*.py", "test_baseline.py", "test_chart.py",
        "test_expectations.py", "test_expected.py", "test_html.py", "test_lanes.py", "test_markdown.py", "test_report.py",
        "test_text.py", "test_timeline.py", "test_verdict.py",
    ),
    "engine": ("test_engine*.py", "test_store.py", "test_conditions.py", "test_matching.py", "test_trail.py"),
    "language": (
        "test_advice.py", "test_catalogue.py", "test_checks.py", "test_conditions.py", "test_doubts.py", "test_expect.py", "test_expected.py",
        "test_facts.py", "test_faults.py", "test_knobs.py", "test_limits.py", "test_replies.py", "test_scenario.py", "test_tables.py",
        "test_toml_lines.py", "test_trail.py", "test_values.py",
    ),
}  # fmt: skip
# These run for one module only: they take as long as all others.
OWN = {
    "test_families.py": "families", "test_assertions.py": "assertions", "test_assertions_conduct.py": "assertions",
    "test_assertions_ftp.py": "files", "test_assertions_http.py": "requests",
}  # fmt: skip
# Properties that take as long as all other tests of the folder together.
SLOW = "not what_loads_plays and not junk_in_any_place"
OPTIONS = (
    "-x", "-o", "addopts=-p pytester --import-mode=importlib", "-k", SLOW, "-p", "no:terminal", "-p", "no:cacheprovider",
    "--assert=plain",  # else the asserts of notnow, which is a plugin, are rewritten: the code would differ
)  # fmt: skip
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"
OUTCOMES = {0: SURVIVED, -signal.SIGALRM: TIMED_OUT, -signal.SIGPROF: TIMED_OUT}


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from the tree of a mutant."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        parts = mutant.path.relative_to(SOURCE.parent).with_suffix("").parts
        self.name = ".".join(parts).removesuffix(".__init__")

    def find_spec(self, name: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.mutant.path, loader=self)

    def is_package(self, name: str) -> bool:
        return self.mutant.path.stem == "__init__"

    def get_filename(self, name: str) -> str:
        return str(self.mutant.path)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.mutant.tree(), str(self.mutant.path), "exec"), module.__dict__)


def _run(mutant: Mutant, tests: Sequence[str], end: int) -> None:
    """In a process of its own: exits with 0 if every test passes."""
    silence(end)
    with contextlib.suppress(BaseException):
        finder = _Mutated(mutant)
        sys.meta_path.insert(0, finder)
        importlib.import_module(finder.name)  # before pytest does: it would load the file
        os._exit(pytest.main([*OPTIONS, *tests]) if tests else 0)
    os._exit(1)


def outcome_of(mutant: Mutant, folder: str, limit: int, warm: WarmTests, cold: ColdTests) -> str:
    """In a fork if that will do. Else first its own tests run, and the others only if these let it pass."""
    near, others = tests_of(folder, mutant.path)
    status = warm.outcome(mutant, [*near, *others], limit)
    if status is not None:
        return OUTCOMES.get(status, KILLED)
    outcome = SURVIVED
    for tests in (near, others):
        if tests and outcome == SURVIVED:
            outcome = cold.outcome(mutant, tests, limit)
    return outcome


def failing_control(paths: Sequence[Path], folder: str, limit: int, warm: WarmTests, cold: ColdTests) -> Path | None:
    """A module whose tests fail with no mutant. All run once in each way; then each module only has to load on its own."""
    near, others = tests_of(folder, paths[0])
    if warm.control(paths[0], [*near, *others], limit) not in (0, None):
        return paths[0]
    lots = [[*near, *others], *([] for _ in paths[1:])]
    return next(
        (p for p, tests in zip(paths, lots, strict=True) if cold.outcome(unchanged(p), tests, limit) != SURVIVED), None
    )


class ColdTests:
    """A process that has imported nothing of notnow: its forks load the code of a mutant from the start."""

    def __init__(self, mutants: Sequence[Mutant]) -> None:
        self.numbers = {mutant: number for number, mutant in enumerate(mutants)}
        self.worker = ProcessPoolExecutor(1, get_context("fork"), _chosen.extend, (mutants,))
        self.worker.submit(int).result()  # it starts now, not with the first mutant

    def outcome(self, mutant: Mutant, tests: Sequence[str], limit: int) -> str:
        return self.worker.submit(_cold_result, self.numbers[mutant], tests, limit).result()


_chosen: list[Mutant] = []  # in the cold process: a change to the code cannot be sent to it


def _cold_result(number: int, tests: Sequence[str], limit: int) -> str:
    assert "notnow" not in sys.modules, "started too late: its forks would not load the mutant"
    return result(_chosen[number], tests, limit)


def result(mutant: Mutant, tests: Sequence[str], limit: int) -> str:
    process = get_context("fork").Process(target=_run, args=(mutant, tests, limit))
    process.start()
    process.join()
    return OUTCOMES.get(process.exitcode or 0, KILLED)


def tests_of(folder: str, path: Path) -> tuple[list[str], list[str]]:
    """The tests that bear the module's name, or most of it; and the other tests of its folder."""
    words = set(path.relative_to(SOURCE / folder.partition("/")[0]).with_suffix("").parts)
    shared = {test: len(words & set(Path(test).stem.split("_"))) for test in tests_in(folder)}
    found = [test for test in shared if OWN.get(Path(test).name, path.stem) == path.stem]
    near = [test for test in found if shared[test] == max(map(shared.__getitem__, found))]
    return near, [test for test in found if test not in near]


def tests_in(folder: str) -> list[str]:
    return sorted({str(test) for pattern in TESTS[folder] for test in (ROOT / "tests").glob(pattern)})


def _sample(lot: Sequence[Mutant], size: int, seed: int) -> list[Mutant]:
    return random.Random(seed).sample(lot, min(size, len(lot)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", choices=sorted(TESTS), default="conduct")
    parser.add_argument("--only", default="", help="mutate only files whose path contains this")
    parser.add_argument("--sample", type=int, default=100, help="this many mutants, chosen by the seed (default: 100)")
    parser.add_argument("--each", type=int, help="this many mutants of each file, instead of --sample of the folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1800, help="begin no mutant later than this (default: 1800)")
    parser.add_argument(
        "--limit",
        type=int,
        default=120,
        help="seconds of processor time after which a mutant counts as killed (default: 120)",
    )
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    paths = [p for p in sorted((SOURCE / given.folder).rglob("*.py")) if given.only in str(p)]
    by_file = [mutants(path) for path in paths]
    every = [mutant for of_file in by_file for mutant in of_file]
    lots = [(of_file, given.each) for of_file in by_file] if given.each else [(every, given.sample)]
    chosen = [mutant for lot, size in lots for mutant in _sample(lot, size, given.seed)]
    random.Random(given.seed).shuffle(chosen)  # each file has its share if the time runs out
    os.chdir(ROOT)
    mutated = sorted({mutant.path for mutant in chosen})
    cold = ColdTests([*map(unchanged, mutated), *chosen])
    results: list[tuple[Mutant, str]] = []
    start = time.monotonic()

    def judge(mutant: Mutant, warm: WarmTests) -> None:
        if time.monotonic() - start <= given.seconds:
            outcome = outcome_of(mutant, given.folder, given.limit, warm, cold)
            results.append((mutant, outcome))
            if outcome != KILLED:  # the table may be far off
                print(f"{outcome}: {mutant}", file=sys.stderr, flush=True)

    def judge_all(warm: WarmTests) -> None:
        with ThreadPool(given.jobs) as pool:
            pool.map(partial(judge, warm=warm), chosen, chunksize=1)
        if path := failing_control(sorted({m.path for m, _ in results}), given.folder, given.limit, warm, cold):
            print(f"with no mutant, the tests for {path} fail, or take more than {given.limit} s of processor time")
            results.clear()

    pytest.main([*OPTIONS, *tests_in(given.folder)], plugins=[WarmTests(SOURCE, judge_all)])
    if not results:
        return 1
    report(given, len(every), results)
    return 0


def report(given: argparse.Namespace, every: int, results: Sequence[tuple[Mutant, str]]) -> None:
    rows: dict[str, list[str]] = {}
    for mutant, outcome in results:
        rows.setdefault(str(mutant.path.relative_to(SOURCE)), []).append(outcome)
    print(f"{'file':32} {'mutants':>8} {'killed':>8} {'score':>7}")
    for name, outcomes in [*sorted(rows.items()), ("all", [outcome for _, outcome in results])]:
        killed = len(outcomes) - outcomes.count(SURVIVED)
        print(f"{name:32} {len(outcomes):>8} {killed:>8} {killed / max(1, len(outcomes)):>7.0%}")
    print(f"of {every} mutants of {given.folder}{' ' + given.only if given.only else ''}, seed {given.seed}")
    for mutant, outcome in sorted(results, key=lambda r: (str(r[0].path), r[0].line)):
        if outcome != KILLED:
            print(f"{outcome}: {str(mutant).removeprefix(f'{ROOT}/')}")


if __name__ == "__main__":
    sys.exit(main())
