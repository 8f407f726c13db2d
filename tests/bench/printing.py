"""`notnow serve --json` with a reader: what printing costs, beside the same fake that prints nothing."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from importlib.util import find_spec
from typing import Self

from tests.bench.connect import FAKE, Seen
from tests.bench.processes import Process, Server, linux_only, module
from tests.bench.table import Bench, Row, Target, median_ratio

WHAT = "421 at connect a processor second, serve --json with a reader"
LOOP = "uvloop" if find_spec("uvloop") else "asyncio"  # as `notnow serve` chooses


class Printing(Process):
    """`notnow serve --json`, whose output another process reads and drops."""

    def __init__(self, scenario: str, *knobs: str) -> None:
        options = [word for knob in knobs for word in ("--set", knob)]
        super().__init__([sys.executable, "-m", "notnow", "serve", scenario, *options, "--json"], NOTNOW_LOOP=LOOP)
        assert self._child.stdout is not None
        self.port = int(json.loads(self._child.stdout.readline())["port"])

    def __enter__(self) -> Self:
        self._reader = subprocess.Popen(["cat"], stdin=self._child.stdout, stdout=subprocess.DEVNULL)
        return self

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait()
        self._reader.wait()


def run(quick: bool) -> list[Row]:
    linux_only()
    rounds, seconds = (5, 0.3) if quick else (25, 0.4)  # many and short: both sides have the same of what else runs
    silent, printing = Seen(), Seen()
    with Server(*FAKE, loop=LOOP) as first, Printing(*FAKE[1:]) as second:
        pairs: list[tuple[Process, Seen]] = [(first, silent), (second, printing)]
        for server, _ in pairs:
            module("load", "refused", server.port, 0.3)
        for _ in range(rounds):
            for server, seen in pairs:
                seen.add(server, seconds)
            pairs.reverse()
    return [
        Row(
            "json", WHAT, printing.capacity, "/s", "no output", silent.capacity,
            median_ratio(silent.cost, printing.cost), Target("ratio", "≥", 0.8), f"no output: {silent}. Ours: {printing}.",
        ),
        Row(
            "json", "  as the clients count", statistics.median(printing.rate), "/s", "no output",
            statistics.median(silent.rate), median_ratio(printing.rate, silent.rate),
        ),
    ]  # fmt: skip


BENCHES = (Bench("json", WHAT, run),)
