"""SMTP (RFC 5321), on aiosmtpd."""

from notnow.servers.smtp.fake import Envelope, FakeSMTP, Message

__all__ = ["Envelope", "FakeSMTP", "Message"]
