"""What an FTP session needs of its fake."""

from __future__ import annotations

from typing import Protocol

from notnow.servers.base.listener import LingeringClose
from notnow.servers.base.session import Host
from notnow.servers.ftp.files import Files


class FileHost(Host, Protocol):
    """A host with files."""

    @property
    def files(self) -> Files:
        """The tree as it is now: a reset replaces it."""

    @property
    def ports(self) -> set[int]:
        """Every port at which this fake has a socket."""

    @property
    def drains(self) -> LingeringClose:
        """The data connections that are being closed without losing their last bytes."""

    def admits(self, user: str, password: str) -> bool:
        """True if this user may log in with this password."""
