"""What a client asks on an HTTP/2 connection that the fake has closed.

Private seams of h2: `_data` and `_headers_buffer` of its `FrameBuffer`.
"""

from __future__ import annotations

from itertools import islice

from h2.frame_buffer import FrameBuffer
from hyperframe.frame import HeadersFrame

from notnow.servers.http.http2_connection import Connection

FRAMES = 500  # that are looked at: what a client floods with is no request
LARGEST = 16_384  # bytes of a frame (RFC 9113 §4.2); nobody has been told of more


class Overheard:
    """The requests in the bytes that arrive after the close, written as HTTP/1.1 would have their heads."""

    def __init__(self, connection: Connection) -> None:
        self._frames, self._decoder = FrameBuffer(), connection.decoder
        self._frames.max_frame_size = LARGEST
        self._frames._data += connection.frames._data  # the beginning of a frame
        self._frames._headers_buffer += connection.frames._headers_buffer  # and of a header block
        self._lost, self._left = False, FRAMES

    def requests(self, data: bytes) -> bytes:
        """The heads of the requests that end in `data`. Empty once the client has broken the protocol."""
        heads: list[bytes] = []
        try:
            if not self._lost:
                self._frames.add_data(data)
                frames = list(islice(self._frames, self._left))
                self._left -= len(frames)
                heads = [self._head(frame) for frame in frames if isinstance(frame, HeadersFrame)]
        except Exception:  # garbage makes h2, hyperframe and hpack raise a dozen kinds of errors
            self._lost = True
        self._lost = self._lost or not self._left
        return b"".join(heads)

    def _head(self, frame: HeadersFrame) -> bytes:
        self._decoder.trailers, self._decoder.ends = False, "END_STREAM" in frame.flags
        fields = {bytes(name): bytes(value) for name, value in self._decoder.decode(frame.data, raw=True)}
        if b":method" not in fields:
            return b""  # trailers
        authority = fields.get(b":authority") or fields.get(b"host", b"")
        return b"%b %b HTTP/2\r\nhost: %b\r\n\r\n" % (fields[b":method"], fields.get(b":path", b""), authority)
