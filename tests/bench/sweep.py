"""What a sweep costs: the part of a cell that is ours, in process, and a hundred cells of a program."""

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

from notnow.chaos import sweep
from notnow.cli import group

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


BENCHES = (
    Bench("sweep.cell", "a cell of a sweep in process", in_process),
    Bench("sweep.program", "a hundred cells out of process", out_of_process),
)
