"""A tree of files in memory."""

from __future__ import annotations

import functools
import hashlib
import posixpath
import threading
from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from typing import Concatenate, ParamSpec, TypeVar

from notnow.bounds import ENTRIES, KEPT_BODIES
from notnow.language import limits
from notnow.language.limits import file_path as path
from notnow.language.limits import is_clean
from notnow.servers.ftp.content import BLOCK, Node, filling
from notnow.units import parse_size, show_size

ROOM = KEPT_BODIES  # bytes of files in memory without a quota
LARGEST = limits.FILE  # most bytes of a file that is given by its size
DIRECTORY = 0o755  # the initial mode of a directory
DEFAULT = {"big.bin": "3MB", "small.txt": "A small file.\n"}
Content = bytes | bytearray | memoryview | str
P = ParamSpec("P")
R = TypeVar("R")


class NoRoomError(OSError):
    """There is no room for an upload (RFC 959 §4.2: 552)."""


def _alone(change: Callable[Concatenate[Files, P], R]) -> Callable[Concatenate[Files, P], R]:
    """A change of the tree, of which there is one at a time: a test may make one while the server makes another."""

    @functools.wraps(change)
    def method(tree: Files, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with tree._changing:
            return change(tree, *args, **kwargs)

    return method


class Files(MutableMapping[str, bytes]):
    """The files of a fake FTP server by their paths, as bytes.

    `"a.txt"` and `"/a.txt"` are the same file. To set a file, give bytes, a text, or a size such as "3MB"; missing
    directories are made. A name that ends in a slash makes a directory. The bytes of an upload can be read while it is
    under way; `partial` names the incomplete files.

    A file that is given by its size (up to 1 GB) is generated piece by piece as it is sent, and takes no memory, unless
    you read its bytes here; `size` and `sha256` take none either. All other files are in memory, at most 256 MiB (`ROOM`)
    or `quota`. An upload beyond that gets a 552. With a quota, files that are given by their size count as well.

    It may be read and changed while the server changes it. Iteration goes over the files that were there at its start.
    """

    def __init__(self, files: Mapping[str, Content], quota: int | None, now: Callable[[], float]) -> None:
        self.quota, self.now = quota, now
        self._changing = threading.RLock()
        self._made = now()
        self._nodes: dict[str, Node] = {}
        self._directories: dict[str, float] = {"/": self._made}
        self._laid = 1  # files and directories that were not made by clients
        self._modes: dict[str, int] = {}  # of directories whose mode has changed
        self.used = 0  # bytes of all files
        self.made_up = 0  # bytes of files that take no memory
        for name, content in files.items():
            self[name] = content

    # ---- for tests -----------------------------------------------------------------------------

    def __getitem__(self, name: str) -> bytes:
        return self._there(name).content

    def _there(self, name: str) -> Node:
        node = self._nodes.get(path(name))
        if node is None:
            raise KeyError(f"{name!r}: there is no such file; there are {', '.join(self) or 'none'}")
        return node

    def release(self) -> None:
        """The server has stopped: release the system files."""
        for _, node in self._kept():
            node.release()

    def _kept(self) -> list[tuple[str, Node]]:
        """The files at this moment, by name."""
        return [(where[1:], node) for where, node in sorted(self._nodes.copy().items())]

    def sizes(self) -> dict[str, int]:
        """How many bytes each file has."""
        return {name: node.size for name, node in self._kept()}

    def size(self, name: str) -> int:
        """How many bytes a file has."""
        return self._there(name).size

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file, as hex; however big it is, this takes no memory."""
        node, found = self._there(name), hashlib.sha256()
        for start in range(0, node.size, BLOCK):
            found.update(node.read(start, BLOCK))
        return found.hexdigest()

    @_alone
    def __setitem__(self, name: str, content: Content) -> None:
        """Raises ValueError for an invalid name and for a size beyond 1 GB, and TypeError for invalid content."""
        where = path(name)
        self._allow(name, where)
        before = len(self._nodes) + len(self._directories)
        if name.endswith("/"):
            self.make_directories(where)
        else:
            node = _node(name, content, self.now())
            self.make_directories(posixpath.dirname(where))
            self.put(where, node)
        self._laid += len(self._nodes) + len(self._directories) - before

    @_alone
    def lay(self, name: str, content: Content) -> None:
        """Set a file, or make a directory; replace everything that clients have put in its way."""
        where = path(name)
        if fault := limits.path_fault(name, where):
            raise ValueError(fault)
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
        """Remove a directory and its contents, if it exists."""
        if where == "/" or where not in self._directories:
            return
        for below in [p for p in self._nodes if p.startswith(where + "/")]:
            self.remove(below)
        for below in [p for p in self._directories if p == where or p.startswith(where + "/")]:
            self.remove_directory(below)

    def _allow(self, name: str, where: str) -> None:
        """Raises ValueError if no file, or no directory if the name ends in a slash, can be made here."""
        if fault := limits.path_fault(name, where):
            raise ValueError(fault)
        if len(self._directories) > limits.DIRECTORIES:
            raise ValueError(f"there are more than {limits.DIRECTORIES:,} directories")
        if not is_clean(where):
            raise ValueError(f"{name!r} is no name of a file: there are control characters in it")
        directory = name.endswith("/")
        if self.is_directory(where) and not directory:
            raise ValueError(f"{name!r} is a directory")
        while where != "/":
            if where in self._nodes and (directory or where != path(name)):
                raise ValueError(f"{where[1:]!r} is a file: it cannot be a directory, as {name!r} wants it")
            where = posixpath.dirname(where)

    @_alone
    def __delitem__(self, name: str) -> None:
        if path(name) not in self._nodes:
            raise KeyError(name)
        self.remove(path(name))

    pop = _alone(MutableMapping.pop)  # type: ignore[assignment]  # that of MutableMapping looks first

    @_alone
    def clear(self) -> None:
        """Remove all files; directories stay."""
        for where in list(self._nodes):
            self.remove(where)

    def __iter__(self) -> Iterator[str]:
        return iter([where[1:] for where in sorted(self._nodes)])

    def items(self) -> ItemsView[str, bytes]:
        return _Items(self)

    def values(self) -> ValuesView[bytes]:
        return _Values(self)

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and path(name) in self._nodes

    def __repr__(self) -> str:
        return f"<Files {', '.join(f'{name} ({show_size(size)})' for name, size in self.sizes().items()) or 'none'}>"

    @property
    def partial(self) -> tuple[str, ...]:
        """The incomplete files: their last upload was cut, or is still under way."""
        return tuple(name for name, node in self._kept() if not node.whole)

    # ---- for the server ------------------------------------------------------------------------

    def node(self, where: str) -> Node | None:
        return self._nodes.get(where)

    @_alone
    def put(self, where: str, node: Node) -> None:
        """Put a file at a path, in place of the one there."""
        if where in self._nodes:
            self.remove(where)
        self._nodes[where] = node
        node.kept = True
        self._count(node, 1)

    @_alone
    def remove(self, where: str) -> None:
        node = self._nodes.pop(where)
        node.kept = False
        self._count(node, -1)

    def _count(self, node: Node, sign: int) -> None:
        self.used += sign * node.size
        self.made_up += sign * node.size if node.made_up else 0

    @_alone
    def grow(self, node: Node, by: int) -> None:
        """Count more bytes. Raises NoRoomError if there is no room for them."""
        self._allow_more(node, by)
        if node.kept:
            self.used += by
        node.size += by

    @_alone
    def own(self, node: Node) -> None:
        """Copy the bytes of a file into memory, where an upload can change them. Raises NoRoomError."""
        if node.made_up:
            self._allow_more(node, node.size if self.quota is None else 0)
            self.made_up -= node.size if node.kept else 0
        node.own()

    def _allow_more(self, node: Node, by: int) -> None:
        room = ROOM if self.quota is None else self.quota
        taken = self.used if self.quota is not None else self.used - self.made_up
        if not node.kept:  # a file that was deleted during its upload does not count
            taken = 0 if node.made_up else node.size
        if taken + by > room:
            raise NoRoomError(f"{room} bytes are all there is")

    def is_directory(self, where: str) -> bool:
        return where in self._directories

    def modified(self, where: str) -> float:
        node = self._nodes.get(where)
        return node.modified if node else self._directories[where]

    def mode(self, where: str) -> int:
        """The permission bits that listings show."""
        node = self._nodes.get(where)
        return node.mode if node else self._modes.get(where, DIRECTORY)

    @_alone
    def set_mode(self, where: str, mode: int) -> None:
        """Raises KeyError if nothing is there."""
        if node := self._nodes.get(where):
            node.mode = mode
        elif where in self._directories:
            self._modes[where] = mode
        else:
            raise KeyError(where)

    def touch(self, where: str, modified: float) -> None:
        self._nodes[where].modified = modified

    def is_full(self) -> bool:
        """True if clients have made as many files and directories as they may; those of the test do not count."""
        return len(self._nodes) + len(self._directories) - self._laid >= ENTRIES

    @_alone
    def make_directories(self, where: str) -> None:
        while where not in self._directories:
            self._directories[where] = self.now()
            where = posixpath.dirname(where)

    @_alone
    def remove_directory(self, where: str) -> None:
        del self._directories[where]
        self._modes.pop(where, None)

    def below(self, where: str) -> list[str]:
        """The paths of all files and directories in a directory, and in those in it."""
        stem = where.rstrip("/") + "/"
        with self._changing:
            there = (*self._nodes, *self._directories)
        return [p for p in there if p.startswith(stem) and p != "/"]

    def children(self, where: str) -> list[str]:
        """The names in a directory."""
        start = len(where.rstrip("/")) + 1
        return sorted([p[start:] for p in self.below(where) if p.find("/", start) < 0])

    @_alone
    def rename(self, old: str, new: str) -> None:
        """Move a file, or a directory with its contents. Raises KeyError if nothing is there."""
        if old not in self._directories:
            node = self._nodes[old]
            self.remove(old)
            self.put(new, node)
            return
        for table in (self._nodes, self._directories, self._modes):
            for where in [p for p in list(table) if p == old or p.startswith(old + "/")]:
                table[new + where[len(old) :]] = table.pop(where)  # type: ignore[assignment]


class _Items(ItemsView[str, bytes]):
    """Files that were there when the iteration began."""

    _mapping: Files

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for name, node in self._mapping._kept():
            yield name, node.content


class _Values(ValuesView[bytes]):
    """The bytes of files that were there when the iteration began."""

    _mapping: Files

    def __iter__(self) -> Iterator[bytes]:
        for _, node in self._mapping._kept():
            yield node.content

    def __contains__(self, value: object) -> bool:
        return any(content == value for content in self)


def _node(name: str, content: Content, now: float) -> Node:
    if isinstance(content, str):
        size = parse_size(content)
        if size is not None and size > LARGEST:
            raise ValueError(f"{name!r} is {content}; allowed: up to {LARGEST // 1000**3}GB")
        return Node(content.encode(), now) if size is None else Node(None, now, size)
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise TypeError(f'{name!r} is {content!r}; allowed: bytes, a text, or a size such as "3MB"')
    return Node(bytes(content), now)


__all__ = [
    "DEFAULT",
    "LARGEST",
    "ROOM",
    "Content",
    "Files",
    "NoRoomError",
    "filling",
    "is_clean",
    "path",
]
