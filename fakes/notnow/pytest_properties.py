"""Tests that Hypothesis runs many times: each example has time and fakes of its own, and a failure is saved as a scenario.

The plugin registers this where a test is one of Hypothesis.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from notnow.pytest_run import CLOCK, ENVIRONMENT, places_of

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

LONGEST_NAME = 150  # characters of a test's name in the name of a file
FAST_FORWARD = "fast_forward"


def _found(config: pytest.Config) -> Path | None:
    """The directory of what made properties fail, if the user wants one."""
    given = config.getoption("notnow_found") or config.getini("notnow_found")
    return config.rootpath / given if given else None


# ---- each example has a world of its own ---------------------------------------------------------


def is_property(item: pytest.Item) -> bool:
    """True if Hypothesis runs this test many times, and it is no state machine."""
    test = getattr(item, "obj", None)
    needed = ("hypothesis", "_hypothesis_internal_use_settings")
    known = isinstance(item, pytest.Function) and getattr(test, "is_hypothesis_test", False) is True
    return known and all(hasattr(test, name) for name in needed)


def renews_time(item: pytest.Item) -> bool:
    """True if each example gets a `fast_forward` of its own: the user has not asked for one that goes on."""
    if not is_property(item):
        return False
    from hypothesis import HealthCheck

    checks = _function(item)._hypothesis_internal_use_settings.suppress_health_check
    return HealthCheck.function_scoped_fixture not in checks and _of_the_test(item) == {FAST_FORWARD}


def _function(item: Any) -> Any:
    return getattr(item.obj, "__func__", item.obj)


def _of_the_test(item: Any) -> set[str]:
    """The fixtures of the scope of a test that are its arguments."""
    known = item._fixtureinfo.name2fixturedefs
    return {
        name
        for name in inspect.signature(item.function).parameters
        if name in known and known[name][-1].scope == "function"
    }


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with (
        _as_property(item)
        if is_property(item)
        else _as_machine(item)
        if _has_nemesis(item)
        else contextlib.nullcontext()
    ):
        return (yield)


@contextlib.contextmanager
def _as_property(item: Any) -> Iterator[None]:
    """Run the examples of a test in worlds of their own, the saved ones first; save what makes it fail."""
    function, handle = _function(item), item.obj.hypothesis
    inner, before = handle.inner_test, function._hypothesis_internal_use_settings
    if inspect.iscoroutinefunction(inner):  # its own plugin runs it
        yield
        return
    examples = _Examples(item, inner)
    saved = _explicit(item, inner)
    handle.inner_test = examples.wrapped()
    explicit = function.__dict__.setdefault("hypothesis_explicit_examples", [])
    explicit += saved
    if examples.renewed:
        function._hypothesis_internal_use_settings = _settings(before)
    try:
        yield
    except Exception:
        examples.save()
        raise
    finally:
        handle.inner_test, function._hypothesis_internal_use_settings = inner, before
        del explicit[len(explicit) - len(saved) :]


def _has_nemesis(item: Any) -> bool:
    """True for the test of a state machine with a `notnow.chaos.Nemesis`."""
    found = sys.modules.get("notnow.chaos.nemesis")
    machine = getattr(getattr(item, "obj", None), "_hypothesis_state_machine_class", None)
    return found is not None and isinstance(machine, type) and issubclass(machine, found.Nemesis)


@contextlib.contextmanager
def _as_machine(item: Any) -> Iterator[None]:
    """Run the machines of a test; the report is about the last of them."""
    from notnow.chaos.nemesis import Nemesis
    from notnow.time_travel.fast_forward import kept_in_place

    environment, before = item.config.stash[ENVIRONMENT], Nemesis.began
    older = list(environment.fakes_of(item))
    Nemesis.began = staticmethod(lambda: environment.begin_example(item, older))
    try:
        with kept_in_place():
            yield
    finally:
        Nemesis.began = staticmethod(before)


def _settings(before: Any) -> Any:
    """The settings of a test whose examples do not share their `fast_forward`.

    Its deadline would measure the machine: the waits of a client take no time. As Hypothesis' own plugin does where it
    knows better than a health check, this sets a private attribute.
    """
    from hypothesis import HealthCheck, settings

    checks = {HealthCheck.function_scoped_fixture, *before.suppress_health_check}
    usual: Any = settings.default
    deadline = None if before.deadline == usual.deadline else before.deadline
    return settings(parent=before, suppress_health_check=checks, deadline=deadline)


class _Examples:
    """The examples of a property, one after the other."""

    def __init__(self, item: Any, inner: Callable[..., object]) -> None:
        self.item, self.renewed, self._inner = item, renews_time(item), inner
        self._environment = item.config.stash[ENVIRONMENT]
        self._older = list(self._environment.fakes_of(item))
        self._failed: dict[str, Any] = {}

    def wrapped(self) -> Callable[..., object]:
        @functools.wraps(self._inner)
        def example(*args: Any, **given: Any) -> object:
            __tracebackhide__ = True
            self._environment.begin_example(self.item, self._older)
            try:
                return self._run(*args, **given)
            except Exception:
                self._failed = given  # the last one that fails is the smallest: Hypothesis plays it once more
                raise

        return example

    def _run(self, /, *args: Any, **given: Any) -> object:  # a method has `self` among its arguments
        __tracebackhide__ = True
        if not self.renewed:
            return self._inner(*args, **given)
        from notnow.time_travel.fast_forward import FastForward

        with FastForward() as world:
            self.item.stash[CLOCK] = world.clock
            return self._inner(*args, **{**given, FAST_FORWARD: world})

    def save(self) -> None:
        """Save the scenario that made the test fail, if it alone did."""
        directory = _found(self.item.config)
        drawn = {name: value for name, value in self._failed.items() if name not in self.item.funcargs}
        if directory is None or len(drawn) != 1:
            return
        from notnow.chaos import save
        from notnow.language.scenario import Scenario

        ((name, scenario),) = drawn.items()
        if isinstance(scenario, Scenario) and not scenario.file:
            digest = hashlib.sha256(scenario.text.encode()).hexdigest()[:8]
            file = save(scenario, directory / f"{_name(self.item)}-{digest}.{name}.toml")
            self.item.add_report_section("call", "notnow", f"saved as {file}: the next run of this test plays it first")


# ---- saved scenarios -----------------------------------------------------------------------------


def _name(item: pytest.Item) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", item.nodeid).strip("-")[-LONGEST_NAME:]


def _explicit(item: pytest.Item, inner: Callable[..., object]) -> list[Any]:
    """The scenarios that made this test fail before, as explicit examples of Hypothesis."""
    directory = _found(item.config)
    if directory is None:
        return []
    parameters = inspect.signature(inner).parameters
    files = sorted(directory.glob(f"{_name(item)}-????????.*.toml"))
    named = [(file.suffixes[-2].removeprefix("."), file) for file in files]
    return [_example(name, _load(item, file)) for name, file in named if name in parameters]


def _load(item: pytest.Item, file: Path) -> Scenario:
    return places_of(item.config).find(item.path, str(file), {})


def _example(name: str, scenario: Scenario) -> Any:
    from hypothesis import example

    def carrier() -> None:
        """Holds the example that the decorator makes."""

    found: Any = example(**{name: scenario})(carrier)
    return found.hypothesis_explicit_examples[0]
