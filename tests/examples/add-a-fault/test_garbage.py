import socket

import pytest


@pytest.mark.notnow("garbage.toml")
def test_nonsense_comes_before_the_greeting(fake_smtp):
    with socket.create_connection((fake_smtp.host, fake_smtp.port), timeout=5) as client:
        assert client.makefile("rb").readline().startswith(b"\xff\xff\xff\xff220 ")
    assert fake_smtp.journal.exchanges[0].fault == "garbage"
