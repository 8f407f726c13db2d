"""What a new process pays: for `notnow list`, and for its first fake, imports included.

One run that is not counted comes first, for the bytecode and for the system's cache of files.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.processes import Took, python
from tests.bench.table import Bench, Row, Target

LIST = ("-m", "notnow", "list")
FIRST = """
import json, time
begun, spent = time.perf_counter(), time.process_time()
from notnow import FakeSMTP
with FakeSMTP():
    print(json.dumps([(time.perf_counter() - begun) * 1e3, (time.process_time() - spent) * 1e3]))
"""


def listing(directory: Path) -> Took:
    """The whole process."""
    return python(directory, *LIST)


def first_fake(directory: Path) -> Took:
    """From the import of notnow until a fake listens: without the start of Python."""
    done = subprocess.run([sys.executable, "-c", FIRST], cwd=directory, check=True, capture_output=True)
    return Took(*json.loads(done.stdout))


def run(name: str, what: str, act: Callable[[Path], Took], target: float, quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as at:
        act(Path(at))
        seen = [(act(Path(at)), python(Path(at), "-c", "")) for _ in range(5 if quick else 15)]
    ours, bare = zip(*seen, strict=True)
    cpu = [took.cpu for took in ours]
    note = f"at the least {min(took.wall for took in ours):.0f} ms; processor time {statistics.median(cpu):.0f} ms, at the least {min(cpu):.0f} ms"
    return [
        Row(
            name, what, statistics.median(took.wall for took in ours), "ms", "python -c ''",
            statistics.median(took.wall for took in bare), target=Target("figure", "≤", target), note=note,
        )
    ]  # fmt: skip


def profile(into: Path) -> None:
    with tempfile.TemporaryDirectory() as at:
        listing(Path(at))
        python(Path(at), "-m", "cProfile", "-o", str(into), *LIST)


def _bench(
    name: str, what: str, act: Callable[[Path], Took], target: float, profile: Callable[[Path], None] | None = None
) -> Bench:
    return Bench(name, what, lambda quick: run(name, what, act, target, quick), profile)


BENCHES = (
    _bench("start-cli", "notnow list", listing, 250, profile),
    _bench("start-first", "the first FakeSMTP of a process", first_fake, 150),
)
