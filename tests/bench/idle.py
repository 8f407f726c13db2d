"""The memory of an idle connection that is held after its greeting, beside stock aiosmtpd, pyftpdlib and hypercorn."""

from __future__ import annotations

import json
import resource
import statistics

from tests.bench.processes import Server, linux_only, running
from tests.bench.table import Bench, Row, Skip, Target, median_ratio

COUNT = 2000


def held(load: str, *arguments: str) -> float:
    """KiB that the server's memory grows by with each of COUNT idle connections."""
    with Server(*arguments) as server:
        with running("load", load, server.port, 20):
            pass  # what the first connections import and allocate once
        before = server.resident()
        with running("load", load, server.port, COUNT) as clients:
            assert clients.stdout is not None
            if json.loads(clients.stdout.readline() or "0") != COUNT:
                raise RuntimeError("the clients have failed; what they said stands above")
            return (server.resident() - before) / COUNT


def run(name: str, ours: tuple[str, ...], against: tuple[str, ...], quick: bool, load: str = "idle") -> list[Row]:
    linux_only()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < COUNT + 100:
        raise Skip(f"needs {COUNT + 100} open files, allowed are {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, COUNT + 100), hard))
    pairs = [(held(load, "notnow", *ours), held(load, *against)) for _ in range(1 if quick else 3)]
    mine, stock = [a for a, _ in pairs], [b for _, b in pairs]
    protocol = ours[0].partition("/")[0].upper() + ("/2 in TLS" if load == "idle-h2" else "")
    return [
        Row(
            name, f"{protocol}: an idle connection ({COUNT} held)", statistics.median(mine), "KiB", against[0],
            statistics.median(stock), median_ratio(mine, stock), Target("ratio", "≤", 1.0),
        )
    ]  # fmt: skip


BENCHES = (
    Bench(
        "idle", "the memory of an idle SMTP connection",
        lambda quick: run("idle", ("smtp/healthy",), ("aiosmtpd",), quick),
    ),
    Bench(
        "ftp-idle", "the memory of an idle FTP connection",
        lambda quick: run("ftp-idle", ("ftp/healthy",), ("pyftpdlib",), quick),
    ),
    Bench(
        "http-idle", "the memory of an idle HTTP/2 connection in TLS",
        lambda quick: run("http-idle", ("http/healthy", "tls=implicit"), ("hypercorn", "tls"), quick, "idle-h2"),
    ),
)  # fmt: skip
