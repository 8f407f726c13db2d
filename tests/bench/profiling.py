"""`--profile`: where the time of a row goes."""

from __future__ import annotations

import io
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path

TOP = 15


def report(profile: Callable[[Path], None]) -> str:
    """The functions with the most time of their own. cProfile makes small functions look dearer than they are."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "profile"
        profile(file)
        text = io.StringIO()
        pstats.Stats(str(file), stream=text).sort_stats("tottime").print_stats(TOP)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip()).replace(str(Path.cwd()) + "/", "")
