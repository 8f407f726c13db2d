"""The files of an FTP server in another process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from notnow.control.client import Client


class File(NamedTuple):
    size: int
    partial: bool


class RemoteFiles(Mapping[str, bytes]):
    """The files of a server by their paths, as they were when they were asked for; their bytes are read when needed."""

    def __init__(self, client: Client, path: str, known: Mapping[str, File]) -> None:
        self._client, self._path, self._known = client, path, known

    def __getitem__(self, name: str) -> bytes:
        name = name.removeprefix("/")
        if name not in self._known:
            raise KeyError(f"{name!r}: there is no such file; there are {', '.join(self) or 'none'}")
        return self._client.call("GET", f"{self._path}/files/{name}").body

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.removeprefix("/") in self._known

    @property
    def partial(self) -> tuple[str, ...]:
        """The names of incomplete files."""
        return tuple(name for name, file in self._known.items() if file.partial)

    def size(self, name: str) -> int:
        """How many bytes a file has."""
        return self._known[name.removeprefix("/")].size

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file, as hex."""
        return hashlib.sha256(self[name]).hexdigest()
