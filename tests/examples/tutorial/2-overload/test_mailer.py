import pytest
from mailer import send_mail


@pytest.mark.notnow("smtp/overload", outage="10m")
def test_the_mail_survives_an_overload(fake_smtp):
    send_mail(fake_smtp.host, fake_smtp.port, "Subject: the disk is full\r\n\r\nHelp!\r\n")

    fake_smtp.assert_delivered(times=1)
