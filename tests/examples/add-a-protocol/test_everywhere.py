"""The new protocol works in every part of notnow."""

import json
import re
import signal
import smtplib
import subprocess
import sys

import pytest
from click.testing import CliRunner
from deliver import deliver

import notnow
from notnow.cli import group


def printed(*words, exit=0):
    done = CliRunner().invoke(group, words)
    assert done.exit_code == exit, done.output
    return done.output


def test_list_show_check_conduct_and_schema_know_it():
    assert [one["name"] for one in json.loads(printed("list", "lmtp/*", "--json"))] == ["lmtp/healthy"]
    assert "bob@*" in printed("show", "mailbox-busy.toml")
    assert "lmtp, 1 phase, 1 rule" in printed("check", "mailbox-busy.toml")
    assert "lmtp" not in printed("conduct")
    schema = json.loads(printed("schema"))
    assert "lmtp" in json.dumps(schema["properties"]["protocol"])
    assert "lhlo" in json.dumps(schema["definitions"]["Rule"]["properties"]["on"])


def test_check_names_its_moments(tmp_path):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('protocol = "lmtp"\n[[phase]]\n[[phase.rule]]\non = "ehlo"\nreply = "421 no"\n')
    assert "lhlo" in printed("check", str(wrong), exit=2)


def test_serve_says_where_it_listens_and_names_a_client_to_try():
    command = [sys.executable, "-m", "notnow", "serve", "lmtp/healthy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        said = "".join(server.stdout.readline() for _ in range(3))
        found = re.search(r"lmtp://127\.0\.0\.1:(\d+)", said)
        assert found, said
        assert f"swaks --protocol LMTP --server 127.0.0.1:{found[1]}" in said
        assert deliver("127.0.0.1", int(found[1]), ["ann@x.test"]) == []
        server.send_signal(signal.SIGINT)
        assert "LHLO" in server.communicate(timeout=20)[0].upper()


def test_try_judges_by_what_the_scenario_expects_and_says_that_there_are_no_rules():
    command = [sys.executable, "deliver.py", "{host}", "{port}", "ann@x.test", "bob@x.test"]
    said = printed("try", "mailbox-busy.toml", "--", *command)
    assert "there is no rule of conduct for lmtp yet" in said
    assert "expect.delivered" in said
    report = json.loads(printed("try", "mailbox-busy.toml", "--json", "--", *command))
    assert [(one["rule"], one["outcome"]) for one in report["verdicts"]] == [("expect.delivered", "held")]
    assert report["servers"][0]["protocol"] == "lmtp"


def test_a_verdict_without_rules_and_expectations_says_so(fake_lmtp):
    deliver(fake_lmtp.host, fake_lmtp.port, ["ann@x.test"])
    with pytest.raises(AssertionError, match="there are no rules of conduct for lmtp yet"):
        fake_lmtp.assert_conduct()
    with pytest.raises(ValueError, match="there are none for this protocol yet"):
        fake_lmtp.assert_conduct("lmtp.*")


@pytest.mark.notnow("lmtp/*")
def test_a_pattern_finds_it(fake_lmtp):
    assert isinstance(fake_lmtp, notnow.FakeLMTP)


@pytest.mark.notnow("mailbox-busy.toml")
def test_a_fake_that_outlives_the_test_plays_it(fake_lmtp_session):
    assert deliver(fake_lmtp_session.host, fake_lmtp_session.port, ["bob@x.test"]) == ["bob@x.test"]


def test_ehlo_and_helo_are_no_commands_of_it(fake_servers):
    fakes = fake_servers(mail="smtp/healthy", store="lmtp/healthy")
    with smtplib.LMTP(fakes.store.host, fakes.store.port, timeout=5) as client:
        assert [client.docmd(verb, "x.test")[0] for verb in ("EHLO", "HELO", "LHLO")] == [500, 500, 250]
    with smtplib.SMTP(fakes.mail.host, fakes.mail.port, timeout=5) as client:
        assert [client.docmd(verb, "x.test")[0] for verb in ("LHLO", "HELO", "EHLO")] == [500, 250, 250]


def test_bdat_is_answered_for_each_recipient_too(fake_lmtp):
    with smtplib.LMTP(fake_lmtp.host, fake_lmtp.port, timeout=5) as client:
        client.ehlo()
        client.mail("ada@x.test")
        client.rcpt("ann@x.test")
        client.rcpt("bob@x.test")
        client.send(b"BDAT 5 LAST\r\nHello")
        assert [client.getreply()[0] for _ in range(2)] == [250, 250]
        assert client.noop()[0] == 250
    assert [message.envelope.recipients for message in fake_lmtp.messages] == [("ann@x.test",), ("bob@x.test",)]


def test_a_bounce_of_the_connection_ends_it_for_all_recipients(tmp_path):
    scenario = tmp_path / "closing.toml"
    scenario.write_text('protocol = "lmtp"\n[[phase]]\n[[phase.rule]]\non = "message"\nreply = "421 4.3.2 bye"\n')
    with notnow.FakeLMTP(scenario) as fake, smtplib.LMTP(fake.host, fake.port, timeout=5) as client:
        client.ehlo()
        client.mail("ada@x.test")
        client.rcpt("ann@x.test")
        client.rcpt("bob@x.test")
        assert client.data("Hello.\r\n")[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.getreply()
        fake.assert_not_delivered()
