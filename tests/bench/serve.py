"""The servers that the benchmark compares: one a process, its port on standard output, until standard input ends.

python -m tests.bench.serve [--profile FILE] notnow SCENARIO [KNOB=VALUE…] | aiosmtpd [tls] | bare | pyftpdlib [MOST|memory]
    | hypercorn [tls] | unrecorded SCENARIO | workers N SCENARIO [KNOB=VALUE…] | controlled SCENARIO [KNOB=VALUE…] | read SCENARIO [KNOB=VALUE…]

The loop of each is what NOTNOW_LOOP says: asyncio, or uvloop; pyftpdlib has one of its own, and lets MOST connections
of one client in. The FTP servers have the same two files, big.bin (10 MB) and small.txt. `hypercorn` is its own
`serve()` with an app of one line that answers 421; `unrecorded` is notnow without its engine and its journal, which
answers what the engine has said to the first request.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import logging
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

KINDS = ("notnow", "workers", "controlled", "read", "aiosmtpd", "bare", "pyftpdlib", "hypercorn", "unrecorded")
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
    if name.startswith("http/"):
        given = {"tls": "none", **given}  # for both sides: TLS is OpenSSL's
    with by_protocol(name.partition("/")[0])(name, **given) as fake:
        profiler = cProfile.Profile()
        if profile:
            _in_loop(fake._bridge.loop, profiler.enable)
        print(fake.port, flush=True)
        sys.stdin.read()
        if profile:
            _in_loop(fake._bridge.loop, profiler.disable)
            profiler.dump_stats(profile)
        start, spent = time.perf_counter(), time.process_time()
    print(json.dumps([time.perf_counter() - start, time.process_time() - spent]))  # seconds to stop


def _workers(arguments: list[str]) -> None:
    """The same with worker processes, or with this one process where that is 1; SCENARIO may be a file."""
    from notnow.clock import AdjustableClock, Stamps
    from notnow.language.catalogue import scenario
    from notnow.servers import by_protocol
    from notnow.servers.workers.many import many

    number, name, *knobs = arguments
    found = scenario(name, **dict(knob.split("=", 1) for knob in knobs))
    kind = by_protocol(found.protocol) if number == "1" else many(found.protocol, int(number), traced=False)
    files = {"files": {"big.bin": f"{BIG}B", "small.txt": "small"}} if found.protocol == "ftp" else {}
    with kind(found, clock=AdjustableClock(1.0, Stamps()), **files) as fake:
        print(fake.port, flush=True)
        sys.stdin.read()


def _controlled(arguments: list[str], read: bool) -> None:
    """The same beside the control API; `read`: a process reads every event."""
    from notnow.control.fleet import Fleet
    from notnow.control.server import controlled
    from notnow.language.catalogue import scenario

    name, *knobs = arguments
    with Fleet() as fleet, controlled(fleet, "127.0.0.1", 0) as server:
        fake = fleet.start(scenario(name, **dict(knob.split("=", 1) for knob in knobs))).fake
        reader = subprocess.Popen([sys.executable, "-c", READER, str(server.port)]) if read else None
        print(fake.port, flush=True)
        sys.stdin.read()
        if reader is not None:
            reader.kill()
            reader.wait()


READER = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.sendall(b"GET /v1/events HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n")
    while sock.recv(65536):
        pass
"""


def _in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    done = threading.Event()

    def call() -> None:
        function()
        done.set()

    loop.call_soon_threadsafe(call)
    done.wait()


def _asyncio(
    make: Callable[[asyncio.AbstractEventLoop], asyncio.Protocol], profile: str | None, tls: bool = False
) -> None:
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    context = _context() if tls else None
    server = loop.run_until_complete(loop.create_server(lambda: make(loop), "127.0.0.1", 0, backlog=1024, ssl=context))
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(loop.stop)), daemon=True).start()
    profiler = cProfile.Profile()
    if profile:
        profiler.runcall(loop.run_forever)
        profiler.dump_stats(profile)
    else:
        loop.run_forever()


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(_certificate(directory))
    return context


def _new_loop() -> asyncio.AbstractEventLoop:
    if os.environ.get("NOTNOW_LOOP") == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _pyftpdlib(arguments: list[str]) -> None:
    """pyftpdlib as it comes, but for its log; `memory`: with its files in memory."""
    logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    with tempfile.TemporaryDirectory(dir="/dev/shm" if "memory" in arguments else None) as directory:
        (Path(directory) / "big.bin").write_bytes(os.urandom(BIG))
        (Path(directory) / "small.txt").write_bytes(b"small")
        FTPHandler.authorizer = DummyAuthorizer()
        FTPHandler.authorizer.add_user("user", "word", directory, perm="elradfmwMT")
        server = FTPServer(("127.0.0.1", 0), FTPHandler, backlog=1024)
        server.max_cons, server.max_cons_per_ip = 0, int(arguments[0]) if arguments and arguments[0] != "memory" else 0
        print(server.address[1], flush=True)
        threading.Thread(target=server.serve_forever, kwargs={"handle_exit": False}, daemon=True).start()
        sys.stdin.read()


def _hypercorn(tls: bool = False) -> None:
    """Hypercorn's own server, with the app of one line."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 421, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def main() -> None:
        config, over = Config(), asyncio.Event()
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        config.bind, config.errorlog = [f"fd://{sock.detach()}"], None
        logging.getLogger("asyncio").disabled = True  # it tells of each TLS client that stays until the server stops
        if tls:
            config.certfile = config.keyfile = _certificate(directory)
        config.keep_alive_max_requests = 10_000_000  # it would say GOAWAY, and lose what is under way
        config.keep_alive_timeout = 3600  # idle clients are to be held, as ours are; its default is 5 seconds
        loop = asyncio.get_running_loop()
        print(_port(config.bind[0]), flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(over.set)), daemon=True).start()
        await serve(cast("Any", app), config, shutdown_trigger=over.wait)

    with tempfile.TemporaryDirectory() as directory, asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main())


def _certificate(into: str) -> str:
    """The path of a new certificate with its key."""
    import trustme

    path = Path(into) / "all.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    return str(path)


def _port(bound: str) -> int:
    with socket.socket(fileno=os.dup(int(bound.removeprefix("fd://")))) as sock:
        return int(sock.getsockname()[1])


def _unrecorded(name: str) -> None:
    """A fake without its engine and its journal: what is left is the protocol, and what the rules say.

    It does not read the clock for a request, which nobody but these two wants to know.
    """
    from notnow.engine.actions import BEHAVE, Script
    from notnow.engine.events import Asked
    from notnow.journal import Recorder
    from notnow.servers.http import FakeHTTP
    from notnow.servers.http.bridge import HTTPBridge

    ask, scripts, exchanges = Recorder.ask, dict[str, Script](), dict[str, Any]()

    def first(recorder: Recorder, connection: Any, moment: str, *rest: Any, **more: Any) -> Any:
        if moment not in exchanges:
            exchanges[moment] = ask(recorder, connection, moment, *rest, **more)
        return exchanges[moment]

    class Unasked(HTTPBridge):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.settled = lambda _conn, moment, *_: scripts.get(moment)

        def feed(self, event: Any, moment: str = "", at: float | None = None) -> Any:
            if not isinstance(event, Asked):
                return None if moment == "error" else super().feed(event, moment, at) if moment else None
            if moment not in scripts:
                scripts[moment] = super().feed(event, moment, at) or Script("", BEHAVE, moment, "")
            return scripts[moment]

    class Unrecorded(FakeHTTP):
        def _new_bridge(self, scenario: Any) -> HTTPBridge:
            return Unasked(self._options, scenario, type(self).__name__, self.name)

    Recorder.ask = first  # type: ignore[method-assign]
    Recorder.served = lambda *_: exchanges["request"]  # type: ignore[method-assign]
    for writes in ("answer", "decided", "facts", "more", "response", "tell"):
        setattr(Recorder, writes, lambda *_, **__: None)
    with Unrecorded(name, tls="none") as fake:
        fake.clock.read = lambda: (0, 0.0, 0.0)  # type: ignore[method-assign]
        print(fake.port, flush=True)
        sys.stdin.read()


def _stock(loop: asyncio.AbstractEventLoop) -> asyncio.Protocol:
    """aiosmtpd as it comes. Its host name is given: otherwise it would ask the resolver for each connection."""
    from aiosmtpd.handlers import Sink
    from aiosmtpd.smtp import SMTP

    return SMTP(Sink(), hostname="stock.test", loop=loop)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serve")
    parser.add_argument("--profile", metavar="FILE")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    if given.kind == "notnow":
        _notnow(given.rest, given.profile)
    elif given.kind == "workers":
        _workers(given.rest)
    elif given.kind in ("controlled", "read"):
        _controlled(given.rest, read=given.kind == "read")
    elif given.kind == "pyftpdlib":
        _pyftpdlib(given.rest)
    elif given.kind == "hypercorn":
        _hypercorn(tls="tls" in given.rest)
    elif given.kind == "unrecorded":
        _unrecorded(*given.rest)
    else:
        _asyncio(_stock if given.kind == "aiosmtpd" else lambda loop: Refuse(), given.profile, "tls" in given.rest)


if __name__ == "__main__":
    main()
