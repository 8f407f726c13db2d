"""Listings of the files that match a pattern (`LIST *.csv`), as servers give them that call `ls` or do the same."""

# ruff: noqa: N802 (the names of pyftpdlib's methods)
from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyftpdlib.handlers.ftp.producers import BufferedIteratorProducer

from notnow.servers.ftp.transfer import Transfers

if TYPE_CHECKING:
    from notnow.servers.ftp.files import Files

_MAGIC = frozenset("*?[")


class Listings(Transfers):
    """LIST, NLST and STAT of a pattern.

    A pattern without a match gives an empty listing, as vsftpd's does. The path of an existing file is not a pattern,
    whatever its characters are. `*` does not match a leading dot.
    """

    def ftp_LIST(self, path: str) -> None:
        if (found := self._matches(path)) is None:
            super().ftp_LIST(path)
        else:
            lines = BufferedIteratorProducer(self.fs.format_list(*found))
            self.push_dtp_data(lines, isproducer=True, cmd="LIST")

    def ftp_NLST(self, path: str) -> None:
        """Names that a client can use as they are (RFC 1123 §4.1.2.7)."""
        if (found := self._matches(path)) is None:
            super().ftp_NLST(path)
            return
        base, names = found
        whole = [posixpath.join(base, name) for name in names]
        here = self.fs.cwd.rstrip("/") + "/"
        data = "".join(f"{name.removeprefix(here)}\r\n" for name in whole)
        self.push_dtp_data(data.encode("utf-8", "replace"), cmd="NLST")

    def list_on_control(self, argument: str) -> None:
        """STAT of a pattern: a listing in the reply (RFC 959 §4.1.3). pyftpdlib refuses it without looking."""
        path = self.fs.ftpnorm(argument)
        found = self._matches(path)
        assert found is not None
        self.push(f'213-Status of "{path}":\r\n')
        self.push_with_producer(BufferedIteratorProducer(self.fs.format_list(*found)))
        self.respond("213 End of status.")

    def is_pattern(self, argument: str) -> bool:
        """True if this path is a pattern."""
        return self.fs is not None and self._matches(self.fs.ftpnorm(argument)) is not None

    def _matches(self, path: str) -> tuple[str, list[str]] | None:
        """The directory where a pattern begins, and the matching paths below it; None for a plain path."""
        if _MAGIC.isdisjoint(path) or self.fs.lexists(path):
            return None
        parts = path.strip("/").split("/")
        first = next(i for i, part in enumerate(parts) if not _MAGIC.isdisjoint(part))
        base = "/" + "/".join(parts[:first])
        return base, sorted(_below(self.host.files, base, parts[first:]))


def _below(files: Files, base: str, parts: list[str]) -> Iterator[str]:
    """The paths below a directory that match part by part."""
    pattern, *rest = parts
    for name in files.children(base) if files.is_directory(base) else ():
        if (name.startswith(".") and not pattern.startswith(".")) or not fnmatch.fnmatchcase(name, pattern):
            continue
        if rest:
            yield from (f"{name}/{more}" for more in _below(files, posixpath.join(base, name), rest))
        else:
            yield name


__all__ = ["Listings"]
