"""Stock clients where one message on one connection does not tell enough: caps, rates, second copies, sessions."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import aiosmtplib
import clients
import programs
import pytest
from clients import PATIENCE, Client, Encryption
from smtp_clients import CLIENTS, EVERYBODY, NAME, SENT, Job, attempt

from notnow import FakeSMTP, ManualClock

if TYPE_CHECKING:
    from coverage_table import Proves

HERE = Path(__file__).parent


@contextlib.contextmanager
def guest(fake: FakeSMTP) -> Iterator[smtplib.SMTP]:
    """Somebody else's connection, open and greeted for as long as the block lasts."""
    with smtplib.SMTP(fake.host, fake.port, "guest.test", timeout=PATIENCE) as other:
        yield other


# ---- caps and rates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("client", EVERYBODY)
@pytest.mark.parametrize("name", ["smtp/too-many-connections", "smtp/too-many-per-client"])
def test_gets_the_place_that_another_leaves(name: str, client: Client[Job], proves: Proves) -> None:
    with FakeSMTP(name, cap=1) as fake:
        with guest(fake):
            assert attempt(client, fake).said != SENT
            assert fake.messages == []
        assert attempt(client, fake).said == SENT
        fake.assert_expected(count=len(Job.recipients))
        fake.assert_never_exceeded(connections=2)
        proves(name, client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_is_over_the_rate_of_connections(client: Client[Job], proves: Proves) -> None:
    with FakeSMTP("smtp/connection-rate", connections=1, window="60s", clock=ManualClock()) as fake:
        assert attempt(client, fake).said == SENT
        assert attempt(client, fake, number=2).said != SENT
        fake.clock.advance("61s")
        assert attempt(client, fake, number=2).said == SENT
        fake.assert_expected()
        proves("smtp/connection-rate", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_reads_all_six_lines_of_gmail(client: Client[Job], proves: Proves) -> None:
    """A reply of six lines after the dot: each client has read it to the end, and shows it to its user."""
    with FakeSMTP("smtp/gmail-unusual-rate", messages=1, window="1m", clock=ManualClock()) as fake:
        assert attempt(client, fake).said == SENT
        report = attempt(client, fake, number=2)
        assert report.said != SENT
        reply = _refusal(fake)
        for line in reply.splitlines():
            assert line[4:] in report.text
        assert len(reply.splitlines()) == 6
        fake.clock.advance("61s")
        assert attempt(client, fake, number=2).said == SENT
        fake.assert_expected()
        proves("smtp/gmail-unusual-rate", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_waits_until_another_has_sent_its_message(client: Client[Job], proves: Proves) -> None:
    with FakeSMTP("smtp/microsoft-concurrency", cap=1) as fake:
        with guest(fake) as other:
            other.ehlo()
            assert other.mail("guest@guest.test")[0] == 250
            assert attempt(client, fake).said != SENT
            assert _refusal(fake).startswith("432 4.3.2 ")
            assert other.rcpt("bob@fake.test")[0] == 250
            assert other.data(b"Subject: guest\r\n\r\nHello\r\n")[0] == 250
            assert attempt(client, fake).said == SENT
        fake.assert_expected()
        proves("smtp/microsoft-concurrency", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
@pytest.mark.parametrize("name", ["gmail-daily-limit", "workspace-daily-limit", "microsoft-daily-limit"])
def test_is_over_the_daily_limit(name: str, client: Client[Job], proves: Proves) -> None:
    with FakeSMTP(f"smtp/{name}", messages=1, clock=ManualClock()) as fake:
        assert attempt(client, fake).said == SENT
        assert attempt(client, fake, number=2).said != SENT
        assert _refusal(fake).startswith("55"), "a 5yz is final, and no 421"
        fake.clock.advance("24h")
        assert attempt(client, fake, number=3).said == SENT
        fake.assert_expected()
        assert [message["Message-ID"] for message in fake.messages] == ["<1@client.test>", "<3@client.test>"]
        proves(f"smtp/{name}", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_makes_too_many_errors(client: Client[Job], proves: Proves) -> None:
    """The 421 comes unasked behind the 550. curl ends at the first refused recipient, the others at the 421."""
    unknown = ("unknown1@fake.test", "unknown2@fake.test")
    with FakeSMTP("smtp/too-many-errors", errors=1 if client.name == "curl" else 2) as fake:
        assert attempt(client, fake, recipients=unknown).said != SENT
        assert [x.reply for x in fake.journal if x.moment == "error"] == [
            "421 4.7.0 fake.notnow.test Error: too many errors"
        ]
        assert attempt(client, fake).said == SENT
        fake.assert_expected()
        proves("smtp/too-many-errors", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
@pytest.mark.parametrize("tls", ["none", "must"])
def test_sees_a_421_amid_a_large_message(client: Client[Job], tls: Encryption, proves: Proves) -> None:
    """The client is still sending when it is refused: a plain close would reset the connection, and lose the 421."""
    with FakeSMTP("smtp/at-stage", stage="body", tls="starttls", clock=ManualClock()) as fake:
        report = attempt(client, fake, tls, body=("x" * 70 + "\r\n") * 50_000)
        assert report.said != SENT
        assert "Service not available, closing transmission channel" in report.text
        assert fake.messages == []
        fake.clock.advance("1m")
        assert attempt(client, fake).said == SENT
        fake.assert_expected()
        proves("smtp/at-stage", client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_is_taken_once_it_signs(client: Client[Job], proves: Proves) -> None:
    signature = "DKIM-Signature: v=1; a=rsa-sha256; d=client.test; s=1; h=from; bh=; b=\r\n"
    with FakeSMTP("smtp/no-dkim") as fake:
        assert attempt(client, fake).said != SENT
        assert _refusal(fake) == "421 4.7.20 No passing DKIM signature found"
        assert attempt(client, fake, headers=signature).said == SENT
        fake.assert_expected()
        proves("smtp/no-dkim", client.name)


def _refusal(fake: FakeSMTP) -> str:
    reply = next(x.reply for x in reversed(fake.journal.exchanges) if x.refused and x.fault)
    assert reply is not None
    return reply


# ---- second copies ----------------------------------------------------------------------------------


@pytest.mark.parametrize("client", EVERYBODY)
def test_a_kept_message_that_is_sent_again_is_no_fault_of_the_client(client: Client[Job], proves: Proves) -> None:
    """It was told 421, so that it has to send again; the receiver can recognise the copy by its Message-ID."""
    with FakeSMTP("smtp/kept-then-421") as fake:
        assert attempt(client, fake).said != SENT
        fake.assert_delivered(times=1)
        assert attempt(client, fake).said == SENT
        assert [message["Message-ID"] for message in fake.messages] == ["<1@client.test>", "<1@client.test>"]
        fake.assert_no_duplicates()
        fake.assert_expected()
        proves("smtp/kept-then-421", client.name)


def test_curl_makes_the_duplicate_by_itself(tmp_path: Path, proves: Proves) -> None:
    """`--retry` alone is not for SMTP; with `--retry-all-errors` curl sends again what was answered 421."""
    programs.need("curl", "curl")
    with FakeSMTP("smtp/kept-then-421") as fake:
        _curl(tmp_path, fake, "--retry", "1", "--retry-all-errors", "--retry-delay", "1")
        fake.assert_retried(times=(1, 1))
        assert [message["Message-ID"] for message in fake.messages] == ["<1@client.test>", "<1@client.test>"]
        fake.assert_no_duplicates()


def test_curl_does_not_retry_421_unless_told(tmp_path: Path) -> None:
    programs.need("curl", "curl")
    with FakeSMTP("smtp/overload", clock=ManualClock()) as fake:
        done = _curl(tmp_path, fake, "--retry", "1", "--retry-delay", "1")
        assert done.returncode == 8
        assert fake.journal.count("connect") == 1


def _curl(folder: Path, fake: FakeSMTP, *options: str, messages: int = 1) -> subprocess.CompletedProcess[str]:
    """Run one curl that sends so many messages, over one connection if it can."""
    command = ["curl", "-q", "--silent", "--show-error"]
    for number in range(1, messages + 1):
        file = folder / f"message-{number}"
        file.write_bytes(Job("", 0, "", number=number).content)
        command += [*(["--next"] if number > 1 else []), *options, "--mail-from", Job.sender, "--mail-rcpt"]
        command += [Job.recipients[0], "--upload-file", str(file), f"{fake.url}/{NAME}"]
    return clients.run(*command, folder=folder)


# ---- several messages on a connection ---------------------------------------------------------------


@pytest.mark.parametrize(("like", "told"), [("yahoo", 421), ("yahoo-silent", None), ("exim", 421)])
def test_smtplib_opens_a_second_connection(like: str, told: int | None, proves: Proves) -> None:
    with FakeSMTP("smtp/messages-per-connection", messages=2, like=like) as fake:
        with smtplib.SMTP(fake.host, fake.port, NAME, timeout=PATIENCE) as client:
            _send(client, 1)
            _send(client, 2)
            with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPServerDisconnected)) as refusal:
                _send(client, 3)
        assert getattr(refusal.value, "smtp_code", None) == told
        with smtplib.SMTP(fake.host, fake.port, NAME, timeout=PATIENCE) as client:
            _send(client, 3)
        fake.assert_expected(count=3 * len(Job.recipients))
        assert [message.envelope.connection for message in fake.messages] == [1, 1, 2]
        proves("smtp/messages-per-connection", "smtplib")


def _send(client: smtplib.SMTP, number: int) -> None:
    job = Job("", 0, "", number=number)
    client.sendmail(job.sender, job.recipients, job.content)


def test_aiosmtplib_opens_a_second_connection(proves: Proves) -> None:
    with FakeSMTP("smtp/messages-per-connection", messages=2) as fake:
        asyncio.run(_three_with_aiosmtplib(fake))
        fake.assert_expected(count=3 * len(Job.recipients))
        assert [message.envelope.connection for message in fake.messages] == [1, 1, 2]
        proves("smtp/messages-per-connection", "aiosmtplib")


async def _three_with_aiosmtplib(fake: FakeSMTP) -> None:
    client = aiosmtplib.SMTP(hostname=fake.host, port=fake.port, local_hostname=NAME, timeout=PATIENCE)
    async with client:
        await _asend(client, 1)
        await _asend(client, 2)
        with pytest.raises(aiosmtplib.SMTPSenderRefused) as refusal:
            await _asend(client, 3)
    assert refusal.value.code == 421
    async with client:
        await _asend(client, 3)


async def _asend(client: aiosmtplib.SMTP, number: int) -> None:
    job = Job("", 0, "", number=number)
    await client.sendmail(job.sender, list(job.recipients), job.content)


@pytest.mark.parametrize("like", ["yahoo", "yahoo-silent", "exim"])
def test_curl_gives_up_the_message_and_sends_the_next(like: str, tmp_path: Path, proves: Proves) -> None:
    """Of three messages the second is refused: curl opens a new connection for the third, and forgets the second."""
    programs.need("curl", "curl")
    with FakeSMTP("smtp/messages-per-connection", messages=1, like=like) as fake:
        done = _curl(tmp_path, fake, messages=3)
        assert "curl: (5" in done.stderr
        assert [message["Message-ID"] for message in fake.messages] == ["<1@client.test>", "<3@client.test>"]
        fake.assert_never_exceeded(connections=1 if like == "exim" else 2)
        proves("smtp/messages-per-connection", "curl")


# ---- idle -------------------------------------------------------------------------------------------


def test_smtplib_finds_its_idle_connection_closed(proves: Proves) -> None:
    """The 421 came unasked: smtplib takes it for the answer to its next MAIL."""
    with FakeSMTP("smtp/idle-timeout", timeout="30s", clock=ManualClock()) as fake:
        with smtplib.SMTP(fake.host, fake.port, NAME, timeout=PATIENCE) as client:
            _send(client, 1)
            fake.clock.advance("29s")
            client.noop()
            fake.clock.advance("31s")
            with pytest.raises(smtplib.SMTPSenderRefused) as refusal:
                _send(client, 2)
        assert refusal.value.smtp_code == 421
        with smtplib.SMTP(fake.host, fake.port, NAME, timeout=PATIENCE) as client:
            _send(client, 2)
        fake.assert_expected()
        proves("smtp/idle-timeout", "smtplib")


def test_aiosmtplib_finds_its_idle_connection_closed(proves: Proves) -> None:
    """aiosmtplib knows that the connection is gone before it says anything."""
    with FakeSMTP("smtp/idle-timeout", timeout="30s", clock=ManualClock()) as fake:
        asyncio.run(_idle_with_aiosmtplib(fake))
        fake.assert_expected()
        proves("smtp/idle-timeout", "aiosmtplib")


async def _idle_with_aiosmtplib(fake: FakeSMTP) -> None:
    client = aiosmtplib.SMTP(hostname=fake.host, port=fake.port, local_hostname=NAME, timeout=PATIENCE)
    async with client:
        await _asend(client, 1)
        await asyncio.to_thread(fake.clock.advance, "31s")
        while client.is_connected:
            await asyncio.sleep(0)
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await _asend(client, 2)
    async with client:
        await _asend(client, 2)


# ---- what a client still says on a connection that is over ------------------------------------------


@pytest.mark.parametrize("client", EVERYBODY)
def test_helo_after_a_refused_ehlo(client: Client[Job]) -> None:
    """RFC 5321 §3.8 closes after a 421; all but aiosmtplib answer the refusal of EHLO with HELO, not heeding the code."""
    with FakeSMTP("smtp/at-stage", stage="ehlo", clock=ManualClock()) as fake:
        assert attempt(client, fake).said != SENT
        after = fake.journal.connections[0].after.upper()
        assert after.startswith("HELO") is (client.name != "aiosmtplib")


@pytest.mark.parametrize("client", EVERYBODY)
def test_421_to_ehlo_without_a_close_is_overlooked(client: Client[Job]) -> None:
    """Those that fall to HELO deliver as if nothing had happened."""
    with FakeSMTP(HERE / "scenarios" / "ehlo-421-stays-open.toml") as fake:
        report = attempt(client, fake)
        if client.name == "aiosmtplib":
            assert report.said == "HeloError 421"
            return
        assert report.said == SENT
        fake.assert_expected()
        assert [x.request.split()[0].upper() for x in fake.journal if x.moment == "ehlo"] == ["EHLO", "HELO"]


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id in ("curl", "swaks")])
def test_a_refused_starttls_is_followed_by_mail_in_clear_text(client: Client[Job], proves: Proves) -> None:
    """With TLS "if it is offered": what RFC 3207 §4 leaves to the client, and a careful one does not do."""
    with FakeSMTP("smtp/starttls-refused", clock=ManualClock()) as fake:
        report = attempt(client, fake, "may")
        assert report.said == SENT
        fake.assert_delivered(times=1)
        assert fake.journal.connections[0].tls is None
        proves("smtp/starttls-refused", client.name)

        fake.play("smtp/starttls-refused", like="starttls-421")
        report = attempt(client, fake, "may")
        assert report.said != SENT
        assert fake.journal.connections[1].after.startswith("MAIL FROM")


def test_curl_needs_a_wait_for_each_recipient_that_is_greylisted(proves: Proves) -> None:
    """curl ends at the first recipient that is refused, so that the server has not seen the others."""
    programs.need("curl", "curl")
    with FakeSMTP("smtp/greylisting", wait="5m", clock=ManualClock()) as fake:
        for _recipient in Job.recipients:
            assert attempt(CLIENTS["curl"], fake).said == "exit 55"
            fake.clock.advance("6m")
        assert attempt(CLIENTS["curl"], fake).said == SENT
        fake.assert_expected()
        fake.assert_retried(times=(2, 2), first_delay="6m")
        proves("smtp/greylisting", "curl")
