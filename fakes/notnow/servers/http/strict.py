"""Readers of a client's bytes, for cases in which h2, hpack and h11 are laxer than their RFCs, or end too much.

h2's connection uses `Decoder` and `Frames`; `look_at` checks each request that h11 has read.
"""

from __future__ import annotations

import re

import h2.exceptions
import h11
import hpack
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.frame_buffer import FrameBuffer
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import Frame, PriorityFrame, WindowUpdateFrame

from notnow.servers.http import wellformed
from notnow.servers.http.sections import Sections

SETTINGS, ACK = 4, 1  # a frame's type, and its flag (RFC 9113 §6.5)
HEADERS, WHOLE = 1, 5  # the type, and its flags END_STREAM and END_HEADERS alone (RFC 9113 §6.2)
RESERVED = 2**31 - 1  # the bits of a number, without the reserved one (RFC 9113 §4.1, §6.9)
ADDRESS = re.compile(r"(?: from|:) <memory at \w+>")  # what hpack adds to some errors, and what differs each time
BASE64URL = re.compile(rb"[A-Za-z0-9_-]*={0,2}")  # RFC 7540 §3.2.1


class _CompressionError(h2.exceptions.ProtocolError):
    """A field section cannot be decoded (RFC 9113 §4.3). h2 would report a PROTOCOL_ERROR."""

    error_code = ErrorCodes.COMPRESSION_ERROR


class Decoder(hpack.Decoder):
    """hpack's decoder, which hides malformed field sections from h2: h2 gets an empty one, and `why` names the mistake."""

    said = ""
    why: str | None = None
    trailers = ends = False  # of the next section

    def __init__(self) -> None:
        super().__init__()
        self.sections = Sections[tuple[bytes, bool, bool], list[hpack.HeaderTuple]](self.header_table)

    def decode(self, data: bytes, raw: bool = False) -> list[hpack.HeaderTuple]:
        """The fields of a section. One that was read before is known to be well-formed."""
        section = data, self.trailers, self.ends
        if (known := self.sections.find(section)) is not None:
            self.why, self.said = None, ""
            return known
        fields = self._decode(data, raw)
        if self.why is None:
            self.sections.keep(section, fields, len(data))
        return fields

    def _decode(self, data: bytes, raw: bool) -> list[hpack.HeaderTuple]:
        try:
            fields: list[hpack.HeaderTuple] = list(super().decode(data, raw))
        except hpack.OversizedHeaderListError:
            raise
        except (hpack.HPACKError, IndexError, TypeError, UnicodeDecodeError) as error:
            why = ADDRESS.sub("", str(error))
            raise _CompressionError(f"a field section cannot be decoded: {why}") from error
        self.why = wellformed.in_http2(fields, trailers=self.trailers, ends=self.ends)
        self.said = wellformed.named(fields) if self.why else ""
        return [] if self.why else _joined(fields)


def _joined(fields: list[hpack.HeaderTuple]) -> list[hpack.HeaderTuple]:
    """The fields with their cookies in one, as h2 joins them (RFC 9113 §8.2.3): it does not see a request that is repeated."""
    cookies = [value for name, value in fields if name == b"cookie"]
    if not cookies:
        return fields
    others = [field for field in fields if field[0] != b"cookie"]
    return [*others, hpack.NeverIndexedHeaderTuple(b"cookie", b"; ".join(cookies))]


class FaultyFrame(Frame):
    """Stands for a frame that ends its stream with `code`, but not the connection. `why` names the mistake."""

    def __init__(self, number: int, code: ErrorCodes, why: str) -> None:
        super().__init__(number)
        self.code, self.why = code, why

    def _body_repr(self) -> str:
        return self.why


class RepeatedRequest(Frame):
    """Stands for the frame of a whole request whose field section, `block`, this connection has read before."""

    def __init__(self, number: int, block: bytes, fields: list[hpack.HeaderTuple]) -> None:  # no flags, and no length
        self.stream_id, self.block, self.fields = number, block, fields

    def __repr__(self) -> str:  # h2 asks for it with each frame
        return "RepeatedRequest"


class Frames(FrameBuffer):
    """h2's frame buffer, but it refuses a frame by its head, without waiting for the rest of one that is too large. A
    frame that is a stream error becomes a `FaultyFrame`; h2 would end the connection. The frame of a request that is
    repeated becomes a `RepeatedRequest`.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(server=True)
        self._decoder = decoder

    def __next__(self) -> Frame:
        if len(self._data) >= 9:
            size, kind, flags = int.from_bytes(self._data[:3], "big"), self._data[3], self._data[4]
            if size > self.max_frame_size:  # RFC 9113 §4.2
                raise h2.exceptions.FrameTooLargeError(f"a frame of {size} bytes; allowed: {self.max_frame_size}")
            if kind == SETTINGS and flags & ACK and size:  # RFC 9113 §6.5
                raise h2.exceptions.FrameDataMissingError(f"an acknowledgement of settings that holds {size} bytes")
            if not self._headers_buffer:  # no other frame may interrupt a header block
                special = self._repeated(size) if kind == HEADERS and flags == WHOLE else self._faulty(size, kind)
                if special is not None:
                    del self._data[: 9 + size]
                    return special
        return super().__next__()

    def _repeated(self, size: int) -> RepeatedRequest | None:
        """The next frame, that of a whole request, if it is complete and its field section was read before."""
        number = int.from_bytes(self._data[5:9], "big") & RESERVED
        block = bytes(self._data[9 : 9 + size])
        if len(block) < size or number % 2 == 0:
            return None
        fields = self._decoder.sections.find((block, False, True))
        return None if fields is None else RepeatedRequest(number, block, fields)

    def _faulty(self, size: int, kind: int) -> FaultyFrame | None:
        """The stream error of the next frame; None if it has none, or is incomplete."""
        number = int.from_bytes(self._data[5:9], "big") & RESERVED
        if len(self._data) < 9 + size:
            return None
        if kind == PriorityFrame.type and size != 5 and number:  # RFC 9113 §6.3
            return FaultyFrame(
                number, ErrorCodes.FRAME_SIZE_ERROR, f"PRIORITY has {size} bytes; right: 5 (RFC 9113 §6.3)"
            )
        if kind == WindowUpdateFrame.type and size == 4:
            self._data[9] &= 0x7F  # ignore the reserved bit, which hyperframe would take for a part of the number
            if number and not any(self._data[9:13]):
                return FaultyFrame(number, ErrorCodes.PROTOCOL_ERROR, "WINDOW_UPDATE adds 0 bytes (RFC 9113 §6.9)")
        return None


def look_at(request: h11.Request, clear: bool) -> None:
    """The checks that h11 leaves to its users; `clear`: not in TLS. Raises RemoteProtocolError with the status for the client."""
    if is_preface(request):
        return
    headers = list(request.headers)
    found = wellformed.in_http1(request.method, request.target, request.http_version, headers)
    settings = upgrade_settings(request) if clear else None  # h2c is for clear text (RFC 7540 §3.2)
    if found is None and settings is not None and not _are_settings(settings):
        found = 400, f"HTTP2-Settings is {settings[:60]!r}, no settings in base64url (RFC 7540 §3.2.1)"
    if found is not None:
        raise h11.RemoteProtocolError(found[1], error_status_hint=found[0])


def is_preface(request: h11.Request) -> bool:
    """True if the client speaks HTTP/2 with prior knowledge (RFC 9113 §3.4)."""
    return (request.method, request.target, request.http_version) == (b"PRI", b"*", b"2.0")


def upgrade_settings(request: h11.Request) -> bytes | None:
    """The HTTP2-Settings of a request that may upgrade to HTTP/2: it has exactly one, and no body (RFC 7540 §3.2)."""
    listed: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        listed.setdefault(name, []).extend(one.strip().lower() for one in value.split(b","))
    told = [value for name, value in request.headers if name == b"http2-settings"]
    body = listed.keys() & {b"content-length", b"transfer-encoding"}
    asked = b"upgrade" in listed.get(b"connection", []) and listed.get(b"upgrade") == [b"h2c"]
    return told[0] if asked and len(told) == 1 and not body and request.method != b"CONNECT" else None


def _are_settings(told: bytes) -> bool:
    """True if h2 accepts the settings."""
    if not BASE64URL.fullmatch(told):
        return False
    try:
        H2Connection(H2Configuration(client_side=False)).initiate_upgrade_connection(told)
    except (ValueError, HyperframeError, h2.exceptions.H2Error):
        return False
    return True
