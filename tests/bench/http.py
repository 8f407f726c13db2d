"""HTTP/2: refusals beside hypercorn's own server, what engine and journal cost, and a stop with a client attached."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from pathlib import Path

from tests.bench.processes import Server, linux_only, program
from tests.bench.table import Bench, Row, Target, median_ratio

REFUSING = "http/misdirected-forever"
WIDTH = 16  # requests at a time on the one connection


def requests(port: int, count: int) -> float:
    """Requests per second over one HTTP/2 connection in clear; h2load makes so many."""
    command = [program("h2load", "nghttp2-client"), "-c1", f"-m{WIDTH}", f"-n{count}", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    done, rate = re.search(r"(\d+) done, ", said), re.search(r"finished in [^,]+, ([\d.]+) req/s", said)
    if rate is None or done is None or int(done[1]) != count:
        raise RuntimeError(f"h2load has failed:\n{said[-1000:]}")
    return float(rate[1])


def compare(
    name: str, what: str, ours: tuple[str, ...], other: tuple[str, ...], called: str, target: float, quick: bool
) -> list[Row]:
    linux_only()
    rounds, count = (3, 1000) if quick else (11, 3000)
    rates: dict[Server, list[float]] = {}
    costs: dict[Server, list[float]] = {}
    with Server(*ours) as mine, Server(*other) as theirs:
        servers = [theirs, mine]
        for server in servers:
            rates[server], costs[server] = [], []
            requests(server.port, 500)
        for _ in range(rounds):
            for server in servers:
                before = server.cpu()
                rates[server].append(requests(server.port, count))
                costs[server].append((server.cpu() - before) / count * 1e6)
            servers.reverse()
    note = f"processor: {called} {statistics.median(costs[theirs]):.0f} µs, ours {statistics.median(costs[mine]):.0f} µs a request"
    return [
        Row(
            name, what, statistics.median(rates[mine]), "/s", called, statistics.median(rates[theirs]),
            median_ratio(rates[mine], rates[theirs]), Target("ratio", "≥", target), note,
        )
    ]  # fmt: skip


def stop(quick: bool) -> list[Row]:
    """The stop of a fake to which an idle pooled client is attached, in TLS."""
    import httpx

    from notnow import FakeHTTP

    took = []
    for _ in range(5 if quick else 30):
        with FakeHTTP() as fake, httpx.Client(http2=True, verify=fake.ssl_context()) as client:
            client.get(fake.url)
            begun = time.perf_counter()
            fake.stop()
            took.append((time.perf_counter() - begun) * 1e3)
    note = "hypercorn's serve() takes 30 s: asyncio waits for the client's end of TLS"
    return [
        Row(
            "http-stop",
            "HTTP: stop with an idle pooled client",
            statistics.median(took),
            "ms",
            target=Target("figure", "≤", 20.0),
            note=note,
        )
    ]


def refusals(quick: bool) -> list[Row]:
    what = "HTTP/2: 421 on one warm connection, journal on"
    return compare("http-421", what, ("notnow", REFUSING), ("hypercorn",), "serve()", 3.0, quick)


def record(quick: bool) -> list[Row]:
    what = "HTTP/2: the same with and without engine and journal"
    return compare("http-record", what, ("notnow", REFUSING), ("unrecorded", REFUSING), "without", 0.85, quick)


def profile(into: Path) -> None:
    with Server("--profile", str(into), "notnow", REFUSING) as server:
        requests(server.port, 10_000)


BENCHES = (
    Bench("http-421", "HTTP/2: 421 on one warm connection, journal on", refusals, profile),
    Bench("http-record", "HTTP/2: the same with and without engine and journal", record),
    Bench("http-stop", "HTTP: stop with an idle pooled client", stop),
)
