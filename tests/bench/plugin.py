"""What the installed plugin adds to pytest's start: an empty directory, with and without it, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

from tests.bench.processes import Took, python
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


def start(directory: Path, *arguments: str) -> Took:
    return python(directory, *command(*arguments), status=NOTHING_COLLECTED)


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
    added = [on - off for on, off in pairs]
    spread = statistics.quantiles((took.wall for took in added), n=4)
    fastest = min(on.wall for on, _ in pairs) - min(off.wall for _, off in pairs)
    note = (
        f"half of the {rounds} differences lie between {spread[0]:.1f} and {spread[2]:.1f} ms, the fastest starts are "
        f"{fastest:.1f} ms apart; it imports {', '.join(imported())}"
    )
    return [
        Row(
            "plugin", "the plugin, added to pytest's start", statistics.median(took.wall for took in added), "ms",
            "pytest alone", statistics.median(off.wall for _, off in pairs), target=Target("figure", "≤", 5.0), note=note,
        ),
        Row(
            "plugin", "  the processor's part of it", statistics.median(took.cpu for took in added), "ms",
            "pytest alone", statistics.median(off.cpu for _, off in pairs),
        ),
    ]  # fmt: skip


BENCHES = (Bench("plugin", "what the plugin adds to pytest's start", run),)
