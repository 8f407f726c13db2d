"""Tests as users write them, for a pytest with pytest-asyncio, anyio, pytest-randomly, pytest-timeout, pytest-rerunfailures,
pytest-cov, pytest-socket, pytest-freezer and pytest-xdist. `tests/test_pytest_neighbours.py` runs them.
"""

import datetime
import ftplib
import random
import socket
import ssl
from io import BytesIO

import aiosmtplib
import anyio
import httpx
import pytest
from pytest_socket import SocketConnectBlockedError
from shop import send

from notnow import FakeSMTP, FollowingClock

many = pytest.mark.parametrize("number", range(4))
RUNS: list[float] = []


@many
@pytest.mark.notnow("smtp/overload", outage="10m")
def test_a_retry_in_fast_forward(fake_smtp, fast_forward, number):
    assert send(fake_smtp.host, fake_smtp.port, f"mail {number}") == 5
    fake_smtp.assert_delivered(times=1)
    assert [round(c.opened_at) for c in fake_smtp.journal.connections] == [0, 60, 180, 420, 900]


@many
@pytest.mark.asyncio
@pytest.mark.notnow("smtp/too-many-connections", cap=1)
async def test_of_pytest_asyncio(fake_smtp, number):
    async with aiosmtplib.SMTP(hostname=fake_smtp.host, port=fake_smtp.port):
        with pytest.raises(aiosmtplib.SMTPConnectResponseError, match="busy"):
            await aiosmtplib.SMTP(hostname=fake_smtp.host, port=fake_smtp.port).connect()
    await fake_smtp.await_for(lambda journal: journal.count("quit") == 1)


@many
@pytest.mark.anyio
@pytest.mark.notnow("http/misdirected-times", times=2)
async def test_of_anyio(fake_http, number):
    trusted = ssl.create_default_context(cafile=fake_http.ca_file)
    async with httpx.AsyncClient(http2=True, verify=trusted) as client:
        answers = [(await client.get(fake_http.url)).status_code for _ in range(3)]
    assert answers == [421, 421, 200]
    with anyio.fail_after(20):
        await fake_http.await_for(lambda journal: journal.count("request") == 3)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@many
def test_frozen_time_does_not_stop_a_fake(freezer, number):
    freezer.move_to("2030-01-01")
    with FakeSMTP("smtp/overload", outage="1h", clock=FollowingClock()) as fake:
        assert send_now(fake) == 421
        freezer.tick(datetime.timedelta(hours=1))
        fake.wait_for(lambda _: fake.phase == "recovered")
        assert send_now(fake) == 250


def send_now(fake):
    with socket.create_connection((fake.host, fake.port), 30) as sock, sock.makefile("rwb", 0) as lines:
        greeting = int(lines.readline()[:3])
        if greeting != 220:
            return greeting
        lines.write(b"NOOP\r\n")
        return int(lines.readline()[:3])


@many
@pytest.mark.notnow("ftp/too-many-users", cap=1)
def test_ftp(fake_ftp, number):
    with ftplib.FTP(timeout=30) as first:
        first.connect(fake_ftp.host, fake_ftp.port)
        first.login()
        first.storbinary("STOR x", BytesIO(b"x" * 100_000))
        with ftplib.FTP(timeout=30) as second, pytest.raises(ftplib.error_temp, match="421"):
            second.connect(fake_ftp.host, fake_ftp.port)
    assert fake_ftp.files["x"] == b"x" * 100_000


@pytest.mark.notnow("smtp/overload", outage="10m")
def test_a_rerun_is_as_fresh_as_the_first_run(fake_smtp, fast_forward):
    RUNS.append(fast_forward.clock.now())
    assert send(fake_smtp.host, fake_smtp.port, "again") == 5
    assert len(fake_smtp.journal.connections) == 5
    assert set(RUNS) == {0.0}
    assert len(RUNS) == 3, "it fails twice, and notnow is not the cause"


def test_other_hosts_stay_forbidden(fake_smtp):
    with pytest.raises(SocketConnectBlockedError), pytest.warns(UserWarning, match=r"127\.0\.0\.2"):
        socket.create_connection(("127.0.0.2", fake_smtp.port), 1)


@many
def test_the_dice_of_a_test_are_its_own(fake_smtp, number):
    """pytest-randomly seeds them before each test; a fake throws its own."""
    state = random.getstate()
    with pytest.raises(TimeoutError):
        raise_after_a_refusal(fake_smtp)
    assert random.getstate() == state


def raise_after_a_refusal(fake):
    with fake.playing("smtp/overload"):
        assert send_now(fake) == 421
    assert send_now(fake) == 250
    raise TimeoutError


def test_the_sender_gives_up(fast_forward):
    with FakeSMTP("smtp/overload", outage="9h", clock=fast_forward.clock) as fake:
        with pytest.raises(TimeoutError, match="gave up"):
            send(fake.host, fake.port, "in vain")
        assert len(fake.journal.connections) == 5
