"""The wire without sockets writes the journal that a real fake writes."""

from __future__ import annotations

import contextlib
import ftplib
import io
import smtplib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.truth.ftp import FTPLine
from tests.truth.http import HTTPLine, Job
from tests.truth.smtp import Mail, Program, SMTPClient
from tests.truth.wire import Line, Wire

from http_client import H2
from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.journal import Journal, Message, Request, Transfer
from notnow.language.loading import loads

FTP_RULES = {
    "healthy": "",
    "refused": 'on = "stor"\nreply = "421 too many"\n',
    "cut": 'on = "stor"\nafter_bytes = 500\ndata = "fin"\n',
    "cut and closed": 'on = "stor"\nafter_bytes = 500\nclose = true\n',
    "accepted, then 421": 'on = "stor"\nreply = ["226 ok", "421 bye"]\n',
    "closed": 'on = "epsv"\nclose = true\n',
}
HTTP_RULES = {
    "healthy": "",
    "421": 'on = "request"\nstatus = 421\n',
    "goaway before it": 'on = "request"\ngoaway = { last = "previous" }\n',
    "goaway after it": 'on = "request"\ngoaway = {}\n',
    "reset": 'on = "request"\nreset_stream = "REFUSED_STREAM"\n',
    "closed": 'on = "request"\nclose = true\n',
    "cut": 'on = "response"\nafter_bytes = 5\nclose = true\n',
    "kept": 'on = "request"\nstatus = 500\nkeep = true\n',
    "refused connection": 'on = "connect"\nstatus = 503\nheaders = { retry-after = "5" }\n',
}
SMTP_RULES = {
    "healthy": "",
    "refused recipient": 'on = "rcpt"\nreply = "451 later"\n',
    "421 at the dot": 'on = "message"\nreply = "421 busy"\n',
    "kept and refused": 'on = "message"\nreply = "451 later"\nkeep = true\n',
    "accepted, then 421": 'on = "message"\nreply = ["250 ok", "421 bye"]\n',
    "closed": 'on = "mail"\nclose = true\n',
}


def _scenario(protocol: str, rule: str) -> str:
    return f'protocol = "{protocol}"\n[[phase]]\nname = "one"\n' + (f"[[phase.rule]]\n{rule}" if rule else "")


def _told(journal: Journal) -> Iterator[tuple[Any, ...]]:
    """What a judge reads, without the words of healthy replies, sizes of bodies and names of hosts."""
    for x in journal.exchanges:
        if x.stopped:
            continue
        codes = tuple(code for code in x.codes if code >= 200)
        frames = tuple(type(frame).__name__ for frame in x.frames)
        yield x.moment, codes, x.fault, str(x.end), frames, _facts(x.facts, ended=x.end is not None)


def _facts(facts: object, ended: bool) -> tuple[object, ...]:
    match facts:
        case Message():
            return facts.message_id, facts.sender, facts.recipients, facts.stored, facts.whole
        case Transfer():
            stored = facts.direction, facts.offset, facts.stored, facts.sha256
            return facts.path, facts.mode, facts.bytes, facts.whole, facts.data, facts.cut_by, *stored
        case Request():
            asked = facts.stream, facts.version, facts.method, facts.path, facts.idempotency_key
            body = "" if ended or facts.status is None else facts.body_sha256  # it may come before the end, or after it
            return *asked, facts.status, facts.whole, facts.stored, facts.retry_after, body
        case _:
            return ()


def _same(real: Callable[[], Journal], wire: Wire) -> None:
    assert list(_told(wire.recorder.journal)) == list(_told(real()))


@pytest.mark.parametrize("rule", FTP_RULES.values(), ids=FTP_RULES)
def test_ftp(rule: str) -> None:
    text, content = _scenario("ftp", rule), b"x" * 1000

    def real() -> Journal:
        with FakeFTP(loads(text)) as fake:
            client = ftplib.FTP()
            client.connect(fake.host, fake.port, timeout=5)
            client.af = socket.AF_INET6  # EPSV
            client.login("anonymous", "x")
            with contextlib.suppress(OSError, EOFError, ftplib.Error):
                client.storbinary("STOR /a.csv", io.BytesIO(content))
            client.close()
        return fake.journal

    wire = Wire(text, "ftp")
    line = wire.connect(FTPLine)
    for moment, argument, healthy in (("user", "x", "331 ok"), ("pass", "x", "230 ok"), ("type", "I", "200 ok")):
        line.command(moment, argument, (healthy,))
    if line.command("epsv", "", ("229 ok",)).good:
        line.transfer("STOR", "/a.csv", content, 0)
    line.leave()
    _same(real, wire)


@pytest.mark.parametrize("rule", HTTP_RULES.values(), ids=HTTP_RULES)
def test_http(rule: str) -> None:
    text = _scenario("http", rule)
    job = Job(1, "POST", "/a", True)

    def real() -> Journal:
        with FakeHTTP(loads(text)) as fake:
            client = H2(fake)
            number = client.request("/a", job.body, method="POST", headers=[("idempotency-key", str(job.key))])
            client.outcome(number)
            client.close()
        return fake.journal

    wire = Wire(text, "http")
    line = wire.connect(HTTPLine)
    line.request(job, "localhost")
    line.leaves()
    _same(real, wire)


@pytest.mark.parametrize("rule", SMTP_RULES.values(), ids=SMTP_RULES)
def test_smtp(rule: str) -> None:
    text = _scenario("smtp", rule)

    def real() -> Journal:
        with FakeSMTP(loads(text)) as fake:
            client = smtplib.SMTP(fake.host, fake.port, timeout=5)
            client.ehlo()
            with contextlib.suppress(OSError, smtplib.SMTPException):
                good = client.mail("a@b.test")[0] == 250 and client.rcpt("c@d.test")[0] == 250
                if not good or client.data("Message-ID: <1@client.test>\r\n\r\nhello\r\n")[0] >= 400:
                    client.rset()
            client.close()
        return fake.journal

    wire = Wire(text, "smtp")
    line = wire.connect(Line)
    line.ask("ehlo", "EHLO x", ["250 ok"])
    _send(line)
    line.leave()
    _same(real, wire)


def _send(line: Line) -> None:
    client = SMTPClient(Program((Mail(1, "a@b.test", ("c@d.test",), True),)), line.wire)
    client.begin(line, client.tasks[0])
