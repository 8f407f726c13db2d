"""What the fixtures of the pytest plugin do: fakes for a test or for a scope, `fake_servers`, and `fast_forward`.

`notnow.pytest_plugin` declares them, and imports this when a test uses one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from notnow import pytest_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    import pytest

    from notnow.language.scenario import Scenario
    from notnow.servers.base.fake import Fake
    from notnow.time_travel.fast_forward import FastForward


def _started(config: pytest.Config, fake: Fake, path: Path) -> Fake:
    fake._bridge.kept = config.stash[pytest_run.ENVIRONMENT].runner()
    fake._find = lambda name, **knobs: pytest_run.places_of(config).find(path, name, knobs)
    return fake.start()


def served(protocol: str | None) -> Iterator[Fake]:
    """A fake of one test, with the scenario of its marker."""
    from notnow import pytest_markers

    request = pytest_run.request()
    item, places, seed = request.node, pytest_run.places_of(request.config), request.config.stash[pytest_run.SEED]
    mark = pytest_markers.nearest(places, item.path, pytest_markers.of_item(item), protocol)
    if mark is not None:
        item.stash.setdefault(pytest_run.READ, []).append(mark)
    chosen = getattr(request, "param", None)
    cell = item.stash.get(pytest_run.CELL, None)
    fake = pytest_markers.make(places, item.path, mark, protocol, chosen, seed, cell)
    if mark is not None and mark.kwargs.get("sweep"):
        item.stash[pytest_run.SWEPT] = fake
    _started(request.config, fake, item.path)
    try:
        yield fake
    finally:
        fake.stop()


def several() -> Iterator[Callable[..., SimpleNamespace]]:
    """What makes fakes for one test."""
    from types import SimpleNamespace

    from notnow.language.scenario import Scenario
    from notnow.servers import by_protocol
    from notnow.servers.base.stopping import stop_all

    made: list[Fake] = []
    request = pytest_run.request()
    config, path, clock = request.config, request.node.path, pytest_run.clock_of(request.node, request)

    def factory(*unnamed: object, **scenarios: str | Path | Scenario) -> SimpleNamespace:
        if unnamed:
            raise TypeError(f"fake_servers() needs a name for each fake, as in fake_servers(primary={unnamed[0]!r})")
        group = {}
        for name, wanted in scenarios.items():
            found = wanted if isinstance(wanted, Scenario) else pytest_run.places_of(config).find(path, str(wanted), {})
            fake = by_protocol(found.protocol)(found, name=name, seed=config.stash[pytest_run.SEED], clock=clock)
            made.append(_started(config, fake, path))
            group[name] = fake
        return SimpleNamespace(**group)

    try:
        yield factory
    finally:
        stop_all(made)


def lasting(protocol: str, fixture: str) -> Iterator[Fake]:
    """A fake that outlives a test, and is reset for each."""
    from notnow.servers import by_protocol

    config = pytest_run.request().config
    host = config.stash[pytest_run.ENVIRONMENT]
    path = host.item.path if host.item is not None else config.rootpath / "conftest.py"
    clock = next((fake.clock for fake in host.lasting.values()), None)
    fake = _started(config, by_protocol(protocol)(seed=config.stash[pytest_run.SEED], clock=clock), path)
    host.lasting[fixture] = fake
    try:
        yield fake
    finally:
        del host.lasting[fixture]
        fake.stop()


def accelerated() -> Iterator[FastForward]:
    """Waits advance scenario time."""
    from notnow import pytest_properties
    from notnow.time_travel.fast_forward import FastForward, kept_in_place

    item = pytest_run.request().node
    if pytest_properties.renews_time(item):  # each example enters its own
        with kept_in_place():
            yield FastForward()
        return
    with FastForward() as world:
        item.stash[pytest_run.CLOCK] = world.clock
        yield world
