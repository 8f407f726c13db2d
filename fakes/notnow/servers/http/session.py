"""One HTTP session: its requests, and the scripts of the engine for them and for the connection."""

from __future__ import annotations

from functools import partial
from typing import assert_never

from msgspec import structs

from notnow.engine.actions import (
    BEHAVE,
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
from notnow.engine.events import Asked
from notnow.journal import AltSvcFrame, Exchange, Frame, GoAwayFrame, OriginFrame
from notnow.servers.base.life import Over
from notnow.servers.http import frames
from notnow.servers.http.answer import Answer, answer, is_tunnel
from notnow.servers.http.asgi import Call
from notnow.servers.http.connection import HTTPConnection
from notnow.servers.http.http2 import H2
from notnow.servers.http.interfaces import Behave, Gone, HTTPProtocol
from notnow.servers.http.stream import Stream


class HTTPSession(HTTPConnection):
    """A live HTTP connection of a fake."""

    # ---- requests --------------------------------------------------------------------------------

    def stream(self, protocol: HTTPProtocol, number: int) -> Stream:
        return Stream(self, protocol, number)

    async def asked(self, stream: Stream) -> None:
        """The head of a request has arrived: carry out the engine's script for it."""
        conn, facts, read = self.record.id, stream.known, self.host.clock.read()
        seldom = self.last is not None or self.standing is not None or stream.protocol.open > self.cap
        script = None if seldom else self.host.settled(conn, "request", facts, stream.number, read[1])
        if script is not None and (whole := self._at_once(script, stream, read[1])) is not None:
            await stream.serve(script, whole, read)
            return
        stream.record(read)
        if seldom and await self._turned_away(stream):
            return
        if script is None:
            script = self.host.feed(Asked(conn, "request", facts, stream.number), "request", read[1])
        if script is None:  # the connection has ended meanwhile
            stream.lost()
        else:
            await self._carry_out(script, stream)

    def _at_once(self, script: Script, stream: Stream, now: float) -> Answer | None:
        """The answer of a script that is but a response, where it can be sent in one go; None where it takes more."""
        step, protocol = script.steps[0] if len(script.steps) == 1 else None, stream.protocol
        if not isinstance(step, Respond) or step.drip or self.ending or not self.may_speak or protocol.is_waiting:
            return None
        found = answer(step.response, stream.head, int(self.host.clock.epoch + now))
        try:
            fits = protocol.fits(stream.number, found.headers, found.shown)
        except Gone:  # it is put on record all the same
            return None
        return found if fits and not is_tunnel(stream.head.method, found.status) else None

    async def _carry_out(self, script: Script, stream: Stream) -> None:
        exchange, first = stream.exchange, script.steps[0] if len(script.steps) == 1 else None
        if isinstance(first, Respond) and not first.drip:
            self.host.recorder.decided(exchange, script)
            await stream.respond(first.response, reading=True)
            return
        stream.lasts = script.proceeds
        if isinstance(script.steps[0], Watch):  # now: the bytes may arrive before a task begins
            stream.watches[script.moment] = script.steps[0].bytes
            script = structs.replace(script, steps=script.steps[1:])
        if script.steps is BEHAVE:
            self.host.recorder.decided(exchange, script)
            stream.spawn(Call(stream).run)
        else:
            stream.spawn(partial(self.perform, script, exchange, stream, Call(stream).run))

    async def _turned_away(self, stream: Stream) -> bool:
        """True if the engine is not asked: the connection answers every request alike, or takes no more."""
        exchange = stream.exchange
        if self.last is not None and stream.number > self.last:
            self.host.recorder.refused(exchange, "goaway")
        elif stream.protocol.open > self.cap:
            self.host.recorder.refused(exchange, "reset_stream", "server.max_streams")
        else:
            return self.standing is not None and await self._answered(stream, self.standing)
        await stream.reset("REFUSED_STREAM", exchange)
        await stream.protocol.count_abuse()
        return True

    async def _answered(self, stream: Stream, standing: Response) -> bool:
        script, exchange = self.opening, stream.exchange
        self.host.recorder.decided(exchange, script)
        if script.closes:
            self.drain()
            self.exchange = exchange
        await stream.respond(standing, reading=True)
        return True

    # ---- doing what the engine says --------------------------------------------------------------

    async def perform(  # noqa: C901 (a case for each action)
        self, script: Script, exchange: Exchange, stream: Stream | None = None, behave: Behave | None = None
    ) -> None:
        """Carry out a script, for a request or for the connection; `behave` lets the app answer."""
        self.host.recorder.decided(exchange, script)
        if script.closes and stream is not None:
            self.drain()
        for step in script.steps:
            if not self.may_speak:
                raise Over
            if stream is not None and stream.gone:
                raise Gone
            match step:
                case Proceed(instead, drip):
                    if behave is not None:
                        assert not (isinstance(instead, tuple) and instead), "reply lines are not HTTP's"
                        await behave(instead if isinstance(instead, Response) or instead is None else (), drip)
                case Respond(response, drip):
                    assert stream is not None, "where nothing was asked there is nothing to answer"
                    await stream.respond(response, drip)
                case Wait(seconds):
                    await self._pause(seconds, closes=script.closes)
                case Hang():
                    assert stream is not None, "the opening sees to its own"
                    await stream.hang(exchange)
                case Watch(size):
                    assert stream is not None, "there is no body to be watched"
                    stream.watches[script.moment] = size
                case ResetStream(code):
                    await self._reset(code, exchange, stream)
                case GoAway():
                    await self._go_away(step, exchange, stream)
                case AltSvc(value):
                    await self._alt_svc(value, exchange, stream)
                case Origin(origins):
                    await self._frame(frames.origin(origins), OriginFrame(origins), exchange)
                case Close(how):
                    self.part(how, exchange)
                    raise Over
                case Send() | EndData() | Certify() | Alert():
                    raise AssertionError(f"{step} is not for HTTP here")
                case _:
                    assert_never(step)

    async def _pause(self, seconds: float, closes: bool) -> None:
        """Wait. Where the script then closes the connection, nothing else does before, though the client may give up."""
        self.closes_later += closes
        try:
            await self.pause(seconds)
        finally:
            self.closes_later -= closes
        if closes:
            self.ended_one()  # the client may have given up meanwhile

    async def _reset(self, code: str, exchange: Exchange, stream: Stream | None) -> None:
        for one in [stream] if stream is not None else list(self.live.values()):
            await one.reset(code, exchange)

    async def _go_away(self, step: GoAway, exchange: Exchange, stream: Stream | None) -> None:
        """Send GOAWAY: drop the streams above the last; the connection may close once the others have ended."""
        if step.closes:
            self.drain()
            self.farewell = True
        self.exchange = exchange
        protocol = self._protocol
        if isinstance(protocol, H2):
            wanted = self._last_of(step, protocol, stream)
            self.last = wanted if self.last is None else min(wanted, self.last)  # it MUST NOT rise (RFC 9113 §6.8)
            frame = GoAwayFrame(step.code, self.last)
            await self._frame(frames.go_away(self.last, step.code), frame, exchange)
            for one in [one for one in self.live.values() if one.number > self.last]:
                await one.drop()
        elif stream is not None and step.last == "previous":  # the request is not served: HTTP/1.1 can only close
            self.finish("fin", exchange)
        self.ended_one()  # the next answer over HTTP/1.1 has "Connection: close"

    @staticmethod
    def _last_of(step: GoAway, protocol: H2, stream: Stream | None) -> int:
        """The last stream that is served, as the rule says."""
        if isinstance(step.last, int):
            return step.last
        number = protocol.highest if stream is None else stream.number
        return max(0, number - 2) if step.last == "previous" else protocol.highest

    async def _alt_svc(self, value: str, exchange: Exchange, stream: Stream | None) -> None:
        """Send ALTSVC (RFC 7838): for the origin of a request, or for the SNI's."""
        sni = self.record.tls.sni if self.record.tls is not None else None
        host, port = self.host.address
        origin = "" if stream is not None else f"{self.host.scheme}://{sni or host}:{port}"
        raw = frames.alt_svc(stream.number if stream is not None else 0, value, origin)
        if not await self._frame(raw, AltSvcFrame(value), exchange) and stream is not None:
            stream.added.append((b"alt-svc", value.encode("latin-1", "replace")))  # HTTP/1.1 has a header for it

    async def _frame(self, raw: bytes, frame: Frame, exchange: Exchange) -> bool:
        """Send a frame after all that waits to be sent. False on HTTP/1.1, which has no frames."""
        if not isinstance(self._protocol, H2):
            return False
        self.host.recorder.frame(exchange, frame)
        await self._protocol.flush(raw)
        return True
