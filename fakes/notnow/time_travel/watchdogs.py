"""Threads that watch over a test run from outside, and therefore live in real time.

To add one, name the module that its thread runs (or starts a `threading.Timer` for).
"""

from __future__ import annotations

import threading
from types import FrameType

WATCHDOGS = (
    "_pytest",  # faulthandler_timeout
    "coverage",
    "debugpy",
    "execnet",  # pytest-xdist talks to its workers
    "faulthandler",
    "pydevd",
    "_pydevd_bundle",
    "pytest_timeout",  # method "thread"
    "pytest_timeouts",
    "xdist",
)


def belongs(module: str | None) -> bool:
    """True if a module is a watchdog's or belongs to one."""
    return module is not None and any(module == name or module.startswith(name + ".") for name in WATCHDOGS)


def is_watchdog(thread: threading.Thread) -> bool:
    """True if a thread runs the code of one of these modules."""
    work = getattr(thread, "function", None) or getattr(thread, "_target", None)  # of a Timer, of any other thread
    return belongs(getattr(work, "__module__", None)) or belongs(type(thread).__module__)


def begins_in_one(frame: FrameType | None) -> bool:
    """True if a thread's outermost frame outside `threading` belongs to a watchdog."""
    first = None
    while frame is not None:
        module = frame.f_globals.get("__name__")
        first = first if module == "threading" else module
        frame = frame.f_back
    return belongs(first)
