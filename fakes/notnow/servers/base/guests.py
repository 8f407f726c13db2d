"""Exceptions of user code that runs in the loop of the fakes: an ASGI app, a predicate, a listener of the journal.

`pytest.fail()` and `skip()` are meant for a test, SystemExit and KeyboardInterrupt for a process. asyncio lets the last two
end a loop, and with it all fakes. This module carries them to the thread that waits for the code. If none waits, `stop` of
the fake that called the code raises them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any, Generic, TypeVar, cast

from msgspec import Struct

from notnow.errors import FakeError

T = TypeVar("T")
Tell = Callable[[BaseException], None]

blame: ContextVar[Tell | None] = ContextVar("notnow_blame", default=None)
"""The function to call with an exception of a task that user code has started: tasks inherit it."""


class Outcome(Struct, Generic[T], frozen=True):
    """The result of a coroutine: a value or an exception."""

    value: T | None = None
    error: BaseException | None = None

    def get(self) -> T:
        """Return the value, or raise the exception."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


async def carried(work: Coroutine[Any, Any, T]) -> Outcome[T]:
    """Run a coroutine that calls user code. Return its exception, too, so that the loop sees none."""
    try:
        return Outcome(await work)
    except BaseException as error:
        return Outcome(error=error)


def is_ours(error: BaseException) -> bool:
    """True for the end of a task that we cancelled, or of a coroutine that was thrown away."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def strays(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that do not derive from Exception, alone or in a group."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from strays(one)
    elif not isinstance(error, Exception):
        yield error


def verdict(error: BaseException, fake: str) -> BaseException:
    """The exception to raise in a test: pytest's own outcomes (`fail`, `skip`) as they are, all others as FakeError."""
    stray = next(strays(error), error)
    if isinstance(stray, (Exception, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit)):
        told = FakeError(f"code of yours that the {fake} fake has called has raised {stray!r}")
        told.__cause__ = stray
        return told
    return stray
