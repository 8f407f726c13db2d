"""Keep strangers out: pages of other origins, names that point here by DNS rebinding, endless bodies, callers without the token.

An ASGI middleware. It drops readers that do not read, and sets the headers that keep a browser from running anything that a client has said.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response

from notnow.control.problems import RefusedError, respond
from notnow.hosts import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY = 4 * 1024 * 1024  # bytes of a request
WRITING = 20.0  # real seconds that a caller may leave a piece of the answer unread
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """`token` is required where it is given; without one only names and addresses of this machine are served."""

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = _with_headers(_hurried(send))
        try:
            if self.token is not None and _is(_given(scope), self.token):
                await _let_in(self.token)(scope, receive, send)
                return
            self._check(headers, scope["method"])
        except RefusedError as error:
            await respond(error)(scope, receive, send)
            return
        with contextlib.suppress(_DeafError):
            await self.app(scope, _bounded(receive), send)

    def _check(self, headers: Headers, method: str) -> None:
        host = headers.get("host", "")
        if self.token is None and not is_loopback(_name(host)):
            raise RefusedError(403, f"Host is {host!r}; allowed: a name or address of this machine, such as 127.0.0.1")
        self._check_origin(headers, host, method)
        if self.token is not None and not self._knows_token(headers):
            raise RefusedError(
                401, "the token is missing or wrong; allowed: Authorization: Bearer TOKEN, as notnow serve printed it",
                www_authenticate="Bearer",
            )  # fmt: skip
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > BODY:
            raise RefusedError(413, f"the body has {length} bytes; allowed: {BODY} at most")

    def _check_origin(self, headers: Headers, host: str, method: str) -> None:
        """A browser says where a page came from: only our own page may call, and nothing else may embed us.

        A link may lead to our page, and a form of another page to nothing.
        """
        origin = headers.get("origin")
        if origin is not None and _parts(origin).netloc != host:
            raise RefusedError(
                403, f"Origin is {origin!r}; allowed: this page's own, http://{host}, or no Origin at all"
            )
        site = headers.get("sec-fetch-site")
        opens = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        navigates = opens and method in ("GET", "HEAD")
        if site not in (None, "same-origin", "none") and not navigates:
            raise RefusedError(
                403, f"the request comes from another site (Sec-Fetch-Site: {site}); allowed: same-origin"
            )

    def _knows_token(self, headers: Headers) -> bool:
        assert self.token is not None
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not given:
            given = _cookie(headers.get("cookie", ""))
        return _is(given, self.token)


COOKIE = "notnow-token"


def _is(given: str, token: str) -> bool:
    """Compare in a time that tells nothing of the token."""
    return hmac.compare_digest(given.encode(), token.encode())


def _given(scope: Scope) -> str:
    """The token in a link to the page, which `notnow serve` printed; empty if there is none."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return query.get("token", [""])[0] if scope["path"] == "/" and scope["method"] == "GET" else ""


def _let_in(token: str) -> Response:
    """Keep the token in a cookie that no script sees, and no other site sends, and out of the address."""
    response = RedirectResponse("/", 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict")
    return response


def _cookie(text: str) -> str:
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _name(host: str) -> str:
    """The name in a Host field, without the port."""
    return _parts(f"//{host}").hostname or ""


def _parts(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # such as half an IPv6 address
        return urlsplit("")


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return with_headers


class _DeafError(Exception):
    """The caller does not read what it is sent."""


def _hurried(send: Send) -> Send:
    async def hurried(message: Message) -> None:
        try:
            async with asyncio.timeout(WRITING):
                await send(message)
        except TimeoutError:
            raise _DeafError from None

    return hurried


def _bounded(receive: Receive) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > BODY:
                raise RefusedError(413, f"the body has more than {BODY} bytes")
        return message

    return bounded
