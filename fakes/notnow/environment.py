"""The environment of fakes that user code makes: a test run gives them a seed, a clock and a place in its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Environment:
    """The owner of the fakes of this process; in plain Python, a fake has only the options that its maker gives.

    The pytest plugin installs one of its own for a run.
    """

    def settings(self) -> Mapping[str, Any]:
        """Server options for a new fake that its maker does not give."""
        return {}

    def started(self, fake: Any) -> None:
        """A fake listens."""

    def stopped(self, fake: Any) -> None:
        """A fake has stopped."""


current = Environment()


def install(environment: Environment) -> Environment:
    """Make this the environment of the process; return the one before."""
    global current
    before, current = current, environment
    return before


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a new fake, completed by its environment."""
    found = current.settings()
    return {**found, **{name: value for name, value in given.items() if value is not None or name not in found}}
