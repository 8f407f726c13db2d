"""HTTP: `FakeHTTP`, on hypercorn's protocols for HTTP/2 and HTTP/1.1."""

from __future__ import annotations

from notnow.servers.http.fake import FakeHTTP

__all__ = ["FakeHTTP"]
