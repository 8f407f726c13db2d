import smtplib

import pytest


@pytest.mark.notnow("vrfy.toml")
def test_a_rule_may_act_at_vrfy(fake_smtp):
    with smtplib.SMTP(fake_smtp.host, fake_smtp.port, timeout=5) as client:
        client.ehlo()
        assert client.verify("ada@example.net")[0] == 252
        assert client.verify("root@example.net") == (421, b"4.7.0 No questions about root")
    assert fake_smtp.journal.count("vrfy") == 2
