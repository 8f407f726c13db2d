"""Rounds of load, and what happens to the fakes meanwhile."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.soak import clients
from tests.soak.clients import Job, Ports, Seen
from tests.soak.ledger import Ledger
from tests.soak.memory import FEWEST, Memory
from tests.soak.watch import leftovers, nothing_swallowed
from tests.soak.wire import Relay, Wire

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock
from notnow.servers.base.fake import Fake

QUIET = 120.0  # real seconds for the last connections of a round to end; only a bug takes longer
PAUSE = 0.004  # real seconds between two things that happen to the fakes
# Scenarios whose faults end in a reply or a close that a client can read: a reset may destroy a reply that was sent.
WEATHER: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "smtp": [
        ("healthy", {}), ("overload", {"outage": "20s"}), ("greylisting", {}), ("too-many-connections", {"cap": 2}),
        ("accepted-then-421", {}), ("kept-then-421", {}), ("at-stage", {"stage": "rcpt"}), ("at-stage", {"stage": "message"}),
        ("messages-per-connection", {}), ("flapping-overload", {}), ("idle-timeout", {}), ("shutdown", {}),
    ],
    "ftp": [
        ("healthy", {}), ("overload", {"outage": "20s"}), ("too-many-users", {"cap": 2}), ("kicked", {}),
        ("killed-mid-upload", {}), ("killed-mid-download", {}), ("accepted-then-421", {}), ("kept-then-421", {}),
        ("too-many-transfers", {}), ("at-stage", {"stage": "retr"}), ("idle-timeout", {}), ("storage-full", {}),
    ],
    "http": [
        ("healthy", {}), ("overload", {"outage": "20s"}), ("misdirected-times", {}), ("goaway-graceful", {}),
        ("goaway-two-steps", {}), ("rate-limited", {}), ("connection-cap", {}), ("early-421", {}),
        ("alt-svc", {}), ("api-rate-limited", {}),
    ],
}  # fmt: skip


@dataclass
class Soak:
    """What has been done and found so far."""

    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    memory: Memory = field(default_factory=Memory)
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)  # what was left, or swallowed
    lost: int = 0


def soak(loop: str, seconds: float, seed: int, rounds: int | None = None) -> Soak:
    """Load the fakes on this event loop, in so many rounds, or else for so many real seconds and until memory can be judged."""
    found = Soak(seed)
    os.environ["NOTNOW_LOOP"] = loop
    with FakeHTTP() as first:  # a process keeps its CA, and what its first loop opens
        assert first.ca_file
    before = leftovers()
    with nothing_swallowed(found.faults), ExitStack() as stack:
        relay = stack.enter_context(Relay())
        clock = ManualClock()
        fakes = [
            stack.enter_context(kind(clock=clock, seed=seed, journal_limit=1_000_000, **given))
            for kind, given in ((FakeSMTP, {}), (FakeFTP, {}), (FakeHTTP, {"tls": "implicit"}))
        ]
        wires = [relay.before(fake.port, readable=fake.protocol != "http") for fake in fakes]
        end = time.monotonic() + seconds
        for number in itertools.count():
            if number == rounds or (rounds is None and number >= FEWEST and time.monotonic() >= end):
                break
            _round(found, random.Random(f"{seed}-{loop}-{number}"), number, fakes, wires)
            for wire in wires:
                relay.forget(wire)
            found.memory.look(found.done["connections"])
    gc.collect()
    found.faults += [f"left behind: {what}" for what in leftovers() - before]
    return found


def _round(found: Soak, chance: random.Random, number: int, fakes: list[Any], wires: list[Wire]) -> None:
    smtp, ftp, http = fakes
    for fake in fakes:
        _play(fake, WEATHER[fake.protocol][number % len(WEATHER[fake.protocol])])
    seen = Seen()
    ports = Ports(*(wire.port for wire in wires), ca_file=http.ca_file)
    threads = [
        threading.Thread(target=job, name=f"client {i}") for i, job in enumerate(_jobs(number, chance, ports, seen))
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        _happen(chance, chance.choice(fakes), found.done)
        time.sleep(PAUSE)
    for thread in threads:
        thread.join()
    _until(lambda: not any(wire.live for wire in wires) and not any(_busy(fake) for fake in fakes))
    for fake in fakes:
        fake.settle()
    found.ledger.add(smtp, ftp, http, wires, seen)
    found.lost += seen.lost
    found.done.update(rounds=1, connections=sum(len(wire.passed) for wire in wires))
    for fake in fakes:
        _play(fake, ("healthy", {}))  # memory is looked at with the same scenarios in play
        fake.reset()


def _jobs(number: int, chance: random.Random, ports: Ports, seen: Seen) -> Iterator[Job]:
    """The clients of a round: each has names and a size of its own."""
    kinds = [clients.by_smtplib, clients.by_aiosmtplib, clients.by_ftplib]
    kinds += [partial(clients.by_httpx, http2=True), partial(clients.by_httpx, http2=False)]
    for i in range(10):
        names = [f"{number}-{i}-{j}" for j in range(chance.randint(2, 6))]
        yield partial(kinds[i % len(kinds)], ports, seen, names, chance.choice((10, 1000, 100_000)))
    yield partial(clients.by_curl, ports, seen, [f"{number}-curl"], 5000)


def _happen(chance: random.Random, fake: Fake, done: Counter[str]) -> None:
    """One thing happens to a fake: nearly always its clock goes on, so that no client waits for ever."""
    what = chance.choices(("advance", "swap", "phase", "kick"), (20, 6, 2, 2))[0]
    done[what] += 1
    if what == "swap":
        _play(fake, chance.choice(WEATHER[fake.protocol]))
    elif what == "phase":
        fake.next_phase()
    elif what == "kick":
        fake.kick()
    else:
        fake.clock.advance(chance.choice((0.5, 5, 60)))


def _play(fake: Fake, weather: tuple[str, dict[str, Any]]) -> None:
    name, knobs = weather
    fake.play(f"{fake.protocol}/{name}", **knobs)


def _busy(fake: Any) -> bool:
    bridge = fake._bridge
    return bool(bridge.sessions or len(bridge.lingering) or bridge.tasks)


def _until(done: Callable[[], bool]) -> None:
    """Wait until this holds. Raises TimeoutError if it does not."""
    end = time.monotonic() + QUIET
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("connections did not end, although their clients have")
        time.sleep(0.005)


@contextlib.contextmanager
def the_environment() -> Iterator[None]:
    """Keep the choice of a loop to the soak."""
    before = os.environ.get("NOTNOW_LOOP")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("NOTNOW_LOOP", None)
        else:
            os.environ["NOTNOW_LOOP"] = before
