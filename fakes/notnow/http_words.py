"""Words of HTTP that servers, conduct and pictures share: methods that may be repeated, and status lines."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110 §9.2.1
IDEMPOTENT = SAFE | {"PUT", "DELETE"}  # RFC 9110 §9.2.2
BODILESS = SAFE | {"DELETE"}  # methods whose requests seldom have a body
NO_BODY = frozenset({204, 304})  # statuses whose responses have none (RFC 9110 §6.4.1)


@lru_cache(maxsize=64)  # a server has few
def status_line(status: int) -> str:
    """A status code and its reason phrase, as RFC 9110 §15 lists them: "421 Misdirected Request"."""
    return f"{status} {phrase(status)}".strip()


def phrase(status: int) -> str:
    """The reason phrase of a status code; empty for a code that RFC 9110 does not list."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
