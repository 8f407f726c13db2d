"""The code under test: a sender that waits and tries again."""

import smtplib
import time


def send(host: str, port: int, subject: str) -> int:
    """The number of tries that it took."""
    for tries, wait in enumerate((60, 120, 240, 480, 960), start=1):
        try:
            with smtplib.SMTP(host, port, timeout=30) as server:
                server.sendmail("me@example.org", "you@example.net", f"Subject: {subject}")
                return tries
        except smtplib.SMTPException:
            time.sleep(wait)
    raise TimeoutError("gave up")
