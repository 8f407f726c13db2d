"""Turns: how the connections of a loop share its one thread.

A connection carries out what its client has sent piece by piece: a command, a frame, a part of a body. It has a `Turn`,
which ends after a bounded piece of work. Where more is left then, the connection queues up in the `Turns` of its loop.
It buffers a bounded part of its input meanwhile, and TCP holds back the rest. So the wait of a neighbour does not depend
on how much a client has sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

PIECE = 0.002  # seconds of processor time that a connection works before it lets the others
UNITS = 64  # commands, or frames, in such a piece at most: a processor's clock may be coarse
LOOK = 4  # of them between two looks at the clock, which costs a system call
AT_ONCE = 8  # connections that go on from the queue in one turn of the loop


class Turns:
    """The connections of a loop that have more to do, in the order in which they have queued up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Callable[[], object]] = deque()
        self._awake = False

    def __len__(self) -> int:
        return len(self._queue)

    def later(self, go_on: Callable[[], object]) -> None:
        """Call this in one of the next turns of the loop, behind those that wait already."""
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
        """Come back when it is this task's turn again."""
        future: asyncio.Future[None] = self._loop.create_future()
        self.later(lambda: None if future.done() else future.set_result(None))
        await future


class Turn:
    """What one connection may do before others have their turn."""

    __slots__ = ("_left", "_turns", "_until")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.begin()

    def begin(self) -> None:
        """The connection has waited for something: its piece of work begins now."""
        self._left = UNITS
        self._until = time.thread_time() + PIECE  # not of the wall: on a busy machine the piece would be none

    def over(self) -> bool:
        """One more command or frame has been carried out. True if that is enough for now."""
        self._left -= 1
        return self._left <= 0 or (self._left % LOOK == 0 and time.thread_time() >= self._until)

    async def end(self) -> None:
        """Let the others have their turn; what comes then is a new piece."""
        await self._turns.wait()
        self.begin()
