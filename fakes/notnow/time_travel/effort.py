"""What the system tells of a thread: does it sleep, has it been woken, how much has it worked?"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import NamedTuple


class Effort(NamedTuple):
    """A thread at a look. `run` and `queued` are seconds: on a processor, and ready but waiting for one.

    A thread that is not `asleep` runs, waits for a processor or for a disk. One that sleeps and whose `switches` do not change
    has not been woken. While a thread waits for a processor, no figure here changes.
    """

    asleep: bool = True
    switches: tuple[str, ...] = ()
    run: float | None = None  # None if the system does not tell; then the rest is a guess
    queued: float = 0.0


def effort(native: int | None) -> Effort:
    """The effort of a thread of this process, by its native id."""
    if native and sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
            task = Path(f"/proc/self/task/{native}")
            lines = (task / "status").read_text().splitlines()
            state = next(line.split()[1] for line in lines if line.startswith("State"))
            switches = tuple(line.split()[1] for line in lines[-4:] if "ctxt_switches" in line)
            run, queued, _ = (task / "schedstat").read_text().split()
            return Effort(state == "S", switches, int(run) / 1e9, int(queued) / 1e9)
    return Effort()
