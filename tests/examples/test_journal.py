import json
import smtplib

import pytest


@pytest.mark.notnow("smtp/at-stage", stage="rcpt")
def test_what_the_journal_knows(fake_smtp, tmp_path):
    with smtplib.SMTP(fake_smtp.host, fake_smtp.port) as server, pytest.raises(smtplib.SMTPRecipientsRefused):
        server.sendmail("me@example.org", ["you@example.net"], "Hello!")

    connection = fake_smtp.journal.connections[0]
    assert connection.client == "127.0.0.1"
    assert connection.ended_by == "fake"
    assert [exchange.moment for exchange in connection.exchanges] == ["connect", "ehlo", "mail", "rcpt"]

    last = connection.exchanges[-1]
    assert last.request.lower() == "rcpt to:<you@example.net>"
    assert last.reply == "421 fake.notnow.test Service not available, closing transmission channel"
    assert (last.code, last.refused, last.closed) == (421, True, True)
    assert (last.phase, last.rule, last.fault) == ("failing", "phase[0].rule[0]", "rfc")

    assert fake_smtp.journal.count("rcpt") == 1
    assert not fake_smtp.messages

    with (tmp_path / "journal.jsonl").open("w") as file:
        fake_smtp.journal.export(file)
    entries = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in entries] == ["play", *["exchange"] * 4, "closed"]
