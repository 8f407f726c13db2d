"""An accepted message and its envelope."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import EmailMessage

from msgspec import Struct, field

from notnow.bounds import ENVELOPE


class Envelope(Struct, frozen=True, gc=False):
    """The SMTP envelope of a message: `sender` (empty for a bounce), `recipients`, and the `user` who was logged in.

    `content` holds the bytes as they came, `at` is in scenario seconds, `connection` is the number in the journal.
    `parameters` are those of MAIL by their upper-case names, such as those of DSN (RFC 3461), with xtext decoded;
    `recipient_parameters` are those of RCPT, an entry for each of `recipients`.
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
        """Its share of the room for accepted mail, in bytes."""
        return ENVELOPE + len(self.content) + sum(map(len, self.recipients))


class Message(EmailMessage):
    """An accepted message: an `email.message.EmailMessage` with its `envelope`.

    Its lines end in a newline, as in a message that Python has made; `envelope.content` has the bytes of the wire.
    """

    envelope: Envelope
