"""Work that a Ctrl-C must not tear apart.

Python raises KeyboardInterrupt between any two instructions of the main thread. A thread that has just started, or a port
that is just bound, would then have no owner. Work in another thread is not interrupted.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TypeVar

from notnow.servers.base.guests import Outcome

T = TypeVar("T")


def in_peace(work: Callable[[], T]) -> T:
    """Call `work` and return its result, or raise its exception. In the main thread, a second thread runs it.

    A Ctrl-C meanwhile is raised once `work` is done. If `work` has not begun, the Ctrl-C is raised at once, and `work`
    never runs. A second Ctrl-C does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    ticket, done = (
        _thread.allocate_lock(),
        _thread.allocate_lock(),
    )  # whichever thread takes the ticket decides whether it begins
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
            # Up to Python 3.12, `current_thread` registers a bare thread for good.
            getattr(threading, "_active", {}).pop(_thread.get_ident(), None)
            done.release()

    try:
        _thread.start_new_thread(run, ())  # `Thread.start` can itself be interrupted
        done.acquire()
    except BaseException as error:
        if not ticket.acquire(blocking=False):
            if not outcomes:
                done.acquire()
        elif isinstance(error, RuntimeError):  # no thread can be started: the interpreter ends
            return work()
        raise
    return outcomes[0].get()
