import smtplib

import pytest

from notnow import FakeSMTP, ManualClock


def test_half_an_hour_later_it_is_back():
    with FakeSMTP("smtp/overload", outage="30m", clock=ManualClock()) as smtp:
        with pytest.raises(smtplib.SMTPConnectError, match="421"):
            smtplib.SMTP(smtp.host, smtp.port)

        smtp.clock.advance("30m")

        assert smtp.phase == "recovered"
        with smtplib.SMTP(smtp.host, smtp.port) as server:
            assert server.noop()[0] == 250
