"""Calls under way: long ones take turns, those that wait end when their caller leaves, and all end when notnow stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from notnow.control.problems import RefusedError

T = TypeVar("T")

LONG = 5_000  # exchanges: reading more of them takes so long that the fakes, which share Python with it, would notice several
TOGETHER = 1  # long calls at a time
QUEUE = 10  # long calls that wait for their turn


class Underway:
    """The calls under way at one control API, which stops when `closing` is set."""

    def __init__(self, closing: asyncio.Event) -> None:
        self._closing = closing
        self._turns = asyncio.Semaphore(TOGETHER)
        self._queued = 0

    async def answer(self, work: Coroutine[Any, Any, T], leaving: Coroutine[Any, Any, None] | None = None) -> T:
        """The answer of a call. Raises RefusedError when notnow stops first, CancelledError when the caller leaves first.

        A thread that the call has begun runs on until it is done: nobody waits for it.
        """
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._closing.wait())
        left = None if leaving is None else asyncio.ensure_future(leaving)
        ends = {stop} if left is None else {stop, left}
        try:
            await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if stop.done():
                raise RefusedError(503, "notnow stopped while this call was under way")
            raise CallerLeftError
        finally:
            for one in (task, *ends):
                one.cancel()

    async def closed(self) -> None:
        """Wait until notnow stops."""
        await self._closing.wait()

    @asynccontextmanager
    async def turn(self, exchanges: int) -> AsyncIterator[None]:
        """For a call that reads so many exchanges: its turn, if it is long. Raises RefusedError if too many wait."""
        if exchanges <= LONG:
            yield
            return
        if self._queued >= QUEUE:
            raise RefusedError(
                503, f"{QUEUE} calls wait for their turn to read a long journal; try again later", retry_after="2"
            )
        self._queued += 1
        try:
            await self._turns.acquire()
        finally:
            self._queued -= 1
        try:
            yield
        finally:
            self._turns.release()


class CallerLeftError(Exception):
    """Nobody waits for the answer any more."""
