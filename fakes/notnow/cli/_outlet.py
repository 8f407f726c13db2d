"""Standard output that can be left: a reader who does not read keeps nobody from stopping.

A write to a full pipe, or to a terminal that is stopped by Ctrl-S, goes on after a signal (PEP 475), and the process
never gets to what the signal was for. Here a write waits until it can be done, and looks meanwhile whether to stop.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

PIECE = getattr(select, "PIPE_BUF", 512)  # bytes that a pipe takes at once where it takes any (POSIX write(2))
LOOK = 0.1  # real seconds between two looks at whether to stop
LAST = 0.3  # real seconds that a reader has, once we are to stop, for taking the next piece


class Outlet(io.TextIOBase):
    """Text for a reader who may not read. Once we are to stop and nothing is taken, the rest is dropped."""

    def __init__(self, stream: TextIO, stopping: Callable[[], bool]) -> None:
        self._pieces: list[str] = []  # first: io flushes an object whose making has failed, too
        self.left = False  # nobody reads, and we are to stop
        self._stream, self._stopping = stream, stopping
        self._number = stream.fileno()
        self._poll = select.poll()
        self._poll.register(self._number, select.POLLOUT)

    def write(self, text: str) -> int:
        self._pieces.append(text)
        if "\n" in text and self.isatty():
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write it all, or what is taken. Raises BrokenPipeError if the reader is gone."""
        text, self._pieces = "".join(self._pieces), []
        data = memoryview(text.encode(self.encoding, self.errors))
        while data and not self.left:
            if self._writable():
                data = data[os.write(self._number, data[:PIECE]) :]
            else:
                self.left = True

    def _writable(self) -> bool:
        """Wait until a piece can be written. False if that does not come, and we are to stop."""
        last: float | None = None
        while not self._poll.poll(LOOK * 1000):
            if self._stopping():
                last = last or time.monotonic() + LAST
                if time.monotonic() >= last:
                    return False
        return True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._number

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str:  # type: ignore[override]
        return self._stream.errors or "strict"


@contextlib.contextmanager
def outlet(stopping: Callable[[], bool]) -> Iterator[Outlet | None]:
    """Have standard output be an `Outlet`, where it is a file of the system's that can be waited for."""
    before = sys.stdout
    try:
        before.flush()
        made = Outlet(before, stopping)
    except (OSError, AttributeError):  # Windows has no poll, and a test's stream no number
        yield None
        return
    sys.stdout = made
    try:
        yield made
        made.flush()
    finally:
        sys.stdout = before
