"""What a sweep costs: the part of a cell that is ours, in process; a hundred cells of a program; all pairs of faults."""

from __future__ import annotations

import io
import smtplib
import statistics
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tests.bench.table import Bench, Row, Skip, Target
from tests.chaos_clients import CAREFUL, Client

from notnow.chaos import sweep
from notnow.cli import group
from notnow.time_travel.fast_forward import FastForward

PROGRAM = """
import smtplib, sys
for number in range(2):
    with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=5) as connection:
        connection.sendmail("a@x.test", ["b@x.test", "c@x.test"], f"Message-ID: <{number}@x.test>\\n\\nhello")
"""
FAULTS = (
    "421",
    "421-open",
    "451",
    "close",
    "reset",
    "kept-421",
    "kept-close",
    "cut",
    "cut-421",
)  # all that do not stall


def send(fake: Any) -> None:
    for number in range(2):
        connection = smtplib.SMTP(timeout=5)
        try:
            connection.connect(fake.host, fake.port)
            connection.sendmail("a@x.test", ["b@x.test", "c@x.test"], f"Message-ID: <{number}@x.test>\n\nhello")
        finally:
            connection.close()


def in_process(quick: bool) -> list[Row]:
    """The time of a cell without the client's own: the fake, its scenario, the verdict."""
    found = []
    for _ in range(2 if quick else 5):
        began = time.perf_counter()
        matrix = sweep("smtp", send, faults=FAULTS)
        runs = len(matrix.outcomes) + 2
        own = sum(one.took for one in matrix.outcomes) / len(matrix.outcomes) * runs
        found.append((time.perf_counter() - began - own) / runs * 1000)
    what = "a cell of a sweep in process, without the client's own time"
    return [Row("sweep.cell", what, statistics.median(found), "ms", target=Target("figure", "≤", 10))]


def out_of_process(quick: bool) -> list[Row]:
    """A hundred cells of a Python program, eight side by side."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "send.py")
        program.write_text(PROGRAM)
        words = ["sweep", "smtp", "--json", "--", sys.executable, str(program), "{host}", "{port}"]
        began, said = time.perf_counter(), io.StringIO()
        with redirect_stdout(said):
            code = group(words, standalone_mode=False)
        took = time.perf_counter() - began
    cells = said.getvalue().count('"result":')
    if not cells:
        raise Skip(f"the sweep ended with {code}")
    what, note = (
        "a hundred cells of a Python program, out of process",
        f"{cells} cells in {took:.1f} s, those that stall included",
    )
    return [Row("sweep.program", what, took / cells * 100, "s", target=Target("figure", "≤", 20), note=note)]


def in_pairs(quick: bool) -> list[Row]:
    """All pairs of faults of each careful client; with `quick`, of the HTTP clients alone."""
    return [_all_pairs(name, one) for name, one in CAREFUL.items() if not quick or one.protocol == "http"]


def _all_pairs(name: str, client: Client) -> Row:
    began, worked = time.perf_counter(), time.process_time()
    with FastForward() as forward:
        matrix = sweep(client.protocol, client.less or client.run, pairs=True, clock=forward.clock, **client.options)
    took, work = time.perf_counter() - began, time.process_time() - worked
    note = f"{len(matrix.outcomes):,} cells, {len(matrix.pairs):,} of them pairs, in {work:.0f} s of processor time; {matrix.summary}"
    what = f"all pairs of the careful client that {name.replace('-', ' ')}"
    failed = "" if matrix.exit == 0 and not matrix.undone else matrix.summary
    return Row(f"sweep.pairs.{name}", what, took, "s", target=Target("figure", "≤", 60), note=note, failed=failed)


BENCHES = (
    Bench("sweep.cell", "a cell of a sweep in process", in_process),
    Bench("sweep.program", "a hundred cells out of process", out_of_process),
    Bench("sweep.pairs", "all pairs of faults of each careful client", in_pairs),
)
