"""Waiting for the fakes' loop inside an event loop of asyncio (any loop) or trio; anyio runs on one of these."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def running() -> str | None:
    """The library that runs the calling code: "asyncio", "trio", or None for plain code."""
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        return "asyncio"
    trio = sys.modules.get("trio")
    with contextlib.suppress(RuntimeError, AttributeError):
        if trio is not None and trio.lowlevel.current_task():
            return "trio"
    return None


async def result_of(future: Future[T]) -> T:
    """The result of a future of another thread. Cancels it if the waiting task is cancelled."""
    if running() != "trio":
        return await asyncio.wrap_future(future)
    try:
        await _done_in_trio(future)
    except BaseException:
        future.cancel()
        raise
    return future.result()


async def _done_in_trio(future: Future[Any]) -> None:
    import trio

    done, token = trio.Event(), trio.lowlevel.current_trio_token()

    def tell(_: Future[Any]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    future.add_done_callback(tell)
    await done.wait()


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of the library."""
    if running() != "trio":
        return await asyncio.to_thread(work)
    import trio

    result: T = await trio.to_thread.run_sync(work)
    return result
