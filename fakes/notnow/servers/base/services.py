"""The services of the event loop for one fake: timers in scenario time and in real time, tasks, turns, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from notnow.clock import Clock
from notnow.errors import FakeError, NotRunningError
from notnow.garbage import uncollected
from notnow.servers.base import guests
from notnow.servers.base.runner import Runner
from notnow.servers.base.turns import Turns

TURNS = 20  # of the loop; no chain of our callbacks is longer
START = "use it in a `with` block, or call start()"
MANY = 1000  # connections that end at once


def collector_held(connections: int) -> contextlib.AbstractContextManager[None]:
    """Hold Python's garbage collector while so many connections end, if there are many.

    Their end makes a full collection due, which looks at a hundred objects a connection and frees none: more than half of
    the time in which a fake with 10,000 of them stops.
    """
    return contextlib.nullcontext() if connections < MANY else uncollected()


class LoopServices:
    """A fake's share in the runner: what it may ask of the loop, and what has failed there.

    `label` is the fake's class, `name` its own name; they are for messages, as is `protocol`.
    """

    def __init__(self, clock: Clock, label: str, protocol: str, name: str) -> None:
        self.clock, self.label, self.protocol, self.name = clock, label, protocol, name
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[BaseException] = []  # of our own code
        self.guest_errors: list[BaseException] = []  # of the user's code, which nobody has been told of yet
        self.kept: Runner | None = None  # its runner, if somebody keeps that as long as the fake runs
        self._runner: Runner | None = None

    # ---- the runner ------------------------------------------------------------------------------

    def acquire(self) -> None:
        """Take part in the runner of this process, or in the one that is kept."""
        self._runner = self.kept or Runner.acquire()

    def release(self) -> None:
        """Leave the runner; without one, nothing happens."""
        runner, self._runner = self._runner, None
        if runner is not None and runner is not self.kept:
            runner.release()

    @property
    def running(self) -> bool:
        return self._runner is not None

    @property
    def runner(self) -> Runner:
        """Raises NotRunningError while the fake is not running."""
        if self._runner is None:
            raise NotRunningError(f"this {self.label} is not running; {START}")
        return self._runner

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.runner.loop

    @property
    def turns(self) -> Turns:
        """The queue of connections that have more to do than one piece of work."""
        return self.runner.turns

    def settle(self, patience: float | None = None) -> None:
        """Return when everything that is due, or has arrived, has been carried out."""
        self.runner.settle(patience)

    def arrive(self) -> None:
        """The clock shows the time to which it was advanced: nothing more is to be done."""

    # ---- time and tasks: for the loop's thread only ----------------------------------------------

    def sleep(self, span: float) -> asyncio.Future[None]:
        """A future that is done this many seconds of scenario time from now."""
        future: asyncio.Future[None] = self.loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        alarm = self.clock.call_at(self.clock.now() + span, self.loop, wake)
        future.add_done_callback(lambda f: alarm.cancel() if f.cancelled() else None)
        return future

    def call_later_real(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """`loop.call_later` in real seconds, few of them: `settle` waits for the callback."""
        self.runner.hold(seconds)
        return self.loop.call_later(seconds, callback)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until it is done or the fake stops."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let the loop turn until `done()` holds, at most so many real seconds. True if it does.

        A busy loop has its TURNS in any case: with thousands of connections on a busy machine, one takes seconds.
        """
        deadline = self.loop.time() + seconds
        for turn in itertools.count():
            if done():
                return True
            if turn >= TURNS and self.loop.time() >= deadline:
                return False
            await asyncio.sleep(0 if turn < 5 else 0.002)
        raise AssertionError("count() has no end")

    # ---- failures --------------------------------------------------------------------------------

    def failed(self, error: BaseException) -> None:
        """Our own code has failed: `stop` will raise it."""
        self.errors.append(error)

    def guest_failed(self, error: BaseException) -> None:
        """Code of the user has raised this where nobody waits for it: `stop` will raise it."""
        if error not in self.guest_errors:
            self.guest_errors.append(error)

    def raise_errors(self) -> None:
        """Raise FakeError if our own code, or the user's code that we have called, has failed since the last call.

        An outcome of pytest that such code has raised (`pytest.fail`, `pytest.skip`) is raised as it is.
        """
        self.raise_guest_errors()
        if self.errors:
            errors, self.errors = self.errors, []
            raise FakeError(f"the {self.protocol} fake itself failed: {errors[0]!r}") from errors[0]

    def raise_guest_errors(self) -> None:
        """Raise the first error of the user's code alone."""
        if self.guest_errors:
            found, self.guest_errors = self.guest_errors, []
            raise guests.verdict(found[0], self.name)
