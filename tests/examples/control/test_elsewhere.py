import os
import smtplib

import pytest

import notnow


@pytest.fixture
def smtp():
    remote = notnow.connect(os.environ["NOTNOW_CONTROL"])  # the URL that `notnow serve --control` printed
    with remote.start("smtp/overload", outage="1h", speed=0) as server:
        yield server


def send(server):
    with smtplib.SMTP(server.host, server.port) as client:
        client.sendmail("a@client.test", ["b@server.test"], "Subject: hello\nMessage-ID: <1@client.test>\n\nhello\n")


def test_mail_survives_an_outage(smtp):
    with pytest.raises(smtplib.SMTPConnectError):
        send(smtp)
    smtp.clock.advance("1h")
    send(smtp)
    smtp.assert_delivered(times=1)
    smtp.assert_retried(first_delay="1h")
