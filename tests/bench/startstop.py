"""Start, ready, stop of one fake.

`python -m tests.bench.startstop COUNT [--ftp | --http] [--warm] [--profile FILE]` prints the times of one process as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.processes import module
from tests.bench.table import Bench, Row, Target, median_ratio

TARGET = Target("figure", "≤", 2.0)
TARGET_HTTP = Target("figure", "≤", 3.0)


def smtp() -> None:
    from notnow import FakeSMTP

    with FakeSMTP():
        pass


def ftp() -> None:
    from notnow import FakeFTP

    with FakeFTP():
        pass


def http() -> None:
    """With the TLS context that it shows first: that and its certificate are made once, and kept."""
    from notnow import FakeHTTP

    with FakeHTTP() as fake:
        fake._bridge.tls_context()


def bare() -> None:
    """The least that it takes: a thread, a loop, a listening socket, and the end of them."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        ready.set()
        await asyncio.Event().wait()
        server.close()

    def main() -> None:
        task = loop.create_task(serve())
        loop.call_soon(tasks.append, task)
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    tasks: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=main)
    thread.start()
    ready.wait()
    loop.call_soon_threadsafe(tasks[0].cancel)
    thread.join()


def _milliseconds(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1e3


def times(count: int, ours: Callable[[], None]) -> dict[str, list[float]]:
    first = _milliseconds(ours)
    for _ in range(5):
        ours()
        bare()
    seen: dict[str, list[float]] = {"first": [first], "ours": [], "processor": [], "bare": []}
    for _ in range(count):
        spent = time.process_time()
        seen["ours"].append(_milliseconds(ours))
        seen["processor"].append((time.process_time() - spent) * 1e3)
        seen["bare"].append(_milliseconds(bare))
    return seen


KINDS = {
    "start": ("start, ready, stop of the only fake", ()),
    "start-warm": ("start, ready, stop, beside another fake", ("--warm",)),
    "ftp-start": ("FTP: start, ready, stop of the only fake", ("--ftp",)),
    "http-start": ("HTTP: start, ready, stop of the only fake", ("--http",)),
}


def run(name: str, quick: bool) -> list[Row]:
    what, options = KINDS[name]
    seen = module("startstop", 50 if quick else 200, *options)
    note = f"processor time {statistics.median(seen['processor']):.2f} ms; the very first, with imports and the scenario to load: {seen['first'][0]:.0f} ms"
    return [
        Row(
            name, what, statistics.median(seen["ours"]), "ms", "thread+loop+socket", statistics.median(seen["bare"]),
            median_ratio(seen["ours"], seen["bare"]), TARGET_HTTP if "--http" in options else TARGET, note,
        )
    ]  # fmt: skip


def profile(name: str, into: Path) -> None:
    module("startstop", 200, "--profile", into, *KINDS[name][1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.startstop")
    parser.add_argument("count", type=int)
    parser.add_argument("--ftp", action="store_true", help="a FakeFTP, in place of a FakeSMTP")
    parser.add_argument("--http", action="store_true", help="a FakeHTTP, with its TLS context")
    parser.add_argument("--warm", action="store_true", help="with another fake alive, so that the thread is there")
    parser.add_argument("--profile", metavar="FILE")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if given.warm:
            from notnow import FakeSMTP

            stack.enter_context(FakeSMTP())
        ours = ftp if given.ftp else http if given.http else smtp
        if given.profile:
            _profile(given.count, given.profile, ours)
        print(json.dumps(times(given.count, ours)))


def _profile(count: int, into: str, ours: Callable[[], None]) -> None:
    """Profile the thread that starts and stops the fakes, and the fakes' own thread."""
    profilers = [cProfile.Profile()]

    def in_thread(*_: object) -> None:
        profilers.append(cProfile.Profile())
        profilers[-1].enable()

    ours()
    threading.setprofile(in_thread)
    profilers[0].enable()
    for _ in range(count):
        ours()
    profilers[0].disable()
    threading.setprofile(None)
    stats = __import__("pstats").Stats(*profilers)
    stats.dump_stats(into)


def _bench(name: str) -> Bench:
    return Bench(name, KINDS[name][0], lambda quick: run(name, quick), lambda into: profile(name, into))


BENCHES = tuple(map(_bench, KINDS))


if __name__ == "__main__":
    main()
