"""The bridge of an SMTP fake: its sessions, its mailbox and its limits."""

from __future__ import annotations

import socket
from typing import ClassVar

from notnow.engine.actions import Script
from notnow.journal import Connection, Exchange
from notnow.language.scenario import Scenario
from notnow.language.server import Limits
from notnow.servers.base.bridge import Bridge
from notnow.servers.base.options import Options
from notnow.servers.smtp.envelope import Transaction
from notnow.servers.smtp.mailbox import Envelope, Mailbox
from notnow.servers.smtp.session import SMTPSession, masked

NO_LIMITS = Limits()


class MailBridge(Bridge):
    """A `MailHost`."""

    goodbye = SMTPSession.goodbye
    session_class: ClassVar[type[SMTPSession]] = SMTPSession
    _template: SMTPSession

    def __init__(self, options: Options, scenario: Scenario, label: str, name: str) -> None:
        super().__init__(options, scenario, label, name)
        self.mailbox = Mailbox()

    def listen(self, sock: socket.socket) -> None:
        self._template = self.session_class.template(self)
        super().listen(sock)

    def admit(self, record: Connection, exchange: Exchange, script: Script) -> SMTPSession:
        return self._template.adopt(self, record, exchange, script)

    @property
    def limits(self) -> Limits:
        return self.scenario.server.limits or NO_LIMITS

    def keep(self, record: Connection, transaction: Transaction, which: slice, user: object) -> None:
        content = transaction.content
        assert isinstance(content, bytes)
        self.mailbox.add(
            Envelope(
                transaction.mail_from or "",
                tuple(transaction.rcpt_tos[which]),
                content,
                self.clock.now(),
                record.number,
                None if user is None else str(user),
                transaction.parameters,
                tuple(transaction.recipient_parameters[which]),
            )
        )

    def forget(self) -> None:
        super().forget()
        self.mailbox.clear()

    def masked(self, text: str) -> str:
        return masked(text)
