import smtplib

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential


@retry(
    retry=retry_if_exception_type(smtplib.SMTPException),
    wait=wait_exponential(multiplier=30, max=3600),
    stop=stop_after_delay(4 * 3600),
)
def send_mail(host: str, port: int) -> None:
    with smtplib.SMTP(host, port, timeout=30) as server:
        server.sendmail("me@example.org", ["you@example.net"], "Subject: hi\r\n\r\nHello!\r\n")


@pytest.mark.notnow("smtp/overload", outage="10m")
def test_it_backs_off(fake_smtp, fast_forward):
    send_mail(fake_smtp.host, fake_smtp.port)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_retried(times=(3, 8), within="1h", first_delay=(20, 60), backoff="exponential")


@pytest.mark.notnow("smtp/at-stage", stage="rcpt", outage="10m")
def test_it_backs_off_in_the_middle_of_a_dialogue_too(fake_smtp, fast_forward):
    send_mail(fake_smtp.host, fake_smtp.port)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_no_duplicates()
