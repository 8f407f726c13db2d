"""A live connection below its protocol: its transport, and scripts that no command has caused.

Every adapter's connection is a `LiveConnection`. Its subclass serves the protocol, with a coroutine that input carries on, a
line parser or an HTTP stack, and implements the hooks below.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import cast

from notnow.engine.actions import Script
from notnow.engine.events import Finished
from notnow.journal import (
    ConnectionLost,
    Exchange,
    Failure,
    HandshakeAbandoned,
)
from notnow.servers.base import tls
from notnow.servers.base.handshake import Handshakes
from notnow.servers.base.life import CLOSING, HANDSHAKING, OPENING, STALLED, UPGRADING, Event, Over
from notnow.servers.base.transport import Plain


class LiveConnection(Handshakes):
    """The connection of a session."""

    exchange: Exchange  # of the client's last command
    opening: Script

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

    @property
    def awaits_client(self) -> bool:
        """It is the client's turn to speak."""
        raise NotImplementedError

    # ---- the transport ---------------------------------------------------------------------------

    def open(self, sock: socket.socket, implicit: bool) -> None:
        """Begin: with a greeting, or with a TLS handshake (RFC 8314 §3.3)."""
        self.raw = sock
        if implicit:
            self._opener = self.host.spawn(self._shake_hands(sock))
            self._opener.add_done_callback(self._opened)
        else:
            Plain(self.host.loop, sock, self).begin()

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
        if self._below is not None:
            self.host.drain(self._below)
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
        super().stall(exchange)
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
