"""`upstream`: your own HTTP server behind a fake, as the ASGI app that answers what no rule answers.

The fake acts as a gateway (RFC 9110 §3.7) and speaks HTTP/1.1 to the server, over a new connection for each request: the
server could close a connection that is kept open just as the next request is sent, a fault that no rule has asked for.
Both bodies are passed on piece by piece, at the pace of the slower side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import h11

from notnow.bounds import H2_HEAD
from notnow.http_words import BODILESS
from notnow.servers.base.loopback import Loopback
from notnow.servers.http.echo import Receive, Send
from notnow.servers.http.interfaces import Headers

PIECE = 65_536  # bytes that are read at a time
NAME = b"notnow"  # of the fake, as Via and its loops have it
INFORMATION = "notnow.response.informational"  # a 1xx, a message of ours: ASGI has only one for 103
_HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade"}


class BadGateway(Exception):  # noqa: N818 (named as its status is)
    """The upstream has given no answer that can be passed on. The client is told why, with this status."""

    def __init__(self, why: str, status: int = 502) -> None:
        super().__init__(why)
        self.status = status


class Upstream:
    """An ASGI app that passes each request on to a server."""

    def __init__(self, server: Loopback) -> None:
        self.server = server

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        via = b"%s-%d" % (NAME, scope["server"][1])
        if any(via in value for name, value in scope["headers"] if name == b"via"):
            raise BadGateway(f"the upstream {self.server.url} sends the request back: a loop", 508)
        reader, writer = await self._connect()
        try:
            await _Exchange(self.server.url, reader, writer).carry(scope, via, receive, send)
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failure: OSError | None = None
        for address in self.server.addresses:
            try:
                return await asyncio.open_connection(address, self.server.port)
            except OSError as error:
                failure = failure or error
        assert failure is not None, "there is an address"
        why = os.strerror(failure.errno) if failure.errno else str(failure)
        raise BadGateway(f"the upstream {self.server.url} cannot be reached: {why}")


class _Exchange:
    """One request to the server, and its answer."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._url, self._reader, self._writer = url, reader, writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=H2_HEAD)

    async def carry(self, scope: dict[str, Any], via: bytes, receive: Receive, send: Send) -> None:
        """Pass on the request and the answer. Returns early where the client has gone. Raises BadGateway."""
        first = await receive() if _may_lack_a_body(scope) else None
        if first is not None and first["type"] == "http.disconnect":
            return
        await self._send(self._head(scope, via, first))
        asking = asyncio.ensure_future(self._ask(receive, first))
        answering = asyncio.ensure_future(self._answer(send))
        try:
            await asyncio.wait((asking, answering), return_when=asyncio.FIRST_COMPLETED)
            await (answering if answering.done() else asking)
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    # ---- the request -----------------------------------------------------------------------------

    def _head(self, scope: dict[str, Any], via: bytes, first: Any) -> h11.Request:
        """The head of the request. Raises BadGateway for one that HTTP/1.1 cannot say."""
        headers: Headers = scope["headers"]
        given = dict(headers)
        kept = [(name, value) for name, value in _end_to_end(headers) if name != b"expect"]  # the fake has sent the 100
        if not given.get(b"host"):  # HTTP/1.0 has none
            kept = [header for header in kept if header[0] != b"host"]
            kept.append((b"host", self._url.partition("://")[2].encode()))
        if b"content-length" not in given and _has_body(scope, given, first):
            kept.append((b"transfer-encoding", b"chunked"))
        kept.append((b"via", b"%s %s" % (scope["http_version"].encode(), via)))  # RFC 9110 §7.6.3
        kept.append((b"x-forwarded-for", scope["client"][0].encode()))
        if b"x-forwarded-proto" not in given:
            kept.append((b"x-forwarded-proto", scope["scheme"].encode()))
        if b"trailers" in given.get(b"te", b"").lower():
            kept += [(b"te", b"trailers"), (b"connection", b"te")]  # RFC 9110 §10.1.4
        kept.append((b"connection", b"close"))
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        try:
            return h11.Request(method=scope["method"], target=target, headers=kept)
        except h11.LocalProtocolError as error:
            raise BadGateway(f"the request cannot be passed on over HTTP/1.1: {error}") from None

    async def _ask(self, receive: Receive, message: Any) -> None:
        """Pass on the body as it comes. Returns when the client has gone."""
        message = message or await receive()
        while message["type"] != "http.disconnect":
            with contextlib.suppress(ConnectionError):  # the server wants no more; its answer says why
                if message["body"]:
                    await self._send(h11.Data(data=message["body"]))
                if not message["more_body"]:
                    await self._send(h11.EndOfMessage())
            message = await receive()

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data and not self._writer.is_closing():
            self._writer.write(data)
            await self._writer.drain()

    # ---- the answer ------------------------------------------------------------------------------

    async def _answer(self, send: Send) -> None:
        """Pass on the answer as it comes. Raises BadGateway if it is none, or breaks off."""
        try:
            while not await self._pass_on(self._http.next_event(), send):
                pass
        except h11.RemoteProtocolError as error:
            raise BadGateway(f"the upstream {self._url} has sent no whole answer: {error}") from None

    async def _pass_on(self, event: h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED], send: Send) -> bool:
        """Pass on one event of the answer. True for the last."""
        if event is h11.NEED_DATA:
            self._http.receive_data(await self._read())
        elif isinstance(event, h11.InformationalResponse):
            if event.status_code != 100:  # the fake has sent that itself, where it was asked for (RFC 9110 §15.2)
                await send({"type": INFORMATION, "status": event.status_code, "headers": _end_to_end(event.headers)})
        elif isinstance(event, h11.Response):
            chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
            start = {"status": event.status_code, "headers": _end_to_end(event.headers), "trailers": chunked}
            await send({"type": "http.response.start", **start})
        elif isinstance(event, h11.Data):
            await send({"type": "http.response.body", "body": bytes(event.data), "more_body": True})
        elif isinstance(event, h11.EndOfMessage):
            await send({"type": "http.response.body", "body": b""})
            await send({"type": "http.response.trailers", "headers": list(event.headers)})
            return True
        else:
            raise BadGateway(f"the upstream {self._url} has closed the connection without an answer")
        return False

    async def _read(self) -> bytes:
        try:
            return await self._reader.read(PIECE)
        except ConnectionError as error:
            raise BadGateway(f"the upstream {self._url} has broken off: {os.strerror(error.errno or 0)}") from None


def _end_to_end(headers: Any) -> Headers:
    """The fields of a message that a gateway passes on (RFC 9110 §7.6.1)."""
    tokens = (value.split(b",") for name, value in headers if name == b"connection")
    named = {token.strip().lower() for some in tokens for token in some} - {b"host", b"content-length"}
    return [(name, value) for name, value in headers if name not in _HOP_BY_HOP | named]


def _may_lack_a_body(scope: dict[str, Any]) -> bool:
    """True if only the first message tells: HTTP/2 has no field that announces a body (RFC 9113 §8.1)."""
    known = {name for name, _ in scope["headers"]} & {b"content-length", b"expect"}
    return scope["http_version"] == "2" and not known and scope["method"] in BODILESS


def _has_body(scope: dict[str, Any], given: dict[bytes, bytes], first: Any) -> bool:
    if scope["http_version"] != "2":
        return b"transfer-encoding" in given
    return first is None or bool(first.get("body")) or bool(first.get("more_body"))
