"""aiosmtpd's protocol as a `LiveConnection`: a session copied from a template, its reader, and STARTTLS.

The private seams of aiosmtpd that notnow uses are here and in `notnow.servers.smtp.session`: `_handle_client`,
`_reader`, `_writer`, `_handler_coroutine`, `_cb_client_connected`, `_smtp_methods`, `_reset_timeout`,
`_set_rset_state`, `_set_post_data_state`, `_create_session`, `_strip_command_keyword`, `_getaddr`, and an instance
copied from a template instead of `__init__` (which costs more than a whole refused connection). Of asyncio it is the
`_buffer` of a reader, and the `_transport` of reader and writer. tests/test_smtp_seams.py has a test for each.
"""

# ruff: noqa: N802 (the names of aiosmtpd's methods)
from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar, Self

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Session as SMTPState

from notnow import protocols
from notnow.bounds import SMTP_MESSAGE
from notnow.engine.actions import Script
from notnow.engine.events import Ended, Known
from notnow.journal import Connection, Exchange
from notnow.protocols.protocol import Protocol
from notnow.servers.base.arrivals import Arrivals
from notnow.servers.base.dialogue import CommandConnection
from notnow.servers.base.life import STALLED, Life
from notnow.servers.smtp.envelope import Transaction
from notnow.servers.smtp.host import MailHost

CHUNK = 65_536


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
    listens: bool = False  # no reply is due
    answered_at: str | None = None  # the moment at which a rule has answered the client's last line

    speaks: ClassVar[Protocol] = protocols.get("smtp")
    hello: ClassVar[str] = "EHLO"
    ident: ClassVar[str] = "ESMTP notnow"
    dropped_commands: ClassVar[frozenset[str]] = frozenset()  # those of aiosmtpd that the protocol does not have
    _moments: Mapping[str, str]  # by verb
    _last: ClassVar[SMTPConnection | None] = None

    @classmethod
    def template(cls, host: MailHost) -> Self:
        """A session that others are copied from; the last one is used again for the same loop and host name."""
        made = SMTPConnection._last
        if type(made) is not cls or made.loop is not host.loop or made.hostname != host.hostname:
            made = cls._make(host)
        commands = made._smtp_methods.keys() - cls.dropped_commands
        made._smtp_methods = {name: getattr(cls, f"smtp_{name}") for name in commands}
        made._moments = cls.speaks.by_verb()
        SMTPConnection._last = made
        return made

    @classmethod
    def _make(cls, host: MailHost) -> Self:
        return cls(
            object(), hostname=host.hostname, ident=cls.ident, enable_SMTPUTF8=True, auth_require_tls=False,
            data_size_limit=SMTP_MESSAGE, loop=host.loop,
        )  # fmt: skip

    def adopt(self, host: MailHost, record: Connection, greeting: Exchange, script: Script) -> Self:
        """A new session for a connection, copied from this template."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        reader = asyncio.StreamReader(limit=CHUNK, loop=self.loop)
        asyncio.StreamReaderProtocol.__init__(new, reader, client_connected_cb=new._cb_client_connected, loop=self.loop)
        new.life, new.arrivals = Life(), Arrivals(host.recorder)
        new.host, new.record, new.exchange, new.opening = host, record, greeting, script
        return new

    # ---- the hooks of a wire ---------------------------------------------------------------------

    def on_open(self, transport: asyncio.Transport) -> None:
        self._set_rset_state()
        self.session = self._create_session()
        self.session.peer = self.record.client
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def on_upgrade(self, transport: asyncio.Transport) -> None:
        """TLS starts a new session (RFC 3207 §4.2)."""
        self._set_rset_state()
        self.session = self._create_session()
        self.session.peer = self.record.client
        self._reader._transport = transport  # type: ignore[attr-defined]
        self._writer._transport = transport  # type: ignore[attr-defined]
        self.transport = transport

    def on_data(self, data: bytes) -> None:
        self.arrivals.came(data, not self.listens)
        SMTP.data_received(self, data)

    def on_client_end(self) -> None:
        self._reader.feed_eof()
        if self.life.fake is STALLED:
            self.stop_serving()

    def on_lost(self, error: Exception | None) -> None:
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.stop_serving()

    def take_unread(self) -> bytes:
        buffer = unread(self._reader)
        taken = bytes(buffer)
        buffer.clear()
        return taken

    def stop_serving(self) -> None:
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def is_lost(self, error: Exception) -> bool:
        return super().is_lost(error) or error is self._reader.exception()

    # ---- aiosmtpd's state ------------------------------------------------------------------------

    def _create_session(self) -> SMTPState:
        self.user = None  # RFC 3207 §4.2: STARTTLS discards all knowledge of the client
        return SMTPState(self.loop)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Idle time-outs belong to the engine, not to aiosmtpd."""

    def _set_rset_state(self) -> None:
        self._set_post_data_state()

    def _set_post_data_state(self) -> None:
        self.envelope = Transaction()
        self.size = None

    # ---- reading ---------------------------------------------------------------------------------

    async def _line(self) -> bytes:
        """The next command, without its line end; of a line that is too long, its beginning."""
        self.listens = True
        try:
            return (await self._reader.readuntil()).rstrip(b"\r\n")
        except asyncio.LimitOverrunError as error:
            start = await self._reader.readexactly(error.consumed)
            await self._skip_line()
            return start
        finally:
            self.listens, self.answered_at = False, None

    async def _skip_line(self) -> None:
        while True:
            try:
                await self._reader.readuntil()
                return
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)

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


def unread(reader: asyncio.StreamReader) -> bytearray:
    """The buffer of bytes that have not been read; callers may change it. A private attribute of asyncio."""
    buffer: bytearray = reader._buffer  # type: ignore[attr-defined]
    return buffer
