"""The files of a fake with workers: one tree, and what each worker has opened in it.

A worker asks for one operation of the file system at a time, and no other comes between. The bytes of a small file come and go as messages.
Those of a big one are in a system file: a worker sends it by itself, or writes to it and tells its new length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakSet

from msgspec import Struct
from pyftpdlib.exceptions import FilesystemError

from notnow.servers.ftp.content import Node
from notnow.servers.ftp.files import NoRoomError
from notnow.servers.ftp.filesystem import MemoryFS
from notnow.servers.ftp.host import FileHost
from notnow.servers.ftp.opened import Reader, Upload, Writer
from notnow.servers.workers.wire import Descriptor

TREE = 0  # the number of the file system among opened files
MOST_MOVED = 256  # system files of uploads, each of which takes a descriptor as long as there is the file


class Opened(Struct, frozen=True):
    """What a worker is told of a file that it has opened. `position` is where an upload begins; `made_up`: see `Node`."""

    number: int
    name: str
    size: int
    position: int = 0
    made_up: bool = False


class OpenFiles:
    """The file system of all sessions in workers, and their opened files by number."""

    def __init__(self, host: FileHost) -> None:
        self.host = host
        self._fs = MemoryFS("/", self)
        self._numbers = itertools.count(TREE + 1)
        self._open: dict[int, tuple[int, Node | Upload]] = {}  # with the places of their workers
        self._moved: WeakSet[Node] = WeakSet()

    def answer(self, place: int, done_with: Sequence[int], number: int, method: str, given: Sequence[Any]) -> Any:
        """Carry out one operation for a worker, on the tree or on an opened file. An error for the client is an answer."""
        for old in done_with:
            self._open.pop(old, None)
        file: object = self._fs if number == TREE else self._open[number][1]
        try:
            found = self._move(file) if isinstance(file, Upload) and method == "move" else getattr(file, method)(*given)
            if isinstance(found, Iterator):
                return list(found)
        except (FilesystemError, NoRoomError) as error:
            return error.with_traceback(None)  # whose frames know the file
        if isinstance(found, (Reader, Writer)):
            return self._opened(place, found)
        return Descriptor(found) if method in ("descriptor", "move") and found >= 0 else found

    def _move(self, upload: Upload) -> int:
        """The descriptor of a system file in which an upload continues; -1 if there are too many already, or none can be made."""
        upload.own()
        if len(self._moved) >= MOST_MOVED:
            return -1
        descriptor = upload.node.move()
        if descriptor >= 0:
            self._moved.add(upload.node)
        return descriptor

    def _opened(self, place: int, file: Reader | Writer) -> Opened:
        number = next(self._numbers)
        if isinstance(file, Reader):
            assert isinstance(file.source, Node), "it is in this process"
            self._open[number] = place, file.source
            return Opened(number, file.name, file.size, made_up=file.source.made_up)
        assert isinstance(file.target, Upload), "the same"
        self._open[number] = place, file.target
        return Opened(number, file.name, file.target.node.size, file.position)

    def cut(self, place: int | None = None) -> list[str]:
        """A worker is gone, or all: end what they have opened. The names of their uploads under way, which stay partial."""
        names = []
        for number in [number for number, (where, _) in self._open.items() if place in (None, where)]:
            file = self._open.pop(number)[1]
            if isinstance(file, Upload) and file.node.open:
                file.close()
                names.append(file.name)
        return names
