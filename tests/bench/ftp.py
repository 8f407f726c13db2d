"""FTP: refusals, sessions and downloads, beside pyftpdlib as it comes, under the same load."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path

from tests.bench.connect import Seen
from tests.bench.processes import Server, linux_only, module, running
from tests.bench.table import Bench, Row, Target, median_ratio

OVERLOAD = ("notnow", "ftp/overload", "outage=10h")


def refusals(quick: bool) -> list[Row]:
    """421 at connect: pyftpdlib, whose one place is taken, and ours, which is overloaded."""
    linux_only()
    rounds, seconds = (3, 0.5) if quick else (9, 1.0)
    stock, ours = Seen(), Seen()
    with ExitStack() as stack:
        first, second = (stack.enter_context(Server(*words)) for words in (("pyftpdlib", "1"), OVERLOAD))
        stack.enter_context(running("load", "idle", first.port, 1))
        pairs = [(first, stock), (second, ours)]
        for _ in range(rounds):
            for server, seen in pairs:
                seen.add(server, seconds)
            pairs.reverse()
    return [
        Row(
            "ftp-connect", "FTP: 421 at connect, journal on", statistics.median(ours.rate), "/s", "pyftpdlib",
            statistics.median(stock.rate), median_ratio(ours.rate, stock.rate), Target("ratio", "≥", 2.0),
            f"pyftpdlib: {stock}. Ours: {ours}.",
        )
    ]  # fmt: skip


TARGETS = {"list": 1.0, "retr": 0.95}
SECONDS = {"list": 0.25, "retr": 1.0}  # a round: many short sessions would use up the system's ports, for a minute


def sessions(name: str, what: str, kind: str, quick: bool) -> list[Row]:
    linux_only()
    rounds, seconds = (5, SECONDS[kind] / 2) if quick else (15, SECONDS[kind])
    rates: dict[Server, list[float]] = {}
    costs: dict[Server, list[float]] = {}
    with Server("pyftpdlib") as stock, Server("notnow", "ftp/healthy") as ours:
        servers = [stock, ours]
        for server in servers:
            rates[server], costs[server] = [], []
            module("load", kind, server.port, 0.1)
        for _ in range(rounds):
            for server in servers:
                before = server.cpu()
                done = module("load", kind, server.port, seconds)
                rates[server].append(done["count"] / done["seconds"])
                costs[server].append((server.cpu() - before) / done["count"] * 1e6)
            servers.reverse()
    theirs, mine = statistics.median(costs[stock]), statistics.median(costs[ours])
    note = f"processor: pyftpdlib {theirs:.0f} µs, ours {mine:.0f} µs; by that the ratio is {theirs / mine:.2f}"
    return [
        Row(
            name, what, statistics.median(rates[ours]), "/s", "pyftpdlib", statistics.median(rates[stock]),
            median_ratio(rates[ours], rates[stock]), Target("ratio", "≥", TARGETS[kind]), note,
        )
    ]  # fmt: skip


def profile(kind: str, into: Path) -> None:
    with Server("--profile", str(into), "notnow", "ftp/healthy") as server:
        module("load", kind, server.port, 3)


def _bench(name: str, what: str, kind: str) -> Bench:
    return Bench(name, what, lambda quick: sessions(name, what, kind, quick), lambda into: profile(kind, into))


BENCHES = (
    Bench("ftp-connect", "FTP: 421 at connect, journal on", refusals),
    _bench("ftp-session", "FTP: login, PASV, LIST, QUIT, journal on", "list"),
    _bench("ftp-retr", "FTP: a download of 10 MB, journal on", "retr"),
)
