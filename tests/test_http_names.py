"""Where a FakeHTTP is: its URLs, the names of its hosts, and how clients find and trust them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.request

import httpx
import pytest

from http_client import H1, H2, one, rules
from notnow import FakeHTTP
from notnow.journal import CertificateRejected

pytestmark = pytest.mark.usefixtures("each_loop")

HEAD = """
[server]
tls = "implicit"
[certificate.a]
names = ["a.test", "*.sub.test", "10.0.0.1"]
[certificate.b]
names = ["b.test", "a.test"]
"""


@pytest.fixture
def fake():
    with FakeHTTP(rules(head=HEAD)) as fake:
        yield fake


def test_url():
    with FakeHTTP() as fake:
        assert fake.url == f"https://127.0.0.1:{fake.port}"
        assert fake._scheme == "https"
        assert fake.url_for("a.test", "/x?y") == f"https://a.test:{fake.port}/x?y"
        assert fake.url_for("a.test", "x") == fake.url_for("a.test", "/x")
        assert fake.url_for("a.test") == f"https://a.test:{fake.port}/"
        assert fake.url_for("::1") == f"https://[::1]:{fake.port}/"
    with FakeHTTP(tls="none") as fake:
        assert fake.url == f"http://127.0.0.1:{fake.port}"
        assert fake.url_for("a.test") == f"http://a.test:{fake.port}/"


@pytest.mark.parametrize("version", [H1, H2])
def test_ipv6(version):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("there is no ::1 here")
    with FakeHTTP(host="::1") as fake, version(fake) as client:
        assert fake.url == f"https://[::1]:{fake.port}"
        assert client.get(authority="[::1]:1").status == 200 if version is H2 else client.get().status == 200
        if version is H2:
            assert fake.journal.exchanges[1].facts.host == "::1"


def test_hosts(fake):
    """A wildcard stands for some host that it covers; addresses are no hosts."""
    assert fake.hosts == ("a.test", "www.sub.test", "b.test")
    with FakeHTTP() as plain:
        assert plain.hosts == ("localhost",)


class TestResolving:
    def test_only_its_own_hosts_and_only_in_the_block(self, fake):
        real = socket.getaddrinfo
        with fake.resolving():
            for name in ("a.test", "A.TEST", "a.test.", b"a.test", "www.sub.test"):
                found = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
                assert {entry[4] for entry in found} == {("127.0.0.1", 443)}
            assert socket.getaddrinfo("127.0.0.2", 1)[0][4] == ("127.0.0.2", 1)
            assert socket.getaddrinfo(None, 1, type=socket.SOCK_STREAM) == real(None, 1, type=socket.SOCK_STREAM)
        assert socket.getaddrinfo is real

    def test_it_passes_on_what_is_asked_of_others(self, fake, monkeypatch):
        asked = []
        monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: asked.append((given, more)) or [])
        with fake.resolving():
            socket.getaddrinfo("c.test", 1, family=socket.AF_INET)
            socket.getaddrinfo("x.a.test", 2)
            socket.getaddrinfo("a.test", 3, 0, socket.SOCK_STREAM)
        assert asked == [
            (("c.test", 1), {"family": socket.AF_INET}),
            (("x.a.test", 2), {}),
            (("127.0.0.1", 3, 0, socket.SOCK_STREAM), {}),
        ]

    def test_it_ends_with_an_error_too(self, fake):
        real = socket.getaddrinfo
        with pytest.raises(ValueError), fake.resolving():
            raise ValueError
        assert socket.getaddrinfo is real

    def test_in_an_event_loop(self, fake):
        async def main() -> None:
            found = await asyncio.get_running_loop().getaddrinfo("b.test", 443, type=socket.SOCK_STREAM)
            assert found[0][4] == ("127.0.0.1", 443)
            _, writer = await asyncio.open_connection("a.test", fake.port, ssl=fake.ssl_context())
            assert writer.get_extra_info("peername") == ("127.0.0.1", fake.port)
            writer.transport.abort()

        with fake.resolving():
            asyncio.run(main())

    def test_for_clients_of_all_kinds(self, fake):
        with fake.resolving():
            with urllib.request.urlopen(fake.url_for("a.test", "/x"), context=fake.ssl_context()) as answer:
                assert answer.status == 200
            with httpx.Client(http2=True, verify=fake.ssl_context()) as client:
                assert client.get(fake.url_for("www.sub.test")).http_version == "HTTP/2"
        assert [c.tls.sni for c in fake.journal.connections] == ["a.test", "www.sub.test"]
        assert [x.facts.host for x in fake.journal if x.moment == "request"] == ["a.test", "www.sub.test"]


class TestTrust:
    def test_a_context_and_a_file(self, fake):
        for context in (fake.ssl_context(), ssl.create_default_context(cafile=fake.ca_file)):
            with socket.create_connection((fake.host, fake.port)) as sock:
                with context.wrap_socket(sock, server_hostname="a.test") as private:
                    assert private.version() in ("TLSv1.3", "TLSv1.2")

    @pytest.mark.parametrize(
        ("more", "why"),
        [
            ("expired = true", "expired"),
            ("untrusted = true", "self-signed|unable to get"),
            ("incomplete = true", "unable to get"),
        ],
    )
    def test_certificates_that_are_not_good(self, more, why):
        head = f'[server]\ntls = "implicit"\n[certificate.a]\nnames = ["a.test"]\n{more}\n'
        with FakeHTTP(rules(head=head)) as fake, socket.create_connection((fake.host, fake.port)) as sock:
            with pytest.raises(ssl.SSLCertVerificationError, match=why):
                fake.ssl_context().wrap_socket(sock, server_hostname="a.test")
            fake.wait_for(lambda j: j.connections[0].error)
            record = fake.journal.connections[0]
            assert record.failure == CertificateRejected("certificate_expired" if "expired" in more else "unknown_ca")
            assert record.tls.defects == (more.partition(" ")[0],)

    def test_a_name_that_no_certificate_covers(self, fake):
        with socket.create_connection((fake.host, fake.port)) as sock:
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                fake.ssl_context().wrap_socket(sock, server_hostname="c.test")


def test_what_alpn_agrees_on():
    for offered, agreed in (
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("http/1.1",), "http/1.1"),
        (("x",), None),
    ):
        with FakeHTTP(rules(one("request", status=421), head=HEAD)) as fake, H1(fake, alpn=offered) as client:
            assert client.tls.selected_alpn_protocol() == agreed
