"""The two sides of a connection's life inside a fake: the session that serves a client, and its host, the fake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from notnow.clock import Clock
from notnow.engine.actions import Script
from notnow.engine.events import Event, Facts
from notnow.journal import Arrival, Connection, Failure, Recorder
from notnow.servers.base.tls import Shown
from notnow.servers.base.turns import Turns


class Session(Protocol):
    """A live connection of an adapter, as its host sees it."""

    record: Connection

    def open(self, sock: socket.socket, implicit: bool) -> None:
        """Start to serve the client; `implicit`: with a TLS handshake first."""

    def unasked(self, script: Script) -> None:
        """Carry out a script that no command of this client has caused."""

    def abort(self) -> None:
        """End the connection at once, without a reply. The host's `connection_closed` is called soon after."""

    def dismiss(self) -> bool:
        """The fake stops: tell the client if the protocol has a way to. True if that takes a moment."""

    def end_if_quiet(self) -> None:
        """A moment has passed since then: end TLS, if the client has sent nothing in it. Without TLS it has seen our end."""


class Host(Protocol):
    """What a session needs of the fake that it belongs to.

    Adapters widen it: FTP by files, SMTP by a mailbox, HTTP by an app. All of it is for the loop's thread only.
    """

    @property
    def recorder(self) -> Recorder: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def hostname(self) -> str:
        """The server's name in greetings and replies."""

    @property
    def phase(self) -> str:
        """The name of the phase that is playing."""

    @property
    def tls(self) -> str:
        """How the server speaks TLS now: "none", "starttls" or "implicit"."""

    @property
    def shutting(self) -> bool:
        """The fake stops, and ends all its connections a moment after their goodbye: none needs a timer for it."""

    # ---- the engine ------------------------------------------------------------------------------

    def feed(self, event: Event, moment: str = "", at: float | None = None) -> Script | None:
        """Tell the engine; return the script for this event, and have the scripts for other connections carried out.

        `at` is the time of the event, if the clock has just been read.
        """

    def behaves(self, conn: str, moment: str, facts: Facts, now: float) -> bool:
        """True if nothing is to be decided about a request, and the fake behaves; False for one that has to be fed."""

    def settled(self, conn: str, moment: str, facts: Facts, stream: int, now: float) -> Script | None:
        """The script for a request that is always decided in the same way; None for one that has to be fed."""

    def has_rules_at(self, moment: str) -> bool:
        """False if the engine need not be told of this moment: no rule of the phase acts there."""

    def client_hello(self, record: Connection, sni: str | None) -> Script | None:
        """A ClientHello has arrived: put the name in the journal, and ask the engine."""

    def client_leaving(self, record: Connection) -> None:
        """The client is about to leave: its slots are free."""

    def connection_closed(self, record: Connection, failure: Failure | None = None) -> None:
        """The connection has ended and its socket is closed; `failure` says what went wrong."""

    def heard_after(
        self, record: Connection, data: bytes, arrival: Arrival | None = None, words: bytes | None = None
    ) -> None:
        """The client has sent this after the fake had decided to close, or before: then `arrival` says when.

        `words` is what it means if it is no text.
        """

    def left_unread(self, record: Connection, data: bytes, arrival: Arrival | None = None) -> None:
        """The client has sent this while the fake stalls, or before."""

    def drain(self, sock: socket.socket) -> None:
        """Close our sending side of a socket, and drop what the client still sends, until it closes or time is up."""

    # ---- the loop --------------------------------------------------------------------------------

    @property
    def turns(self) -> Turns:
        """The queue of connections that have more to do than one piece of work."""

    def sleep(self, span: float) -> asyncio.Future[None]:
        """A future that is done this many seconds of scenario time from now."""

    def call_later_real(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """`loop.call_later` in real seconds, few of them: `settle` waits for the callback."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine until it is done or the fake stops."""

    def failed(self, error: BaseException) -> None:
        """Our own code has failed: `stop` will raise it."""

    # ---- TLS -------------------------------------------------------------------------------------

    def certificate_for(self, name: str | None, sni: str | None) -> tuple[str, Shown]:
        """The certificate to show, and its name for the journal; see `notnow.servers.base.tls.choose`."""

    def tls_context(self, shown: Shown | None = None) -> ssl.SSLContext:
        """The TLS context that shows this certificate; without one, the context in which a handshake begins."""
