"""The environment of fakes that user code makes: a test run gives them a seed, a clock and a place in its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Environment(Protocol):
    """The owner of the fakes of this process. The pytest plugin installs one for its run."""

    def settings(self) -> Mapping[str, Any]:
        """Server options for a new fake that its maker does not give."""

    def started(self, fake: Any) -> None:
        """A fake listens."""

    def stopped(self, fake: Any) -> None:
        """A fake has stopped."""


class NoEnvironment:
    """Plain Python: a fake has only the options that its maker gives."""

    def settings(self) -> Mapping[str, Any]:
        return {}

    def started(self, fake: Any) -> None: ...
    def stopped(self, fake: Any) -> None: ...


current: Environment = NoEnvironment()


def install(environment: Environment) -> Environment:
    """Make this the environment of the process; return the one before."""
    global current
    before, current = current, environment
    return before


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a new fake, completed by its environment."""
    found = current.settings()
    return {**found, **{name: value for name, value in given.items() if value is not None or name not in found}}
