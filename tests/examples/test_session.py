import smtplib

import pytest

from notnow import FakeSMTP


@pytest.fixture(scope="session")
def relay():
    with FakeSMTP(tls="starttls", users={"app": "secret"}) as fake:
        yield fake


@pytest.fixture
def mail_server(relay):
    relay.reset()
    relay.play("smtp/healthy")
    return relay


def test_login(mail_server):
    with smtplib.SMTP(mail_server.host, mail_server.port) as client:
        client.login("app", "secret")
    assert mail_server.journal.count("auth") == 1
