import logging
import smtplib
import time


def send_mail(host: str, port: int, text: str, tries: int = 8) -> None:
    """Send a note to the operator. A monitoring job must not die of its own mail."""
    for attempt in range(tries):
        try:
            with smtplib.SMTP(host, port, timeout=30) as server:
                server.sendmail("monitor@example.org", ["ops@example.net"], text)
            return
        except OSError as error:
            logging.warning("could not send mail: %s", error)
        time.sleep(60 * 2**attempt)
