"""A decision of replicas that count together in Redis: what it costs, beside the cheapest script of redis-py.

`python -m tests.bench.shared CASE EVENTS` prints the µs of one event, and those of `EVALSHA` of `return 1`; then the µs that Redis
itself needs for a script of each, which bound how many events all replicas together can have in a second. As JSON.
"""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import redis
from tests.bench.processes import module
from tests.bench.table import Bench, Row, Skip, Target

from notnow.engine.engine import Engine
from notnow.engine.events import Asked, Closed, Opened
from notnow.language.loading import loads
from notnow.shared.address import address
from notnow.shared.clock import SharedClock
from notnow.shared.replica import Replica
from notnow.shared.store import RedisStore

RULE = 'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "{on}"\nreply = "450 4.7.1 later"\n{when}\n'
CASES = {
    "cap": (
        "a cap at connect: a decision, and the release of the slot",
        RULE.format(on="connect", when="over = 1000000"),
    ),
    "count": ("a rule that counts RCPT", RULE.format(on="rcpt", when="nth = 1000000000")),
    "quota": ("a quota for each sender", RULE.format(on="rcpt", when='over = 100000\nwithin = "1h"\nper = "sender"')),
}
FACTS = {"command": "RCPT", "sender": "sender@client.test", "recipient": "recipient@server.test"}
TARGET = Target("ratio", "≤", 4.0)


@contextmanager
def server() -> Iterator[str]:
    """A Redis of its own; its URL."""
    if shutil.which("redis-server") is None:
        raise Skip("redis-server is not installed: apt-get install redis-server")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            next(line for line in process.stdout if "eady to accept connections" in line)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()
            process.communicate()


def feed(case: str, count: int) -> tuple[float, float, float, float]:
    """The µs of an event, and of the cheapest script, then those in Redis, each in the quickest of 20 stretches."""
    scenario = loads(CASES[case][1])
    with server() as url, closing(redis.Redis.from_url(url)) as plain:
        replica = Replica(address(f"{url}?lease=1h"), "smtp", SharedClock(), scenario)
        replica.join()
        engine = Engine(scenario, store=lambda: RedisStore(replica))
        one = plain.register_script("return 1")
        _event(engine, case, 0)
        ours, theirs = zip(
            *(
                (
                    _each(plain, count // 20, lambda n: _event(engine, case, n + 1)),
                    _each(plain, count // 20, lambda _: one()),
                )
                for _ in range(20)
            ),
            strict=True,
        )
        replica.leave()
    (event, script), (cheapest, least) = (map(min, zip(*took, strict=True)) for took in (ours, theirs))
    return event, cheapest, script, least


def _event(engine: Engine, case: str, n: int) -> None:
    if case == "cap":
        engine.feed(Opened(f"c{n}", "127.0.0.1"), 1.0)
        engine.feed(Closed(f"c{n}"), 1.0)
    else:
        if not n:
            engine.feed(Opened("c", "127.0.0.1"), 1.0)
        engine.feed(Asked("c", "rcpt", FACTS), 1.0)


def _each(plain: redis.Redis, count: int, work: Callable[[int], object]) -> tuple[float, float]:
    """The µs of one piece of work, and those of a script in Redis."""
    plain.config_resetstat()
    begun = time.perf_counter()
    for n in range(count):
        work(n)
    took = (time.perf_counter() - begun) / count * 1e6
    return took, plain.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]


def run(case: str, quick: bool) -> list[Row]:
    took = [module("shared", case, 2_000 if quick else 20_000) for _ in range(3)]
    ours, theirs, script, least = (statistics.median(column) for column in zip(*took, strict=True))
    what = f"engine.feed with counts in Redis, {CASES[case][0]}"
    ratio = statistics.median(one / other for one, other, *_ in took)
    return [
        Row(f"shared-{case}", what, ours, "µs", "return 1", theirs, ratio, None if case == "cap" else TARGET),
        Row(
            f"shared-{case}-script",
            "the same, a script in Redis itself",
            script,
            "µs",
            "return 1",
            least,
            script / least,
            None,
        ),
    ]


def _bench(case: str) -> Bench:
    return Bench(f"shared-{case}", f"counts in Redis, {CASES[case][0]}", lambda quick: run(case, quick))


BENCHES = tuple(_bench(case) for case in CASES)


if __name__ == "__main__":
    print(json.dumps(feed(sys.argv[1], int(sys.argv[2]))))
