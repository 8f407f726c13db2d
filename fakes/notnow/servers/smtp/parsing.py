"""An accepted message as Python's `email` reads it, whatever a client has sent.

That package fails on some headers and on parts that are nested deeply, and takes a time that grows with the square of a field.
"""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import EmailPolicy
from typing import Any, cast

from notnow.bounds import MAIL_FIELD, MIME_FIELD
from notnow.servers.smtp.message import Envelope, Message


class _Lenient(EmailPolicy):
    """No field is read beyond its bound, and one that cannot be parsed is its text."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        bound = MIME_FIELD if name.lower().startswith("content-") else MAIL_FIELD
        if len(value) > bound:
            value = value[:bound]
        try:
            return super().header_fetch_parse(name, value)
        except Exception:  # such as a RecursionError for a thousand parentheses
            return value.translate(_LINE_ENDS).encode("utf-8", "replace").decode()


_LINE_ENDS = dict.fromkeys(map(ord, "\r\n"))
_PARSER = BytesParser(policy=_Lenient(message_factory=Message))


def parsed(envelope: Envelope) -> Message:
    """The message of an envelope. One whose parts cannot be taken apart has one part, its text."""
    lines = envelope.content.replace(b"\r\n", b"\n")  # as the sender's own EmailMessage had them
    try:
        message = _PARSER.parsebytes(lines)
    except RecursionError:
        message = _PARSER.parsebytes(lines, headersonly=True)
    found = cast("Message", message)
    found.envelope = envelope
    return found
