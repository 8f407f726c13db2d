"""aiosmtpd's protocol as a `LiveConnection`: a session without its constructor, its input, and STARTTLS.

The private seams of aiosmtpd that notnow uses are here and in `notnow.servers.smtp.session`: `_set_rset_state`,
`_set_post_data_state`, `_create_session`, `_strip_command_keyword`, `_getaddr`, and that none of these needs `__init__` (which
costs more than a whole refused connection). tests/test_smtp_seams.py has a test for each.
"""

# ruff: noqa: ARG002, N802 (the names of aiosmtpd's methods, and the arguments of hooks)
from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Session as SMTPState

from notnow import protocols
from notnow.engine.actions import Script
from notnow.engine.events import Ended, Known
from notnow.journal import Connection, Exchange
from notnow.protocols.protocol import Protocol
from notnow.servers.base.arrivals import Arrivals
from notnow.servers.base.dialogue import CommandConnection
from notnow.servers.base.life import STALLED, Life
from notnow.servers.base.serving import Serving, more_input
from notnow.servers.smtp.envelope import Transaction
from notnow.servers.smtp.host import MailHost

CHUNK = 65_536
CROWDED = 2 * CHUNK  # bytes of input that wait, beyond which the fake stops reading


class SMTPConnection(CommandConnection, SMTP):
    """The connection of a session."""

    # aiosmtpd's attributes, which are set for as long as we use them.
    session: SMTPState
    envelope: Transaction
    transport: asyncio.Transport
    # Ours.
    host: MailHost
    user: str | None = None  # the user who is logged in
    size: int | None = None  # of the message, as MAIL announced it
    answered_at: str | None = None  # the moment at which a rule has answered the client's last line
    _serving: Serving
    _inbox: bytearray  # input that was not read yet
    _beginning: bytes = b""  # of a line that is too long
    _crowded: bool = False  # so much input is waiting that we have stopped reading
    _choked: asyncio.Future[None] | None = None  # until the client reads its replies

    speaks: ClassVar[Protocol] = protocols.get("smtp")
    hello: ClassVar[str] = "EHLO"
    ident: ClassVar[str] = "ESMTP notnow"
    dropped_commands: ClassVar[frozenset[str]] = frozenset()  # those of aiosmtpd that the protocol does not have
    _moments: ClassVar[Mapping[str, str]]  # by verb

    def __init__(self, host: MailHost, record: Connection, greeting: Exchange, script: Script) -> None:
        """A session for a connection. aiosmtpd's constructor prepares what only its own service needs."""
        self.host, self.record, self.exchange, self.opening = host, record, greeting, script
        self.life, self.arrivals = Life(), Arrivals(host.recorder)
        self.hostname, self._inbox = host.hostname, bytearray()

    def __init_subclass__(cls) -> None:
        cls._moments = cls.speaks.by_verb()

    def _command_named(self, verb: str) -> Callable[[str | None], Awaitable[None]] | None:
        """What carries out the command; None if there is no such command."""
        found: Callable[[str | None], Awaitable[None]] | None
        found = getattr(self, f"smtp_{verb}", None) if verb not in self.dropped_commands else None
        return found

    @classmethod
    def _commands(cls) -> list[str]:
        """The verbs of all commands."""
        verbs = {name.removeprefix("smtp_") for name in dir(cls) if name.startswith("smtp_")}
        return sorted(verbs - cls.dropped_commands)

    async def serve(self) -> None:
        """Serve the client, from the greeting to the end of the connection."""
        raise NotImplementedError

    # ---- the hooks of a wire ---------------------------------------------------------------------

    def on_open(self, transport: asyncio.Transport) -> None:
        self._begin_session()
        self._serving = Serving(self.serve())
        self._serving.go_on()

    def on_upgrade(self, transport: asyncio.Transport) -> None:
        """TLS starts a new session (RFC 3207 §4.2)."""
        self._begin_session()
        self.transport = transport

    def _begin_session(self) -> None:
        self._set_rset_state()
        self.session = self._create_session()
        self.session.peer = self.record.client

    def on_data(self, data: bytes) -> None:
        inbox, listens = self._inbox, self._serving.listens
        self.arrivals.came(data, not listens)
        inbox += data
        if listens:
            self._serving.go_on()
        if len(inbox) > CROWDED and not self._crowded and self.alive:
            self._crowded = True
            self.transport.pause_reading()

    def on_client_end(self) -> None:
        if self._serving.listens:
            self._serving.go_on()
        elif self.life.fake is STALLED:
            self.stop_serving()

    def on_lost(self, error: Exception | None) -> None:
        self.stop_serving()

    def take_unread(self) -> bytes:
        taken = bytes(self._inbox)
        self._inbox.clear()
        self._crowded = False  # the caller resumes reading
        return taken

    def stop_serving(self) -> None:
        self._serving.cancel()

    def pause_writing(self) -> None:
        self._choked = self.host.loop.create_future()

    def resume_writing(self) -> None:
        choked, self._choked = self._choked, None
        if choked is not None and not choked.done():
            choked.set_result(None)

    # ---- aiosmtpd's state ------------------------------------------------------------------------

    def _create_session(self) -> SMTPState:
        self.user = None  # RFC 3207 §4.2: STARTTLS discards all knowledge of the client
        return SMTPState(self.host.loop)

    def _set_rset_state(self) -> None:
        self._set_post_data_state()

    def _set_post_data_state(self) -> None:
        self.envelope = Transaction()
        self.size = None

    # ---- reading ---------------------------------------------------------------------------------

    async def _line(self) -> bytes:
        """The client's next line, without its line end; of a line that is too long, its beginning. Raises EOFError."""
        while (line := self._next_line()) is None:
            await self._input()
        return line

    def _next_line(self) -> bytes | None:
        """The same; None if it has not come."""
        self.answered_at = None
        if end := self._inbox.find(b"\n") + 1:
            line = self._take(end).rstrip(b"\r\n")
            if self._beginning:
                line, self._beginning = self._beginning, b""
            return line
        if len(self._inbox) > CHUNK:
            start = self._take(len(self._inbox))
            self._beginning = self._beginning or start
        return None

    async def _piece(self, most: int) -> bytes:
        """What has arrived of a message, at most so many bytes. Raises EOFError."""
        while not self._inbox:
            await self._input()
        return self._take(most)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._inbox[:count])
        del self._inbox[:count]
        if self._crowded and len(self._inbox) <= CHUNK:
            self._crowded = False
            self.transport.resume_reading()
        return taken

    def _input(self) -> Awaitable[None]:
        """Await it for more input. Raises EOFError when none will come."""
        if self.eof:
            raise EOFError
        return more_input()

    # ---- TLS -------------------------------------------------------------------------------------

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if self.secure:
            await self.push("503 5.5.1 Error: TLS already active")
            return
        if self.host.tls != "starttls":
            await self.push("502 5.5.1 Error: command not implemented")
            return
        if arg:  # RFC 3207 §4: it has no parameters
            await self.push("501 5.5.4 Syntax: STARTTLS")
            return
        self.host.feed(Ended(self.record.id, "mail"))
        await self.push("220 2.0.0 Ready to start TLS")
        await self.upgrade()
        self.host.feed(Known(self.record.id, {"user": None}))
