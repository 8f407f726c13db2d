"""The app of a fake that is given none: it answers with the request as JSON. And the one that no CONNECT gets past."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer 200 with method, scheme, authority, path, query, headers, body and HTTP version of the request."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    said = {
        "method": scope["method"],
        "scheme": scope["scheme"],
        "authority": next((value for name, value in headers if name == "host"), ""),
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": headers,
        "body": body.decode("utf-8", "replace"),
        "version": scope["http_version"],
    }
    answer = json.dumps(said).encode() + b"\n"
    length = b"%d" % len(answer)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", length)],
        }
    )
    await send({"type": "http.response.body", "body": answer})


async def no_tunnel(_scope: dict[str, Any], _receive: Receive, send: Send) -> None:
    """Answer 501 to a CONNECT: a fake is an origin server, and ASGI has no word for a tunnel (RFC 9110 §9.3.6)."""
    said = b"CONNECT is not implemented: this server is no proxy\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 501, "headers": headers})
    await send({"type": "http.response.body", "body": said})
