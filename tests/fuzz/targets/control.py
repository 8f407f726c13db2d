"""A call of the control API, byte by byte: `METHOD path`, header lines, an empty line, and the body."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
from typing import Any
from unittest import mock

from notnow.control import app
from notnow.control.fleet import Fleet
from notnow.control.guard import HEADERS
from notnow.language.catalogue import scenario

GOOD = {200, 201, 202, 204, 303, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 503}
KEPT = {"mx": "smtp/overload", "disk": "ftp/healthy"}


def one(data: bytes) -> None:
    loop, fleet, called = _served()
    scope, body = _parsed(data)
    with mock.patch.object(app, "_in_thread", _at_once):
        answer = loop.run_until_complete(asyncio.wait_for(_call(called, scope, body), 20))
    _tidy(fleet)
    _check(*answer)


def _tidy(fleet: Fleet) -> None:
    """Every input finds the same servers."""
    for name in [member.fake.name for member in fleet.members()]:
        if name not in KEPT:
            fleet.stop(name)
    for name in KEPT.keys() - {member.fake.name for member in fleet.members()}:
        fleet.start(scenario(KEPT[name]), name=name)


@functools.cache
def _served() -> tuple[asyncio.AbstractEventLoop, Fleet, Any]:
    """One API for all inputs. Its handlers run in this thread: a thread for each would take most of the time."""
    loop, fleet = asyncio.new_event_loop(), Fleet(seed=1)
    fleet.__enter__()
    atexit.register(loop.close)
    atexit.register(fleet.__exit__, None, None, None)
    _tidy(fleet)

    async def prepare() -> Any:
        return app.application(fleet, None, asyncio.Event())

    return loop, fleet, loop.run_until_complete(prepare())


async def _at_once(work: Any, *args: Any, **given: Any) -> Any:
    return work(*args, **given)


def _parsed(data: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    fields = [line.partition(b": ") for line in lines if b": " in line]
    headers = [(name.lower(), value) for name, _, value in fields]
    scope = {
        "type": "http", "method": method.decode("latin-1") or "GET", "path": path.decode("utf-8", "replace") or "/",
        "raw_path": path, "query_string": query, "headers": [(b"host", b"127.0.0.1"), *headers], "scheme": "http",
        "http_version": "1.1", "server": ("127.0.0.1", 8421), "client": ("127.0.0.1", 40000), "root_path": "",
    }  # fmt: skip
    return scope, body


async def _call(called: Any, scope: dict[str, Any], body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """The caller sends its body at once, reads all, and leaves: no stream and no wait goes on."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await called(scope, receive, send)
    start, *pieces = sent
    return start["status"], dict(start["headers"]), b"".join(piece.get("body", b"") for piece in pieces)


def _check(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    assert status in GOOD, (status, body[:500])
    for name in HEADERS:
        assert name.encode() in headers, f"{name} is missing"
    assert not any(set(b"\r\n\0") & set(value) for value in headers.values()), "a header of two lines"
    if b"json" in headers.get(b"content-type", b""):
        json.loads(body, parse_constant=lambda name: _no_json(name)) if body else None


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
