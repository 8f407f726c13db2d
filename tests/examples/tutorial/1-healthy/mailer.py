import logging
import smtplib


def send_mail(host: str, port: int, text: str) -> None:
    """Send a note to the operator. A monitoring job must not die of its own mail."""
    try:
        with smtplib.SMTP(host, port, timeout=30) as server:
            server.sendmail("monitor@example.org", ["ops@example.net"], text)
    except OSError as error:
        logging.warning("could not send mail: %s", error)
