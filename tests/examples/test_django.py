import smtplib
import time

import pytest
from django.core.mail import send_mail
from django.test import override_settings

SMTP = "django.core.mail.backends.smtp.EmailBackend"


def send_receipt(to):
    for wait in (60, 120, 240, 480):
        try:
            return send_mail("Receipt", "Thank you.", "shop@shop.test", [to])
        except (smtplib.SMTPException, OSError):
            time.sleep(wait)
    return 0


@pytest.fixture
def mail_server(fake_smtp):
    with override_settings(EMAIL_BACKEND=SMTP, EMAIL_HOST=fake_smtp.host, EMAIL_PORT=fake_smtp.port):
        yield fake_smtp


@pytest.mark.notnow("smtp/overload", outage="5m")
def test_a_receipt_outlasts_an_overload(mail_server, fast_forward):
    send_receipt("ann@customer.test")
    mail_server.assert_delivered(to="ann@customer.test", subject="Receipt")
    mail_server.assert_retried(backoff="exponential", first_delay=60)
