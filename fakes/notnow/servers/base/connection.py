"""A live connection below its protocol: its transport, TLS, and the ways in which it ends.

Every adapter's connection is a `LiveConnection`. Its subclass serves the protocol, with a stream reader, a line parser or
an HTTP stack, and implements the hooks below.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from typing import cast

from notnow.engine.actions import Alert, Certify, Close, Ending, Script
from notnow.engine.events import Finished
from notnow.journal import (
    Connection,
    ConnectionClose,
    ConnectionLost,
    End,
    Exchange,
    Failure,
    HandshakeAbandoned,
    HandshakeFailed,
    TLSAlert,
)
from notnow.servers.base import listener, tls
from notnow.servers.base.arrivals import Arrivals
from notnow.servers.base.hanging import Hanging
from notnow.servers.base.life import CLOSED, CLOSING, HANDSHAKING, OPENING, STALLED, UPGRADING, Client, Event, Life
from notnow.servers.base.transport import Plain

QUIET = 0.05  # real seconds without a byte after which a TLS client has read its last reply: TLS has no half-close
HANDSHAKE = 30  # real seconds that a TLS handshake may take
HANDSHAKE_RECORD = 22  # the first byte of a ClientHello on the wire
SHUTDOWN = 1.0  # real seconds that a client has to read its last bytes


class Over(Exception):  # noqa: N818 (no error)
    """The connection has ended: stop working for it."""


class LiveConnection(Hanging):
    """The connection of a session."""

    departure = Over
    record: Connection
    exchange: Exchange  # of the client's last command
    opening: Script
    transport: asyncio.Transport
    raw: socket.socket  # the socket below TLS, which a handshake may have to reset
    life: Life
    secure: bool = False  # in TLS
    refusal: str | None = None  # how a rule ended the handshake
    certificate_name: str | None = None  # the certificate that the client was shown
    arrivals: Arrivals
    _before_tls: int = 0  # bytes that had arrived then
    _linger: asyncio.TimerHandle | None = None
    _lingers_until: float = 0.0
    _opener: asyncio.Task[None] | None = None  # until the connection is made

    # ---- hooks: what a protocol makes of its connection ------------------------------------------

    def on_open(self, transport: asyncio.Transport) -> None:
        """The connection is made: serve it."""
        raise NotImplementedError

    def on_upgrade(self, transport: asyncio.Transport) -> None:
        """The connection continues in TLS, over this transport."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        """The client has sent this."""
        raise NotImplementedError

    def on_client_end(self) -> None:
        """The client has closed its sending side."""
        raise NotImplementedError

    def on_lost(self, error: Exception | None) -> None:
        """The connection is lost: stop everything that was done for it."""
        raise NotImplementedError

    def take_unread(self) -> bytes:
        """Take the bytes that have arrived and were not processed, and return them."""
        raise NotImplementedError

    def words(self, _data: bytes) -> bytes | None:
        """What bytes that arrive after the close mean, for the journal; None if they are text. Called once for each."""
        return None

    @property
    def awaits_client(self) -> bool:
        """It is the client's turn to speak."""
        raise NotImplementedError

    # ---- where it is in its life -----------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """There is a transport."""
        return self.life.fake.alive

    @property
    def over(self) -> bool:
        """The fake has sent its last reply."""
        return self.life.fake is CLOSING or self.life.fake is CLOSED

    @property
    def ending(self) -> bool:
        """The fake is about to close, and serves nothing further."""
        return self.life.fake.ending

    @property
    def eof(self) -> bool:
        """The client has closed its sending side."""
        return self.life.client is Client.ENDED

    def still_here(self) -> None:
        """Raises Over where nothing can be sent any more."""
        if not self.life.fake.speaks:
            raise Over

    # ---- the transport ---------------------------------------------------------------------------

    def open(self, sock: socket.socket, implicit: bool) -> None:
        """Begin: with a greeting, or with a TLS handshake (RFC 8314 §3.3)."""
        self.raw = sock
        if implicit:
            self._opener = self.host.spawn(self._shake_hands(sock))
            self._opener.add_done_callback(self._opened)
        else:
            Plain(self.host.loop, sock, self).begin()

    async def _shake_hands(self, sock: socket.socket) -> None:
        self.life.advance(Event.SHAKE_HANDS)
        try:
            await self.secured(sock)
        except OSError as error:
            self._tls_failed(error)

    async def secured(self, sock: socket.socket) -> asyncio.Transport:
        """Shake hands on a socket. Raises OSError if the handshake fails."""
        tls.current.set(self)
        transport, _ = await self.host.loop.connect_accepted_socket(
            lambda: cast("asyncio.Protocol", self),
            sock,
            ssl=self.host.tls_context(),
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=SHUTDOWN,
        )
        return transport

    def _opened(self, opener: asyncio.Task[None]) -> None:
        """The handshake is over; if it failed, so is the connection."""
        self._opener = None
        if not opener.cancelled() and (error := opener.exception()) is not None:
            self.host.failed(error)
        if self.life.fake is OPENING or self.life.fake is HANDSHAKING:
            self.life.advance(Event.LOSE)
            self.raw.close()
            self.host.connection_closed(self.record)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if self.alive:
            self.on_upgrade(transport)
            self._note_tls(transport)
            if self.life.fake is UPGRADING:  # otherwise a script has closed it meanwhile
                self.life.advance(Event.MADE)
            return
        self.transport = transport
        self.life.advance(Event.MADE)
        if transport.get_extra_info("ssl_object") is not None:
            self._note_tls(transport)
        self.on_open(transport)

    def _note_tls(self, transport: asyncio.Transport) -> None:
        self.secure, self._before_tls = True, self.arrivals.count
        self.host.recorder.tls(self.record, version=transport.get_extra_info("ssl_object").version())

    def data_received(self, data: bytes) -> None:
        state = self.life.fake
        if state is CLOSING:
            self._hear(data)
        elif state is STALLED:
            self.host.left_unread(self.record, data)
        else:
            self.on_data(data)

    def leave(self) -> None:
        """The client is leaving: its slots are free."""
        if self.life.leave():
            self.host.client_leaving(self.record)

    def eof_received(self) -> bool:
        self.leave()
        self.life.end()
        if self.life.fake is CLOSING:
            self.end()
            return False
        self.on_client_end()
        # The client may still read. TLS has no half-close.
        return not (self.secure or self.life.fake is UPGRADING)

    def connection_lost(self, error: Exception | None) -> None:
        self.life.advance(Event.LOSE)
        if self._linger is not None:
            self._linger.cancel()
        self.on_lost(error)
        self.wake()
        self.host.connection_closed(self.record, self._failure(error))

    def _failure(self, error: Exception | None) -> Failure | None:
        """What the end of the connection says of the client."""
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return tls.alert(error) or ConnectionLost(str(error))
        if self.secure and self.awaits_client and self.arrivals.count == self._before_tls:
            return HandshakeAbandoned(done=True)
        return None if error is None else ConnectionLost(str(error))

    # ---- closing ---------------------------------------------------------------------------------

    def decided(self) -> None:
        """The fake ends this connection: its slots are free, and the journal says who ended it."""
        if self.record.ended_by is None:
            self.host.recorder.close(self.record, "fake")

    def finish(self, how: Ending, exchange: Exchange) -> None:
        """Close. Replies that were sent before must arrive: see `notnow.servers.base.listener`."""
        self.life.advance(Event.FINISH)
        self.host.recorder.end(exchange, ConnectionClose(how))
        if exchange.reply is None:
            self.host.recorder.tell(exchange)
        self.decided()
        if how == "reset":
            sock = self.transport.get_extra_info("socket")
            if sock is not None:  # the client has left, and asyncio has not told us yet
                listener.reset_on_close(sock)
            self.transport.abort()
        elif how == "abrupt":
            self._hang_up()
        else:
            self._half_close()

    def _hang_up(self) -> None:
        """Close now; in TLS without a close_notify, whose answer asyncio would wait for."""
        if self.secure and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.end()

    def _half_close(self) -> None:
        if unread := self.take_unread():
            self.host.heard_after(self.record, unread, self.arrivals.next(len(unread)), self.words(unread))
        if self.eof:
            self.end()
            return
        self.transport.resume_reading()
        self._lingers_until = self.host.loop.time() + listener.LINGER
        if self.secure:
            self._linger = self.host.call_later_real(QUIET, self.end)
        else:
            self._linger = self.host.loop.call_later(listener.LINGER, self.end)
            try:
                self.transport.write_eof()
            except OSError:  # the client has reset it, and the loop has not told us yet
                self.transport.abort()

    def _hear(self, data: bytes) -> None:
        """The client has sent this after the fake had decided to close."""
        self.host.heard_after(self.record, data, None, self.words(data))
        if self._linger is not None and self.secure:
            self._linger.cancel()
            left = max(0.0, self._lingers_until - self.host.loop.time())
            self._linger = self.host.call_later_real(min(QUIET, left), self.end)

    def end(self) -> None:
        """Close the transport for good; a client that does not read its last bytes is cut off."""
        if self.alive and not self.transport.is_closing():
            self._stop_speaking()
            self.transport.close()
            if self.secure or self.transport.get_write_buffer_size():
                self._linger = self.host.loop.call_later(SHUTDOWN, self.transport.abort)

    def abort(self) -> None:
        """End at once, without a reply."""
        if self.alive:
            self._stop_speaking()
            self.transport.abort()
        elif self._opener is not None:
            self._opener.cancel()

    def _stop_speaking(self) -> None:
        if self.life.fake is not CLOSING:
            self.life.advance(Event.FINISH)

    # ---- what no command has brought about -------------------------------------------------------

    async def perform(self, script: Script, exchange: Exchange) -> None:
        """Carry out a script. Raises Over when the connection has ended."""
        raise NotImplementedError

    def unasked(self, script: Script) -> None:
        """Carry out a script that no command of this client has caused: a phase has begun, or the client is idle."""
        if self.over:
            return
        exchange = self.host.recorder.ask(self.record, script.moment, "", script.phase)
        if self.takes_scripts:
            if script.closes:
                self.life.advance(Event.CONCLUDE)
            self.host.spawn(self._perform_unasked(script, exchange))
        else:
            self._cut_off(script, exchange)
            self.host.loop.call_soon(self._carried_out, script)

    @property
    def takes_scripts(self) -> bool:
        """False while a reply would be lost: before the connection is made, and in a handshake."""
        return self.life.fake.speaks and self.life.fake is not UPGRADING

    async def _perform_unasked(self, script: Script, exchange: Exchange) -> None:
        try:
            await self.perform(script, exchange)
            if exchange.reply is None:
                self.host.recorder.tell(exchange)
        except Over:
            pass
        except Exception as error:
            if not self.is_lost(error):
                self.break_off(error)
        self._carried_out(script)

    def _carried_out(self, script: Script) -> None:
        if script.moment == "idle":
            self.host.feed(Finished(self.record.id))

    def _cut_off(self, script: Script, exchange: Exchange) -> None:
        self.host.recorder.decided(exchange, script)
        if script.closes:
            self.host.recorder.end(exchange)
        self.host.recorder.tell(exchange)
        if script.closes:
            self.decided()
            self.abort()

    def stall(self, exchange: Exchange) -> None:
        self.host.recorder.tell(exchange)
        self.ignore_client()

    def ignore_client(self) -> None:
        """From now on, read what the client sends and drop it, so that its leaving is seen."""
        self.life.advance(Event.STALL)
        if unread := self.take_unread():
            self.host.left_unread(self.record, unread, self.arrivals.next(len(unread)))
        self.transport.resume_reading()

    def dismiss(self) -> bool:
        """The fake stops: say goodbye, if the client waits for nothing else. True if it takes a moment to arrive."""
        if self.over:
            return True
        if not self.takes_scripts or self.life.fake is STALLED:
            return False
        exchange = self.host.recorder.ask(self.record, "enter", "", self.host.phase)
        self.host.recorder.stopped(exchange)
        return self.say_goodbye(exchange)

    def say_goodbye(self, exchange: Exchange) -> bool:
        """Tell the client that the server shuts down, and close. True if that takes a moment."""
        raise NotImplementedError

    def is_lost(self, error: Exception) -> bool:
        """True if this error only says that the connection has ended."""
        return isinstance(error, ConnectionError)

    def break_off(self, error: Exception) -> None:
        """Our own code has failed: this session ends, the others go on."""
        self.host.failed(error)
        self.abort()

    # ---- TLS -------------------------------------------------------------------------------------

    async def upgrade(self) -> None:
        """Switch to TLS after a command that asked for it (RFC 3207 §4, RFC 4217 §4).

        The ClientHello may have arrived already, behind the command or in this turn of the loop. Raises Over if the
        handshake fails, which ends the connection.
        """
        plain = cast("Plain", self.transport)
        self.life.advance(Event.SHAKE_HANDS)
        tls.current.set(self)
        done: asyncio.Future[None] = self.host.loop.create_future()
        layer = SSLProtocol(
            self.host.loop,
            cast("asyncio.Protocol", self),
            self.host.tls_context(),
            done,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=SHUTDOWN,
        )
        try:
            plain.hand_over(layer, handshake_in(self.take_unread()))
            await done
            if not self.secure:  # asyncio sets no error when the connection was aborted
                raise ConnectionAbortedError("the connection was lost")
        except OSError as error:
            self._tls_failed(error)
            self._not_upgraded(plain)
            raise Over from None
        except asyncio.CancelledError:  # the fake stops
            self._not_upgraded(plain)
            raise

    def _not_upgraded(self, plain: Plain) -> None:
        """Report the lost connection below a failed handshake, as asyncio does not."""
        if self.alive:
            self._stop_speaking()
        plain.abort()
        if self.alive:
            self.connection_lost(None)

    def client_hello(self, sni: str | None) -> tuple[ssl.SSLContext | None, str | None]:
        """Answer a ClientHello, which asks for the name `sni`."""
        try:
            return self._client_hello(sni)
        except Exception as error:  # OpenSSL would swallow it
            self.host.failed(error)
            return None, "internal_error"

    def _client_hello(self, sni: str | None) -> tuple[ssl.SSLContext | None, str | None]:
        script = self.host.client_hello(self.record, sni)
        name = alert = None
        end: End | None = None
        for step in script.steps if script else ():
            if isinstance(step, Certify):
                name = step.name
            elif isinstance(step, Alert):
                alert, end = step.name, TLSAlert(step.name)
                self.refusal = f"refused with the alert {alert}"
                tls.send_alert(self.raw, alert)
            elif isinstance(step, Close):
                alert = alert or "internal_error"  # not sent: OpenSSL needs one to end the handshake
                end = end or ConnectionClose(step.how)
                self.refusal = self.refusal or "closed"
                if step.how == "reset":
                    listener.reset_on_close(self.raw)
        label, shown = self.host.certificate_for(name, sni)
        if self.record.tls is not None and alert is None:
            self.certificate_name = label
            self.host.recorder.tls(self.record, certificate=label, defects=tls.defects(shown, sni))
        if script is not None and script.rule:
            self._journal_hello(script, sni, end)
        return (self.host.tls_context(shown), None) if alert is None else (None, alert)

    def _journal_hello(self, script: Script, sni: str | None, end: End | None) -> None:
        exchange = self.host.recorder.ask(self.record, "tls", sni or "", script.phase)
        self.host.recorder.decided(exchange, script)
        if end is not None:
            self.host.recorder.end(exchange, end)
        self.host.recorder.tell(exchange)
        if end is not None:
            self.decided()

    def _tls_failed(self, error: BaseException) -> None:
        why = self.refusal or getattr(error, "reason", None) or str(error) or type(error).__name__
        self.host.recorder.tls(self.record, error=why)
        failure = HandshakeFailed(why) if self.refusal or self.over else tls.failure(error)
        self.host.recorder.failed(self.record, failure)
        if isinstance(error, ssl.SSLError) and isinstance(failure, HandshakeFailed):
            self.decided()


def handshake_in(data: bytes) -> bytes:
    """The part that TLS reads of the bytes behind STARTTLS or AUTH TLS.

    Commands there came in plain text, perhaps from an attacker, and are dropped (RFC 3207 §4.2, RFC 4217 §10.1;
    CVE-2011-0411 is about servers that carried them out). A handshake begins with a record of type 22 (RFC 8446 §5.1),
    and no command begins with that byte.
    """
    while data and data[0] != HANDSHAKE_RECORD:
        data = data.partition(b"\n")[2]
    return data
