"""What must not be there when all is over: threads, files and sockets, and errors that nobody has heard of."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def leftovers() -> set[str]:
    """The threads and the open files, sockets included, of this process. Files are known where there is a /proc."""
    gc.collect()
    files = Path("/proc/self/fd")
    known = {f"thread {thread.name}" for thread in threading.enumerate()}
    if files.exists():
        known |= {f"file {number} ({_target(files / number)})" for number in os.listdir(files) if _is_open(number)}
    return known


def _is_open(number: str) -> bool:
    """False for the directory that was read just now."""
    try:
        os.fstat(int(number))
    except OSError:
        return False
    return True


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return "closed"


class _Kept(logging.Handler):
    """Keeps what is logged as a warning or worse: asyncio reports there what nobody has waited for."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self._faults.append(f"logged by {record.name}: {record.getMessage()} {record.exc_info or ''}"[:500])


@contextmanager
def nothing_swallowed(faults: list[str]) -> Iterator[None]:
    """Add to `faults` what is logged, and each exception that Python could only print: in a thread, in a `__del__`."""
    handler, hooks = _Kept(faults), (sys.unraisablehook, threading.excepthook)

    def unraisable(found: Any) -> None:
        faults.append(f"unraisable: {found.exc_value!r} in {found.object!r}"[:500])

    def of_thread(found: Any) -> None:
        faults.append(f"in {found.thread.name if found.thread else 'a thread'}: {found.exc_value!r}"[:500])

    logging.getLogger().addHandler(handler)
    sys.unraisablehook, threading.excepthook = unraisable, of_thread
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)  # raised in a `__del__`
            yield
            gc.collect()
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        logging.getLogger().removeHandler(handler)
