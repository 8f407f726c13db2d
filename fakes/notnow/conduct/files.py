"""Assertions about the files of an FTP server: what arrived, byte for byte."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Protocol

from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions, fail
from notnow.errors import nearest
from notnow.journal import Exchange, Journal


class Tree(Protocol):
    """The files of a fake by their names, and which of them are pieces."""

    @property
    def partial(self) -> tuple[str, ...]: ...
    def __getitem__(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def sha256(self, name: str) -> str: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


class FileAssertions(Assertions):
    """What a fake that holds files can say of its clients beyond the rest."""

    files: Tree

    def assert_stored(
        self, name: str, content: bytes | str | None = None, *, sha256: str | None = None, size: int | None = None
    ) -> None:
        """There is a file of this name, all of it has come, and it is what it should be.

        `content`: byte for byte this, a text as UTF-8. `sha256`: the hash of it, as hex, or its first digits (4 or more). `size`: in bytes.
        """
        __tracebackhide__ = True
        arguments.text("name", name, "the name of a file")
        if content is not None:
            arguments.a_type("content", content, "bytes, or a text", bytes, bytearray, memoryview, str)
        if size is not None:
            arguments.whole("size", size)
        if sha256 is not None:
            _check_hash(sha256)
        expected = f"{name} to be stored"
        about = _uploads(self.journal, name)
        if name not in self.files:
            near = nearest(name, self.files)
            there = f"; there is {near}" if near else f"; there are {', '.join(self.files) or 'no files'}"
            fail(self.journal, expected, f"there is no such file{there}", about)
        there_are = self.files.size(name)
        if _path(name)[1:] in self.files.partial:
            fail(self.journal, expected, f"only a piece of it has come, {there_are} bytes", about[-1:])
        wanted = content.encode() if isinstance(content, str) else content
        if wanted is not None and (found := self.files[name]) != wanted:
            fail(self.journal, f"{expected} as it should be", _difference(found, wanted), about)
        if size is not None and there_are != size:
            fail(self.journal, f"{expected} with {size} bytes", f"it has {there_are}", about)
        if sha256 is not None and not (seen := self.files.sha256(name)).startswith(sha256.lower()):
            fail(self.journal, f"{expected} with the SHA-256 {sha256}", f"{there_are} bytes have {seen}", about)

    def assert_no_partial_files(self) -> None:
        """Every file that was uploaded is whole: none was left as the piece that had come when it was cut."""
        __tracebackhide__ = True
        for name in self.files.partial:
            seen = f"only {self.files.size(name)} bytes of {name} have come"
            fail(self.journal, "every file to be whole", seen, _uploads(self.journal, name)[-1:])

    def assert_expected(self) -> None:
        __tracebackhide__ = True
        super().assert_expected()
        if self.scenario.expect.no_partial_files:
            self.assert_no_partial_files()


def _check_hash(sha256: object) -> None:
    allowed = "a SHA-256 in hex: 64 digits, or the first of them, 4 at least"
    arguments.a_type("sha256", sha256, allowed, str)
    if not re.fullmatch(r"[0-9a-fA-F]{4,64}", str(sha256)):
        raise ValueError(f"sha256 is {sha256!r}; allowed: {allowed}")


def _uploads(journal: Journal, name: str) -> list[Exchange]:
    path = _path(name)
    facts = [(x, x.facts or {}) for x in journal.exchanges]
    return [x for x, known in facts if known.get("direction") == "upload" and known["path"] == path]


def _path(name: str) -> str:
    return "/" + posixpath.normpath("/" + name).lstrip("/")


def _difference(found: bytes, wanted: bytes) -> str:
    """Where two contents part."""
    pairs = zip(found, wanted, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(wanted)))
    sizes = f"{len(found)} bytes in place of {len(wanted)}" if len(found) != len(wanted) else f"all {len(found)} bytes"
    return f"it has {sizes}, and is another from byte {at} on"
