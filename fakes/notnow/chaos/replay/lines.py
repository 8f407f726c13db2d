"""The lines of a recording: a file of any size is read line by line, and a line of any length does not fill the memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from notnow.chaos.replay.recording import ReplayError

LONGEST = 1_000_000  # bytes of a line; a longer one is left out
RECORDINGS = "a journal (JSON Lines), a mail.log of Postfix, a scenario (.toml)"
_KINDS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_UNPACK = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd", "zip": "unzip"}


class Lines:
    """The lines of a file as text, without their ends; `read` counts them, `long` those that were left out.

    Bytes that are not UTF-8 become U+FFFD.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name, self.read, self.long = name, 0, 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        while piece := self._file.readline(LONGEST + 1):
            self.read += 1
            if self.read == 1:
                refuse_binary(piece, self.name)
            if len(piece) > LONGEST:
                self._skip_rest(piece)
            else:
                yield piece.decode("utf-8", "replace").rstrip("\r\n")

    def _skip_rest(self, piece: bytes) -> None:
        self.long += 1
        while piece and not piece.endswith(b"\n"):
            piece = self._file.readline(LONGEST)


def refuse_binary(start: bytes, name: str) -> None:
    """Raise ReplayError for the start of a file that is no text."""
    kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)
    if kind is not None:
        raise ReplayError(f"{name} is compressed ({kind}); unpack it first, with {_UNPACK[kind]}")
    if b"\0" in start[:4096]:
        raise ReplayError(f"{name} is no text; allowed: {RECORDINGS}")


def opened(path: str) -> BinaryIO:
    """A file to read. Raises ReplayError with the reason why it cannot be read."""
    try:
        if not Path(path).is_dir():
            return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise ReplayError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    raise ReplayError(f"{path} is a directory; allowed: {RECORDINGS}")
