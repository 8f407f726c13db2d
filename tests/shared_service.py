"""Replicas of one service for tests: fakes of this process, `notnow serve` processes, and what their clients see."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from cli_process import Notnow
from notnow import FakeSMTP, true_time

PATIENCE = 20.0  # real seconds


class Line:
    """A connection to a server that speaks first; `greeting` is what it said."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((host, port), timeout=PATIENCE)
        self.file = self.sock.makefile("rb")
        self.greeting = self.hear()

    def hear(self) -> str:
        return self.file.readline().decode().rstrip("\r\n")

    def ask(self, command: str) -> str:
        self.sock.sendall(f"{command}\r\n".encode())
        return self.hear()

    @property
    def admitted(self) -> bool:
        return self.greeting.startswith("220")

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@contextmanager
def lines(ports: Sequence[int], count: int) -> Iterator[list[Line]]:
    """So many connections at once, from eight threads, spread over these ports."""
    found: list[Line] = []

    def connect(first: int) -> None:
        found.extend(Line(ports[n % len(ports)]) for n in range(first, count, 8))

    threads = [threading.Thread(target=connect, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        yield found
    finally:
        for line in found:
            line.close()


@contextmanager
def replicas(url: str, scenario: str, *options: str, count: int = 4) -> Iterator[list[tuple[Notnow, int]]]:
    """`notnow serve` processes, each with its port, that count together."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(Notnow("serve", scenario, "--json", "--shared", url, *options)) for _ in range(count)
        ]
        yield [(process, int(process.until(event="listening")["port"])) for process in made]


@contextmanager
def two(url: str, scenario: Any = None, **more: Any) -> Iterator[tuple[FakeSMTP, FakeSMTP]]:
    """Two replicas of a service in this process."""
    with FakeSMTP(scenario, shared=url, **more) as one, FakeSMTP(scenario, shared=url, **more) as other:
        yield one, other


def eventually(happened: Any, what: str) -> None:
    """Wait until this is true. It asks servers again and again, so it needs no pause of its own."""
    deadline = true_time.monotonic() + PATIENCE
    while not happened():
        assert true_time.monotonic() < deadline, f"it did not happen: {what}"


def admits(port: int) -> bool:
    """Whether a server takes one more client, who leaves at once."""
    line = Line(port)
    with contextlib.closing(line):
        return line.admitted
