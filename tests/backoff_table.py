"""Clients whose back-off is known, and which families notnow accepts for their gaps.

`python -m tests.backoff_table` prints the table; `--runs 1000` takes that many seeds for each number of gaps. The waits come
from the libraries themselves (tenacity, stamina, backoff, urllib3), and from the published formulas of gRPC and AWS.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple
from unittest import mock

import backoff as backoff_library
import stamina
import tenacity
import urllib3

from notnow.conduct.reading.waits import backoff
from notnow.conduct.reading.waits.families import Family

Waits = Callable[[int], list[float]]  # the first so many waits of a client

GAPS = (3, 4, 6, 8, 12)
FAMILIES: tuple[Family, ...] = ("constant", "linear", "exponential")
OVERHEAD = (0.0005, 0.005)  # seconds, on top of each wait


class Client(NamedTuple):
    """A client, the family of its back-off, and its waits; `least` is from how many gaps on its growth can be seen."""

    name: str
    family: Family
    waits: Waits
    least: int = 3

    def gaps(self, count: int, seed: int) -> list[float]:
        """The gaps that a server measures."""
        random.seed(f"{self.name} {count} {seed}")
        return [wait + random.uniform(*OVERHEAD) for wait in self.waits(count)]


class Busy(Exception):
    """The server said: not now."""


def busy() -> None:
    raise Busy


# ---- libraries -----------------------------------------------------------------------------------


@contextmanager
def slept() -> Iterator[list[float]]:
    """The seconds of each call of `time.sleep`, which then does not sleep."""
    waits: list[float] = []
    with mock.patch("time.sleep", waits.append):
        yield waits


def of_tenacity(wait: tenacity.wait.wait_base) -> Waits:
    def waits(count: int) -> list[float]:
        retrying = tenacity.Retrying(wait=wait, stop=tenacity.stop_after_attempt(count + 1), reraise=True)
        with slept() as found:
            try:
                retrying(busy)
            except Busy:
                return found

    return waits


def of_stamina(**settings: float) -> Waits:
    def waits(count: int) -> list[float]:
        stamina.instrumentation.set_on_retry_hooks([])  # it would log each retry
        caller = stamina.RetryingCaller(attempts=count + 1, timeout=None, **settings)
        with slept() as found:
            try:
                caller(Busy, busy)
            except Busy:
                return found

    return waits


def of_backoff(generator: object, **settings: object) -> Waits:
    def waits(count: int) -> list[float]:
        on = backoff_library.on_exception(generator, Busy, max_tries=count + 1, logger=None, **settings)
        with slept() as found:
            try:
                on(busy)()
            except Busy:
                return found

    return waits


def of_urllib3(**settings: float) -> Waits:
    def waits(count: int) -> list[float]:
        retry, found = urllib3.Retry(total=count + 1, **settings), []
        for _ in range(count):
            retry = retry.increment("GET", "/", error=urllib3.exceptions.ProtocolError())
            found.append(retry.get_backoff_time())
        return found

    return waits


# ---- formulas ------------------------------------------------------------------------------------


def formula(wait: Callable[[int], float]) -> Waits:
    return lambda count: [wait(n) for n in range(count)]


def around(curve: Callable[[int], float], share: float) -> Waits:
    """Jitter of ±share."""
    return formula(lambda n: curve(n) * random.uniform(1 - share, 1 + share))


def from_share(curve: Callable[[int], float], share: float) -> Waits:
    """Between this share of the curve and the curve: 0.5 is equal jitter, 0 full jitter."""
    return formula(lambda n: curve(n) * random.uniform(share, 1))


def decorrelated(base: float, cap: float) -> Waits:
    """AWS Architecture Blog, Exponential Backoff And Jitter: `min(cap, random_between(base, sleep * 3))`."""

    def all_waits() -> Iterator[float]:
        wait = base
        while True:
            wait = min(cap, random.uniform(base, wait * 3))
            yield wait

    return lambda count: list(islice(all_waits(), count))


def doubles(n: int) -> float:
    return 2.0**n


def to_60(n: int) -> float:
    return min(60.0, 2.0**n)


def grpc(n: int) -> float:
    """gRPC's connection back-off: from 1 s, 1.6 times as long each time, up to 120 s."""
    return min(1.6**n, 120)


def steps(n: int) -> float:
    return 10.0 * (n + 1)


def steady(n: int) -> float:
    return 10.0


CLIENTS = (
    Client("tenacity wait_exponential", "exponential", of_tenacity(tenacity.wait_exponential())),
    Client(
        "tenacity wait_exponential(min=4, max=10)",
        "exponential",
        of_tenacity(tenacity.wait_exponential(1, 10, min=4)),
        4,
    ),
    Client(
        "tenacity wait_random_exponential(max=60)", "exponential", of_tenacity(tenacity.wait_random_exponential(1, 60))
    ),
    Client(
        "tenacity wait_random_exponential(0.5, 20)",
        "exponential",
        of_tenacity(tenacity.wait_random_exponential(0.5, 20)),
    ),
    Client("tenacity wait_exponential_jitter", "exponential", of_tenacity(tenacity.wait_exponential_jitter())),
    Client("stamina", "exponential", of_stamina()),
    Client("stamina wait_initial=1, wait_max=60", "exponential", of_stamina(wait_initial=1.0, wait_max=60.0)),
    Client("backoff expo", "exponential", of_backoff(backoff_library.expo)),
    Client("backoff expo, max_value=60", "exponential", of_backoff(backoff_library.expo, max_value=60)),
    Client("backoff expo, jitter=None", "exponential", of_backoff(backoff_library.expo, jitter=None)),
    Client(
        "backoff expo, random_jitter",
        "exponential",
        of_backoff(backoff_library.expo, jitter=backoff_library.random_jitter, max_value=60),
    ),
    Client("urllib3 backoff_factor=0.1", "exponential", of_urllib3(backoff_factor=0.1)),
    Client("urllib3 backoff_factor=1, backoff_jitter=1", "exponential", of_urllib3(backoff_factor=1, backoff_jitter=1)),
    Client("gRPC", "exponential", around(grpc, 0.2)),
    Client("AWS full jitter", "exponential", from_share(to_60, 0)),
    Client("AWS equal jitter", "exponential", from_share(to_60, 0.5)),
    Client("AWS decorrelated jitter", "exponential", decorrelated(1, 60)),
    Client("AWS decorrelated jitter, cap 1 h", "exponential", decorrelated(1, 3600)),
    Client("doubling ±10 %", "exponential", around(doubles, 0.1)),
    Client("doubling ±50 %", "exponential", around(doubles, 0.5)),
    Client("×1.5 ±50 % up to 60 s", "exponential", around(lambda n: min(60.0, 0.5 * 1.5**n), 0.5)),
    Client("tenacity wait_incrementing(10, 10)", "linear", of_tenacity(tenacity.wait_incrementing(10, 10))),
    Client("linear ±10 %", "linear", around(steps, 0.1)),
    Client("linear ±20 %", "linear", around(steps, 0.2)),
    Client("linear, equal jitter", "linear", from_share(steps, 0.5)),
    Client("linear, full jitter", "linear", from_share(steps, 0)),
    Client("linear ±10 % up to 50 s", "linear", around(lambda n: min(50, steps(n)), 0.1)),
    Client("tenacity wait_fixed(5)", "constant", of_tenacity(tenacity.wait_fixed(5))),
    Client("tenacity wait_random(1, 2)", "constant", of_tenacity(tenacity.wait_random(1, 2))),
    Client("backoff constant(10)", "constant", of_backoff(backoff_library.constant, interval=10)),
    Client("constant ±10 %", "constant", around(steady, 0.1)),
    Client("constant ±50 %", "constant", around(steady, 0.5)),
    Client("at once", "immediate", formula(lambda n: 0.0)),
)


# ---- the table -----------------------------------------------------------------------------------


def accepted(client: Client, claim: Family, count: int, runs: int) -> float:
    """The share of runs in which so many gaps of a client do not contradict this family."""
    return sum(backoff.contradiction(client.gaps(count, seed), claim) is None for seed in range(runs)) / runs


def row(client: Client, runs: int) -> str:
    own = (f"{accepted(client, client.family, n, runs):.1%}"[:-1] if n >= client.least else "-" for n in GAPS)
    others = (f"{accepted(client, family, 8, runs):.1%}"[:-1] for family in FAMILIES)
    return f"{client.name:42} {' '.join(f'{x:>5}' for x in own)} {' '.join(f'{x:>11}' for x in others)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="seeds for each number of gaps (default: 200)")
    runs = parser.parse_args().runs
    start = time.perf_counter()
    counts = " ".join(f"{count:>5}" for count in GAPS)
    print(f"Accepted in % of {runs} runs\n{'':43}{'as its own family, with gaps':^30}{'with 8 gaps, as':^36}")
    print(f"{'client':42} {counts} {' '.join(f'{family:>11}' for family in FAMILIES)}")
    for client in CLIENTS:
        print(row(client, runs), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
