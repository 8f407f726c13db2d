"""The clients for tests of chaos: each does its work on a healthy fake, and each planted fault does its harm."""

from __future__ import annotations

import pytest

from chaos_clients import CAREFUL, CLIENTS, Client, FailedError
from notnow import FakeFTP, FakeHTTP, FakeSMTP
from notnow.conduct.judging import judge
from notnow.conduct.reading.run import Run
from notnow.language.scenario import Scenario
from notnow.servers.base.fake import Fake
from notnow.time_travel.fast_forward import FastForward
from toml_rules import one, rules, then

FAKES = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": FakeHTTP}
TRIGGERS = {
    "gives-up-at-rcpt": one("rcpt", reply="421 4.3.2 busy"),
    "doubles-after-the-dot": one("message", reply=["250 ok", "421 4.3.2 bye"]),
    "forgets-recipients": one("rcpt", nth=2, reply="421 4.3.2 busy"),
    "loses-the-second-mail": one("mail", nth=2, reply="421 4.3.2 busy"),
    "falls-back-to-clear-text": one("starttls", reply="421 4.3.2 busy"),
    "takes-a-cut-download-for-whole": one("retr", after_bytes=1000, reply="421 closing"),
    "appends-twice": one("complete", reply="421 closing", keep=True),
    "posts-for-ever": one("request", status=421, keep=True),
}


def played(client: Client, scenario: Scenario | None, forward: FastForward) -> Fake:
    with FAKES[client.protocol](scenario, clock=forward.clock, **client.options) as fake:
        try:
            with fake.client():
                client.run(fake)
        except FailedError:  # `fake.result` knows
            pass
        fake.settle()
    return fake


def once(trigger: str, protocol: str) -> Scenario:
    return rules(trigger, then("healthy"), protocol=protocol, phase='lasts = "1s"')


@pytest.mark.parametrize("name", CLIENTS | CAREFUL)
def test_it_does_its_work_on_a_healthy_fake(name: str, forward: FastForward) -> None:
    client = (CLIENTS | CAREFUL)[name]
    fake = played(client, None, forward)
    assert fake.result.word == "delivered"
    fake.assert_delivered(count=client.items)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_planted_fault_does_its_harm(name: str, forward: FastForward) -> None:
    client = CLIENTS[name]
    fake = played(client, once(TRIGGERS[name], client.protocol), forward)
    run = Run([fake.journal], [fake.scenario])
    broken = {verdict.rule.id for verdict in judge(run) if verdict.outcome == "broken"}
    assert client.harm in {fake.result.word, *broken}


@pytest.mark.parametrize("name", CAREFUL)
def test_a_careful_client_outlasts_an_outage(name: str, forward: FastForward) -> None:
    client = CAREFUL[name]
    outage = rules(one("connect", close=True), then("healthy"), protocol=client.protocol, phase='lasts = "50m"')
    played(client, outage, forward).assert_delivered(count=client.items)
