"""A client on each worker of a fake, for tests."""

from __future__ import annotations

from typing import Any

from ftp_client import Raw
from notnow.clock import AdjustableClock, Stamps
from notnow.language import catalogue
from notnow.language.scenario import Scenario
from notnow.servers.workers.many import Many, many

MOST = 400  # connections until each worker has had one; the kernel spreads them by chance


def crew(scenario: str | Scenario, workers: int, speed: float = 1.0, **options: Any) -> Any:
    found = catalogue.scenario(scenario) if isinstance(scenario, str) else scenario
    return many(found.protocol, workers)(found, clock=AdjustableClock(speed, Stamps()), seed=7, **options)


def on_each(fake: Any, **given: Any) -> list[Raw]:
    """A connection to each worker. Those that come to a worker which has one already are closed again."""
    size = fake._bridge.size
    found: dict[int, Raw] = {}
    for _ in range(MOST):
        raw = Raw(fake, **given)
        place = place_of(fake, raw)
        if place in found:
            raw.close()
        else:
            found[place] = raw
        if len(found) == size:
            return list(found.values())
    raise AssertionError(f"{MOST} connections came to {len(found)} of {size} workers")


def place_of(fake: Many, raw: Raw) -> int:
    """The place of the worker that serves a connection: it is in the number of each exchange (`Stamps`)."""
    port = raw.sock.getsockname()[1]
    fake.wait_for(lambda journal: any(c.peer_port == port and c.exchanges for c in journal.connections), timeout=30)
    found = next(c for c in reversed(fake.journal.connections) if c.peer_port == port)
    return found.exchanges[0].index % Stamps.PLACES
