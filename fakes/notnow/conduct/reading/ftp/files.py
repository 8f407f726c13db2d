"""The ledger of FTP: an item is a file in one direction, whatever pieces, offsets and temporary names it took.

A repeated request after a success is another item if it fails, or if it uploads other content.
Looks (listings, SIZE, MDTM) are items only for a client that asked for nothing else. `questions` reads those that led
nowhere.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from msgspec.structs import replace

from notnow.conduct.reading.ftp.fresh_names import rejoin
from notnow.conduct.reading.ftp.questions import Questions
from notnow.conduct.reading.ftp.transfers import Asked, Deleted, Renamed, Session, Step, sessions
from notnow.conduct.reading.ftp.versions import Fetched, Stored, Version, version_of
from notnow.conduct.reading.ledger import COUNT, Doubt, Item, Ledger, Try
from notnow.conduct.reading.nameless import attribute
from notnow.conduct.reading.run import Run
from notnow.journal import Connection
from notnow.units import plural

SHOWN = 5  # pieces of evidence of a doubt
AT_ONCE = 1.0  # seconds: a client that comes back sooner has not waited

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
    made = Ledger(shelf.items(), dropped=run.dropped)
    shelf.questions.spare(found)
    clients: dict[str, list[Session]] = {}
    for session in found:
        clients.setdefault(session.connection.client, []).append(session)
    doubtful = list[Try]()
    for client, own in clients.items():
        if client in shelf.with_files:
            _turn_listings(own)
        if client in shelf.asked and client not in shelf.in_pieces:
            doubtful += _uncarried(own)
        _add_nameless(made, own, doubtful, named=client in shelf.asked)
    _refuse(made)
    attribute(made)
    _note_owners(made.items, doubtful)
    made.nameless += doubtful
    made.looks = _looks(shelf, found)
    made.doubts += _doubts(doubtful) + _doubts_of_looks(shelf, made.looks)
    made.items.sort(key=lambda item: item.tries[0].started_index)
    return made


class _Shelf:
    """The versions of every file, by the name that it has."""

    def __init__(self) -> None:
        self.asked: set[str] = set()  # the clients that asked for something
        self.with_files: set[str] = set()  # those that asked for a file
        self.in_pieces: set[str] = set()  # those that fetched a file over several connections
        self._versions: dict[Key, list[Version]] = {}
        self._uploaded: set[tuple[str, str]] = set()
        self.fetched: dict[tuple[str, str], int] = {}  # by the client and the directory: the last download from there
        self.listings: list[tuple[str, str, Item]] = []  # with the client and the directory
        self.questions = Questions()

    def take(self, step: Step) -> None:
        match step:
            case Asked():
                self._ask(step)
            case Renamed():
                self._rename(step)
                self.questions.rename(step)
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
        self.questions.ask(asked)
        if asked.kind == "download":
            self.fetched[asked.client, posixpath.dirname(asked.path)] = asked.at
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
        stored = [one for one in every if isinstance(one, Stored) and one.tries]
        rejoin(stored)
        for one in stored:
            one.conclude()
        files, looks, listed = list[Item](), list[tuple[str, Item]](), set[str]()
        for (client, kind, path), versions in self._versions.items():
            if kind == "listing":
                listed.add(client)
            for item in _items_of([one for one in versions if one.tries]):
                if kind == "listing":
                    self.listings.append((client, path, item))
                if kind in _LOOKS or self._is_probe(item, (client, path), kind):
                    looks.append((client, item))
                else:
                    files.append(item)
                    self.with_files.add(client)
        doubtful = self.with_files | listed
        self.with_files |= self.questions.on_the_way
        files += self.questions.items(self.with_files, doubtful)
        return files + [item for client, item in looks if client not in self.with_files]

    def _is_probe(self, item: Item, name: tuple[str, str], kind: str) -> bool:
        """True for a download that is refused for good where the client uploads that file: it only looked."""
        return kind == "download" and item.state == "refused" and name in self._uploaded


def _items_of(versions: Iterable[Version]) -> Iterator[Item]:
    """The items of the versions of one name; a version that came through again unchanged is the same item."""
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


# ---- listings on the way to files --------------------------------------------------------------------


def _looks(shelf: _Shelf, found: Iterable[Session]) -> list[Item]:
    """The listings of clients with files that failed at least once, but for those that stand for a connection."""
    nameless = {id(session.nameless.by) for session in found if session.nameless is not None}
    failed = ((client, item) for client, _, item in shelf.listings if any(one.failed for one in item.tries))
    own = (item for client, item in failed if client in shelf.with_files)
    return [item for item in own if not any(id(one.by) in nameless for one in item.tries)]


def _doubts_of_looks(shelf: _Shelf, looks: Sequence[Item]) -> list[Doubt]:
    """A client that fetches files may have missed those of a directory that it could not list."""
    known = set(map(id, looks))
    listed = {(client, path) for client, path, item in shelf.listings if item.state == "delivered"}
    fetching = {client for client, _ in shelf.fetched}
    found = list[Doubt]()
    for client, path, item in shelf.listings if looks else ():
        last = item.tries[-1]
        if id(item) not in known or not last.failed or client not in fetching or (client, path) in listed:
            continue
        if shelf.fetched.get((client, path), -1) < last.ended_index:
            found.append(
                Doubt(f"{item.name} failed and never came again, so files in it may be missing", COUNT, (last.by,))
            )
    return found


# ---- connections that named no file ------------------------------------------------------------------


def _turn_listings(own: Iterable[Session]) -> None:
    """A client that fetches files, and failed to list them on a connection, has not come to name its file there."""
    for session in own:
        asked = [step for step in session.steps if isinstance(step, Asked)]
        if not asked or asked[-1].kind != "listing" or not all(one.kind in _LOOKS for one in asked):
            continue
        if session.nameless is None and asked[-1].one.failed:
            session.nameless = replace(asked[-1].one, item=None, earlier=None, later=None)


def _note_owners(items: Iterable[Item], doubtful: Sequence[Try]) -> None:
    """The tries of a client may have been of any of its items."""
    own: dict[str, list[Item]] = {}
    for item in items if doubtful else ():
        own.setdefault(item.tries[0].connection.client, []).append(item)
    known = {client: tuple(found) for client, found in own.items()}
    for one in doubtful:
        one.owners = known.get(one.connection.client, ())


def _refuse(made: Ledger) -> None:
    """What a client did not get before it was refused for good on its way to a file may be what was refused."""
    final = {one.connection.client: one.started_index for one in made.nameless if one.ending == "refused"}
    for item in made.items if final else ():
        last = item.tries[-1]
        if item.state == "missing" and last.ended_index < final.get(last.connection.client, -1):
            item.in_doubt = "the client may have come back for it, and was refused for good"
    if final:
        _add_refused(made)


def _add_refused(made: Ledger) -> None:
    """A client that had got everything, came again, and was refused for good came for something else."""
    latest: dict[str, float] = {}
    for item in made.items:
        last = item.tries[-1]
        settled = last.started_index if item.state not in ("missing", "in doubt") else inf
        latest[last.connection.client] = max(latest.get(last.connection.client, -1), settled)
    vain: dict[str, list[Try]] = {}
    for one in made.nameless:
        if one.ending == "refused" and one.started_index > latest.get(one.connection.client, inf):
            vain.setdefault(one.connection.client, []).append(one)
    made.items += [_what_it_came_for(tries) for tries in vain.values()]
    made.nameless[:] = [one for one in made.nameless if one.item is None]


def _what_it_came_for(tries: Sequence[Try]) -> Item:
    """The item of a client that named none."""
    item = Item(f"what #{tries[0].connection.number} was to do", repeatable=True)
    for one in tries:
        item.add(one)
    return item


def _add_nameless(made: Ledger, own: Sequence[Session], doubtful: Sequence[Try], *, named: bool) -> None:
    """Add the tries of a client that named no file. If it never named any, it had at least one item."""
    tries = [session.nameless for session in own if session.nameless is not None]
    if named:
        known = set(map(id, doubtful))
        made.nameless += [one for one in tries if id(one) not in known]
    elif tries:
        tries = [one for session in own for one in _led_to_nothing(session)]
        item = Item(f"what #{tries[0].connection.number} was to do", repeatable=True, invented=True)
        for one in sorted(tries, key=lambda one: one.started_index):
            item.add(one)
        made.items.append(item)


def _led_to_nothing(session: Session) -> list[Try]:
    """The tries of a connection on which the client asked for nothing: each time that it logged in, or was refused."""
    nameless, logins = session.nameless, session.logins
    if nameless is None or (logins and any(one.by is nameless.by for one in logins)):
        return logins
    return [*(one for one in logins if one.ending != "accepted"), nameless] if logins else [nameless]


def _uncarried(own: Iterable[Session]) -> list[Try]:
    """The tries without a name that no later connection can have made up for.

    A client that goes on at once may go on with its next file.
    """
    waiting, fresh, lost = deque[Try](), list[Try](), list[Try]()
    for one, session, opens in _begun(own):
        if opens:
            for failed in fresh:
                (waiting if _may_follow(one, failed) else lost).append(failed)
            fresh.clear()
            if waiting and one.knew_of(waiting[0]):
                waiting.popleft()
        if one is session.nameless and one.failed:
            fresh.append(one)
    return [*lost, *waiting, *fresh]


def _doubts(uncarried: Sequence[Try]) -> list[Doubt]:
    if not uncarried:
        return []
    they = "it" if len(uncarried) == 1 else "they"
    why = f"{plural(len(uncarried), 'connection')} ended before {they} named a file; it may have been any file"
    return [Doubt(why, COUNT, tuple(one.by for one in uncarried[:SHOWN]))]


def _begun(own: Iterable[Session]) -> list[tuple[Try, Session, bool]]:
    """What a client came for with each connection, and what was refused there later on; True for the first of them."""
    found = list[tuple[Try, Session, bool]]()
    for session in own:
        nameless = session.nameless
        first = next((step.one for step in session.steps if isinstance(step, Asked) and step.opens), None)
        opens = nameless is not None and nameless.began is session.exchanges[0]
        if first is not None and not opens:
            found.append((first, session, True))
        if nameless is not None:
            found.append((nameless, session, opens))
    return sorted(found, key=lambda each: each[0].started_index)


def _may_follow(one: Try, failed: Try) -> bool:
    """True if a client that was refused may have come back with this item.

    It comes after a while, or at once to another server, or where it found its connection closed. What it begins at
    once after a refusal may as well be the next of its files.
    """
    at_once = one.connection.journal is not failed.connection.journal or isinstance(failed.by, Connection)
    return one.knew_of(failed) and (at_once or one.started_at - failed.ended_at >= AT_ONCE)
