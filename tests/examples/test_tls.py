import smtplib
import ssl

import pytest


def send_safely(host: str, port: int, ca_file: str) -> None:
    """TLS or nothing: the mail goes out only to a server that proves who it is."""
    with smtplib.SMTP(host, port, timeout=5) as server:
        server.starttls(context=ssl.create_default_context(cafile=ca_file))
        server.sendmail("me@example.org", ["you@example.net"], "Subject: secret\r\n\r\nHello!\r\n")


@pytest.mark.notnow("smtp/healthy", tls="starttls")
def test_it_trusts_a_good_certificate(fake_smtp):
    send_safely(fake_smtp.host, fake_smtp.port, fake_smtp.ca_file)
    fake_smtp.assert_delivered(times=1)
    assert fake_smtp.journal.connections[0].tls.version == "TLSv1.3"


@pytest.mark.parametrize("trouble", ["wrong", "expired", "untrusted"])
def test_it_sends_nothing_to_a_server_that_cannot_prove_who_it_is(fake_smtp, trouble):
    fake_smtp.play(f"smtp/{trouble}-certificate")
    with pytest.raises(ssl.SSLCertVerificationError):
        send_safely(fake_smtp.host, fake_smtp.port, fake_smtp.ca_file)
    assert not fake_smtp.messages


@pytest.mark.notnow("smtp/starttls-refused")
def test_it_does_not_fall_back_to_clear_text(fake_smtp):
    with pytest.raises(smtplib.SMTPResponseException, match="454"):
        send_safely(fake_smtp.host, fake_smtp.port, fake_smtp.ca_file)
    assert fake_smtp.journal.count("mail") == 0
