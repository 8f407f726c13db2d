"""The mail that a fake has accepted: envelopes and messages."""

from __future__ import annotations

import email
from collections import deque
from collections.abc import Mapping
from email.message import EmailMessage

from msgspec import Struct, field

from notnow.bounds import ENVELOPE, KEPT_BODIES


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


class Mailbox:
    """The accepted mail of a fake; the oldest message is dropped when there is no room left (see `notnow.bounds`)."""

    def __init__(self) -> None:
        self._kept: deque[Envelope] = deque()
        self._parsed: dict[int, Message] = {}
        self._bytes = 0

    def add(self, envelope: Envelope) -> None:
        """Keep a message."""
        self._kept.append(envelope)
        self._bytes += envelope.weight
        while self._bytes > KEPT_BODIES and len(self._kept) > 1:
            self._bytes -= self._kept.popleft().weight

    @property
    def messages(self) -> list[Message]:
        """The messages in the order in which they came; each is parsed once."""
        kept = list(self._kept)
        self._parsed = {id(e): self._parsed.get(id(e)) or _parse(e) for e in kept}
        return [self._parsed[id(e)] for e in kept]

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0


def _parse(envelope: Envelope) -> Message:
    from email import policy  # heavy, and only for tests that look into a message

    lines = envelope.content.replace(b"\r\n", b"\n")  # as the sender's own EmailMessage had them
    parsed = email.message_from_bytes(lines, policy=policy.default.clone(message_factory=Message))
    assert isinstance(parsed, Message)
    parsed.envelope = envelope
    return parsed
