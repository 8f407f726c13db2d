import json
import smtplib
import subprocess

import pytest


def notnow(*args):
    return subprocess.run(["notnow", *args], capture_output=True, text=True, timeout=60)


@pytest.mark.notnow("between.toml")
def test_the_second_and_the_third_are_refused(fake_smtp, tmp_path):
    with smtplib.SMTP(fake_smtp.host, fake_smtp.port, timeout=5) as client:
        client.ehlo()
        client.mail("ann@example.net")
        assert [client.rcpt(f"{n}@example.net")[0] for n in range(1, 5)] == [250, 451, 451, 250]

    assert "at rcpt, from the 2nd to the 3rd: says" in notnow("show", "between.toml").stdout
    schema = json.loads(notnow("schema").stdout)
    assert "between" in schema["definitions"]["Rule"]["properties"]

    wrong = tmp_path / "wrong.toml"
    wrong.write_text(fake_smtp.scenario.text.replace("[2, 3]", "[3, 2]"))
    assert "found [3, 2]; allowed: the numbers of two events" in notnow("check", str(wrong)).stderr
    wrong.write_text(fake_smtp.scenario.text.replace("[2, 3]", "[2, 3]\nfirst = 1"))
    assert "this rule never acts: from the 2nd to the 3rd, and only the first" in notnow("check", str(wrong)).stderr
