"""Work that a Ctrl-C must not tear apart.

Python raises KeyboardInterrupt between any two instructions of the main thread: a thread that had just begun, or a port
just bound, would be nobody's. What is done in another thread is done to its end.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TypeVar

from notnow.servers.base.guests import Outcome

T = TypeVar("T")


def in_peace(work: Callable[[], T]) -> T:
    """Call `work` and give its result, or raise what it has raised. Called in the main thread, it runs beside it.

    A Ctrl-C meanwhile is raised when `work` is done, or has not begun; then it never will. A second one does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    ticket, done = _thread.allocate_lock(), _thread.allocate_lock()  # whoever takes the ticket says whether it begins
    done.acquire()
    outcomes: list[Outcome[T]] = []

    def run() -> None:
        if not ticket.acquire(blocking=False):
            return
        try:
            outcomes.append(Outcome(work()))
        except BaseException as error:
            outcomes.append(Outcome(error=error))
        finally:
            # What `current_thread` notes of a bare thread stays there, up to Python 3.12.
            getattr(threading, "_active", {}).pop(_thread.get_ident(), None)
            done.release()

    try:
        _thread.start_new_thread(run, ())  # `Thread.start` can itself be torn apart
        done.acquire()
    except BaseException as error:
        if not ticket.acquire(blocking=False):
            if not outcomes:
                done.acquire()
        elif isinstance(error, RuntimeError):  # no thread can be had: the interpreter ends
            return work()
        raise
    return outcomes[0].get()
