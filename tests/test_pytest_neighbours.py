"""notnow beside other plugins of pytest, each in a pytest of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# A Python with the extra `neighbours`. It is not one of `test`: pytest would load nine more plugins at each start.
PYTHON = os.environ.get("NOTNOW_TEST_NEIGHBOURS")
NEVER = ("-p", "no:pytester", "-p", "no:cacheprovider")

RIGHT = """
import smtplib, time, pytest
from notnow import RealClock
runs, clocks = [], []

def send(fake):
    with smtplib.SMTP(fake.host, fake.port, timeout=30) as client:
        client.sendmail("a@a.test", ["b@b.test"], "Subject: x\\r\\n\\r\\nhi")

def keep_sending(fake):
    for wait in (60, 120, 240, 480, 960):
        try:
            return send(fake)
        except smtplib.SMTPException:
            time.sleep(wait)
"""


def test_a_rerun_is_as_fresh_as_a_first_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        RIGHT
        + """
@pytest.mark.notnow("smtp/overload", outage="10m")
def test_right_client(fake_smtp, fast_forward):
    assert fast_forward.clock is fake_smtp.clock
    runs.append(fast_forward.clock.now())
    keep_sending(fake_smtp)
    fake_smtp.assert_delivered(times=1)
    assert [round(c.opened_at) for c in fake_smtp.journal.connections] == [0, 60, 180, 420, 900]
    assert len(runs) == 3, "flaky, but not in what we see"

@pytest.mark.notnow("smtp/overload", outage="10m")
def test_clock_of_a_rerun_without_fast_forward(fake_smtp):
    clocks.append(fake_smtp.clock)
    assert len(set(clocks)) == 3, "flaky"
"""
    )
    result = pytester.runpytest_subprocess(*NEVER, "-p", "no:xdist", "--reruns", "2", "-o", "notnow_unfired=ignore")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines("*2 passed, 4 rerun*")


def test_the_report_of_a_rerun_does_not_mix_the_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        RIGHT
        + """
def test_it(fake_smtp):
    runs.append(1)
    smtplib.SMTP(fake_smtp.host, fake_smtp.port, local_hostname=f"run-{len(runs)}.test", timeout=9).ehlo()
    assert False
"""
    )
    result = pytester.runpytest_subprocess(*NEVER, "-p", "no:xdist", "--reruns", "1", "-rN")
    section = result.stdout.str().split(" notnow ")[-1]
    assert "run-2.test" in section
    assert "run-1.test" not in section


@pytest.mark.parametrize("only", ["true", "false"], ids=["around the call", "around setup and call"])
@pytest.mark.parametrize("method", ["thread", "signal"])
def test_the_watchdog_of_pytest_timeout_lives_in_real_time(pytester: pytest.Pytester, method: str, only: str) -> None:
    pytester.makepyfile(
        """
import time

def test_long(fake_smtp, fast_forward):
    for _ in range(3):
        time.sleep(700)
    assert fast_forward.clock.now() == 2100

def test_next():
    pass
"""
    )
    how = ("--timeout", "60", "--timeout-method", method, "-o", f"timeout_func_only={only}")
    pytester.runpytest_subprocess(*NEVER, *how).assert_outcomes(passed=2)


@pytest.mark.skipif(PYTHON is None, reason="NOTNOW_TEST_NEIGHBOURS names no Python that has notnow[neighbours]")
def test_all_of_them_together_on_eight_workers(tmp_path: Path) -> None:
    """`tests/neighbours` is a project of its own, with the options of its own pytest.ini."""
    suite = shutil.copytree(Path(__file__).with_name("neighbours"), tmp_path / "suite")
    ours = ("PYTEST_", "NOTNOW_", "COV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest"], cwd=suite, env=environment, capture_output=True, text=True, timeout=600
    )
    assert " 31 passed, 2 rerun in " in done.stdout, done.stdout[-5000:] + done.stderr[-2000:]
    assert done.returncode == 0, done.stdout[-5000:]
    plugins = next(line for line in done.stdout.splitlines() if line.startswith("plugins: "))
    for name in ("anyio", "asyncio", "cov", "freezer", "randomly", "rerunfailures", "socket", "timeout", "xdist"):
        assert name in plugins
