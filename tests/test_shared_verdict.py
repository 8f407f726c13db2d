"""One client over several replicas is judged by the journals of all, in the order of scenario time."""

from __future__ import annotations

import io
import json
import smtplib
from collections.abc import Iterator, Sequence
from ftplib import FTP
from typing import Any

import pytest
from click.testing import CliRunner

from notnow import FakeFTP, FakeSMTP
from notnow.cli import group
from notnow.language.loading import loads
from playbook import document, rule
from redis_server import RedisServer, running
from shared_service import eventually, two

BUSY_ONCE = loads(document(rule("mail", nth=1, reply="450 4.3.2 later")))
MAIL = "Message-ID: <1@client.test>\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as found:
        yield found


def verdict(url: str, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(group, ["report", url, "--json", *options])
    told: dict[str, Any] = json.loads(result.output)
    return {"result": told["result"], "exit": told["exit"]} | {one["rule"]: one["outcome"] for one in told["verdicts"]}


def send(ports: Sequence[int]) -> None:
    """Try to send one message at each of these ports, one after the other."""
    for port in ports:
        try:
            with smtplib.SMTP("127.0.0.1", port, "client.test", timeout=20) as client:
                client.sendmail("a@client.test", "b@server.test", MAIL)
        except smtplib.SMTPException:
            continue


@pytest.mark.parametrize(
    ("order", "result", "tries_again"),
    [
        ("0", "lost", "broken"),
        ("01", "delivered", "held"),
        ("011", "duplicated", "held"),
        ("010", "duplicated", "held"),
    ],
)
def test_it_is_the_verdict_of_one_server(server: RedisServer, order: str, result: str, tries_again: str) -> None:
    url = f"{server.url}?socket_timeout=9&name=smtp-{order}"
    with two(url, BUSY_ONCE) as fakes:
        send([fakes[int(which)].port for which in order])
    with FakeSMTP(BUSY_ONCE, shared=f"{url}-alone") as alone:
        send([alone.port for _ in order])
    told = verdict(url, "--exit", "0", "--count", "1")
    assert (told["result"], told["smtp.tries-again"]) == (result, tries_again)
    assert told == verdict(f"{url}-alone", "--exit", "0", "--count", "1")


@pytest.mark.parametrize(("order", "result"), [("0001", "delivered"), ("00011", "duplicated"), ("00010", "duplicated")])
def test_it_is_that_of_one_server_also_where_time_stands_still(server: RedisServer, order: str, result: str) -> None:
    busy = loads(document(rule("mail", first=3, reply="450 4.3.2 later")))
    url = f"{server.url}?socket_timeout=9&speed=0&name=still-{order}"
    with two(url, busy) as fakes:
        send([fakes[int(which)].port for which in order])
    with FakeSMTP(busy, shared=f"{url}-alone") as alone:
        send([alone.port for _ in order])
    told = verdict(url, "--exit", "0", "--count", "1")
    assert (told["result"], told["smtp.intervals-grow"]) == (result, "broken")
    assert told == verdict(f"{url}-alone", "--exit", "0", "--count", "1")


def test_a_file_that_is_at_one_replica_is_not_at_another(server: RedisServer) -> None:
    """What clients have stored stays where it is: the page says so."""
    url = f"{server.url}?socket_timeout=9&name=ftp"
    with FakeFTP(shared=url) as one, FakeFTP(shared=url) as other:
        for fake in (one, other):
            with FTP() as client:
                client.connect(fake.host, fake.port, timeout=20)
                client.login()
                found = "new.bin" in client.nlst()
                client.storbinary("STOR new.bin", io.BytesIO(b"x"))
                assert not found
    assert verdict(url, "--exit", "0")["result"] == "duplicated"


def test_a_report_of_one_that_still_runs_has_what_clients_have_seen_by_then(server: RedisServer) -> None:
    url = f"{server.url}?socket_timeout=9&name=running"
    with FakeSMTP(BUSY_ONCE, shared=url) as one:
        send([one.port, one.port])
        report = ["report", url, "--exit", "0", "--count", "1"]
        eventually(lambda: "delivered: 1 item" in CliRunner().invoke(group, report).output, "the report has it")
