"""The bridge of an HTTP fake: its sessions, the user's app with its lifespan, and its silent UDP port."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, ClassVar

from notnow.bounds import STREAMS
from notnow.engine.actions import Script
from notnow.errors import StartError
from notnow.journal import Connection, Exchange
from notnow.language.scenario import Scenario
from notnow.servers.base import guests
from notnow.servers.base.bridge import GRACE, Bridge
from notnow.servers.base.options import Options
from notnow.servers.http.echo import echo
from notnow.servers.http.hypercorn_parts import lifespan
from notnow.servers.http.quic import Silent, UDPTakenError, place
from notnow.servers.http.session import HTTPSession
from notnow.servers.http.upstream import Upstream

if TYPE_CHECKING:
    from hypercorn.asyncio.lifespan import Lifespan

PORTS = 5  # the number of ports to try if the user names none
STARTUP = 70.0  # real seconds that an app may take to start; hypercorn allows 60


class HTTPBridge(Bridge):
    """An `AppHost`."""

    alpn: ClassVar[tuple[str, ...]] = ("h2", "http/1.1")

    def __init__(self, options: Options, scenario: Scenario, label: str, name: str) -> None:
        super().__init__(options, scenario, label, name)
        upstream = Upstream(options.upstream) if options.upstream is not None else None
        self.app: Any = options.app or upstream or echo
        self.state: dict[str, Any] = {}  # of the app's lifespan
        self._lifespan: Lifespan | None = None
        self._living_app: asyncio.Task[None] | None = None
        self._place: tuple[int, bool, tuple[str, int]] | None = None  # of its TCP socket, while it listens
        self._quic: Silent | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def max_streams(self) -> int:
        return self.scenario.server.max_streams or STREAMS

    @property
    def scheme(self) -> str:
        return "http" if self.tls == "none" else "https"

    def start(self) -> None:
        """Listen. Raises StartError if the address is taken, for UDP too."""
        for left in range(PORTS, 0, -1):
            try:
                super().start()
                return
            except UDPTakenError:  # although its port is free for TCP
                self.port = self.options.port
                if self.port or left == 1:
                    raise

    def admit(self, record: Connection, exchange: Exchange, script: Script) -> HTTPSession:
        return HTTPSession.adopt(self, record, exchange, script)

    @property
    def prompt(self) -> bool:
        waits = self.options.app is not None or self.scenario.server.h3 == "silent"  # for its lifespan; for a UDP port
        return super().prompt and not waits

    def prepare(self) -> None:
        if self.options.app is not None:
            self.runner.hosts.append(self.guest_failed)
            self.runner.run(self._begin_app(), patience=STARTUP)

    def listen(self, sock: socket.socket) -> None:
        self._place = place(sock)
        self.apply_server_table()
        super().listen(sock)

    def apply_server_table(self) -> None:
        """Open the silent UDP port, or close it, as the scenario says."""
        wanted, beside = self.scenario.server.h3 == "silent", self._place
        if beside is None or wanted == (self._quic is not None):
            return
        if self._quic is None:
            self._quic = self.runner.call(lambda: Silent(self.loop, beside, self.recorder))
        else:
            self._quic.close()
            self._quic = None

    async def _begin_app(self) -> None:
        """The app's lifespan, in the fake's loop. Raises StartError if the app refuses to start."""
        self.state = {}
        life = self._lifespan = lifespan(self._live, self.loop, self.state)
        task = self._living_app = self.loop.create_task(life.handle_lifespan())
        try:
            await life.wait_for_startup()
            await asyncio.sleep(0)
            if task.done():
                task.result()
            if self.guest_errors:
                raise guests.verdict(self.guest_errors.pop(), self.name)
        except BaseException as error:
            task.cancel()
            self._lifespan = None
            if not isinstance(error, Exception):
                raise
            raise StartError(f"the app has failed to start: {error}") from error

    async def _live(self, *asgi: Any) -> None:
        """Call the app for its lifespan. Errors that would end the loop, or be lost, are kept for the caller of `start`."""
        guests.blame.set(self.guest_failed)
        try:
            await self.app(*asgi)
        except BaseException as error:
            if guests.is_ours(error) or not any(guests.strays(error)):
                raise
            self.guest_failed(error)

    def release(self) -> None:
        if self.running and self.guest_failed in self.runner.hosts:
            self.runner.hosts.remove(self.guest_failed)
        self._place = None
        super().release()

    async def shut(self) -> None:
        if self._quic is not None:
            self._quic.close()
            self._quic = None
        await super().shut()
        life, self._lifespan = self._lifespan, None
        if life is not None and self._living_app is not None:
            try:
                await life.wait_for_shutdown()
                await asyncio.wait([self._living_app], timeout=GRACE)
                if self._living_app.done():
                    self._living_app.result()
            except Exception as error:
                self.failed(error)
            self._living_app.cancel()
