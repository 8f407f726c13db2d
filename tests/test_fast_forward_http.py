"""HTTP clients under fast_forward: what they wait for takes scenario time, in TLS and over HTTP/2 as well."""

from __future__ import annotations

import asyncio
import socket
import time

import httpx
import pytest

from notnow import FakeHTTP
from notnow.time_travel.fast_forward import FastForward
from toml_rules import one, rules, then

TLS = '[server]\ntls = "implicit"\n'
BUSY = one("request", status=503, headers={"retry-after": "{left.seconds}"}, delay="3s")


def playing(forward: FastForward, *texts: str, phase: str = "") -> FakeHTTP:
    return FakeHTTP(rules(*texts, protocol="http", head=TLS, phase=phase), clock=forward.clock)


both = pytest.mark.parametrize("http2", [True, False], ids=["h2", "http/1.1"])


@both
def test_retry_after_is_waited_for(forward: FastForward, http2: bool) -> None:
    with playing(forward, BUSY, then("recovered"), phase='lasts = "30m"') as fake:
        with httpx.Client(http2=http2, verify=fake.ssl_context()) as client:
            while (answer := client.get(fake.url)).status_code == 503:
                time.sleep(int(answer.headers["retry-after"]))
        assert forward.clock.now() == pytest.approx(1803)
        fake.assert_retry_after_honoured()


@both
def test_in_a_loop(forward: FastForward, http2: bool) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(http2=http2, verify=fake.ssl_context()) as client:
            while (answer := await client.get(fake.url)).status_code == 503:
                await asyncio.sleep(int(answer.headers["retry-after"]))

    with playing(forward, BUSY, then("recovered"), phase='lasts = "30m"') as fake:
        asyncio.run(main())
        assert forward.clock.now() == pytest.approx(1803)
        fake.assert_retry_after_honoured()


@both
def test_a_client_gives_up_on_a_stall_at_its_own_time_out(forward: FastForward, http2: bool) -> None:
    with playing(forward, one("request", stall=True)) as fake:
        with httpx.Client(http2=http2, verify=fake.ssl_context(), timeout=300) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.get(fake.url)
        assert forward.clock.now() == pytest.approx(300)


@both
def test_an_answer_that_drips(forward: FastForward, http2: bool) -> None:
    with playing(forward, one("request", status=421, body="not now", drip="1m")) as fake:
        with httpx.Client(http2=http2, verify=fake.ssl_context(), timeout=100) as client:
            assert client.get(fake.url).text == "not now"
        assert forward.clock.now() == pytest.approx(6 * 60)


def test_an_idle_time_out_strikes_the_pooled_connection(forward: FastForward) -> None:
    with playing(forward, one("idle", after="5m", goaway=True)) as fake:
        kept = httpx.Limits(keepalive_expiry=None)
        with httpx.Client(http2=True, verify=fake.ssl_context(), limits=kept) as client:
            client.get(fake.url)
            time.sleep(299)
            client.get(fake.url)
            assert len(fake.journal.connections) == 1
            time.sleep(301)
            client.get(fake.url)
        assert [c.ended_by for c in fake.journal.connections][:1] == ["fake"]
        assert len(fake.journal.connections) == 2


def test_a_connection_that_is_never_served(forward: FastForward) -> None:
    with playing(forward, one("connect", stall=True)) as fake:
        with socket.create_connection((fake.host, fake.port), timeout=60) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(TimeoutError):
                client.recv(1)
        assert forward.clock.now() == pytest.approx(60)
