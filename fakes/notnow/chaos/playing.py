"""Runs of a client in this process: a function that is given a fresh fake."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from notnow import environment, true_time
from notnow.chaos.outcomes import Played
from notnow.conduct.reading.result import Exit
from notnow.conduct.reading.run import Run
from notnow.errors import DeadlockError, FastForwardError
from notnow.language.scenario import Scenario
from notnow.servers import by_protocol
from notnow.servers.base.fake import Fake

Client = Callable[[Any], object]


class InProcess:
    """Plays scenarios to a function. `timeout` is in real seconds; `options` are server options of the fakes."""

    def __init__(self, protocol: str, client: Client, timeout: float, options: Mapping[str, Any]) -> None:
        self._fake, self._client, self._timeout, self._options = by_protocol(protocol), client, timeout, options

    def __call__(self, scenario: Scenario) -> Played:
        """Run the client once. What it raises is how it reports; what ends the test run itself is raised."""
        with _unlisted(), self._fake(scenario, **self._options) as fake:
            begun = true_time.monotonic()
            with hung_up(fake, self._timeout) as hung:
                ended, raised = self._ended(fake)
            took = true_time.monotonic() - begun
            fake.settle()
            return Played(Run([fake.journal], [fake.scenario]), Exit(hung=True) if hung else ended, took, raised=raised)

    def _ended(self, fake: Fake) -> tuple[Exit, Exception | None]:
        try:
            if inspect.iscoroutine(work := self._client(fake)):
                asyncio.run(work)
        except DeadlockError as error:
            return Exit(hung=True), error
        except FastForwardError:
            raise
        except Exception as error:
            return Exit(1, error=type(error).__name__), error
        return Exit(0), None


@contextmanager
def hung_up(fake: Fake, timeout: float) -> Iterator[list[bool]]:
    """After this many real seconds, hang up on the client, so that it does not wait for ever; then the list is not empty."""
    bridge, hung = fake._bridge, list[bool]()

    def hang_up() -> None:
        hung.append(True)
        bridge.hang_up()

    loop = bridge.loop
    timer = bridge.runner.call(lambda: loop.call_later(timeout, hang_up))
    try:
        yield hung
    finally:
        bridge.runner.call(timer.cancel)


class _Unlisted(environment.Environment):
    """An environment that gives fakes what the one before gives, and does not list them: a sweep makes thousands."""

    def __init__(self, before: environment.Environment) -> None:
        self._before = before

    def settings(self) -> Mapping[str, Any]:
        return self._before.settings()


@contextmanager
def _unlisted() -> Iterator[None]:
    before = environment.current
    environment.install(_Unlisted(before))
    try:
        yield
    finally:
        environment.install(before)
