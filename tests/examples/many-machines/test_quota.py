import os
import smtplib

from notnow import FakeSMTP

QUOTA = """
protocol = "smtp"
[[phase]]
[[phase.rule]]
on = "mail"
over = 3
within = "24h"
reply = "452 4.5.3 enough for today"
"""


def test_the_quota_of_all_shards(tmp_path):
    file = tmp_path / "quota.toml"
    file.write_text(QUOTA)
    with FakeSMTP(file, shared=os.environ.get("NOTNOW_SHARED")) as mx:
        with smtplib.SMTP(mx.host, mx.port) as client:
            client.ehlo()
            assert client.mail("me@example.org")[0] in (250, 452)
