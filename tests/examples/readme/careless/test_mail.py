import smtplib

import pytest


def send_mail(host, port):
    try:
        with smtplib.SMTP(host, port) as server:
            server.sendmail("me@example.org", "you@example.net", "Subject: hi")
    except smtplib.SMTPException as error:
        print("no mail today:", error)


@pytest.mark.notnow("smtp/overload", outage="10m")  # ten minutes of 421 …
def test_mail_survives_an_overload(fake_smtp, fast_forward):  # … in milliseconds
    send_mail(fake_smtp.host, fake_smtp.port)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_retried(backoff="exponential", first_delay=60)
