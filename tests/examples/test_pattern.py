import smtplib
import time

import pytest


def send_mail(host: str, port: int) -> None:
    for wait in (10, 20, 40, 80, 160):
        try:
            with smtplib.SMTP(host, port, timeout=30) as server:
                server.sendmail("me@example.org", ["you@example.net"], "Subject: hi\r\n\r\nHello!\r\n")
            return
        except (smtplib.SMTPException, OSError):
            time.sleep(wait)


@pytest.mark.notnow("smtp/*overload", outage="90s")  # runs once for smtp/overload, once for smtp/flapping-overload
def test_it_does_what_the_scenario_expects(fake_smtp, fast_forward):
    send_mail(fake_smtp.host, fake_smtp.port)
    fake_smtp.assert_expected()
