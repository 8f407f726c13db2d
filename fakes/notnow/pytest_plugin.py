"""The pytest plugin: its options, its marker, its fixtures, and its hooks.

`pytest_run` has the state of a run, `pytest_fixtures` what the fixtures do. Three more plugins are registered where a run
needs them: `pytest_sweep` for sweep=True, `pytest_properties` for Hypothesis, `pytest_workers` for pytest-xdist. Nothing but
pytest is imported until a test has a marker or a fixture of notnow. Every start of pytest pays for this module, and for each
hook, fixture and option in it.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any

import pytest

from notnow import environment, protocols, pytest_run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from notnow.servers.base.fake import Fake
    from notnow.servers.ftp import FakeFTP
    from notnow.servers.http import FakeHTTP
    from notnow.servers.smtp import FakeSMTP
    from notnow.time_travel.fast_forward import FastForward

SCOPE_ENDINGS = ("_module", "_session")  # suffixes of the fixtures that outlive a test
TRACES = ("on", "off", "retain-on-failure")
UNFIRED = ("error", "warn", "ignore")
TRACE_DIRECTORY = "notnow-traces"
MARKER = (
    "notnow(name, **knobs_and_options): play a scenario of notnow on the fake server of its protocol; "
    'a pattern such as "smtp/*" runs the test once for each scenario that matches, and sweep=True once for each fault at '
    "each event of its healthy run."
)

_problems = pytest.StashKey[list[str]]()


def __dir__() -> list[str]:
    """The fixtures and hooks alone: pytest takes a long look at each name of a plugin."""
    return _REGISTERED


# ---- options -----------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    # Each says its `dest`: where one does not, pytest compares it with those of all options that there are.
    group = parser.getgroup("notnow", 'fake servers that say "not now"')
    group.addoption(
        "--notnow-found",
        dest="notnow_found",
        metavar="DIR",
        help="Save the scenario of a failed property here, and play it first next time.",
    )
    group.addoption(
        "--notnow-cell",
        dest="notnow_cells",
        metavar="ID",
        action="append",
        default=[],
        help="Of tests with sweep=True, run only this cell behind the healthy test, such as rcpt#1:421. May be repeated.",
    )
    group.addoption(
        "--notnow-seed",
        dest="notnow_seed",
        metavar="N",
        help="Seed of every chance in a scenario (default: random, and shown).",
    )
    group.addoption(
        "--notnow-scenarios",
        dest="notnow_scenarios",
        metavar="DIR",
        action="append",
        default=[],
        help="Also find scenarios in this directory.",
    )
    group.addoption(
        "--notnow-trace",
        dest="notnow_trace",
        metavar="WHEN",
        help=f"Write the journal of each test to {TRACE_DIRECTORY}/ as JSON Lines: {', '.join(TRACES)} (default: off).",
    )
    parser.addini("notnow_found", "Directory of the scenarios that made properties fail.", default=None)
    parser.addini("notnow_seed", "Seed of every chance in a scenario.", default=None)
    parser.addini("notnow_scenarios", "Directories with your own scenarios.", type="paths", default=[])
    parser.addini(
        "notnow_unfired",
        f"How to treat a passed test whose scenarios have faults of which none fired: {', '.join(UNFIRED)}.",
        default="warn",
    )
    parser.addini("notnow_trace", f"When to write journals: {', '.join(TRACES)}.", default="off")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    config.stash[pytest_run.SEED] = _chosen_seed(config)
    config.stash[pytest_run.ENVIRONMENT] = pytest_run.RunEnvironment(config, environment.current)
    environment.install(config.stash[pytest_run.ENVIRONMENT])
    config.add_cleanup(config.stash[pytest_run.ENVIRONMENT].leave)
    if _trace(config) not in TRACES:
        raise pytest.UsageError(f"--notnow-trace is {_trace(config)!r}; allowed: {', '.join(TRACES)}")
    if config.getini("notnow_unfired") not in UNFIRED:
        given = config.getini("notnow_unfired")
        raise pytest.UsageError(f"notnow_unfired is {given!r}; allowed: {', '.join(UNFIRED)}")
    if config.getoption("dist", "no") != "no":  # this is the controller of pytest-xdist
        from notnow import pytest_workers

        config.pluginmanager.register(pytest_workers, pytest_workers.__name__)


def _chosen_seed(config: pytest.Config) -> int:
    worker = getattr(config, "workerinput", None)  # pytest-xdist: each worker uses its controller's seed
    if worker is not None:
        return int(worker["notnow_seed"])
    given = config.getoption("notnow_seed") or config.getini("notnow_seed")
    if given in (None, ""):
        return random.SystemRandom().randrange(2**31)
    try:
        return int(given)
    except ValueError:
        raise pytest.UsageError(f"--notnow-seed is {given!r}; allowed: a whole number") from None


def pytest_report_header(config: pytest.Config) -> str:
    from notnow._version import __version__

    return f"notnow: {__version__}, seed {config.stash[pytest_run.SEED]} (--notnow-seed)"


def _trace(config: pytest.Config) -> str:
    return str(config.getoption("notnow_trace") or config.getini("notnow_trace"))


# ---- fixtures ----------------------------------------------------------------------------------

# None has `request` as an argument: for that, pytest makes three fixtures more in each test.


@pytest.fixture
def fake_smtp() -> Iterator[FakeSMTP]:
    """A fake SMTP server, already listening; healthy unless the test is marked with a scenario."""
    from notnow import pytest_fixtures

    yield from pytest_fixtures.served("smtp")  # type: ignore[misc]


@pytest.fixture
def fake_ftp() -> Iterator[FakeFTP]:
    """A fake FTP server, already listening; healthy unless the test is marked with a scenario."""
    from notnow import pytest_fixtures

    yield from pytest_fixtures.served("ftp")  # type: ignore[misc]


@pytest.fixture
def fake_http() -> Iterator[FakeHTTP]:
    """A fake HTTP server, already listening; healthy unless the test is marked with a scenario."""
    from notnow import pytest_fixtures

    yield from pytest_fixtures.served("http")  # type: ignore[misc]


@pytest.fixture
def fake_server() -> Iterator[Fake]:
    """A fake server for the protocol of the scenario that the marker names."""
    from notnow import pytest_fixtures

    yield from pytest_fixtures.served(None)


@pytest.fixture
def fake_servers() -> Iterator[Any]:
    """A factory: `fake_servers(primary="smtp/overload", backup="smtp/healthy")` has `.primary` and `.backup`.

    They share one clock and one order of events.
    """
    from notnow import pytest_fixtures

    yield from pytest_fixtures.several()


def _of_protocol(protocol: str) -> Callable[..., Any]:
    """A fixture for a fake of one test."""

    def served() -> Iterator[Fake]:
        from notnow import pytest_fixtures

        yield from pytest_fixtures.served(protocol)

    served.__doc__ = (
        f"A fake {protocol.upper()} server, already listening; healthy unless the test is marked with a scenario."
    )
    return pytest.fixture(name=f"fake_{protocol}")(served)


def _lasting(protocol: str, scope: Any) -> Callable[..., Any]:
    """A fixture for a fake that outlives a test, and is reset for each."""
    fixture = f"fake_{protocol}_{scope}"

    def lasting() -> Iterator[Fake]:
        from notnow import pytest_fixtures

        yield from pytest_fixtures.lasting(protocol, fixture)

    lasting.__doc__ = (
        f"A fake {protocol.upper()} server for all tests of a {scope}: it is reset before each, and plays its scenario."
    )
    return pytest.fixture(scope=scope, name=fixture)(lasting)


for _protocol in protocols.NAMES:
    if f"fake_{_protocol}" not in globals():  # those above are written out for editors, which read their types
        globals()[f"fake_{_protocol}"] = _of_protocol(_protocol)
    for _scope in ("module", "session"):
        globals()[f"fake_{_protocol}_{_scope}"] = _lasting(_protocol, _scope)


@pytest.fixture
def fast_forward() -> Iterator[FastForward]:
    """Make waits in the test's process advance scenario time; `.clock` is the clock of the test's fakes."""
    from notnow import pytest_fixtures

    yield from pytest_fixtures.accelerated()


# ---- the marker --------------------------------------------------------------------------------


def _marked(definition: pytest.Item) -> bool:
    """True if a test has a marker of notnow, or a parameter that may have one."""
    return any(mark.name in ("notnow", "parametrize") for mark in definition.iter_markers())


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    if not _asks(metafunc.fixturenames) or not _marked(metafunc.definition):
        return (yield)
    from notnow import pytest_markers

    places = pytest_run.places_of(metafunc.config)
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

    A pytest-xdist worker cannot end the run: it runs nothing, and the controller reports the problems once (`pytest_workers`).
    """
    problems = config.stash.get(_problems, [])
    for item in items:
        problems += _check(config, item)
    if not problems:
        return
    problems = list(dict.fromkeys(problems))
    if not hasattr(config, "workerinput"):
        raise pytest.UsageError("\n".join(problems))
    config.workeroutput[pytest_run.PROBLEMS] = problems  # type: ignore[attr-defined]
    items.clear()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Register the plugins that only some tests need."""
    if "hypothesis" in sys.modules:
        from notnow import pytest_properties

        session.config.pluginmanager.register(pytest_properties, pytest_properties.__name__)
    if any(mark.kwargs.get("sweep") for item in session.items for mark in item.iter_markers("notnow")):
        from notnow import pytest_sweep

        session.config.pluginmanager.register(pytest_sweep, pytest_sweep.__name__)


def _check(config: pytest.Config, item: pytest.Item) -> list[str]:
    names, problems = getattr(item, "fixturenames", ()), []
    if item.get_closest_marker("notnow") is not None:
        from notnow import pytest_markers

        problems += pytest_markers.check(pytest_run.places_of(config), item, config.stash[pytest_run.SEED])
    lasting = [name for name in names if name.startswith("fake_") and name.endswith(SCOPE_ENDINGS)]
    if lasting and "fast_forward" in names:
        problems.append(
            f"{lasting[0]} outlives the test and runs in real time, which fast_forward, the clock of one test, cannot "
            f"move: ask for {lasting[0].rpartition('_')[0]} here"
        )
    return [f"{item.nodeid}: {problem}" for problem in problems]


# ---- around a test -----------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[pytest_run.ENVIRONMENT].begin(item)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    host = request.config.stash[pytest_run.ENVIRONMENT]
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
    host = item.config.stash[pytest_run.ENVIRONMENT]
    host.prepare()
    try:
        result = yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # perhaps only the client's reaction to the app's error
        pytest_run.raise_strays(host.fakes_of(item))
        raise
    fakes = host.fakes_of(item)
    pytest_run.raise_strays(fakes)
    pytest_run.look_for_faults(item, fakes)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    yield
    item.config.stash[pytest_run.ENVIRONMENT].end()
    if item.get_closest_marker("notnow") is not None:
        pytest_run.warn_of_idle_markers(item)


# ---- reports -----------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    when = _trace(item.config)
    if report.failed or when == "on":
        _tell(report, item, call, when)
    if call.when == "teardown":  # the last report of the test
        pytest_run.forget(item)
    return report


def _tell(report: pytest.TestReport, item: pytest.Item, call: pytest.CallInfo[None], when: str) -> None:
    """Add the test's fakes to a report, and write their journals if that is wanted."""
    fakes = item.config.stash[pytest_run.ENVIRONMENT].fakes_of(item)
    if not fakes:
        return
    from notnow import pytest_report

    if report.failed and not item.stash.get(pytest_run.TOLD, False):
        clock = item.stash.get(pytest_run.CLOCK, None) if "fast_forward" in getattr(item, "funcargs", {}) else None
        pytest_report.add(report, fakes, clock)
        item.stash[pytest_run.TOLD] = True
    wanted = when == "on" and (report.failed or call.when != "setup")
    if wanted or (when == "retain-on-failure" and report.failed):
        directory = item.config.rootpath / TRACE_DIRECTORY
        report.sections.append(("notnow trace", str(pytest_report.write_trace(directory, item.nodeid, fakes))))


_REGISTERED = [
    name for name, found in globals().items() if name.startswith(("pytest_", "fake_", "fast_")) and callable(found)
]
