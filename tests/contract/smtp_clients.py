"""Stock SMTP clients: how each is told to send one message, and what it reports afterwards.

To add a client, write a function from `Job` to `Report` and name it in `CLIENTS`: every scenario of
test_smtp_clients.py is played to it from then on. A column of its own in the tables there is optional.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import aiosmtplib
import clients
import pytest
from clients import PATIENCE, Client, Encryption, Report

from notnow import FakeSMTP

SENT = "sent"
NAME = "client.test"  # what the clients call themselves at EHLO


@dataclass(frozen=True)
class Job:
    """One message to send."""

    host: str
    port: int
    ca_file: str
    tls: Encryption = "none"
    sender: str = "alice@client.test"
    recipients: tuple[str, ...] = ("bob@fake.test", "carol@fake.test")
    number: int = 1
    headers: str = ""
    body: str = "Hello, Bob.\r\n"

    @property
    def content(self) -> bytes:
        name = f"Message-ID: <{self.number}@client.test>\r\n"
        return f"Subject: hello\r\n{name}{self.headers}\r\n{self.body}".encode()

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca_file)


# ---- Python -----------------------------------------------------------------------------------------


def _with_smtplib(job: Job) -> Report:
    try:
        with _open(job) as client:
            client.ehlo_or_helo_if_needed()
            if job.tls == "must" or (job.tls == "may" and client.has_extn("starttls")):
                client.starttls(context=job.context)
            client.sendmail(job.sender, job.recipients, job.content)
    except (smtplib.SMTPException, OSError) as error:
        return Report(_named(error), _text(error))
    return Report(SENT)


def _open(job: Job) -> smtplib.SMTP:
    if job.tls == "implicit":
        return smtplib.SMTP_SSL(job.host, job.port, NAME, timeout=PATIENCE, context=job.context)
    return smtplib.SMTP(job.host, job.port, NAME, timeout=PATIENCE)


def _with_aiosmtplib(job: Job) -> Report:
    start_tls = {"must": True, "may": None}.get(job.tls, False)
    sending = aiosmtplib.send(
        job.content, sender=job.sender, recipients=list(job.recipients), hostname=job.host, port=job.port,
        local_hostname=NAME, timeout=PATIENCE, start_tls=start_tls, use_tls=job.tls == "implicit",
        tls_context=None if job.tls == "none" else job.context,
    )  # fmt: skip
    try:
        asyncio.run(sending) if job.tls == "none" else _run_with_tls(sending)
    except (aiosmtplib.SMTPException, OSError) as error:
        return Report(_named(error), _text(error))
    return Report(SENT)


def _run_with_tls(work: Coroutine[Any, Any, Any]) -> None:
    """`asyncio.run`, and an end to what aiosmtplib was still closing (TLS takes its time) when its loop ended."""
    with clients.untidy():
        asyncio.run(work)


def _named(error: Exception) -> str:
    """The exception, without the SMTP that most of them begin with, and the reply code that it carries, if any."""
    code = _code(error)
    return " ".join([type(error).__name__.removeprefix("SMTP"), *([str(code)] if code else [])])


def _code(error: Exception) -> int | None:
    """smtplib says `smtp_code`, aiosmtplib `code`; of refused recipients it is the last one's."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            return next(reversed(error.recipients.values()))[0]
        case aiosmtplib.SMTPRecipientsRefused():
            return error.recipients[-1].code
        case _:
            return getattr(error, "smtp_code", None) or getattr(error, "code", None)


def _text(error: Exception) -> str:
    reply = getattr(error, "smtp_error", None)
    return reply.decode() if isinstance(reply, bytes) else str(error)


# ---- programs ---------------------------------------------------------------------------------------


def _run(job: Job, *command: str) -> Report:
    """Run a program with the message on its standard input."""
    return clients.report(clients.run(*command, given=job.content), SENT)


def _with_curl(job: Job) -> Report:
    scheme = "smtps" if job.tls == "implicit" else "smtp"
    tls = {"may": ["--ssl"], "must": ["--ssl-reqd"]}.get(job.tls, [])
    to = [word for recipient in job.recipients for word in ("--mail-rcpt", recipient)]
    return _run(
        job, "curl", "-q", "--silent", "--show-error", "--verbose", "--noproxy", "*", "--cacert", job.ca_file, *tls,
        "--mail-from", job.sender, *to, "--upload-file", "-", f"{scheme}://{job.host}:{job.port}/{NAME}",
    )  # fmt: skip


def _with_msmtp(job: Job) -> Report:
    tls = ["--tls=off"]
    if job.tls != "none":
        tls = ["--tls=on", f"--tls-trust-file={job.ca_file}", f"--tls-starttls={_on(job.tls != 'implicit')}"]
    return _run(
        job, "msmtp", f"--host={job.host}", f"--port={job.port}", f"--domain={NAME}", f"--from={job.sender}", *tls,
        "--", *job.recipients,
    )  # fmt: skip


def _on(yes: bool) -> str:
    return "on" if yes else "off"


def _with_swaks(job: Job) -> Report:
    words = {"none": [], "may": ["--tls-optional"], "must": ["--tls"], "implicit": ["--tls-on-connect"]}
    tls = [*words[job.tls], "--tls-verify", "--tls-ca-path", job.ca_file] if words[job.tls] else []
    return _run(
        job, "swaks", "--server", job.host, "--port", str(job.port), "--helo", NAME, "--from", job.sender,
        "--to", ",".join(job.recipients), "--data", "-", "--timeout", str(PATIENCE), *tls,
    )  # fmt: skip


CLIENTS = {
    client.name: client
    for client in (
        Client("smtplib", _with_smtplib),
        Client("aiosmtplib", _with_aiosmtplib),
        Client("curl", _with_curl, "curl", "curl"),
        Client("msmtp", _with_msmtp, "msmtp", "msmtp", cannot=frozenset({"may"})),
        Client("swaks", _with_swaks, "swaks", "swaks"),
    )
}

EVERYBODY = [pytest.param(client, id=client.name) for client in CLIENTS.values()]


def attempt(client: Client[Job], fake: FakeSMTP, tls: Encryption = "none", number: int = 1, **more: Any) -> Report:
    """Have a client send message `number`, and let the fake read what it has left behind."""
    report = client.do(Job(fake.host, fake.port, fake.ca_file, tls, number=number, **more))
    fake.settle()
    return report
