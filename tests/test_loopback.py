"""The addresses of the user's own servers: this machine, and nothing else."""

from __future__ import annotations

import pytest

from notnow import FakeHTTP, FakeSMTP
from notnow.errors import ScenarioError
from notnow.servers.base.loopback import loopback


@pytest.mark.parametrize(
    ("url", "addresses", "port"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1",), 8000),
        ("http://127.1.2.3:80/", ("127.1.2.3",), 80),
        ("http://[::1]:8000", ("::1",), 8000),
        ("http://localhost:8000", ("127.0.0.1", "::1"), 8000),
        ("HTTP://LocalHost:65535", ("127.0.0.1", "::1"), 65535),
    ],
)
def test_an_address_of_this_machine(url: str, addresses: tuple[str, ...], port: int) -> None:
    found = loopback("upstream", url, "http")
    assert (found.addresses, found.port, found.url) == (addresses, port, url.rstrip("/"))


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1", "192.0.2.1", "0.0.0.0", "[::]", "[fe80::1]", "[::ffff:127.0.0.1]", "[::ffff:192.0.2.1]", "128.0.0.1",
        "example.org", "localhost.example.org", "127.0.0.1.example.org", "127.1", "2130706433", "0x7f.0.0.1", "xn--lcalhost-n4a",
        "127.0.0.1%00.example.org", "example.org#@127.0.0.1", "127.0.0.1@example.org", "localhost.",
    ],
)  # fmt: skip
def test_any_other_machine_is_refused_with_the_reason(host: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        loopback("upstream", f"http://{host}:8000", "http")
    assert f"upstream is 'http://{host}:8000'" in str(caught.value)
    assert "allowed: http://HOST:PORT, where HOST is 127.0.0.1" in str(caught.value)
    if "@" not in host and "%" not in host:
        assert "a fake never relays to another machine" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:8000", "https://127.0.0.1:8000", "smtp://127.0.0.1:25", "http://127.0.0.1", "http://127.0.0.1:0",
        "http://127.0.0.1:65536", "http://127.0.0.1:x", "http://[::1:8000", "http://:8000", "http://127.0.0.1:8000/api",
        "http://me:secret@127.0.0.1:8000", "http://127.0.0.1:8000?a=b", "http://127.0.0.1:8000#a", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ScenarioError, match="upstream is "):
        loopback("upstream", url, "http")


def test_a_fake_is_not_put_in_front_of_itself() -> None:
    for host in ("127.0.0.1", "0.0.0.0", "localhost"):
        with pytest.raises(ScenarioError, match="upstream is 'http://localhost:8421', the address of the fake itself"):
            FakeHTTP(host=host, port=8421, upstream="http://localhost:8421")
    with pytest.raises(ScenarioError, match="the address of the fake itself"):
        FakeSMTP(port=2525, forward="smtp://127.0.0.1:2525")
    FakeSMTP(host="127.0.0.2", port=2525, forward="smtp://127.0.0.1:2525")


def test_an_app_and_an_upstream_are_one_too_many() -> None:
    with pytest.raises(ScenarioError, match="app and upstream are both given; allowed: one of them"):
        FakeHTTP(app=lambda scope, receive, send: None, upstream="http://127.0.0.1:8000")


def test_options_are_for_their_protocol() -> None:
    with pytest.raises(ScenarioError, match="'upstream' is no option of smtp servers"):
        FakeSMTP(upstream="http://127.0.0.1:8000")
    with pytest.raises(ScenarioError, match="'upstrem' is no option of smtp servers"):
        FakeSMTP("", upstrem="http://127.0.0.1:8000")
    with pytest.raises(ScenarioError, match="'forward' is no option of http servers"):
        FakeHTTP(forward="smtp://127.0.0.1:1025")
    with pytest.raises(ScenarioError, match="forward is 1025; allowed: a URL"):
        FakeSMTP(forward=1025)
