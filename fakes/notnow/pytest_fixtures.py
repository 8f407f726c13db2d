"""The fixtures of the pytest plugin: fakes for a test or for a scope, `fake_servers`, and `fast_forward`.

None has `request` as an argument: for that, pytest makes three fixtures more in each test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from notnow import protocols, pytest_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import SimpleNamespace

    from notnow.language.scenario import Scenario
    from notnow.servers.base.fake import Fake
    from notnow.servers.ftp import FakeFTP
    from notnow.servers.http import FakeHTTP
    from notnow.servers.smtp import FakeSMTP
    from notnow.time_travel.fast_forward import FastForward


def _started(config: pytest.Config, fake: Fake, path: Path) -> Fake:
    fake._bridge.kept = config.stash[pytest_run.ENVIRONMENT].runner()
    fake._find = lambda name, **knobs: pytest_run.places_of(config).find(path, name, knobs)
    return fake.start()


def _served(protocol: str | None) -> Iterator[Fake]:
    from notnow import pytest_markers

    request = pytest_run.request()
    item, places, seed = request.node, pytest_run.places_of(request.config), request.config.stash[pytest_run.SEED]
    mark = pytest_markers.nearest(places, item.path, pytest_markers.of_item(item), protocol)
    if mark is not None:
        item.stash.setdefault(pytest_run.READ, []).append(mark)
    chosen = getattr(request, "param", None)
    cell = item.stash.get(pytest_run.CELL, None)
    fake = pytest_markers.make(
        places, item.path, mark, protocol, chosen, seed, pytest_run.clock_of(item, request), cell
    )
    if mark is not None and mark.kwargs.get("sweep"):
        item.stash[pytest_run.SWEPT] = fake
    _started(request.config, fake, item.path)
    try:
        yield fake
    finally:
        fake.stop()


@pytest.fixture
def fake_smtp() -> Iterator[FakeSMTP]:
    """A fake SMTP server, already listening; healthy unless the test is marked with a scenario."""
    yield from _served("smtp")  # type: ignore[misc]


@pytest.fixture
def fake_ftp() -> Iterator[FakeFTP]:
    """A fake FTP server, already listening; healthy unless the test is marked with a scenario."""
    yield from _served("ftp")  # type: ignore[misc]


@pytest.fixture
def fake_http() -> Iterator[FakeHTTP]:
    """A fake HTTP server, already listening; healthy unless the test is marked with a scenario."""
    yield from _served("http")  # type: ignore[misc]


@pytest.fixture
def fake_server() -> Iterator[Fake]:
    """A fake server for the protocol of the scenario that the marker names."""
    yield from _served(None)


@pytest.fixture
def fake_servers() -> Iterator[Any]:
    """A factory: `fake_servers(primary="smtp/overload", backup="smtp/healthy")` has `.primary` and `.backup`.

    They share one clock and one order of events.
    """
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


def _of_protocol(protocol: str) -> Callable[..., Any]:
    """A fixture for a fake of one test."""

    def served() -> Iterator[Fake]:
        yield from _served(protocol)

    served.__doc__ = (
        f"A fake {protocol.upper()} server, already listening; healthy unless the test is marked with a scenario."
    )
    return pytest.fixture(name=f"fake_{protocol}")(served)


def _lasting(protocol: str, scope: Any) -> Callable[..., Any]:
    """A fixture for a fake that outlives a test, and is reset for each."""
    fixture = f"fake_{protocol}_{scope}"

    def lasting() -> Iterator[Fake]:
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

    lasting.__doc__ = (
        f"A fake {protocol.upper()} server for all tests of a {scope}: it is reset before each, and plays its scenario."
    )
    return pytest.fixture(scope=scope, name=fixture)(lasting)


for _protocol in protocols.NAMES:
    # The fixtures above are written out for editors, which read their types.
    globals().setdefault(f"fake_{_protocol}", _of_protocol(_protocol))
    for _scope in ("module", "session"):
        globals()[f"fake_{_protocol}_{_scope}"] = _lasting(_protocol, _scope)


@pytest.fixture
def fast_forward() -> Iterator[FastForward]:
    """Make waits in the test's process advance scenario time; `.clock` is the clock of the test's fakes."""
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


FIXTURES = {name: found for name, found in globals().items() if name.startswith(("fake_", "fast_"))}
