"""Whether the workers of a client, refused together, come back together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from notnow.units import show

if TYPE_CHECKING:
    from notnow.journal import Connection

WORKERS = 5  # refused together, from which on their return may be a herd
TOGETHER = 0.1  # spread, relative to the wait, within which they come back as one
AT_ONCE = 0.05  # seconds, a spread that is nothing but the time to connect


class Herd(Struct, frozen=True):
    """Workers that were refused together, and came back: so many of them, so long after, within so many seconds."""

    workers: int
    delay: float
    spread: float

    @property
    def together(self) -> bool:
        """True if they come back together, which may cause the next outage."""
        return self.spread <= max(TOGETHER * self.delay, AT_ONCE)

    def in_words(self) -> str:
        came = (
            f"{self.workers} workers, refused together, came back {show(self.delay)} later within {show(self.spread)}"
        )
        return f"{came}: as a herd, without jitter" if self.together else f"{came}: spread, not as a herd"


def herd(connections: Sequence[Connection], refused: Collection[Connection]) -> Herd | None:
    """Whether workers come back at one time; None where there were never `WORKERS` of them refused within a second.

    `refused` are the connections on which something was refused. Returning workers are counted, not identified: as many
    connections as were refused, after the last of those.
    """
    found: list[Herd] = []
    order = sorted(connections, key=lambda c: c.opened_at)
    times = [c.opened_at for c in order]
    start = 0
    while start < len(order):
        end = bisect_right(times, times[start] + 1.0)
        wave = [c for c in order[start:end] if c in refused]
        back = order[end : end + len(wave)]
        if len(wave) >= WORKERS and len(back) >= WORKERS:
            delay = back[0].opened_at - wave[-1].opened_at
            found.append(Herd(len(back), delay, back[-1].opened_at - back[0].opened_at))
        start += max(1, len(wave))
    return max(found, key=lambda h: (h.together, h.workers), default=None)
