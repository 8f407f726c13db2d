"""Files that an FTP client asked about (SIZE, MDTM, MLST), and then did not transfer because the server refused it."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from notnow.conduct.reading.ftp.transfers import Asked, Renamed, Session
from notnow.conduct.reading.ledger import Item, Try

_DOUBT = "the client asked about it, and may have wanted no more"

Name = tuple[str, str]  # the client, and the path


class Questions:
    """The files behind questions that led nowhere.

    A question is open if it failed, or if the client was refused on its way from there to a transfer. It is settled
    when the client transfers the file, or asks again and gets an answer. After a transfer, only a question with which a
    connection begins is about another one: any other looks at what has come.
    """

    def __init__(self) -> None:
        self.on_the_way: set[str] = set()  # the clients that were refused between a question and a transfer
        self._transferred: set[Name] = set()
        self._open: dict[Name, list[Try]] = {}

    def ask(self, asked: Asked) -> None:
        """Take note of something that was asked for, in order."""
        name = asked.client, asked.path
        if asked.kind in ("upload", "download"):
            self._settle(name)
        elif asked.kind == "question":
            if asked.barred is not None:
                self.on_the_way.add(asked.client)
            failed = asked.barred or (asked.one if asked.one.failed else None)
            if failed is None:
                self._open.pop(name, None)
            elif asked.opens or name not in self._transferred:
                self._open.setdefault(name, []).append(replace(failed, item=None, earlier=None, later=None))

    def rename(self, renamed: Renamed) -> None:
        if renamed.new is not None:
            self._settle((renamed.client, renamed.new))

    def _settle(self, name: Name) -> None:
        self._transferred.add(name)
        self._open.pop(name, None)

    def items(self, clients: Collection[str], doubtful: Collection[str]) -> list[Item]:
        """The files that these clients asked about in vain; the `doubtful` ones may have wanted no more."""
        found = list[Item]()
        for (client, path), tries in self._open.items():
            if client in clients:
                found.append(Item(f"the transfer of {path}", in_doubt=_DOUBT if client in doubtful else ""))
                for one in tries:
                    found[-1].add(one)
        return found

    def spare(self, sessions: Iterable[Session]) -> None:
        """A refusal that an open question names is not also that of a client without a name."""
        named = {(id(one.by), one.ended_index) for tries in self._open.values() for one in tries}
        for session in sessions if named else ():
            nameless = session.nameless
            if nameless is not None and (id(nameless.by), nameless.ended_index) in named:
                session.nameless = None
