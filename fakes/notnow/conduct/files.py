"""Assertions about the files that an FTP server holds."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator
from typing import Protocol

from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions, require
from notnow.conduct.expectations import delivery, unmet
from notnow.conduct.expectations.delivery import path_of, uploads
from notnow.conduct.finding import HELD, Finding
from notnow.errors import nearest


class Tree(Protocol):
    """The files of a fake by name. `partial` are the names of incomplete ones."""

    @property
    def partial(self) -> tuple[str, ...]: ...
    def __getitem__(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def sha256(self, name: str) -> str: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


class FileAssertions(Assertions):
    """The assertions of a fake that holds files."""

    @property
    @abstractmethod
    def files(self) -> Tree:
        """The files of the server."""

    def assert_stored(
        self, name: str, content: bytes | str | None = None, *, sha256: str | None = None, size: int | None = None
    ) -> None:
        """The server holds the whole file of this name, with the content that it should have.

        `content`: its bytes; a str is compared as UTF-8. `sha256`: its hash in hex, or the first digits of it (at
        least 4). `size`: its size in bytes.
        """
        __tracebackhide__ = True
        arguments.text("name", name, "the name of a file")
        if content is not None:
            arguments.a_type("content", content, "bytes, or a text", bytes, bytearray, memoryview, str)
        if size is not None:
            arguments.whole("size", size)
        if sha256 is not None:
            _check_hash(sha256)
        require(self._stored(name, content, sha256, size), self.journal)

    def assert_no_partial_files(self) -> None:
        """Every uploaded file is whole: no interrupted upload left a partial file."""
        __tracebackhide__ = True
        require(delivery.no_partial_files(self.journal.exchanges, delivery.pieces(self.files)), self.journal)

    def _stored(self, name: str, content: bytes | str | None, sha256: str | None, size: int | None) -> Finding:
        expected, about = f"{name} to be stored", uploads(self.journal.exchanges, name)
        if name not in self.files:
            near = nearest(name, self.files)
            there = f"there is {near}" if near else f"there are {', '.join(self.files) or 'no files'}"
            return unmet(expected, f"there is no such file; {there}", about)
        found_size = self.files.size(name)
        if path_of(name)[1:] in self.files.partial:
            return unmet(expected, f"only a piece of it has come, {found_size} bytes", about[-1:])
        wanted = content.encode() if isinstance(content, str) else content
        if wanted is not None and (found := self.files[name]) != wanted:
            return unmet(f"{expected} as it should be", _difference(found, wanted), about)
        if size is not None and found_size != size:
            return unmet(f"{expected} with {size} bytes", f"it has {found_size}", about)
        if sha256 is not None and not (seen := self.files.sha256(name)).startswith(sha256.lower()):
            return unmet(f"{expected} with the SHA-256 {sha256}", f"{found_size} bytes have {seen}", about)
        return HELD


def _check_hash(sha256: object) -> None:
    allowed = "a SHA-256 in hex: 64 digits, or the first of them, 4 at least"
    arguments.a_type("sha256", sha256, allowed, str)
    if not re.fullmatch(r"[0-9a-fA-F]{4,64}", str(sha256)):
        raise ValueError(f"sha256 is {sha256!r}; allowed: {allowed}")


def _difference(found: bytes, wanted: bytes) -> str:
    """Where two contents differ, and their sizes."""
    pairs = zip(found, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))
    sizes = f"{len(found)} bytes in place of {len(wanted)}" if len(found) != len(wanted) else f"all {len(found)} bytes"
    return f"it has {sizes}, and is another from byte {at} on"
