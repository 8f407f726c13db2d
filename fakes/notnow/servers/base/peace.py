"""Work that a Ctrl-C must not tear apart.

Python raises KeyboardInterrupt between any two instructions of the main thread. A thread that has just started, or a port
that is just bound, would then have no owner. Work in another thread is not interrupted.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from notnow.servers.base.guests import Outcome

T = TypeVar("T")


class Errand(Generic[T]):
    """Work that this thread has another one do, and that a Ctrl-C here does not interrupt.

    A Ctrl-C meanwhile is raised once the work is done. If it has not begun, the Ctrl-C is raised at once, and the work
    never runs. A second Ctrl-C does not wait.
    """

    def __init__(self) -> None:
        self._ticket, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._done.acquire()
        self._outcomes: list[Outcome[T]] = []
        self.dropped = False  # it never begins

    def begins(self) -> bool:
        """Take the ticket: whichever thread takes it decides whether the work begins."""
        return self._ticket.acquire(blocking=False)

    def end(self, outcome: Outcome[T]) -> None:
        self._outcomes.append(outcome)
        self._done.release()

    def result(self, send: Callable[[], object], patience: float = -1) -> Outcome[T] | None:
        """Send the other thread, and wait at most so many real seconds, or without a limit. None if they are over."""
        try:
            send()
            in_time = self._done.acquire(timeout=patience)
        except BaseException:
            self.dropped = self.begins()
            if not self.dropped and not self._outcomes:
                self._done.acquire()
            raise
        if not in_time:
            self.begins()
            return None
        return self._outcomes[0]


def in_peace(work: Callable[[], T]) -> T:
    """Call `work` and return its result, or raise its exception. In the main thread, it is an `Errand` of a second thread."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    errand: Errand[T] = Errand()

    def run() -> None:
        if not errand.begins():
            return
        try:
            outcome = Outcome(work())
        except BaseException as error:
            outcome = Outcome(error=error)
        # Up to Python 3.12, `current_thread` registers a bare thread for good.
        getattr(threading, "_active", {}).pop(_thread.get_ident(), None)
        errand.end(outcome)

    try:
        outcome = errand.result(lambda: _thread.start_new_thread(run, ()))  # `Thread.start` can itself be interrupted
    except RuntimeError:
        if errand.dropped:  # no thread can be started: the interpreter ends
            return work()
        raise
    assert outcome is not None, "its patience has no limit"
    return outcome.get()
