"""The current frame of each thread."""

from __future__ import annotations

import sys
from types import FrameType

from notnow.garbage import uncollected


def current_frames() -> dict[int, FrameType]:
    """`sys._current_frames()`, without its deadlock: the frame of each thread, by the thread's ident.

    Python 3.11 holds an interpreter lock while it builds the dict. If that starts the garbage collector, and a
    `threading.local` is garbage, the same thread requests that lock again and waits for ever while it holds the GIL
    (CPython gh-106883).
    """
    with uncollected():
        return sys._current_frames()
