"""Calling an ASGI app for a request; rules may replace its answer, or a part of it."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from notnow.engine.actions import BEHAVE, Response
from notnow.engine.events import Asked
from notnow.http_words import IDEMPOTENT
from notnow.servers.base import guests
from notnow.servers.base.life import Over
from notnow.servers.http.echo import no_tunnel
from notnow.servers.http.interfaces import Gone, encoded, failures
from notnow.servers.http.upstream import INFORMATION, BadGateway

if TYPE_CHECKING:
    from notnow.servers.http.interfaces import Headers
    from notnow.servers.http.stream import Stream

Message = MutableMapping[str, Any]
logger = logging.getLogger("notnow")
MESSAGES = 16  # that an app sends before other connections have their turn


class Call:
    """One call of the app. Its answer goes to the client unless a rule has replaced it."""

    def __init__(self, stream: Stream) -> None:
        self.stream, self.host = stream, stream.host
        self._instead: Response | None = None
        self._drip = 0.0
        self._messages = 0  # that the app has sent
        self._told = False  # the app knows that the request is complete
        self._invited = False  # 100 (Continue) was sent if the client waits for it
        self._measured = False  # a rule has set the content-length of the app's answer
        self._left = False  # the app knows that the client has gone
        self._started = self._ended = self._swallows = False
        self._trailing = False  # the app has announced trailers
        self._trailers: Headers = []

    async def run(self, instead: Response | tuple[()] | None = None, drip: float = 0.0) -> None:
        """Let the app answer; `instead` replaces its answer or a part of it, and `()` means no answer at all."""
        if isinstance(instead, Response):
            self._instead = instead
        self._swallows, self._drip = instead == (), drip
        guests.blame.set(self.host.guest_failed)
        try:
            app = no_tunnel if self.stream.head.method == "CONNECT" else self.host.app
            await app(self._scope(), self.receive, self.send)
            await self._close()
        except Over:
            raise
        except BaseException as error:
            if guests.is_ours(error):
                raise
            if _is_loss(error):
                raise Gone from None
            if any(guests.strays(error)):
                self.host.guest_failed(error)
            await self._failed(error)  # the user's app has failed: answer 500 as any server would

    async def _failed(self, error: BaseException) -> None:
        stream = self.stream
        status, said, why = 500, "Internal Server Error", f"{type(error).__name__}: {error}"
        if isinstance(error, BadGateway):
            status, said, why = error.status, str(error), str(error)
        else:
            logger.error("the app has failed at %s", stream.exchange.request, exc_info=error)
        stream.note(app_error=why)
        if not stream.wanted or self._swallows:
            return
        if not self._started:
            await stream.respond(Response(status, (("content-type", "text/plain"),), f"{said}\n"))
        else:
            await stream.reset("INTERNAL_ERROR", stream.exchange)

    def _scope(self) -> dict[str, Any]:
        head, connection = self.stream.head, self.stream.connection
        path, _, query = head.target.partition(b"?")
        headers = [(name.lower(), value) for name, value in head.headers]
        authority = head.authority.encode("latin-1")
        if [value for name, value in headers if name == b"host"] != [authority]:
            # :authority counts, and not Host (RFC 9113 §8.3.1).
            headers = [(b"host", authority), *(header for header in headers if header[0] != b"host")]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version,
            "method": head.method,
            "scheme": "https" if connection.secure else "http",
            "path": unquote(path.decode("latin-1")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": (connection.record.client, connection.record.peer_port),
            "server": self.host.address,
            "state": self.host.state.copy(),
            "extensions": {
                "http.response.trailers": {},
                "notnow": {"connection": connection.record.number, "stream": self.stream.number},
            },
        }

    async def receive(self) -> Message:
        """The next message for the app: a piece of the body, or a disconnect."""
        stream = self.stream
        if not self._invited:
            self._invited = True
            if stream.known["header"].get("expect", "").lower() == "100-continue" and not stream.complete:
                await stream.protocol.go_on(stream.number)
        while not stream.drops and (stream.held or not (stream.body.pieces or (stream.complete and not self._told))):
            if stream.complete and stream.connection.eof and not stream.held:
                break  # a half-closed client may still read; an app that asks gets a disconnect, as from other servers
            await stream.news()
        if stream.drops or (stream.complete and self._told):
            self._left = True
            return {"type": "http.disconnect"}
        body = await stream.take()
        self._told = stream.complete
        return {"type": "http.request", "body": body, "more_body": not stream.complete}

    async def send(self, message: Message) -> None:
        """Send a message of the app. Raises Gone, an OSError as ASGI demands, when the client no longer waits."""
        try:
            await self._send(message)
        except Over:
            raise Gone from None
        self._messages += 1
        if self._messages % MESSAGES == 0:  # with a client that reads fast, an app would never wait
            await self.host.turns.wait()

    async def _send(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts and int(message["status"]) < 400 and self.stream.head.method not in IDEMPOTENT:
            self.stream.note(stored=True)
        if self._swallows:
            return
        if message["type"] == INFORMATION:
            await self.stream.inform(int(message["status"]), list(message["headers"]))
        elif starts:
            self._trailing = bool(message.get("trailers"))
            await self._head(int(message["status"]), [(bytes(n), bytes(v)) for n, v in message.get("headers", ())])
            self._started = True
        elif message["type"] == "http.response.body":
            if not self._started:
                raise RuntimeError("the app has sent a body before http.response.start")
            await self._write(bytes(message.get("body", b"")))
            if not (self._swallows or self._trailing or message.get("more_body", False)):
                await self._close()
        elif message["type"] == "http.response.trailers" and self._trailing:
            self._trailers += [(bytes(n).lower(), bytes(v)) for n, v in message["headers"]]
            if not message.get("more_trailers", False):
                await self._close()

    async def _write(self, body: bytes) -> None:
        """Send a piece of the body. If it exceeds a length that a rule has set, the app is not to blame."""
        try:
            await self.stream.write(body, self._drip)
        except failures:
            if not self._measured:
                raise
            self._swallows = True
            await self.stream.break_off()

    async def _head(self, status: int, headers: Headers) -> None:
        """The app has an answer: the rules at `response` decide about it."""
        stream = self.stream
        asked = Asked(stream.connection.record.id, "response", stream.known, stream.number)
        script = self.host.feed(asked, "response")
        if script is None and not stream.wanted:
            raise Over

        async def behave(instead: Response | tuple[()] | None, drip: float) -> None:
            self._drip = drip or self._drip
            if instead == ():
                self._swallows = True
            else:
                await self._start(status, headers, _both(self._instead, instead or None))

        if (
            script is None or script.steps is BEHAVE
        ):  # None: the connection is about to close, and no rule acts any more
            await behave(None, 0.0)
        else:
            await stream.connection.perform(script, stream.exchange, stream, behave)
            self._swallows = self._swallows or stream.over

    async def _start(self, status: int, headers: Headers, instead: Response | None) -> None:
        given = [(name.lower(), value) for name, value in headers]
        if instead is None:
            await self.stream.start(status, given)
            return
        names = {name for name, _ in encoded(instead.headers)}
        if instead.body is None and instead.status is None:
            self._measured = b"content-length" in names
            kept = [header for header in given if header[0] not in names]
            await self.stream.start(status, kept + encoded(instead.headers))
            return
        gone = names | {b"content-length", b"content-encoding"}
        kept_texts = () if instead.status is not None else _decoded(given, gone)
        self._swallows = True
        whole = Response(instead.status or status, (*kept_texts, *instead.headers), instead.body or "")
        await self.stream.respond(whole, self._drip)

    async def _close(self) -> None:
        """The app has sent its last message."""
        if self._ended or self._swallows or self.stream.drops:
            return
        self._ended = True
        if not self._started and self._left:
            self.stream.lost()
        elif not self._started:
            await self._failed(RuntimeError("the app has returned without an answer"))
        else:
            await self.stream.end(trailers=self._trailers)


def _is_loss(error: BaseException) -> bool:
    """True if this only means that the client no longer waits."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_loss(one) for one in error.exceptions)
    return isinstance(error, Gone)


def _both(first: Response | None, second: Response | None) -> Response | None:
    """The replacements of two rules as one: the later rule wins."""
    if first is None or second is None:
        return first or second
    return Response(
        second.status if second.status is not None else first.status,
        (*first.headers, *second.headers),
        second.body if second.body is not None else first.body,
    )


def _decoded(headers: Headers, but: set[bytes]) -> tuple[tuple[str, str], ...]:
    return tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in headers if n not in but)
