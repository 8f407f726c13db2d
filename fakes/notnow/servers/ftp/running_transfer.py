"""A transfer under way, from its command to its last reply, and its entry in the journal."""

from __future__ import annotations

import asyncio
from typing import Literal

from notnow.journal import Exchange, Recorder, Transfer
from notnow.protocols.ftp import DataEnding
from notnow.servers.ftp.data import DataConnection
from notnow.servers.ftp.opened import Reader, Writer

UPLOADS = frozenset({"STOR", "APPE", "STOU"})
LISTINGS = frozenset({"LIST", "NLST", "MLSD"})
TRANSFERS = UPLOADS | LISTINGS | {"RETR"}


def asked_for(verb: str, path: str, mode: str | None, offset: int) -> Transfer:
    """A transfer that a client asks for, whether it will be refused or not."""
    direction: Literal["upload", "download", "listing"]
    direction = "upload" if verb in UPLOADS else "listing" if verb in LISTINGS else "download"
    return Transfer(path, direction, mode, 0 if verb in LISTINGS else offset, bytes=0, whole=False, data=None)


class RunningTransfer:
    """A command that needs a data connection, until its last reply.

    The journal has a `Transfer` for it at the command's exchange, which says in the end how it went. `outcome` is where
    its reply goes if somebody waits for it; otherwise the reply is sent at once.
    """

    def __init__(self, verb: str, exchange: Exchange, recorder: Recorder) -> None:
        self.verb, self.exchange, self._recorder = verb, exchange, recorder
        self.moment = exchange.moment
        self.outcome: asyncio.Future[bytes | None] | None = None
        self.work: asyncio.Task[object] | None = None  # the task that sends its reply, if that is not sent at once
        self.is_over = False
        self.is_complete = False  # all bytes have passed, and only the reply is left
        self.is_answered = False  # a rule has sent its final reply before its end
        self.is_ragged = False  # its TLS ends without a close_notify
        self.upload: Writer | None = None

    @property
    def known(self) -> Transfer:
        """Its entry in the journal."""
        known = self.exchange.transfer
        assert known is not None
        return known

    def note(self, **known: object) -> None:
        """Put more facts in the journal."""
        self._recorder.more(self.exchange, **known)

    def note_end(self, data: DataConnection, how: DataEnding, whole: bool) -> None:
        """Its data connection has ended: put the result in the journal."""
        known: dict[str, object] = {"bytes": data.bytes, "whole": whole, "failure": data.failure}
        if not whole:
            known |= {"data": how, "cut_by": data.by}
        file = data.file_obj
        if isinstance(file, Reader):
            known |= {"path": file.name, "size": file.size}
        if isinstance(file, Writer):
            self.upload = file
            known |= {"path": file.name, "stored": True, "sha256": file.sha256} if whole else {"path": file.name}
        self.note(**known)

    def take_back(self) -> None:
        """The transfer does not count: undo an upload."""
        self.note(whole=False, stored=None if self.known.stored is None else False)
        if self.upload is not None:
            self.upload.discard()
