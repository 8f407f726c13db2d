"""Servers and loads, each in a process of its own, and what the system knows of their costs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.table import Skip

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds


class Process:
    """A server in a process of its own, on a port of 127.0.0.1."""

    def __init__(self, command: list[str], port: int = 0, **environment: str) -> None:
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        self.pid, self.port = self._child.pid, port

    def cpu(self) -> float:
        """Seconds of processor time so far, the kernel's for it included, of the threads that live."""
        return cpu_of(self.pid)

    def children(self) -> list[int]:
        """The process ids of its children."""
        found = Path(f"/proc/{self.pid}/task").glob("*/children")
        return [int(pid) for one in found for pid in one.read_text().split()]

    def resident(self) -> int:
        """KiB of resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._child.kill()
            self._child.wait()


def cpu_of(pid: int) -> float:
    """See `Process.cpu`."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


class Server(Process):
    """One of the servers of `tests.bench.serve`; ends when its standard input does."""

    def __init__(self, *arguments: str, loop: str = "asyncio", **environment: str) -> None:
        super().__init__([sys.executable, "-m", "tests.bench.serve", *arguments], NOTNOW_LOOP=loop, **environment)
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"the server {' '.join(arguments)} did not start")
        self.port = int(line)

    def ended(self) -> tuple[float, float]:
        """End a fake; the seconds that it took to stop, by the wall clock and of the processor."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.stdin = None
        wall, spent = json.loads(self._child.stdout.readline())
        return wall, spent

    def stop(self) -> None:
        super().stop()
        if self._child.returncode:
            raise RuntimeError("the server has failed; what it said stands above")


class Sink(Process):
    """Postfix's smtp-sink, the fastest SMTP server there is to compare with. Raises Skip where it is missing."""

    def __init__(self, *options: str) -> None:
        port = unused_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        super().__init__([program("smtp-sink"), *user, "-4", "-m", "4000", *options, f"127.0.0.1:{port}", "1000"], port)
        _until_listening(port)

    def stop(self) -> None:
        self._child.terminate()
        super().stop()


def program(name: str, package: str = "postfix") -> str:
    """The path of a program; `package` is the one of Debian that has it. Raises Skip where there is none."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Skip(f"needs {name}: apt-get install {package}")
    return path


def linux_only() -> None:
    """Raise Skip where the costs of other processes cannot be read."""
    if not sys.platform.startswith("linux"):
        raise Skip("needs Linux: epoll and /proc")


def unused_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, not even a connection that has ended a minute ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _until_listening(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens on port {port}")


@dataclass(frozen=True, slots=True)
class Took:
    """What a program has taken, in milliseconds: by the wall clock, and of the processor."""

    wall: float
    cpu: float

    def __sub__(self, other: Took) -> Took:
        return Took(self.wall - other.wall, self.cpu - other.cpu)


def python(directory: Path, *arguments: str, status: int = 0) -> Took:
    """Run Python there. Raises RuntimeError with what it said if it does not end with this status."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=directory, capture_output=True, text=True)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != status:
        raise RuntimeError(f"{' '.join(arguments)} has failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Took(wall * 1e3, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3)


def module(name: str, *arguments: object) -> Any:
    """Run one of our modules in a process of its own; what it prints is JSON."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600).stdout)


@contextlib.contextmanager
def running(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The same, as long as a `with` block lasts: its standard input ends with the block."""
    command = [sys.executable, "-m", f"tests.bench.{name}", *map(str, arguments)]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield child
        child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
        child.wait()
