import smtplib

import pytest


@pytest.mark.notnow("full-mailbox.toml", full="2h")
def test_one_full_mailbox_does_not_stop_the_others(fake_smtp):
    with smtplib.SMTP(fake_smtp.host, fake_smtp.port) as server:
        refused = server.sendmail(
            "me@example.org", ["full@example.net", "you@example.net"], "Subject: hi\r\n\r\nHello!\r\n"
        )

    assert refused == {"full@example.net": (452, b"4.2.2 The mailbox is full")}
    assert fake_smtp.messages[0].envelope.recipients == ("you@example.net",)
