"""Turns: how the connections of a loop share its one thread.

A connection processes its input in small units: a command, a frame, a part of a body. Its `Turn` ends after a bounded piece
of work. If input is left, the connection queues up in the `Turns` of its loop. Meanwhile it buffers a bounded part of its
input, and TCP holds back the rest. So a client waits no longer because another client sends more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

PIECE = 0.002  # seconds of processor time in a connection's turn
UNITS = 64  # most commands or frames in a turn: a processor's clock may be coarse
LOOK = 4  # units between two looks at the clock, each of which is a system call
AT_ONCE = 8  # connections taken from the queue in one turn of the loop


class Turns:
    """The connections of a loop that have more to do, in the order in which they have queued up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Callable[[], object]] = deque()
        self._awake = False

    def __len__(self) -> int:
        return len(self._queue)

    def later(self, go_on: Callable[[], object]) -> None:
        """Call this in one of the next turns of the loop, behind everything that is queued."""
        self._queue.append(go_on)
        if not self._awake:
            self._awake = True
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        for _ in range(min(AT_ONCE, len(self._queue))):
            go_on = self._queue.popleft()
            try:
                go_on()
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": "a connection has failed in its turn", "exception": error}
                )
        self._awake = bool(self._queue)
        if self._awake:
            self._loop.call_soon(self._next)

    async def wait(self) -> None:
        """Return when it is this task's turn again."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.later(lambda: None if future.done() else future.set_result(None))
        await future


class Turn:
    """The work that one connection may do before the others have their turn."""

    __slots__ = ("_left", "_turns", "_until")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.begin()

    def begin(self) -> None:
        """A new turn begins: the connection has waited for something."""
        self._left = UNITS
        self._until: float | None = None  # set where it is first needed: most turns are one command, and need no clock

    def over(self) -> bool:
        """Count one command or frame. True if the turn is over."""
        self._left -= 1
        if self._until is None:
            # Processor time: on a busy machine, wall time could pass without any work.
            self._until = time.thread_time() + PIECE
            return self._left <= 0
        return self._left <= 0 or (self._left % LOOK == 0 and time.thread_time() >= self._until)

    async def end(self) -> None:
        """Let the others have their turn, then begin a new one."""
        await self._turns.wait()
        self.begin()
