"""The five days of a mail server that cannot deliver (RFC 5321 §4.5.4.1), under fast_forward, in real seconds.

`python -m tests.bench.days` prints what they take, fake and all, as JSON.
"""

from __future__ import annotations

import cProfile
import json
import smtplib
import time
from pathlib import Path

from tests.bench.processes import module
from tests.bench.table import Bench, Row, Target

from notnow import FakeSMTP
from notnow.time_travel.fast_forward import FastForward

HALF_HOUR, HOURS, FIVE_DAYS = 1800.0, 3 * 3600.0, 5 * 86_400.0
WHAT = "a sender's five days under fast_forward"
TARGET = Target("figure", "≤", 1.0)


def five_days() -> int:
    """A sender that waits for half an hour, then for three hours at a time, until it gives up; how often it has tried."""
    with FastForward() as forward, FakeSMTP("smtp/overload", outage="30d", clock=forward.clock) as smtp:
        begun, wait = time.time(), HALF_HOUR
        while time.time() - begun < FIVE_DAYS:
            try:
                smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test")
            except smtplib.SMTPConnectError:
                time.sleep(wait)
                wait = HOURS
        smtp.assert_gave_up(after="5d")
        return smtp.journal.count("connect")


def taken() -> tuple[float, int]:
    begun = time.perf_counter()
    tries = five_days()
    return time.perf_counter() - begun, tries


def run(quick: bool) -> list[Row]:
    took = sorted(module("days") for _ in range(1 if quick else 5))
    seconds, tries = took[len(took) // 2]
    return [
        Row("days", WHAT, seconds, "s", target=TARGET, note=f"{tries} tries with smtplib; imports are no part of it")
    ]


def profile(into: Path) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(five_days)
    profiler.dump_stats(into)


BENCHES = (Bench("days", WHAT, run, profile),)


if __name__ == "__main__":
    print(json.dumps(taken()))
