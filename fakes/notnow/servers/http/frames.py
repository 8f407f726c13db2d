"""HTTP/2 frames that hypercorn and h2 cannot send, or not when a scenario wants them (RFC 9113 §6, RFC 8336)."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from h2.errors import ErrorCodes
from hyperframe.frame import AltSvcFrame, ExtensionFrame, GoAwayFrame

CODES = {code.name: int(code) for code in ErrorCodes}
_ORIGIN = 0x0C


def go_away(last: int, code: str) -> bytes:
    """GOAWAY (RFC 9113 §6.8): the server has not served streams above `last`, and never will."""
    frame: bytes = GoAwayFrame(0, last_stream_id=last, error_code=CODES[code]).serialize()
    return frame


def alt_svc(stream: int, value: str, origin: str = "") -> bytes:
    """ALTSVC (RFC 7838 §4), for the origin of a stream, or on stream 0 for an origin that it names."""
    frame: bytes = AltSvcFrame(stream, origin=origin.encode(), field=value.encode()).serialize()
    return frame


def origin(origins: Iterable[str]) -> bytes:
    """ORIGIN (RFC 8336 §2): the origins that this connection serves."""
    body = b"".join(struct.pack(">H", len(name)) + name.encode() for name in origins)
    frame = ExtensionFrame(_ORIGIN, 0, body=body)
    frame.body_len = len(body)
    serialized: bytes = frame.serialize()
    return serialized
