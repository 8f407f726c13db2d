"""A connection on its way out: where it is in its life, and the ways in which the fake ends it."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from notnow.engine.actions import Ending
from notnow.journal import Connection, ConnectionClose, Exchange
from notnow.servers.base import listener
from notnow.servers.base.arrivals import Arrivals
from notnow.servers.base.hanging import Hanging
from notnow.servers.base.life import CLOSED, CLOSING, Client, Event, Life, Over

QUIET = 0.05  # real seconds without a byte until a TLS client gets the end of TLS: it has no half-close
SHUTDOWN = 1.0  # real seconds that a client has to read its last bytes


class Closing(Hanging):
    """The part of a connection that closes it."""

    departure = Over
    record: Connection
    transport: asyncio.Transport
    raw: socket.socket  # the socket below TLS, which a handshake may have to reset
    life: Life
    secure: bool = False  # in TLS
    arrivals: Arrivals
    _linger: asyncio.TimerHandle | None = None
    _lingers_until: float = 0.0  # in TLS
    _heard: bool = False  # the client has sent something since the timer was set
    _below: socket.socket | None = None  # the socket below a TLS that ends; it stays open behind it
    _opener: asyncio.Task[None] | None = None  # until the connection is made

    def take_unread(self) -> bytes:
        """Take the bytes that have arrived and were not processed, and return them."""
        raise NotImplementedError

    def words(self, _data: bytes) -> bytes | None:
        """What bytes that arrive after the close mean, for the journal; None if they are text. Called once for each."""
        return None

    # ---- where it is in its life -----------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """There is a transport."""
        return self.life.fake.alive

    @property
    def may_speak(self) -> bool:
        """A reply may be sent."""
        return self.life.fake.speaks

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
        if not self.secure:
            self._send_fin()
        elif not self.host.shutting:
            self._lingers_until = self.host.loop.time() + listener.LINGER
            self._next_look(self.host.call_later_real(QUIET, self._end_tls))

    def _send_fin(self) -> None:
        if not self.host.shutting:
            self._linger_on(listener.PERIODS)
        try:
            self.transport.write_eof()
        except OSError:  # the client has reset it, and the loop has not told us yet
            self.transport.abort()

    def _hear(self, data: bytes) -> None:
        """The client has sent this after the fake had decided to close."""
        self.host.heard_after(self.record, data, None, self.words(data))
        self._heard = True
        if self._linger is not None and self.secure:
            left = max(0.0, self._lingers_until - self.host.loop.time())
            self._next_look(self.host.call_later_real(min(QUIET, left), self._end_tls))

    def _next_look(self, timer: asyncio.TimerHandle) -> None:
        """Wait for this timer, and for no other: one that nobody cancels would outlive the connection."""
        if self._linger is not None:
            self._linger.cancel()
        self._linger = timer

    def _linger_on(self, periods: int) -> None:
        """Wait for a client that still sends, or has not read what is there, at most so many times `LINGER`."""
        self._heard = False
        self._next_look(self.host.loop.call_later(listener.LINGER, self._lingered, periods - 1))

    def _lingered(self, periods: int) -> None:
        if periods and (self._heard or self.transport.get_write_buffer_size()):
            self._linger_on(periods)
        else:
            self.end()

    def _end_tls(self) -> None:
        """End TLS, and keep the socket below it open: asyncio closes its own as soon as the client sends something further,
        which would reset the connection of a slow client before it has read its last reply.
        """
        if self.alive and not self.transport.is_closing():
            with contextlib.suppress(OSError):  # no file descriptor is left, or the client has reset it
                self._below = self.raw.dup()
        self.end()

    def end_if_quiet(self) -> None:
        """The fake shuts, and a moment has passed since the goodbye: end TLS, if the client has not sent anything in it."""
        if self.secure and self.over and self._linger is None and not self._heard:
            self.transport.pause_reading()  # asyncio would read once more first: an eighth of the work, and nothing is there
            self.end()
        self._heard = False

    def end(self) -> None:
        """Close the transport for good; a client that does not read its last bytes is cut off."""
        if self.alive and not self.transport.is_closing():
            self._stop_speaking()
            self.transport.close()
            waits = self.secure or self.transport.get_write_buffer_size()
            if waits and not self.host.shutting:  # a fake that shuts cuts them all off
                self._next_look(self.host.loop.call_later(SHUTDOWN, self.transport.abort))

    def abort(self) -> None:
        """End at once, without a reply."""
        if self.alive:
            self._stop_speaking()
            self.transport.abort()
            if self._below is not None:
                self._below.close()
                self._below = None
        elif self._opener is not None:
            self._opener.cancel()

    def _stop_speaking(self) -> None:
        if self.life.fake is not CLOSING:
            self.life.advance(Event.FINISH)
