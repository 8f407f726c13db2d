"""The pytest plugin: fixtures, the marker, options, and what a failing test is told.

It imports pytest and nothing else until a marker or a fixture of ours is met, and knows nothing of
protocols beyond their names.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from notnow import __version__

if TYPE_CHECKING:
    from notnow.clock import Clock
    from notnow.fast_forward import FastForward
    from notnow.scenario import Scenario
    from notnow.servers._fake import Fake
    from notnow.servers._runner import Runner
    from notnow.servers.ftp import FakeFTP
    from notnow.servers.http import FakeHTTP
    from notnow.servers.smtp import FakeSMTP

PROTOCOLS = ("smtp", "ftp", "http")
TRACES = ("on", "off", "retain-on-failure")
TRACE_DIRECTORY = "notnow-traces"
MARKER = (
    "notnow(name, **knobs_and_options): play a scenario of notnow on the fake server of its protocol; "
    'a pattern such as "smtp/*" runs the test once for each scenario that matches.'
)

_seed = pytest.StashKey[int]()
_fakes: pytest.StashKey[list[Fake]] = pytest.StashKey()
_clock: pytest.StashKey[Clock] = pytest.StashKey()
_runner: pytest.StashKey[Runner] = pytest.StashKey()
_problems = pytest.StashKey[list[str]]()


# ---- options -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("notnow", 'fake servers that say "not now"')
    group.addoption(
        "--notnow-seed", metavar="N", help="Seed of every chance in a scenario (default: drawn, and shown)."
    )
    group.addoption(
        "--notnow-scenarios", metavar="DIR", action="append", default=[], help="Also find scenarios in this directory."
    )
    group.addoption(
        "--notnow-trace",
        metavar="WHEN",
        help=f"Write the journal of each test to {TRACE_DIRECTORY}/ as JSON Lines: {', '.join(TRACES)} (default: off).",
    )
    parser.addini("notnow_seed", "Seed of every chance in a scenario.", default=None)
    parser.addini("notnow_scenarios", "Directories with scenarios of your own.", type="paths", default=[])
    parser.addini("notnow_trace", f"When to write journals: {', '.join(TRACES)}.", default="off")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    config.stash[_seed] = _chosen_seed(config)
    if _trace(config) not in TRACES:
        raise pytest.UsageError(f"--notnow-trace is {_trace(config)!r}; allowed: {', '.join(TRACES)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    runner = config.stash.get(_runner, None)
    if runner is not None:
        runner.release()


def _chosen_seed(config: pytest.Config) -> int:
    worker = getattr(config, "workerinput", None)  # pytest-xdist: every worker has the controller's
    if worker is not None:
        return int(worker["notnow_seed"])
    given = config.getoption("notnow_seed") or config.getini("notnow_seed")
    if given in (None, ""):
        return random.SystemRandom().randrange(2**31)
    try:
        return int(given)
    except ValueError:
        raise pytest.UsageError(f"--notnow-seed is {given!r}; allowed: a whole number") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["notnow_seed"] = node.config.stash[_seed]


def pytest_report_header(config: pytest.Config) -> str:
    return f"notnow: {__version__}, seed {config.stash[_seed]} (--notnow-seed)"


def _trace(config: pytest.Config) -> str:
    return str(config.getoption("notnow_trace") or config.getini("notnow_trace"))


def _directories(config: pytest.Config) -> list[Path]:
    given = [config.invocation_params.dir / directory for directory in config.getoption("notnow_scenarios")]
    return [*given, *config.getini("notnow_scenarios")]


# ---- the marker --------------------------------------------------------------------------------


class _MarkerError(ValueError):
    """A marker that does not hold, and why."""


def _name(mark: pytest.Mark) -> str:
    if len(mark.args) != 1 or not isinstance(mark.args[0], (str, Path)):
        raise _MarkerError(f'takes the name of one scenario, such as "smtp/overload", not {mark.args!r}')
    return str(mark.args[0])


def _find(config: pytest.Config, path: Path, name: str, knobs: dict[str, Any]) -> Scenario:
    from notnow import catalogue

    return catalogue.scenario(name, own=_directories(config), beside=[path.parent, config.rootpath], **knobs)


def _split(mark: pytest.Mark) -> tuple[dict[str, Any], dict[str, Any]]:
    """The knobs of a marker, and its server options."""
    from notnow.knobs import SERVER_OPTIONS

    knobs = {k: v for k, v in mark.kwargs.items() if k not in SERVER_OPTIONS}
    return knobs, {k: v for k, v in mark.kwargs.items() if k in SERVER_OPTIONS}


def _protocol(config: pytest.Config, path: Path, name: str) -> str:
    if name.endswith(".toml"):
        return _find(config, path, name, {}).protocol
    return name.partition("/")[0]


def _nearest(
    config: pytest.Config, path: Path, marks: Iterable[pytest.Mark], protocol: str | None
) -> pytest.Mark | None:
    """The nearest marker for a protocol; any, where none is asked for."""
    for mark in marks:
        found = _protocol(config, path, _name(mark))
        if protocol is None or found in (protocol, "*"):
            return mark
    return None


def _fixtures_of_ours(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    for name in names:
        if name == "fake_server":
            yield name, None
        elif name.startswith("fake_") and name[5:] in PROTOCOLS:
            yield name, name[5:]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = list(metafunc.definition.iter_markers("notnow"))
    for fixture, protocol in _fixtures_of_ours(metafunc.fixturenames) if marks else ():
        try:
            mark = _nearest(metafunc.config, metafunc.definition.path, marks, protocol)
            if mark is not None and any(c in _name(mark) for c in "*?["):
                metafunc.parametrize(fixture, _matching(metafunc.config, mark, protocol), indirect=True)
        except ValueError as error:  # told once everything is collected
            metafunc.config.stash.setdefault(_problems, []).append(_told(metafunc.definition.nodeid, error))


def _told(where: str, error: Exception) -> str:
    return f"{where}: @pytest.mark.notnow: {error}"


def _matching(config: pytest.Config, mark: pytest.Mark, protocol: str | None) -> list[str]:
    """The scenarios that the pattern of a marker names. Raises ValueError where there is none."""
    from notnow import catalogue

    pattern, directories = _name(mark), _directories(config)
    protocols = (protocol,) if protocol else PROTOCOLS
    found = [n for n in catalogue.names(pattern, directories) if n.partition("/")[0] in protocols]
    if not found:
        raise _MarkerError(f"no scenario matches {pattern!r}; see `notnow list`")
    known = {knob for name in found for knob in catalogue.scenario(name, own=directories).params}
    if unknown := sorted(set(_split(mark)[0]) - known):
        raise _MarkerError(f"no scenario that matches {pattern!r} has a knob {unknown[0]!r}")
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every marker is checked before any test runs.

    A worker of pytest-xdist cannot end the run; there a test with a bad marker fails in its fixture.
    """
    problems = config.stash.get(_problems, [])
    for item in items:
        problems += _check(config, item)
    if problems and not hasattr(config, "workerinput"):
        raise pytest.UsageError("\n".join(problems))


def _check(config: pytest.Config, item: pytest.Item) -> list[str]:
    marks = list(item.iter_markers("notnow"))
    callspec = getattr(item, "callspec", None)
    for fixture, protocol in _fixtures_of_ours(getattr(item, "fixturenames", ())) if marks else ():
        chosen = callspec.params.get(fixture) if callspec is not None else None
        try:
            mark = _nearest(config, item.path, marks, protocol)
            if chosen is not None or mark is None or not any(c in _name(mark) for c in "*?["):
                _make(config, item.path, mark, protocol, chosen, None)
        except ValueError as error:
            return [_told(item.nodeid, error)]
    return []


# ---- fakes -------------------------------------------------------------------------------------


def _make(
    config: pytest.Config,
    path: Path,
    mark: pytest.Mark | None,
    protocol: str | None,
    chosen: str | None,
    clock: Clock | None,
) -> Fake:
    """The fake for a marker, not started. Raises ValueError for a marker that does not hold."""
    options: dict[str, Any] = {"seed": config.stash[_seed], **({"clock": clock} if clock is not None else {})}
    scenario: Scenario | None = None
    if mark is not None:
        knobs, given = _split(mark)
        if chosen is not None:
            known = _find(config, path, chosen, {}).params
            knobs = {k: v for k, v in knobs.items() if k in known}
        scenario = _find(config, path, chosen or _name(mark), knobs)
        options |= given
        protocol = scenario.protocol
    if protocol is None:
        raise _MarkerError(
            'the fixture fake_server needs a marker with the name of a scenario, such as "smtp/overload"'
        )
    return _fake_class(protocol)(scenario, **options)


def _fake_class(protocol: str) -> type[Fake]:
    from notnow.servers import by_protocol

    return by_protocol(protocol)


def _clock_of(request: pytest.FixtureRequest) -> Clock:
    """One clock for all the fakes of a test: that of `fast_forward`, where the test asks for it."""
    stash = request.node.stash
    if _clock not in stash:
        if "fast_forward" in request.fixturenames:
            stash[_clock] = request.getfixturevalue("fast_forward").clock
        else:
            from notnow.clock import RealClock

            stash[_clock] = RealClock()
    clock: Clock = stash[_clock]
    return clock


def _started(request: pytest.FixtureRequest, fake: Fake) -> Fake:
    config, item = request.config, request.node
    if _runner not in config.stash:  # keep the thread for the tests that follow
        from notnow.servers._runner import Runner

        config.stash[_runner] = Runner.acquire()
    fake.find = lambda name, **knobs: _find(config, item.path, name, knobs)
    fake.start()
    item.stash.setdefault(_fakes, []).append(fake)
    return fake


def _served(request: pytest.FixtureRequest, protocol: str | None) -> Iterator[Fake]:
    item = request.node
    mark = _nearest(request.config, item.path, item.iter_markers("notnow"), protocol)
    chosen = getattr(request, "param", None)
    fake = _make(request.config, item.path, mark, protocol, chosen, _clock_of(request))
    _started(request, fake)
    try:
        yield fake
    finally:
        fake.stop()


@pytest.fixture
def fake_smtp(request: pytest.FixtureRequest) -> Iterator[FakeSMTP]:
    """A fake SMTP server, already listening; healthy unless the test is marked with a scenario."""
    yield from _served(request, "smtp")  # type: ignore[misc]


@pytest.fixture
def fake_ftp(request: pytest.FixtureRequest) -> Iterator[FakeFTP]:
    """A fake FTP server, already listening; healthy unless the test is marked with a scenario."""
    yield from _served(request, "ftp")  # type: ignore[misc]


@pytest.fixture
def fake_http(request: pytest.FixtureRequest) -> Iterator[FakeHTTP]:
    """A fake HTTP server, already listening; healthy unless the test is marked with a scenario."""
    yield from _served(request, "http")  # type: ignore[misc]


@pytest.fixture
def fake_server(request: pytest.FixtureRequest) -> Iterator[Fake]:
    """A fake server for the protocol of the scenario that the marker names."""
    yield from _served(request, None)


@pytest.fixture
def fake_servers(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A factory: `fake_servers(primary="smtp/overload", backup="smtp/healthy")` has `.primary` and `.backup`.

    They share one clock and one order of events.
    """
    made: list[Fake] = []

    def factory(**scenarios: str | Path | Scenario) -> SimpleNamespace:
        group = {}
        for name, wanted in scenarios.items():
            scenario = (
                wanted
                if not isinstance(wanted, (str, Path))
                else _find(request.config, request.node.path, str(wanted), {})
            )
            seed, clock = request.config.stash[_seed], _clock_of(request)
            fake = _fake_class(scenario.protocol)(scenario, name=name, seed=seed, clock=clock)
            made.append(_started(request, fake))
            group[name] = fake
        return SimpleNamespace(**group)

    try:
        yield factory
    finally:
        for fake in reversed(made):
            fake.stop()


@pytest.fixture
def fast_forward() -> Iterator[FastForward]:
    """Waits in the test's process advance scenario time instead; `.clock` is the clock of the test's fakes."""
    from notnow.fast_forward import FastForward

    with FastForward() as world:
        yield world


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each run of a test begins anew, also where a plugin runs the same item again (pytest-rerunfailures)."""
    item.stash.setdefault(_fakes, []).clear()
    if _clock in item.stash:
        del item.stash[_clock]


# ---- reports -----------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fakes = item.stash.get(_fakes, [])
    if fakes and call.when == "call":
        if report.failed:
            from notnow.conduct.timeline import render

            seed = item.config.stash[_seed]
            names = ", ".join(f.scenario.name for f in fakes)
            report.sections.append(("notnow", f"{names}, seed {seed}\n\n{render([f.journal for f in fakes])}"))
        when = _trace(item.config)
        if when == "on" or (when == "retain-on-failure" and report.failed):
            report.sections.append(("notnow trace", str(_write_trace(item, fakes))))
    return report


def _write_trace(item: pytest.Item, fakes: list[Fake]) -> Path:
    directory = item.config.rootpath / TRACE_DIRECTORY
    directory.mkdir(exist_ok=True)
    file = directory / (re.sub(r"[^A-Za-z0-9_.-]+", "-", item.nodeid).strip("-") + ".jsonl")
    with file.open("w", encoding="utf-8") as out:
        for fake in fakes:
            fake.journal.export(out)
    return file
