"""The tree of files as pyftpdlib sees it: paths are those of the client, and every user may do everything."""

# ruff: noqa: ARG002 (the arguments of pyftpdlib's methods)
from __future__ import annotations

import contextlib
import fnmatch
import os
import posixpath
import re
import stat
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache

from pyftpdlib.exceptions import FilesystemError
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler

from notnow.bounds import ENTRIES, FTP_PATH
from notnow.language.limits import PATH
from notnow.servers.ftp.files import Files, is_clean, path
from notnow.servers.ftp.host import FileHost
from notnow.servers.ftp.opened import Reader, Writer, writer

_MAGIC = frozenset("*?[")
_MODE = re.compile(rb"unix\.mode=0o([0-7]+)")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def is_plain(path: str) -> bool:
    """True if this path cannot be a pattern."""
    return _MAGIC.isdisjoint(path)


class MemoryFS(AbstractedFS):
    """The files of a fake, for one session."""

    def __init__(self, root: str, cmd_channel: object) -> None:
        super().__init__(root, FTPHandler)  # it reads settings there; in the session it would make a circle
        self._host: FileHost = cmd_channel.host  # type: ignore[attr-defined]

    @property
    def _files(self) -> Files:
        return self._host.files  # another tree after a reset

    # ---- paths ---------------------------------------------------------------------------------

    def ftpnorm(self, ftppath: str) -> str:
        return _normalized(self.cwd, ftppath) if ftppath else self.cwd

    def ftp2fs(self, ftppath: str) -> str:
        return self.ftpnorm(ftppath)

    def fs2ftp(self, fspath: str) -> str:
        return fspath

    def validpath(self, path: str) -> bool:
        return is_clean(path)

    def realpath(self, path: str) -> str:
        return path

    # ---- files ---------------------------------------------------------------------------------

    def open(self, filename: str, mode: str) -> Reader | Writer:
        if self._files.is_directory(filename):
            raise FilesystemError("Is a directory")
        node = self._files.node(filename)
        if "r" in mode and node is None:
            raise FilesystemError("No such file or directory")
        if mode == "rb":
            assert node is not None
            return Reader(filename, node)
        self._parent(filename)
        self._place(filename)
        return writer(filename, self._files, mode)

    def mkstemp(self, suffix: str = "", prefix: str = "", dir: str | None = None, mode: str = "wb") -> Writer:
        number = 1
        while (name := posixpath.join(dir or "/", f"{prefix}{number}{suffix}")) in self._files:
            number += 1
        if not self.validpath(name):  # pyftpdlib does not ask, for STOU
            raise FilesystemError("Invalid file name")
        self._parent(name)
        self._place(name)
        return writer(name, self._files, mode)

    def _place(self, name: str) -> None:
        """Raises FilesystemError if there can be no new file or directory of this name; see `notnow.bounds`."""
        _check_length(name)
        if not self.lexists(name) and self._files.is_full():
            raise FilesystemError(f"No space left: clients may make {ENTRIES} files and directories")

    def _parent(self, name: str) -> None:
        if not self._files.is_directory(posixpath.dirname(name)):
            raise FilesystemError("No such file or directory")

    def remove(self, path: str) -> None:
        if self._files.node(path) is None:
            raise FilesystemError("Is a directory" if self._files.is_directory(path) else "No such file or directory")
        with _as_gone():
            self._files.remove(path)

    def rename(self, src: str, dst: str) -> None:
        if not self.lexists(src):  # it was removed since RNFR
            raise FilesystemError("No such file or directory")
        self._parent(dst)
        if self._files.is_directory(dst) or (self._files.is_directory(src) and self._files.node(dst)):
            raise FilesystemError("File exists")
        if dst.startswith(src + "/"):
            raise FilesystemError("Invalid argument")
        _check_length(dst, below=max((_length(p) - _length(src) for p in self._files.below(src)), default=0))
        with _as_gone():
            self._files.rename(src, dst)

    def chmod(self, path: str, mode: int) -> None:
        """Change the mode in listings. It restricts nobody."""
        with _as_gone():
            self._files.set_mode(path, mode)

    def utime(self, path: str, timeval: float) -> None:
        if self._files.node(path) is None:
            raise FilesystemError("No such file or directory")
        with _as_gone():
            self._files.touch(path, timeval)

    # ---- directories ---------------------------------------------------------------------------

    def chdir(self, path: str) -> None:
        if not self.isdir(path):
            raise FilesystemError("Not a directory" if self.isfile(path) else "No such file or directory")
        self.cwd = path

    def mkdir(self, path: str) -> None:
        if self.lexists(path):
            raise FilesystemError("File exists")
        self._parent(path)
        self._place(path)
        self._files.make_directories(path)

    def rmdir(self, path: str) -> None:
        if not self._files.is_directory(path):
            raise FilesystemError("No such file or directory")
        if self._files.children(path):
            raise FilesystemError("Directory not empty")
        self._files.remove_directory(path)

    def listdir(self, path: str) -> list[str]:
        return self._files.children(path)

    def matches(self, path: str) -> tuple[str, list[str]] | None:
        """The directory where a pattern begins, and the matching paths below it; None for a plain path.

        The path of an existing file is not a pattern, whatever its characters are. `*` does not match a leading dot.
        """
        if is_plain(path) or self.lexists(path):
            return None
        parts = path.strip("/").split("/")
        first = next(i for i, part in enumerate(parts) if not _MAGIC.isdisjoint(part))
        base = "/" + "/".join(parts[:first])
        return base, sorted(self._below(base, parts[first:]))

    def _below(self, base: str, parts: list[str]) -> Iterator[str]:
        """The paths below a directory that match part by part. Each name is looked at once, however many parts there are."""
        matched = {base: 0}  # how many parts each path matches
        for where in sorted(self._files.below(base)):
            above, _, name = where.rpartition("/")
            depth = matched.get(above or "/", len(parts))
            if depth < len(parts) and _fits(name, parts[depth]):
                matched[where] = depth + 1
        start = len(base.rstrip("/")) + 1
        yield from (where[start:] for where, depth in matched.items() if depth == len(parts))

    def format_list(self, basedir: str, listing: Iterable[str], ignore_err: bool = True) -> Iterator[bytes]:
        """The lines of LIST, in the format of `ls -l`. A file that is removed meanwhile has none."""
        half_a_year_ago = self._files.now() - 180 * 86_400
        stem = basedir.rstrip("/")
        for name in listing:
            try:
                mode, size, modified = self._found(f"{stem}/{name}")
            except FilesystemError:
                continue
            yield _listed(name, mode, size, modified, modified > half_a_year_ago)

    def format_mlsx(
        self, basedir: str, listing: Iterable[str], perms: str, facts: Iterable[str], ignore_err: bool = True
    ) -> Iterator[bytes]:
        """The lines of MLSD and MLST. pyftpdlib writes a mode as `0o644`; clients expect `0644`."""
        for name in listing:
            for line in super().format_mlsx(basedir, [name], perms, facts, ignore_err):
                yield _MODE.sub(_octal, line, count=1) if "unix.mode" in facts else line

    # ---- facts ---------------------------------------------------------------------------------

    def stat(self, path: str) -> os.stat_result:
        mode, size, modified = self._found(path)
        return os.stat_result((mode, hash(path) & 0xFFFFFFFF, 0, 1, 0, 0, size, modified, modified, modified))

    def _found(self, path: str) -> tuple[int, int, int]:
        """The mode, the size and the time of what is there, as `stat` has them. Raises FilesystemError."""
        files = self._files
        if (node := files.node(path)) is not None:
            return stat.S_IFREG | node.mode, node.size, int(node.modified)
        if not files.is_directory(path):
            raise FilesystemError("No such file or directory")
        with _as_gone():
            return stat.S_IFDIR | files.mode(path), 0, int(files.modified(path))

    lstat = stat

    def readlink(self, path: str) -> str:
        raise FilesystemError("Not a link")

    def isfile(self, path: str) -> bool:
        return self._files.node(path) is not None

    def islink(self, path: str) -> bool:
        return False

    def isdir(self, path: str) -> bool:
        return self._files.is_directory(path)

    def getsize(self, path: str) -> int:
        return self.stat(path).st_size

    def getmtime(self, path: str) -> float:
        return self.stat(path).st_mtime

    def lexists(self, path: str) -> bool:
        return self._files.node(path) is not None or self._files.is_directory(path)

    def get_user_by_uid(self, uid: int) -> str:
        return "ftp"

    def get_group_by_gid(self, gid: int) -> str:
        return "ftp"


def _check_length(name: str, below: int = 0) -> None:
    """Raises FilesystemError if a path is too long, alone or with the bytes that stand below it."""
    if _length(name) + below > FTP_PATH:
        raise FilesystemError("File name too long")


def _length(name: str) -> int:
    return len(name.encode("utf-8", "replace"))


def _fits(name: str, pattern: str) -> bool:
    """True if a name matches. A pattern longer than any name matches none: the time to compile it grows with the square."""
    if len(pattern) > PATH or (name.startswith(".") and not pattern.startswith(".")):
        return False
    return fnmatch.fnmatchcase(name, pattern)


@lru_cache(maxsize=128)  # clients ask for the same few paths
def _normalized(directory: str, ftppath: str) -> str:
    return path(posixpath.join(directory, ftppath))


@lru_cache(maxsize=512)  # a directory is listed again and again
def _listed(name: str, mode: int, size: int, modified: int, is_new: bool) -> bytes:
    """The line of LIST for a file or directory. One that `is_new` has the time of day, any other the year."""
    at = time.gmtime(modified)
    when = f"{at.tm_hour:02}:{at.tm_min:02}" if is_new else f"{at.tm_year:5}"
    date = f"{_MONTHS[at.tm_mon - 1]} {at.tm_mday:2} {when}"
    line = f"{stat.filemode(mode)}   1 ftp      ftp      {size:8} {date} {name}\r\n"
    return line.encode("utf-8", "replace")


def _octal(found: re.Match[bytes]) -> bytes:
    return b"unix.mode=%04o" % int(found[1], 8)


@contextlib.contextmanager
def _as_gone() -> Iterator[None]:
    """A test may have removed the file since we looked."""
    try:
        yield
    except KeyError:
        raise FilesystemError("No such file or directory") from None


class Permissive:
    """pyftpdlib's authorizer, for users whose passwords have already been checked."""

    def has_perm(self, username: str, perm: str, path: str | None = None) -> bool:
        return True

    def get_perms(self, username: str) -> str:
        return "elradfmwMT"

    def get_msg_quit(self, username: str) -> str:
        return "Goodbye."

    def impersonate_user(self, username: str, password: str) -> None: ...
    def terminate_impersonation(self, username: str) -> None: ...
