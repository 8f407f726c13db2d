import os
import smtplib
from pathlib import Path

import pytest

from notnow import FakeSMTP

QUOTA = Path(__file__).with_name("quota.toml")


@pytest.mark.parametrize("job", range(4))
def test_a_job_may_send_or_is_told_to_wait(job):
    with FakeSMTP(QUOTA, shared=os.environ.get("NOTNOW_SHARED")) as mx, smtplib.SMTP(mx.host, mx.port) as client:
        client.ehlo()
        assert client.mail(f"job{job}@example.org")[0] in (250, 452)
