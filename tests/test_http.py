"""FakeHTTP as a server: HTTP/2 and HTTP/1.1 on real sockets, the user's app behind them, and what the journal says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket
from collections.abc import Iterator

import pytest
from hyperframe.frame import DataFrame, RstStreamFrame, SettingsFrame

from http_client import H1, H2, PREFACE, one, rules
from notnow import FakeHTTP
from notnow.journal import Exchange
from notnow.servers.base import turns

pytestmark = pytest.mark.usefixtures("each_loop")

MEGABYTE = 1024 * 1024


def serving(app, **given) -> FakeHTTP:
    """A fake with an app that has no ear for its lifespan."""

    async def only_http(scope, receive, send):
        if scope["type"] == "http":
            await app(scope, receive, send)

    return FakeHTTP(app=only_http, **{"tls": "none", **given})


async def body_of(receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        more = message["more_body"]
    return bytes(body)


async def answer(send, body: bytes = b"", status: int = 200, headers=()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(params=["none", "implicit"])
def fake(request) -> Iterator[FakeHTTP]:
    with FakeHTTP(tls=request.param) as fake:
        yield fake


def last(fake: FakeHTTP) -> Exchange:
    return [x for x in fake.journal if x.moment == "request"][-1]


class TestHTTP2:
    def test_a_request_comes_back_as_json(self, fake):
        with H2(fake) as client:
            got = client.get("/a%20b?x=1&y", authority="www.test:1", headers=[("x-mine", "1"), ("x-mine", "2")])
        assert (got.status, got.headers["content-type"]) == (200, "application/json")
        assert got.headers["content-length"] == str(len(got.body))
        assert got.said == {
            "method": "GET",
            "scheme": "https" if fake.tls == "implicit" else "http",
            "authority": "www.test:1",
            "path": "/a b",
            "query": "x=1&y",
            "headers": [["host", "www.test:1"], ["x-mine", "1"], ["x-mine", "2"]],
            "body": "",
            "version": "2",
        }

    def test_a_body(self, fake):
        with H2(fake) as client:
            assert client.get("/", b"some text", method="PUT").said["body"] == "some text"
            assert client.get("/", b"").said["body"] == ""

    def test_host_where_there_is_no_authority(self, fake):
        with H2(fake) as client:
            number, sent = client.head()
            block = client.encoder.encode(client.headers("GET", "/", None, [("host", "other.test")]))
            client.send(sent[:0] + _headers(number, block))
            assert client.answer(number).said["authority"] == "other.test"

    def test_over_tls_by_alpn_and_in_clear_by_prior_knowledge(self):
        for tls, alpn in (("implicit", "h2"), ("none", None)):
            with FakeHTTP(tls=tls) as fake, H2(fake) as client:
                assert client.get().said["version"] == "2"
                found = fake.journal.connections[0].tls
                assert (found.alpn if found else None) == alpn

    def test_prior_knowledge_in_tls_without_alpn(self):
        with FakeHTTP(tls="implicit") as fake, H2(fake, alpn=()) as client:
            assert client.get().said["version"] == "2"

    def test_prior_knowledge_that_comes_in_pieces(self):
        with FakeHTTP(tls="none") as fake, H2(fake, hello=False) as client:
            _, sent = client.head()
            for byte in PREFACE + SettingsFrame(0).serialize() + sent:
                client.send(bytes([byte]))
                if byte == 10:
                    fake.settle()
            assert client.answer(1).status == 200

    @pytest.mark.parametrize("behind", ["", "another"])
    def test_upgrade_from_http_1_1(self, behind):
        """RFC 7540 §3.2: the request becomes stream 1."""
        with FakeHTTP(tls="none") as fake, H2(fake, hello=False) as client:
            asked = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10}).serialize_body()
            settings = base64.urlsafe_b64encode(asked).rstrip(b"=").decode()
            client.send(
                "GET /first HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                f"HTTP2-Settings: {settings}\r\n\r\n"
            )
            if behind:
                client.next = 3
                client.send(PREFACE + SettingsFrame(0).serialize() + client.head("/second")[1])
            assert client.line() == "HTTP/1.1 101 "
            while client.line():
                pass
            if not behind:
                client.send(PREFACE + SettingsFrame(0).serialize())
            client.next = 5
            first = client.answer(1).said
            assert (first["path"], first["authority"], first["version"]) == ("/first", "a.test", "2")
            assert max(len(f.data) for f in client.frames if isinstance(f, DataFrame) and f.stream_id == 1) <= 10
            if behind:
                assert client.answer(3).said["path"] == "/second"
            assert client.get("/third").said["path"] == "/third"

    def test_an_upgrade_with_a_body_is_not_done(self):
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            upgrade = [("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "")]
            assert client.get("/", b"123", headers=upgrade).said["version"] == "1.1"

    def test_head_and_answers_without_a_body(self, fake):
        with H2(fake) as client:
            got = client.get(method="HEAD")
            assert (got.status, got.body) == (200, b"")
            assert int(got.headers["content-length"]) > 100

    @pytest.mark.parametrize("version", [H1, H2])
    @pytest.mark.parametrize("status", [204, 304])
    def test_a_status_that_has_no_body(self, version, status):
        async def app(scope, receive, send):
            await answer(send, status=status)

        with serving(app) as fake, version(fake) as client:
            for _ in range(3):
                got = client.get()
                assert (got.status, got.body) == (status, b"")
                assert "content-length" not in got.headers
                assert "transfer-encoding" not in got.headers

    def test_many_streams_at_a_time(self, fake):
        with H2(fake) as client:
            heads = [client.head(f"/{i}") for i in range(100)]
            client.send(b"".join(sent for _, sent in heads))
            assert [client.answer(number).said["path"] for number, _ in heads] == [f"/{i}" for i in range(100)]

    def test_streams_do_not_wait_for_each_other(self):
        """Nor does who has been asked later."""
        let = asyncio.Event()

        async def app(scope, receive, send):
            if scope["path"] == "/slow":
                await let.wait()
            else:
                let.set()
            await answer(send, scope["path"].encode())

        with serving(app) as fake, H2(fake) as client:
            slow, fast = client.request("/slow"), client.request("/fast")
            assert client.answer(fast).body == b"/fast"
            assert client.answer(slow).body == b"/slow"

    def test_interleaved_bodies(self, fake):
        with H2(fake) as client:
            streams = [client.request("/", end=False, method="POST") for _ in range(10)]
            for piece in range(5):
                for number in streams:
                    client.data(number, b"%d:%d " % (number, piece))
            for number in streams:
                client.data(number, b"", end=True)
            for number in streams:
                assert client.answer(number).said["body"] == "".join(f"{number}:{piece} " for piece in range(5))

    def test_trailers_and_padding_are_taken(self, fake):
        with H2(fake) as client:
            number = client.request(method="POST", end=False)
            padded = DataFrame(number, b"body", pad_length=100, flags=["PADDED"])
            client.send(padded.serialize())
            block = client.encoder.encode([("x-trailer", "1")])
            client.send(_headers(number, block, end=True))
            assert client.answer(number).said["body"] == "body"

    def test_a_cancelled_stream_leaves_the_others_alone(self, fake):
        with H2(fake) as client:
            other = client.request(method="POST", end=False)
            cancelled = client.request(method="POST", end=False)
            client.rst(cancelled)
            client.data(other, b"1", end=True)
            assert client.answer(other).said["body"] == "1"
            fake.settle()
            assert fake.journal.exchanges[2].reply is None

    def test_what_is_under_way_is_finished_though_the_client_takes_its_leave(self):
        """A GOAWAY of a client says that it takes no pushes (RFC 9113 §6.8); its requests are answered."""
        let = asyncio.Event()

        async def app(scope, receive, send):
            await let.wait()
            await answer(send, b"x" * 100_000)

        with serving(app) as fake, H2(fake) as client:
            number = client.request()
            client.go_away()
            client.ping()
            fake._bridge.loop.call_soon_threadsafe(let.set)
            assert len(client.answer(number).body) == 100_000
            client.rest()
            assert not fake.journal.connections[0].error

    def test_a_connection_is_kept_however_many_bodies_nobody_reads(self):
        """What an app has left unread is given credit for: else the window of the connection would be used up."""

        async def app(scope, receive, send):
            if scope["path"] == "/reads":
                await receive()
            await answer(send)

        with serving(app) as fake, H2(fake) as client:
            for i in range(300):
                assert client.get("/reads" if i % 3 == 0 else "/", b"x" * 60_000).status == 200
            assert client.room > 10 * MEGABYTE


def _headers(number: int, block: bytes, end: bool = True) -> bytes:
    from hyperframe.frame import HeadersFrame

    return HeadersFrame(number, block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])]).serialize()


class TestHTTP11:
    def test_a_request_comes_back_as_json(self, fake):
        with H1(fake) as client:
            got = client.get("/a?b", headers=[("Host", "www.test"), ("X-Mine", "ü")])
        assert got.said["headers"] == [["host", "www.test"], ["x-mine", "ü"]]
        assert (got.said["authority"], got.said["version"], got.said["path"]) == ("www.test", "1.1", "/a")

    def test_keep_alive(self, fake):
        with H1(fake) as client:
            for i in range(20):
                assert client.get(f"/{i}", b"x" * i if i % 2 else None).said["body"] == ("x" * i if i % 2 else "")
            client.ask("/last", headers=[("Connection", "close")])
            got = client.answer()
            assert got.headers["connection"] == "close"
            assert client.ended
        assert len(fake.journal.connections) == 1

    def test_tls_without_alpn_is_http_1_1(self):
        with FakeHTTP(tls="implicit") as fake, H1(fake, alpn=()) as client:
            assert client.get().said["version"] == "1.1"
            assert client.tls.selected_alpn_protocol() is None

    def test_pipelining(self, fake):
        with H1(fake) as client:
            client.send(
                b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n%03d" % (i, i) for i in range(50))
            )
            for i in range(50):
                got = client.answer().said
                assert (got["path"], got["body"]) == (f"/{i}", f"{i:03d}")

    @pytest.mark.parametrize("behind", ["GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", "garbage" * 100_000])
    def test_what_a_client_says_behind_its_last_request_is_dropped(self, fake, behind):
        """RFC 9112 §9.6: it has said "close"; its request is answered all the same."""
        with H1(fake) as client:
            client.send("POST /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\n123" + behind)
            answer = client.answer()
            assert (answer.said["body"], answer.headers["connection"]) == ("123", "close")
            assert client.ended
        record = fake.journal.connections[-1]
        assert ([x.http.path for x in record.exchanges if x.http], record.error) == (["/1"], None)

    def test_chunked_bodies(self, fake):
        with H1(fake) as client:
            for _ in range(2):
                client.ask("/", method="POST", headers=[("Transfer-Encoding", "chunked")])
                for piece in (b"5;ext=1\r\nhello\r\n", b"6\r\n", b" world\r\n", b"0\r\nX-Trailer: 1\r\n\r\n"):
                    client.send(piece)
                assert client.answer().said["body"] == "hello world"

    def test_an_answer_of_unknown_length_is_chunked_or_ends_with_the_connection(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for i in range(3):
                await send({"type": "http.response.body", "body": b"%d " % i, "more_body": True})
            await send({"type": "http.response.body"})

        with serving(app) as fake:
            with H1(fake) as client:
                got = client.get()
                assert (got.headers["transfer-encoding"], got.body) == ("chunked", b"0 1 2 ")
                client.ask(version="1.0")
                got = client.answer()
                assert "transfer-encoding" not in got.headers
                assert got.body == b"0 1 2 "
            with H2(fake) as two:
                assert two.get().body == b"0 1 2 "

    def test_head(self, fake):
        with H1(fake) as client:
            got = client.get(method="HEAD")
            assert int(got.headers["content-length"]) > 100
            assert client.get("/next").said["path"] == "/next"

    def test_http_1_0(self, fake):
        with H1(fake) as client:
            client.send("GET /old HTTP/1.0\r\n\r\n")
            got = client.answer()
            assert (got.said["version"], got.said["authority"]) == ("1.0", "")
            assert client.ended
        assert last(fake).facts.version == "1.0"

    def test_expect_100_continue(self, fake):
        with H1(fake) as client:
            client.ask("/", method="PUT", headers=[("Content-Length", "3"), ("Expect", "100-continue")])
            assert client.line() == "HTTP/1.1 100 "
            while client.line():
                pass
            client.send(b"123")
            assert client.answer().said["body"] == "123"
            assert client.get("/next").said["path"] == "/next"

    def test_expect_100_continue_on_http_2(self, fake):
        with H2(fake) as client:
            number = client.request(
                method="PUT", end=False, headers=[("content-length", "3"), ("expect", "100-continue")]
            )
            client.until(lambda: client.answer_so_far(number).early)
            client.data(number, b"123", end=True)
            got = client.answer(number)
            assert (got.early, got.said["body"]) == ([100], "123")

    @pytest.mark.parametrize(
        ("target", "path", "query", "authority"),
        [
            ("http://other.test:81/x?y=1", "/x", "y=1", "other.test:81"),
            ("https://other.test", "/", "", "other.test"),
            ("http://other.test?q", "/", "q", "other.test"),
            ("*", "*", "", "here.test"),
            ("/http://a.test/", "/http://a.test/", "", "here.test"),
            ("http://[::1]:80/", "/", "", "[::1]:80"),
            ("//x/y", "//x/y", "", "here.test"),
        ],
    )
    def test_targets(self, target, path, query, authority):
        """Absolute-form (RFC 9112 §3.2.2) and others."""
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            client.ask(target, method="OPTIONS" if target == "*" else "GET", headers=[("Host", "here.test")])
            got = client.answer().said
            assert (got["path"], got["query"], got["authority"]) == (path, query, authority)
            assert (fake.journal.exchanges[1].facts.authority, fake._bridge.errors) == (authority, [])

    def test_connect_names_an_authority(self):
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            client.ask("other.test:443", method="CONNECT", headers=[("Host", "here.test")])
            fake.wait_for(lambda j: j.count("request"))
            facts = fake.journal.exchanges[1].facts
            assert (facts.authority, facts.path) == ("other.test:443", "")

    @pytest.mark.parametrize("how", ["a request", "two requests", "a request and half of another", "half a request"])
    def test_a_client_that_ends_its_side_gets_its_answers(self, how):
        """As `printf … | nc -N` does; what is not whole will never be."""
        whole, half = (
            b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123",
        )
        said = {
            "a request": [whole % 1],
            "two requests": [whole % 1, whole % 2],
            "a request and half of another": [whole % 1, half],
            "half a request": [half],
        }[how]
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            client.send(b"".join(said))
            client.sock.shutdown(socket.SHUT_WR)
            answers = client.until_end().count("HTTP/1.1 200 ")
            assert answers == sum(piece is not half for piece in said)
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert not fake._bridge.sessions or not fake.wait_for(lambda j: not fake._bridge.sessions)

    def test_a_websocket_is_not_opened(self):
        with FakeHTTP(tls="none") as fake, H1(fake) as client:
            headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", "x")]
            assert client.get(headers=headers).status == 200


class TestBigBodies:
    """Both ways, with windows that are small, and with clients and apps that take their time."""

    BIG = b"".join(b"%07d\n" % i for i in range(400_000))  # 3.2 MB

    async def mirror(self, scope, receive, send):
        """Sends back what it gets as it gets it."""
        await send({"type": "http.response.start", "status": 200})
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            more = message["more_body"]
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    async def sender(self, scope, receive, send):
        await answer(send, self.BIG)

    async def digest(self, scope, receive, send):
        await answer(send, hashlib.sha256(await body_of(receive)).hexdigest().encode())

    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @pytest.mark.parametrize("version", [H1, H2])
    def test_up_and_down(self, version, tls):
        with serving(self.digest, tls=tls) as fake, version(fake) as client:
            assert client.get("/", self.BIG).body.decode() == hashlib.sha256(self.BIG).hexdigest()
            facts = last(fake).facts
            assert facts.body_bytes == len(self.BIG)
            assert facts.body_sha256 == hashlib.sha256(self.BIG).hexdigest()
        with serving(self.sender, tls=tls) as fake, version(fake) as client:
            assert client.get().body == self.BIG
            assert last(fake).facts.sent == len(self.BIG)

    @pytest.mark.parametrize("window", [1, 1000, 2**31 - 1])
    def test_an_answer_in_small_windows(self, window):
        async def app(scope, receive, send):
            await answer(send, self.BIG[: 300 if window == 1 else 200_000])

        with serving(app) as fake, H2(fake, window=window) as client:
            assert client.get().body == self.BIG[: 300 if window == 1 else 200_000]
            assert max(len(f.data) for f in client.frames if isinstance(f, DataFrame)) <= min(window, 16_384)

    @pytest.mark.parametrize("on", ["request", "connect"])
    def test_an_answer_of_a_rule_in_small_windows(self, on):
        """The client opens its window by frames, which are read meanwhile."""
        rule = one(on, status=421, body="x" * 100_000)
        with FakeHTTP(rules(rule), tls="none") as fake, H2(fake, window=1000) as client:
            numbers = [client.request() for _ in range(3)]
            assert [len(client.answer(number).body) for number in numbers] == [100_000] * 3
            assert last(fake).facts.whole

    def test_a_body_is_taken_as_the_app_takes_it(self):
        """The client's window is not opened again before: backpressure goes through."""
        let = asyncio.Event()

        async def app(scope, receive, send):
            await let.wait()
            await self.digest(scope, receive, send)

        with serving(app) as fake, H2(fake) as client:
            number = client.request(method="POST", end=False)
            client.upload(number, self.BIG[:65_535], end=False)
            client.ping()
            assert client.rooms[number] == 0
            fake._bridge.loop.call_soon_threadsafe(let.set)
            client.until(lambda: client.rooms[number] == 65_535)
            client.upload(number, self.BIG[65_535:])
            assert client.answer(number).body.decode() == hashlib.sha256(self.BIG).hexdigest()

    def test_on_http_1_1_the_socket_is_left_unread(self):
        let = asyncio.Event()

        async def app(scope, receive, send):
            await let.wait()
            await self.digest(scope, receive, send)

        with serving(app) as fake, H1(fake) as client:
            client.ask("/", method="POST", headers=[("Content-Length", str(10 * len(self.BIG)))])
            client.sock.setblocking(False)
            sent = 0
            try:
                while sent < 10 * len(self.BIG):
                    piece = self.BIG[sent % len(self.BIG) :][:65_536]
                    sent += client.sock.send(piece)
                    fake.settle()
            except BlockingIOError:
                pass
            assert sent < 10 * len(self.BIG)
            session = next(iter(fake._bridge.sessions.values()))
            assert len(session._inbox) < MEGABYTE
            fake._bridge.loop.call_soon_threadsafe(let.set)
            client.sock.settimeout(client.patience)
            while sent < 10 * len(self.BIG):
                piece = self.BIG[sent % len(self.BIG) :][:65_536]
                client.send(piece)
                sent += len(piece)
            assert client.answer().body.decode() == hashlib.sha256(self.BIG * 10).hexdigest()

    def test_an_app_waits_for_a_client_that_does_not_read(self):
        sent = []

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            for i in range(64):
                await send({"type": "http.response.body", "body": b"x" * MEGABYTE, "more_body": True})
                sent.append(i)
            await send({"type": "http.response.body"})

        for version, given in ((H2, {"credit": False}), (H2, {"window": 2**31 - 1, "credit": False}), (H1, {})):
            sent.clear()
            with serving(app) as fake, version(fake, **given) as client:
                if version is H2:
                    client.more(2**30) if given.get("window") else None
                    client.request()
                    client.until(lambda: client.answer_so_far(1).status)
                else:
                    client.ask()
                    client.head()
                fake.settle()
                assert len(sent) < 20
                client.reset()
                fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)

    def test_bidirectional(self):
        with serving(self.mirror) as fake, H2(fake) as client:
            number = client.request(method="POST", end=False)
            for i in range(20):
                client.data(number, b"%d" % i)
                client.until(lambda i=i: client.answer_so_far(number).body.endswith(b"%d" % i))
            client.upload(number, self.BIG)
            assert client.answer(number).body.endswith(self.BIG)


class TestApp:
    def test_its_scope(self):
        scopes = []

        async def app(scope, receive, send):
            scopes.append(scope)
            await answer(send)

        with serving(app, tls="implicit") as fake:
            with H2(fake) as client:
                client.get("/a%20b/%C3%BC?x=%20", headers=[("x-mine", "1")])
            with H1(fake) as client:
                client.get()
                port = client.sock.getsockname()[1]
            two, one_ = [scope for scope in scopes if scope["type"] == "http"]
            assert two["type"] == "http"
            assert (two["asgi"]["version"], two["http_version"], two["method"], two["scheme"]) == (
                "3.0",
                "2",
                "GET",
                "https",
            )
            assert (two["path"], two["raw_path"], two["query_string"]) == ("/a b/ü", b"/a%20b/%C3%BC", b"x=%20")
            assert (two["root_path"], two["server"]) == ("", ("127.0.0.1", fake.port))
            assert two["headers"] == [(b"host", b"localhost:%d" % fake.port), (b"x-mine", b"1")]
            assert two["extensions"]["notnow"] == {"connection": 1, "stream": 1}
            assert (one_["http_version"], one_["client"]) == ("1.1", ("127.0.0.1", port))

    @pytest.mark.parametrize("version", [H1, H2])
    @pytest.mark.parametrize(
        "what",
        [
            "raises",
            "raises a ConnectionError",
            "raises a group",
            "returns",
            "a bad header",
            "a bad status",
            "a body first",
        ],
    )
    def test_its_errors_are_a_500_and_logged(self, version, what, caplog):
        async def app(scope, receive, send):
            if scope["path"] == "/good":
                await answer(send, b"good")
            elif what == "raises":
                raise ValueError("of mine")
            elif what == "raises a ConnectionError":
                raise ConnectionRefusedError("of mine")
            elif what == "raises a group":
                raise ExceptionGroup("of mine", [OSError("of mine")])
            elif what == "a bad header":
                await answer(send, headers=[(b"x y", b"of mine")] if version is H1 else [("x", "of mine")])
            elif what == "a bad status":
                await answer(send, status="of mine")
            elif what == "a body first":
                await send({"type": "http.response.body", "body": b"of mine"})

        with serving(app) as fake, version(fake) as client:
            got = client.get()
            assert got.status == 500
            assert b"of mine" not in got.body
            assert last(fake).facts.app_error
            assert client.get("/good").body == b"good"
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("notnow", logging.ERROR)
        assert record.exc_info
        assert "GET localhost" in record.getMessage()

    @pytest.mark.parametrize("version", [H1, H2])
    @pytest.mark.parametrize("head", [(200, [(b"x-good", b"1"), (b":x", b"2")]), (103, [(b"x-good", b"1")])])
    def test_a_head_that_cannot_be_sent_is_a_500_and_later_ones_are_not_touched(self, version, head, caplog):
        """Nothing of it stays in HPACK's table, which the client does not share then."""

        async def app(scope, receive, send):
            if scope["path"] == "/good":
                await answer(send, headers=[(b"x-one", b"1"), (b"x-two", b"2")])
            else:
                await answer(send, status=head[0], headers=head[1])

        with serving(app) as fake, version(fake) as client:
            for _ in range(4):
                assert client.get("/good").headers.items() >= {("x-one", "1"), ("x-two", "2")}
                assert client.get("/bad").status == 500

    def test_trailers_of_an_answer_without_a_body(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "trailers": True})
            await send({"type": "http.response.body"})
            await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})

        with serving(app) as fake, H2(fake) as client:
            for _ in range(3):
                assert client.get().trailers == {"grpc-status": "0"}
            fake.settle()
            (session,) = fake._bridge.sessions.values()
            assert not session.switch.protocol.stream_buffers

    @pytest.mark.parametrize("version", [H1, H2])
    def test_an_error_amid_its_answer_cuts_it(self, version, caplog):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ValueError

        with serving(app) as fake, version(fake) as client:
            if version is H2:
                got = client.get()
                assert (got.status, got.reset, got.ended) == (200, "INTERNAL_ERROR", False)
                assert client.get().reset
            else:
                client.ask()
                with pytest.raises((EOFError, ConnectionResetError)):
                    client.answer()
            assert last(fake).facts.status == 200
        assert caplog.records

    @pytest.mark.parametrize("version", [H1, H2])
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @pytest.mark.parametrize("how", ["close", "reset"])
    @pytest.mark.parametrize("body", [b"", None])
    def test_it_is_told_that_the_client_has_gone(self, version, tls, how, body, caplog):
        got = []

        async def app(scope, receive, send):
            while not got or got[-1]["type"] == "http.request":
                got.append(await receive())
            try:
                await answer(send, b"x" * MEGABYTE)
                await answer(send, b"x" * MEGABYTE)
            except OSError as error:  # as ASGI has it
                got.append({"type": type(error).__name__})
                raise

        with serving(app, tls=tls) as fake:
            client = version(fake)
            if version is H2:
                client.request(body=body)
            else:
                client.ask(body=body)
            fake.wait_for(lambda j: got)
            getattr(client, how)()
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            assert [m["type"] for m in got[:2]] == ["http.request", "http.disconnect"]
            assert not fake._bridge.errors
        assert caplog.records == []

    @pytest.mark.parametrize("version", [H1, H2])
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    def test_it_may_leave_without_an_answer_when_the_client_has_gone(self, version, tls, caplog):
        async def app(scope, receive, send):
            while (await receive())["type"] != "http.disconnect":
                pass

        with serving(app, tls=tls) as fake:
            with version(fake) as client:
                client.request() if version is H2 else client.ask()
                fake.wait_for(lambda j: j.count("request"))
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            assert last(fake).reply is None
            assert last(fake).facts.app_error is None
        assert caplog.records == []

    def test_a_cancelled_stream_is_a_disconnect(self, caplog):
        got = []

        async def app(scope, receive, send):
            while not got or got[-1]["type"] == "http.request":
                got.append(await receive())
            await answer(send, b"too late")

        with serving(app) as fake, H2(fake) as client:
            number = client.request()
            fake.wait_for(lambda j: got)
            client.rst(number)
            fake.wait_for(lambda j: got[-1]["type"] == "http.disconnect")
            client.ping()
            assert client.answer_so_far(number).status is None
            fake.wait_for(lambda j: len(fake._bridge.tasks) == 2)  # those of the connection
        assert caplog.records == []

    def test_a_cancelled_stream_whose_window_is_closed_lets_its_app_go(self, caplog):
        async def app(scope, receive, send):
            await answer(send, b"x" * 100_000)

        with serving(app) as fake, H2(fake, window=0) as client:
            number = client.request()
            fake.wait_for(lambda j: any(x.reply for x in j))
            client.rst(number)
            fake.wait_for(lambda j: len(fake._bridge.tasks) == 2)  # those of the connection
        assert caplog.records == []

    @pytest.mark.parametrize("version", [H1, H2])
    def test_it_may_never_answer(self, version):
        async def app(scope, receive, send):
            await asyncio.get_running_loop().create_future()

        with serving(app) as fake, version(fake) as client:
            client.request() if version is H2 else client.ask()
            fake.wait_for(lambda j: j.count("request"))
            if version is H2:
                client.ping()
                assert client.answer_so_far(1).status is None
            fake.settle()
            assert client.silent() if version is H1 else True

    @pytest.mark.parametrize("version", [H1, H2])
    def test_of_a_body_that_it_does_not_read_the_rest_is_dropped(self, version):
        async def app(scope, receive, send):
            await answer(send, b"early", headers=[(b"content-length", b"5")])

        with serving(app) as fake, version(fake) as client:
            for _i in range(3):
                assert client.get("/", b"x" * MEGABYTE).body == b"early"
            requests = [x for x in fake.journal if x.moment == "request"]
            fake.wait_for(lambda j: [x.http.body_bytes for x in requests] == [MEGABYTE] * 3)

    def test_what_it_says_after_the_end_is_nothing(self):
        async def app(scope, receive, send):
            await answer(send, b"1")
            await send({"type": "http.response.body", "body": b"2"})

        with serving(app) as fake, H1(fake) as client:
            assert client.get().body == b"1"


class TestJournal:
    def test_of_a_connection_in_tls(self):
        with FakeHTTP(tls="implicit") as fake:
            with H2(fake, sni="localhost") as client:
                client.get()
                tls = fake.journal.connections[0].tls
                assert (tls.version, tls.sni, tls.alpn, tls.certificate) == (
                    client.tls.version(),
                    "localhost",
                    "h2",
                    "default",
                )
            with H1(fake, sni=None) as client:
                client.get()
                tls = fake.journal.connections[1].tls
                assert (tls.sni, tls.alpn, tls.error) == (None, "http/1.1", None)

    @pytest.mark.parametrize("version", [H1, H2])
    def test_of_a_request(self, version):
        with FakeHTTP(tls="implicit") as fake, version(fake) as client:
            client.get("/first")
            got = client.get("/a?b", b"some text", method="PUT")
            exchange = fake.journal.exchanges[2]
            authority = f"localhost:{fake.port}"
            assert (exchange.moment, exchange.request) == ("request", f"PUT {authority}/a?b")
            assert (exchange.reply, exchange.code, exchange.closed) == ("200 OK", 200, False)
            assert exchange.as_dict()["facts"] == {
                "stream": 3 if version is H2 else 2,
                "version": "2" if version is H2 else "1.1",
                "method": "PUT",
                "authority": authority,
                "host": "localhost",
                "path": "/a?b",
                "misdirected": (),
                "status": 200,
                "body_bytes": 9,
                "body_sha256": hashlib.sha256(b"some text").hexdigest(),
                "sent": len(got.body),
                "length": len(got.body),
                "whole": True,
                "stored": False,
            }
            assert fake.journal.exchanges[1].facts.body_sha256 is None

    @pytest.mark.parametrize("body", [{}, {"body": "x"}])
    def test_of_an_answer_that_its_client_no_longer_waits_for(self, body, monkeypatch):
        monkeypatch.setattr(turns, "PIECE", 1e9)  # both frames are read in one turn
        with FakeHTTP(rules(one("request", status=421, **body)), tls="none") as fake, H2(fake) as client:
            for _ in range(3):
                number, head = client.head()
                client.send(head + RstStreamFrame(number, error_code=8).serialize())
                client.ping()
                facts = last(fake).facts
                assert (last(fake).reply, facts.status, facts.sent, facts.whole) == (None, None, 0, False)

    def test_it_is_there_before_the_answer(self):
        """Reading it is a barrier: what a client has read, is in there."""
        with FakeHTTP(rules(one("request", where={"path": "/no"}, status=421)), tls="none") as fake, H2(fake) as client:
            for i in range(50):
                client.get("/no" if i % 2 else "/")
                assert last(fake).code == (421 if i % 2 else 200)
                assert len([x for x in fake.journal if x.moment == "request"]) == i + 1
