"""Fakes of finite capacity over real sockets: answers come when their work is done, and a full queue refuses."""

from __future__ import annotations

import ftplib
import smtplib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.language.loading import loads
from playbook import document, rule

pytestmark = pytest.mark.usefixtures("each_loop")

SERVER = {"capacity": "1/s", "queue": 2}
AT_ONCE = 5


def outcomes(work: Callable[[], object]) -> list[tuple[object, float]]:
    """What so many clients at once get, and after how many seconds of scenario time."""
    found: list[tuple[object, float]] = []

    def one() -> None:
        start = time.monotonic()
        found.append((work(), round(time.monotonic() - start, 6)))

    clients = [threading.Thread(target=one) for _ in range(AT_ONCE)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sorted(found, key=lambda pair: pair[1])


def scenario(protocol: str, on: str, **fault: Any) -> Any:
    return loads(document(rule(on, busy=True, **fault), protocol=protocol, server={**SERVER, "work": on}))


def test_smtp_greets_when_it_is_the_clients_turn(fast_forward):
    def session() -> object:
        try:
            with smtplib.SMTP(fake.host, fake.port) as client:
                return client.noop()[0]
        except smtplib.SMTPConnectError as error:
            return error.smtp_code

    with FakeSMTP(scenario("smtp", "connect", reply="421 4.3.2 busy")) as fake:
        assert outcomes(session) == [(421, 0), (421, 0), (250, 1), (250, 2), (250, 3)]
        waits = sorted(x.answered_at for x in fake.journal if x.moment == "connect" and x.reply.startswith("220"))
        assert waits == [1, 2, 3]


def test_ftp_transfers_one_after_the_other(fast_forward):
    def session() -> object:
        lines: list[str] = []
        try:
            with ftplib.FTP() as client:
                client.connect(fake.host, fake.port)
                client.login()
                client.retrlines("RETR small.txt", lines.append)
        except ftplib.error_temp as error:
            return str(error)[:3]
        return lines

    with FakeFTP(scenario("ftp", "transfer", reply="450 busy"), files={"small.txt": "hi"}) as fake:
        assert outcomes(session) == [("450", 0), ("450", 0), (["hi"], 1), (["hi"], 2), (["hi"], 3)]


def test_http_says_when_there_is_room(fast_forward):
    def session() -> object:
        try:
            with urllib.request.urlopen(fake.url) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code, error.headers["retry-after"]

    with FakeHTTP(scenario("http", "request", status=503, headers={"retry-after": "{wait.seconds}"})) as fake:
        assert outcomes(session) == [((503, "1"), 0), ((503, "1"), 0), (200, 1), (200, 2), (200, 3)]


def test_the_work_of_a_client_that_has_left_is_done_all_the_same(fast_forward):
    def session() -> float:
        start = time.monotonic()
        with smtplib.SMTP(fake.host, fake.port) as client:
            client.noop()
        return time.monotonic() - start

    with FakeSMTP(scenario("smtp", "connect", reply="421 4.3.2 busy")) as fake:
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            smtplib.SMTP(fake.host, fake.port, timeout=0.25)
        assert session() == pytest.approx(1.75, abs=1e-6)
