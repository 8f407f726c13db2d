"""The line ends of an upload in TYPE A (RFC 959 §3.1.1.1)."""

from __future__ import annotations


class Newlines:
    """Turns CRLF into LF in a stream of pieces."""

    def __init__(self) -> None:
        self._held = b""

    def __call__(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data.removesuffix(b"\r").replace(b"\r\n", b"\n")

    def rest(self) -> bytes:
        """The byte that is held back, at the end of the stream."""
        return self._held
