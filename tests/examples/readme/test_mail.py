import smtplib
import time

import pytest


def send_mail(host, port):
    for wait in (60, 120, 240, 480, 960):
        try:
            with smtplib.SMTP(host, port) as server:
                server.sendmail("me@example.org", "you@example.net", "Subject: hi")
                return
        except smtplib.SMTPException:
            time.sleep(wait)


@pytest.mark.notnow("smtp/overload", outage="10m")  # ten minutes of 421 …
def test_mail_survives_an_overload(fake_smtp, fast_forward):  # … in milliseconds
    send_mail(fake_smtp.host, fake_smtp.port)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_retried(backoff="exponential", first_delay=60)
