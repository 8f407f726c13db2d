"""The bridge of an SMTP fake: its sessions, its mailbox and its limits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from notnow.engine.actions import Script
from notnow.journal import Connection, Exchange
from notnow.language.scenario import Scenario
from notnow.language.server import Limits
from notnow.servers.base.bridge import GRACE, PATIENCE, Bridge
from notnow.servers.base.loopback import Loopback
from notnow.servers.base.options import Options
from notnow.servers.smtp.envelope import Transaction
from notnow.servers.smtp.mailbox import Mailbox
from notnow.servers.smtp.message import Envelope
from notnow.servers.smtp.session import SMTPSession, masked

if TYPE_CHECKING:
    from notnow.servers.smtp.forward import Forwarder

NO_LIMITS = Limits()


class MailBridge(Bridge):
    """A `MailHost`."""

    goodbye = SMTPSession.goodbye
    session_class: ClassVar[type[SMTPSession]] = SMTPSession

    def __init__(self, options: Options, scenario: Scenario, label: str, name: str) -> None:
        super().__init__(options, scenario, label, name)
        self.mailbox = Mailbox()
        self._forwarder = self._new_forwarder(options.forward) if options.forward is not None else None

    def _new_forwarder(self, server: Loopback) -> Forwarder:
        from notnow.servers.smtp.forward import Forwarder

        return Forwarder(server, self.hostname, self._not_forwarded)

    def admit(self, record: Connection, exchange: Exchange, script: Script) -> SMTPSession:
        return self.session_class(self, record, exchange, script)

    @property
    def limits(self) -> Limits:
        return self.scenario.server.limits or NO_LIMITS

    def keep(self, record: Connection, transaction: Transaction, which: slice, user: object) -> Envelope:
        content = transaction.content
        assert isinstance(content, bytes)
        envelope = Envelope(
            transaction.mail_from or "",
            tuple(transaction.rcpt_tos[which]),
            content,
            self.clock.now(),
            record.number,
            None if user is None else str(user),
            transaction.parameters,
            tuple(transaction.recipient_parameters[which]),
        )
        self.mailbox.add(envelope)
        return envelope

    def pass_on(self, envelope: Envelope) -> None:
        if self._forwarder is not None:
            self._forwarder.put(envelope)

    def _not_forwarded(self, said: str) -> None:
        """For any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the journal with it
            self.loop.call_soon_threadsafe(self.recorder.mark, "forward", said)

    def close_unused(self) -> bool:
        return self._forwarder is None and super().close_unused()

    async def shut(self) -> None:
        await super().shut()
        if (forwarder := self._forwarder) is not None:
            forwarder.finish()
            if not await self.until(lambda: forwarder.ended, PATIENCE):
                forwarder.abort()
                await self.until(lambda: forwarder.ended, GRACE)

    def forget(self) -> None:
        super().forget()
        self.mailbox.clear()

    def masked(self, text: str) -> str:
        return masked(text)
