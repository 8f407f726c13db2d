"""The schedule of a mail server (RFC 5321 §4.5.4.1), five days long, under fast_forward: what its journal says, and
what is said of it.
"""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from notnow import FakeSMTP
from notnow.conduct.judging import judge
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.time_travel.fast_forward import FastForward

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
SCHEDULE = (30 * MINUTE, 2 * HOUR, 3 * HOUR)  # waits; the last of them again and again


@pytest.fixture
def forward() -> Iterator[FastForward]:
    with FastForward() as on:
        yield on


def keep_sending(smtp: FakeSMTP, give_up: float) -> bool:
    """A sender that waits with time.sleep, as anybody's does; True if it was delivered before it gave up."""
    waits, begun = iter(SCHEDULE), time.time()
    wait = 0.0
    while time.time() - begun < give_up:
        try:
            with smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test", timeout=300) as client:
                client.sendmail("a@client.test", ["b@server.test"], "Message-ID: <1@client.test>\r\n\r\nhello\r\n")
        except smtplib.SMTPException:
            wait = next(waits, wait)
            time.sleep(wait)
        else:
            return True
    return False


def verdicts(smtp: FakeSMTP) -> dict[str, tuple[str, str]]:
    return {one.rule.id: (one.outcome, one.finding.why) for one in judge(Run([smtp.journal], [smtp.scenario]))}


def test_it_gives_up_after_five_days(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="30d", clock=forward.clock) as smtp:
        assert not keep_sending(smtp, 5 * DAY)
        time.sleep(2 * DAY)  # and does not come back

        smtp.assert_gave_up(after="5d")
        at = [connection.opened_at for connection in smtp.journal.connections]
        assert [later - before for before, later in pairwise(at)] == pytest.approx([*SCHEDULE, *[3 * HOUR] * 38])
        walls = [x.wall for x in smtp.journal]
        assert walls[-1] - walls[0] == pytest.approx(at[-1] - at[0])
        assert re.search(r"^ +4d 23h  #42 +x connect: 421 4\.3\.2", render([smtp.journal]), re.MULTILINE)

        said = verdicts(smtp)
        assert [rule for rule, (outcome, _) in said.items() if outcome == "broken"] == []
        outcome, why = said["smtp.retry-interval"]
        assert (outcome, why.endswith("at least the 30 minutes of §4.5.4.1")) == ("held", True)
        assert said["smtp.give-up-time"] == ("held", "it gave up after 4d 23h")


def test_one_that_gives_up_on_the_first_day(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="30d", clock=forward.clock) as smtp:
        assert not keep_sending(smtp, 12 * HOUR)
        time.sleep(2 * DAY)

        with pytest.raises(AssertionError, match="to try for 5d and then give up, but its last try came"):
            smtp.assert_gave_up(after="5d")
        with pytest.raises(AssertionError, match=r"broken: smtp\.give-up-time"):
            smtp.assert_conduct("smtp.give-up-time")


def test_what_is_over_on_the_fourth_day_is_delivered_then(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="4d", clock=forward.clock) as smtp:
        assert keep_sending(smtp, 5 * DAY)

        smtp.assert_conduct(level="advice")
        smtp.assert_retried(times=33, first_delay="30m")
        (stored,) = (x for x in smtp.journal if x.moment == "message")
        assert 4 * DAY <= stored.at < 4 * DAY + 3 * HOUR
