"""The memory of an idle connection that is held after its greeting, beside stock aiosmtpd and pyftpdlib."""

from __future__ import annotations

import json
import resource
import statistics

from tests.bench.processes import Server, linux_only, running
from tests.bench.table import Bench, Row, Skip, Target, median_ratio

COUNT = 2000


def held(*arguments: str) -> float:
    """KiB that the server's memory grows by with each of COUNT idle connections."""
    with Server(*arguments) as server:
        with running("load", "idle", server.port, 20):
            pass  # what the first connections import and allocate once
        before = server.resident()
        with running("load", "idle", server.port, COUNT) as clients:
            assert clients.stdout is not None
            if json.loads(clients.stdout.readline() or "0") != COUNT:
                raise RuntimeError("the clients have failed; what they said stands above")
            return (server.resident() - before) / COUNT


def run(name: str, scenario: str, against: tuple[str, ...], most: float, quick: bool) -> list[Row]:
    linux_only()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < COUNT + 100:
        raise Skip(f"needs {COUNT + 100} open files, allowed are {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, COUNT + 100), hard))
    pairs = [(held("notnow", scenario), held(*against)) for _ in range(1 if quick else 3)]
    ours, stock = [a for a, _ in pairs], [b for _, b in pairs]
    protocol = scenario.partition("/")[0].upper()
    return [
        Row(
            name, f"{protocol}: an idle connection ({COUNT} held)", statistics.median(ours), "KiB", against[0],
            statistics.median(stock), median_ratio(ours, stock), Target("figure", "≤", most),
        )
    ]  # fmt: skip


BENCHES = (
    Bench(
        "idle", "the memory of an idle SMTP connection", lambda quick: run("idle", "smtp/healthy", ("aiosmtpd",), 12.0, quick)
    ),
    Bench(
        "ftp-idle", "the memory of an idle FTP connection",
        lambda quick: run("ftp-idle", "ftp/healthy", ("pyftpdlib",), 6.0, quick),
    ),
)  # fmt: skip
