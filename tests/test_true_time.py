"""Whatever a test freezes or moves, clocks and certificates of the fakes keep the true time, unless they are told to follow."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import freezegun
import pytest
import time_machine

from notnow import FakeSMTP, FollowingClock, RealClock, Scenario, true_time
from notnow.clock import COMPARE
from notnow.language.loading import loads

NUMBERS = itertools.count()
PAST, FUTURE = "2010-01-01T00:00:00Z", "2040-01-01T00:00:00Z"
LIARS: dict[str, Callable[[str], AbstractContextManager[object]]] = {
    "freezegun": freezegun.freeze_time,
    "freezegun with tick": lambda at: freezegun.freeze_time(at, tick=True),
    "time-machine": time_machine.travel,
    "time-machine without tick": lambda at: time_machine.travel(at, tick=False),
    "both": lambda at: _both(at),
}


@contextlib.contextmanager
def _both(at: str):
    with time_machine.travel(at), freezegun.freeze_time(at):
        yield


lies = pytest.mark.parametrize("lie", LIARS.values(), ids=LIARS)
ages = pytest.mark.parametrize("age", [PAST, FUTURE])


def system() -> tuple[float, float]:
    """The clocks of the system, asked in another process."""
    code = "import time; print(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC))"
    wall, monotonic = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    return float(wall), float(monotonic)


@lies
@ages
def test_the_true_time_is_the_systems(lie, age: str) -> None:
    with lie(age):
        assert abs(time.time() - system()[0]) > 1e8  # the lie is told
        before, asked, after = true_time.wall(), system(), true_time.wall()
        assert before <= asked[0] <= after
        assert true_time.today().timestamp() >= after
        assert true_time.monotonic() >= asked[1]


@pytest.mark.parametrize("first", ["import freezegun, notnow.true_time as t", "import freezegun"])
def test_a_frozen_test_may_be_the_first_to_import_notnow(first: str) -> None:
    code = f"""
{first}
import time
began = time.time()
with freezegun.freeze_time("2010-01-01"):
    import notnow.true_time as t
    assert abs(t.wall() - began) < 60, t.wall()
    assert t.monotonic() < t.monotonic() + 1e-9
    one = t.monotonic()
    while t.monotonic() == one: pass
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@lies
@ages
def test_a_real_clock_passes_as_it_does(lie, age: str) -> None:
    clock = RealClock(speed=1000)
    began = clock.now()
    with lie(age):
        made = RealClock()
        assert clock.now() - began < 1e7
        assert abs(clock.wall() - system()[0]) < 60
        assert abs(made.epoch - system()[0]) < 60
        moment = made.now()
        while made.now() == moment:
            pass
    assert 0 <= made.now() < 60


def test_what_happens_follows_the_clock_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its wall time is found from the real time, and the two are compared now and then."""
    real, wall = 50.0, 1_700_000_000.0
    monkeypatch.setattr(true_time, "monotonic", lambda: real)
    monkeypatch.setattr(true_time, "wall", lambda: wall)
    clock = RealClock(speed=3)
    assert clock.read() == (1, 0.0, 1_700_000_000.0)
    real, wall = real + COMPARE / 2, wall + COMPARE / 2
    assert clock.read() == (2, pytest.approx(1.5 * COMPARE), pytest.approx(wall, abs=1e-6))
    real, wall = real + COMPARE, wall + 3600  # somebody has set the clock
    assert clock.read()[2] == pytest.approx(wall, abs=1e-6)


def over_tls(fake: FakeSMTP) -> None:
    with smtplib.SMTP(fake.host, fake.port, timeout=20) as client:
        client.starttls(context=ssl.create_default_context(cafile=fake.ca_file))
        client.noop()


def anew(more: str = "") -> Scenario:
    """A server with a certificate that no test has had before: they are kept by what they show."""
    names = f'names = ["localhost", "127.0.0.1", "n{next(NUMBERS)}.test"]'
    return loads(f'protocol = "smtp"\n[server]\ntls = "starttls"\n[certificate.one]\n{names}\n{more}', name="test")


@lies
@ages
def test_a_certificate_that_is_made_meanwhile_holds_then_and_afterwards(lie, age: str) -> None:
    with FakeSMTP(anew()) as fake:
        with lie(age):
            over_tls(fake)
        over_tls(fake)


def test_the_first_certificate_of_a_process_may_be_made_in_a_frozen_test() -> None:
    code = """
import datetime, freezegun
with freezegun.freeze_time("2010-01-01"):
    from notnow.servers.base import tls
    tls.context(tls.Shown(("localhost",)))
    assert datetime.datetime.now().year == 2010
tls.context(tls.Shown(("other.test",)))
assert datetime.datetime.now().year > 2010
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@lies
@ages
def test_an_expired_certificate_is_expired(lie, age: str) -> None:
    with FakeSMTP(anew("expired = true")) as fake, lie(age):
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
            over_tls(fake)


def refused(fake: FakeSMTP) -> bool:
    try:
        smtplib.SMTP(fake.host, fake.port, timeout=20).quit()
    except smtplib.SMTPException:
        return True
    return False


@lies
@ages
def test_an_outage_ends_in_its_own_time(lie, age: str) -> None:
    with FakeSMTP("smtp/overload", outage="50ms") as short, FakeSMTP("smtp/overload", outage="1h") as long:
        assert refused(long)
        with lie(age):
            assert refused(short)
            short.wait_for(lambda _: short.phase == "recovered", timeout=20)
            assert not refused(short)
            assert refused(long)
        (first, *_) = long.journal.connections
        assert abs(first.exchanges[0].wall - system()[0]) < 60


# ---- on request ----------------------------------------------------------------------------------


def test_a_following_clock_is_moved_by_freezegun() -> None:
    with freezegun.freeze_time(PAST) as frozen:
        with FakeSMTP("smtp/overload", outage="1h", clock=FollowingClock()) as fake:
            assert refused(fake)
            frozen.tick(datetime.timedelta(minutes=59))
            assert refused(fake)
            frozen.tick(datetime.timedelta(minutes=1))
            fake.wait_for(lambda _: fake.phase == "recovered", timeout=20)
            assert not refused(fake)
            assert [round(c.opened_at) for c in fake.journal.connections] == [0, 3540, 3600]
            assert fake.journal.connections[-1].exchanges[0].wall == time.time()


def test_a_following_clock_is_moved_by_time_machine_and_never_goes_back() -> None:
    with time_machine.travel(PAST, tick=False) as traveller:
        clock = FollowingClock()
        traveller.shift(90)
        assert clock.now() == 90
        traveller.shift(-60)
        assert clock.now() == 90
        assert clock.wall() == clock.epoch + 90
