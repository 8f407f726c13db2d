"""The versions of a file: a client's downloads, looks or uploads under a name, until it begins again with the same name."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from math import inf

from notnow.conduct.reading.ftp.transfers import NEVER, Asked, Renamed
from notnow.conduct.reading.ledger import Try

TEMPORARY = re.compile(
    r"\.(part|filepart|partial|te?mp|upload(ing)?|incomplete)(\d|[-_.]\w*)*$|^\.in\.|^te?mp|~$|^~", re.IGNORECASE
)  # names that clients give to files until they are whole
_FAILURES = frozenset({"deferred", "unanswered", "refused"})
_UNDER_WAY = "its last try was still under way"


class Version:
    """What a client asked for under a name. `came`: it came through, as far as the tries so far show."""

    marked = False  # the receiver can recognise a copy

    def __init__(self, asked: Asked) -> None:
        self.client, self.kind, self.path = asked.client, asked.kind, asked.name
        self.tries: list[Try] = []
        self.came = False
        self.add(asked)

    def takes(self, asked: Asked, /) -> bool:
        """True if what is asked for belongs to this version."""
        raise NotImplementedError

    def add(self, asked: Asked) -> None:
        raise NotImplementedError

    def repeats(self, before: Version) -> bool:
        """True if this is the same thing again."""
        raise NotImplementedError

    @property
    def doubt(self) -> str:
        """Why the journal cannot tell what became of it; empty if it can."""
        raise NotImplementedError

    def _append(self, asked: Asked) -> None:
        """Add a try. One on a connection that was open before the last try ended begins with its command."""
        one, x = asked.one, asked.command
        if x is not None and self.tries and one.started_index <= self.tries[-1].ended_index:
            one.began, one.started_at, one.started_index = x, x.at, x.index
        self.tries.append(one)


class Fetched(Version):
    """A file that is downloaded in one piece or several, or something that is looked at.

    It has come when the pieces that passed cover it to its end, and where one failed, a later one went on, or one that began
    further on and before that place, as segments do, had passed it.
    """

    def __init__(self, asked: Asked) -> None:
        self.in_pieces = False  # it came in pieces over several connections
        self._covered: list[tuple[float, float]] = []  # in order, without touching
        self._pieces: list[tuple[int, float]] = []  # their first byte, and the one after their last
        # Where a piece failed, the index at which the client knew, and where the piece began.
        self._gaps: list[tuple[int, int, int]] = []
        self._lost_at = -1  # where the client knew last that a piece had failed of which nobody knows the extent
        self._asked_at = -1  # where it asked last
        self._lowest: float = inf  # the lowest offset that was asked for
        self._whole: Try | None = None  # the try with which it had come
        super().__init__(asked)

    def takes(self, asked: Asked, /) -> bool:
        return not self.came or self._extends(asked) or asked.at <= self.tries[-1].ended_index

    def _extends(self, asked: Asked) -> bool:
        """True for a piece from the middle of it, or from before all others."""
        offset = asked.known.offset if asked.known is not None else 0
        return offset > 0 or offset < self._lowest

    def add(self, asked: Asked) -> None:
        offset, reach = _extent(asked)
        again = self.came and not self._extends(asked)
        self._lowest = min(self._lowest, offset)
        self._cover(offset, reach)
        self._mend(asked.at, offset, reach)
        self._pieces.append((offset, reach))
        self._asked_at = max(self._asked_at, asked.at)
        if asked.one.ending in _FAILURES and asked.known is None:
            self._lost_at = max(self._lost_at, asked.one.ended_index)
        elif asked.one.ending in _FAILURES and reach < inf:
            insort(self._gaps, (int(reach), asked.one.ended_index, offset))
        self._fold(asked, again)
        self._settle(asked)

    def _cover(self, start: float, stop: float) -> None:
        if stop <= start:
            return
        first = bisect_left(self._covered, start, key=lambda piece: piece[1])
        last = first
        while last < len(self._covered) and self._covered[last][0] <= stop:
            start, stop = min(start, self._covered[last][0]), max(stop, self._covered[last][1])
            last += 1
        self._covered[first:last] = [(start, stop)]

    def _mend(self, at: int, offset: int, reach: float) -> None:
        """A piece fills the gaps of those that the client knew to have failed; the whole file fills all at its start."""
        first = bisect_left(self._gaps, (offset, -1))
        last = first
        while last < len(self._gaps) and self._gaps[last][0] < reach:
            last += 1
        whole = offset == 0 and reach == inf
        self._gaps[first:last] = [gap for gap in self._gaps[first:last] if gap[1] >= at and not (whole and not gap[0])]

    @property
    def _is_open(self) -> bool:
        """True if a piece failed, and no other one made up for it.

        One that began between its start and the place where it failed, and passed that; or, where nobody knows which part of
        the file it was, anything that the client asked for when it knew.
        """
        return self._lost_at > self._asked_at or any(
            not any(offset < other <= failed < reach for other, reach in self._pieces)
            for failed, _, offset in self._gaps
        )

    def _fold(self, asked: Asked, again: bool) -> None:
        """Pieces that the client asked for before it knew of a failure belong to one try."""
        one, current = asked.one, self.tries[-1] if self.tries else None
        if current is None or ((again or current.ending in _FAILURES) and asked.at > current.ended_index):
            self._append(asked)
            return
        self.in_pieces = self.in_pieces or one.connection is not current.connection
        if current.ending not in _FAILURES and (one.ending in _FAILURES or one.ended_index > current.ended_index):
            current.ending, current.by = one.ending, one.by
            current.ended_at, current.ended_index = one.ended_at, one.ended_index

    def _settle(self, asked: Asked) -> None:
        """Say which try made it whole."""
        current, whole = self.tries[-1], self._whole
        self.came = not self._is_open and bool(self._covered) and self._covered[0] == (self._covered[0][0], inf)
        self.came = self.came and self._covered[0][0] <= self._lowest
        if whole is not None and (whole is not current or not self.came):
            whole.kept, whole.ending = None, "abandoned" if whole.ending == "accepted" else whole.ending
        self._whole = current if self.came else None
        if self.came:
            current.kept = asked.command
            current.ending = asked.one.ending if asked.one.ending in _FAILURES else "accepted"
        elif current.ending == "accepted":
            current.ending = "abandoned"

    def repeats(self, before: Version) -> bool:
        return self.came and before.came

    @property
    def doubt(self) -> str:
        last = self.tries[-1]
        if last.ended_index == NEVER:
            return _UNDER_WAY
        if last.ending != "abandoned" or self._is_open:
            return ""
        return "only a part of it came, and the client may have wanted no more"


def _extent(asked: Asked) -> tuple[int, float]:
    """The first byte that a piece was to have, and the one after the last that passed."""
    known = asked.known
    if known is None:
        return 0, inf if asked.one.ending == "accepted" else 0
    stop = known.offset + known.bytes
    if known.whole or (asked.binary and known.size is not None and stop >= known.size):
        return known.offset, inf
    return known.offset, stop


class Stored(Version):
    """A file that is uploaded, under the name that it got in the end."""

    def __init__(self, asked: Asked) -> None:
        self.was = asked.name  # the name under which it was uploaded
        self.size = 0  # bytes of it that have passed
        self.deleted = False
        self.sha256: str | None = None
        self.why = ""
        self._undone = False  # its last rename failed
        self._verb = asked.verb
        super().__init__(asked)

    @property
    def marked(self) -> bool:  # type: ignore[override]
        return self._verb == "stor"

    @property
    def under_any_name(self) -> bool:
        """True for STOU."""
        return self._verb == "stou"

    def takes(self, _: Asked, /) -> bool:
        return not self.came or self._is_temporary or not any(one.ending == "accepted" for one in self.tries)

    @property
    def _is_temporary(self) -> bool:
        """True while it has only a name that looks temporary: another upload under that name replaces it."""
        return self.was == self.path and TEMPORARY.search(self.path.rpartition("/")[2]) is not None

    def add(self, asked: Asked) -> None:
        known, one = asked.known, asked.one
        if self._is_temporary:
            self._replace()
        if known is not None:
            self.size = max(self.size, known.offset + known.bytes)
            if known.stored:
                one.kept, self.sha256 = asked.command, known.sha256
        if asked.verb != "stor":
            self._verb = asked.verb
        self.came = self.came or one.kept is not None or one.ending == "accepted"
        self.deleted = self._undone = False
        self._append(asked)

    def rename(self, renamed: Renamed) -> None:
        """The client gives it another name, or fails to: a file under a temporary name has not come."""
        one, last = renamed.one, self.tries[-1]
        good = one.ending == "accepted"
        if good and renamed.new is not None:
            self.path = renamed.new
        if self._undone:
            one.kept = renamed.command if good else None
            self.tries.append(one)
        elif self.came and not good:
            last.kept, last.ending, last.by = None, one.ending, one.by
            last.ended_at, last.ended_index = one.ended_at, one.ended_index
        self.came, self._undone = (self.came or self._undone) and good, (self.came or self._undone) and not good

    def conclude(self) -> None:
        """A file that is still there under a temporary name has not come for certain."""
        if self.came and self._is_temporary:
            self.why = "it is there under a name that looks temporary"
            self._replace()

    def _replace(self) -> None:
        for one in self.tries:
            one.kept = None

    def take_over(self, failed: Stored) -> None:
        """This is what came through in place of an upload that failed."""
        self.tries[:0] = failed.tries
        failed.tries = []

    def repeats(self, before: Version) -> bool:
        if not (isinstance(before, Stored) and self.came and before.came and not before.deleted):
            return False
        return self.sha256 == before.sha256 and self._journal is before._journal

    @property
    def _journal(self) -> object:
        return self.tries[-1].connection.journal

    @property
    def doubt(self) -> str:
        last = self.tries[-1]
        if last.ended_index == NEVER:
            return _UNDER_WAY
        if last.ending == "abandoned":
            return "the client broke it off, and may not have wanted the rest"
        return self.why


def version_of(asked: Asked) -> Fetched | Stored:
    """A new version that begins with this."""
    return Stored(asked) if asked.kind == "upload" else Fetched(asked)
