"""A client in its own process: its placeholders and environment, its time limit, and the end of its process group."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from notnow.cli import Refused
from notnow.conduct.pictures.report import Client

if TYPE_CHECKING:
    from notnow.cli._serving import Feed
    from notnow.journal import Entry
    from notnow.servers.base.fake import Fake

GRACE = 2.0  # real seconds between SIGTERM and SIGKILL, and after it
REFRESH = 0.5  # real seconds between two looks at the client

_PLACEHOLDER = re.compile(r"\{(?:([A-Za-z][A-Za-z0-9_-]*)\.)?(host|port|url|ca_file)\}")


def fill(words: Sequence[str], fakes: Sequence[Fake]) -> list[str]:
    """The words of a command with notnow's placeholders filled in; other braces stay as they are."""
    by_name = {fake.name: fake for fake in fakes}

    def value(match: re.Match[str]) -> str:
        fake = by_name.get(match[1]) if match[1] else fakes[0]
        return match[0] if fake is None else str(getattr(fake, match[2]))

    return [_PLACEHOLDER.sub(value, word) for word in words]


def environment(fakes: Sequence[Fake]) -> dict[str, str]:
    """The client's environment, with the address of the first fake."""
    told = {f"NOTNOW_{name.upper()}": str(getattr(fakes[0], name)) for name in ("host", "port", "url", "ca_file")}
    return {**os.environ, **told}


def faketime(speed: float) -> list[str]:
    """The words before the client's command that make its time pass `speed` times as fast."""
    if speed == 1:
        raise click.UsageError("--fake-time needs --speed X: it runs the client's clock as fast as the fakes' clock")
    program = shutil.which("faketime")
    if program is None:
        raise Refused(
            [
                "--fake-time needs the program faketime, which is not installed (Debian, Ubuntu: apt install faketime; "
                "macOS: brew install libfaketime). Without it, configure the client to wait less"
            ]
        )
    return [program, "-f", f"+0 x{speed:.6f}".rstrip("0").rstrip(".")]


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    feed: Feed,
    watch: Callable[[Sequence[Entry]], object],
    *,
    before: Sequence[str] = (),
    timeout: float,
    wait: float = 0.0,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Client:
    """Run a client until it ends, for at most `timeout` real seconds, and stay for `wait` more; then end its processes.

    `watch` is called repeatedly with the new journal entries. `before` is the command of a program that executes the
    client. `stdout` and `stderr` are the file descriptors for the client's output. Stops early if `feed` is stopped.
    """
    begun = time.monotonic()
    try:
        process = _start(command, before, environment, stdout, stderr)
    except OSError as error:
        return Client(tuple(command), failure=f"could not be run: {command[0]}: {error.strerror or error}")
    try:
        threading.Thread(target=_wake_at_end, args=(process, feed), daemon=True).start()
        in_time = _until(lambda: process.poll() is not None, feed, begun + timeout, watch)
        took, ended, stopped = time.monotonic() - begun, process.poll() is not None, feed.stopping
        if ended and wait:
            _until(lambda: False, feed, time.monotonic() + wait, watch)
    finally:
        _end(process, gently=feed.stopping)
    died = ended and process.returncode < 0
    return Client(
        tuple(command),
        exit=process.returncode if ended and not died else None,
        signal=_name(-process.returncode) if died else None,
        duration=took,
        hung=not in_time,
        interrupted=stopped and not ended,
    )


def _start(
    command: Sequence[str],
    before: Sequence[str],
    environment: Mapping[str, str],
    stdout: int | None,
    stderr: int | None,
) -> subprocess.Popen[bytes]:
    if before and shutil.which(command[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # and not as an exit code of `before`
    whole = [*before, *command]
    if sys.platform == "win32":
        own = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(whole, env=environment, stdout=stdout, stderr=stderr, creationflags=own)
    return subprocess.Popen(whole, env=environment, stdout=stdout, stderr=stderr, start_new_session=True)


def _wake_at_end(process: subprocess.Popen[bytes], feed: Feed) -> None:
    process.wait()
    feed.wake()


def _until(done: Callable[[], bool], feed: Feed, deadline: float, watch: Callable[[Sequence[Entry]], object]) -> bool:
    """Wait until the client has ended or the feed stops; False if the deadline comes first."""
    while not done() and not feed.stopping:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        watch(feed.take(min(left, REFRESH)))
    return True


def _end(process: subprocess.Popen[bytes], *, gently: bool) -> None:
    """End a client and the rest of its process group. Processes that have left the group go on."""
    if sys.platform == "win32":
        if process.poll() is None:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
        process.wait()
        return
    numbers = [signal.SIGINT] if gently else []
    for number in (*numbers, signal.SIGTERM, signal.SIGKILL):
        if not _group_lives(process):
            break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + GRACE
        while _group_lives(process) and time.monotonic() < deadline:
            time.sleep(0.01)
    process.wait()


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is None:
        return True
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):  # macOS raises the latter for a zombie
        return False
    return True


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
