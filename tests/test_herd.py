"""Workers that come back together, or do not."""

from __future__ import annotations

import smtplib

import pytest

from notnow import FakeSMTP, ManualClock
from notnow.conduct.reading import attempts
from notnow.conduct.reading.waits.herd import Herd, herd
from toml_rules import one, rules


def workers(delays: list[float]) -> str:
    """So many are refused at once, and each comes back after its own delay."""
    with FakeSMTP(rules(one("connect", first=len(delays), reply="421 no")), clock=ManualClock()) as fake:
        for _ in delays:
            with pytest.raises(smtplib.SMTPConnectError):
                smtplib.SMTP(fake.host, fake.port)
        now = 0.0
        for delay in sorted(delays):
            fake.clock.advance(delay - now)
            now = delay
            smtplib.SMTP(fake.host, fake.port, local_hostname="client.test").quit()
        refused = {x.connection for x in attempts.refusals(fake.journal.exchanges)}
        found = herd(fake.journal.connections, refused)
    return "" if found is None else found.in_words()


def test_workers_that_come_back_at_one_time_are_a_herd() -> None:
    assert workers([60, 60, 60.5, 61, 61, 62]) == (
        "6 workers, refused together, came back 1m later within 2s: as a herd, without jitter"
    )


def test_workers_with_jitter_are_none() -> None:
    assert workers([10, 25, 31, 44, 58, 60]) == (
        "6 workers, refused together, came back 10s later within 50s: spread, not as a herd"
    )


def test_a_few_are_no_herd() -> None:
    assert workers([60, 60, 60, 60]) == ""


@pytest.mark.parametrize(("spread", "together"), [(6.0, True), (6.1, False)])
def test_workers_come_back_as_one_within_a_tenth_of_their_wait(spread: float, together: bool) -> None:
    assert Herd(5, 60.0, spread).together is together
