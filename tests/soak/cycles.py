"""Fakes that start, get a client into some state, and stop, again and again: nothing may be left, and nothing may grow.

python -m tests.soak.cycles [--count N] [--loop asyncio|uvloop] [--state NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tests.soak.memory import Memory, without_caches_of_threads
from tests.soak.soaking import the_environment
from tests.soak.watch import leftovers, nothing_swallowed

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock
from notnow.language.loading import loads
from notnow.servers.base import bridge
from notnow.servers.base.fake import Fake
from notnow.time_travel.fast_forward import FastForward

SAMPLES = 30  # looks at memory
GRACE = 0.01  # real seconds for a client that has been told goodbye and does not leave, in place of 0.2
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first bytes of one
HELD = 'summary = "A delay at the door."\nprotocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\ndelay = "1h"\n'
STALLED = 'summary = "No reply."\nprotocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "ehlo"\nstall = true\n'


@contextmanager
def client(fake: Fake) -> Iterator[socket.socket]:
    with socket.create_connection((fake.host, fake.port), 60) as sock:
        yield sock


@contextmanager
def idle() -> Iterator[None]:
    with FakeSMTP() as fake, client(fake) as sock:
        assert sock.recv(512)
        fake.stop()
        yield


@contextmanager
def in_a_handshake() -> Iterator[None]:
    with FakeHTTP() as fake, client(fake) as sock:
        sock.sendall(CLIENT_HELLO)
        fake.wait_for(lambda journal: journal.connections)
        fake.stop()
        yield


@contextmanager
def in_a_transfer() -> Iterator[None]:
    with FakeFTP(files={"big.bin": "8MB"}) as fake, client(fake) as sock, sock.makefile("rwb", 0) as lines:
        lines.readline()
        for line, code in ((b"USER a", b"331"), (b"PASS b", b"230"), (b"EPSV", b"229")):
            lines.write(line + b"\r\n")
            said = lines.readline()
            assert said.startswith(code), said
        with socket.create_connection((fake.host, int(said.split(b"|")[3])), 60) as data:
            lines.write(b"RETR big.bin\r\n")
            assert data.recv(1024)
            fake.stop()
            yield


@contextmanager
def in_a_stall() -> Iterator[None]:
    with FakeSMTP(loads(STALLED)) as fake, client(fake) as sock:
        assert sock.recv(512)
        sock.sendall(b"EHLO x\r\n")
        fake.wait_for(lambda journal: journal.count("ehlo"))
        fake.stop()
        yield


@contextmanager
def held_at_the_door() -> Iterator[None]:
    with FakeSMTP(loads(HELD), clock=ManualClock()) as fake, client(fake):
        fake.wait_for(lambda journal: journal.connections)
        fake.stop()
        yield


@contextmanager
def just_accepted() -> Iterator[None]:
    """The fake may have accepted the connection, or not: it has not been handed over."""
    with FakeSMTP() as fake, client(fake):
        fake.stop()
        yield


@contextmanager
def in_a_request() -> Iterator[None]:
    with FakeHTTP("http/stalled", tls="none") as fake, client(fake) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        fake.wait_for(lambda journal: journal.count("request"))
        fake.stop()
        yield


@contextmanager
def in_fast_forward() -> Iterator[None]:
    with FastForward() as forward, FakeSMTP("smtp/overload", outage="1h", clock=forward.clock) as fake:
        with client(fake) as sock:
            assert sock.recv(512)[:3] == b"421"
        time.sleep(3600)
        with client(fake) as sock:
            assert sock.recv(512)[:3] == b"220"
            fake.stop()
            yield


STATES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    state.__name__.replace("_", " "): state
    for state in (
        idle, in_a_handshake, in_a_transfer, in_a_stall, held_at_the_door, just_accepted, in_a_request, in_fast_forward,
    )
}  # fmt: skip


def cycles(state: str, count: int) -> tuple[Memory, list[str]]:
    """So many cycles in this state: what memory did, and what is wrong."""
    faults: list[str] = []
    memory, every = Memory(), max(1, count // SAMPLES)
    for _ in range(2):  # what a process keeps, it has then
        with STATES[state]():
            pass
    before = leftovers()
    with nothing_swallowed(faults):
        for number in range(count):
            with STATES[state]():
                pass
            if number % every == 0:
                memory.look(number)
    faults += [f"left behind: {what}" for what in leftovers() - before]
    return memory, faults + memory.faults()


def many_at_once(count: int) -> list[str]:
    """So many fakes of all protocols at once, each with a client: what is wrong in the end."""
    faults: list[str] = []
    kinds = (FakeSMTP, FakeFTP, lambda: FakeHTTP(tls="none"))
    with kinds[0]():
        pass
    before = leftovers()
    with nothing_swallowed(faults), ExitStack() as stack:
        fakes = [stack.enter_context(kinds[i % len(kinds)]()) for i in range(count)]
        socks = [stack.enter_context(client(fake)) for fake in fakes]
        for fake, sock in zip(fakes, socks, strict=True):
            if fake.protocol != "http":
                assert sock.recv(512)[:3] == b"220"
            sock.close()
        for fake in fakes:
            fake.wait_for(lambda journal: journal.connections and journal.connections[0].ended_by)
            assert len(fake.journal.connections) == 1
    return faults + [f"left behind: {what}" for what in leftovers() - before]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.cycles")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    parser.add_argument("--state", choices=STATES, help="this one alone, and no 200 fakes at once")
    given = parser.parse_args()
    without_caches_of_threads()
    bridge.GRACE, wrong = GRACE, False
    with the_environment():
        os.environ["NOTNOW_LOOP"] = given.loop
        for state in [given.state] if given.state else STATES:
            start = time.perf_counter()
            memory, faults = cycles(state, given.count)
            each = (time.perf_counter() - start) / given.count * 1e3
            print(
                f"{state:20} {given.count:6,} cycles, {each:6.1f} ms each, {memory.per('cycle')}",
                flush=True,
            )
            print(*(f"  {fault}\n" for fault in faults[:10]), sep="", end="")
            wrong = wrong or bool(faults)
        if not given.state:
            faults = many_at_once(200)
            print("200 fakes at once:", *faults or ["nothing is left"])
            wrong = wrong or bool(faults)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
