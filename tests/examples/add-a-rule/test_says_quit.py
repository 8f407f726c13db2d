import smtplib
import subprocess

import pytest


def leaves(fake, *, politely):
    client = smtplib.SMTP(fake.host, fake.port, timeout=5)
    client.ehlo()
    if politely:
        client.quit()
    else:
        client.close()
    fake.wait_for(lambda journal: journal.connections[-1].left_index or journal.connections[-1].ended_by)


def test_a_client_that_says_quit(fake_smtp):
    leaves(fake_smtp, politely=True)
    fake_smtp.assert_conduct("smtp.says-quit")


def test_a_client_that_only_closes(fake_smtp):
    leaves(fake_smtp, politely=False)
    with pytest.raises(AssertionError, match="it closed the connection without QUIT"):
        fake_smtp.assert_conduct("smtp.says-quit")


@pytest.mark.notnow("smtp/overload")
def test_a_client_that_was_told_421_need_not(fake_smtp):
    with pytest.raises(smtplib.SMTPConnectError):
        smtplib.SMTP(fake_smtp.host, fake_smtp.port, timeout=5)
    fake_smtp.assert_conduct("smtp.says-quit")  # it is not exercised, and so not broken


def test_the_command_line_explains_it():
    explained = subprocess.run(["notnow", "conduct", "smtp.says-quit"], capture_output=True, text=True, timeout=60)
    assert "RFC 5321 §4.1.1.10" in explained.stdout
