"""The plugin's report on the fakes of a failed test, and its trace files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from notnow.clock import Clock, RealClock
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.servers.base.fake import Fake

if TYPE_CHECKING:
    import pytest

LONGEST_NAME = 150  # characters of a test's name in the name of its trace: file systems allow 255 bytes


def add(report: pytest.TestReport, fakes: Sequence[Fake], clock: Clock | None) -> None:
    """Add a section about these fakes to the text of a failure, which --show-capture does not hide."""
    text = section(fakes, clock)
    add_section = getattr(report.longrepr, "addsection", None)
    if add_section is None:  # another plugin has written this failure's text
        report.sections.append(("notnow", text))
    else:
        add_section("notnow", text, "-")


def section(fakes: Sequence[Fake], clock: Clock | None) -> str:
    """The scenarios, the seeds, and the events. Fakes of one clock share a timeline.

    `clock` is that of fast_forward, if the test uses it: fakes in real time are shown separately.
    """
    seeds = {fake.seed for fake in fakes}
    if len(seeds) == 1:
        head = f"{', '.join(fake.scenario.name for fake in fakes)}, seed {seeds.pop()}"
    else:
        head = ", ".join(f"{fake.scenario.name} (seed {fake.seed})" for fake in fakes)
    notes = [_in_real_time(fake) for fake in fakes if clock is not None and isinstance(fake.clock, RealClock)]
    clocks = {id(fake.clock): fake.clock for fake in fakes}
    pictures = [render([f.journal for f in fakes if f.clock is one]) for one in clocks.values()]
    return "\n\n".join([head, *notes, *pictures])


def _in_real_time(fake: Fake) -> str:
    return (
        f"The clock of fast_forward does not move {fake.name} ({fake.scenario.name}), which was made before it: its scenario "
        "runs in real time while the waits of the test take none. Give it clock=fast_forward.clock, or make it in the test."
    )


def untested(fakes: Sequence[Fake]) -> str:
    """Why these fakes have tested nothing: their scenarios have faults, and none fired. Empty if one did, or there are none."""
    run = Run([fake.journal for fake in fakes], [fake.scenario for fake in fakes], whole=True)
    if not run.untested:
        return ""
    return f"nothing was tested: {run.untested} (notnow_unfired in the configuration decides about such tests)"


def write_trace(directory: Path, nodeid: str, fakes: Sequence[Fake]) -> Path:
    """Write the journals of a test as JSON Lines into one file; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / trace_name(nodeid)
    with file.open("w", encoding="utf-8") as out:
        for fake in fakes:
            fake.journal.export(out)
    return file


def trace_name(nodeid: str) -> str:
    """The name of a test's trace. It omits characters that a file name cannot hold, so a hash makes it unique."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", nodeid).strip("-")[-LONGEST_NAME:]
    return f"{readable}-{hashlib.sha256(nodeid.encode()).hexdigest()[:8]}.jsonl"
