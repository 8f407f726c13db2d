"""Replacements for the standard library's locks and queues whose waits are visible.

Locks from before stay as they are: their waits are invisible.
"""

from __future__ import annotations

import _thread
import queue
import sys
import threading
from typing import Any, Self

from notnow.time_travel import world as worlds
from notnow.time_travel.parties import WaitResult
from notnow.time_travel.world import World, seen

_real_lock, _real_rlock = threading.Lock, threading.RLock
_INNER = frozenset({"threading", "queue", "importlib._bootstrap"})  # they hold their locks for moments


class SeenLock:
    """A lock like those of `threading.Lock` and Condition.wait, whose waits are scenario time."""

    def __init__(self) -> None:
        self._lock, self._waiting = _thread.allocate_lock(), 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not blocking or (timeout < 0 and timeout != -1):
            return self._lock.acquire(blocking, timeout)  # or its own ValueError
        if self._lock.acquire(False):
            return True
        world = seen()
        return self._lock.acquire(True, timeout) if world is None else self._wait(world, timeout)

    def _wait(self, world: World, timeout: float) -> bool:
        end = None if timeout < 0 else world.clock.shown + timeout
        while True:
            result = self._park(world, None if end is None else max(0.0, end - world.clock.shown))
            if result is WaitResult.CLOSED:
                return self._lock.acquire(True, timeout)
            if self._lock.acquire(False):
                return True
            if result is WaitResult.TIMED_OUT:
                return False

    def _park(self, world: World, timeout: float | None) -> WaitResult:
        self._waiting += 1
        try:
            return world.park(timeout, over=lambda: not self._lock.locked())
        finally:
            self._waiting -= 1

    def release(self) -> None:
        self._lock.release()
        if self._waiting and (world := worlds.current) is not None:
            world.nudge()

    def locked(self) -> bool:
        return self._lock.locked()

    def _at_fork_reinit(self) -> None:
        self._lock, self._waiting = _thread.allocate_lock(), 0

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    acquire_lock, release_lock, locked_lock = acquire, release, locked


def allocate_lock() -> Any:
    """threading._allocate_lock, which Condition.wait uses after a thread has started."""
    return _thread.allocate_lock() if seen() is None else SeenLock()


class _LockKind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, (SeenLock, _thread.LockType))


class Lock(metaclass=_LockKind):
    """threading.Lock: a visible one for a party. The standard library's own classes use real ones inside."""

    def __new__(cls) -> Self:
        inner = sys._getframe(1).f_globals.get("__name__") in _INNER
        return _thread.allocate_lock() if inner or seen() is None else SeenLock()  # type: ignore[return-value]


def rlock(*args: Any, **options: Any) -> Any:
    """threading.RLock: a visible one for a party, also for a Condition that a user makes without a lock."""
    caller = sys._getframe(1)
    if caller.f_code is threading.Condition.__init__.__code__ and caller.f_back is not None:
        caller = caller.f_back
    if caller.f_globals.get("__name__") in _INNER or seen() is None:
        return _real_rlock(*args, **options)
    return threading._PyRLock(*args, **options)  # type: ignore[attr-defined]


class SimpleQueue(queue._PySimpleQueue):  # type: ignore[name-defined,misc]
    """queue.SimpleQueue, on which thread pools wait, in Python: the C version waits on an invisible lock."""


SUBSTITUTES: dict[Any, Any] = {_real_lock: Lock, _real_rlock: rlock, queue.SimpleQueue: SimpleQueue}
