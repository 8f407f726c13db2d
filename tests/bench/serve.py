"""The servers that the benchmark compares: one a process, its port on standard output, until standard input ends.

python -m tests.bench.serve [--profile FILE] notnow SCENARIO [KNOB=VALUE…] | aiosmtpd | bare | pyftpdlib [MOST]

The loop of each is what NOTNOW_LOOP says: asyncio, or uvloop; pyftpdlib has one of its own, and lets MOST connections
of one client in. The FTP servers have the same two files, big.bin (10 MB) and small.txt.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

BIG = 10_000_000  # bytes of the file that is downloaded
REFUSAL = b"421 4.3.2 All server ports are busy\r\n"


class Refuse(asyncio.Protocol):
    """The least that asyncio can do: say 421 and close."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        into = cast("asyncio.Transport", transport)  # uvloop has classes of its own
        into.write(REFUSAL)
        into.close()


def _notnow(arguments: list[str], profile: str | None) -> None:
    from notnow.servers import by_protocol

    name, *knobs = arguments
    given: dict[str, Any] = dict(knob.split("=", 1) for knob in knobs)
    if name.startswith("ftp/"):
        given["files"] = {"big.bin": f"{BIG}B", "small.txt": "small"}
    with by_protocol(name.partition("/")[0])(name, **given) as fake:
        profiler = cProfile.Profile()
        if profile:
            _in_loop(fake.loop, profiler.enable)
        print(fake.port, flush=True)
        sys.stdin.read()
        if profile:
            _in_loop(fake.loop, profiler.disable)
            profiler.dump_stats(profile)


def _in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    done = threading.Event()

    def call() -> None:
        function()
        done.set()

    loop.call_soon_threadsafe(call)
    done.wait()


def _asyncio(make: Callable[[asyncio.AbstractEventLoop], asyncio.Protocol], profile: str | None) -> None:
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    server = loop.run_until_complete(loop.create_server(lambda: make(loop), "127.0.0.1", 0, backlog=1024))
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(loop.stop)), daemon=True).start()
    profiler = cProfile.Profile()
    if profile:
        profiler.runcall(loop.run_forever)
        profiler.dump_stats(profile)
    else:
        loop.run_forever()


def _new_loop() -> asyncio.AbstractEventLoop:
    if os.environ.get("NOTNOW_LOOP") == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _pyftpdlib(arguments: list[str]) -> None:
    """pyftpdlib as it comes, but for its log."""
    logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "big.bin").write_bytes(os.urandom(BIG))
        (Path(directory) / "small.txt").write_bytes(b"small")
        FTPHandler.authorizer = DummyAuthorizer()
        FTPHandler.authorizer.add_user("user", "word", directory, perm="elradfmwMT")
        server = FTPServer(("127.0.0.1", 0), FTPHandler, backlog=1024)
        server.max_cons, server.max_cons_per_ip = 0, int(arguments[0]) if arguments else 0
        print(server.address[1], flush=True)
        threading.Thread(target=server.serve_forever, kwargs={"handle_exit": False}, daemon=True).start()
        sys.stdin.read()


def _stock(loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
    """aiosmtpd as it comes. Its host name is given: otherwise it would ask the resolver for each connection."""
    from aiosmtpd.handlers import Sink
    from aiosmtpd.smtp import SMTP

    return SMTP(Sink(), hostname="stock.test", loop=loop)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serve")
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("kind", choices=("notnow", "aiosmtpd", "bare", "pyftpdlib"))
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    if given.kind == "notnow":
        _notnow(given.rest, given.profile)
    elif given.kind == "pyftpdlib":
        _pyftpdlib(given.rest)
    else:
        _asyncio(_stock if given.kind == "aiosmtpd" else lambda loop: Refuse(), given.profile)


if __name__ == "__main__":
    main()
