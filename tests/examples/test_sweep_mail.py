import smtplib
import time

from notnow.chaos import sweep

LETTERS = {"<1@me.test>": "Hello", "<2@me.test>": "Hello again"}


def flush(host, port):
    for number, text in LETTERS.items():
        for recipient in ("ann@x.test", "bob@x.test"):
            deliver(host, port, recipient, f"Message-ID: {number}\n\n{text}")


def deliver(host, port, recipient, message):
    for wait in (60, 120, 240):
        connection = smtplib.SMTP(timeout=300)
        try:
            connection.connect(host, port)
            connection.sendmail("me@me.test", [recipient], message)
            return
        except (smtplib.SMTPException, OSError):
            time.sleep(wait)
        finally:
            connection.close()
    raise RuntimeError(f"{recipient} did not get the message")


def test_no_refusal_loses_mail(fast_forward):
    sweep("smtp", lambda fake: flush(fake.host, fake.port)).assert_none("lost", "duplicated")
