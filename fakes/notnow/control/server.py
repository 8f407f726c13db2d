"""Run the control API on hypercorn, in a thread and an event loop of its own, so that the fakes never wait for it.

Private seams of hypercorn: `TCPServer`, its methods `_close`, `_idle_timeout`, `_read_data` and `protocol_send`, its attributes `idle_task`,
`protocol`, `writer` and `_task_group`, and `WorkerContext`. Its `serve` would do
but for two things: it takes as many connections as come, and waits for the end of one whose client reads nothing. asyncio's server
accepts in tasks: one that is cancelled as it begins leaves its socket open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol

from notnow import true_time
from notnow.control.app import application
from notnow.control.fleet import Fleet
from notnow.hosts import bracketed, is_loopback
from notnow.servers.base import listener
from notnow.servers.base.transport import Plain

if TYPE_CHECKING:
    from hypercorn.events import Event

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOG = logging.getLogger("notnow.control")  # unless it is configured, errors go to standard error
PACE = 0.25  # real seconds between two looks for a ttl that is over
GOODBYE = 0.2  # real seconds that calls under way have when it stops
CONNECTIONS = 400  # at a time; most file descriptors are for the fakes
IDLE = 15.0  # real seconds that a connection has for the head of its first request, and between two
CLOSING = 1.0  # real seconds that a client has for the rest of its answer when its connection is closed


class ControlServer:
    """Where the control API listens. `token` is None on loopback, where none is needed; without one elsewhere it is random."""

    def __init__(self, fleet: Fleet, host: str, port: int, token: str | None = None) -> None:
        self.fleet, self.host = fleet, host
        self.token = None if is_loopback(host) else token or secrets.token_urlsafe(24)
        self._socket = listener.bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = _Thread(target=self._main, name="notnow control", daemon=True)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{bracketed(self.host)}:{self.port}"

    def start(self) -> None:
        """Answer. Calls that come before are queued by the system."""
        self._thread.start()

    def stop(self) -> None:
        """End every call and stream, and close."""
        if not self._thread.is_alive():
            self._socket.close()
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_report)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _serve(self) -> None:
        app, config, context = (
            ASGIWrapper(application(self.fleet, self.token, self._stop)),
            _config(),
            WorkerContext(None),
        )
        connections: set[asyncio.Task[Any]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            task.add_done_callback(connections.discard)
            await _Connection(app, self._loop, config, context, {}, reader, writer)

        lines: set[_Line] = set()

        def accepted(sock: socket.socket, _: tuple[str, int]) -> None:
            if len(lines) >= CONNECTIONS:
                sock.close()
            else:
                Plain(self._loop, sock, _Line(serve, lines, self._loop)).begin()

        listening = listener.Listener(self._loop, self._socket, accepted)
        expiring = self._loop.create_task(self._expire())
        await self._stop.wait()
        await context.terminated.set()
        listening.close()
        if connections:
            await asyncio.wait(connections, timeout=GOODBYE)
        expiring.cancel()
        await _end_all(lines)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(PACE)
            try:
                await self._loop.run_in_executor(None, self.fleet.expire, true_time.monotonic())
            except Exception:
                LOG.exception("a server whose time was over did not stop as it should")


class _Line(asyncio.StreamReaderProtocol):
    """A client's connection; `lines` has those that are open, from the moment when they are accepted."""

    transport: asyncio.WriteTransport

    def __init__(self, serve: Serve, lines: set[_Line], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(asyncio.StreamReader(loop=loop), serve, loop=loop)
        self._lines = lines
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport), "TCP goes both ways"
        self.transport = transport
        self._lines.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.discard(self)
        self.closed.set()
        super().connection_lost(exc)


async def _end_all(lines: set[_Line]) -> None:
    """Cancel what the loop still does, with what that begins to do in turn, and close what is open."""
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for line in list(lines):
        line.transport.abort()
        await line.closed.wait()


def _config() -> Config:
    config = Config()
    config.accesslog, config.errorlog, config.loglevel = None, LOG, "ERROR"
    config.keep_alive_timeout = IDLE
    config.include_server_header = False
    return config


class _Connection(TCPServer):
    _speaks_http2 = False

    async def protocol_send(self, event: Event) -> None:
        """After the preface of HTTP/2 the client has to ask for something, as after the start of a connection."""
        await super().protocol_send(event)
        if not self._speaks_http2 and isinstance(self.protocol.protocol, H2Protocol):
            self._speaks_http2 = True
            await self.idle_task.restart(self._task_group, self._idle_timeout)

    async def _read_data(self) -> None:
        """After the client's end nothing is waited for: hypercorn would hold the connection for as long as an idle one."""
        await super()._read_data()
        await self.idle_task.stop()

    async def _close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await super()._close()
        self.writer.transport.abort()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an error, but not the end of a connection that hypercorn has cancelled: Python 3.11 takes it for one."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


class _Thread(threading.Thread):
    """A thread in real time: `notnow.time_travel.fast_forward` leaves it alone."""

    real_time = True


@contextlib.contextmanager
def controlled(fleet: Fleet, host: str, port: int, token: str | None = None) -> Iterator[ControlServer]:
    """The control API of these servers, for the length of a `with` block. Raises StartError if the port is taken."""
    server = ControlServer(fleet, host, port, token)
    try:
        server.start()
        yield server
    finally:
        server.stop()
