"""Listings of the files that match a pattern (`LIST *.csv`), as servers give them that call `ls` or do the same."""

# ruff: noqa: N802 (the names of pyftpdlib's methods)
from __future__ import annotations

import posixpath

from pyftpdlib.handlers.ftp.producers import BufferedIteratorProducer

from notnow.servers.ftp.transfer import Transfers


class Listings(Transfers):
    """LIST, NLST and STAT of a pattern. A pattern without a match gives an empty listing, as vsftpd's does."""

    def ftp_LIST(self, path: str) -> None:
        fs = self.fs
        if (found := fs.matches(path)) is None:
            if not fs.isdir(path):
                super().ftp_LIST(path)
                return
            found = path, fs.listdir(path)  # pyftpdlib would act as the user first, and sort once more
        self.push_dtp_data(BufferedIteratorProducer(fs.format_list(*found)), isproducer=True, cmd="LIST")

    def ftp_NLST(self, path: str) -> None:
        """Names that a client can use as they are (RFC 1123 §4.1.2.7)."""
        if (found := self.fs.matches(path)) is None:
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
        found = self.fs.matches(path)
        if found is None:  # a file with this very name has just come
            found = posixpath.dirname(path), [posixpath.basename(path)]
        self.push(f'213-Status of "{path}":\r\n')
        self.push_with_producer(BufferedIteratorProducer(self.fs.format_list(*found)))
        self.respond("213 End of status.")

    def is_pattern(self, argument: str) -> bool:
        """True if this path is a pattern."""
        return self.fs is not None and self.fs.matches(self.fs.ftpnorm(argument)) is not None


__all__ = ["Listings"]
