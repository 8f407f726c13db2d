"""The run and the test that is running: the plugin's state, and what its hooks around a test do.

The run is the environment of the fakes that user code makes. This imports nothing heavy until a test uses a fake.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from notnow import environment
from notnow.environment import Environment

if TYPE_CHECKING:
    from notnow.chaos.cells import Cell
    from notnow.clock import Clock
    from notnow.language.scenario import Scenario
    from notnow.pytest_markers import Places
    from notnow.servers.base.fake import Fake
    from notnow.servers.base.runner import Runner

KEPT = 20  # the most stopped fakes of a test that its report keeps

PROBLEMS = "notnow_problems"  # where a worker of pytest-xdist puts those of its markers, for the controller

SEED = pytest.StashKey[int]()
ENVIRONMENT: pytest.StashKey[RunEnvironment] = pytest.StashKey()
# Of a test, as long as it runs:
CLOCK: pytest.StashKey[Clock] = pytest.StashKey()
READ: pytest.StashKey[list[pytest.Mark]] = pytest.StashKey()  # the markers that a fake has played
TOLD = pytest.StashKey[bool]()  # its report has the section about fakes
SWEPT: pytest.StashKey[Fake] = pytest.StashKey()  # the fake of a test that is swept
CELL: pytest.StashKey[Cell] = pytest.StashKey()  # of the test of a cell of a sweep
_fakes: pytest.StashKey[list[Fake]] = pytest.StashKey()
_older: pytest.StashKey[list[tuple[Fake, int]]] = pytest.StashKey()  # with where their journals were when it began
_prepared: pytest.StashKey[list[Fake]] = pytest.StashKey()
_examples: pytest.StashKey[list[Fake]] = pytest.StashKey()  # of the examples of a property before the last one
_OF_A_TEST: tuple[pytest.StashKey[Any], ...] = (CLOCK, READ, TOLD, _fakes, _older, _prepared, _examples)


def places_of(config: pytest.Config) -> Places:
    """The places of scenarios in this run."""
    return config.stash[ENVIRONMENT].places


def request() -> pytest.FixtureRequest:
    """The request of the fixture that is in setup."""
    assert isinstance(environment.current, RunEnvironment), "pytest runs"
    return environment.current.requests[-1]


class RunEnvironment(Environment):
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
        self._kept: list[Runner] = []

    @cached_property
    def places(self) -> Places:
        """The places of scenarios."""
        from notnow.pytest_markers import Places

        config = self.config
        given = [config.invocation_params.dir / directory for directory in config.getoption("notnow_scenarios")]
        return Places(config.rootpath, [*given, *config.getini("notnow_scenarios")])

    def runner(self) -> Runner:
        """The runner of new fakes, kept with its thread for the next tests."""
        from notnow.servers.base.runner import Runner

        runner = Runner.shared()
        if runner is None or runner not in self._kept:
            runner = Runner.acquire()
            self._kept.append(runner)
        return runner

    def leave(self) -> None:
        """The run is over: let go of all runners, and give the process back to the environment before."""
        for runner in self._kept:
            runner.release()
        if environment.current is self:
            environment.install(self.before)

    def settings(self) -> Mapping[str, Any]:
        seed, clock = self.config.stash[SEED], self._clock()
        return {"seed": seed} if clock is None else {"seed": seed, "clock": clock}

    def _clock(self) -> Clock | None:
        """The clock of the test; None for a fake that outlives it or is made outside a test."""
        request = self.requests[-1] if self.requests else None
        if self.item is None or (request is not None and request.scope != "function"):
            return None
        return clock_of(self.item, request)

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
        forget(item)
        self.item, self.began = item, False
        item.stash[_older] = [(fake, fake.clock.stamp()) for fake in self.living]

    def begin_example(self, item: pytest.Item, older: list[Fake]) -> None:
        """Another example of a property begins: only the fakes that were there before the first one stay."""
        past = [fake for fake in item.stash.get(_fakes, []) if not any(fake is one for one in older)]
        item.stash[_examples] = [*item.stash.get(_examples, []), *past][-KEPT:]
        item.stash[_fakes] = list(older)
        if not older and CLOCK in item.stash:
            del item.stash[CLOCK]

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

        places, marks = places_of(self.config), pytest_markers.of_item(item)
        mark = pytest_markers.nearest(places, item.path, marks, pytest_markers.FIXTURES[fixture])
        if mark is None:
            return None
        item.stash.setdefault(READ, []).append(mark)
        return pytest_markers.check_lasting(places, item.path, fixture, mark)

    def fakes_of(self, item: pytest.Item) -> list[Fake]:
        """The fakes of a test, and the older fakes to which clients connected during the test."""
        older = [fake for fake, start in item.stash.get(_older, []) if _active_since(fake, start)]
        own = item.stash.get(_fakes, [])
        return older + [fake for fake in own if not any(fake is one for one in older)]


def _active_since(fake: Fake, start: int) -> bool:
    journal = fake.journal
    return any(entries and entries[-1].index > start for entries in (journal.exchanges, journal.connections))


def clock_of(item: pytest.Item, request: pytest.FixtureRequest | None) -> Clock:
    """One clock for all the fakes of a test: that of `fast_forward` if the test uses it, whatever the fixture order."""
    clock = item.stash.get(CLOCK, None)
    if clock is None and request is not None and "fast_forward" in getattr(item, "fixturenames", ()):
        request.getfixturevalue("fast_forward")
        clock = item.stash.get(CLOCK, None)
    if clock is None:
        from notnow.clock import RealClock

        clock = item.stash[CLOCK] = RealClock()
    return clock


def forget(item: pytest.Item) -> None:
    """Let go of a test's fakes, with everything that their clients sent: pytest keeps its items to the end of the run."""
    for key in _OF_A_TEST:
        if key in item.stash:
            del item.stash[key]


def look_for_faults(item: pytest.Item, fakes: Sequence[Fake]) -> None:
    """A test that has passed proves nothing if its scenarios have faults, and none of them fired."""
    wanted, fakes = item.config.getini("notnow_unfired"), [*item.stash.get(_examples, []), *fakes]
    if wanted == "ignore" or not any(fake.journal or fake.scenario.faulty for fake in fakes):
        return
    from notnow import pytest_report

    told = pytest_report.untested(fakes)
    if told and wanted == "error":
        pytest.fail(told, pytrace=False)
    elif told:
        warnings.warn(pytest.PytestWarning(told), stacklevel=1)


def raise_strays(fakes: Sequence[Fake]) -> None:
    for fake in fakes:
        fake._bridge.raise_guest_errors()


def warn_of_idle_markers(item: pytest.Item) -> None:
    """The test might have requested a fixture while it ran; otherwise the marker had no effect."""
    from notnow import pytest_markers

    read = item.stash.get(READ, [])
    names = list(getattr(item, "fixturenames", ()))
    for mark, told in pytest_markers.idle(places_of(item.config), item, names):
        if not any(mark is one for one in read):
            warnings.warn(pytest.PytestWarning(f"@pytest.mark.notnow: {told}"), stacklevel=1)
