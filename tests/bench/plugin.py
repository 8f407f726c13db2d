"""What the installed plugin adds to pytest's start: an empty directory, with and without it, in turns."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import entry_points
from pathlib import Path

from tests.bench.table import Bench, Row, Skip, Target

NOTHING_COLLECTED = 5


def command(*arguments: str) -> list[str]:
    """pytest without the plugins of others, which would pay for imports that ours might share with them."""
    others = [f"no:{found.name}" for found in entry_points(group="pytest11") if found.name != "notnow"]
    off = [argument for other in others for argument in ("-p", other)]
    return ["-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *off, *arguments]


def imported() -> list[str]:
    """The modules that the plugin loads and pytest has not."""
    code = "import sys, pytest; seen = set(sys.modules); import notnow.pytest_plugin; print(*sorted(set(sys.modules) - seen))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def start(directory: Path, *arguments: str) -> tuple[float, float]:
    """Milliseconds of processor time, and from exec to exit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *command(*arguments)], cwd=directory, capture_output=True, text=True)
    took = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != NOTHING_COLLECTED:
        raise RuntimeError(f"pytest has failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3, took * 1e3


def run(quick: bool) -> list[Row]:
    if not any(found.name == "notnow" for found in entry_points(group="pytest11")):
        raise Skip("notnow is not installed here: pip install -e .")
    rounds = 10 if quick else 40
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")
        start(directory)
        pairs = []
        for i in range(rounds):
            pair = [start(directory, *(["-p", "no:notnow"] if off else [])) for off in (i % 2, 1 - i % 2)]
            pairs.append(pair if i % 2 == 0 else pair[::-1])
    added, waited = ([on[i] - off[i] for on, off in pairs] for i in (0, 1))
    spread = statistics.quantiles(added, n=4)
    return [
        Row(
            "plugin", "the plugin, added to pytest's start", statistics.median(added), "ms", "pytest alone",
            statistics.median(off[0] for _, off in pairs), target=Target("figure", "≤", 5.0),
            note=f"processor time; half of the {rounds} differences lie between {spread[0]:.1f} and {spread[2]:.1f} ms; "
            f"by the wall clock the median is {statistics.median(waited):.1f} ms. It imports {', '.join(imported())}",
        )
    ]  # fmt: skip


BENCHES = (Bench("plugin", "what the plugin adds to pytest's start", run),)
