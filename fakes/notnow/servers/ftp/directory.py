"""A directory of the user's, read into memory: the fake serves a copy, and never writes to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from notnow.bounds import ENTRIES, KEPT_BODIES
from notnow.errors import Problem, ScenarioError

ALLOWED = f"a directory with at most {ENTRIES:,} entries and {KEPT_BODIES // 2**20} MiB"


def read(directory: Path) -> dict[str, bytes]:
    """The files below a directory by their paths in it; the path of a directory ends in a slash, and has no bytes.

    Symbolic links are followed within the directory, and skipped where they leave it, as are pipes, sockets and devices.
    Raises ScenarioError if there is no such directory, if it is too big, or cannot be read.
    """
    if not directory.is_dir():
        raise _bad(f"{str(directory)!r} is not a directory")
    found: dict[str, bytes] = {}
    room = KEPT_BODIES
    try:
        for name, file in _walk(directory):
            found[name] = _content(file, room)
            room -= len(found[name])
            if room < 0 or len(found) > ENTRIES:
                raise _bad(f"{str(directory)!r} is too big")
    except OSError as error:
        raise _bad(f"cannot read {error.filename!r}: {error.strerror}") from None
    return found


def _walk(directory: Path) -> Iterator[tuple[str, Path]]:
    """Each entry below a directory, by its path in it."""
    root = Path(os.path.realpath(directory))
    waiting = [(root, "", frozenset({root}))]
    while waiting:
        here, stem, above = waiting.pop()
        for entry in sorted(here.iterdir()):
            real, name = Path(os.path.realpath(entry)), stem + entry.name
            if not real.is_relative_to(root):
                continue
            if real.is_dir():
                if real not in above:  # else a link back up, and no end
                    yield f"{name}/", real
                    waiting.append((real, f"{name}/", above | {real}))
            elif real.is_file():
                yield name, real


def _content(file: Path, room: int) -> bytes:
    """The bytes of a file, at most one more than there is room for; none for a directory."""
    if file.is_dir():
        return b""
    with file.open("rb") as opened:
        return opened.read(room + 1)


def _bad(found: str) -> ScenarioError:
    return ScenarioError([Problem(f"files: {found}", allowed=ALLOWED)])
