"""What stock clients of every protocol have in common: a client is told of a job, does it, and reports.

smtp_clients.py, ftp_clients.py and http_clients.py describe the clients; tables.py has the form in which tests say what they report.
"""

from __future__ import annotations

import contextlib
import gc
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import programs

PATIENCE = 20  # real seconds that a client gets before it is ended, and the test with it

Encryption = Literal["none", "may", "must", "implicit"]
"""TLS: not at all; if it is offered; or else nothing; or from the first byte."""

Job = TypeVar("Job")


@dataclass(frozen=True)
class Report:
    """What a client reported: `said` in a word (`sent`, `exit 8`, `error_temp 421`), `text` in full."""

    said: str
    text: str = ""


@dataclass(frozen=True)
class Client(Generic[Job]):
    """A client by name; `program` and the Debian `package` that it comes in are empty for Python's own.

    `cannot` are the ways of doing a job that it does not have. `module` is one of Node's, from npm. `needs` skips the
    test if anything else is missing.
    """

    name: str
    do: Callable[[Job], Report]
    program: str = ""
    package: str = ""
    cannot: frozenset[str] = field(default_factory=frozenset)
    module: str = ""
    needs: Callable[[], None] = lambda: None


def need(client: Client[Any]) -> None:
    """Skip the test if anything is missing that this client needs; with CI=true that is a failure."""
    if client.program:
        programs.need(client.program, client.package)
    if client.module:
        programs.need_module(client.module)
    client.needs()


def run(*command: str, given: bytes = b"", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program that finds `given` on its standard input and no settings of anybody; `folder` is its home."""
    if folder is None:
        with tempfile.TemporaryDirectory() as name:
            return run(*command, given=given, folder=Path(name))
    done = subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE, check=False, **_at_home(folder))
    return subprocess.CompletedProcess(command, done.returncode, _plain(done.stdout), _plain(done.stderr))


@contextlib.contextmanager
def started(*command: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs while the block goes on, and is ended with it; its output waits to be read."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, **_at_home(folder)) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def meanwhile(work: Callable[[], Report]) -> Iterator[Future[Report]]:
    """A client that works in the background while the block goes on; the block ends when it has."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def _at_home(folder: Path) -> dict[str, Any]:
    return {
        "cwd": folder,
        "env": {"HOME": str(folder), "LC_ALL": "C", "PATH": programs.PATH, "NODE_PATH": programs.NODE_PATH},
    }


def report(done: subprocess.CompletedProcess[str], word: str) -> Report:
    """What a program has reported by its exit code; `word` is for 0."""
    return Report(word if done.returncode == 0 else f"exit {done.returncode}", done.stdout + done.stderr)


@contextlib.contextmanager
def untidy() -> Iterator[None]:
    """A library is at work that leaves open sockets behind: they are closed here, and nobody is warned of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            yield
        finally:
            gc.collect()


def _plain(output: bytes) -> str:
    return output.decode("utf-8", "replace").replace("\r\n", "\n")
