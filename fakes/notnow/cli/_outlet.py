"""Standard output that can be abandoned: a reader that does not read cannot keep the process from stopping.

After a signal, a write to a full pipe, or to a terminal that Ctrl-S has stopped, resumes (PEP 475), and the process never
reacts to the signal. Here, a write waits until the stream takes it, and checks meanwhile whether to stop.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

PIECE = getattr(select, "PIPE_BUF", 512)  # bytes that a writable pipe takes at once (POSIX write(2))
NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux: write what there is room for, and do not wait for more
LOOK = 0.1  # real seconds between two checks whether to stop
LAST = 0.3  # real seconds that a reader has for the next piece after a stop


class Outlet(io.TextIOBase):
    """Text for a reader that may not read. After a stop, text that the reader does not take is dropped."""

    def __init__(self, stream: TextIO, stopping: Callable[[], bool]) -> None:
        self._pieces: list[str] = []  # first, because io also flushes an object whose __init__ has failed
        self.left = False  # the reader does not read, and the process stops
        self._stream, self._stopping = stream, stopping
        self._number = stream.fileno()
        self._nowait = NOWAIT != 0 and stat.S_ISFIFO(os.fstat(self._number).st_mode)
        self._poll = select.poll()
        self._poll.register(self._number, select.POLLOUT)

    def write(self, text: str) -> int:
        self._pieces.append(text)
        if "\n" in text and self.isatty():
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Write all text, or as much as the reader takes. Raises BrokenPipeError if the reader is gone."""
        if not self._pieces:
            return
        text, self._pieces = "".join(self._pieces), []
        data = memoryview(text.encode(self.encoding, self.errors))
        while data and not self.left:
            if written := self._written(data):
                data = data[written:]
            elif not self._writable():
                self.left = True

    def _written(self, data: memoryview) -> int:
        """Write what the stream takes without waiting, and return how much that was."""
        if self._nowait:
            try:
                return os.pwritev(self._number, [data], -1, NOWAIT)
            except BlockingIOError:
                return 0
            except OSError:  # Linux before 6.4, a named pipe, a sandbox; what is wrong with the pipe comes again
                self._nowait = False
        return os.write(self._number, data[:PIECE]) if self._poll.poll(0) else 0

    def _writable(self) -> bool:
        """Wait until a piece can be written. False if that does not happen before the process stops."""
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
    """Replace standard output by an `Outlet`, if it is a file that the system can poll."""
    before = sys.stdout
    try:
        before.flush()
        made = Outlet(before, stopping)
    except (OSError, AttributeError):  # Windows has no poll, and a test's stream has no descriptor
        yield None
        return
    sys.stdout = made
    try:
        yield made
        made.flush()
    finally:
        sys.stdout = before
