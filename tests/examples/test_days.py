import smtplib
import time

import pytest

HOUR = 3600


def send_within_five_days(host: str, port: int) -> bool:
    """What RFC 5321 §4.5.4.1 asks of a mail server: keep trying for 4 to 5 days."""
    gives_up = time.time() + 5 * 24 * HOUR
    while time.time() < gives_up:
        try:
            with smtplib.SMTP(host, port, timeout=60) as server:
                server.sendmail("me@example.org", ["you@example.net"], "Subject: hi\r\n\r\nHello!\r\n")
            return True
        except smtplib.SMTPException:
            time.sleep(HOUR)
    return False


@pytest.mark.notnow("smtp/overload", outage="4d")
def test_mail_outlives_a_long_weekend(fake_smtp, fast_forward):
    assert send_within_five_days(fake_smtp.host, fake_smtp.port)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_retried(times=96, backoff="constant")


@pytest.mark.notnow("smtp/overload", outage="6d")
def test_the_sender_gives_up_after_five(fake_smtp, fast_forward):
    assert not send_within_five_days(fake_smtp.host, fake_smtp.port)
    assert not fake_smtp.messages
    fake_smtp.assert_gave_up(after="5d")
