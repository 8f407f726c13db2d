"""What the installed plugin adds to pytest's start, in an empty directory.

It is a few milliseconds of some hundreds, so whole processes with and without it differ by chance far more
than that: the figure is what the import and the hooks take inside one, in time of the processor. Neither waits for anything.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tests.bench.processes import Took, python
from tests.bench.table import Bench, Row, Skip, Target

NOTHING_COLLECTED = 5


def command(*arguments: str) -> list[str]:
    """pytest without the plugins of others, which would pay for imports that ours might share with them."""
    others = [f"no:{found.name}" for found in entry_points(group="pytest11") if found.name != "notnow"]
    off = [argument for other in others for argument in ("-p", other)]
    return ["-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *off, *arguments]


INSIDE = """
import contextlib, gc, io, json, statistics, sys, time
import pytest

def start(*off):
    gc.collect()  # the garbage of the run before is not this one's
    begun = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*sys.argv[1:], *off])
    return (time.process_time() - begun) * 1e3

gc.collect()  # what pytest's own import has left
seen, begun = set(sys.modules), time.process_time()
import notnow.pytest_plugin
took, modules = (time.process_time() - begun) * 1e3, sorted(set(sys.modules) - seen)
OFF = ("-p", "no:notnow")
start()
differences = []
for i in range(30):
    took_by = {off: start(*off) for off in (((), OFF) if i % 2 else (OFF, ()))}
    differences.append(took_by[()] - took_by[OFF])
print(json.dumps({"import": took, "modules": modules, "hooks": statistics.median(differences)}))
"""


def inside(directory: Path) -> dict[str, Any]:
    """In one process: ms that the plugin's module takes to load after pytest, and its hooks in a run of nothing."""
    _, _, *arguments = command()
    done = subprocess.run([sys.executable, "-c", INSIDE, *arguments], cwd=directory, check=True, capture_output=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def start(directory: Path, *arguments: str) -> Took:
    return python(directory, *command(*arguments), status=NOTHING_COLLECTED)


def run(quick: bool) -> list[Row]:
    if not any(found.name == "notnow" for found in entry_points(group="pytest11")):
        raise Skip("notnow is not installed here: pip install -e .")
    rounds = 10 if quick else 20
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pytest.ini").write_text("[pytest]\n")
        start(directory)
        inside(directory)  # pytest rewrites a plugin and keeps that: the plain module has yet to be compiled
        pairs = []
        for i in range(rounds):
            pair = [start(directory, *(["-p", "no:notnow"] if off else [])) for off in (i % 2, 1 - i % 2)]
            pairs.append(pair if i % 2 == 0 else pair[::-1])
        found = [inside(directory) for _ in range(rounds // 2)]
    added = [on - off for on, off in pairs]
    spread = statistics.quantiles((took.wall for took in added), n=4)
    modules, hooks = (statistics.median(one[part] for one in found) for part in ("import", "hooks"))
    note = (
        f"import {modules:.2f} ms ({', '.join(found[0]['modules'])}) and hooks {hooks:.2f} ms of the processor, inside pytest; "
        f"of the {rounds} differences between whole processes half lie between {spread[0]:.1f} and {spread[2]:.1f} ms"
    )
    return [
        Row(
            "plugin", "the plugin, added to pytest's start", modules + hooks, "ms",
            target=Target("figure", "≤", 5.0), note=note,
        ),
        Row(
            "plugin", "  as whole processes differ", statistics.median(took.wall for took in added), "ms",
            "pytest alone", statistics.median(off.wall for _, off in pairs),
        ),
    ]  # fmt: skip


BENCHES = (Bench("plugin", "what the plugin adds to pytest's start", run),)
