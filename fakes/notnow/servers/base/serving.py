"""A coroutine that serves one connection without a task.

A task takes a turn of the loop for each of its steps, and a future for each wait, which is much of what a command costs.
Here the client's input carries the coroutine on at once, in the callback that has read it.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

_INPUT = object()


@types.coroutine
def more_input() -> Generator[object, None, None]:
    """Wait until somebody calls `go_on`: there is more input, or none will come."""
    yield _INPUT


class Serving:
    """Carries a coroutine on: by `go_on` where it waits for input, and as a task does where it waits for a future.

    It is no task: the coroutine cannot use `asyncio.timeout` or `asyncio.sleep(0)`.
    """

    __slots__ = ("_awaited", "_cancelled", "_work", "listens")

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self._awaited: asyncio.Future[Any] | None = None
        self._cancelled = False
        self.listens = False  # it waits for input

    def go_on(self, _: object = None) -> None:
        """Carry it on until it has to wait, or ends."""
        self.listens, self._awaited = False, None
        try:
            awaited = self._cancel() if self._cancelled else self._work.send(None)
        except StopIteration:
            return
        if awaited is _INPUT:
            self.listens = True
        else:
            self._wait(awaited)
        if self._cancelled:  # meanwhile
            self.cancel()

    def _wait(self, awaited: asyncio.Future[Any]) -> None:
        awaited._asyncio_future_blocking = False  # what a task does with a future that its coroutine awaits
        awaited.add_done_callback(self.go_on)
        self._awaited = awaited

    def _cancel(self) -> Any:
        self._cancelled = False
        return self._work.throw(asyncio.CancelledError())

    def cancel(self) -> None:
        """Raise a CancelledError where it waits; if it runs, where it next waits."""
        self._cancelled = True
        if self._awaited is not None:
            self._awaited.cancel()
        elif self.listens:
            self.go_on()
