"""Run the control API on hypercorn, in a thread and an event loop of its own, so that the fakes never wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Iterator
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from notnow import true_time
from notnow.control.app import application
from notnow.control.fleet import Fleet
from notnow.hosts import bracketed, is_loopback
from notnow.servers.base import listener

PACE = 0.25  # real seconds between two looks for a ttl that is over
GOODBYE = 0.2  # real seconds that calls under way have when it stops


class ControlServer:
    """Where the control API listens. `token` is None on loopback, where none is needed."""

    def __init__(self, fleet: Fleet, host: str, port: int) -> None:
        self.fleet, self.host = fleet, host
        self.token = None if is_loopback(host) else secrets.token_urlsafe(24)
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
        config = Config()
        config.bind = [f"fd://{self._socket.detach()}"]
        config.graceful_timeout = GOODBYE
        config.accesslog, config.errorlog, config.loglevel = None, "-", "ERROR"
        config.keep_alive_timeout = 60
        config.server_names = []
        config.include_server_header = False
        expiring = self._loop.create_task(self._expire())
        try:
            await serve(application(self.fleet, self.token), config, shutdown_trigger=self._stop.wait)
        finally:
            expiring.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await expiring

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(PACE)
            await self._loop.run_in_executor(None, self.fleet.expire, true_time.monotonic())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an error, but not the end of a connection that hypercorn has cancelled: Python 3.11 takes it for one."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


class _Thread(threading.Thread):
    """A thread in real time: `notnow.time_travel.fast_forward` leaves it alone."""

    real_time = True


@contextlib.contextmanager
def controlled(fleet: Fleet, host: str, port: int) -> Iterator[ControlServer]:
    """The control API of these servers, for the length of a `with` block. Raises StartError if the port is taken."""
    server = ControlServer(fleet, host, port)
    try:
        server.start()
        yield server
    finally:
        server.stop()
