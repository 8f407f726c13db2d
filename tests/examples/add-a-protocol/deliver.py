"""Deliver a message by LMTP to each recipient, and once more to those that were put off."""

import smtplib
import sys


def deliver(host, port, recipients):
    """Return the recipients that were put off."""
    with smtplib.LMTP(host, port, timeout=5) as client:
        client.ehlo()
        client.mail("ada@x.test")
        for recipient in recipients:
            client.rcpt(recipient)
        replies = [client.data("Message-ID: <1@x.test>\r\nSubject: hello\r\n\r\nHello.\r\n")]
        replies += [client.getreply() for _ in recipients[1:]]  # RFC 2033 §4.2: a reply for each
    return [recipient for recipient, (code, _) in zip(recipients, replies, strict=True) if code != 250]


def persist(host, port, recipients):
    while recipients:
        recipients = deliver(host, port, recipients)


if __name__ == "__main__":
    persist(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
