"""Whether memory is flat: objects and resident memory after each round, when nothing is connected and all is forgotten."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

# One object for 20 connections. What a connection leaves behind is at least one object for each; caches fill up, and the
# first third of the rounds, in which they do, does not count.
OBJECTS = 0.05
# KiB for a connection. An idle connection takes 9 at least. The allocator keeps pages that are partly used: that is a
# part of one for each of a few hundred connections, and only of many thousands does it tell a leak from chance.
RESIDENT = 0.1
ENOUGH = 20_000  # connections for which resident memory is judged
FEWEST = 30  # rounds for which objects are judged: in the first ten, caches fill up


@dataclass
class Memory:
    """Figures after each round: connections so far, objects that the collector knows, KiB that are resident."""

    rounds: list[tuple[int, int, int]] = field(default_factory=list)

    def look(self, connections: int) -> None:
        gc.collect()
        self.rounds.append((connections, len(gc.get_objects()), _resident()))

    def _slope(self, column: int) -> float:
        """How much a connection adds, by least squares over the last two thirds of the rounds."""
        kept = self.rounds[len(self.rounds) // 3 :]
        return slope([row[0] for row in kept], [row[column] for row in kept])

    @property
    def objects(self) -> float:
        return self._slope(1)

    @property
    def resident(self) -> float:
        return self._slope(2)

    def faults(self) -> list[str]:
        """What grows. Too few rounds, or connections, tell nothing."""
        found = []
        if len(self.rounds) >= FEWEST and self.objects > OBJECTS:
            found.append(f"objects grow by {self.objects:.3f} a connection; allowed: {OBJECTS}")
        if self.rounds and self.rounds[-1][0] >= ENOUGH and _resident() and self.resident > RESIDENT:
            found.append(f"resident memory grows by {self.resident:.3f} KiB a connection; allowed: {RESIDENT}")
        return found

    def __str__(self) -> str:
        if not self.rounds:
            return "no round"
        return (
            f"{self.objects:+.4f} objects and {self.resident:+.4f} KiB a connection; "
            f"at the end {self.rounds[-1][1]:,} objects, {self.rounds[-1][2]:,} KiB"
        )


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the straight line through these points (least squares); 0 where they have no extent."""
    if len(x) < 2 or max(x) == min(x):
        return 0.0
    middle, height = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    return sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / spread


def _resident() -> int:
    """KiB of resident memory; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    return int(status.read_text().partition("VmRSS:")[2].split()[0]) if status.exists() else 0
