"""A datagram at the silent UDP port of an HTTP fake."""

from __future__ import annotations

from notnow.servers.http.quic import initial


def one(data: bytes) -> None:
    found = initial(data)
    assert found is None or (found.version != 0 and data[6:].startswith(found.id))
