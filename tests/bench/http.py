"""HTTP/2: refusals beside hypercorn's own server, what engine and journal cost, and a stop with a client attached."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.processes import Server, linux_only, program
from tests.bench.table import Bench, Row, Target, median_ratio

REFUSAL = "HTTP/2: 421 on one warm connection, journal on"
SHARE = "HTTP/2: engine and journal's share of the same"
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


@dataclass
class Seen:
    """Of one server, round by round: requests a second, and microseconds of the processor that one has cost it."""

    rate: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)


def side_by_side(
    ours: tuple[str, ...], other: tuple[str, ...], loop: str, quick: bool, rounds: int = 11
) -> tuple[Seen, Seen]:
    """Two servers on the same event loop, in turns."""
    linux_only()
    rounds, count = (3, 1000) if quick else (rounds, 2000)
    with Server(*ours, loop=loop) as mine, Server(*other, loop=loop) as theirs:
        pairs = [(theirs, Seen()), (mine, Seen())]
        for server, _ in pairs:
            requests(server.port, 500)
        found = pairs[1][1], pairs[0][1]
        for _ in range(rounds):
            for server, seen in pairs:
                before = server.cpu()
                seen.rate.append(requests(server.port, count))
                seen.cost.append((server.cpu() - before) / count * 1e6)
            pairs.reverse()
    return found


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


def refusals(loop: str, quick: bool) -> list[Row]:
    name, target = f"http-421-{loop}", Target("ratio", "≥", 3.0)
    ours, stock = side_by_side(("notnow", REFUSING), ("hypercorn",), loop, quick)
    cost, against = statistics.median(ours.cost), statistics.median(stock.cost)
    return [
        Row(
            name, f"{REFUSAL}, {loop}, as the client counts", statistics.median(ours.rate), "/s", "hypercorn",
            statistics.median(stock.rate), median_ratio(ours.rate, stock.rate), target,
        ),
        Row(
            name, "  a processor second", 1e6 / cost, "/s", "hypercorn", 1e6 / against, median_ratio(stock.cost, ours.cost),
            target, f"{cost:.0f} µs of the processor a request, hypercorn {against:.0f} µs",
        ),
    ]  # fmt: skip


def share(quick: bool) -> list[Row]:
    """What the processor does less without engine and journal, of what it does with them."""
    # The difference of two large figures is small: a turn more or less that another process had would show.
    ours, bare = side_by_side(("notnow", REFUSING), ("unrecorded", REFUSING), "asyncio", quick, rounds=31)
    shares = [100 * (1 - without / whole) for whole, without in zip(ours.cost, bare.cost, strict=True)]
    note = f"{statistics.median(ours.cost):.0f} µs of the processor a request, {statistics.median(bare.cost):.0f} µs without them"
    return [Row("http-record", SHARE, statistics.median(shares), "%", target=Target("figure", "≤", 15.0), note=note)]


def profile(into: Path) -> None:
    with Server("--profile", str(into), "notnow", REFUSING) as server:
        requests(server.port, 10_000)


def _bench(loop: str) -> Bench:
    return Bench(f"http-421-{loop}", f"{REFUSAL}, {loop}", lambda quick: refusals(loop, quick), profile)


BENCHES = (
    _bench("asyncio"),
    _bench("uvloop"),
    Bench("http-record", SHARE, share),
    Bench("http-stop", "HTTP: stop with an idle pooled client", stop),
)
