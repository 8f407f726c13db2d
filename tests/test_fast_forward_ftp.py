"""FTP clients under fast_forward: days in milliseconds, on the control connection and on the data connections."""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import aioftp
import pytest
import tenacity

from ftp_client import one, rules, then
from notnow import FakeFTP, FakeSMTP
from notnow.servers.ftp.files import filling
from notnow.time_travel.parties import real_monotonic

HOUR, DAY = 3600.0, 86_400.0
NO = "421 Not now, says the test"


@pytest.fixture(autouse=True)
def quick(watchdog: None) -> Iterator[None]:
    """A test that waits in real time fails."""
    began = real_monotonic()
    yield
    assert real_monotonic() - began < 60  # seconds: far below the hours of the tests, far above a busy machine


def connect(fake: FakeFTP, timeout: float = 300, active: bool = False) -> ftplib.FTP:
    client = ftplib.FTP()
    try:
        client.connect(fake.host, fake.port, timeout=timeout)
        client.login("ann", "x")
    except BaseException:
        client.close()
        raise
    client.set_pasv(not active)
    return client


def get(client: ftplib.FTP, name: str = "small.txt") -> bytes:
    got: list[bytes] = []
    client.retrbinary(f"RETR {name}", got.append)
    return b"".join(got)


both = pytest.mark.parametrize("active", [False, True], ids=["passive", "active"])


class TestRetrying:
    def test_ftplib_with_back_off_survives_an_outage(self, forward):
        down = rules(one("connect", reply=NO), then("up"), phase='lasts = "10m"')
        with FakeFTP(down, clock=forward.clock) as fake:
            delay = 60.0
            while True:
                try:
                    with connect(fake) as client:
                        client.storbinary("STOR x", io.BytesIO(b"123"))
                    break
                except ftplib.error_temp:
                    time.sleep(delay)
                    delay *= 2
            fake.assert_delivered(times=1)
            fake.assert_stored("x", b"123")
            fake.assert_retried(backoff="exponential", first_delay=60)
            assert [round(c.opened_at) for c in fake.journal.connections] == [0, 60, 180, 420, 900]

    def test_tenacity_and_a_transfer_that_is_cut(self, forward):
        @tenacity.retry(wait=tenacity.wait_fixed(HOUR), retry=tenacity.retry_if_exception_type(ftplib.all_errors))
        def store() -> None:
            with connect(fake) as client:
                client.storbinary("STOR x", io.BytesIO(filling(1_000_000)))

        with FakeFTP(rules(one("stor", times=3, after_bytes=500_000, reply=NO)), clock=forward.clock) as fake:
            store()
            fake.assert_stored("x", filling(1_000_000))
            fake.assert_retried(times=(3, 3), first_delay=(HOUR, HOUR))

    def test_aioftp(self, forward):
        async def store() -> None:
            async with aioftp.Client.context(fake.host, fake.port, "ann", "x") as client:
                async with client.upload_stream("x") as stream:
                    await stream.write(b"123")

        async def main() -> None:
            async for attempt in tenacity.AsyncRetrying(wait=tenacity.wait_fixed(DAY)):
                with attempt:
                    await store()

        with FakeFTP(rules(one("connect", times=3, reply=NO)), clock=forward.clock) as fake:
            asyncio.run(main())
            fake.assert_stored("x", b"123")
            assert [round(c.opened_at / DAY) for c in fake.journal.connections] == [0, 1, 2, 3]

    def test_lots_of_days(self, forward):
        with FakeFTP(
            rules(one("retr", reply="450 busy"), then("x"), phase='lasts = "30d"'), clock=forward.clock
        ) as fake:
            with connect(fake, timeout=None) as client:
                for _ in range(31):
                    with contextlib.suppress(ftplib.error_temp):
                        assert get(client) == b"A small file.\n"
                    time.sleep(DAY)
            assert [x.fault is None for x in fake.journal if x.moment == "retr"] == [False] * 30 + [True]


class TestIdle:
    CLOSES = staticmethod(lambda **more: rules(one("idle", after="5m", reply=NO, **more)))

    def test_who_sleeps_too_long_is_told_and_has_to_come_back(self, forward):
        with FakeFTP(self.CLOSES(), clock=forward.clock) as fake:
            client = connect(fake)
            time.sleep(299)
            assert client.pwd() == "/"
            time.sleep(301)
            with pytest.raises(ftplib.error_temp, match="421 Not now"):
                client.pwd()
            client.close()
            (idle,) = [x for x in fake.journal if x.moment == "idle"]
            assert idle.at == pytest.approx(599)

    def test_who_says_noop_now_and_then_may_stay(self, forward):
        with FakeFTP(self.CLOSES(), clock=forward.clock) as fake, connect(fake) as client:
            for _ in range(int(DAY / 240)):
                time.sleep(240)
                client.voidcmd("NOOP")
            assert fake.journal.count("idle") == 0

    def test_noop_is_no_transfer(self, forward):
        with FakeFTP(self.CLOSES(since="transfer"), clock=forward.clock) as fake:
            client = connect(fake)
            assert get(client)
            for _ in range(4):
                time.sleep(60)
                client.voidcmd("NOOP")
            time.sleep(61)
            with pytest.raises(ftplib.error_temp, match="421"):
                client.voidcmd("NOOP")
            client.close()

    @both
    def test_a_slow_upload_is_no_silence(self, forward, active):
        with FakeFTP(self.CLOSES(), clock=forward.clock) as fake, connect(fake, active=active) as client:
            sock = client.transfercmd("STOR x")
            for _ in range(100):
                time.sleep(240)
                sock.sendall(b"x")
            sock.close()
            assert client.voidresp().startswith("226")
            assert fake.files["x"] == b"x" * 100

    @both
    def test_but_one_that_stops_is(self, forward, active):
        with FakeFTP(self.CLOSES(), clock=forward.clock) as fake:
            client = connect(fake, active=active)
            sock = client.transfercmd("STOR x")
            sock.sendall(b"x")
            time.sleep(400)
            with sock, pytest.raises(ftplib.error_temp, match="421"):
                client.voidresp()
            client.close()
            assert fake.files.partial == ("x",)
            assert next(x for x in fake.journal if x.moment == "idle").at == pytest.approx(300, abs=0.1)


class TestDataConnections:
    """What waits on a data connection waits in scenario time, whoever opened it."""

    @both
    def test_a_delay_before_the_transfer(self, forward, active):
        with FakeFTP(rules(one("retr", delay="1h")), clock=forward.clock) as fake:
            with connect(fake, timeout=2 * HOUR, active=active) as client:
                assert get(client) == b"A small file.\n"
            assert forward.clock.now() == pytest.approx(HOUR)

    @both
    def test_a_delay_at_a_byte(self, forward, active):
        """The client waits for data, and then sees that there is no more."""
        with FakeFTP(rules(one("retr", after_bytes=5, delay="1h", reply="426 cut")), clock=forward.clock) as fake:
            with connect(fake, timeout=2 * HOUR, active=active) as client:
                with pytest.raises(ftplib.error_temp, match="426 cut"):
                    get(client)
            assert forward.clock.now() == pytest.approx(HOUR)

    @both
    def test_a_stall_and_a_client_that_has_patience_for_a_minute(self, forward, active):
        with FakeFTP(rules(one("retr", after_bytes=5, stall=True)), clock=forward.clock) as fake:
            client = connect(fake, timeout=60, active=active)
            with pytest.raises(TimeoutError):
                get(client)
            client.close()
            assert forward.clock.now() == pytest.approx(60)

    @both
    def test_an_upload_that_is_not_read(self, forward, active):
        with FakeFTP(rules(one("stor", after_bytes=5, stall=True)), clock=forward.clock) as fake:
            client = connect(fake, timeout=60, active=active)
            with pytest.raises(TimeoutError):
                client.storbinary("STOR x", io.BytesIO(filling(50_000_000)))
            client.close()
            assert 60 <= forward.clock.now() < 121
            assert fake.files["x"] == filling(50_000_000)[:5]

    def test_a_port_that_lets_nobody_through(self, forward):
        with FakeFTP(rules(one(["pasv", "epsv"], data="drop")), clock=forward.clock) as fake:
            client = connect(fake, timeout=60)
            with pytest.raises(TimeoutError):
                get(client)
            client.close()
            assert forward.clock.now() == pytest.approx(60)

    def test_a_port_that_lets_nobody_through_and_an_idle_time_out_before_that(self, forward):
        scenario = rules(one(["pasv", "epsv"], data="drop"), one("idle", after="30s", reply=NO))
        with FakeFTP(scenario, clock=forward.clock) as fake:
            client = connect(fake, timeout=60)
            with pytest.raises(TimeoutError):
                get(client)
            with pytest.raises(ftplib.error_temp, match="421"):
                client.voidresp()
            client.close()
            assert next(x for x in fake.journal if x.moment == "idle").at == pytest.approx(30)

    def test_a_port_where_nobody_listens_is_told_at_once(self, forward):
        reply = "227 Entering Passive Mode (127,0,0,1,{p1},{p2})."
        with FakeFTP(rules(one("pasv", reply=reply, keep=False)), clock=forward.clock) as fake, connect(fake) as client:
            with pytest.raises(ConnectionRefusedError):
                get(client)
            assert forward.clock.now() == 0

    def test_a_server_that_does_not_open_its_active_connection(self, forward):
        """The client waits at a port of its own."""
        with FakeFTP(rules(one("retr", delay="1h")), clock=forward.clock) as fake, connect(fake, active=True) as client:
            client.voidcmd("TYPE I")
            with client.makeport() as listener:
                client.putcmd("RETR small.txt")
                listener.settimeout(60)
                with pytest.raises(TimeoutError):
                    listener.accept()
                assert forward.clock.now() == pytest.approx(60)
                listener.settimeout(2 * HOUR)
                data, _ = listener.accept()
                with data:
                    assert data.recv(100) == b"A small file.\n"
                assert forward.clock.now() == pytest.approx(HOUR)
            assert client.getresp()[:3] in ("125", "150")
            assert client.voidresp()[:3] == "226"

    def test_a_reply_that_drips(self, forward):
        with FakeFTP(rules(one("retr", drip="1m")), clock=forward.clock) as fake, connect(fake) as client:
            assert get(client) == b"A small file.\n"
            assert forward.clock.now() == pytest.approx(60 * (len("226 Transfer complete.") + 1))

    @both
    def test_in_tls(self, forward, active):
        with FakeFTP(
            rules(one("retr", delay="1h"), one("stor", after_bytes=3, delay="1h", reply="426 cut")),
            tls="starttls",
            clock=forward.clock,
        ) as fake:
            context = ssl.create_default_context(cafile=fake.ca_file)
            context.check_hostname = False
            with contextlib.closing(ftplib.FTP_TLS(context=context)) as client:
                client.connect(fake.host, fake.port, timeout=2 * HOUR)
                client.login("ann", "x")
                client.prot_p()
                client.set_pasv(not active)
                assert get(client) == b"A small file.\n"
                with pytest.raises((ftplib.error_temp, OSError)):
                    client.storbinary("STOR x", io.BytesIO(b"12345"))
            assert forward.clock.now() >= HOUR
            assert fake.files["x"] == b"123"

    def test_big_files_both_ways(self, forward):
        content = filling(5_000_000)
        with FakeFTP(files={"big": content}, clock=forward.clock) as fake:
            for active in (False, True):
                with connect(fake, active=active) as client:
                    assert get(client, "big") == content
                    client.storbinary("STOR copy", io.BytesIO(content))
                    assert fake.files["copy"] == content
            assert forward.clock.now() == 0

    def test_many_threads(self, forward):
        """Each sleeps and transfers; the order is that of scenario time."""
        with FakeFTP(clock=forward.clock) as fake:

            def work(n: int) -> None:
                time.sleep(60 * (10 - n))
                with connect(fake, active=bool(n % 2)) as client:
                    client.storbinary(f"STOR {n}", io.BytesIO(b"x"))

            threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [x.request for x in fake.journal if x.moment == "stor"] == [f"STOR {n}" for n in range(9, -1, -1)]
            assert forward.clock.now() == pytest.approx(600)


def test_two_protocols_under_one_clock_have_one_order(forward):
    with FakeFTP(clock=forward.clock) as ftp, FakeSMTP(clock=forward.clock) as smtp:
        for fake in (ftp, smtp, smtp, ftp):
            with socket.create_connection((fake.host, fake.port), timeout=10) as sock:
                assert sock.recv(100).startswith(b"220")
            time.sleep(10)
        order = sorted((c.index, c.server, round(c.opened_at)) for f in (ftp, smtp) for c in f.journal.connections)
        assert [server for _, server, _ in order] == ["ftp", "smtp", "smtp", "ftp"]
        assert [at for _, _, at in order] == [0, 10, 20, 30]
