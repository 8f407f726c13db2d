"""What an SMTP session needs of its fake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from notnow.journal import Connection
from notnow.language.server import Limits
from notnow.servers.base.session import Host
from notnow.servers.smtp.envelope import Transaction
from notnow.servers.smtp.message import Envelope


class MailHost(Host, Protocol):
    """A host with a mailbox."""

    @property
    def users(self) -> Mapping[str, str] | None:
        """The users who may log in, and their passwords; None lets everybody in."""

    @property
    def limits(self) -> Limits:
        """The limits of one connection (RFC 9422)."""

    def keep(self, record: Connection, transaction: Transaction, which: slice, user: object) -> Envelope:
        """Store a message for these of its recipients."""

    def pass_on(self, envelope: Envelope) -> None:
        """The client has its reply: pass the message on to the server of `forward`, if there is one."""
