"""Print what notnow costs, as a table of ratios that were measured in one run.

    python -m tests.bench [--only NAME] [--quick] [--json FILE]
    python -m tests.bench speed [--quick] [--json FILE]
    python -m tests.bench --profile NAME
    python -m tests.bench peers [--quick]

Run it from the root of the checkout, on an idle machine. Absolute figures depend on the machine and on who
else uses it; a ratio compares two things that were measured in turns. Nothing here asserts a time.
`--only` takes the name of a row or the beginning of one, and may be given more than once; `speed` stands for the
rows of what a server does for its clients, and of what a test pays for it. Postfix's
smtp-sink and smtp-source make the comparison and the load; rows that need them say so where they are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench import (
    cold,
    conduct,
    connect,
    control,
    days,
    engine,
    fixture,
    ftp,
    http,
    idle,
    page,
    peers,
    plugin,
    printing,
    profiling,
    sessions,
    shared,
    startstop,
    sweep,
    workers,
)
from tests.bench.table import Bench, Row, Skip, as_text

BENCHES: tuple[Bench, ...] = (
    *connect.BENCHES,
    *printing.BENCHES,
    *sessions.BENCHES,
    *ftp.BENCHES,
    *http.BENCHES,
    *startstop.BENCHES,
    *cold.BENCHES,
    *fixture.BENCHES,
    *plugin.BENCHES,
    *engine.BENCHES,
    *conduct.BENCHES,
    *days.BENCHES,
    *idle.BENCHES,
    *page.BENCHES,
    *control.BENCHES,
    *shared.BENCHES,
    *sweep.BENCHES,
    *workers.BENCHES,
)


# The beginnings of the names of the rows that `speed` stands for.
SPEED = ["connect", "json", "session", "message", "ftp-connect", "ftp-session", "ftp-retr", "http-421", "http-record"]
SPEED += ["engine", "fixture", "plugin", "idle", "ftp-idle", "http-idle"]


def chosen(only: list[str]) -> list[Bench]:
    """The benches whose name begins with one of `only`; all of them if it is empty. Exits where one means none."""
    for name in only:
        if not any(bench.name.startswith(name) for bench in BENCHES):
            sys.exit(f"there is no row {name!r}; there are {', '.join(b.name for b in BENCHES)}")
    return [b for b in BENCHES if not only or b.name.startswith(tuple(only))]


def machine() -> str:
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return (
        f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, "
        f"{os.cpu_count()} cores, load average before {load}"
    )


def measured(benches: list[Bench], quick: bool) -> list[Row]:
    """The rows of these benches; standard error tells how far it is."""
    rows: list[Row] = []
    for number, bench in enumerate(benches, 1):
        print(f"{number}/{len(benches)} {bench.name}: {bench.what} …", end=" ", file=sys.stderr, flush=True)
        begun = time.monotonic()
        rows += measure(bench, quick)
        print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return rows


def measure(bench: Bench, quick: bool) -> list[Row]:
    try:
        return bench.run(quick)
    except Skip as skip:
        return [Row(bench.name, bench.what, skipped=str(skip))]
    except Exception as error:  # the other rows are worth having all the same; the exit status tells
        return [Row(bench.name, bench.what, failed=f"{type(error).__name__}: {error}")]


@contextlib.contextmanager
def ordinary_python() -> Iterator[None]:
    """Our processes keep their bytecode, as installed ones do, and in a place of its own: imports are measured."""
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as directory:
        os.environ["PYTHONPYCACHEPREFIX"] = directory
        yield


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "table",
        nargs="?",
        choices=["peers", "speed"],
        help="peers: what people would pick instead, beside notnow; speed: the rows of servers and tests alone",
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only rows of this name")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a rough picture")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to this file as well")
    parser.add_argument("--profile", metavar="NAME", help="profile what one row measures, in place of the table")
    given = parser.parse_args()
    if given.profile:
        bench = next((b for b in chosen([given.profile]) if b.profile), None)
        if bench is None or bench.profile is None:
            sys.exit(f"{given.profile} has no profile; these have: {', '.join(b.name for b in BENCHES if b.profile)}")
        with ordinary_python():
            print(profiling.report(bench.profile))
        return
    where = machine()
    if given.table == "peers":
        with ordinary_python():
            print(f"{where}\n{peers.report(given.quick)}")
        return
    benches = chosen(given.only or (SPEED if given.table == "speed" else []))
    with ordinary_python():
        rows = measured(benches, given.quick)
    print(where)
    print(as_text(rows))
    if given.json:
        given.json.write_text(json.dumps({"machine": where, "rows": [row.as_dict() for row in rows]}, indent=1) + "\n")
    if any(row.failed for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
