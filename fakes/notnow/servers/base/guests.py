"""What a user's own code raises in the loop of the fakes: an ASGI app, a predicate, a listener of the journal.

`pytest.fail()` and `skip()` are said to a test, SystemExit and KeyboardInterrupt to a process. asyncio lets the last two
end a loop, and with it all fakes. Here they are carried to the thread that has asked; or, where nobody waits, to whoever
stops the fake that has called that code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from notnow.errors import FakeError

T = TypeVar("T")
Tell = Callable[[BaseException], None]

blame: ContextVar[Tell | None] = ContextVar("notnow_blame", default=None)
"""Who is told of what a task raises that the user's code has begun: tasks inherit it."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a coroutine has come to."""

    value: T | None = None
    error: BaseException | None = None

    def get(self) -> T:
        """Its value; or raise what it has raised."""
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


async def carried(work: Coroutine[Any, Any, T]) -> Outcome[T]:
    """Run a coroutine that calls a user's code. Whatever it raises is given back: in the loop nothing is raised."""
    try:
        return Outcome(await work)
    except BaseException as error:
        return Outcome(error=error)


def is_ours(error: BaseException) -> bool:
    """True for the end of a task that has been cancelled by us, or of a coroutine that is thrown away."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, GeneratorExit)


def strays(error: BaseException) -> Iterator[BaseException]:
    """What is no Exception, in a group of errors or by itself."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from strays(one)
    elif not isinstance(error, Exception):
        yield error


def verdict(error: BaseException, fake: str) -> BaseException:
    """What a test is told of it: an outcome of pytest's own (its `fail` and `skip`) as it is, all else as FakeError."""
    stray = next(strays(error), error)
    if isinstance(stray, (Exception, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit)):
        told = FakeError(f"code of yours that the {fake} fake has called has raised {stray!r}")
        told.__cause__ = stray
        return told
    return stray
