"""Healthy sessions and messages, beside stock aiosmtpd under the same load from Postfix's smtp-source."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

from tests.bench.processes import Process, Server, linux_only, program
from tests.bench.table import Bench, Row, Target, median_ratio

PARALLEL = 20


def load(server: Process, messages: int, *options: str) -> float:
    """Messages a second."""
    return rate(server.port, messages, *options)


def rate(port: int, messages: int, *options: str) -> float:
    """Messages a second that the server at this port takes."""
    command = [
        program("smtp-source"), "-4", "-s", str(PARALLEL), "-m", str(messages), *options, "-M", "client.test",
        "-f", "sender@client.test", "-t", "recipient@server.test", f"127.0.0.1:{port}",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return messages / (time.perf_counter() - start)


def run(name: str, what: str, options: tuple[str, ...], quick: bool) -> list[Row]:
    linux_only()
    program("smtp-source")
    rounds, messages = (3, 500) if quick else (9, 2000)
    stock: list[float] = []
    ours: list[float] = []
    with Server("aiosmtpd") as first, Server("notnow", "smtp/healthy") as second:
        pairs = [(first, stock), (second, ours)]
        for server, _ in pairs:
            load(server, messages // 4, *options)
        spent = [-first.cpu(), -second.cpu()]
        for _ in range(rounds):
            for server, seen in pairs:
                seen.append(load(server, messages, *options))
            pairs.reverse()  # whoever goes second also goes first: a drift of the machine takes no side
        spent = [spent[0] + first.cpu(), spent[1] + second.cpu()]
    cost = [seconds / (rounds * messages) * 1e6 for seconds in spent]
    note = f"processor: aiosmtpd {cost[0]:.0f} µs, ours {cost[1]:.0f} µs; by that the ratio is {cost[0] / cost[1]:.2f}"
    return [
        Row(
            name, what, statistics.median(ours), "/s", "aiosmtpd", statistics.median(stock),
            median_ratio(ours, stock), Target("ratio", "≥", 2.0), note,
        )
    ]  # fmt: skip


def profile(options: tuple[str, ...], into: Path) -> None:
    with Server("--profile", str(into), "notnow", "smtp/healthy") as server:
        load(server, 2000, *options)


def _bench(name: str, what: str, *options: str) -> Bench:
    return Bench(name, what, lambda quick: run(name, what, options, quick), lambda into: profile(options, into))


BENCHES = (
    _bench("session", "a healthy session (connect to QUIT), journal on"),
    _bench("message", "a healthy message (MAIL to dot), journal on", "-d"),
)
