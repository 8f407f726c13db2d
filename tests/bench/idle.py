"""Ten thousand idle connections, held after their greeting: the memory of each, the delay of one more, and the stop.

Held once: memory and a median of many delays are the same each time. Beside them stock aiosmtpd, pyftpdlib and hypercorn, on the same loop, with as many. pyftpdlib's TLS needs PyOpenSSL, so the
figure of FTP in TLS stands alone.
"""

from __future__ import annotations

import json
import resource
from dataclasses import dataclass

from tests.bench.processes import Server, linux_only, running
from tests.bench.table import Bench, Row, Skip, Target

COUNT, ROUGHLY = 10_000, 2000
SPARE = 500  # files besides the connections
# Of glibc, for all servers alike. As soon as a server has freed one of uvloop's TLS buffers (256 KiB, of which a page is in
# use), glibc would put them between small things on the heap, and no longer in pages of their own: 75 KiB a connection in
# place of 50. Ours frees the first one when a connection ends; in hypercorn they wait for the garbage collector.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class Held:
    """What it takes to hold the connections."""

    memory: float  # KiB a connection
    delay: float  # milliseconds until one more client is greeted
    stop: tuple[float, float] = (0.0, 0.0)  # seconds, by the wall clock and of the processor, of a fake


@dataclass(frozen=True)
class Kind:
    """A protocol: the arguments of our server, those of the base library's if there is one, and how clients begin."""

    what: str
    ours: tuple[str, ...]
    stock: tuple[str, ...] | None
    how: tuple[str, ...] = ()
    loop: str = "asyncio"


KINDS = {
    "idle": Kind("SMTP", ("smtp/healthy",), ("aiosmtpd",)),
    "idle-tls": Kind("SMTP in TLS", ("smtp/healthy", "tls=implicit"), ("aiosmtpd", "tls"), ("tls",)),
    "ftp-idle": Kind("FTP", ("ftp/healthy",), ("pyftpdlib",)),
    "ftp-idle-tls": Kind("FTP in TLS", ("ftp/healthy", "tls=implicit"), None, ("tls",)),
    "http-idle": Kind("HTTP/2 in TLS", ("http/healthy", "tls=implicit"), ("hypercorn", "tls"), ("h2",)),
    "http-idle-uvloop": Kind(
        "HTTP/2 in TLS, uvloop", ("http/healthy", "tls=implicit"), ("hypercorn", "tls"), ("h2",), "uvloop"
    ),
}


def hold(kind: Kind, count: int, *arguments: str) -> Held:
    """Hold so many connections at this server."""
    with Server(*arguments, loop=kind.loop, **MALLOC) as server:
        with running("load", "idle", server.port, 20, *kind.how):
            pass  # what the first connections import and allocate once
        before = server.resident()
        with running("load", "idle", server.port, count, *kind.how) as clients:
            assert clients.stdout is not None
            held, delay = json.loads(clients.stdout.readline() or "[0, 0]")
            if held != count:
                raise RuntimeError("the clients have failed; what they said stands above")
            memory = (server.resident() - before) / count
            return Held(memory, delay, server.ended()) if arguments[0] == "notnow" else Held(memory, delay)


def run(name: str, quick: bool) -> list[Row]:
    linux_only()
    count = ROUGHLY if quick else COUNT
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + SPARE:
        raise Skip(f"needs {count + SPARE} open files, allowed are {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + SPARE), hard))
    kind = KINDS[name]
    ours = hold(kind, count, "notnow", *kind.ours)
    stock = hold(kind, count, *kind.stock) if kind.stock else None
    return [_memory(name, kind, count, ours, stock), *_times(name, kind, ours, stock)]


def _memory(name: str, kind: Kind, count: int, ours: Held, stock: Held | None) -> Row:
    what = f"{kind.what}: an idle connection ({count:,} held)"
    if kind.stock is None or stock is None:
        return Row(name, what, ours.memory, "KiB")
    ratio = ours.memory / stock.memory
    return Row(name, what, ours.memory, "KiB", kind.stock[0], stock.memory, ratio, Target("ratio", "≤", 1.0))


def _times(name: str, kind: Kind, ours: Held, stock: Held | None) -> list[Row]:
    wall, spent = ours.stop
    note = f"{spent:.2f} s of the processor: on a busy machine the rest is waiting for one"
    reference, beside = (kind.stock[0], stock.delay) if kind.stock and stock else ("", None)
    return [
        Row(name, f"{kind.what}: one more is greeted, beside them", ours.delay, "ms", reference, beside),
        Row(name, f"{kind.what}: the fake stops", wall, "s", target=Target("figure", "≤", 2.0), note=note),
    ]


def _bench(name: str) -> Bench:
    return Bench(name, f"{COUNT:,} idle connections: {KINDS[name].what}", lambda quick: run(name, quick))


BENCHES = tuple(map(_bench, KINDS))
