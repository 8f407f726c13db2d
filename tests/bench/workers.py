"""Worker processes: 421 at connect and FTP with one process and with two workers, and what a decision costs that counts.

    python -m tests.bench.workers [--quick]

Two workers, the process that has their journal, and the load generator share the cores: on a machine with two cores no
more than a hint of their use is seen, as the note says. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.bench.processes import Process, Server, Sink, cpu_of, linux_only, module
from tests.bench.table import Bench, Row, Skip, as_text, median_ratio

FAKE = ("smtp/overload", "outage=10h")
COUNTED = 'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "noop"\nnth = 1_000_000_000\nreply = "450 no"\n'


@dataclass
class Seen:
    """Of one server, round by round: refused connections a second as the clients count them, and the processor seconds that
    each costs: in all processes, and in the one that the others report to.
    """

    rate: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    def add(self, server: Process, seconds: float) -> None:
        children = server.children()
        before, before_all = server.cpu(), sum(map(cpu_of, children))
        load = module("load", "refused", server.port, seconds)
        first = server.cpu() - before
        self.rate.append(load["count"] / load["seconds"])
        self.first.append(first / load["count"])
        self.cost.append((first + sum(map(cpu_of, children)) - before_all) / load["count"])


def measure(servers: list[Process], rounds: int, seconds: float) -> list[Seen]:
    """What each server does, in turns."""
    seen = [Seen() for _ in servers]
    for server in servers:
        module("load", "refused", server.port, 0.3)
    for i in range(rounds):
        order = list(range(len(servers)))
        for n in order[i % len(order) :] + order[: i % len(order)]:
            seen[n].add(servers[n], seconds)
    return seen


def refusals(quick: bool) -> list[Row]:
    linux_only()
    if find_spec("uvloop") is None:
        raise Skip("needs uvloop")
    with ExitStack() as stack:
        servers: list[Process] = [
            stack.enter_context(server)
            for server in (
                Sink("-Q", "CONNECT"),
                Server("notnow", *FAKE, loop="uvloop"),
                Server("workers", "2", *FAKE, loop="uvloop"),
            )
        ]
        sink, one, two = measure(servers, *((3, 0.5) if quick else (9, 1.0)))
    share = statistics.median(two.first)
    note = (
        f"{os.cpu_count()} cores for the clients, two workers, and the process that has their journal; that one spends "
        f"{share * 1e6:.0f} µs a connection, so it is busy with {1 / share:,.0f} connections a second, however many workers there are"
    )
    return [
        _row("421 at connect, one process, as the clients count", one.rate, "smtp-sink", sink.rate),
        _row("  the same with two workers", two.rate, "smtp-sink", sink.rate),
        _row("  two workers beside one process", two.rate, "one process", one.rate),
        _row("  processor time a connection, of all", _micro(two.cost), "one process", _micro(one.cost), "µs", note),
    ]


def _micro(seconds: list[float]) -> list[float]:
    return [one * 1e6 for one in seconds]


def _row(what: str, ours: list[float], reference: str, theirs: list[float], unit: str = "/s", note: str = "") -> Row:
    ratio = median_ratio(ours, theirs)
    return Row("workers", what, statistics.median(ours), unit, reference, statistics.median(theirs), ratio, note=note)


def decisions(quick: bool) -> list[Row]:
    """What a decision costs that another process makes: NOOPs that a rule counts, one after the other."""
    linux_only()
    rounds, commands = (3, 500) if quick else (9, 2000)
    with _file(COUNTED) as file, Server("workers", "1", file) as one, Server("workers", "2", file) as two:
        for server in (one, two):
            noops(server, commands)
        seen = [[noops(server, commands) for server in (one, two)] for _ in range(rounds)]
    here, there = ([times[n] for times in seen] for n in (0, 1))
    added = statistics.median(b - a for a, b in seen)
    return [
        Row(
            "workers", "a command that a rule counts, two workers", statistics.median(there), "µs", "one process",
            statistics.median(here), median_ratio(there, here), note=f"the question and its answer take {added:.0f} µs",
        )
    ]  # fmt: skip


def noops(server: Process, commands: int) -> float:
    """Microseconds for a NOOP and its reply."""
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert sock.recv(512).startswith(b"220")
        start = time.perf_counter()
        for _ in range(commands):
            sock.sendall(b"NOOP\r\n")
            assert sock.recv(512).startswith(b"250")
        return (time.perf_counter() - start) / commands * 1e6


TRANSFERS = {
    "list": "FTP: login, PASV, LIST, QUIT",
    "retr": "FTP: a download of 10 MB",
    "stor": "FTP: an upload of 10 MB",
}


def ftp(quick: bool) -> list[Row]:
    """FTP sessions of two clients at a time, with one process and with two workers."""
    linux_only()
    rounds, seconds = (3, 0.5) if quick else (9, 1.0)
    rows = []
    with Server("workers", "1", "ftp/healthy") as one, Server("workers", "2", "ftp/healthy") as two:
        for kind, what in TRANSFERS.items():
            seen = [[pair(kind, server, seconds) for server in (one, two)] for _ in range(rounds)]
            here, there = ([each[n][0] for each in seen] for n in (0, 1))
            costs = [statistics.median(each[n][1] for each in seen) * 1e6 for n in (0, 1)]
            first = statistics.median(each[1][2] for each in seen) * 1e6
            note = (
                f"processor time a session: one process {costs[0]:.0f} µs, two workers and the process that has the files "
                f"{costs[1]:.0f} µs, of which that one {first:.0f} µs"
            )
            rows.append(_row(f"{what}, two workers", there, "one process", here, note=note))
    return rows


def pair(kind: str, server: Process, seconds: float) -> tuple[float, float, float]:
    """Two clients in processes of their own: sessions a second, and the processor seconds of each: of all, and of the first process."""
    children = server.children()
    before, all_before = server.cpu(), sum(map(cpu_of, children))
    with ThreadPoolExecutor(2) as pool:
        loads = list(pool.map(lambda _: module("load", kind, server.port, seconds), range(2)))
    count = sum(load["count"] for load in loads)
    first = server.cpu() - before
    rate = sum(load["count"] / load["seconds"] for load in loads)
    return rate, (first + sum(map(cpu_of, children)) - all_before) / count, first / count


@contextmanager
def _file(text: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "scenario.toml"
        path.write_text(text)
        yield str(path)


BENCHES = (
    Bench("workers", "421 at connect with one process and with two workers", refusals),
    Bench("workers-ftp", "FTP sessions and transfers with one process and with two workers", ftp),
    Bench("workers-decision", "what a decision costs that another process makes", decisions),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.workers")
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    load = os.getloadavg()[0]
    rows = [row for bench in BENCHES for row in bench.run(quick)]
    print(f"{os.cpu_count()} cores, load average before {load:.2f}\n")
    print(as_text(rows))


if __name__ == "__main__":
    main()
