"""Files that a client has opened: one that it downloads, and one that it uploads.

A session reads and writes its file as a stream, through a `Reader` or a `Writer`. Behind it is the file of the tree, which may be
in another process: a `Source` or a `Target`.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from notnow.servers.ftp.content import Node
from notnow.servers.ftp.files import Files


class Source(Protocol):
    """A file of the tree, for reading."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, count: int) -> bytes:
        """At most `count` bytes from `start`."""

    def descriptor(self) -> int:
        """The descriptor of a system file with the same content; -1 if there is none."""


class Target(Protocol):
    """A file of the tree that is being uploaded."""

    def write(self, position: int, data: bytes) -> None:
        """Raises NoRoomError."""

    def finish(self) -> None:
        """The upload is complete."""

    def discard(self) -> None:
        """Undo the upload: the file is as it was before."""

    def close(self) -> None:
        """No more bytes will come."""


class Reader:
    """A file that is downloaded, with the length that it has now: bytes of a later upload do not count."""

    def __init__(self, name: str, source: Source) -> None:
        self.name, self.closed, self.size = name, False, source.size
        self.source, self.position = source, 0

    def seek(self, position: int) -> None:
        self.position = position

    def read(self, size: int) -> bytes:
        piece = self.source.read(self.position, min(size, self.size - self.position))
        self.position += len(piece)
        return piece

    def descriptor(self) -> int:
        """The descriptor of a system file with the same content, for `os.sendfile`; -1 if there is none."""
        return self.source.descriptor()

    def close(self) -> None:
        self.closed = True


class Writer:
    """A file that is uploaded, from `position` on. Its bytes can be read at once; it is complete after `finish`."""

    def __init__(self, name: str, target: Target, position: int) -> None:
        self.name, self.closed, self.target, self.position = name, False, target, position
        self._hash = hashlib.sha256()

    def seek(self, position: int) -> None:
        self.position = position

    def write(self, data: bytes) -> None:
        """Raises NoRoomError."""
        self.target.write(self.position, data)
        self._hash.update(data)
        self.position += len(data)

    def finish(self) -> None:
        """The upload is complete."""
        self.target.finish()

    @property
    def sha256(self) -> str:
        """The hash of the uploaded bytes, as hex, without the bytes that the file had before."""
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Undo the upload: the file is as it was before."""
        self.target.discard()

    def close(self) -> None:
        self.closed = True
        self.target.close()


class Upload:
    """A `Target` in this process. `mode` is that of `open`."""

    def __init__(self, name: str, files: Files, mode: str) -> None:
        self.name, self._files = name, files
        self._before = files.node(name)
        self._untouched = self._before is not None and self._before.whole and "w" not in mode
        self.node = _beginning(None if "w" in mode else self._before, files.now())
        if self._before is not None:
            self.node.mode = self._before.mode
        files.put(name, self.node)

    def write(self, position: int, data: bytes) -> None:
        self.extend(position + len(data))
        self.node.write(position, data)

    def extend(self, end: int) -> None:
        """Its bytes up to `end` are about to change, or have done so in its system file. Raises NoRoomError."""
        node = self.node
        self.own()
        if end > node.size:
            self._files.grow(node, end - node.size)
        node.modified = self._files.now()
        self._untouched = False

    def own(self) -> None:
        """Copy the bytes that it had before. Raises NoRoomError."""
        if self.node.base is not None:
            self._files.own(self.node)

    def finish(self) -> None:
        self.node.whole = True

    def discard(self) -> None:
        if self._files.node(self.name) is self.node:
            self._files.remove(self.name)
            if self._before is not None:
                self._files.put(self.name, self._before)

    def close(self) -> None:
        self.node.open = False
        self.node.whole = self.node.whole or self._untouched


def writer(name: str, files: Files, mode: str) -> Writer:
    """Open a file of this process for an upload."""
    upload = Upload(name, files, mode)
    return Writer(name, upload, upload.node.size if "a" in mode else 0)


def _beginning(before: Node | None, now: float) -> Node:
    """The file of a new upload, with the bytes and the mode that it had before."""
    node = Node(bytearray(), now)
    if before is not None:
        node.base, node.data = before.base or before, None
        node.size, node.made_up = before.size, before.made_up
        if before.open:  # by another upload, which continues
            node.own()
    node.whole, node.open = False, True
    return node
