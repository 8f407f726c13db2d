"""The pytest plugin: fixtures, the marker, options, and the report of a failing test.

It imports nothing but pytest until a test has a marker or a fixture of notnow, and knows nothing about protocols except
their names.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from notnow import environment, protocols
from notnow._version import __version__

if TYPE_CHECKING:
    from notnow.clock import Clock
    from notnow.environment import Environment
    from notnow.language.scenario import Scenario
    from notnow.pytest_markers import Places
    from notnow.servers.base.fake import Fake
    from notnow.servers.base.runner import Runner
    from notnow.servers.ftp import FakeFTP
    from notnow.servers.http import FakeHTTP
    from notnow.servers.smtp import FakeSMTP
    from notnow.time_travel.fast_forward import FastForward

SCOPE_ENDINGS = ("_module", "_session")  # suffixes of the fixtures that outlive a test
KEPT = 20  # the most stopped fakes of a test that its report keeps
TRACES = ("on", "off", "retain-on-failure")
TRACE_DIRECTORY = "notnow-traces"
MARKER = (
    "notnow(name, **knobs_and_options): play a scenario of notnow on the fake server of its protocol; "
    'a pattern such as "smtp/*" runs the test once for each scenario that matches.'
)

_seed = pytest.StashKey[int]()
_environment: pytest.StashKey[_RunEnvironment] = pytest.StashKey()
_runner: pytest.StashKey[Runner] = pytest.StashKey()
_problems = pytest.StashKey[list[str]]()
_PROBLEMS = "notnow_problems"  # where a pytest-xdist worker puts them for the controller
# Of a test, as long as it runs:
_fakes: pytest.StashKey[list[Fake]] = pytest.StashKey()
_clock: pytest.StashKey[Clock] = pytest.StashKey()
_older: pytest.StashKey[list[tuple[Fake, int]]] = pytest.StashKey()  # with where their journals were when it began
_prepared: pytest.StashKey[list[Fake]] = pytest.StashKey()
_read: pytest.StashKey[list[pytest.Mark]] = pytest.StashKey()
_told = pytest.StashKey[bool]()
_OF_A_TEST: tuple[pytest.StashKey[Any], ...] = (_fakes, _clock, _older, _prepared, _read, _told)


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
    config.stash[_environment] = _RunEnvironment(config, environment.current)
    environment.install(config.stash[_environment])
    if _trace(config) not in TRACES:
        raise pytest.UsageError(f"--notnow-trace is {_trace(config)!r}; allowed: {', '.join(TRACES)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    host = config.stash.get(_environment, None)
    if host is not None and environment.current is host:
        environment.install(host.before)
    runner = config.stash.get(_runner, None)
    if runner is not None:
        runner.release()


def _chosen_seed(config: pytest.Config) -> int:
    worker = getattr(config, "workerinput", None)  # pytest-xdist: every worker uses the controller's seed
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


# ---- the marker --------------------------------------------------------------------------------


def _places(config: pytest.Config) -> Places:
    """The places of scenarios in this run."""
    from notnow.pytest_markers import Places

    given = [config.invocation_params.dir / directory for directory in config.getoption("notnow_scenarios")]
    return Places(config.rootpath, [*given, *config.getini("notnow_scenarios")])


def _marked(definition: pytest.Item) -> bool:
    """True if a test has a marker of notnow, or a parameter that may have one."""
    return any(mark.name in ("notnow", "parametrize") for mark in definition.iter_markers())


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    if not _asks(metafunc.fixturenames) or not _marked(metafunc.definition):
        return (yield)
    from notnow import pytest_markers

    places = _places(metafunc.config)
    with pytest_markers.params_spread(metafunc, places) as problems:
        try:
            pytest_markers.parametrize(metafunc, places)
        except ValueError as error:  # reported after collection
            problems.append(str(error))
        result = yield
    told = [f"{metafunc.definition.nodeid}: @pytest.mark.notnow: {problem}" for problem in problems]
    metafunc.config.stash.setdefault(_problems, []).extend(told)
    return result


def _asks(names: Iterable[str]) -> bool:
    """True if one of these fixtures may be notnow's."""
    return any(name.startswith("fake_") for name in names)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check every marker before any test runs.

    A pytest-xdist worker cannot end the run: it runs nothing, and the controller reports the problems once.
    """
    problems = config.stash.get(_problems, [])
    for item in items:
        problems += _check(config, item)
    if not problems:
        return
    problems = list(dict.fromkeys(problems))
    if not hasattr(config, "workerinput"):
        raise pytest.UsageError("\n".join(problems))
    config.workeroutput[_PROBLEMS] = problems  # type: ignore[attr-defined]
    items.clear()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if problems := getattr(node, "workeroutput", {}).get(_PROBLEMS):
        raise pytest.UsageError("\n".join(problems))


def _check(config: pytest.Config, item: pytest.Item) -> list[str]:
    names, problems = getattr(item, "fixturenames", ()), []
    if item.get_closest_marker("notnow") is not None:
        from notnow import pytest_markers

        problems += pytest_markers.check(_places(config), item, config.stash[_seed])
    lasting = [name for name in names if name.startswith("fake_") and name.endswith(SCOPE_ENDINGS)]
    if lasting and "fast_forward" in names:
        problems.append(
            f"{lasting[0]} outlives the test and runs in real time, which fast_forward, the clock of one test, cannot "
            f"move: ask for {lasting[0].rpartition('_')[0]} here"
        )
    return [f"{item.nodeid}: {problem}" for problem in problems]


# ---- the run, and the test that is running -------------------------------------------------------


class _RunEnvironment:
    """The owner of fakes that user code makes: the run gives them its seed, and the test its clock.

    `before` is the environment of an enclosing run. `lasting` are the fakes of notnow's fixtures that outlive a test.
    """

    def __init__(self, config: pytest.Config, before: Environment) -> None:
        self.config, self.before = config, before
        self.item: pytest.Item | None = None
        self.requests: list[pytest.FixtureRequest] = []  # of the fixtures in setup, the innermost last
        self.living: list[Fake] = []
        self.lasting: dict[str, Fake] = {}
        self.began = False  # the test's own fixtures are in setup, or it runs

    def settings(self) -> Mapping[str, Any]:
        seed, clock = self.config.stash[_seed], self._clock()
        return {"seed": seed} if clock is None else {"seed": seed, "clock": clock}

    def _clock(self) -> Clock | None:
        """The clock of the test; None for a fake that outlives it or is made outside a test."""
        request = self.requests[-1] if self.requests else None
        if self.item is None or (request is not None and request.scope != "function"):
            return None
        return _clock_of(self.item, request)

    def started(self, fake: Fake) -> None:
        self.living.append(fake)
        if self.item is not None:
            self.item.stash.setdefault(_fakes, []).append(fake)

    def stopped(self, fake: Fake) -> None:
        if fake in self.living:
            self.living.remove(fake)
        if self.item is not None:
            own = self.item.stash.get(_fakes, [])
            over = [one for one in own if not one.running][:-KEPT]
            if over:  # a property or a loop makes hundreds; each keeps everything that its clients sent
                own.remove(over[0])

    def begin(self, item: pytest.Item) -> None:
        """A test begins, perhaps again (pytest-rerunfailures)."""
        for key in _OF_A_TEST:
            if key in item.stash:
                del item.stash[key]
        self.item, self.began = item, False
        item.stash[_older] = [(fake, fake.clock.stamp()) for fake in self.living]

    def end(self) -> None:
        self.item = None
        for fake in self.lasting.values():
            fake._bridge.raise_errors()

    def prepare(self) -> None:
        """Reset the fakes that outlive tests for this test, and play its scenario."""
        self.began = True
        done = self.item.stash.setdefault(_prepared, []) if self.item is not None else []
        for fixture, fake in list(self.lasting.items()):
            if self.item is not None and not any(fake is one for one in done):
                done.append(fake)
                fake.reset()
                fake.play(self._scenario(self.item, fixture) or f"{fake.protocol}/healthy")

    def _scenario(self, item: pytest.Item, fixture: str) -> Scenario | None:
        """The scenario of the test's marker for one of these fakes, if the test uses the fake."""
        if fixture not in getattr(item, "fixturenames", ()):
            return None
        from notnow import pytest_markers

        places, marks = _places(self.config), pytest_markers.of_item(item)
        mark = pytest_markers.nearest(places, item.path, marks, pytest_markers.FIXTURES[fixture])
        if mark is None:
            return None
        item.stash.setdefault(_read, []).append(mark)
        return pytest_markers.check_lasting(places, item.path, fixture, mark)

    def fakes_of(self, item: pytest.Item) -> list[Fake]:
        """The fakes of a test, and the older fakes to which clients connected during the test."""
        older = [fake for fake, start in item.stash.get(_older, []) if _active_since(fake, start)]
        own = item.stash.get(_fakes, [])
        return older + [fake for fake in own if not any(fake is one for one in older)]


def _active_since(fake: Fake, start: int) -> bool:
    journal = fake.journal
    return any(entries and entries[-1].index > start for entries in (journal.exchanges, journal.connections))


def _clock_of(item: pytest.Item, request: pytest.FixtureRequest | None) -> Clock:
    """One clock for all the fakes of a test: that of `fast_forward` if the test uses it, whatever the fixture order."""
    if _clock not in item.stash and request is not None and "fast_forward" in request.fixturenames:
        request.getfixturevalue("fast_forward")
    if _clock not in item.stash:
        from notnow.clock import RealClock

        item.stash[_clock] = RealClock()
    return item.stash[_clock]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[_environment].begin(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    host = request.config.stash[_environment]
    if fixturedef.scope == "function" and not host.began:
        host.prepare()
    host.requests.append(request)
    try:
        value = yield
    finally:
        host.requests.pop()
    if host.began and fixturedef.argname in host.lasting:
        host.prepare()  # a fake that was made late
    return value


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A `pytest.fail()` or `pytest.skip()` in an app that a fake calls concerns the test, not its teardown."""
    item.config.stash[_environment].prepare()
    try:
        result = yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # perhaps only the client's reaction to the app's error
        _raise_strays(item)
        raise
    _raise_strays(item)
    return result


def _raise_strays(item: pytest.Item) -> None:
    for fake in item.config.stash[_environment].fakes_of(item):
        fake._bridge.raise_guest_errors()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    item.config.stash[_environment].end()
    if item.get_closest_marker("notnow") is not None:
        _warn_of_idle_markers(item)


def _warn_of_idle_markers(item: pytest.Item) -> None:
    """The test might have requested a fixture while it ran; otherwise the marker had no effect."""
    from notnow import pytest_markers

    read = item.stash.get(_read, [])
    names = list(getattr(item, "fixturenames", ()))
    for mark, told in pytest_markers.idle(_places(item.config), item, names):
        if not any(mark is one for one in read):
            warnings.warn(pytest.PytestWarning(f"@pytest.mark.notnow: {told}"), stacklevel=1)


# ---- fakes -------------------------------------------------------------------------------------


def _started(config: pytest.Config, fake: Fake, path: Path) -> Fake:
    if _runner not in config.stash:  # keep the thread for the next tests
        from notnow.servers.base.runner import Runner

        config.stash[_runner] = Runner.acquire()
    fake._find = lambda name, **knobs: _places(config).find(path, name, knobs)
    return fake.start()


def _served(request: pytest.FixtureRequest, protocol: str | None) -> Iterator[Fake]:
    from notnow import pytest_markers

    item, places, seed = request.node, _places(request.config), request.config.stash[_seed]
    mark = pytest_markers.nearest(places, item.path, pytest_markers.of_item(item), protocol)
    if mark is not None:
        item.stash.setdefault(_read, []).append(mark)
    chosen = getattr(request, "param", None)
    fake = pytest_markers.make(places, item.path, mark, protocol, chosen, seed, _clock_of(item, request))
    _started(request.config, fake, item.path)
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
    from notnow.servers import by_protocol

    made: list[Fake] = []
    config, path, clock = request.config, request.node.path, _clock_of(request.node, request)

    def factory(*unnamed: object, **scenarios: str | Path | Scenario) -> SimpleNamespace:
        if unnamed:
            raise TypeError(f"fake_servers() needs a name for each fake, as in fake_servers(primary={unnamed[0]!r})")
        group = {}
        for name, wanted in scenarios.items():
            found = _places(config).find(path, str(wanted), {}) if isinstance(wanted, (str, Path)) else wanted
            fake = by_protocol(found.protocol)(found, name=name, seed=config.stash[_seed], clock=clock)
            made.append(_started(config, fake, path))
            group[name] = fake
        return SimpleNamespace(**group)

    try:
        yield factory
    finally:
        for fake in reversed(made):
            fake.stop()


def _of_protocol(protocol: str) -> Callable[..., Any]:
    """A fixture for a fake of one test."""

    def served(request: pytest.FixtureRequest) -> Iterator[Fake]:
        yield from _served(request, protocol)

    served.__doc__ = (
        f"A fake {protocol.upper()} server, already listening; healthy unless the test is marked with a scenario."
    )
    return pytest.fixture(name=f"fake_{protocol}")(served)


def _lasting(protocol: str, scope: Any) -> Callable[..., Any]:
    """A fixture for a fake that outlives a test, and is reset for each."""
    fixture = f"fake_{protocol}_{scope}"

    def lasting(request: pytest.FixtureRequest) -> Iterator[Fake]:
        from notnow.servers import by_protocol

        config = request.config
        host = config.stash[_environment]
        path = host.item.path if host.item is not None else config.rootpath / "conftest.py"
        clock = next((fake.clock for fake in host.lasting.values()), None)
        fake = _started(config, by_protocol(protocol)(seed=config.stash[_seed], clock=clock), path)
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
def fast_forward(request: pytest.FixtureRequest) -> Iterator[FastForward]:
    """Make waits in the test's process advance scenario time; `.clock` is the clock of the test's fakes."""
    from notnow.time_travel.fast_forward import FastForward

    with FastForward() as world:
        request.node.stash[_clock] = world.clock
        yield world


# ---- reports -----------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fakes = item.config.stash[_environment].fakes_of(item)
    if fakes:
        from notnow import pytest_report

        if report.failed and not item.stash.get(_told, False):
            clock = item.stash.get(_clock, None) if "fast_forward" in getattr(item, "funcargs", {}) else None
            pytest_report.add(report, fakes, clock)
            item.stash[_told] = True
        when = _trace(item.config)
        wanted = when == "on" and (report.failed or call.when != "setup")
        if wanted or (when == "retain-on-failure" and report.failed):
            directory = item.config.rootpath / TRACE_DIRECTORY
            report.sections.append(("notnow trace", str(pytest_report.write_trace(directory, item.nodeid, fakes))))
    return report
