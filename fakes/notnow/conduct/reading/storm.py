"""Storm figures: what a client's tries cost a server that says "not now"."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from msgspec import Struct, to_builtins

from notnow.conduct.reading.ledger import Ledger, Try
from notnow.conduct.reading.run import Run
from notnow.garbage import uncollected
from notnow.journal import Journal
from notnow.units import plural, show

SECOND = 1.0


class Storm(Struct, frozen=True):
    """The figures of a run, in scenario time.

    `tries` and `items` are counts; `amplification` is the tries an item took, None without items. `peak` is the most
    tries that began within one second. `wasted` counts the failed tries at a server that had already refused that client
    and had accepted nothing of it since. `drained` is the seconds from recovery until the last item was through; None if
    no server refused anything, or nothing came through after it.
    """

    tries: int = 0
    items: int = 0
    amplification: float | None = None
    peak: int = 0
    wasted: int = 0
    drained: float | None = None

    def as_dict(self) -> dict[str, Any]:
        figures: dict[str, Any] = to_builtins(self)
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}

    def in_words(self) -> str:
        """The figures in one line."""
        an_item = f" ({self.amplification:.2g} an item)" if self.amplification is not None else ""
        said = [
            f"{plural(self.tries, 'try', 'tries')}{an_item}",
            f"at most {self.peak} in a second",
            f"{self.wasted} at a server known to be busy",
        ]
        if self.drained is not None:
            said.append(f"drained {show(self.drained)} after recovery")
        return ", ".join(said)


@uncollected()
def storm(run: Run) -> Storm:
    """The storm figures of a run."""
    ledger = run.ledger
    tries, items = ledger.tries, len(ledger.items)
    return Storm(
        tries=len(tries),
        items=items,
        amplification=len(tries) / items if items else None,
        peak=_peak(tries),
        wasted=_wasted(tries),
        drained=_drained(run, ledger),
    )


def _peak(tries: list[Try]) -> int:
    times = sorted([one.started_at for one in tries])
    first = 0
    for at in times:  # a window that never shrinks
        first += at - times[first] >= SECOND
    return len(times) - first


def _wasted(tries: list[Try]) -> int:
    """Failed tries of clients that knew the server to be busy."""
    busy_since: dict[tuple[Journal, str], int] = {}  # a client -> the index from which on it knew
    wasted = 0
    for one in sorted(tries, key=attrgetter("ended_index")) if any(one.failed for one in tries) else ():
        connection = one.began.connection
        client = connection.journal, connection.client
        if one.failed:
            wasted += one.started_index > busy_since.setdefault(client, one.ended_index)
        else:
            busy_since.pop(client, None)
    return wasted


def _drained(run: Run, ledger: Ledger) -> float | None:
    """Seconds from the recovery to the end of the last item. The server recovered with the phase that follows its last
    refusal, or else with that refusal.
    """
    failed = [one.ended_at for one in ledger.tries if one.failed]
    if not failed:
        return None
    through = [one.ended_at for item in ledger.items for one in item.tries if one.kept or one.ending == "accepted"]
    if not through or max(through) < max(failed):
        return None
    last, end = max(failed), max(through)
    phases = [mark.at for journal in run.journals for mark in journal.marks if last <= mark.at <= end]
    return end - min(phases, default=last)
