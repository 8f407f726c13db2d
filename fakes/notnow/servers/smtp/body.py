"""A message on its way in: where it ends, and what its headers say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

END = b"\r\n.\r\n"
_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>\r\n]+>)", re.IGNORECASE | re.MULTILINE)


def message_id(content: bytes | bytearray) -> str | None:
    """The Message-ID of a message, of which the beginning may be all that has come."""
    header_end = content.find(b"\r\n\r\n")
    found = _MESSAGE_ID.search(content, 0, header_end if header_end >= 0 else len(content))
    return found[1].decode("utf-8", "replace") if found else None


class Body:
    """A message as it comes in, up to its final dot (RFC 5321 §4.1.1.4): CRLF, a dot, CRLF and nothing less.

    `size` counts the bytes of the message as they were sent, without the final dot. Bytes beyond `limit` are counted and
    not kept.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.complete = self.too_large = False
        self._limit = limit
        self._kept = bytearray(b"\r\n")  # the dot may stand on the first line
        self._id: str | None = None  # of a message that is too large

    def feed(self, data: bytes) -> bytes:
        """Add bytes; return those that came after the end."""
        kept = self._kept
        start = max(0, len(kept) - len(END) + 1)
        kept += data
        end = kept.find(END, start)
        if end < 0:
            self.size += len(data)
            self._bound(len(b".\r"))
            return b""
        rest = bytes(kept[end + len(END) :])
        self.size += len(data) - len(rest) - len(b".\r\n")
        self.complete = True
        del kept[end + len(b"\r\n") :]
        self._bound()
        return rest

    def _bound(self, of_the_dot: int = 0) -> None:
        """Keep no more than the limit. The last `of_the_dot` bytes may belong to the final dot."""
        if self.too_large or len(self._kept) > self._limit + len(b"\r\n") + of_the_dot:
            self._id, self.too_large = self.message_id, True
            del self._kept[: -(len(END) - 1)]

    @property
    def message_id(self) -> str | None:
        """The Message-ID, once it has come."""
        return self._id if self.too_large else message_id(self._kept)

    def content(self) -> bytes:
        """The message, with dot-stuffing undone (RFC 5321 §4.5.2)."""
        kept = self._kept
        return bytes((kept.replace(b"\r\n.", b"\r\n") if b"\r\n." in kept else kept)[2:])


class Chunks:
    """A message that comes in chunks of announced sizes (RFC 3030 §2). `size` counts all bytes; a message beyond `limit` is
    not kept.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.too_large = False
        self._limit = limit
        self._kept = bytearray()
        self._id: str | None = None  # of a message that is too large

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self._limit:
            self._id, self.too_large = self.message_id, True
            self._kept.clear()
        else:
            self._kept += data

    @property
    def message_id(self) -> str | None:
        """The Message-ID, once it has come."""
        return self._id if self.too_large else message_id(self._kept)

    def content(self) -> bytes:
        return bytes(self._kept)


class LazyHeaders(Mapping[str, str]):
    """The headers of a message by their lower-case names, parsed when a rule asks for one."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def _parsed(self) -> dict[str, str]:
        from email.parser import BytesHeaderParser

        return {name.lower(): str(value) for name, value in BytesHeaderParser().parsebytes(self._content).items()}

    def __getitem__(self, name: str) -> str:
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed)

    def __len__(self) -> int:
        return len(self._parsed)
