"""Limits for HTTP/2 clients: frames in turns, and floods (RFC 9113 §10.5).

h2 handles all frames that it gets in one go. `Frames`, its frame buffer, releases the frames of one turn, holds back the
others, and counts frames without a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from h2.exceptions import DenialOfServiceError
from h2.settings import SettingCodes
from hpack import Encoder as AnyEncoder
from hpack import InvalidTableSizeError, OversizedHeaderListError
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

from notnow.bounds import CALM, CANCELLED, H2_HEAD, TABLE, TABLE_UPDATES
from notnow.servers.http import strict
from notnow.servers.http.sections import Head, Sections

if TYPE_CHECKING:
    from hpack import HeaderTuple

    from notnow.servers.base.turns import Turn

RESET = CALM // CANCELLED  # the cost of a cancelled stream in a client's credit; a frame without a request costs 1
ANSWER, PIECE = 20, 4  # the credit for an answered request, and for a piece of a body in either direction
BLOCK = H2_HEAD * 30 // 8  # bytes: the longest Huffman code has 30 bits (RFC 7541 Appendix B)
_KNOWN = frozenset(int(code) for code in SettingCodes)


class Calm:
    """A client's credit for frames without a request. Every answered request and every piece of a body adds to it."""

    def __init__(self) -> None:
        self._left = CALM

    def earn(self, credit: int) -> None:
        self._left += credit

    def spend(self, what: str, cost: int = 1) -> None:
        """Raises DenialOfServiceError (ENHANCE_YOUR_CALM) when the credit is spent."""
        self._left -= cost
        if self._left < 0:
            raise DenialOfServiceError(f"a flood, at last of {what}")


class Frames(strict.Frames):
    """The frames that have arrived: some for each turn, the others are `held`."""

    held = False

    def __init__(self, turn: Turn, calm: Calm, decoder: Decoder) -> None:
        super().__init__(decoder)
        self._turn, self._calm = turn, calm

    def __next__(self) -> Frame:
        if self._turn.over():
            self.held = True
            raise StopIteration
        frame = super().__next__()
        if isinstance(frame, strict.RepeatedRequest):
            return frame
        if isinstance(frame, DataFrame) and frame.data:
            self._calm.earn(PIECE)
        elif not isinstance(frame, HeadersFrame) and "END_STREAM" not in frame.flags:
            self._calm.spend(type(frame).__name__)
        if isinstance(frame, SettingsFrame):  # RFC 9113 §6.5.2: ignore unknown settings, all of which h2 would keep
            frame.settings = {code: value for code, value in frame.settings.items() if code in _KNOWN}
        return frame


class Decoder(strict.Decoder):
    """A header block may begin with at most two table size updates (RFC 7541 §4.2), but could hold thousands.

    One that is too long for any list of the allowed size is not decoded: a string of a megabyte would take a second.
    """

    _updates = 0

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:
        if len(data) > BLOCK:
            raise OversizedHeaderListError(f"a header block of {len(data)} bytes; most: {BLOCK}")
        self._updates = 0
        return super().decode(data, raw)

    def _update_encoding_context(self, data: bytes | memoryview) -> int:
        self.sections.forget()
        self._updates += 1
        if self._updates > TABLE_UPDATES:
            raise InvalidTableSizeError(f"more than {TABLE_UPDATES} table size updates in a block")
        consumed: int = super()._update_encoding_context(data)
        return consumed


class Encoder(AnyEncoder):
    """A client may offer gigabytes for our table of headers, which would grow with every answer; we need not use them (RFC 7541 §4.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.sections = Sections[Head, bytes](self.header_table)
        self.block = b""  # the last section that was written

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        checked = list(
            headers
        )  # h2 checks fields as they are read, and may refuse one when others are in the table already
        self.block = super().encode(checked, huffman)
        return self.block

    @property
    def header_table_size(self) -> int:
        return int(self.header_table.maxsize)

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        """The next block begins with the smallest size since the last one, and the final one (RFC 7541 §4.2)."""
        size = min(value, TABLE)
        self.sections.forget()
        untold, self.header_table.maxsize = self.table_size_changes, size
        if untold or self.header_table.resized:
            self.header_table.resized = True  # hpack's own forgets a change if its new size is told twice
            least = min([*untold, size])
            self.table_size_changes = [least, size] if least < size else [size]
