"""The default app, which echoes the request as JSON, and the wrapper that refuses CONNECT."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Awaitable, Callable
from typing import Any

from notnow.bounds import ECHO

SLICE = 65_536  # bytes of a body that are encoded at once
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer 200 with method, scheme, authority, path, query, headers, body and HTTP version of the request.

    Of a longer body, it echoes the first `notnow.bounds.ECHO` bytes; `body_bytes` is the number received.
    """
    body, size = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        body += message["body"][: ECHO - len(body)]
        if not message["more_body"]:
            break
    pieces = await _answer(scope, body, size)
    length = b"%d" % sum(map(len, pieces))
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1]})


async def _answer(scope: dict[str, Any], body: bytearray, size: int) -> list[bytes]:
    """The request as JSON, in pieces. Other connections have their turn between two pieces of a big body."""
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    before = {
        "method": scope["method"],
        "scheme": scope["scheme"],
        "authority": next((value for name, value in headers if name == "host"), ""),
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": headers,
    }
    after = {"version": scope["http_version"], **({"body_bytes": size} if size > len(body) else {})}
    pieces = [json.dumps(before)[:-1].encode() + b', "body": "']
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start in range(0, len(body), SLICE):
        text = decoder.decode(bytes(body[start : start + SLICE]), final=start + SLICE >= len(body))
        pieces.append(json.dumps(text)[1:-1].encode())
        if len(body) > SLICE:
            await asyncio.sleep(0)
    pieces.append(b'", ' + json.dumps(after)[1:].encode() + b"\n")
    return [b"".join(pieces)] if len(body) <= SLICE else pieces


async def no_tunnel(_scope: dict[str, Any], _receive: Receive, send: Send) -> None:
    """Answer 501 to a CONNECT: a fake is an origin server, and ASGI knows no tunnels (RFC 9110 §9.3.6)."""
    said = b"CONNECT is not implemented: this server is no proxy\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 501, "headers": headers})
    await send({"type": "http.response.body", "body": said})
