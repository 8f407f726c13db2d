"""One HTTP connection: TLS with its names, the protocol that is spoken, and the streams on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self, assert_never

from notnow.actions import (
    Alert,
    AltSvc,
    Certify,
    Close,
    EndData,
    GoAway,
    Hang,
    Origin,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Script,
    Send,
    Wait,
    Watch,
)
from notnow.engine import BEHAVE
from notnow.journal import Connection, Exchange
from notnow.servers._plain import Plain
from notnow.servers._wire import Over, Wire
from notnow.servers.http import frames
from notnow.servers.http.stack import H2, H11, Closed, RawData, Switch, Updated
from notnow.servers.http.stream import Stream

if TYPE_CHECKING:
    from notnow.servers.http.fake import FakeHTTP

MOST_WAITING = 262_144  # bytes that may wait while others are handled
Behave = Callable[[Response | None, float], Awaitable[None]]


class HTTPConnection(Wire):
    """A live HTTP connection of a fake."""

    fake: FakeHTTP
    switch: Switch
    names: tuple[str, ...] = ()  # of the certificate that it has shown
    standing: Response | None = None  # the answer to every request, that a rule at `connect` has given
    last: int | None = None  # of a GOAWAY: streams above it are not served
    closing: bool = False  # no further request is wanted: it closes when none is under way
    live: dict[int, Stream]  # the requests under way

    @classmethod
    def adopt(cls, fake: FakeHTTP, record: Connection, greeting: Exchange, script: Script) -> Self:
        """A new session for a connection; `script` is what the engine has said at `connect`."""
        new = cls()
        new.fake, new.record, new.exchange, new.opening = fake, record, greeting, script
        new.live, new._inbox = {}, bytearray()
        new._news, new._writable = asyncio.Event(), asyncio.Event()
        new._writable.set()
        return new

    _inbox: bytearray
    _news: asyncio.Event  # something has come, or it is over
    _writable: asyncio.Event
    _tasks = 0

    # ---- its beginning ---------------------------------------------------------------------------

    def open(self, sock: socket.socket, implicit: bool) -> None:
        self.raw, self.implicit = sock, implicit
        if self.opening.steps is BEHAVE:
            self.exchange.phase = self.opening.phase
            super().open(sock, implicit)
        else:
            self.fake.spawn(self._open(sock, implicit))

    async def _open(self, sock: socket.socket, implicit: bool) -> None:
        """Begin as a rule wants it: late, or never; what it answers and how it ends comes with the requests."""
        script = self.opening
        self.exchange.phase, self.exchange.rule, self.exchange.fault = script.phase, script.rule, script.fault
        for step in script.steps:
            if isinstance(step, Wait):
                await self.fake.sleep(step.seconds)
            elif isinstance(step, Hang):
                self.hanging = True
                Plain(self.fake.loop, sock, self).begin()
                return
            elif isinstance(step, Respond):
                self.standing = step.response
            elif isinstance(step, Close) and self.standing is None:
                Plain(self.fake.loop, sock, self).begin()
                self.finish(step.how, self.exchange)
                return
        super().open(sock, implicit)

    def begun(self, transport: asyncio.Transport) -> None:
        if self.hanging:
            self.fake.journal.tell(self.exchange)
            return
        wrapped = transport.get_extra_info("ssl_object")
        alpn = wrapped.selected_alpn_protocol() if wrapped is not None else None
        if self.record.tls is not None:
            self.record.tls.alpn = alpn
            self.names = self.fake.shown(self.shown, self.record.tls.sni)[1].names
        client, server = (self.record.client, self.record.peer_port), (self.fake.host, self.fake.port)
        self.switch = Switch(self, alpn, self.secure, client, server, self.fake.scenario.server.max_streams)
        self.spawn(self._serve())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something for this connection. An error of ours ends it, and is told."""
        self.fake.spawn(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Over:
            pass
        except Exception as error:
            if not isinstance(error, ConnectionError):
                self.fake.failed(error)
            self.abort()

    # ---- the hooks of a wire ---------------------------------------------------------------------

    def came(self, data: bytes) -> None:
        self._inbox += data
        self._news.set()
        if len(self._inbox) > MOST_WAITING:
            self.transport.pause_reading()

    def ended(self) -> None:
        self._news.set()
        if self.hanging:
            self.end()

    def lost(self, error: Exception | None) -> None:
        self._news.set()
        self._writable.set()

    def unread(self) -> bytes:
        taken = bytes(self._inbox)
        self._inbox.clear()
        return taken

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- reading and writing ---------------------------------------------------------------------

    async def _serve(self) -> None:
        await self.switch.initiate()
        while self.alive and not self.over:
            if self._inbox:
                await self.switch.handle(self.unread())
                if self.alive and not self.over:
                    self.transport.resume_reading()
            elif self.eof and not self.live:
                break
            else:
                self._news.clear()
                await self._news.wait()
        await self.switch.end()
        if self.alive and not self.over:
            self.end()

    async def send(self, event: RawData | Closed | Updated) -> None:
        """What the protocol has to say, or that it sees the end of the connection."""
        if isinstance(event, RawData):
            if self.alive and not self.over:
                self.transport.write(event.data)
                await self._writable.wait()
        elif isinstance(event, Closed) and self.alive and not self.over:
            self.over = True
            self.decided()
            self._half_close()

    def broken(self, error: Exception) -> None:
        """The client does not keep to the protocol: it has been told so, and that is the end."""
        self.record.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

    async def drained(self) -> None:
        """Everything has been handed to the system."""
        await self._writable.wait()

    def stream(self, protocol: H2 | H11, number: int) -> Stream:
        return Stream(self, protocol, number)

    # ---- requests --------------------------------------------------------------------------------

    async def turned_away(self, stream: Stream) -> bool:
        """True if a request is not for the engine: the connection has an answer for all, or takes no more."""
        if self.last is not None and stream.number > self.last:
            stream.exchange.fault = "goaway"
            self.fake.journal.answer(stream.exchange, "RST_STREAM REFUSED_STREAM")
            await stream.refuse()
            return True
        if self.standing is None:
            return False
        script, exchange = self.opening, stream.exchange
        exchange.phase, exchange.rule, exchange.fault = script.phase, script.rule, script.fault
        self.closing = True
        await stream.respond(self.standing)
        return True

    def ended_one(self) -> None:
        """A request is over: if it was the last one, so may be the connection."""
        self._news.set()
        if self.closing and not self.live and self.alive and not self.over:
            self.fake.loop.call_soon(self._close)

    def _close(self) -> None:
        if not self.live and self.alive and not self.over:
            self.finish("fin", self.exchange)

    # ---- doing what the engine says --------------------------------------------------------------

    async def perform(  # noqa: C901 (a case for each action)
        self, script: Script, exchange: Exchange, stream: Stream | None = None, behave: Behave | None = None
    ) -> None:
        """Carry out a script, for a request or for the connection; to behave is to let the app answer."""
        exchange.phase, exchange.rule, exchange.fault = script.phase, script.rule, script.fault
        for step in script.steps:
            if self.over or not self.alive:
                raise Over
            match step:
                case Proceed(instead, drip):
                    if behave is not None:
                        assert not isinstance(instead, tuple), "reply lines are not HTTP's"
                        await behave(instead, drip)
                case Respond(response, drip):
                    assert stream is not None, "where nothing was asked there is nothing to answer"
                    await stream.respond(response, drip, exchange)
                case Wait(seconds):
                    await self.fake.sleep(seconds)
                case Hang():
                    assert stream is not None
                    await stream.hang(exchange)
                case Watch(size):
                    assert stream is not None
                    stream.watch = size
                case ResetStream(code):
                    await self._reset(code, exchange, stream)
                case GoAway(code, last):
                    await self._go_away(code, last, exchange, stream)
                case AltSvc(value):
                    await self._alt_svc(value, exchange, stream)
                case Origin(origins):
                    await self._frame(frames.origin(origins), f"ORIGIN {' '.join(origins)}", exchange)
                case Close(how):
                    await self.part(how, exchange)
                    raise Over
                case Send() | EndData() | Certify() | Alert():
                    raise AssertionError(f"{step} is not for HTTP here")
                case _:
                    assert_never(step)

    def unasked(self, script: Script) -> None:
        """A script that no request has brought about: a phase, a silence."""
        exchange = self.fake.journal.ask(self.record, script.moment, "", script.phase)
        if self.alive and not self.handshaking and not self.hanging:
            self.spawn(self.perform(script, exchange))
            return
        exchange.rule, exchange.fault, exchange.closed = script.rule, script.fault, script.closes
        self.fake.journal.tell(exchange)
        if script.closes:
            self.decided()
            self.abort()

    async def _reset(self, code: str, exchange: Exchange, stream: Stream | None) -> None:
        for one in [stream] if stream is not None else list(self.live.values()):
            await one.reset(code, exchange)

    async def _go_away(self, code: str, last: int | str, exchange: Exchange, stream: Stream | None) -> None:
        """GOAWAY: streams above the last are not served, and when the others are through the connection closes."""
        self.closing = True
        protocol = self.switch.protocol
        if not isinstance(protocol, H2):
            return  # HTTP/1.1 says "Connection: close" with its next answer
        number = protocol.highest if stream is None else stream.number
        self.last = last if isinstance(last, int) else max(0, number - 2) if last == "previous" else protocol.highest
        await self._frame(frames.go_away(self.last, code), f"GOAWAY {code}, last stream {self.last}", exchange)
        for one in [one for one in self.live.values() if one.number > (self.last or 0)]:
            one.drop()
        self.ended_one()

    async def _alt_svc(self, value: str, exchange: Exchange, stream: Stream | None) -> None:
        sni = self.record.tls.sni if self.record.tls is not None else None
        origin = (
            ""
            if stream is not None
            else f"{'https' if self.secure else 'http'}://{sni or self.fake.host}:{self.fake.port}"
        )
        raw = frames.alt_svc(stream.id if stream is not None else 0, value, origin)
        if not await self._frame(raw, f"ALTSVC {value}", exchange) and stream is not None:
            stream.added.append(("alt-svc", value))  # HTTP/1.1 has a header for it

    async def _frame(self, raw: bytes, what: str, exchange: Exchange) -> bool:
        """Send a frame behind all that waits to be sent. False on HTTP/1.1, which has none."""
        protocol = self.switch.protocol
        if not isinstance(protocol, H2):
            return False
        self.fake.journal.answer(exchange, what)
        await protocol.flush(raw)
        return True

    async def part(self, how: str, exchange: Exchange) -> None:
        """Close: on HTTP/2 with a GOAWAY that says which streams have been served."""
        protocol = self.switch.protocol
        if how == "fin" and isinstance(protocol, H2):
            await protocol.flush(frames.go_away(protocol.highest, "NO_ERROR"))
        self.finish(how, exchange)

    def dismiss(self) -> bool:
        """The fake stops: who is idle is told on HTTP/2, and who is not may have the rest of its answer."""
        if self.over or not self.alive or self.handshaking or self.hanging:
            return self.over
        protocol = self.switch.protocol
        if isinstance(protocol, H2):
            self.transport.write(protocol.connection.data_to_send() + frames.go_away(protocol.highest, "NO_ERROR"))
        exchange = self.fake.journal.ask(self.record, "enter", "", self.fake.phase)
        exchange.fault = "stopped"
        busy = bool(self.live)
        self.finish("fin", exchange)
        return busy
