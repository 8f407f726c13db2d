"""An answer before it is sent: its header fields, its length, and what the journal keeps of them.

A fake repeats most of its answers, so what was found for the last ones is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from notnow.engine.actions import Response
from notnow.http_words import NO_BODY, status_line
from notnow.journal import Request
from notnow.servers.http.head import Head
from notnow.servers.http.interfaces import Fields, encoded

KEPT = 64  # answers
# The headers of an answer that the journal keeps, and their names there.
TOLD = {b"retry-after": "retry_after", b"alt-svc": "alt_svc", b"location": "location"}


def is_tunnel(method: str, status: int) -> bool:
    """True for a 2xx to CONNECT: a tunnel follows it, and no body (RFC 9110 §9.3.6). Ours is closed at once."""
    return method == "CONNECT" and 200 <= status < 300


def has_no_body(method: str, status: int) -> bool:
    """True if no body follows the head, whatever the content-length says (RFC 9110 §6.4.1)."""
    return method == "HEAD" or status in NO_BODY or is_tunnel(method, status)


class Answer(Struct, frozen=True):
    """A whole answer to a request. `record` is that request, answered; each one has a `stream` of its own."""

    status: int
    headers: Fields
    shown: bytes
    line: str
    record: Request


@lru_cache(maxsize=KEPT)
def answer(response: Response, head: Head, at: int) -> Answer:
    """The answer that a rule gives, where no frame or rule has added to it; `at` is in seconds since the epoch."""
    status, headers, shown = whole(response, head.method)
    headers, size = dated(headers, at), len(shown)
    length, kept = told(head.method, status, headers)
    record = replace(head.record, status=status, length=length, sent=size, whole=size == length, **kept)
    return Answer(status, headers, shown, status_line(status), record)


def whole(response: Response, method: str) -> tuple[int, Fields, bytes]:
    """The status, header fields and body that are sent for a response of a rule."""
    status, body = response.status or 200, (response.body or "").encode()
    headers = _measured(response.headers, method, status, len(body))
    return status, headers, b"" if has_no_body(method, status) else body


@lru_cache(maxsize=KEPT)
def _measured(given: tuple[tuple[str, str], ...], method: str, status: int, size: int) -> Fields:
    """The header fields of a response whose body has so many bytes."""
    headers = encoded(given)
    if is_tunnel(method, status):
        headers = [header for header in headers if header[0] != b"content-length"]
    elif status not in NO_BODY and not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", b"%d" % size))
    return tuple(headers)


@lru_cache(maxsize=KEPT)
def told(method: str, status: int, headers: Fields) -> tuple[int | None, Mapping[str, str]]:
    """The length of the body that follows a head, None if that does not say; and what the journal keeps of the header fields."""
    kept = {TOLD[name]: value.decode("latin-1") for name, value in headers if name in TOLD}
    return _length(method, status, headers), kept


def _length(method: str, status: int, headers: Fields) -> int | None:
    if has_no_body(method, status):
        return 0
    announced = [int(value) for name, value in headers if name == b"content-length" and value.isdigit()]
    return announced[-1] if announced else None


@lru_cache(maxsize=KEPT)
def dated(headers: Fields, at: int) -> Fields:
    """The header fields with a Date, which every answer of a fake has; `at` is in seconds since the epoch."""
    return headers if any(name == b"date" for name, _ in headers) else (*headers, (b"date", _date(at)))


@lru_cache(maxsize=4)
def _date(at: int) -> bytes:
    """A Date field (RFC 9110 §6.6.1)."""
    return formatdate(at, usegmt=True).encode()
