"""FakeSMTP: an SMTP server that says 421 on cue (RFC 5321), on aiosmtpd."""

from __future__ import annotations

import email
import hashlib
import re
import socket
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from typing import TYPE_CHECKING, Any, ClassVar

from notnow.bounds import ENVELOPE, KEPT_BODIES
from notnow.conduct import messages
from notnow.conduct.messages import MessageAssertions
from notnow.engine.actions import Script
from notnow.journal import Connection, Exchange
from notnow.language.server import Limits
from notnow.servers.base.fake import Fake
from notnow.servers.smtp.session import SMTPSession, masked

if TYPE_CHECKING:
    from notnow.servers.smtp.envelope import Transaction

_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>\r\n]+>)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What SMTP said of a message: `sender` (empty for a bounce), `recipients`, and who was logged in.

    `content` are the bytes as they came, `at` is scenario seconds, `connection` the number in the journal.
    `parameters` are those of MAIL by their upper-case names, such as those of DSN (RFC 3461), with xtext decoded;
    `recipient_parameters` those of RCPT, an entry for each of `recipients`.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    at: float
    connection: int
    user: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    recipient_parameters: tuple[Mapping[str, str], ...] = ()

    @property
    def weight(self) -> int:
        """What it takes of the room for accepted mail, in bytes."""
        return ENVELOPE + len(self.content) + sum(map(len, self.recipients))


class Message(EmailMessage):
    """An accepted message: an `email.message.EmailMessage` with its `envelope`.

    Its lines end in a newline, as in a message that Python has made; `envelope.content` has the bytes of the wire.
    """

    envelope: Envelope


def _parse(envelope: Envelope) -> Message:
    lines = envelope.content.replace(b"\r\n", b"\n")  # as the sender's own EmailMessage had them
    parsed = email.message_from_bytes(lines, policy=policy.default.clone(message_factory=Message))
    assert isinstance(parsed, Message)
    parsed.envelope = envelope
    return parsed


class FakeSMTP(MessageAssertions, Fake):
    """A fake SMTP server.

        with FakeSMTP("smtp/overload", outage="5s") as smtp:
            send_mail(host=smtp.host, port=smtp.port)
            smtp.assert_delivered(times=1)

    It listens when the block begins, and it lives in a thread of its own.
    """

    protocol: ClassVar[str] = "smtp"

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self._kept: deque[Envelope] = deque()
        self._parsed: dict[int, Message] = {}
        self._kept_bytes = 0
        self._template: SMTPSession | None = None

    __init__.__doc__ = Fake.__init__.__doc__

    @property
    def scheme(self) -> str:
        return "smtps" if self.tls == "implicit" else "smtp"

    @property
    def limits(self) -> Limits:
        """What the scenario allows on one connection (RFC 9422)."""
        return self.scenario.server.limits or Limits()

    @property
    def messages(self) -> list[Message]:
        """The accepted mail, in the order in which it came."""
        kept = list(self._kept)
        self._parsed = {id(e): self._parsed.get(id(e)) or _parse(e) for e in kept}
        return [self._parsed[id(e)] for e in kept]

    def message(self, *, to: str | None = None, subject: str | None = None) -> Message:
        """The one accepted message that is for the recipient `to` and has this `subject`.

        Raises AssertionError, with a picture of what happened, where there is none or more than one.
        """
        __tracebackhide__ = True
        found = messages.one(self, to, subject)
        assert isinstance(found, Message)
        return found

    def keep(self, record: Connection, transaction: Transaction, user: object) -> Mapping[str, Any]:
        """Store a message, and say what the journal is to know of it."""
        content = transaction.content
        assert isinstance(content, bytes)
        envelope = Envelope(
            transaction.mail_from or "",
            tuple(transaction.rcpt_tos),
            content,
            self.clock.now(),
            record.number,
            None if user is None else str(user),
            transaction.parameters,
            tuple(transaction.recipient_parameters),
        )
        self._kept.append(envelope)
        self._kept_bytes += envelope.weight
        while self._kept_bytes > KEPT_BODIES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popleft().weight
        header_end = content.find(b"\r\n\r\n")
        found = _MESSAGE_ID.search(content, 0, header_end if header_end >= 0 else len(content))
        return {
            "stored": True,
            "message_id": found[1].decode("utf-8", "replace") if found else None,
            "sha256": hashlib.sha256(content).hexdigest(),
            "sender": envelope.sender,
            "recipients": list(envelope.recipients),
        }

    def _forget(self) -> None:
        super()._forget()
        self._kept.clear()
        self._kept_bytes = 0

    def _listen(self, sock: socket.socket) -> None:
        self._template = SMTPSession.template(self)
        super()._listen(sock)

    def _admit(self, record: Connection, exchange: Exchange, script: Script) -> SMTPSession:
        assert self._template is not None
        return self._template.adopt(self, record, exchange, script)

    def heard_after(self, record: Connection, data: bytes) -> None:
        super().heard_after(record, data)
        record.after = masked(record.after)
