"""A real Redis for tests: in a directory of its own, on loopback, ended by its process id."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import programs
import pytest

PROGRAM = "redis-server"
PATIENCE = 20.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class RedisServer:
    """`start` and `stop` may be called again and again: the port stays, and what it held goes, as nothing is saved."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [PROGRAM, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [*command, "--dir", str(self.folder), *self.options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "eady to accept connections" in line:
                return
        pytest.fail(f"{PROGRAM} did not start on port {self.port}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)  # it has nothing to save, and connections end as in a crash
            self.process.communicate(timeout=PATIENCE)
            self.process = None


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    programs.need(PROGRAM, "redis-server")
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
