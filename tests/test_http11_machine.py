"""An HTTP/1.1 client that pipelines, half-closes and leaves at any point, beside a model of what a server must answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hyperframe.frame import SettingsFrame
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.machines import run

from http_client import H1, H2, PREFACE, Answer
from notnow import FakeHTTP

HOST = "Host: a.test\r\n"
UPGRADE = HOST + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n"
# Heads that are refused, each with its status (RFC 9112 §3, §3.2, §6.1; RFC 9110 §15.6.6).
WRONG = {
    "GET /wrong HTTP/1.1\r\n": 400,
    f"GET /wrong HTTP/1.1\r\n{HOST}{HOST}": 400,
    f"GET /wrong HTTP/1.1\r\n{HOST}Content-Length: -1\r\n": 400,
    f"GET  /wrong HTTP/1.1\r\n{HOST}": 400,
    f"GET /wrong HTTP/3.0\r\n{HOST}": 505,
    f"POST /wrong HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip\r\n": 501,
}


@dataclass
class Request:
    """A request that was begun. `left` are the bytes of its body still to come; None where it is chunked."""

    path: str
    method: str = "GET"
    body: bytes = b""
    last: bool = False  # the connection ends behind its answer
    left: int | None = 0
    waits: bool = False  # it may get a 100 (Continue)


class Client(RuleBasedStateMachine):
    """A connection; after its end, the next one."""

    fake: FakeHTTP

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.connect()

    def connect(self) -> None:
        self.client = H1(self.fake)
        self.waiting = list[Request]()  # whole, and not answered yet
        self.partial: Request | None = None
        self.over = False  # the server reads no further request
        self.heard = list[str]()  # the paths of requests that were answered
        self.port = self.client.sock.getsockname()[1]

    def teardown(self) -> None:
        self.client.close()

    def say(self, text: str, body: bytes = b"", cut: int = 0) -> None:
        """In two pieces. Once it is over, the server may have gone."""
        said = text.encode() + body
        with contextlib.suppress(ConnectionError) if self.over else contextlib.nullcontext():
            self.client.send(said[:cut])
            self.client.send(said[cut:])

    def path(self) -> str:
        self.begun += 1
        return f"/{self.begun}"

    def whole(self, request: Request) -> None:
        if not self.over:
            self.waiting.append(request)
            self.over = request.last

    # ---- requests --------------------------------------------------------------------------------

    @precondition(lambda self: self.partial is None)
    @rule(
        method=st.sampled_from(["GET", "HEAD", "DELETE", "get"]),
        empty=st.sampled_from(["", "\r\n", "\n\r\n"]),
        ending=st.sampled_from(["", "", "", "Connection: close\r\n", "Upgrade: websocket\r\nConnection: upgrade\r\n"]),
        cut=st.integers(0, 60),
    )
    def ask(self, method: str, empty: str, ending: str, cut: int) -> None:
        """Empty lines before it are skipped (RFC 9112 §2.2), and an upgrade to what we do not speak (RFC 9110 §7.8)."""
        request = Request(self.path(), method, last="close" in ending)
        self.say(f"{empty}{method} {request.path} HTTP/1.1\r\n{HOST}{ending}\r\n", cut=cut)
        self.whole(request)

    @precondition(lambda self: self.partial is None)
    @rule(body=st.binary(max_size=40), old=st.booleans(), cut=st.integers(0, 90))
    def post(self, body: bytes, old: bool, cut: int) -> None:
        """The answer to HTTP/1.0 is the last (RFC 9112 §9.3)."""
        request = Request(self.path(), "POST", body, last=old)
        head = f"POST {request.path} HTTP/1.{int(not old)}\r\n{HOST}Content-Length: {len(body)}\r\n\r\n"
        self.say(head, body, cut)
        self.whole(request)

    @precondition(lambda self: self.partial is None and not self.over)
    @rule(size=st.none() | st.integers(1, 60), waits=st.booleans(), last=st.booleans())
    def begin(self, size: int | None, waits: bool, last: bool) -> None:
        request = self.partial = Request(self.path(), "PUT", last=last, left=size, waits=waits)
        framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
        more = "Expect: 100-continue\r\n" * waits + "Connection: close\r\n" * last
        self.say(f"PUT {request.path} HTTP/1.1\r\n{HOST}{framing}\r\n{more}\r\n")

    @precondition(lambda self: self.partial is not None and self.partial.waits and not self.partial.body)
    @rule()
    def wait_to_continue(self) -> None:
        """The answers to what was asked before come first (RFC 9110 §10.1.1)."""
        self.read_all()
        assert (self.client.line(), self.client.line()) == ("HTTP/1.1 100 ", "")
        assert self.partial is not None
        self.partial.waits = False

    @precondition(lambda self: self.partial is not None)
    @rule(data=st.binary(min_size=1, max_size=20), cut=st.integers(0, 30))
    def send(self, data: bytes, cut: int) -> None:
        request = self.partial
        assert request is not None
        if request.left is not None:
            data = data[: request.left]
            request.left -= len(data)
            self.say("", data, cut)
        else:
            self.say(f"{len(data):x};a=b\r\n", data + b"\r\n", cut)
        request.body += data
        if request.left == 0:
            self.end_body()

    @precondition(lambda self: self.partial is not None and self.partial.left is None)
    @rule(trailer=st.sampled_from(["", "X-Sum: 1\r\n"]))
    def last_chunk(self, trailer: str) -> None:
        self.say(f"0\r\n{trailer}\r\n")
        self.end_body()

    def end_body(self) -> None:
        request, self.partial = self.partial, None
        assert request is not None
        self.whole(request)

    # ---- answers ---------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule()
    def read(self) -> None:
        """Its answer is the echo of what was asked, in the order of the requests (RFC 9112 §9.3.2)."""
        request = self.waiting.pop(0)
        answer = self.client.answer(request.method)
        assert answer.status == 200
        assert answer.early in ([], [100]) if request.waits else answer.early == []
        assert (answer.headers.get("connection") == "close") == request.last
        if request.method != "HEAD":
            self.is_echo(answer, request)
        self.heard.append(request.path)
        if request.last:
            self.ends()

    def is_echo(self, answer: Answer, request: Request) -> None:
        said = answer.said
        assert (said["method"], said["path"]) == (request.method, request.path)
        assert said["body"] == request.body.decode("utf-8", "replace")

    def read_all(self) -> None:
        while self.waiting:
            self.read()

    def ends(self, error: str | None = None) -> None:
        """Nothing comes behind the last answer; the journal has what was answered, and nobody looked at the rest."""
        assert self.client.ended
        self.client.close()
        self.agrees(error)
        self.connect()

    # ---- other ends ------------------------------------------------------------------------------

    @precondition(lambda self: self.partial is None and not self.over)
    @rule(head=st.sampled_from(sorted(WRONG)))
    def err(self, head: str) -> None:
        """What was asked before is answered first; then comes the refusal, and the end (RFC 9112 §9.6)."""
        self.say(f"{head}\r\nGET /smuggled HTTP/1.1\r\n{HOST}\r\n")
        self.read_all()
        answer, status = self.client.answer(), WRONG[head]
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        self.ends(f"HTTP/1.1 {status} ")

    @rule()
    def half_close(self) -> None:
        """Whole requests are answered all the same; the rest of one never comes (RFC 9112 §8)."""
        client, cut, self.partial, self.over = self.client, self.partial, None, True
        client.half_close()
        self.read_all()
        if self.client is not client:
            return
        rest, client.buffer = client.until_end(), b""
        assert not rest or (cut is not None and cut.waits and rest == "HTTP/1.1 100 \r\n\r\n")
        self.ends()

    @rule(with_reset=st.booleans())
    def leave(self, with_reset: bool) -> None:
        (self.client.reset if with_reset else self.client.close)()
        self.connect()

    @precondition(lambda self: self.partial is None and not self.over)
    @rule()
    def upgrade(self) -> None:
        """To HTTP/2 (RFC 7540 §3.2): stream 1 is the request that asked for it."""
        path = self.path()
        self.say(f"GET {path} HTTP/1.1\r\n{UPGRADE}\r\n")
        self.read_all()
        assert self.client.head().status == 101
        with H2(self.fake, hello=False) as other:
            other.sock, self.client.sock = self.client.sock, other.sock
            other.buffer, other.next = self.client.buffer, 3
            other.send(PREFACE + SettingsFrame(0).serialize())
            assert other.answer(1).said["path"] == path
            assert other.get("/more").status == 200
        self.client.close()
        self.connect()

    # ---- always ----------------------------------------------------------------------------------

    @invariant()
    def agrees(self, error: str | None = None) -> None:
        """The journal has the requests that were answered, in their order, and no mistake of the client but this."""
        if self.waiting or not self.heard:
            return
        record = next(one for one in reversed(self.fake.journal.connections) if one.peer_port == self.port)
        answered = [x for x in record.exchanges if x.http is not None and x.code is not None]
        assert [(x.http.path, x.code) for x in answered] == [(path, 200) for path in self.heard]
        assert (record.error or "").startswith(error or "")
        assert error or record.error is None


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeHTTP]:
    with FakeHTTP(tls="none", journal_limit=1_000) as fake:
        yield fake


def test_any_order_of_requests(fake: FakeHTTP) -> None:
    Client.fake = fake
    run(Client)
