"""FakeHTTP: a server for HTTP/2 and HTTP/1.1 that says 421 on cue (RFC 9110 §15.5.20), on hypercorn's protocols."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from notnow import hosts as names
from notnow.conduct.requests import RequestAssertions
from notnow.engine.actions import Script
from notnow.errors import StartError
from notnow.journal import Connection, Exchange
from notnow.servers.base import guests
from notnow.servers.base.fake import GRACE, Fake
from notnow.servers.http.connection import HTTPConnection
from notnow.servers.http.echo import echo
from notnow.servers.http.hypercorn_parts import lifespan
from notnow.servers.http.quic import Silent, UDPTakenError, place

if TYPE_CHECKING:
    from hypercorn.asyncio.lifespan import Lifespan

PORTS = 5  # ports that are tried where none was asked for
STARTUP = 70.0  # real seconds that an app may take to start; hypercorn says so after 60


class FakeHTTP(RequestAssertions, Fake):
    """A fake HTTP server.

        with FakeHTTP("http/coalesced") as http, http.resolving():
            fetch(http.url_for("a.site.test", "/"), http.ssl_context())
            http.assert_new_connection_after(421)

    It listens when the block begins, and it lives in a thread of its own. It speaks HTTP/2 (over TLS, or with prior
    knowledge, or after an upgrade) and HTTP/1.1. `app` is an ASGI app of yours, which then stands behind the
    faults; without one, the request comes back as JSON.
    """

    protocol: ClassVar[str] = "http"
    allowed: ClassVar[frozenset[str]] = (Fake.allowed | {"app"}) - {"users"}
    alpn: ClassVar[tuple[str, ...]] = ("h2", "http/1.1")

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.app: Any = self.options.app or echo
        self.state: dict[str, Any] = {}  # of the app's lifespan
        self._lifespan: Lifespan | None = None
        self._living_app: asyncio.Task[None] | None = None
        self._place: tuple[int, bool, tuple[str, int]]  # of its TCP socket
        self._quic: Silent | None = None

    __init__.__doc__ = Fake.__init__.__doc__

    # ---- where it is -----------------------------------------------------------------------------

    @property
    def scheme(self) -> str:
        return "http" if self.tls == "none" else "https"

    def url_for(self, host: str, path: str = "/") -> str:
        """The URL of a path on one of its hosts; `resolving()` makes the name known in this process."""
        return f"{self.url_of(host)}/{path.removeprefix('/')}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that it goes by: those of its certificates, else its own."""
        return self.scenario.hosts or ("localhost",)

    def resolving(self) -> AbstractContextManager[None]:
        """Have its hosts resolve to its address, in this process and for the length of a `with` block."""
        return names.resolving(self.hosts, self.host)

    def ssl_context(self) -> ssl.SSLContext:
        """A context for clients that trust its CA."""
        return ssl.create_default_context(cafile=self.ca_file)

    # ---- its life --------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self.options.app is not None:
            self._living.hosts.append(self.guest_failed)
            self._living.run(self._begin_app(), patience=STARTUP)

    def start(self) -> Self:
        """Listen. When this returns, clients can connect. Raises StartError if the address is taken, for UDP too."""
        for left in range(PORTS, 0, -1):
            try:
                return super().start()
            except UDPTakenError:  # while its port is free for TCP
                self.port = self.options.port
                if self.port or left == 1:
                    raise
        raise AssertionError("the last try returns or raises")

    def _listen(self, sock: socket.socket) -> None:
        self._place = place(sock)
        self._apply_server_table()
        super()._listen(sock)

    def _apply_server_table(self) -> None:
        """Its UDP port listens in silence, or is closed, as the scenario says."""
        wanted = self.scenario.server.h3 == "silent"
        if self._runner is None or wanted == (self._quic is not None):
            return
        if self._quic is None:
            self._quic = Silent(self.loop, self._place, self.journal)
        else:
            self._quic.close()
            self._quic = None

    async def _begin_app(self) -> None:
        """The app's lifespan, in the loop of the fake. Raises StartError if the app does not want to begin."""
        self.state = {}
        life = self._lifespan = lifespan(self._live, self.loop, self.state)
        task = self._living_app = self.loop.create_task(life.handle_lifespan())
        try:
            await life.wait_for_startup()
            await asyncio.sleep(0)
            if task.done():
                task.result()
            if self._strays:
                raise guests.verdict(self._strays.pop(), self.name)
        except BaseException as error:
            task.cancel()
            self._lifespan = None
            if not isinstance(error, Exception):
                raise
            raise StartError(f"the app has failed to start: {error}") from error

    async def _live(self, *asgi: Any) -> None:
        """The app, called for its lifespan. What would end the loop, or would be lost, is kept for whoever starts it."""
        guests.blame.set(self.guest_failed)
        try:
            await self.app(*asgi)
        except BaseException as error:
            if guests.is_ours(error) or not any(guests.strays(error)):
                raise
            self.guest_failed(error)

    def _release(self) -> None:
        if self._runner is not None and self.guest_failed in self._runner.hosts:
            self._runner.hosts.remove(self.guest_failed)
        super()._release()

    async def _shut(self) -> None:
        if self._quic is not None:
            self._quic.close()
            self._quic = None
        await super()._shut()
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

    def _admit(self, record: Connection, exchange: Exchange, script: Script) -> HTTPConnection:
        return HTTPConnection.adopt(self, record, exchange, script)
