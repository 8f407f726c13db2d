"""The control API: a server a POST, an event to its reader, what watching costs the fakes, and a journal of 100,000 entries."""

from __future__ import annotations

import cProfile
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from tests.bench.page import fill
from tests.bench.processes import Process, Server, linux_only, module
from tests.bench.table import Bench, Row, Target, median_ratio

from notnow.control.fleet import Fleet
from notnow.control.server import ControlServer, controlled
from notnow.language.catalogue import scenario
from notnow.servers.base.fake import Fake

FAKE = ("smtp/overload", "outage=10h")
STALL = 100  # milliseconds that a client may wait longer while others read


@contextmanager
def serving() -> Iterator[tuple[Fleet, ControlServer]]:
    with Fleet() as fleet, controlled(fleet, "127.0.0.1", 0) as server:
        yield fleet, server


def ask(port: int, method: str, path: str, body: object = None) -> bytes:
    """A call on a connection of its own, as curl makes it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {} if text is None else {"content-type": "application/json"})
    answer = connection.getresponse()
    found = answer.read()
    connection.close()
    assert answer.status < 300, found
    return found


def post(quick: bool) -> list[Row]:
    took = []
    with serving() as (_, server):
        for number in range(20 if quick else 200):
            begun = time.perf_counter()
            ask(server.port, "POST", "/v1/servers", {"scenario": "smtp/overload", "name": f"s{number}"})
            took.append((time.perf_counter() - begun) * 1e3)
            ask(server.port, "DELETE", f"/v1/servers/s{number}")
    note = f"least {min(took):.1f} ms, most {max(took):.1f} ms"
    target = Target("figure", "≤", 5)
    return [
        Row("control-post", "POST a server, until it listens", statistics.median(took), "ms", target=target, note=note)
    ]


def event(quick: bool) -> list[Row]:
    """From the 421 that a client reads to the event that a reader has."""
    took = []
    with serving() as (fleet, server), socket.create_connection(("127.0.0.1", server.port)) as sock:
        fake = fleet.start(scenario(FAKE[0]).with_knobs(outage="10h"), name="mx").fake
        sock.sendall(b"GET /v1/events?server=mx HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        lines = sock.makefile("rb")
        while b"retry" not in lines.readline():
            pass
        for number in range(1, 11 if quick else 101):
            with socket.create_connection((fake.host, fake.port)) as client:
                client.recv(999)
                begun = time.perf_counter()
            wanted = b'"connection": %d,' % number
            while wanted not in lines.readline():
                pass
            took.append((time.perf_counter() - begun) * 1e3)
    note = f"most {max(took):.0f} ms"
    target = Target("figure", "≤", 100)
    return [
        Row(
            "control-event", "from a 421 to a reader of events", statistics.median(took), "ms", target=target, note=note
        )
    ]


class Cost:
    """Processor seconds that a refused connection costs a server, round by round."""

    def __init__(self, server: Process) -> None:
        self.server, self.each, self.rate = server, list[float](), list[float]()

    def add(self, seconds: float) -> None:
        before = self.server.cpu()
        load = module("load", "refused", self.server.port, seconds)
        self.each.append((self.server.cpu() - before) / load["count"])
        self.rate.append(load["count"] / load["seconds"])


def watched(quick: bool) -> list[Row]:
    """The API in the process of the fake: nobody there, and one who reads every event."""
    linux_only()
    rounds, seconds = (3, 0.5) if quick else (9, 1.0)
    with ExitStack() as stack:
        alone, unwatched, read = (
            Cost(stack.enter_context(Server(kind, *FAKE))) for kind in ("notnow", "controlled", "read")
        )
        costs = [alone, unwatched, read]
        for cost in costs:
            module("load", "refused", cost.server.port, 0.3)
        for i in range(rounds):
            for cost in costs[i % 3 :] + costs[: i % 3]:
                cost.add(seconds)
    return [
        Row(
            f"control-{name}", f"421 at connect, the API on, {who}", statistics.median(cost.rate), "/s", "no API",
            statistics.median(alone.rate), median_ratio(alone.each, cost.each), Target("ratio", "≥", least),
            "the ratio is one of processor time a connection",
        )
        for name, who, cost, least in (
            ("unwatched", "nobody watching", unwatched, 0.95), ("read", "one reader of events", read, 0.85)
        )
    ]  # fmt: skip


LONG = {
    "journal page": "/v1/servers/mx/journal?after=50000",
    "last page": "/v1/servers/mx/journal?last=true",
    "verdict": "/v1/verdict?most=5",
    "timeline": "/v1/timeline",
    "snapshot": "/v1/servers/mx/snapshot",
}


def long(quick: bool) -> list[Row]:
    """A call beside 100,000 entries, and how long a client of the fake waits meanwhile."""
    rows = []
    with serving() as (fleet, server):
        fake = fleet.start(scenario("smtp/healthy"), name="mx", journal_limit=1_000_000).fake
        fill(fake)
        usual = statistics.median(session(fake) for _ in range(50))
        for name, path in LONG.items():
            took = [timed(lambda path=path: ask(server.port, "GET", path)) for _ in range(2 if quick else 5)]
            stalls = [
                meanwhile(fake, lambda path=path: ask(server.port, "GET", path)) for _ in range(2 if quick else 5)
            ]
            note = f"the call takes {statistics.median(took):,.0f} ms; a session usually {usual:.1f} ms"
            most, target = statistics.median(stalls), Target("figure", "≤", STALL)
            rows.append(
                Row(
                    "control-long",
                    f"longest session during a {name}, 100,000 entries",
                    most,
                    "ms",
                    target=target,
                    note=note,
                )
            )
    return rows


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


def meanwhile(fake: Fake, call: Callable[[], object]) -> float:
    """The longest session during a call, in milliseconds."""
    caller = threading.Thread(target=call)
    caller.start()
    longest = 0.0
    while caller.is_alive():
        longest = max(longest, session(fake))
    return longest


def session(fake: Fake) -> float:
    begun = time.perf_counter()
    with socket.create_connection((fake.host, fake.port)) as client:
        client.sendall(b"QUIT\r\n")
        with suppress(ConnectionResetError):
            while client.recv(999):
                pass
    return (time.perf_counter() - begun) * 1e3


def profile(into: Path) -> None:
    with serving() as (fleet, _):
        fake = fleet.start(scenario("smtp/healthy"), name="mx", journal_limit=1_000_000).fake
        fill(fake)
        profiler = cProfile.Profile()
        from notnow.control.models import VerdictQuery
        from notnow.control.verdicts import judge_clients

        profiler.runcall(judge_clients, fleet, VerdictQuery.model_validate({"most": 5}))
        profiler.dump_stats(into)


BENCHES: tuple[Bench, ...] = (
    Bench("control-post", "POST a server", post),
    Bench("control-event", "an event to its reader", event),
    Bench("control-watched", "what the API costs the fakes", watched),
    Bench("control-long", "the API beside 100,000 entries", long, profile),
)
