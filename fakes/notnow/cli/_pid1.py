"""SIGTERM in a container.

A signal without a handler ends a process, but Linux drops it for the first process of a container, PID 1 (pid_namespaces(7)):
`docker stop` would wait ten seconds and then kill it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable


def end(number: int, _frame: object) -> None:
    """End at once, as the signal would."""
    os._exit(128 + number)


def default() -> Callable[[int, object], None] | signal.Handlers:
    """What SIGTERM is to do where nothing else is to be done: end the process."""
    return end if os.getpid() == 1 else signal.SIG_DFL


def heed_sigterm() -> None:
    """Let SIGTERM end this process from now on, whoever it is; one that is ignored stays so."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, default())
