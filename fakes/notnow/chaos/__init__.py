"""Search for the fault that makes a client lose data: every fault at every event, invented scenarios, and recorded ones."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from notnow.chaos.matrix import Matrix
    from notnow.language.scenario import Scenario

__all__ = ["sweep"]


def sweep(
    protocol: str | Path | Scenario,
    client: Callable[[Any], object],
    /,
    *,
    faults: Collection[str] = (),
    at: Collection[str] = (),
    cells: Collection[str] = (),
    pairs: bool = False,
    budget: float | str | timedelta | None = None,
    timeout: float | str | timedelta = 10.0,
    count: int | None = None,
    **options: Any,
) -> Matrix:
    """Run a client once for each event of its healthy run and each fault there, and say what became of its items.

        sweep("smtp", lambda fake: outbox.flush(fake.host, fake.port)).assert_none("lost", "duplicated")

    `protocol` may also be a scenario without faults, for its [server]. `client` is called with a fresh fake each time; what
    it raises is how it reports a failure. It may be a coroutine function. `faults` and `at` (moments) confine the sweep, and
    `cells` picks single cells by their ids (`rcpt#2:421`). `pairs`: two faults at a time as well. `budget` bounds the sweep
    and `timeout` each run, in real seconds or as a duration; after the latter, the fake hangs up, and the client has hung.
    `count` is how many items the client was given, where its healthy run cannot tell. `options` are server options.

    Raises SweepError if the client fails in its healthy run, ScenarioError for an unknown fault, moment or cell.
    """
    from notnow.chaos.calling import swept

    return swept(
        protocol,
        client,
        faults=faults,
        at=at,
        cells=cells,
        pairs=pairs,
        budget=budget,
        timeout=timeout,
        count=count,
        options=options,
    )
