"""A server of the user's own behind a fake: requests that no rule answers go there, and its answers come back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from http_client import H1, H2, one, rules
from notnow import FakeHTTP

pytestmark = pytest.mark.usefixtures("each_loop")

MEGABYTE = 1024 * 1024
ROOM = MEGABYTE // 4  # bytes of a socket's buffer: with less, loopback stalls
PATIENCE = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Behind:
    """One connection of a fake to the server behind it, which the test plays."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.buffer = b""

    def until(self, end: bytes) -> bytes:
        """What comes up to this, and including it."""
        while end not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(self.buffer)
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(end)
        return found + end

    def head(self) -> tuple[str, list[tuple[str, str]]]:
        """The request line, and the fields."""
        line, *fields = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        pairs = [field.partition(": ") for field in fields]
        return line, [(name.lower(), value) for name, _, value in pairs]

    def fields(self) -> dict[str, str]:
        return dict(self.head()[1])

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def gone(self) -> bool:
        """Read to the end. True if it comes."""
        with contextlib.suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass
        return True


class Service:
    """A listening socket: the server of the user, which the test plays."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)  # so that little waits in the system
        self.sock.settimeout(PATIENCE)
        self.url = f"http://127.0.0.1:{self.sock.getsockname()[1]}"
        self.taken: list[Behind] = []

    def take(self) -> Behind:
        self.taken.append(Behind(self.sock.accept()[0]))
        return self.taken[-1]

    def idle(self) -> bool:
        """True if nobody has connected."""
        self.sock.settimeout(0)
        try:
            self.take()
        except BlockingIOError:
            return True
        finally:
            self.sock.settimeout(PATIENCE)
        return False

    def close(self) -> None:
        for opened in (self, *self.taken):
            opened.sock.close()


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(params=["http/1.1", "h2"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["none", "implicit"])
def front(request: pytest.FixtureRequest, service: Service) -> Iterator[FakeHTTP]:
    with FakeHTTP(tls=request.param, upstream=service.url) as fake:
        yield fake


@pytest.fixture
def fake(service: Service) -> Iterator[FakeHTTP]:
    with FakeHTTP(tls="none", upstream=service.url) as fake:
        yield fake


class Asking:
    """A client of either version that asks once, and reads the answer later."""

    def __init__(self, fake: FakeHTTP, version: str, **given: Any) -> None:
        self.client: Any = H2(fake, **given) if version == "h2" else H1(fake, **given)
        self.number = 0

    def ask(self, path: str = "/", body: bytes | None = None, **given: Any) -> Asking:
        self.number = (self.client.request if isinstance(self.client, H2) else self.client.ask)(path, body, **given)
        self.method = given.get("method", "GET")
        return self

    def answer(self) -> Any:
        return self.client.answer(*([self.number] if isinstance(self.client, H2) else [self.method]))

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


# ---- there and back ------------------------------------------------------------------------------


def test_a_request_goes_on_and_its_answer_comes_back(front: FakeHTTP, service: Service, version: str) -> None:
    with Asking(front, version) as client:
        client.ask("/a%20b?c=d&e", b"hello", headers=[("content-length", "5"), ("x-own", "1"), ("cookie", "a=b")])
        behind = service.take()
        line, fields = behind.head()
        assert line == "POST /a%20b?c=d&e HTTP/1.1"
        assert dict(fields)["host"] == f"localhost:{front.port}"
        assert {("content-length", "5"), ("x-own", "1"), ("cookie", "a=b")} <= set(fields)
        assert behind.until(b"hello") == b"hello"
        behind.say(b"HTTP/1.1 201 Made\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\nX-Its: 2\r\nDate: then\r\n\r\nyes")
        answer = client.answer()
    assert (answer.status, answer.body) == (201, b"yes")
    assert {"set-cookie": "a=1", "x-its": "2", "date": "then"}.items() <= answer.headers.items()
    assert behind.gone()


def test_a_gateway_says_that_it_is_there(front: FakeHTTP, service: Service, version: str) -> None:
    with Asking(front, version) as client:
        client.ask(headers=[("x-forwarded-for", "192.0.2.1")])
        behind = service.take()
        _, fields = behind.head()
        behind.say(OK)
        assert client.answer().body == b"ok"
    said = "2" if version == "h2" else "1.1"
    assert ("via", f"{said} notnow-{front.port}") in fields
    assert [value for name, value in fields if name == "x-forwarded-for"] == ["192.0.2.1", "127.0.0.1"]
    assert dict(fields)["x-forwarded-proto"] == ("http" if front.tls == "none" else "https")


def test_fields_of_the_connection_stay_on_it(fake: FakeHTTP, service: Service) -> None:
    hop = [("connection", "keep-alive, X-Mine, host, content-length"), ("x-mine", "1"), ("keep-alive", "timeout=5")]
    more = [
        ("te", "trailers, deflate"),
        ("upgrade", "websocket"),
        ("proxy-connection", "close"),
        ("expect", "100-continue"),
    ]
    with Asking(fake, "http/1.1") as client:
        client.ask("/", b"abc", headers=[*hop, *more])
        behind = service.take()
        _, fields = behind.head()
        behind.say(
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Its\r\nX-Its: 1\r\nKeep-Alive: timeout=5\r\n"
            b"Proxy-Connection: close\r\nUpgrade: h3\r\nContent-Length: 2\r\nX-Kept: 1\r\n\r\nok"
        )
        answer = client.answer()
    names = {name for name, _ in fields}
    assert names.isdisjoint({"x-mine", "keep-alive", "upgrade", "proxy-connection", "expect", "transfer-encoding"})
    assert [value for name, value in fields if name in ("te", "connection")] == ["trailers", "te", "close"]
    assert {"host", "content-length"} <= names
    assert set(answer.headers) == {"content-length", "x-kept", "date"}
    assert answer.early == [100]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_a_request_without_a_body_announces_none(fake: FakeHTTP, service: Service, version: str, method: str) -> None:
    with Asking(fake, version) as client:
        client.ask(method=method)
        behind = service.take()
        line, fields = behind.head()
        assert line.startswith(f"{method} / ")
        assert {name for name, _ in fields}.isdisjoint({"content-length", "transfer-encoding"})
        behind.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if method == "HEAD" else b"ok"))
        answer = client.answer()
        assert answer.body == (b"" if method == "HEAD" else b"ok")
        assert answer.headers["content-length"] == "2"


def test_a_get_over_http2_may_have_a_body(fake: FakeHTTP, service: Service) -> None:
    with Asking(fake, "h2") as client:
        client.ask("/", b"abc", method="GET")
        behind = service.take()
        assert behind.fields()["transfer-encoding"] == "chunked"
        assert behind.until(b"0\r\n\r\n") == b"3\r\nabc\r\n0\r\n\r\n"
        behind.say(OK)
        assert client.answer().status == 200


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body(fake: FakeHTTP, service: Service, version: str, status: int) -> None:
    with Asking(fake, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.1 %d x\r\nETag: a\r\n\r\n" % status)
        answer = client.answer()
        assert (answer.status, answer.body, answer.headers["etag"]) == (status, b"", "a")


def test_an_answer_that_ends_with_its_connection(fake: FakeHTTP, service: Service, version: str) -> None:
    with Asking(fake, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        behind.sock.close()
        assert client.answer().body == b"all of it"


def test_trailers_and_informational_responses_are_passed_on(fake: FakeHTTP, service: Service, version: str) -> None:
    with Asking(fake, version) as client:
        client.ask(headers=[("te", "trailers")])
        behind = service.take()
        assert behind.fields()["te"] == "trailers"
        behind.say(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        behind.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Check\r\n\r\n")
        behind.say(b"3\r\nabc\r\n0\r\nCheck: 42\r\n\r\n")
        answer = client.answer()
        assert (answer.early, answer.body, answer.trailers) == ([103], b"abc", {"check": "42"})
        assert answer.headers["trailer"] == "Check"
        client.ask()  # the connection goes on
        behind = service.take()
        behind.head()
        behind.say(OK)
        assert client.answer().body == b"ok"


def test_http_1_0_has_neither(fake: FakeHTTP, service: Service) -> None:
    with Asking(fake, "http/1.1") as client:
        client.client.send("GET / HTTP/1.0\r\n\r\n")
        behind = service.take()
        assert behind.fields()["host"] == service.url.removeprefix("http://")
        behind.say(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        behind.say(b"3\r\nabc\r\n0\r\nCheck: 42\r\n\r\n")
        head, _, body = client.client.until_end().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 ")
        assert body == "abc"


# ---- streams -------------------------------------------------------------------------------------


def test_both_bodies_are_passed_on_while_they_come(front: FakeHTTP, service: Service, version: str) -> None:
    with Asking(front, version) as client:
        h2 = isinstance(client.client, H2)
        headers = [] if h2 else [("transfer-encoding", "chunked")]
        client.ask("/", b"" if not h2 else None, method="POST", headers=headers, **({"end": False} if h2 else {}))

        def upload(data: bytes) -> None:
            if h2:
                client.client.data(client.number, data, end=not data)
            else:
                client.client.send(b"%x\r\n%s\r\n" % (len(data), data))

        behind = service.take()
        assert behind.fields()["transfer-encoding"] == "chunked"
        behind.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for word in (b"one", b"two", b"three"):
            upload(word)
            assert behind.until(b"%x\r\n%s\r\n" % (len(word), word))
            behind.say(b"%x\r\n%s\r\n" % (len(word), word))
            if h2:
                client.client.until(lambda word=word: client.client.answer_so_far(client.number).body.endswith(word))
        upload(b"")
        assert behind.until(b"0\r\n\r\n") == b"0\r\n\r\n"
        behind.say(b"0\r\n\r\n")
        assert client.answer().body == b"onetwothree"


def stalled(sock: socket.socket, data: bytes) -> int:
    """Send until nobody reads any more; how many bytes that were."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
    sock.settimeout(0.3)  # a fake that held everything would go on reading
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < len(data):
            sent += sock.send(data[sent : sent + 65536])
    sock.settimeout(None)
    return sent


def test_a_big_answer_waits_for_its_reader(fake: FakeHTTP, service: Service, version: str) -> None:
    """The server behind is slowed down: what the fake holds is bounded."""
    body = os.urandom(MEGABYTE) * 20
    with Asking(fake, version, receive_buffer=ROOM) as client:
        client.ask()
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        sent = stalled(behind.sock, body)
        assert sent < 14 * MEGABYTE  # 10 of which the system may hold
        if version == "h2":
            return  # its windows are smaller still, and a client that leaves now ends the request behind, too
        rest = threading.Thread(target=behind.say, args=(body[sent:],))
        rest.start()
        found = client.answer().body
        rest.join()
    assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()


def test_a_big_body_waits_for_the_server(fake: FakeHTTP, service: Service) -> None:
    body = os.urandom(MEGABYTE) * 20
    with Asking(fake, "http/1.1") as client:
        client.ask("/", b"", headers=[("content-length", str(len(body)))])
        behind = service.take()
        behind.head()
        sent = stalled(client.client.sock, body)
        assert sent < 14 * MEGABYTE  # 10 of which the system may hold
        rest = threading.Thread(target=client.client.send, args=(body[sent:],))
        rest.start()
        found = hashlib.sha256()
        left = len(body)
        while left:
            data = behind.buffer or behind.sock.recv(65536)
            behind.buffer = b""
            found.update(data)
            left -= len(data)
        rest.join()
        behind.say(OK)
        assert client.answer().status == 200
    assert found.digest() == hashlib.sha256(body).digest()


def test_many_at_a_time_over_one_connection(fake: FakeHTTP, service: Service) -> None:
    with H2(fake) as client:
        numbers = [client.request(f"/{i}") for i in range(20)]
        behinds = [service.take() for _ in numbers]
        for behind in reversed(behinds):
            path = behind.head()[0].split()[1].encode()
            behind.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
        assert [client.answer(number).body for number in numbers] == [b"/%d" % i for i in range(20)]


# ---- faults --------------------------------------------------------------------------------------


def test_rules_come_first(service: Service, version: str) -> None:
    refusing = rules(one("request", where={"path": "/no"}, status=503, body="not now"))
    with FakeHTTP(refusing, tls="none", upstream=service.url) as fake, Asking(fake, version) as client:
        client.ask("/no")
        answer = client.answer()
        assert (answer.status, answer.body) == (503, b"not now")
        assert service.idle()
        client.ask("/yes")
        behind = service.take()
        behind.head()
        behind.say(OK)
        assert client.answer().body == b"ok"


def test_a_rule_may_cut_an_answer(service: Service, version: str) -> None:
    cutting = rules(one("response", after_bytes=3, close="reset"))
    with FakeHTTP(cutting, tls="none", upstream=service.url) as fake, Asking(fake, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef")
        with pytest.raises(ConnectionResetError):
            client.client.until_end() if version != "h2" else client.client.rest()
        assert behind.gone()


# ---- a server that fails -------------------------------------------------------------------------


def told(client: Asking, fake: FakeHTTP) -> str:
    """The words of a 502, which the journal has as well."""
    answer = client.answer()
    assert (answer.status, answer.headers["content-type"]) == (502, "text/plain")
    said = answer.body.decode().rstrip("\n")
    assert [x for x in fake.journal if x.moment == "request"][-1].facts.app_error == said
    return said


def test_a_server_that_is_not_running(version: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://localhost:{sock.getsockname()[1]}"
    with FakeHTTP(tls="none", upstream=url) as fake, Asking(fake, version) as client:
        client.ask("/", b"abc")
        assert told(client, fake) == f"the upstream {url} cannot be reached: Connection refused"
        client.ask()  # the connection goes on
        assert told(client, fake)


@pytest.mark.parametrize(
    ("bytes_", "why"),
    [
        (b"", "has closed the connection without an answer|has sent no whole answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "has sent no whole answer: illegal status line"),
        (b"HTTP/1.1 200 OK\r\nContent-", "has sent no whole answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "has sent no whole answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000, "has sent no whole answer: Receive buffer too long"),
    ],
)
def test_an_answer_that_is_none(fake: FakeHTTP, service: Service, version: str, bytes_: bytes, why: str) -> None:
    with Asking(fake, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
        behind.say(bytes_)
        behind.sock.close()
        found = told(client, fake)
        assert found.startswith(f"the upstream {service.url} ")
        assert any(part in found for part in why.split("|"))


def test_a_server_that_breaks_off(fake: FakeHTTP, service: Service, version: str) -> None:
    """The client sees that its answer is not whole."""
    with Asking(fake, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        if version == "h2":
            client.client.until(lambda: client.client.answer_so_far(client.number).body)
        else:
            assert client.client.head().status == 200
        behind.sock.close()
        if version == "h2":
            assert client.answer().reset == "INTERNAL_ERROR"
        else:
            with pytest.raises((EOFError, ConnectionResetError)):
                client.client.exactly(6)
    request = [x for x in fake.journal if x.moment == "request"][-1].facts
    assert not request.whole
    assert "has sent no whole answer" in request.app_error


def test_a_server_that_answers_before_the_body_has_come(fake: FakeHTTP, service: Service, version: str) -> None:
    with Asking(fake, version) as client:
        h2 = isinstance(client.client, H2)
        headers = [("content-length", "100000")]
        client.ask("/", None if h2 else b"abc", method="POST", headers=headers, **({"end": False} if h2 else {}))
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        behind.sock.close()
        assert client.answer().status == 413


def test_a_server_that_takes_its_time_delays_nobody_else(fake: FakeHTTP, service: Service, version: str) -> None:
    with Asking(fake, version) as slow, Asking(fake, version) as quick:
        slow.ask("/slow")
        first = service.take()
        first.head()
        quick.ask("/quick")
        second = service.take()
        second.head()
        second.say(OK)
        assert quick.answer().body == b"ok"
        first.say(OK)
        assert slow.answer().body == b"ok"


# ---- a client that leaves ------------------------------------------------------------------------


def test_a_client_that_leaves_ends_the_request_behind(front: FakeHTTP, service: Service, version: str) -> None:
    with Asking(front, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
    assert behind.gone()


def test_a_client_that_cancels_ends_the_request_behind(fake: FakeHTTP, service: Service) -> None:
    with H2(fake) as client:
        number = client.request()
        behind = service.take()
        behind.head()
        behind.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        client.until(lambda: client.answer_so_far(number).body)
        client.rst(number)
        assert behind.gone()
        number = client.request()
        behind = service.take()
        behind.head()
        behind.say(OK)
        assert client.answer(number).body == b"ok"


def test_a_fake_that_stops_leaves_nothing_behind(service: Service, version: str) -> None:
    before = threading.active_count()
    with FakeHTTP(tls="none", upstream=service.url) as fake, Asking(fake, version) as client:
        client.ask()
        behind = service.take()
        behind.head()
        fake.stop()
        assert behind.gone()
    assert threading.active_count() == before


# ---- loops ---------------------------------------------------------------------------------------


def test_two_fakes_in_front_of_each_other_end_the_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with FakeHTTP(tls="none", upstream=f"http://127.0.0.1:{port}") as first:
        with FakeHTTP(tls="none", port=port, upstream=f"http://127.0.0.1:{first.port}") as second, H1(first) as client:
            answer = client.get()
    assert answer.status == 508
    assert answer.body == f"the upstream http://127.0.0.1:{second.port} sends the request back: a loop\n".encode()


# ---- clients that name another server ------------------------------------------------------------


@pytest.mark.parametrize("target", ["http://%s/x", "//%s/x", "/\\%s/x", "/@%s/x"])
def test_a_target_that_names_another_server_goes_to_the_same_one(fake: FakeHTTP, service: Service, target: str) -> None:
    """A fake is no open proxy: it connects to `upstream` alone (RFC 9110 §17.1)."""
    other = Service()
    host = other.url.removeprefix("http://")
    with Asking(fake, "http/1.1") as client:
        client.client.send(f"GET {target % host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        behind = service.take()
        line, _ = behind.head()
        behind.say(OK)
        assert client.client.answer().status == 200
    assert line.startswith("GET /")
    assert other.idle()
    other.close()


def test_a_tunnel_to_another_server_is_not_made(fake: FakeHTTP, service: Service) -> None:
    other = Service()
    host = other.url.removeprefix("http://")
    with Asking(fake, "http/1.1") as client:
        client.client.send(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert client.client.answer("GET").status in (501, 405, 400)
    assert service.idle()
    assert other.idle()
    other.close()
