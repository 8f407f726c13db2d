"""Two ways to send the same mail to a server that says "421, not now". `notnow demo` runs both.

Both are plain smtplib. What a 421 asks of a client stands in RFC 5321 §4.2.1: it is temporary, so the same
message may well be taken later; §4.5.4.1 says to wait before trying again, and to keep trying for days.
"""

from __future__ import annotations

import random
import smtplib
import time
from collections.abc import Callable
from email.message import EmailMessage


def deliver(host: str, port: int, message: EmailMessage) -> None:
    """One attempt, on a connection of its own. Raises smtplib.SMTPException or OSError if it fails."""
    with smtplib.SMTP(host, port, timeout=30) as client:
        client.send_message(message)


def careless(host: str, port: int, message: EmailMessage, *, tries: int = 20) -> bool:
    """Tries again at once, as often as it can, and then drops the message. True if it got through."""
    for _ in range(tries):
        try:
            deliver(host, port, message)
            return True
        except OSError:  # smtplib.SMTPException is one
            continue  # no wait: all tries are spent within the first moments of the outage
    return False  # and nobody has kept the message


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
    """Keeps the message and comes back after a wait that doubles. True if it got through.

    Waits are in seconds. Each is up to a quarter longer than it had to be, so that the clients of one outage do
    not all come back at the same time.
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
    """True where the server has said no for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPResponseException) and error.smtp_code >= 500
