import contextlib
import smtplib
import time

from hypothesis import given

from notnow import FakeSMTP
from notnow.chaos import scenarios

MAIL = "Message-ID: <1@shop.test>\r\n\r\nThank you for your order."


def send_mail(host, port):
    for wait in (1, 2, 4, 8, 16, 32, 64, 128):
        with contextlib.suppress(OSError):
            client = smtplib.SMTP(host, port, timeout=10)
            try:
                client.sendmail("shop@x.test", ["ann@y.test"], MAIL)
                return
            finally:
                client.close()
        time.sleep(wait)
    raise RuntimeError("the mail could not be sent")


@given(scenario=scenarios("smtp", max_faults=4))
def test_delivered_exactly_once(scenario, fast_forward):
    with FakeSMTP(scenario) as smtp:
        send_mail(smtp.host, smtp.port)
    smtp.assert_delivered(count=1)
