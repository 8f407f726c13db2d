"""FTP: refusals, sessions and downloads, beside pyftpdlib as it comes, under the same load."""

from __future__ import annotations

import socket
import statistics
from contextlib import ExitStack
from pathlib import Path

from tests.bench.connect import Seen
from tests.bench.processes import Server, linux_only, module
from tests.bench.table import Bench, Row, Target, median_ratio

OVERLOAD = ("notnow", "ftp/overload", "outage=10h")
MEMORY = Path("/dev/shm")


def refusals(quick: bool) -> list[Row]:
    """421 at connect: pyftpdlib, whose one place is taken, and ours, which is overloaded."""
    linux_only()
    rounds, seconds = (3, 0.5) if quick else (9, 1.0)
    stock, ours = Seen(), Seen()
    with ExitStack() as stack:
        first, second = (stack.enter_context(Server(*words)) for words in (("pyftpdlib", "1"), OVERLOAD))
        held = stack.enter_context(socket.create_connection(("127.0.0.1", first.port)))
        if held.recv(512)[:3] != b"220":
            raise RuntimeError("the one client that pyftpdlib lets in was not greeted")
        pairs = [(first, stock), (second, ours)]
        for _ in range(rounds):
            for server, seen in pairs:
                seen.add(server, seconds)
            pairs.reverse()
    return [
        Row(
            "ftp-connect", "FTP: 421 at connect, journal on", statistics.median(ours.rate), "/s", "pyftpdlib",
            statistics.median(stock.rate), median_ratio(ours.rate, stock.rate), Target("ratio", "≥", 2.0),
            f"pyftpdlib: {stock}. Ours: {ours}. By the processor the ratio is {median_ratio(stock.cost, ours.cost):.2f}.",
        )
    ]  # fmt: skip


TARGETS = {"list": 1.0, "retr": 0.95}
SECONDS = {"list": 0.25, "retr": 1.0}  # a round: many short sessions would use up the system's ports, for a minute


def sessions(name: str, what: str, kind: str, quick: bool) -> list[Row]:
    """Beside pyftpdlib; for downloads also beside one whose files are in memory, as ours are.

    The kernel sends a file from pages of 4 KiB (tmpfs) with more work, at both ends, than from large ones, which ext4 makes of
    its own accord, and memory for ours alone (`into_huge_pages`).
    """
    linux_only()
    rounds, seconds = (5, SECONDS[kind] / 2) if quick else (15, SECONDS[kind])
    stock, ours, memory = ("pyftpdlib",), ("notnow", "ftp/healthy"), ("pyftpdlib", "memory")
    with ExitStack() as stack:
        servers = {
            words: stack.enter_context(Server(*words))
            for words in (stock, ours, *([memory] if kind == "retr" and MEMORY.is_dir() else []))
        }
        rates, costs = _in_turns(list(servers.values()), kind, rounds, seconds)
    theirs, mine = (statistics.median(costs[servers[words]]) for words in (stock, ours))
    note = f"processor: pyftpdlib {theirs:.0f} µs, ours {mine:.0f} µs; by that the ratio is {theirs / mine:.2f}"
    target = Target("ratio", "≥", TARGETS[kind])
    rows = [_beside(name, what, rates[servers[ours]], rates[servers[stock]], target, note)]
    if memory in servers:
        what = "  the same, with pyftpdlib's files in memory, too"
        rows.append(_beside(name, what, rates[servers[ours]], rates[servers[memory]]))
    return rows


Figures = dict[Server, list[float]]  # of each round


def _in_turns(servers: list[Server], kind: str, rounds: int, seconds: float) -> tuple[Figures, Figures]:
    """Sessions a second, and the processor's microseconds for each."""
    rates: Figures = {server: [] for server in servers}
    costs: Figures = {server: [] for server in servers}
    for server in servers:
        module("load", kind, server.port, 0.1)
    for _ in range(rounds):
        for server in servers:
            before = server.cpu()
            done = module("load", kind, server.port, seconds)
            rates[server].append(done["count"] / done["seconds"])
            costs[server].append((server.cpu() - before) / done["count"] * 1e6)
        servers.reverse()
    return rates, costs


def _beside(
    name: str,
    what: str,
    ours: list[float],
    theirs: list[float],
    target: Target | None = None,
    note: str = "",
) -> Row:
    figure, against = statistics.median(ours), statistics.median(theirs)
    return Row(name, what, figure, "/s", "pyftpdlib", against, median_ratio(ours, theirs), target, note)


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
