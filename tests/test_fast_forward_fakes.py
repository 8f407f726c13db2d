"""The fakes and their clients under fast_forward: one clock, days in milliseconds, the same journal in every run."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import aiosmtplib
import pytest
import tenacity

from notnow import FakeSMTP, Scenario, WaitTimeoutError
from notnow.language.loading import loads
from notnow.time_travel.fast_forward import FastForward

HOUR, DAY = 3600.0, 86_400.0


pytestmark = pytest.mark.usefixtures("watchdog")


def letter(number: int = 1) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Message-ID"] = "a@client.test", "b@server.test", f"<{number}@client.test>"
    message.set_content("hello")
    return message


def send(smtp: FakeSMTP, number: int = 1, timeout: float = 300) -> None:
    with smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test", timeout=timeout) as client:
        client.send_message(letter(number))


def keep_sending(smtp: FakeSMTP, delay: float, factor: float = 2.0, number: int = 1) -> None:
    while True:
        try:
            send(smtp, number)
        except (smtplib.SMTPException, OSError):
            time.sleep(delay)
            delay *= factor
        else:
            return


def attempts(smtp: FakeSMTP) -> list[float]:
    return [round(connection.opened_at, 3) for connection in smtp.journal.connections]


def scenario(*rules: str, head: str = "") -> Scenario:
    return loads("\n".join(['protocol = "smtp"', head, '[[phase]]\nname = "one"', *rules]), name="test")


def rule(text: str) -> str:
    return f"[[phase.rule]]\n{text}\n"


# ---- an overload, and clients that come back -----------------------------------------------------


def test_smtplib_with_back_off_survives_an_overload(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        keep_sending(smtp, 60)
        smtp.assert_delivered(times=1)
        smtp.assert_retried(backoff="exponential", first_delay=60)
        assert attempts(smtp) == [0, 60, 180, 420, 900]
        (message,) = smtp.messages
        assert message.envelope.at == 900


def test_tenacity_with_smtplib(forward: FastForward) -> None:
    @tenacity.retry(wait=tenacity.wait_exponential(multiplier=60), retry=tenacity.retry_if_exception_type(OSError))
    def deliver() -> None:
        send(smtp)

    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        deliver()
        assert attempts(smtp) == [0, 60, 180, 420, 900]


async def send_in_a_loop(smtp: FakeSMTP, number: int = 1) -> None:
    await aiosmtplib.send(letter(number), hostname=smtp.host, port=smtp.port, local_hostname="client.test", timeout=60)


def test_aiosmtplib_with_back_off_survives_an_overload(forward: FastForward) -> None:
    async def main() -> None:
        async for attempt in tenacity.AsyncRetrying(wait=tenacity.wait_exponential(multiplier=60)):
            with attempt:
                await send_in_a_loop(smtp)

    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        asyncio.run(main())
        smtp.assert_delivered(times=1)
        assert attempts(smtp) == [0, 60, 180, 420, 900]


def test_five_days_of_trying(forward: FastForward) -> None:
    """RFC 5321 §4.5.4.1: two tries in the first hour, then one every two or three hours, for 4-5 days."""
    with FakeSMTP("smtp/overload", outage="10d", clock=forward.clock) as smtp:
        for tries in range(43):
            with pytest.raises(smtplib.SMTPConnectError):
                send(smtp)
            time.sleep(HOUR / 2 if tries < 2 else 3 * HOUR)
        assert attempts(smtp) == [0, 1800, *(3600 + 3 * HOUR * n for n in range(41))]
        assert forward.clock.now() > 5 * DAY
        wall = [connection.exchanges[0].wall for connection in smtp.journal.connections]
        assert wall[-1] - wall[0] == pytest.approx(attempts(smtp)[-1])


def test_a_fake_that_was_started_before() -> None:
    forward = FastForward()
    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        with forward:
            keep_sending(smtp, 400)
        assert attempts(smtp) == [0, 400, 1200]
        smtp.assert_delivered(times=1)


def test_a_fake_that_is_stopped_afterwards() -> None:
    with FastForward() as forward:
        smtp = FakeSMTP("smtp/overload", outage="10m", clock=forward.clock).start()
        keep_sending(smtp, 700)
    smtp.stop()
    assert attempts(smtp) == [0, 700]


def two_senders() -> list[tuple[float, str, str]]:
    seen: list[tuple[float, str, str]] = []
    with FastForward() as forward, FakeSMTP("smtp/overload", outage="2h", clock=forward.clock) as smtp:

        def run(name: str, delay: float, number: int) -> None:
            while True:
                try:
                    send(smtp, number)
                except smtplib.SMTPConnectError as error:
                    seen.append((forward.clock.now(), name, str(error.smtp_code)))
                    time.sleep(delay)
                    delay *= 1.5
                else:
                    seen.append((forward.clock.now(), name, "sent"))
                    return

        senders = [("slow", 900.0, 1), ("fast", 300.0, 2), ("as slow", 900.0, 3)]
        threads = [threading.Thread(target=run, args=sender) for sender in senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        order = [(c.exchanges[0].index, c.number) for c in smtp.journal.connections]
        assert order == sorted(order)
    return seen


def test_two_senders_interleave_in_the_same_order_in_every_run() -> None:
    first = two_senders()
    assert [name for _, name, _ in first[:8]] == ["slow", "fast", "as slow", "fast", "fast", "slow", "as slow", "fast"]
    assert {what for _, _, what in first} == {"421", "sent"}
    for _ in range(19):
        assert two_senders() == first


def senders_in_a_loop() -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []

    async def run(smtp: FakeSMTP, delay: float, number: int) -> None:
        while True:
            try:
                await send_in_a_loop(smtp, number)
            except aiosmtplib.SMTPException:
                seen.append((round(smtp.clock.now()), number))  # a loop adds microseconds of its own
                await asyncio.sleep(delay)
                delay *= 1.5
            else:
                return

    async def main(smtp: FakeSMTP) -> None:
        await asyncio.gather(run(smtp, 900, 1), run(smtp, 300, 2), run(smtp, 700, 3))

    with FastForward() as forward, FakeSMTP("smtp/overload", outage="2h", clock=forward.clock) as smtp:
        asyncio.run(main(smtp))
        smtp.assert_delivered(times=1)
    return seen


def test_senders_in_one_loop_come_at_the_same_times_in_every_run() -> None:
    first = sorted(senders_in_a_loop())
    assert all(sorted(senders_in_a_loop()) == first for _ in range(9))


# ---- delays, drips, stalls and idle time-outs ----------------------------------------------------


def test_a_delayed_and_dripped_reply_is_jumped_over(forward: FastForward) -> None:
    with FakeSMTP("smtp/slow-replies", delay="2s", drip="50ms", clock=forward.clock) as smtp:
        send(smtp)
        smtp.assert_delivered(times=1)
        exchange = smtp.journal.connections[0].exchanges[0]
        assert exchange.reply is not None
        assert exchange.answered_at is not None
        assert exchange.answered_at - exchange.at == pytest.approx(2 + 0.05 * (len(exchange.reply) + 1), abs=0.06)


def test_a_client_gives_up_on_a_stall_at_its_own_time_out(forward: FastForward) -> None:
    with FakeSMTP("smtp/stalled-greeting", outage="30m", clock=forward.clock) as smtp:
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            send(smtp, timeout=300)
        assert forward.clock.now() == 300
        keep_sending(smtp, 300, 1)
        smtp.assert_delivered(times=1, count=1)
        assert attempts(smtp) == [0, 300, 900, 1500, 2100]


def test_aiosmtplib_gives_up_on_a_stall_at_its_own_time_out(forward: FastForward) -> None:
    with FakeSMTP("smtp/stalled-greeting", outage="30m", clock=forward.clock) as smtp:
        with pytest.raises(aiosmtplib.SMTPTimeoutError):
            asyncio.run(send_in_a_loop(smtp))
        assert forward.clock.now() == pytest.approx(60, abs=0.001)


def test_a_patient_client_meets_the_end_of_a_phase(forward: FastForward) -> None:
    """It waits without a time-out; nothing but the fake can end that."""
    late = loads(
        'protocol = "smtp"\n[[phase]]\nname = "one"\nlasts = "1h"\n[[phase.rule]]\non = "connect"\nstall = true\n'
        '[[phase]]\nname = "two"\n[[phase.rule]]\non = "enter"\nreply = "421 too late"\n',
        name="test",
    )
    with FakeSMTP(late, clock=forward.clock) as smtp:
        with socket.create_connection((smtp.host, smtp.port)) as client:
            assert client.recv(100) == b"421 too late\r\n"
        assert forward.clock.now() == HOUR


def test_an_idle_time_out_strikes_at_its_minute_while_the_client_sleeps(forward: FastForward) -> None:
    with FakeSMTP("smtp/idle-timeout", timeout="5m", clock=forward.clock) as smtp:
        with smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test", timeout=60) as client:
            client.noop()
            time.sleep(299)
            assert client.noop()[0] == 250
            time.sleep(3000)
            assert client.noop()[0] == 421
        assert smtp.journal.connections[0].exchanges[-1].at == 599


def test_an_idle_time_out_strikes_who_waits_for_something_else(forward: FastForward) -> None:
    with (
        FakeSMTP("smtp/idle-timeout", timeout="1m", clock=forward.clock) as smtp,
        smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test") as client,
    ):
        client.noop()
        assert threading.Event().wait(59) is False
        assert client.noop()[0] == 250
        assert threading.Event().wait(61) is False
        assert client.noop()[0] == 421


def test_a_command_in_small_pieces_is_not_held_back_by_the_kernel(forward: FastForward) -> None:
    """Nagle's algorithm keeps a second small piece until the first is acknowledged, which takes the kernel 40 ms."""
    with FakeSMTP("smtp/idle-timeout", timeout="1m", clock=forward.clock) as smtp:
        with socket.create_connection((smtp.host, smtp.port)) as client:
            assert client.recv(200).startswith(b"220")
            for _ in range(10):  # by then the kernel has gone over to acknowledging late
                for piece in (b"NO", b"OP", b"\r\n"):
                    client.send(piece)
                assert client.recv(200).startswith(b"250")
        assert forward.clock.now() == 0


def test_an_idle_time_out_does_not_strike_who_computes(forward: FastForward) -> None:
    with FakeSMTP("smtp/idle-timeout", timeout="10ms", clock=forward.clock) as smtp:
        with smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test") as client:
            until = time.perf_counter() + 0.1
            while time.perf_counter() < until:
                pass
            assert client.noop()[0] == 250
        assert forward.clock.now() == 0


def test_a_delay_beside_an_idle_time_out_does_not_cut_the_client(forward: FastForward) -> None:
    """A client that waits for a slow answer is not idle; its neighbour is."""
    slow = scenario(rule('on = "noop"\ndelay = "10m"'), rule('on = "idle"\nafter = "5m"\nreply = "421 idle"'))
    with FakeSMTP(slow, clock=forward.clock) as smtp:
        with (
            smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test") as client,
            smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test") as neighbour,
        ):
            assert client.noop()[0] == 250
            assert neighbour.noop()[0] == 421
        assert forward.clock.now() == 600


def test_the_fake_goes_first_on_a_tie(forward: FastForward) -> None:
    with (
        FakeSMTP("smtp/idle-timeout", timeout="1m", clock=forward.clock) as smtp,
        socket.create_connection((smtp.host, smtp.port), timeout=300) as client,
    ):
        client.recv(100)
        time.sleep(60)
        client.setblocking(False)
        assert client.recv(100).startswith(b"421 ")


def test_a_stall_in_the_body(forward: FastForward) -> None:
    stalls = scenario(rule('on = "body"\nafter_bytes = 1000\nstall = true'))
    with FakeSMTP(stalls, clock=forward.clock) as smtp:
        with smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test", timeout=120) as client:
            client.ehlo()
            client.mail("a@client.test")
            client.rcpt("b@server.test")
            assert client.docmd("DATA")[0] == 354
            assert client.sock is not None
            client.sock.sendall(b"hello, hello\r\n" * 100_000 + b".\r\n")
            with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
                client.getreply()
        assert forward.clock.now() == 120


# ---- TLS -----------------------------------------------------------------------------------------


def trusting(smtp: FakeSMTP) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=smtp.ca_file)


def over_tls(smtp: FakeSMTP, timeout: float = 300) -> smtplib.SMTP:
    if smtp.tls == "implicit":
        return smtplib.SMTP_SSL(
            smtp.host, smtp.port, local_hostname="client.test", context=trusting(smtp), timeout=timeout
        )
    client = smtplib.SMTP(smtp.host, smtp.port, local_hostname="client.test", timeout=timeout)
    client.starttls(context=trusting(smtp))
    return client


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_tls_with_delays(tls: str, forward: FastForward) -> None:
    with FakeSMTP("smtp/slow-replies", delay="1m", drip="1s", clock=forward.clock, tls=tls) as smtp:
        with over_tls(smtp) as client:
            client.send_message(letter())
        smtp.assert_delivered(times=1)
        assert forward.clock.now() > 600


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_tls_client_gives_up_at_its_own_time_out(tls: str, forward: FastForward) -> None:
    """Session tickets come in after the handshake: bytes on the wire, and no answer."""
    stalls = scenario(rule('on = "noop"\nstall = true'))
    with FakeSMTP(stalls, clock=forward.clock, tls=tls) as smtp, over_tls(smtp, 120) as client:
        with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
            client.noop()
        client.close()
        assert forward.clock.now() == 120


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_a_tls_connection_that_the_fake_closes_is_seen_at_once(tls: str, forward: FastForward) -> None:
    """In TLS a fake closes some real milliseconds after its last word: the client's time-out must not come first."""
    closes = scenario(rule('on = "noop"\nclose = true'))
    with FakeSMTP(closes, clock=forward.clock, tls=tls) as smtp, over_tls(smtp) as client:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.noop()
        assert forward.clock.now() == 0


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_aiosmtplib_over_tls(tls: str, forward: FastForward) -> None:
    async def main() -> None:
        secure: dict[str, Any] = {"use_tls": True} if tls == "implicit" else {"start_tls": True}
        await aiosmtplib.send(
            letter(), hostname=smtp.host, port=smtp.port, tls_context=trusting(smtp), timeout=900, **secure
        )

    with FakeSMTP("smtp/slow-replies", delay="1m", drip="1s", clock=forward.clock, tls=tls) as smtp:
        asyncio.run(main())
        smtp.assert_delivered(times=1)


# ---- waiting for a fake --------------------------------------------------------------------------


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_wait_for_lets_time_move(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        thread = in_background(lambda: keep_sending(smtp, 60))
        smtp.wait_for(lambda journal: journal.count("message") == 1)
        assert attempts(smtp)[-1] == 900
        thread.join()


def test_wait_for_a_delay_of_the_fake_itself(forward: FastForward) -> None:
    slow = scenario(rule('on = "noop"\ndelay = "10m"'))
    with FakeSMTP(slow, clock=forward.clock) as smtp, socket.create_connection((smtp.host, smtp.port)) as client:
        client.recv(100)
        client.sendall(b"NOOP\r\n")
        smtp.wait_for(lambda j: j.connections[0].exchanges[-1].reply is not None and j.count("noop") == 1)
        assert forward.clock.now() == 600


def test_wait_for_in_vain_takes_its_real_seconds(forward: FastForward) -> None:
    with FakeSMTP(clock=forward.clock) as smtp, pytest.raises(WaitTimeoutError, match="in vain"):
        smtp.wait_for(lambda journal: False, timeout=0.1)


def test_await_for_lets_time_move(forward: FastForward) -> None:
    async def main() -> None:
        sending = asyncio.create_task(resend())
        await smtp.await_for(lambda journal: journal.count("connect") == 3)
        sending.cancel()

    async def resend() -> None:
        while True:
            with contextlib.suppress(aiosmtplib.SMTPException):
                await send_in_a_loop(smtp)
            await asyncio.sleep(60)

    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        asyncio.run(main())
        assert attempts(smtp)[:3] == [0, 60, 120]


def test_wait_for_inside_a_loop_is_refused_as_ever(forward: FastForward) -> None:
    async def main() -> None:
        smtp.wait_for(lambda journal: True)

    with FakeSMTP(clock=forward.clock) as smtp, pytest.raises(RuntimeError, match="await_for"):
        asyncio.run(main())


def test_async_with(forward: FastForward) -> None:
    async def main() -> None:
        async with FakeSMTP("smtp/overload", outage="1m", clock=forward.clock) as smtp:
            with pytest.raises(aiosmtplib.SMTPConnectResponseError):
                await send_in_a_loop(smtp)
            await asyncio.sleep(60)
            await send_in_a_loop(smtp)
            smtp.assert_delivered(times=1)

    asyncio.run(main())
    assert forward.clock.now() == pytest.approx(60)


CLIENT = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=20) as client:
    assert client.noop()[0] == 250
"""


def test_a_client_in_another_process_meets_delays_in_real_time(forward: FastForward) -> None:
    slow = scenario(rule('on = "noop"\ndelay = "200ms"'), rule('on = "idle"\nafter = "1h"\nreply = "421 idle"'))
    with FakeSMTP(slow, clock=forward.clock) as smtp:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", CLIENT, str(smtp.port)], check=True)
        assert time.perf_counter() - started >= 0.2
        assert 0.2 <= forward.clock.now() < 30


def test_wait_for_a_client_in_another_process(forward: FastForward) -> None:
    slow = scenario(rule('on = "noop"\ndelay = "200ms"'), rule('on = "idle"\nafter = "1h"\nreply = "421 idle"'))
    with FakeSMTP(slow, clock=forward.clock) as smtp:
        with subprocess.Popen([sys.executable, "-c", CLIENT, str(smtp.port)]) as child:
            smtp.wait_for(lambda journal: journal.count("quit") == 1, timeout=20)
            assert child.wait() == 0
        assert 0.2 <= forward.clock.now() < 30


# ---- the clock by hand ---------------------------------------------------------------------------


def test_advance_begins_the_scenario(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        assert smtp.phase == "overloaded"
        smtp.clock.advance("10m")  # type: ignore[attr-defined]
        assert smtp.phase == "recovered"
        send(smtp)


def test_a_sleep_does_not_begin_the_scenario(forward: FastForward) -> None:
    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        time.sleep(HOUR)
        keep_sending(smtp, 600)
        assert attempts(smtp) == [HOUR, HOUR + 600]


def test_two_fakes_share_the_clock(forward: FastForward) -> None:
    with (
        FakeSMTP("smtp/overload", outage="1h", clock=forward.clock) as primary,
        FakeSMTP("smtp/slow-replies", clock=forward.clock) as backup,
    ):
        with pytest.raises(smtplib.SMTPConnectError):
            send(primary)
        send(backup)
        backup.assert_delivered(times=1)
        time.sleep(HOUR)
        send(primary)
        primary.assert_delivered(times=1)


def test_the_loop_of_the_fakes_may_be_uvloop(forward: FastForward, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvloop")
    monkeypatch.setenv("NOTNOW_LOOP", "uvloop")
    with FakeSMTP("smtp/overload", outage="10m", clock=forward.clock) as smtp:
        keep_sending(smtp, 60)
        assert attempts(smtp) == [0, 60, 180, 420, 900]


def test_a_stuck_loop_is_an_error_and_no_hang(forward: FastForward, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the driver cannot do, it says to everybody who waits."""
    from notnow import FastForwardError

    def stuck(self: Any) -> None:
        raise TimeoutError("the fakes' loop did not come to rest")

    with FakeSMTP(clock=forward.clock):
        monkeypatch.setattr("notnow.servers.base.services.LoopServices.settle", stuck)
        with pytest.raises(FastForwardError, match="did not come to rest"):
            time.sleep(60)
        with pytest.raises(FastForwardError, match="did not come to rest"):
            threading.Event().wait(1)
        monkeypatch.undo()
