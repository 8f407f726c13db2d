import smtplib

import pytest


@pytest.mark.parametrize("number", range(4))
@pytest.mark.notnow("smtp/overload")
def test_every_worker_has_its_own(fake_smtp, number):
    with pytest.raises(smtplib.SMTPConnectError, match="421"):
        smtplib.SMTP(fake_smtp.host, fake_smtp.port)
    assert fake_smtp.journal.count("connect") == 1
