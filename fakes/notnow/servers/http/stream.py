"""One request on a connection, from its head to the last byte of the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from hypercorn.protocol import events

from notnow.clock import Reading
from notnow.engine.actions import Response, Script
from notnow.engine.events import Answered, Ended, Heard, Reached
from notnow.http_words import status_line
from notnow.journal import Exchange, ExcludedByGoAway, RstStreamFrame
from notnow.servers.base.hanging import Hanging
from notnow.servers.base.life import Over
from notnow.servers.http.answer import Answer, dated, is_tunnel, told, whole
from notnow.servers.http.body import Body
from notnow.servers.http.facts import known, recorded
from notnow.servers.http.frames import CODES
from notnow.servers.http.head import Head
from notnow.servers.http.host import AppHost
from notnow.servers.http.interfaces import Carrier, Fields, Gone, Headers, HTTPProtocol, Work, failures


class Stream(Hanging):
    """A request and its answer.

    The journal has a `Request` for it, which is brought up to date as the bodies pass.
    """

    host: AppHost
    idle = False  # hypercorn reads it
    departure = Gone
    exchange: Exchange
    head: Head
    known: Mapping[str, Any] = {}  # the facts that rules may test
    held = False  # a rule acts in the middle of the body, and the app waits
    complete = False  # all of the request has arrived
    gone = False  # the client no longer waits
    over = False
    lasts = False  # the request holds a slot: tell the engine when it ends
    _sent = 0
    _length: int | None = None  # of the answer's body, if its head says
    _status: int | None = None  # set once the head of the answer is sent
    _news: asyncio.Event | None = None  # made where an app waits for it

    def __init__(self, connection: Carrier[Stream], protocol: HTTPProtocol, number: int) -> None:
        self.connection, self.protocol, self.number = connection, protocol, number
        self.host = connection.host
        self.watches: dict[str, int] = {}  # moment -> bytes of that body until `Reached`
        self.body = Body()  # of the request
        self.added: list[tuple[bytes, bytes]] = []  # headers that rules add to the answer

    # ---- the request -----------------------------------------------------------------------------

    async def begin(self, head: Head, complete: bool = False) -> None:
        """The head of the request has arrived; `complete`: it is all of the request."""
        self.head, self.complete = head, complete
        self.known = known(head, self.connection)
        self.connection.live[self.number] = self
        try:
            await self.connection.asked(self)
        except Gone:
            self._left()

    def record(self, read: Reading) -> None:
        """Put the request on record before it is answered; it was read at this time."""
        head, record, phase = self.head, self.connection.record, self.host.phase
        facts = recorded(self.number, head.record, self.known)
        self.exchange = self.host.recorder.ask(record, "request", head.line, phase, facts=facts, read=read)
        self.connection.note_arrival(self.exchange)

    async def serve(self, script: Script, answer: Answer, read: Reading) -> None:
        """Put the request on record with this answer, which fits, and send that."""
        recorder, record, line = self.host.recorder, self.connection.record, self.head.line
        facts = recorded(self.number, answer.record, self.known)
        self.exchange = recorder.served(record, line, read, script, answer.line, facts)
        self.connection.note_arrival(self.exchange)
        recorder.tell(self.exchange)
        self._status, self._length, self._sent = answer.status, facts.length, facts.sent
        await self._send_whole(answer.status, answer.headers, answer.shown, waiting=False, before=None)

    def note(self, **known: object) -> None:
        """Put more facts of the request on record."""
        self.host.recorder.more(self.exchange, **known)

    def spawn(self, work: Work) -> None:
        """Begin a task of this request, which ends when the client no longer waits."""
        self.connection.spawn(partial(self._guarded, work))

    async def _guarded(self, work: Work) -> None:
        try:
            await work()
        except Gone:
            self._left()

    def _left(self) -> None:
        """The client no longer waits, and the work for it has stopped."""
        if not self.over:
            self.lost()

    def stir(self) -> None:
        """A piece of the body has arrived, its end, or the end of the stream."""
        if self._news is not None:
            self._news.set()

    async def news(self) -> None:
        """Wait until one of these comes."""
        news = self._news = self._news or asyncio.Event()
        news.clear()
        await news.wait()

    @property
    def drops(self) -> bool:
        """The rest of the body is not needed: the answer is sent, or the client no longer waits."""
        return self.over or self.gone

    @property
    def answered(self) -> bool:
        """The whole answer has been sent."""
        return self.over and not self.gone

    @property
    def wanted(self) -> bool:
        """The client waits for the answer, or for the rest of it."""
        return not self.drops and self.connection.may_speak

    def cancelled(self) -> None:
        """The client has given the request up, unless that was over."""
        if not self.drops:
            self.note(cancelled=self.host.recorder.now())

    async def handle(self, event: events.Event) -> None:
        """A piece of the body has arrived, its end, or the end of the stream."""
        if isinstance(event, events.Body):
            await self._came(bytes(event.data))
        elif isinstance(event, events.EndBody):
            self.complete = True
            if self.body.received:
                self.note(body_sha256=self.body.sha256)
            self.stir()
            if self.over:
                await self.protocol.done(self.number)
        elif isinstance(event, events.StreamClosed):
            self.lost()

    async def _came(self, data: bytes) -> None:
        """A piece of the body has arrived. A rule with `after_bytes` acts at its byte."""
        self.body.count(data)
        self.note(body_bytes=self.body.received)
        self.host.feed(Heard(self.connection.record.id))
        if self.drops:
            return  # count it only
        if self.hangs:
            await self.protocol.taken(self.number)
            return
        self.body.keep(data)
        watched = self.watches.get("request")
        if watched is not None and self.body.received >= watched and self._status is None:
            self._reached_in()
        self.stir()
        if not self.protocol.multiplexes:
            await self.body.room()

    async def take(self) -> bytes:
        """The bytes of the body that the app has not read yet."""
        body = self.body.take()
        await self.protocol.taken(self.number)
        return body

    def _reached_in(self) -> None:
        """The request's body has reached the byte of a rule."""
        del self.watches["request"]
        script = self.host.feed(Reached(self.connection.record.id, self.number), "request")
        if script is not None:
            self.held = True
            self.spawn(partial(self._interrupt, script))

    async def _interrupt(self, script: Script) -> None:
        try:
            await self.connection.perform(script, self.exchange, self)
        finally:
            self.held = False
            self.stir()

    # ---- the answer ------------------------------------------------------------------------------

    async def respond(self, response: Response, drip: float = 0.0, reading: bool = False) -> None:
        """Send this response as the whole answer.

        `reading`: the caller reads the connection, and must not wait for a window that only the client's next frame opens.
        """
        status, headers, shown = whole(response, self.head.method)
        self._still_wanted()
        waiting = self.protocol.is_waiting
        if waiting:  # with its body, which the fake will not read (RFC 9110 §10.1.1)
            self.connection.drain()
        in_pieces = (
            drip or "response" in self.watches or self._status is not None or is_tunnel(self.head.method, status)
        )
        if not in_pieces and self.protocol.fits(self.number, headers, shown):
            await self._respond_whole(status, headers, shown, waiting)
        elif reading:
            self.spawn(partial(self._respond_in_pieces, status, headers, shown, waiting, drip))
        else:
            await self._respond_in_pieces(status, headers, shown, waiting, drip)

    async def break_off(self) -> None:
        """HTTP/1.1 cannot send more than the content-length: close the connection after the head."""
        self.connection.drain()
        await self._ended(waiting=True)

    async def _respond_whole(self, status: int, headers: Fields, shown: bytes, waiting: bool) -> None:
        now, before = self.host.clock.now(), self.exchange.reply
        headers = self._headers(headers, now)
        self._note(status, headers, now, len(shown))
        await self._send_whole(status, headers, shown, waiting, before)

    async def _send_whole(self, status: int, headers: Fields, shown: bytes, waiting: bool, before: str | None) -> None:
        """Send an answer that is on record; `before`: what had been said until then."""
        try:
            await self.protocol.whole(self.number, status, headers, shown)
        except Gone:
            self._unsent(before)
            raise
        except failures:
            self._unsent(before)
            await self.break_off()
        else:
            await self._ended(waiting)

    async def _respond_in_pieces(self, status: int, headers: Fields, shown: bytes, waiting: bool, drip: float) -> None:
        try:
            await self.start(status, headers)
            await self.write(shown, drip)
            await self.end(waiting)
        except failures:  # the body exceeds its content-length
            await self.break_off()

    def _headers(self, headers: Iterable[tuple[bytes, bytes]], now: float) -> Fields:
        """The header fields of an answer, and those of every answer of a fake."""
        found = dated((*headers, *self.added), int(self.host.clock.epoch + now))
        if self.connection.ending and not self.protocol.multiplexes:
            return (*found, (b"connection", b"close"))
        return found

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self._still_wanted()
        now, before = self.host.clock.now(), self.exchange.reply
        fields = self._headers(headers, now)
        self._note(status, fields, now)
        try:
            await self.protocol.head(self.number, status, fields)
        except (Gone, *failures):
            self._unsent(before)
            raise

    def _note(self, status: int, headers: Fields, now: float, sent: int = 0) -> None:
        """Put the answer on record before it is sent, with the first `sent` bytes of its body."""
        length, kept = told(self.head.method, status, headers)
        self._status, self._length = status, length
        self._sent += sent
        self.host.recorder.response(self.exchange, status_line(status), now, status, length, self._sent, kept)

    def _unsent(self, before: str | None) -> None:
        """The answer that was put on record could not be sent; `before`: what had been said until then."""
        self._status, self._sent = None, 0
        self.note(status=None, sent=0, whole=False)
        self.host.recorder.unanswer(self.exchange, before)

    def _note_sent(self, count: int) -> None:
        """This many more bytes of the answer are about to be sent; the last of them makes it whole."""
        self._sent += count
        self.note(sent=self._sent, whole=self._sent == self._length)

    async def write(self, data: bytes, drip: float = 0.0) -> None:
        """Send a piece of its body, `drip` seconds of scenario time between two bytes."""
        if self.head.method == "HEAD":
            return
        if drip:
            for i in range(len(data)):
                if i:
                    await self.connection.pause(drip)
                self.host.feed(Heard(self.connection.record.id))  # a client waiting for our reply is not idle
                await self._pass(data[i : i + 1])
        elif data:
            await self._pass(data)

    async def _pass(self, data: bytes) -> None:
        """Send bytes of the body; a rule with `after_bytes` acts at its byte."""
        self._still_wanted()
        watched = self.watches.get("response")
        allowed = len(data) if watched is None else watched - self._sent
        piece, rest = data[:allowed], data[allowed:]
        self._note_sent(len(piece))
        await self.protocol.body(self.number, piece)
        if watched is not None and self._sent >= watched:
            await self.protocol.drained(self.number)
            await self._reached_out()
        if rest:
            await self._pass(rest)

    async def _reached_out(self) -> None:
        """The answer has reached the byte of a rule."""
        del self.watches["response"]
        self._still_wanted()
        script = self.host.feed(Reached(self.connection.record.id, self.number), "response")
        if script is not None:
            await self.connection.perform(script, self.exchange, self)
            self._still_wanted()

    async def inform(self, status: int, headers: Headers) -> None:
        """Send a 1xx before the answer. HTTP/1.0 knows none (RFC 9110 §15.2)."""
        self._still_wanted()
        if self.head.version != "1.0":
            await self.protocol.inform(self.number, status, headers)

    async def end(self, waiting: bool = False, trailers: Headers | None = None) -> None:
        """End the answer; `waiting`: the client still holds its body back. HTTP/1.1 has trailers of chunked bodies only."""
        self._still_wanted()
        if self._length is None:
            self.note(whole=True)
        measured = self._length is not None or self.head.version == "1.0"
        try:
            await self.protocol.end(self.number, [] if measured else trailers or [])
        except failures:  # the body is shorter than its content-length: close the connection
            self.connection.drain()
            waiting = True
        await self._ended(waiting)

    async def _ended(self, waiting: bool) -> None:
        self.finish()
        self.connection.exchange = self.exchange
        await self.protocol.taken(self.number)  # the bytes that the app has not read
        if self.complete or waiting:
            await self.protocol.done(self.number)  # else the stream stays, and drops the rest of the body
        if self._status is not None and self._status >= 400 and self.host.has_rules_at("error"):
            self._erred(self._status)
        self.connection.ended_one()

    def _erred(self, status: int) -> None:
        """A 4xx or 5xx has been sent: ask the rules at `error`."""
        script = self.host.feed(Answered(self.connection.record.id, status, self.head.method), "error")
        if script is not None:
            added = self.host.recorder.ask(self.connection.record, "error", "", script.phase)
            self.connection.spawn(partial(self.connection.perform, script, added))

    def _still_wanted(self) -> None:
        """Raises Gone if the client no longer waits for the answer."""
        if self.over or self.gone or not self.connection.may_speak:
            raise Gone

    def finish(self) -> None:
        """The request is no longer in progress."""
        if not self.over:
            self.over = True
            self.body.drop()
            self.connection.live.pop(self.number, None)
            if self.lasts:
                self.host.feed(Ended(self.connection.record.id, "request", self.number))
            self.stir()
            self.wake()

    # ---- other ends ------------------------------------------------------------------------------

    def lost(self) -> None:
        """The client no longer waits for an answer, or there will be none."""
        self.gone = True
        if not self.over and self.known:
            self.note(whole=False)
        self.finish()
        self.connection.ended_one()

    async def reset(self, code: str, exchange: Exchange) -> None:
        """Send RST_STREAM; HTTP/1.1 has no streams, and resets the connection."""
        self.host.recorder.frame(exchange, RstStreamFrame(code, self.number))
        if not await self.protocol.reset(self.number, CODES[code]):
            self.lost()
            self.connection.finish("reset", exchange)
            raise Over
        self.lost()

    async def drop(self) -> None:
        """Do not serve the request, and send nothing: a GOAWAY has told the client."""
        self.host.recorder.end(self.exchange, ExcludedByGoAway())
        await self.protocol.forget(self.number)
        self.lost()

    @property
    def eof(self) -> bool:
        return self.drops or self.connection.eof

    async def hang(self, exchange: Exchange) -> None:
        await self.take()
        await super().hang(exchange)
