"""Two ways to send the same mail to a server that says "421, not now". `notnow demo` runs both.

Both are plain smtplib. RFC 5321 §4.2.1 says that a 421 is temporary, so the server may accept the same message later;
§4.5.4.1 tells clients to wait before they try again, and to keep trying for days.
"""

from __future__ import annotations

import random
import smtplib
import time
from collections.abc import Callable
from email.message import EmailMessage


def deliver(host: str, port: int, message: EmailMessage) -> None:
    """One attempt, on its own connection. Raises smtplib.SMTPException or OSError if it fails."""
    with smtplib.SMTP(host, port, timeout=30) as client:
        client.send_message(message)


def careless(host: str, port: int, message: EmailMessage, *, tries: int = 20) -> bool:
    """Try again at once, several times, and then drop the message. True if the message got through."""
    for _ in range(tries):
        try:
            deliver(host, port, message)
            return True
        except OSError:  # smtplib.SMTPException is one
            continue  # no wait: all tries fall into the first moments of the outage
    return False  # and the message is lost


def careful(
    host: str,
    port: int,
    message: EmailMessage,
    *,
    first_wait: float = 60.0,
    longest_wait: float = 3600.0,
    keep_for: float = 5 * 86400.0,
    sleep: Callable[[float], object] = time.sleep,
    jitter: Callable[[float, float], float] = random.uniform,
) -> bool:
    """Keep the message and come back after a wait that doubles. True if the message got through.

    Waits are in seconds. Each is up to a quarter longer than necessary, so that the clients of one outage do not all
    come back at the same time.
    """
    wait, waited = first_wait, 0.0
    while waited < keep_for:
        try:
            deliver(host, port, message)
            return True
        except OSError as error:
            if is_permanent(error):
                return False  # a 5yz: it would be refused again (RFC 5321 §4.2.1)
        pause = wait * jitter(1.0, 1.25)
        sleep(pause)
        waited += pause
        wait = min(2 * wait, longest_wait)
    return False


def is_permanent(error: OSError) -> bool:
    """True if the server refused the message for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500
