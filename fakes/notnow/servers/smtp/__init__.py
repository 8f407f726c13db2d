"""SMTP (RFC 5321), on aiosmtpd."""

from notnow.servers.smtp.fake import FakeSMTP
from notnow.servers.smtp.message import Envelope, Message

__all__ = ["Envelope", "FakeSMTP", "Message"]
