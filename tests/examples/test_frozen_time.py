import smtplib
from datetime import timedelta

import freezegun
import pytest

from notnow import FakeSMTP, FollowingClock


def test_an_outage_in_frozen_time():
    with (
        freezegun.freeze_time("2030-01-01") as frozen,
        FakeSMTP("smtp/overload", outage="1h", clock=FollowingClock()) as smtp,
    ):
        with pytest.raises(smtplib.SMTPConnectError):
            smtplib.SMTP(smtp.host, smtp.port)
        frozen.tick(timedelta(hours=1))
        smtp.wait_for(lambda _: smtp.phase == "recovered")
        smtplib.SMTP(smtp.host, smtp.port).quit()
