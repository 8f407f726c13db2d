"""What is below an SMTP session: its transport, saying things in order, closing, and TLS.

The private seams of aiosmtpd that notnow uses are here and in `notnow.servers._smtp_session`: `_handle_client`,
`_reader`, `_writer`, `_original_transport`, `_handler_coroutine`, `_cb_client_connected`, `_smtp_methods`,
`_reset_timeout`, `_set_rset_state`, `_set_post_data_state`, `_create_session`, `_strip_command_keyword`,
`_getaddr`, and an instance copied from a template instead of `__init__` (which costs more than a whole refused
connection). tests/test_smtp_seams.py has a test for each.
"""

# ruff: noqa: N802 (the names of aiosmtpd's methods)
from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, ClassVar, Self, cast

from aiosmtpd.smtp import SMTP, TLSSetupException
from aiosmtpd.smtp import Envelope as Transaction
from aiosmtpd.smtp import Session as SMTPState

from notnow.actions import Alert, Certify, Close, Script
from notnow.events import Ended, Heard
from notnow.journal import TLS, Connection, Exchange
from notnow.servers import _listener, tls

if TYPE_CHECKING:
    from notnow.servers.smtp import FakeSMTP

LARGEST_MESSAGE = 33_554_432  # what SIZE announces
CHUNK = 65_536
QUIET = 0.05  # real seconds without a byte after which a TLS client has read its 421: TLS has no half-close
HANDSHAKE = 30.0  # real seconds that a TLS handshake may take
SHUTDOWN = 1.0  # real seconds that a client has for taking its last bytes


class Over(Exception):  # noqa: N818 (no error)
    """Nothing more is to be done in this session."""


class Wire(SMTP):
    """The connection of a session."""

    # aiosmtpd's, which are there for as long as we look at them.
    session: SMTPState
    envelope: Transaction
    transport: asyncio.Transport
    # Ours.
    fake: FakeSMTP
    record: Connection
    exchange: Exchange  # what the client's last command is about
    opening: Script
    raw: socket.socket  # the socket below TLS, for what has to be done to it during a handshake
    implicit: bool  # TLS comes before the greeting
    alive: bool = False  # there is a transport
    secure: bool = False  # in TLS
    handshaking: bool = False  # on the way there, after STARTTLS
    over: bool = False  # the fake has said its last word
    hanging: bool = False  # a stalled answer: what the client says is not heard
    left: bool = False  # the engine knows that the client is going
    user: str | None = None  # who is logged in
    size: int | None = None  # what MAIL said of the message
    refusal: str | None = None  # how a rule has ended the handshake
    _mouth: asyncio.Lock | None = None  # held while a reply drips, so that no other gets between its bytes
    _linger: asyncio.TimerHandle | None = None
    _lingers_until: float = 0.0
    _opener: asyncio.Task[None] | None = None  # until the connection is made

    _last: ClassVar[Wire | None] = None

    @classmethod
    def template(cls, fake: FakeSMTP) -> Self:
        """A session that others are copied from: the last one made, where it was for this loop and name."""
        made = Wire._last
        if not isinstance(made, cls) or made.loop is not fake.loop or made.hostname != fake.hostname:
            made = cls._make(fake)
        made._smtp_methods = {name: getattr(cls, f"smtp_{name}") for name in made._smtp_methods}
        Wire._last = made
        return made

    @classmethod
    def _make(cls, fake: FakeSMTP) -> Self:
        return cls(
            object(), hostname=fake.hostname, ident="ESMTP notnow", enable_SMTPUTF8=True, auth_require_tls=False,
            data_size_limit=LARGEST_MESSAGE, loop=fake.loop,
        )  # fmt: skip

    def adopt(self, fake: FakeSMTP, record: Connection, greeting: Exchange, script: Script) -> Self:
        """A new session for a connection, with all that the template has worked out."""
        new = type(self).__new__(type(self))
        new.__dict__.update(self.__dict__)
        reader = asyncio.StreamReader(limit=CHUNK, loop=self.loop)
        asyncio.StreamReaderProtocol.__init__(new, reader, client_connected_cb=new._cb_client_connected, loop=self.loop)
        new.fake, new.record, new.exchange, new.opening = fake, record, greeting, script
        return new

    def open(self, sock: socket.socket, implicit: bool) -> None:
        """Begin: with a greeting, or with a TLS handshake (RFC 8314 §3.3)."""
        self.raw, self.implicit = sock, implicit
        self._opener = self.fake.spawn(self._shake_hands(sock) if implicit else self._connect(sock))
        self._opener.add_done_callback(self._opened)

    async def _connect(self, sock: socket.socket) -> None:
        await self.loop.connect_accepted_socket(lambda: self, sock)

    async def _shake_hands(self, sock: socket.socket) -> None:
        tls.current.set(self)
        try:
            await self.loop.connect_accepted_socket(
                lambda: self,
                sock,
                ssl=self.fake.context(),
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=SHUTDOWN,
            )
        except OSError as error:
            self._tls_failed(error)

    def _opened(self, opener: asyncio.Task[None]) -> None:
        """The connection has been made, or it never will be."""
        self._opener = None
        if not opener.cancelled() and (error := opener.exception()) is not None:
            self.fake.failed(error)
        if not self.alive:
            self.raw.close()
            self.fake._gone(self.record)

    # ---- the transport ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if self.alive:  # STARTTLS is done
            super().connection_made(transport)
            self._note_tls(transport)
            return
        self._set_rset_state()
        self.session = self._create_session()
        self.session.peer = self.record.client
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self.transport, self.alive = transport, True
        if transport.get_extra_info("ssl_object") is not None:
            self._note_tls(transport)
        self._begin()

    def _begin(self) -> None:
        """Serve the client: there is a transport now."""
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def _note_tls(self, transport: asyncio.Transport) -> None:
        self.secure, self.handshaking = True, False
        facts = self.record.tls = self.record.tls or TLS()
        facts.version = transport.get_extra_info("ssl_object").version()

    def _create_session(self) -> SMTPState:
        self.user = None  # RFC 3207 §4.2: after STARTTLS nothing is known of the client
        return SMTPState(self.loop)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Silence is the engine's business, not aiosmtpd's."""

    def _set_rset_state(self) -> None:
        self._set_post_data_state()

    def _set_post_data_state(self) -> None:
        self.envelope = Transaction()
        self.size = None

    def data_received(self, data: bytes) -> None:
        if self.over:
            self._hear(data)
        elif not self.hanging:
            super().data_received(data)

    def _leave(self) -> None:
        """The client is going: its places are free."""
        if not self.left:
            self.left = True
            self.fake.leaving(self.record)

    def eof_received(self) -> bool:
        self._leave()
        if self.over:
            self._end()
            return False
        self._reader.feed_eof()
        if self.hanging and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        return not self.secure  # a client that has ended its side may still read; TLS has no such thing

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if self._linger is not None:
            self._linger.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        self.fake._gone(self.record, str(error) if error else None)

    # ---- reading and writing ---------------------------------------------------------------------

    async def _line(self) -> bytes:
        """The next command, without its line end; of a line that is too long, its beginning."""
        try:
            return (await self._reader.readuntil()).rstrip(b"\r\n")
        except asyncio.LimitOverrunError as error:
            start = await self._reader.readexactly(error.consumed)
            await self._skip_line()
            return start

    async def _skip_line(self) -> None:
        while True:
            try:
                await self._reader.readuntil()
                return
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)

    def _still_here(self) -> None:
        if self.over or not self.alive:
            raise Over

    def _write(self, text: bytes, exchange: Exchange, ending: bool) -> None:
        self._still_here()
        self._note(text, exchange, ending)
        self._writer.write(text + b"\r\n")

    def _note(self, text: bytes, exchange: Exchange, ending: bool) -> None:
        exchange.closed = exchange.closed or ending
        self.fake.journal.answer(exchange, text.decode("utf-8", "replace").replace("\r\n", "\n"))
        if ending:
            self._decided()

    async def _drip(self, text: bytes, exchange: Exchange, pause: float, ending: bool) -> None:
        self._mouth = self._mouth or asyncio.Lock()
        async with self._mouth:
            if not pause:
                self._write(text, exchange, ending)
                return
            self._still_here()
            self._note(text, exchange, ending)
            for i, byte in enumerate(text + b"\r\n"):
                if i:
                    await self.fake.sleep(pause)
                if not self.alive:
                    raise Over
                self.fake.feed(Heard(self.record.id))  # who waits for our answer is not idle
                self._writer.write(bytes([byte]))
            exchange.answered_at = self.fake.clock.now()

    # ---- closing ---------------------------------------------------------------------------------

    def _decided(self) -> None:
        if self.record.ended_by is None:
            self.fake.journal.close(self.record, "fake")

    def _finish(self, how: str, exchange: Exchange) -> None:
        """The fake closes. What was said before must arrive: see `notnow.servers._listener`."""
        self.over = exchange.closed = True
        if exchange.reply is None:
            self.fake.journal.tell(exchange)
        self._decided()
        if how == "reset":
            _listener.reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()
        elif how == "abrupt":
            self._hang_up()
        else:
            self._half_close()

    def _hang_up(self) -> None:
        """Close now: in TLS without the goodbye, for which asyncio would wait."""
        if self.secure and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self._end()

    def _half_close(self) -> None:
        transport, buffer = self.transport, unread(self._reader)
        if buffer:
            self._hear(bytes(buffer))
            buffer.clear()
        if self._reader.at_eof():
            self._end()
            return
        transport.resume_reading()
        self._lingers_until = self.loop.time() + _listener.LINGER
        if self.secure:
            self._linger = self.fake.soon(QUIET, self._end)
        else:
            self._linger = self.loop.call_later(_listener.LINGER, self._end)
            try:
                transport.write_eof()
            except OSError:  # the client has reset it, and we have not been told yet
                transport.abort()

    def _hear(self, data: bytes) -> None:
        """What a client says after the fake has decided to close."""
        self.fake.heard_after(self.record, data)
        if self._linger is not None and self.secure:
            self._linger.cancel()
            left = max(0.0, self._lingers_until - self.loop.time())
            self._linger = self.fake.soon(min(QUIET, left), self._end)

    def _end(self) -> None:
        """Close the transport for good; a client that does not take its last bytes is cut off."""
        if self.alive and not self.transport.is_closing():
            self.over = True
            self.transport.close()
            if self.secure or self.transport.get_write_buffer_size():
                self._linger = self.loop.call_later(SHUTDOWN, self.transport.abort)

    def abort(self) -> None:
        """End at once, without a word."""
        if self.alive:
            self.transport.abort()
        elif self._opener is not None:
            self._opener.cancel()

    def dismiss(self) -> bool:
        """RFC 5321 §3.8: a server that is shut down says 421 before it closes."""
        if self.over:
            return True
        if not self.alive or self.handshaking or self.hanging or (self._mouth is not None and self._mouth.locked()):
            return False
        exchange = self.fake.journal.ask(self.record, "enter", "", self.fake.phase)
        exchange.fault = "stopped"
        self._write(
            f"421 4.3.2 {self.hostname} Service not available, closing transmission channel".encode(), exchange, True
        )
        self._finish("fin", exchange)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        return True

    # ---- TLS -------------------------------------------------------------------------------------

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if self.secure:
            await self.push("503 5.5.1 Error: TLS already active")
            return
        if self.fake.tls != "starttls":
            await self.push("502 5.5.1 Error: command not implemented")
            return
        self.tls_context = self.fake.context()
        self.raw = self.transport.get_extra_info("socket")
        self.fake.feed(Ended(self.record.id, "mail"))
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
            return
        tls.current.set(self)
        self.handshaking = True
        await super().smtp_STARTTLS("")
        if self.handshaking:  # asyncio wakes us with no error when the connection was aborted
            raise TLSSetupException("the connection was lost")

    @property
    def raw_transport(self) -> asyncio.Transport:
        """The transport below TLS, once STARTTLS has been said."""
        return cast("asyncio.Transport", self._original_transport)

    def hello(self, sni: str | None) -> tuple[tls.Shown | None, str | None]:
        """Called in the handshake, with the name that the client asks for."""
        try:
            return self._hello(sni)
        except Exception as error:  # OpenSSL would swallow it
            self.fake.failed(error)
            return None, "internal_error"

    def _hello(self, sni: str | None) -> tuple[tls.Shown | None, str | None]:
        script = self.fake.hello(self.record, sni)
        name = alert = None
        for step in script.steps if script else ():
            if isinstance(step, Certify):
                name = step.name
            elif isinstance(step, Alert):
                alert = step.name
                self.refusal = f"refused with the alert {alert}"
                tls.send_alert(self.raw, alert)
            elif isinstance(step, Close):
                alert = alert or "internal_error"  # never sent: it only ends the handshake
                self.refusal = self.refusal or "closed"
                if step.how == "reset":
                    _listener.reset_on_close(self.raw)
        label, shown = self.fake.shown(name, sni)
        if self.record.tls is not None and alert is None:
            self.record.tls.certificate = label
        if script is not None and script.rule:
            self._journal_hello(script, sni, alert is not None)
        return shown, alert

    def _journal_hello(self, script: Script, sni: str | None, ends: bool) -> None:
        exchange = self.fake.journal.ask(self.record, "tls", sni or "", script.phase)
        exchange.rule, exchange.fault, exchange.closed = script.rule, script.fault, ends
        self.fake.journal.tell(exchange)
        if ends:
            self._decided()

    def _tls_failed(self, error: BaseException) -> None:
        facts = self.record.tls = self.record.tls or TLS()
        facts.error = self.refusal or getattr(error, "reason", None) or str(error) or type(error).__name__
        self.record.error = f"TLS handshake failed: {facts.error}"
        if isinstance(error, ssl.SSLError) and "ALERT" not in (error.reason or ""):
            self._decided()

    def _starttls_failed(self, error: BaseException) -> None:
        """asyncio tells nobody that the connection below a failed handshake is lost."""
        self._tls_failed(error)
        self.over = True
        self.raw_transport.abort()
        if self.alive:
            self.connection_lost(None)


def unread(reader: asyncio.StreamReader) -> bytearray:
    """What has come and was not read yet; it may be put back, or taken away. Private in asyncio, for ten years now."""
    buffer: bytearray = reader._buffer  # type: ignore[attr-defined]
    return buffer
