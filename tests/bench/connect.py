"""421 at connect: how many clients a second are turned away, beside Postfix's smtp-sink."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.bench.processes import Process, Server, Sink, linux_only, module
from tests.bench.table import Bench, Row, Skip, Target, median_ratio

FAKE = ("notnow", "smtp/overload", "outage=10h")
SETTLE = 0.1  # seconds; what a server still does for its last clients counts
TARGETS = {"asyncio": Target("ratio", "≥", 0.41), "uvloop": Target("ratio", "≥", 0.65)}


@dataclass
class Seen:
    """Of one server, round by round: connections a second, and processor seconds that a connection has cost it."""

    rate: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    load_busy: list[float] = field(default_factory=list)

    def add(self, server: Process, seconds: float) -> None:
        before = server.cpu()
        load = module("load", "refused", server.port, seconds)
        time.sleep(SETTLE)
        spent = server.cpu() - before
        self.rate.append(load["count"] / load["seconds"])
        self.cost.append(spent / load["count"])
        self.busy.append(spent / load["seconds"])
        self.load_busy.append(load["busy"])

    @property
    def capacity(self) -> float:
        """Connections that a second of the server's processor time is enough for."""
        return 1 / statistics.median(self.cost)

    def __str__(self) -> str:
        cost, busy, load = (statistics.median(x) for x in (self.cost, self.busy, self.load_busy))
        return f"{cost * 1e6:.0f} µs a connection, server {busy:.0%} busy, load {load:.0%}"


def measure(kind: str, quick: bool) -> tuple[Seen, Seen, Seen]:
    """smtp-sink, bare asyncio and ours, in turns."""
    linux_only()
    if kind == "uvloop" and find_spec("uvloop") is None:
        raise Skip("needs uvloop")
    rounds, seconds = (3, 0.5) if quick else (9, 1.0)
    seen: dict[Process, Seen] = defaultdict(Seen)
    with ExitStack() as stack:
        servers: list[Process] = [
            stack.enter_context(server)
            for server in (Sink("-Q", "CONNECT"), Server("bare", loop=kind), Server(*FAKE, loop=kind))
        ]
        for server in servers:
            module("load", "refused", server.port, 0.3)
        for i in range(rounds):
            for server in servers[i % 3 :] + servers[: i % 3]:
                seen[server].add(server, seconds)
        return seen[servers[0]], seen[servers[1]], seen[servers[2]]


def run(kind: str, quick: bool) -> list[Row]:
    """The ratio is one of processor time: on few cores it is the load, not smtp-sink, that limits what clients see."""
    sink, bare, fake = measure(kind, quick)
    name, against = f"connect-{kind}", "smtp-sink"
    note = f"smtp-sink: {sink}. Ours: {fake}. Bare: {bare}."
    return [
        Row(
            name, f"421 at connect a processor second, {kind}, journal on", fake.capacity, "/s", against, sink.capacity,
            median_ratio(sink.cost, fake.cost), TARGETS[kind], note,
        ),
        Row(
            name, f"  for comparison: a bare Protocol on {kind}", bare.capacity, "/s", against, sink.capacity,
            median_ratio(sink.cost, bare.cost),
        ),
        Row(
            name, "  as the clients count, ours", statistics.median(fake.rate), "/s", against,
            statistics.median(sink.rate), median_ratio(fake.rate, sink.rate),
        ),
    ]  # fmt: skip


def profile(kind: str, into: Path) -> None:
    with Server("--profile", str(into), *FAKE, loop=kind) as server:
        module("load", "refused", server.port, 3)


def _bench(kind: str) -> Bench:
    return Bench(
        f"connect-{kind}",
        f"421 at connect, {kind}, journal on",
        lambda quick: run(kind, quick),
        lambda into: profile(kind, into),
    )


BENCHES = (_bench("asyncio"), _bench("uvloop"))
