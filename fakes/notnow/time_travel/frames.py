"""Where each thread stands in its code."""

from __future__ import annotations

import gc
import sys
from types import FrameType


def current_frames() -> dict[int, FrameType]:
    """`sys._current_frames()`, without its deadlock: the frame of each thread, by the thread's ident.

    Python 3.11 holds a lock of the interpreter there while it makes the dict. If that starts the garbage collector, and
    a `threading.local` is garbage, the same thread asks for that lock once more, and waits for ever with the GIL in its
    hands (CPython gh-106883).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if enabled:
            gc.enable()
