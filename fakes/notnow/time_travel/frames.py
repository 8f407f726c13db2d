"""The current frame of each thread."""

from __future__ import annotations

import gc
import sys
from types import FrameType


def current_frames() -> dict[int, FrameType]:
    """`sys._current_frames()`, without its deadlock: the frame of each thread, by the thread's ident.

    Python 3.11 holds an interpreter lock while it builds the dict. If that starts the garbage collector, and a
    `threading.local` is garbage, the same thread requests that lock again and waits for ever while it holds the GIL
    (CPython gh-106883).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if enabled:
            gc.enable()
