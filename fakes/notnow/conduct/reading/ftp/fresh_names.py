"""Uploads that failed under one temporary name, and came through under another.

A client that renames its uploads shows how it makes temporary names: from `up.bin.part1`, which became `up.bin`, one
knows that `up.bin.part2` stands for `up.bin` as well. Names that do not hold the final name (`tmpA3x`) leave a doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from notnow.conduct.reading.ftp.versions import Stored

MOST = 16  # ways to make temporary names that are tried

_ANY_WORD = r"[^\W_](?:[\w-]*[^\W_])?"
_WORD = re.compile(_ANY_WORD)


def rejoin(uploads: Iterable[Stored]) -> None:
    """Put the tries of uploads that failed before those of the upload that came through in their place.

    Where the journal cannot tell, the upload that failed says so in `why`.
    """
    known = list(uploads)
    failed = [one for one in known if not one.came]
    if failed:
        names = _Names([one for one in known if one.came])
        for one in failed:
            if (instead := names.instead(one)) is not None:
                instead.take_over(one)
            else:
                one.why = names.may_be(one)


class _Names:
    """The uploads that came through, by their clients and final names."""

    def __init__(self, came: Sequence[Stored]) -> None:
        self._by_final: dict[tuple[str, str], list[Stored]] = {}
        self._strangers: dict[tuple[str, str], list[Stored]] = {}  # by the shape of a temporary name that tells nothing
        self._all: dict[str, list[Stored]] = {}
        self._templates: dict[str, dict[str, re.Pattern[str]]] = {}
        for one in came:
            self._all.setdefault(one.client, []).append(one)
            if one.was != one.path:
                self._learn(one)

    def _learn(self, one: Stored) -> None:
        temporary, final = _base(one.was), _base(one.path)
        before, found, behind = temporary.partition(final)
        if not found:
            self._strangers.setdefault((one.client, _shape(temporary)), []).append(one)
            return
        self._by_final.setdefault((one.client, final), []).append(one)
        templates = self._templates.setdefault(one.client, {})
        pattern = f"{_loosely(before)}(?P<final>.+){_loosely(behind)}"
        if len(templates) < MOST and pattern not in templates:
            templates[pattern] = re.compile(pattern)

    def instead(self, failed: Stored) -> Stored | None:
        """The upload that is proved to be the same file: its temporary name is made in the same way."""
        for pattern in self._templates.get(failed.client, {}).values():
            match = pattern.fullmatch(_base(failed.was))
            if match is not None:
                later = self._by_final.get((failed.client, match["final"]), ())
                if (found := _later(failed, later)) is not None:
                    return found
        return None

    def may_be(self, failed: Stored) -> str:
        """Why it may have come through under another name; empty if it did not."""
        alike = self._strangers.get((failed.client, _shape(_base(failed.was))), [])
        found = _later(failed, alike) or (_later(failed, self._all.get(failed.client, [])) if failed.deleted else None)
        return f"it may be what came through later as {found.path}" if found is not None else ""


def _later(failed: Stored, uploads: Iterable[Stored]) -> Stored | None:
    """The first upload that began after the client knew of the failure, and is no smaller than the piece that had come."""
    known = failed.tries[-1].ended_index
    return next((one for one in uploads if one.size >= failed.size and one.tries[-1].began.index > known), None)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _shape(text: str) -> str:
    """A text with every word in it as `*`."""
    return _WORD.sub("*", text)


def _loosely(text: str) -> str:
    """A pattern for texts of the same shape."""
    return _ANY_WORD.join(map(re.escape, _shape(text).split("*")))
