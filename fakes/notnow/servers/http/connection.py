"""One HTTP connection: its beginning, its protocol, the bytes that come and go, and its end."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Self

from hypercorn.events import Closed, RawData, Updated

from notnow.bounds import HTTP_WAITING
from notnow.engine.actions import (
    BEHAVE,
    Close,
    Ending,
    Hang,
    Respond,
    Response,
    Script,
    Wait,
)
from notnow.engine.events import Heard
from notnow.journal import (
    Arrival,
    Connection,
    Exchange,
    GoAwayFrame,
    MalformedRequest,
    ProtocolViolation,
    RstStreamFrame,
)
from notnow.servers.base.arrivals import Arrivals
from notnow.servers.base.connection import LiveConnection
from notnow.servers.base.life import CONCLUDING, DRAINING, STALLED, Client, Event, Life, Over
from notnow.servers.base.transport import Plain
from notnow.servers.base.turns import Turn
from notnow.servers.http import frames
from notnow.servers.http.host import AppHost
from notnow.servers.http.http2 import H2
from notnow.servers.http.http11 import H11
from notnow.servers.http.interfaces import HTTPProtocol, Work
from notnow.servers.http.overheard import Overheard
from notnow.servers.http.stream import Stream
from notnow.servers.http.switch import Switch


class HTTPConnection(LiveConnection):
    """The connection of an HTTP session."""

    host: AppHost
    switch: Switch | None = None
    cap: int  # streams at a time
    names: tuple[str, ...] = ()  # in the certificate that was shown
    standing: Response | None = None  # a rule at `connect` answers every request with this
    unserved: Hang | Close | None = None  # a rule at `connect` does this in place of serving
    last: int | None = None  # of a GOAWAY: streams above it are not served
    farewell: bool = False  # the final GOAWAY has been sent
    turn: Turn
    live: dict[int, Stream]  # the requests under way
    _inbox: bytearray
    _pauses: set[asyncio.Future[None]]  # waits of rules
    closes_later: int = 0  # waits of rules that close the connection after them
    _news: asyncio.Event  # bytes have arrived, or the connection has ended
    _writable: asyncio.Event
    _handling: bool = False  # the protocol reads what has arrived
    _waited: Arrival | None = None  # since then, if it had to wait
    _overheard: Overheard | None = None
    _server: asyncio.Task[None] | None = None

    @classmethod
    def adopt(cls, host: AppHost, record: Connection, greeting: Exchange, script: Script) -> Self:
        """A new session for a connection; `script` is the engine's at `connect`."""
        new = cls()
        new.life = Life()
        new.host, new.record, new.exchange, new.opening = host, record, greeting, script
        new.live, new._inbox, new._pauses = {}, bytearray(), set()
        new.turn, new.arrivals = Turn(host.turns), Arrivals(host.recorder)
        new.cap = host.max_streams
        new._news, new._writable = asyncio.Event(), asyncio.Event()
        new._writable.set()
        return new

    @property
    def awaits_client(self) -> bool:
        return True

    def words(self, data: bytes) -> bytes | None:
        if isinstance(self._protocol, H2):
            self._overheard = self._overheard or Overheard(self._protocol.connection)
            return self._overheard.requests(data)
        return None

    # ---- its beginning ---------------------------------------------------------------------------

    def open(self, sock: socket.socket, implicit: bool) -> None:
        if self.opening.steps is BEHAVE:
            super().open(sock, implicit)
        else:
            self.raw = sock
            self._opener = self.host.spawn(self._open(sock, implicit))
            self._opener.add_done_callback(self._opened)

    async def _open(self, sock: socket.socket, implicit: bool) -> None:
        """Begin as the rule says: late, or never. Its answer and its close come with the requests."""
        for step in self.opening.steps:
            if isinstance(step, Wait):
                await self.host.sleep(step.seconds)
            elif isinstance(step, Respond):
                self.standing = step.response
            elif isinstance(step, Hang) or (isinstance(step, Close) and self.standing is None):
                self.unserved = step
                Plain(self.host.loop, sock, self).begin()
                return
        if implicit:
            await self._shake_hands(sock)
        else:
            Plain(self.host.loop, sock, self).begin()

    def on_open(self, transport: asyncio.Transport) -> None:
        match self.unserved:
            case Hang():
                self.stall(self.exchange)
                return
            case Close(how):
                self.finish(how, self.exchange)
                return
        wrapped = transport.get_extra_info("ssl_object")
        alpn = wrapped.selected_alpn_protocol() if wrapped is not None else None
        if self.record.tls is not None:
            self.host.recorder.tls(self.record, alpn=alpn)
            assert self.shown is not None, "a handshake ends with a certificate"
            self.names = self.shown.names
        self.switch = Switch(self, alpn)
        self._server = self.spawn(partial(self._serve, self.switch))

    async def give_way(self) -> None:
        """Let other connections have their turn. Raises Over if this one has ended meanwhile."""
        await self.turn.end()
        if not self.may_speak:
            raise Over

    def spawn(self, work: Work) -> asyncio.Task[None]:
        """Begin a task of this connection. An error of ours ends the connection, and `stop` raises it."""
        return self.host.spawn(self._guarded(work))

    async def _guarded(self, work: Work) -> None:
        try:
            await work()
        except Over:
            pass
        except Exception as error:
            if not isinstance(error, ConnectionError):
                self.host.failed(error)
            self.abort()

    # ---- hooks of LiveConnection -----------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        self.arrivals.came(data, self._handling or (bool(self.live) and isinstance(self._protocol, H11)))
        self._inbox += data
        self._news.set()
        if len(self._inbox) > HTTP_WAITING:
            self.transport.pause_reading()

    def on_client_end(self) -> None:
        self._news.set()
        if self.life.fake is STALLED:
            self.end()
        for stream in self.live.values():
            stream.stir()  # an app that waits for more gets a disconnect
            stream.wake()

    def on_lost(self, _error: Exception | None) -> None:
        if self._server is not None:
            self._server.cancel()
        self._writable.set()
        for future in self._pauses:
            future.cancel()
        for stream in list(self.live.values()):
            stream.lost()
        if self.switch is not None:
            self.spawn(self.switch.end)

    def take_unread(self) -> bytes:
        taken = bytes(self._inbox)
        self._inbox.clear()
        return taken

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- reading and writing ---------------------------------------------------------------------

    async def _serve(self, switch: Switch) -> None:
        await switch.initiate()
        while self.may_speak:
            if self._inbox:
                self.turn.begin()
                self._handling = True
                self._waited = self.arrivals.next(len(self._inbox))
                try:
                    await switch.handle(self.take_unread())
                finally:  # Over ends this task: then, too, the connection is to close
                    self._handling = False
                    self._close_if_done()
                if self.may_speak:
                    self.transport.resume_reading()
            elif self.eof and not self._unfinished():
                self.end()
                return  # the transport may be closing already: then it is not `over` yet
            else:
                self._news.clear()
                await self._news.wait()

    def _unfinished(self) -> bool:
        """The client has ended its side: drop its incomplete requests. True if it still waits for an answer."""
        for stream in [stream for stream in self.live.values() if not stream.complete]:
            stream.lost()
        return bool(self.live)

    async def send(self, event: RawData | Closed | Updated) -> None:
        """Send bytes of the protocol; `Closed`: the protocol ends the connection."""
        if isinstance(event, RawData):
            if self.may_speak:
                self.transport.write(event.data)
                await self._writable.wait()
        elif isinstance(event, Closed):
            self._protocol_ended()

    def _protocol_ended(self) -> None:
        if self.record.failure is not None:  # the client has broken the protocol
            for stream in list(self.live.values()):
                stream.lost()
        elif self.life.fake is CONCLUDING and isinstance(self._protocol, H11):
            self.ignore_client()  # until the script closes: the last answer said "close" (RFC 9112 §9.6)
            return
        elif not self.ending:
            self.leave()  # by a GOAWAY of its own, or "Connection: close"
        self.drain()
        self.ended_one()

    def drain(self) -> None:
        """Serve no further request, and close once those under way are answered."""
        if self.life.fake.speaks:
            self.life.advance(Event.DRAIN)

    def broken(self, how: ProtocolViolation) -> None:
        """The client has broken the protocol, which ends the connection with an error."""
        self.host.recorder.failed(self.record, how)
        if isinstance(self._protocol, H2):
            self.host.recorder.goaway(self.record, GoAwayFrame(how.code, self._protocol.highest))

    def malformed(self, number: int, said: str, why: str, code: str) -> None:
        """An HTTP/2 request, or a frame of it, is malformed: only its stream ends (RFC 9113 §5.4.2)."""
        stream = self.live.get(number)
        if stream is None:
            exchange = self.host.recorder.ask(self.record, "malformed", said, self.host.phase)
            self.host.recorder.facts(exchange, MalformedRequest(number, why))
        else:
            exchange = stream.exchange
            stream.note(malformed=why)
        self.host.recorder.frame(exchange, RstStreamFrame(code, number))
        self.host.feed(Heard(self.record.id))

    def note_arrival(self, exchange: Exchange) -> None:
        """A request has been read: note when it arrived, if it had to wait for its turn."""
        protocol = self._protocol
        if isinstance(protocol, H11):
            self.arrivals.stamp(exchange, len(self._inbox) + protocol.unread)
        elif self._waited is not None:
            self.host.recorder.arrived(exchange, self._waited)

    def stream(self, protocol: HTTPProtocol, number: int) -> Stream:
        """A request begins."""
        raise NotImplementedError

    # ---- closing ---------------------------------------------------------------------------------

    def ended_one(self) -> None:
        """A request has ended: close, if it was the last and no further one is wanted."""
        self._news.set()
        if self.life.fake is DRAINING and not self.live:
            unread = self._handling and isinstance(self._protocol, H2)  # streams that have arrived are answered first
            if not unread:
                self.host.loop.call_soon(self._close_if_done)

    def _close_if_done(self) -> None:
        if self.life.fake is DRAINING and not self.live and not self.closes_later:
            if self.life.client is not Client.TALKING:
                self._stop_speaking()
                self._half_close()
            else:
                how: Ending = next((step.how for step in self.opening.steps if isinstance(step, Close)), "fin")
                self.part(how, self.exchange)

    async def pause(self, seconds: float) -> None:
        """Wait for seconds of scenario time. Raises Over if the connection ends meanwhile."""
        future = self.host.sleep(seconds)
        self._pauses.add(future)
        try:
            await future
        except asyncio.CancelledError:
            if self.alive:
                raise
            raise Over from None
        finally:
            self._pauses.discard(future)

    @property
    def takes_scripts(self) -> bool:
        return super().takes_scripts and self.life.fake is not STALLED

    @property
    def _protocol(self) -> H2 | H11 | None:
        return self.switch.protocol if self.switch is not None else None

    def part(self, how: Ending, exchange: Exchange) -> None:
        """Close."""
        if how == "fin":
            self._take_leave(exchange)
        if self.may_speak:
            self.finish(how, exchange)

    def _take_leave(self, exchange: Exchange) -> None:
        """Over HTTP/2, send a GOAWAY that names the last served stream, unless one was sent. Wait for no client."""
        protocol = self._protocol
        if isinstance(protocol, H2):
            said = self.farewell or self.record.failure is not None
            real = protocol.highest if self.last is None else min(protocol.highest, self.last)
            last = b"" if said else frames.go_away(real, "NO_ERROR")
            if not said:
                self.host.recorder.goaway(self.record, GoAwayFrame("NO_ERROR", real), exchange)
            self.transport.write(protocol.connection.data_to_send() + last)

    def say_goodbye(self, exchange: Exchange) -> bool:
        """HTTP/2 has a GOAWAY for it. Clients whose answer is under way get what has been sent so far."""
        self._take_leave(exchange)
        busy = any(not stream.hangs for stream in self.live.values()) or self.transport.get_write_buffer_size() > 0
        if busy:
            self.finish("fin", exchange)
        else:
            self._stop_speaking()
            self.host.recorder.tell(exchange)
            self.decided()
        return busy
