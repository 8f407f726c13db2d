"""The files of all workers, as one of them sees them: each question is answered by the process that they have in common."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from notnow.servers.ftp.content import BIG, filling, put
from notnow.servers.ftp.filesystem import MemoryFS, is_plain
from notnow.servers.ftp.opened import Reader, Writer
from notnow.servers.workers.open_files import TREE, Opened
from notnow.servers.workers.remote import Link

LINES = 200  # of a listing that are asked for at once


class Files:
    """The line on which a worker asks. `place` is that of the worker."""

    def __init__(self, link: Link, place: int) -> None:
        self._link, self._place = link, place
        self._done_with: deque[int] = deque()

    def ask(self, number: int, method: str, *given: Any) -> Any:
        """Have an operation carried out. Raises FilesystemError or NoRoomError, as in one process."""
        done_with = [self._done_with.popleft() for _ in range(len(self._done_with))]
        return self._link.ask("files", self._place, done_with, number, method, given)

    def drop(self, number: int) -> None:
        """Nobody here knows this file any more. For any thread."""
        self._done_with.append(number)


class RemoteFile:
    """An opened file. The other process knows it as long as this object is used.

    `_descriptor` is that of a system file with its bytes: -1 if there is none, None before the first question for it.
    """

    _descriptor: int | None = None

    def __init__(self, files: Files, opened: Opened) -> None:
        self._files, self._opened = files, opened

    def _ask(self, method: str, *given: Any) -> Any:
        return self._files.ask(self._opened.number, method, *given)

    def close(self) -> None:
        """Nothing is read from it, or written to it, any more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self._files.drop(self._opened.number)


class RemoteSource(RemoteFile):
    """A `Source`."""

    @property
    def size(self) -> int:
        return self._opened.size

    def read(self, start: int, count: int) -> bytes:
        if count <= 0:
            return b""
        if self._opened.made_up:
            return filling(self.size, start, count)
        if (descriptor := self.descriptor()) >= 0:
            return os.pread(descriptor, count, start)
        found: bytes = self._ask("read", start, count)
        return found

    def descriptor(self) -> int:
        if self._descriptor is None:
            self._descriptor = self._ask("descriptor") if self.size >= BIG else -1
        return self._descriptor


class RemoteReader(Reader):
    """A `Reader` that closes its source."""

    source: RemoteSource

    def close(self) -> None:
        super().close()
        self.source.close()


class RemoteTarget(RemoteFile):
    """A `Target`. Bytes at the end of a big file are written here: nobody sees them before its new length is known."""

    def __init__(self, files: Files, opened: Opened) -> None:
        super().__init__(files, opened)
        self._end = opened.size

    def write(self, position: int, data: bytes) -> None:
        end = position + len(data)
        if self._descriptor is None and self._end >= BIG:
            self._descriptor = self._ask("move")
        if position == self._end and self._descriptor is not None and self._descriptor >= 0:
            put(self._descriptor, data, position)
            self._ask("extend", end)
        else:
            self._ask("write", position, data)
        self._end = max(self._end, end)

    def finish(self) -> None:
        self._ask("finish")

    def discard(self) -> None:
        self._ask("discard")

    def close(self) -> None:
        super().close()
        self._ask("close")


def _asking(method: str) -> Callable[..., Any]:
    def ask(self: RemoteFS, *given: Any) -> Any:
        return self.files.ask(TREE, method, *given)

    return ask


class RemoteFS(MemoryFS):
    """The file system of a session in a worker."""

    def __init__(self, root: str, cmd_channel: Any) -> None:
        super().__init__(root, cmd_channel)
        self.files: Files = cmd_channel.host.remote_files

    remove, rename, chmod, utime = _asking("remove"), _asking("rename"), _asking("chmod"), _asking("utime")
    mkdir, rmdir, listdir = _asking("mkdir"), _asking("rmdir"), _asking("listdir")
    stat, isfile, isdir, lexists = _asking("stat"), _asking("isfile"), _asking("isdir"), _asking("lexists")
    lstat = stat

    def open(self, filename: str, mode: str) -> Reader | Writer:
        opened = self.files.ask(TREE, "open", filename, mode)
        if mode == "rb":
            return RemoteReader(filename, RemoteSource(self.files, opened))
        return self._writer(opened)

    def mkstemp(self, suffix: str = "", prefix: str = "", dir: str | None = None, mode: str = "wb") -> Writer:
        return self._writer(self.files.ask(TREE, "mkstemp", suffix, prefix, dir, mode))

    def _writer(self, opened: Opened) -> Writer:
        return Writer(opened.name, RemoteTarget(self.files, opened), opened.position)

    def matches(self, path: str) -> tuple[str, list[str]] | None:
        found: tuple[str, list[str]] | None = None if is_plain(path) else self.files.ask(TREE, "matches", path)
        return found

    def format_list(self, basedir: str, listing: Iterable[str], ignore_err: bool = True) -> Iterator[bytes]:
        for names in _some(listing):
            yield from self.files.ask(TREE, "format_list", basedir, names, ignore_err)

    def format_mlsx(
        self, basedir: str, listing: Iterable[str], perms: str, facts: Iterable[str], ignore_err: bool = True
    ) -> Iterator[bytes]:
        for names in _some(listing):
            yield from self.files.ask(TREE, "format_mlsx", basedir, names, perms, tuple(facts), ignore_err)


def _some(names: Iterable[str]) -> Iterator[list[str]]:
    """The names in lists of at most LINES."""
    left = iter(names)
    while some := list(islice(left, LINES)):
        yield some
