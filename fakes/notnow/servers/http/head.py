"""The head of a request, and what follows from it alone. Clients repeat most of their requests: it is found once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any

from msgspec import Struct

from notnow.journal import Request, brief


class Head(Struct, frozen=True, eq=False, dict=True):
    """`target` is the path with its query, `authority` the value of :authority or Host."""

    method: str
    target: bytes
    authority: str
    headers: tuple[tuple[bytes, bytes], ...]
    version: str  # "2", "1.1", "1.0"

    @cached_property
    def line(self) -> str:
        """What the journal shows of it."""
        return f"{self.method} {self.authority}{self.target.decode('latin-1')}"

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What rules may test; see the moments of `notnow.protocols`. It is on the right connection, as far as it says."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.headers}
        host = hostname(self.authority)
        length = headers.get("content-length", "")
        path, mark, query = self.target.partition(b"?")
        return {
            "command": self.method,
            "method": self.method,
            "authority": host,
            "host": host,
            "path": path.decode("latin-1"),
            "query": query.decode("latin-1") if mark else None,
            "size": int(length) if length.isdecimal() else None,
            "header": headers,
            "misdirected": (),
        }

    @cached_property
    def record(self) -> Request:
        """The request for the journal, without an answer so far. Each one has a `stream` of its own."""
        header = self.facts["header"]
        alternative, host = header.get("alt-used"), header.get("host")  # RFC 7838 §5
        key = header.get("idempotency-key")
        differs = self.version == "2" and host != self.authority  # :authority counts (RFC 9113 §8.3.1)
        return Request(
            stream=0,
            version=self.version,
            method=self.method,
            authority=brief(self.authority),
            host=self.facts["host"],
            path=brief(self.target.decode("latin-1")),
            misdirected=(),
            status=None,
            body_bytes=0,
            body_sha256=None,
            sent=0,
            whole=False,
            stored=False,
            alt_used=brief(alternative) if alternative else None,
            host_header=host if differs else None,
            idempotency_key=brief(key) if key else None,
        )


# The same head for the same request.
head_of = lru_cache(maxsize=64)(Head)


def hostname(authority: str) -> str:
    """The host of an authority, without its port, in lower case."""
    host = authority.rpartition("@")[2].lower()
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0].rstrip(".")
