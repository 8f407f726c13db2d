"""Workers that take mail. The mail is kept by the process that they have in common."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from notnow.journal import Connection
from notnow.servers.smtp.bridge import MailBridge
from notnow.servers.smtp.envelope import Transaction
from notnow.servers.smtp.message import Envelope
from notnow.servers.workers.crewed import Crewed
from notnow.servers.workers.working import Working


class Worker(Working, MailBridge):
    """A `MailHost` that hands in its mail."""

    def keep(self, record: Connection, transaction: Transaction, which: slice, user: object) -> Envelope:
        envelope = super().keep(record, transaction, which, user)
        self.mailbox.clear()
        self.recorder.keep(record, envelope)
        return envelope


class Crew(Crewed, MailBridge):
    """A mailbox with workers."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.recorder.on_kept = self._keep

    def _keep(self, connection: Connection, envelope: Envelope) -> None:
        self.mailbox.add(replace(envelope, connection=connection.number))
