"""`notnow` as a process of its own, for the tests of the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

PATIENCE = 120.0  # real seconds after which a process that hangs is killed, and its test fails for want of output


class Notnow:
    """A running `notnow …`. Lines are read as they come; at the end of the block it is gone in any case."""

    def __init__(self, *arguments: str, stdout: int = subprocess.PIPE, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "notnow", *arguments],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **environment},
        )
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        """The next line of standard output, without its end; empty where there is none any more."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def lines(self) -> Iterator[str]:
        while line := self.line():
            yield line

    def event(self) -> dict[str, Any]:
        """The next line, as JSON."""
        line = self.line()
        assert line, f"no more lines; standard error is {self.errors()!r}"
        found: dict[str, Any] = json.loads(line)
        return found

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Read on to the first JSON line that has these values, and give it."""
        while True:
            found = self.event()
            if all(found.get(key) == value for key, value in wanted.items()):
                return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal and wait: exit code, and what is left of standard output and standard error."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out or "", err

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


class Terminal:
    """A pseudo-terminal in which a program runs; `text` is all that it has drawn so far."""

    def __init__(self, *arguments: str) -> None:
        import pty

        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        environment.pop("NO_COLOR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "notnow", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        self._watchdog = threading.Timer(PATIENCE, self.process.kill)
        self._watchdog.start()
        self.text = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def until(self, wanted: str) -> str:
        """Read until this has been drawn."""
        while wanted not in self.text:
            assert self._read(), f"it ended without {wanted!r}: {self.text!r}"
        return self.text

    def rest(self) -> str:
        """Read until the program has ended."""
        while self._read():
            pass
        return self.text

    def _read(self) -> bool:
        with contextlib.suppress(OSError):  # EIO: nobody is at the other end any more
            data = os.read(self._ours, 65536)
            self.text += data.decode("utf-8", "replace")
            return bool(data)
        return False
