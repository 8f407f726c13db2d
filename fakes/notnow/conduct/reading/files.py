"""The ledger of FTP: an item is a file in one direction, whatever pieces, offsets and temporary names it took.

What a client asks for again after it came through is another item if it fails, or if it is an upload of other content.
Looks (listings, SIZE, MDTM) are items only for a client that asked for nothing else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from notnow.conduct.reading.fresh_names import rejoin
from notnow.conduct.reading.ledger import COUNT, Doubt, Item, Ledger, Try
from notnow.conduct.reading.nameless import attribute
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.transfers import Asked, Deleted, Renamed, Session, Step, sessions
from notnow.conduct.reading.versions import Fetched, Stored, Version, version_of
from notnow.units import plural

CROSSING = 0.05  # real seconds: what comes sooner after a refusal may have been begun before the client had read it

_CALLED = {
    "upload": "the upload of {}",
    "download": "the download of {}",
    "listing": "the listing of {}",
    "question": "the size or time of {}",
}
_LOOKS = frozenset({"listing", "question"})

Key = tuple[str, str, str]  # the client, the kind, and the path


def ledger(run: Run) -> Ledger:
    """The files of a run, and the connections that ended before they named one."""
    return run.once(_read)


def _read(run: Run) -> Ledger:
    found = run.once(sessions)
    shelf = _Shelf()
    for step in sorted((step for session in found for step in session.steps), key=lambda step: step.at):
        shelf.take(step)
    made = Ledger(shelf.items(), dropped=sum(journal.dropped_since_play for journal in run.journals))
    clients: dict[str, list[Session]] = {}
    for session in found:
        clients.setdefault(session.connection.client, []).append(session)
    for client, own in clients.items():
        _add_nameless(made, own, named=client in shelf.asked)
    attribute(made)
    for client, own in clients.items():
        if client in shelf.asked and client not in shelf.in_pieces:
            made.doubts += _doubts(own)
    made.items.sort(key=lambda item: item.tries[0].started_index)
    return made


class _Shelf:
    """The versions of every file, by the name that it has."""

    def __init__(self) -> None:
        self.asked: set[str] = set()  # the clients that asked for something
        self.in_pieces: set[str] = set()  # those that fetched a file over several connections
        self._versions: dict[Key, list[Version]] = {}
        self._uploaded: set[tuple[str, str]] = set()

    def take(self, step: Step) -> None:
        match step:
            case Asked():
                self._ask(step)
            case Renamed():
                self._rename(step)
            case Deleted():
                if isinstance(version := self._last(step.client, step.path), Stored):
                    version.deleted = True

    def _ask(self, asked: Asked) -> None:
        versions = self._versions.setdefault((asked.client, asked.kind, asked.name), [])
        if versions and versions[-1].takes(asked):
            versions[-1].add(asked)
        else:
            versions.append(version_of(asked))
        version = versions[-1]
        self.asked.add(asked.client)
        if asked.kind == "upload":
            self._uploaded.add((asked.client, asked.path))
        if isinstance(version, Fetched) and version.in_pieces:
            self.in_pieces.add(asked.client)

    def _last(self, client: str, path: str) -> Version | None:
        versions = self._versions.get((client, "upload", path))
        return versions[-1] if versions else None

    def _rename(self, renamed: Renamed) -> None:
        version = self._last(renamed.client, renamed.old)
        if not isinstance(version, Stored):
            return
        version.rename(renamed)
        if version.path != renamed.old:
            self._versions[renamed.client, "upload", renamed.old].pop()
            there = self._versions.setdefault((renamed.client, "upload", version.path), [])
            if there and isinstance(failed := there[-1], Stored) and not failed.came:
                version.take_over(failed)
            there.append(version)

    def items(self) -> list[Item]:
        """The items: looks only of clients that asked for nothing else."""
        every = (one for versions in self._versions.values() for one in versions)
        rejoin(one for one in every if isinstance(one, Stored) and one.tries)
        files, looks = list[Item](), list[tuple[str, Item]]()
        fetched = set[str]()
        for (client, kind, path), versions in self._versions.items():
            for item in _items_of([one for one in versions if one.tries]):
                if kind in _LOOKS or self._is_probe(item, (client, path), kind):
                    looks.append((client, item))
                else:
                    files.append(item)
                    fetched.add(client)
        return files + [item for client, item in looks if client not in fetched]

    def _is_probe(self, item: Item, name: tuple[str, str], kind: str) -> bool:
        """True for a download that is refused for good where the client uploads that file: it only looked."""
        return kind == "download" and item.state == "refused" and name in self._uploaded


def _items_of(versions: Iterable[Version]) -> Iterator[Item]:
    """The items of the versions of one name: what came through again unchanged is the same one."""
    made = list[tuple[Version, Item]]()
    by_content = dict[str | None, tuple[Version, Item]]()  # of STOU, which changes no file that is there
    for version in versions:
        before = made[-1] if made else None
        if isinstance(version, Stored) and version.under_any_name:
            before = by_content.get(version.sha256)
        if before is None or not version.repeats(before[0]):
            before = version, _new_item(version, again=bool(made))
            made.append(before)
            if isinstance(version, Stored):
                by_content[version.sha256] = before
        for one in version.tries:
            before[1].add(one)
    return (item for _, item in made)


def _new_item(version: Version, *, again: bool) -> Item:
    name = _CALLED[version.kind].format(version.path)
    made = Item(f"{name}, again" if again else name, marked=version.marked, in_doubt=version.doubt)
    made.repeatable = version.kind != "upload"
    if again and isinstance(version, Stored) and not version.size:
        made.in_doubt = made.in_doubt or "it may be what had come through already"
    return made


# ---- connections that named no file ------------------------------------------------------------------


def _add_nameless(made: Ledger, own: Sequence[Session], *, named: bool) -> None:
    """Add the tries of a client that named no file. If it never named any, it had one thing to do, at least."""
    tries = [session.nameless for session in own if session.nameless is not None]
    if named:
        made.nameless += tries
    elif tries:
        item = Item(f"what #{tries[0].connection.number} was to do", repeatable=True)
        for one in sorted([*tries, *_logins(own)], key=lambda one: one.started_index):
            item.add(one)
        made.items.append(item)


def _logins(own: Iterable[Session]) -> Iterator[Try]:
    """The connections of a client that logged in, and wanted no more."""
    for session in own:
        if session.logged_in is not None and session.nameless is None:
            first, last = session.exchanges[0], session.logged_in
            yield Try(first, last, "accepted", first.at, first.index, last.at, last.index)


def _doubts(own: Iterable[Session]) -> list[Doubt]:
    """The tries without a name that no later one can have made up for."""
    waiting = deque[Try]()
    busy = 0  # where the last connection that was let in ended
    for one, session in _begun(own):
        if waiting and one.knew_of(waiting[0]) and (busy < one.started_index or _apart(one, waiting[0])):
            waiting.popleft()
        if one is session.nameless and one.failed and one.item is None:
            waiting.append(one)
        elif one is not session.nameless:
            busy = max(busy, session.ended_index)
    if not waiting:
        return []
    they = "it" if len(waiting) == 1 else "they"
    why = f"{plural(len(waiting), 'connection')} ended before {they} named a file, which may have been any"
    return [Doubt(why, COUNT, tuple(one.by for one in waiting))]


def _begun(own: Iterable[Session]) -> list[tuple[Try, Session]]:
    """What began the work on each connection, and what was refused there before it named a file."""
    found = list[tuple[Try, Session]]()
    for session in own:
        found += [(step.one, session) for step in session.steps if isinstance(step, Asked) and step.opens]
        if session.nameless is not None:
            found.append((session.nameless, session))
    return sorted(found, key=lambda each: each[0].started_index)


def _apart(one: Try, failed: Try) -> bool:
    """True if this was not begun at the same time: it came a while after, or to another server."""
    speed = float(getattr(one.connection.journal.clock, "speed", 1.0))
    elsewhere = one.connection.journal is not failed.connection.journal
    return elsewhere or one.started_at - failed.ended_at >= CROSSING * speed
