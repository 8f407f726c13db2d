"""TLS on a connection: the handshake, from its first byte or after a command, and what rules do in it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from typing import cast

from notnow.engine.actions import Alert, Certify, Close, Script
from notnow.journal import ConnectionClose, End, HandshakeFailed, TLSAlert
from notnow.servers.base import listener, tls
from notnow.servers.base.closing import SHUTDOWN, Closing
from notnow.servers.base.life import Event, Over
from notnow.servers.base.transport import Plain, tells_once

HANDSHAKE = 30  # real seconds that a TLS handshake may take
HANDSHAKE_RECORD = 22  # the first byte of a ClientHello on the wire


class Layer(SSLProtocol):
    """asyncio's TLS over a `Plain`, with a smaller buffer: asyncio's own is 256 KiB for each connection, idle ones too."""

    max_size = 32_768  # bytes that are read at a time: two TLS records


class Handshakes(Closing):
    """The part of a connection that shakes hands."""

    refusal: str | None = None  # how a rule ended the handshake
    shown: tls.Shown | None = None  # the certificate of its TLS, whatever scenario plays later
    _before_tls: int = 0  # bytes that had arrived then

    def connection_lost(self, error: Exception | None) -> None:
        """There is no transport any more."""
        raise NotImplementedError

    async def _shake_hands(self, sock: socket.socket) -> None:
        self.life.advance(Event.SHAKE_HANDS)
        try:
            await self.secured(sock)
        except OSError as error:
            self._tls_failed(error)

    async def secured(self, sock: socket.socket) -> None:
        """Shake hands on a socket. Raises OSError if the handshake fails."""
        tls.current.set(self)
        if tells_once(self.host.loop):
            await self._secured_by_loop(sock)
            return
        done: asyncio.Future[None] = self.host.loop.create_future()
        plain = Plain(self.host.loop, sock, self._layer(done))
        try:
            plain.begin()
            await done
        except BaseException:
            plain.abort()
            raise

    async def _secured_by_loop(self, sock: socket.socket) -> None:
        """The same, by uvloop, whose TLS is in C."""
        await self.host.loop.connect_accepted_socket(
            lambda: cast("asyncio.Protocol", self),
            sock,
            ssl=self.host.tls_context(),
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=SHUTDOWN,
        )

    def _layer(self, done: asyncio.Future[None]) -> Layer:
        """TLS for this connection; `done` gets the outcome of the handshake."""
        return Layer(
            self.host.loop,
            cast("asyncio.Protocol", self),
            self.host.tls_context(),
            done,
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE,
            ssl_shutdown_timeout=SHUTDOWN,
        )

    def _note_tls(self, transport: asyncio.Transport) -> None:
        self.secure, self._before_tls = True, self.arrivals.count
        self.host.recorder.tls(self.record, version=transport.get_extra_info("ssl_object").version())

    async def upgrade(self) -> None:
        """Switch to TLS after a command that asked for it (RFC 3207 §4, RFC 4217 §4).

        The ClientHello may have arrived already, behind the command or in this turn of the loop. Raises Over if the
        handshake fails, which ends the connection.
        """
        plain = cast("Plain", self.transport)
        self.life.advance(Event.SHAKE_HANDS)
        tls.current.set(self)
        done: asyncio.Future[None] = self.host.loop.create_future()
        try:
            plain.hand_over(self._layer(done), handshake_in(self.take_unread()))
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
        label, self.shown = self.host.certificate_for(name, sni)
        if self.record.tls is not None and alert is None:
            self.host.recorder.tls(self.record, certificate=label, defects=tls.defects(self.shown, sni))
        if script is not None and script.rule:
            self._journal_hello(script, sni, end)
        return (self.host.tls_context(self.shown), None) if alert is None else (None, alert)

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
