"""A tree of files that is nowhere but in memory."""

from __future__ import annotations

import hashlib
import os
import posixpath
import random
import unicodedata
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from functools import lru_cache

from notnow.units import parse_size, show_size

BIG = 262_144  # bytes of a file from which on it is worth a descriptor
ROOM = 256 * 1024 * 1024  # bytes of files that are kept where no quota says otherwise
LARGEST = 1_000_000_000  # bytes of a file that is given by its size: it is in memory as soon as somebody wants it
JOINERS = "\u200c\u200d"  # in names in Persian, say, and between the parts of an emoji
DEFAULT = {"big.bin": "3MB", "small.txt": "A small file.\n"}
Content = bytes | bytearray | memoryview | str


class NoRoomError(OSError):
    """There is no room for what an upload brings (RFC 959 §4.2: 552)."""


@lru_cache(maxsize=16)
def filling(size: int) -> bytes:
    """So many bytes, always the same and nowhere alike: what is lost, doubled or moved shows in their hash."""
    return random.Random(size).randbytes(size)


class Node:
    """A file: its bytes, when it was changed (seconds since 1970), and whether all of it has come.

    The bytes of a big one that has been downloaded are the kernel's (a file of `memfd_create`, which is in
    memory, too), so that they are sent without a copy.
    """

    __slots__ = ("_descriptor", "data", "kept", "modified", "open", "size", "whole")

    def __init__(self, data: bytes | bytearray | None, modified: float, size: int = 0) -> None:
        self.data, self.modified = data, modified
        self.size = size if data is None else len(data)
        self.whole = True
        self.open = False  # an upload to it is under way
        self._descriptor = -1
        self.kept = False  # it is in the tree: not deleted, nor replaced

    @property
    def content(self) -> bytes:
        if self._descriptor >= 0:
            return os.pread(self._descriptor, self.size, 0)
        if self.data is None:  # made when it is first asked for
            self.data = filling(self.size)
        if isinstance(self.data, bytearray) and not self.open:
            self.data = bytes(self.data)
        return bytes(self.data)

    def descriptor(self) -> int:
        """A file of the system with the content; -1 where it is small, is still being uploaded, or none can be had."""
        if self._descriptor < 0 and self.size >= BIG and not self.open and hasattr(os, "memfd_create"):
            self._move()
        return self._descriptor

    def _move(self) -> None:
        """Move the content to a file of the system, if it lets us."""
        left = memoryview(self.content)
        try:
            descriptor = os.memfd_create("notnow")
        except OSError:  # no files left, or a sandbox forbids it
            return
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            os.close(descriptor)
        else:
            self._descriptor, self.data = descriptor, None

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Files(MutableMapping[str, bytes]):
    """The files of a fake FTP server by their paths, as bytes.

    `"a.txt"` and `"/a.txt"` are the same file. To set one, give bytes, a text, or a size such as "3MB";
    the directories that it needs are made. A name that ends in a slash makes a directory. What a client
    uploads can be read here as it comes; `partial` names the files of which only a piece has come.
    """

    def __init__(self, files: Mapping[str, Content], quota: int | None, now: Callable[[], float]) -> None:
        self.quota, self.now = ROOM if quota is None else quota, now
        self._made = now()
        self._nodes: dict[str, Node] = {}
        self._directories: dict[str, float] = {"/": self._made}
        self.used = 0
        for name, content in files.items():
            self[name] = content

    # ---- for tests -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> bytes:
        node = self._nodes.get(path(name))
        if node is None:
            raise KeyError(f"{name!r}: there is no such file; there are {', '.join(self) or 'none'}")
        return node.content

    def __setitem__(self, name: str, content: Content) -> None:
        """Raises ValueError for a name that no file can have here, and for a size beyond 1 GB; TypeError for what is no
        content.
        """
        where = path(name)
        self._allow(name, where)
        if name.endswith("/"):
            self.make_directories(where)
            return
        node = _node(name, content, self.now())
        self.make_directories(posixpath.dirname(where))
        self.put(where, node)

    def lay(self, name: str, content: Content) -> None:
        """Set a file, or make a directory, whatever is in its way: what a client has put there goes."""
        where = path(name)
        parents = [] if where == "/" else [where] if name.endswith("/") else []
        while (where := posixpath.dirname(where)) != "/":
            parents.append(where)
        for parent in parents:
            if parent in self._nodes:
                self.remove(parent)
        if not name.endswith("/"):
            self._clear(path(name))
        self[name] = content

    def _clear(self, where: str) -> None:
        """Remove a directory with all that is in it, if there is one."""
        if where == "/" or where not in self._directories:
            return
        for below in [p for p in self._nodes if p.startswith(where + "/")]:
            self.remove(below)
        for below in [p for p in self._directories if p == where or p.startswith(where + "/")]:
            self.remove_directory(below)

    def _allow(self, name: str, where: str) -> None:
        """Is there a place for a file, or a directory if its name ends in a slash?"""
        if not is_clean(where):
            raise ValueError(f"{name!r} is no name of a file: there are control characters in it")
        directory = name.endswith("/")
        if self.is_directory(where) and not directory:
            raise ValueError(f"{name!r} is a directory")
        while where != "/":
            if where in self._nodes and (directory or where != path(name)):
                raise ValueError(f"{where[1:]!r} is a file: it cannot be a directory, as {name!r} wants it")
            where = posixpath.dirname(where)

    def __delitem__(self, name: str) -> None:
        if path(name) not in self._nodes:
            raise KeyError(name)
        self.remove(path(name))

    def __iter__(self) -> Iterator[str]:
        return iter([where[1:] for where in sorted(self._nodes)])

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and path(name) in self._nodes

    def __repr__(self) -> str:
        return f"<Files {', '.join(f'{n} ({show_size(self._nodes[path(n)].size)})' for n in self) or 'none'}>"

    @property
    def partial(self) -> tuple[str, ...]:
        """The files of which only a piece has come: their last upload was cut, or goes on still."""
        return tuple(where[1:] for where, node in sorted(self._nodes.items()) if not node.whole)

    # ---- for the server ------------------------------------------------------------------------

    def node(self, where: str) -> Node | None:
        return self._nodes.get(where)

    def put(self, where: str, node: Node) -> None:
        """Put a file in a place, instead of what is there."""
        if where in self._nodes:
            self.remove(where)
        self._nodes[where] = node
        node.kept = True
        self.used += node.size

    def remove(self, where: str) -> None:
        node = self._nodes.pop(where)
        node.kept = False
        self.used -= node.size

    def grow(self, node: Node, by: int) -> None:
        """Make room for so many bytes more. Raises NoRoomError."""
        taken = self.used if node.kept else node.size  # one that was deleted while it comes is alone with what it takes
        if taken + by > self.quota:
            raise NoRoomError(f"{self.quota} bytes are all there is")
        if node.kept:
            self.used += by
        node.size += by
        node.modified = self.now()

    def is_directory(self, where: str) -> bool:
        return where in self._directories

    def modified(self, where: str) -> float:
        node = self._nodes.get(where)
        return node.modified if node else self._directories[where]

    def touch(self, where: str, modified: float) -> None:
        self._nodes[where].modified = modified

    def make_directories(self, where: str) -> None:
        while where not in self._directories:
            self._directories[where] = self.now()
            where = posixpath.dirname(where)

    def remove_directory(self, where: str) -> None:
        del self._directories[where]

    def children(self, where: str) -> list[str]:
        """The names in a directory."""
        stem = where.rstrip("/") + "/"
        found = [p[len(stem) :] for p in (*self._nodes, *self._directories) if p.startswith(stem) and p != "/"]
        return sorted(name for name in found if "/" not in name)

    def rename(self, old: str, new: str) -> None:
        """Move a file, or a directory with all that is in it."""
        if old in self._nodes:
            node = self._nodes[old]
            self.remove(old)
            self.put(new, node)
            return
        for table in (self._nodes, self._directories):
            for where in [p for p in list(table) if p == old or p.startswith(old + "/")]:
                table[new + where[len(old) :]] = table.pop(where)  # type: ignore[assignment]


def path(name: str) -> str:
    """The path of a file, from the root."""
    return "/" + posixpath.normpath("/" + name).lstrip("/")


def is_clean(name: str) -> bool:
    """False for a name with control characters: a line end in it would make two lines of a listing."""
    return name.isprintable() or all(
        c.isprintable() or c in JOINERS or unicodedata.category(c) == "Zs"  # such as the one in macOS's screenshots
        for c in name
    )


def _node(name: str, content: Content, now: float) -> Node:
    if isinstance(content, str):
        size = parse_size(content)
        if size is not None and size > LARGEST:
            raise ValueError(f"{name!r} is {content}: its bytes are kept in memory; allowed: up to 1GB")
        return Node(content.encode(), now) if size is None else Node(None, now, size)
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise TypeError(f'{name!r} is {content!r}; allowed: bytes, a text, or a size such as "3MB"')
    return Node(bytes(content), now)


class Reader:
    """A file that is downloaded, as it is now."""

    def __init__(self, name: str, node: Node) -> None:
        self.name, self.closed, self.size = name, False, node.size
        self._node = node
        self._view: memoryview | None = None
        self.position = 0

    def seek(self, position: int) -> None:
        self.position = position

    def read(self, size: int) -> bytes:
        piece = bytes(self.rest()[:size])
        self.position += len(piece)
        return piece

    def rest(self) -> memoryview:
        """All that is left, without a copy."""
        if self._view is None:
            self._view = memoryview(self._node.content)[: self.size]  # not what an upload adds meanwhile
        return self._view[self.position :]

    def descriptor(self) -> int:
        """A file of the system with the same content, for `os.sendfile`; -1 where there is none."""
        return self._node.descriptor() if self._view is None else -1

    def close(self) -> None:
        self.closed = True


class Writer:
    """A file that is uploaded. What comes can be seen at once; it is whole once `finish` says so."""

    def __init__(self, name: str, files: Files, mode: str) -> None:
        self.name, self.closed, self._files = name, False, files
        self._before, self._hash = files.node(name), hashlib.sha256()
        self._untouched = self._before is not None and self._before.whole and "w" not in mode
        kept = b"" if self._before is None or "w" in mode else self._before.content
        self.node = Node(bytearray(kept), files.now())
        self.node.whole, self.node.open = False, True
        files.put(name, self.node)
        self.position = self.node.size if "a" in mode else 0

    def seek(self, position: int) -> None:
        self.position = position

    def write(self, data: bytes) -> None:
        """Raises NoRoomError."""
        node, end = self.node, self.position + len(data)
        if end > node.size:
            self._files.grow(node, end - node.size)
        self._untouched = False
        self._hash.update(data)
        assert isinstance(node.data, bytearray)
        if self.position == len(node.data):
            node.data += data
        else:
            node.data[self.position : end] = data
        self.position = end

    def finish(self) -> None:
        """All of it has come."""
        self.node.whole = True

    @property
    def sha256(self) -> str:
        """The hash of what has come, as hex; not of what was there before it."""
        return self._hash.hexdigest()

    def discard(self) -> None:
        """Take it all back: what was there before is there again."""
        if self._files.node(self.name) is self.node:
            self._files.remove(self.name)
            if self._before is not None:
                self._files.put(self.name, self._before)

    def close(self) -> None:
        self.closed, self.node.open = True, False
        self.node.whole = self.node.whole or self._untouched
