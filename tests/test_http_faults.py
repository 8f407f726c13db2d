"""Every fault of HTTP at every moment that has it, on HTTP/2 and HTTP/1.1."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hyperframe.frame import AltSvcFrame, ExtensionFrame, GoAwayFrame, RstStreamFrame

from http_client import H1, H2, Answer, one, rules, then
from notnow import FakeHTTP, ManualClock, ScenarioError
from notnow.journal import Exchange
from notnow.servers.base import closing as _wire
from notnow.servers.base import listener as _listener

pytestmark = pytest.mark.usefixtures("each_loop")

NO = {"status": 421, "body": "not here"}
CERTIFICATES = (
    '[server]\ntls = "implicit"\n[certificate.a]\nnames = ["a.test", "*.a.test"]\n[certificate.b]\nnames = ["b.test"]\n'
)
GOAWAY = b"\0\0\x08\x07"
both = pytest.mark.parametrize("version", [H1, H2], ids=["h1", "h2"])
every = pytest.mark.parametrize("on", ["request", "response", "any"])


def playing(*texts: str, tls: str = "none", head: str = "", **given) -> FakeHTTP:
    return FakeHTTP(rules(*texts, head=head), **{"clock": ManualClock(), **({} if head else {"tls": tls}), **given})


def asked(fake: FakeHTTP) -> list[Exchange]:
    return [x for x in fake.journal if x.moment == "request"]


def ask(client: H1 | H2, *args, **given) -> int:
    """Ask, and do not wait for the answer."""
    if isinstance(client, H2):
        return client.request(*args, **given)
    client.ask(*args, **given)
    return 0


def got(client: H1 | H2, number: int) -> Answer:
    return client.answer(number) if isinstance(client, H2) else client.answer()


def is_closed(client: H1 | H2) -> bool:
    """The connection ends, and not with a reset."""
    if isinstance(client, H2):
        client.rest()
        return True
    return client.ended


class TestAnswers:
    @both
    @every
    @pytest.mark.parametrize("status", [421, 429, 503, 404, 301])
    def test_status_headers_and_body(self, version, on, status):
        fault = {"status": status, "body": "wörds", "headers": {"retry-after": "120", "x-two": ["1", "2"]}}
        with playing(one(on, **fault)) as fake, version(fake) as client:
            for _ in range(3):
                answer = client.get()
                assert (answer.status, answer.body.decode()) == (status, "wörds")
                assert answer.headers["retry-after"] == "120"
                assert answer.headers["content-length"] == "6"
                assert "date" in answer.headers
            assert [x.code for x in asked(fake)] == [status] * 3
            assert asked(fake)[0].rule == "phase[0].rule[0]"
            facts = asked(fake)[0].facts
            assert (facts.status, facts.retry_after, facts.sent) == (status, "120", 6)
            assert len(fake.journal.connections) == 1

    @both
    def test_a_4xx_does_not_ask_the_app_and_a_2xx_does(self, version):
        calls = []

        async def app(scope, receive, send):
            calls.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"x-app", b"1")]})
            await send({"type": "http.response.body", "body": b"app's"})

        texts = [
            one("request", where={"path": "/4"}, status=421),
            one("request", where={"path": "/2"}, status=202),
            one("request", where={"path": "/headers"}, headers={"x-app": "2", "x-more": "3"}),
            one("request", where={"path": "/body"}, body="mine"),
            one("request", where={"path": "/keep"}, status=503, keep=True),
            one("response", where={"path": "/late"}, status=503),
        ]
        with playing(*texts, app=app) as fake, version(fake) as client:
            calls.clear()
            assert client.get("/4").status == 421
            assert calls == []
            answer = client.get("/2")
            assert (answer.status, calls) == (202, ["/2"])
            answer = client.get("/headers")
            assert (answer.headers["x-app"], answer.headers["x-more"], answer.body) == ("2", "3", b"app's")
            answer = client.get("/body")
            assert (answer.status, answer.headers["x-app"], answer.body) == (200, "1", b"mine")
            assert client.get("/keep").status == 503
            assert client.get("/late").status == 503
            assert calls == ["/2", "/headers", "/body", "/keep", "/late"]

    @both
    @every
    def test_delay(self, version, on):
        with playing(one(on, delay="10s", **NO)) as fake, version(fake) as client:
            number = ask(client)
            fake.wait_for(lambda j: j.count("request"))
            fake.clock.advance("9.9s")
            if version is H2:
                client.ping()
                assert client.answer_so_far(number).status is None
            else:
                assert client.silent()
            fake.clock.advance("0.1s")
            assert got(client, number).status == 421
            exchange = asked(fake)[0]
            assert exchange.answered_at - exchange.at == 10

    @both
    @every
    def test_drip(self, version, on):
        with playing(one(on, drip="1s", status=200, body="abc")) as fake, version(fake) as client:
            number = ask(client)
            if version is H2:
                client.until(lambda: client.answer_so_far(number).body == b"a")
            else:
                client.head()
                assert client.exactly(1) == b"a"
            for byte in (b"b", b"c"):
                fake.clock.advance("0.9s")
                client.ping() if version is H2 else None
                assert client.answer_so_far(number).body[-1:] != byte if version is H2 else client.silent()
                fake.clock.advance("0.1s")
                if version is H2:
                    client.until(lambda byte=byte: client.answer_so_far(number).body.endswith(byte))
                else:
                    assert client.exactly(1) == byte
            if version is H2:
                assert client.answer(number).body == b"abc"
            assert asked(fake)[0].facts.sent == 3

    @both
    @every
    def test_stall(self, version, on):
        """What the client does meanwhile is seen: other streams go on, and its end is an end."""
        with playing(one(on, stall=True, where={"path": "/stall"})) as fake:
            with version(fake) as client:
                ask(client, "/stall", b"123")
                fake.wait_for(lambda j: asked(fake) and asked(fake)[0].fault)
                if version is H2:
                    assert client.get("/").status == 200
                fake.clock.advance("1h")
            fake.wait_for(lambda j: not fake._bridge.sessions and not fake._bridge.tasks)
            assert asked(fake)[0].reply is None
            assert fake.journal.connections[0].ended_by == "client"

    @both
    def test_a_content_length_that_lies(self, version):
        for size in (100, 3):
            headers = {"content-length": str(size)}
            with playing(one("request", status=200, body="text", headers=headers)) as fake, version(fake) as client:
                number = ask(client)
                if version is H2:
                    assert client.answer(number).headers["content-length"] == str(size)
                else:
                    head = client.head()
                    assert head.headers["content-length"] == str(size)
                    assert client.until_end() in ("text", "tex", "")
                fake.settle()
                fake._bridge.raise_errors()

    @both
    @pytest.mark.parametrize("status", [200, 204, 304, 503])
    def test_to_head_there_is_no_body(self, version, status):
        with playing(one("request", status=status, body="text")) as fake, version(fake) as client:
            for _ in range(2):
                answer = client.get(method="HEAD")
                assert (answer.status, answer.body) == (status, b"")


class TestEnds:
    @both
    @every
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @pytest.mark.parametrize("said", [NO, {}])
    def test_close(self, version, on, tls, said):
        with playing(one(on, close=True, **said), tls=tls) as fake, version(fake) as client:
            number = ask(client)
            if said:
                assert got(client, number).status == 421
            assert is_closed(client)
            if version is H2:
                assert client.farewells == [(1, "NO_ERROR")]
                assert client.answer_so_far(1).status == (421 if said else None)
            exchange = asked(fake)[0]
            assert (exchange.closed, exchange.refused) == (True, True)
            assert fake.journal.connections[0].ended_by == "fake"
            assert not fake.journal.exchanges[0].closed

    @both
    @every
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @pytest.mark.parametrize("how", ["reset", "abrupt"])
    def test_hard_ends(self, version, on, tls, how):
        with playing(one(on, close=how), tls=tls) as fake, version(fake) as client:
            ask(client)
            if tls == "implicit":  # OpenSSL tells Python of an end; below it there may be a reset
                sock = client.sock = socket.socket(fileno=client.sock.detach())
                sock.settimeout(client.patience)
            try:
                client.until_end()
                assert how == "abrupt"
            except ConnectionResetError:  # who is cut off abruptly may see one, too
                assert how == "reset" or version is H2
            assert GOAWAY not in client.buffer or tls == "implicit"
            assert asked(fake)[0].closed

    @both
    @every
    def test_reset_stream(self, version, on):
        with playing(one(on, reset_stream="CANCEL", where={"path": "/no"})) as fake, version(fake) as client:
            if version is H2:
                assert client.get("/no").reset == "CANCEL"
                assert client.get("/no", b"x" * 100_000).reset == "CANCEL"
                assert client.get("/").status == 200
                assert asked(fake)[0].reply == "RST_STREAM CANCEL"
                assert asked(fake)[0].refused
            else:
                client.ask("/no")
                with pytest.raises(ConnectionResetError):
                    client.head()

    def test_keep_and_reset_stream(self):
        """The app is asked, and then there is no answer."""
        calls = []

        async def app(scope, receive, send):
            calls.append(scope["type"])
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        with playing(one("request", reset_stream="INTERNAL_ERROR", keep=True), app=app) as fake, H2(fake) as client:
            answer = client.get()
            assert (answer.status, answer.reset, calls[-1]) == (None, "INTERNAL_ERROR", "http")

    @both
    def test_keep_and_close(self, version):
        calls = []

        async def app(scope, receive, send):
            calls.append(scope["type"])
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        with playing(one("request", close=True, keep=True), app=app) as fake, version(fake) as client:
            ask(client)
            assert is_closed(client)
            assert calls[-1] == "http"

    def test_others_are_under_way_when_a_connection_closes(self):
        with playing(one("request", where={"path": "/no"}, close=True)) as fake, H2(fake) as client:
            slow = client.request(method="POST", end=False)
            client.request("/no")
            client.rest()
            assert client.farewells == [(3, "NO_ERROR")]
            assert client.answer_so_far(slow).status is None


class TestGoAway:
    @every
    def test_current(self, on):
        """The request at hand is answered, later ones are refused, and then the connection closes."""
        with playing(one(on, where={"path": "/go"}, goaway=True)) as fake, H2(fake) as client:
            slow = client.request(method="POST", end=False)
            assert client.get("/go").status == 200
            assert client.farewells == [(3, "NO_ERROR")]
            late = client.request("/late")
            assert client.answer(late).reset == "REFUSED_STREAM"
            client.data(slow, b"1", end=True)
            assert client.answer(slow).status == 200
            client.rest()
            assert client.farewells == [(3, "NO_ERROR")]
            assert asked(fake)[1].reply == "GOAWAY NO_ERROR, last stream 3\n200 OK"
            assert asked(fake)[2].fault == "goaway"

    def test_previous(self):
        """The request at hand has not been served, and nothing is said about it but that."""
        rule = one("request", where={"path": "/go"}, goaway={"code": "ENHANCE_YOUR_CALM", "last": "previous"})
        with playing(rule) as fake, H2(fake) as client:
            slow = client.request(method="POST", end=False)
            client.request("/go")
            client.until(lambda: client.farewells)
            assert client.farewells == [(1, "ENHANCE_YOUR_CALM")]
            client.data(slow, b"1", end=True)
            assert client.answer(slow).status == 200
            client.rest()
            answer = client.answer_so_far(3)
            assert (answer.status, answer.reset, answer.ended) == (None, None, False)
            assert asked(fake)[1].refused
            assert asked(fake)[0].code == 200

    @pytest.mark.parametrize("last", [0, 1, 3, 2**31 - 1])
    def test_a_number(self, last):
        calls = []

        async def app(scope, receive, send):
            calls.append(scope.get("path"))
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        rule = one("request", where={"path": "/go"}, goaway={"last": last})
        with playing(rule, app=app) as fake, H2(fake) as client:
            assert client.get("/").status == 200
            client.request("/go")
            client.rest()
            assert client.farewells == [(last, "NO_ERROR")]
            assert (client.answer_so_far(3).status == 200) is (last >= 3)
            assert ("/go" in calls) is (last >= 3)

    @every
    def test_on_http_1_1_it_is_the_last_answer(self, on):
        with playing(one(on, goaway=True)) as fake, H1(fake) as client:
            answer = client.get()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert client.ended

    def test_previous_on_http_1_1_is_a_close_without_an_answer(self):
        with playing(one("request", goaway={"last": "previous"})) as fake, H1(fake) as client:
            client.ask()
            assert client.ended
            assert asked(fake)[0].refused

    @pytest.mark.parametrize("on", ["request", "response", "enter", "error", "idle"])
    def test_without_a_close_the_connection_stays(self, on):
        where = {"where": {"path": "/go"}} if on in ("request", "response") else {"after": "9s"} if on == "idle" else {}
        rule = one(on, goaway={"last": 5}, close=False, times=1, **where)
        texts = {"enter": [then("two", rule)], "error": [rule, one("request", where={"path": "/go"}, status=503)]}
        clock = ManualClock()
        with FakeHTTP(rules(*texts.get(on, [rule])), clock=clock) as fake, H2(fake) as client:
            assert client.get("/go").status in (200, 503)
            if on == "enter":
                fake.next_phase()
            if on == "idle":
                clock.advance("10s")
            client.until(lambda: client.farewells)
            assert [client.get().status for _ in range(2)] == [200, 200]
            assert client.answer(client.request()).reset == "REFUSED_STREAM"  # above the last
            client.ping()
            assert client.farewells == [(5, "NO_ERROR")]
            fake.stop()
            client.rest()
            assert client.farewells[1:] == [(5, "NO_ERROR")]

    def test_without_a_close_http_1_1_goes_on(self):
        with playing(one("request", goaway=True, close=False)) as fake, H1(fake) as client:
            for _ in range(2):
                assert "connection" not in client.get().headers

    def test_a_shutdown_in_two_steps(self):
        """RFC 9113 §6.8: it is announced, what is on its way is answered, and then the real last is said."""
        texts = [
            one("request", nth=2, goaway={"last": 2**31 - 1}, close=False),
            one("request", nth=4, goaway=True),
        ]
        with playing(*texts) as fake, H2(fake) as client:
            for _ in range(4):
                assert client.get().status == 200
            client.rest()
            assert client.farewells == [(2**31 - 1, "NO_ERROR"), (7, "NO_ERROR")]
            assert [x.reply for x in asked(fake)[1::2]] == [
                "GOAWAY NO_ERROR, last stream 2147483647\n200 OK",
                "GOAWAY NO_ERROR, last stream 7\n200 OK",
            ]

    @pytest.mark.parametrize("second", [2**31 - 1, 5, "current"])
    def test_a_later_one_never_raises_the_last(self, second):
        """RFC 9113 §6.8."""
        texts = [
            one("request", where={"path": "/first"}, goaway={"last": 3}, close=False),
            one("request", where={"path": "/second"}, goaway={"last": second}),
        ]
        with playing(*texts) as fake, H2(fake) as client:
            slow = client.request(method="POST", end=False)
            assert client.get("/first").status == 200
            fake.play(rules(then("two", one("enter", goaway={"last": second}))))
            fake.next_phase()
            client.until(lambda: len(client.farewells) == 2)
            client.data(slow, b"1", end=True)
            assert client.answer(slow).status == 200
            client.rest()
            assert client.farewells == [(3, "NO_ERROR"), (3, "NO_ERROR")]
            assert fake.journal.exchanges[-1].reply == "GOAWAY NO_ERROR, last stream 3"

    @pytest.mark.parametrize("frame", [{"goaway": True}, {"altsvc": 'h2=":1"'}, {"origin": ["https://a"]}])
    @pytest.mark.parametrize("answer", [{}, {"status": 503}, {"close": True}, {"reset_stream": "CANCEL"}])
    def test_a_delay_is_the_answer_s(self, frame, answer):
        clock = ManualClock()
        with FakeHTTP(rules(one("request", delay="9s", **frame, **answer)), clock=clock) as fake, H2(fake) as client:
            number = client.request()
            client.until(lambda: type(client.frames[-1]) in (GoAwayFrame, AltSvcFrame, ExtensionFrame))
            client.ping()
            so_far = client.answer_so_far(number)
            assert (so_far.status, so_far.reset) == (None, None)
            clock.advance("9s")
            if "close" not in answer:
                got = client.answer(number)
                assert got.reset == answer.get("reset_stream") if "reset_stream" in answer else got.status in (200, 503)
            else:
                client.rest()

    def test_where_nothing_is_answered_it_is_delayed(self):
        clock = ManualClock()
        rule = one("request", delay="9s", goaway={"last": "previous"})
        with FakeHTTP(rules(rule), clock=clock) as fake, H2(fake) as client:
            client.request()
            client.ping()
            assert client.farewells == []
            clock.advance("9s")
            client.rest()
            assert client.farewells == [(0, "NO_ERROR")]

    @pytest.mark.parametrize("fault", [{"goaway": True}, {"close": True}, {"goaway": "CANCEL", "close": True}])
    @pytest.mark.parametrize("version", [H1, H2])
    def test_a_silence_after_the_last_word_is_not_told(self, version, fault):
        """The client stays, and the fake has nothing more to say: neither on the wire nor in the journal."""
        clock = ManualClock()
        with FakeHTTP(rules(one("idle", after="1s", **fault)), clock=clock) as fake, version(fake) as client:
            assert client.get().status == 200
            for _ in range(5):
                clock.advance("1s")
            assert [x.closed for x in fake.journal if x.moment == "idle"] == [True]

    def test_with_a_status(self):
        with playing(one("request", goaway="NO_ERROR", status=503)) as fake, H2(fake) as client:
            assert client.get().status == 503
            client.rest()
            assert client.farewells == [(1, "NO_ERROR")]

    def test_an_answer_that_is_cut_by_it_does_not_look_complete(self):
        texts = [one("request", where={"path": "/go"}, goaway={"last": 0})]

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            await receive()
            await receive()
            await send({"type": "http.response.body"})

        with playing(*texts, app=app) as fake, H2(fake) as client:
            number = client.request()
            client.until(lambda: client.answer_so_far(number).body)
            client.request("/go")
            client.rest()
            assert not client.answer_so_far(number).ended


class TestFrames:
    @every
    def test_altsvc(self, on):
        with playing(one(on, altsvc='h2="b.test:443"; ma=60')) as fake:
            with H2(fake) as client:
                assert client.get().status == 200
                (found,) = [f for f in client.frames if isinstance(f, AltSvcFrame)]
                assert (found.stream_id, found.origin, found.field) == (1, b"", b'h2="b.test:443"; ma=60')
                before = [type(f).__name__ for f in client.frames]
                assert before.index("AltSvcFrame") < before.index("HeadersFrame")
            with H1(fake) as client:
                assert client.get().headers["alt-svc"] == 'h2="b.test:443"; ma=60'
            assert asked(fake)[0].reply.startswith('ALTSVC h2="b.test:443"; ma=60\n')
            assert asked(fake)[1].facts.alt_svc

    @every
    def test_origin(self, on):
        with playing(one(on, origin=["https://a.test", "https://b.test:8443"])) as fake:
            with H2(fake) as client:
                assert client.get().status == 200
                ((stream, payload),) = client.extensions(0x0C)
                names = [b"https://a.test", b"https://b.test:8443"]
                assert (stream, payload) == (0, b"".join(struct.pack(">H", len(n)) + n for n in names))
            with H1(fake) as client:
                assert client.get().status == 200


def meets_a_reset(client: H1 | H2) -> None:
    """An RST; on HTTP/2 an ACK of the client's may have met it before, and then there is but an end to be read."""
    if isinstance(client, H2):
        with contextlib.suppress(ConnectionResetError):
            client.rest()
    else:
        with pytest.raises(ConnectionResetError):
            client.until_end()


class TestAfterBytes:
    @both
    @pytest.mark.parametrize(
        "fault",
        [NO, {"close": True}, {"close": "reset"}, {"reset_stream": "CANCEL"}, {"stall": True}, {"delay": "1s", **NO}],
    )
    @pytest.mark.parametrize("at_once", [True, False])
    def test_of_the_request(self, version, fault, at_once):
        calls = []

        async def app(scope, receive, send):
            message = {"more_body": True}
            while message.get("more_body"):
                message = await receive()
                calls.append(message)
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

        with playing(one("request", after_bytes=1000, **fault), app=app) as fake, version(fake) as client:
            calls.clear()
            headers = [("content-length", "3000")]
            number = ask(client, method="POST", headers=headers, **({"end": False} if version is H2 else {}))
            say = (lambda data: client.data(number, data)) if version is H2 else client.send
            if not at_once:
                say(b"x" * 999)
                fake.wait_for(lambda j: asked(fake) and asked(fake)[0].facts.body_bytes == 999)
                fake.settle()
                assert asked(fake)[0].fault is None
            say(b"x" * (1500 if at_once else 1))
            fake.wait_for(lambda j: asked(fake) and asked(fake)[0].fault)
            if "delay" in fault:
                fake.clock.advance("1s")
            if "status" in fault:
                if version is H2:
                    assert client.answer(number).status == 421
                    client.data(number, b"x" * (1500 if at_once else 2000), end=True)
                    assert client.get("/", b"x" * 999).status == 200
                else:
                    assert client.answer().status == 421
                    client.send(b"x" * (1500 if at_once else 2000))
                    assert client.get("/", b"x" * 999).status == 200
            elif "stall" in fault:
                client.ping() if version is H2 else fake.settle()
                assert asked(fake)[0].reply is None
            elif fault.get("close") == "reset" or (version is H1 and "reset_stream" in fault):
                meets_a_reset(client)
            elif "reset_stream" in fault:
                assert client.answer(number).reset == "CANCEL"
            else:
                assert is_closed(client)

    @both
    def test_a_client_that_leaves_a_stall_in_the_middle_of_its_body_has_no_answer(self, version):
        with playing(one("request", after_bytes=1, stall=True)) as fake:
            with version(fake) as client:
                ask(client, method="PUT", body=b"whole body")
                fake.wait_for(lambda j: asked(fake) and asked(fake)[0].fault and asked(fake)[0].facts.body_sha256)
            fake.wait_for(lambda j: j.connections[0].closed_at is not None)
            fake.settle()
            assert (asked(fake)[0].reply, asked(fake)[0].facts.status) == (None, None)

    @both
    @pytest.mark.parametrize(
        "fault", [{"close": True}, {"close": "reset"}, {"close": "abrupt"}, {"reset_stream": "CANCEL"}, {"stall": True}]
    )
    def test_of_the_answer(self, version, fault):
        """So many bytes have come, no more and no less."""

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3000")]})
            await send({"type": "http.response.body", "body": b"x" * 3000})

        with playing(one("response", after_bytes=1000, **fault), app=app) as fake, version(fake) as client:
            number = ask(client)
            if version is H2:
                try:
                    client.until(lambda: len(client.answer_so_far(number).body) >= 1000)
                    if "reset_stream" in fault:
                        assert client.answer(number).reset == "CANCEL"
                    elif "stall" in fault:
                        client.ping()
                    else:
                        client.rest()
                except ConnectionResetError:
                    assert fault["close"] in ("reset", "abrupt")  # who is cut off abruptly may see one, too
                else:
                    assert len(client.answer_so_far(number).body) == 1000
            else:
                client.head()
                try:
                    client.exactly(1000)
                    if "stall" in fault:
                        fake.settle()
                        assert client.silent()
                    else:
                        assert client.until_end() == ""
                except ConnectionResetError:
                    assert fault.get("close") == "reset" or "reset_stream" in fault
            assert asked(fake)[0].facts.sent == 1000
            assert not asked(fake)[0].facts.whole

    @both
    def test_a_body_that_ends_sooner_is_never_cut(self, version):
        with playing(one("request", after_bytes=1000, **NO), one("response", after_bytes=10**6, close=True)) as fake:
            with version(fake) as client:
                for _ in range(3):
                    assert client.get("/", b"x" * 999).status == 200


class TestEarlyAnswer:
    """A 421 while the body is still coming."""

    def test_on_http_2(self):
        with playing(one("request", where={"method": "PUT"}, **NO)) as fake, H2(fake) as client:
            for _ in range(10):
                number = client.request(method="PUT", end=False)
                assert client.answer(number).status == 421
                client.upload(number, b"x" * 200_000)
            assert client.get("/").status == 200
            assert client.farewells == []
            assert all(x.facts.body_bytes == 200_000 for x in asked(fake)[:-1])
            assert fake.journal.connections[0].error is None

    def test_on_http_1_1(self):
        with playing(one("request", where={"method": "PUT"}, **NO)) as fake, H1(fake) as client:
            for _ in range(3):
                client.ask(method="PUT", headers=[("content-length", "200000")])
                assert client.answer().status == 421
                client.send(b"x" * 200_000)
            assert client.get("/").status == 200

    def test_to_who_waits_for_100_continue(self):
        """The body is not asked for, and the connection is not used again (RFC 9110 §10.1.1)."""
        with playing(one("request", **NO)) as fake, H1(fake) as client:
            client.ask(method="PUT", headers=[("content-length", "3"), ("expect", "100-continue")])
            answer = client.answer()
            assert (answer.status, answer.early, answer.headers.get("connection")) == (421, [], "close")
            assert client.ended

    @both
    def test_with_a_close(self, version):
        """The answer arrives, with megabytes still in flight."""
        for tls in ("none", "implicit"):
            with playing(one("request", close=True, **NO), tls=tls) as fake, version(fake) as client:
                if version is H2:
                    number = client.request(method="PUT", end=False)
                    client.data(number, b"x" * 16_384)
                    client.data(number, b"x" * 16_384)
                    assert client.answer(number).status == 421
                else:
                    client.ask(method="PUT", headers=[("content-length", "3000000")])
                    client.send(b"x" * 1_000_000)
                    assert client.answer().status == 421
                assert is_closed(client)


class TestUnasked:
    def test_enter(self):
        for fault in ({"goaway": True}, {"close": True}):
            with playing(then("two", one("enter", **fault))) as fake, H2(fake) as client, H1(fake) as other:
                assert client.get().status == other.get().status == 200
                slow = client.request(method="POST", end=False)
                client.ping()
                fake.next_phase()
                if "goaway" in fault:
                    client.until(lambda: client.farewells)
                    client.data(slow, b"", end=True)
                    assert client.answer(slow).status == 200
                client.rest()
                assert client.farewells == [(3, "NO_ERROR")]
                assert other.ended
                assert [x.fault for x in fake.journal if x.moment == "enter"] == [next(iter(fault))] * 2

    def test_enter_resets_what_is_under_way(self):
        with playing(then("two", one("enter", reset_stream="CANCEL"))) as fake, H2(fake) as client:
            streams = [client.request(method="POST", end=False) for _ in range(3)]
            client.ping()
            fake.next_phase()
            assert [client.answer(number).reset for number in streams] == ["CANCEL"] * 3
            assert client.get().status == 200

    def test_enter_with_frames_and_a_delay(self):
        rule = one("enter", origin=["https://a.test"], altsvc='h2=":1"', delay="5s")
        with playing(then("two", rule)) as fake, H2(fake) as client, H1(fake) as other:
            client.ping()
            fake.next_phase()
            client.ping()
            assert client.extensions(0x0C) == []
            fake.clock.advance("5s")
            client.until(lambda: client.extensions(0x0C))
            (found,) = [f for f in client.frames if isinstance(f, AltSvcFrame)]
            assert (found.stream_id, found.origin.decode()) == (0, fake.url.replace("127.0.0.1", fake.host))
            assert other.get().status == 200

    def test_a_client_that_reads_nothing_is_closed_all_the_same(self, monkeypatch):
        monkeypatch.setattr(_listener, "LINGER", 0.1)
        monkeypatch.setattr(_wire, "SHUTDOWN", 0.1)

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

        for version, given in ((H2, {"window": 2**31 - 1}), (H1, {})):
            with playing(then("two", one("enter", close=True)), app=app) as fake, version(fake, **given) as client:
                if version is H2:
                    client.more(2**30)
                ask(client)
                fake.wait_for(lambda j: any(not s._writable.is_set() for s in fake._bridge.sessions.values()))
                fake.next_phase()
                fake.wait_for(lambda j: j.connections[0].ended_by == "fake")
                fake.wait_for(lambda j: not fake._bridge.sessions)

    @both
    def test_idle(self, version):
        with playing(one("idle", after="60s", close=True)) as fake, version(fake) as client:
            assert client.get().status == 200
            fake.clock.advance("59s")
            assert client.get().status == 200
            fake.clock.advance("59s")
            fake.settle()
            assert fake.journal.connections[0].ended_by is None
            fake.clock.advance("1s")
            assert is_closed(client)
            if version is H2:
                assert client.farewells == [(3, "NO_ERROR")]

    @both
    def test_who_uploads_or_waits_is_not_idle(self, version):
        texts = [one("idle", after="60s", close=True), one("request", where={"path": "/slow"}, delay="10m")]
        with playing(*texts) as fake, version(fake) as client:
            given = {"end": False} if version is H2 else {"headers": [("content-length", "3")]}
            number = ask(client, method="POST", **given)
            for i in range(3):
                client.data(number, b"1", i == 2) if version is H2 else client.send(b"1")
                fake.wait_for(lambda j, i=i: asked(fake) and asked(fake)[0].facts.body_bytes == i + 1)
                fake.clock.advance("50s" if i < 2 else "0s")
            assert got(client, number).status == 200
            number = ask(client, "/slow")
            fake.wait_for(lambda j: j.count("request") == 2)
            fake.clock.advance("10m")
            assert got(client, number).status == 200

    @both
    def test_error(self, version):
        """It comes behind a 4xx or 5xx, whoever has said that."""
        with playing(one("request", where={"path": "/no"}, status=503), one("error", close=True)) as fake:
            with version(fake) as client:
                assert client.get().status == 200
                assert client.get("/no").status == 503
                assert is_closed(client)
                assert [x.fault for x in fake.journal if x.moment == "error"] == ["close"]

    def test_error_with_goaway_and_delay(self):
        texts = [one("request", status=503), one("error", goaway="ENHANCE_YOUR_CALM", delay="5s")]
        with playing(*texts) as fake, H2(fake) as client:
            assert client.get().status == 503
            client.ping()
            assert client.farewells == []
            fake.clock.advance("5s")
            client.rest()
            assert client.farewells == [(1, "ENHANCE_YOUR_CALM")]


class TestConnect:
    @both
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    def test_a_status_answers_all_and_then_it_closes(self, version, tls):
        with playing(one("connect", nth=1, status=421, headers={"x-why": "1"}, body="no"), tls=tls) as fake:
            with version(fake) as client:
                if version is H2:
                    heads = [client.head(f"/{i}") for i in range(3)]
                    client.send(b"".join(sent for _, sent in heads))
                    assert [client.answer(number).status for number, _ in heads] == [421] * 3
                else:
                    answer = client.get()
                    assert (answer.status, answer.headers["connection"]) == (421, "close")
                assert is_closed(client)
                if version is H2:
                    assert client.farewells == [(5, "NO_ERROR")]
            assert asked(fake)[0].rule == "phase[0].rule[0]"
            assert asked(fake)[0].facts.status == 421
            with version(fake) as client:
                assert client.get().status == 200

    @both
    def test_it_stays_where_the_rule_says_so(self, version):
        with playing(one("connect", status=421, close=False)) as fake, version(fake) as client:
            for _ in range(3):
                assert client.get().status == 421

    @both
    @pytest.mark.parametrize("how", ["reset", "abrupt"])
    def test_it_ends_as_the_rule_says(self, version, how):
        with playing(one("connect", status=421, close=how)) as fake, version(fake) as client:
            assert client.get().status == 421
            if how == "reset":
                meets_a_reset(client)
            else:
                with contextlib.suppress(ConnectionResetError):  # who is cut off abruptly may see one
                    assert is_closed(client)

    @both
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    def test_delay(self, version, tls):
        with playing(one("connect", delay="5s"), tls=tls) as fake, ThreadPoolExecutor(1) as pool:

            def visit() -> int | None:
                with version(fake) as client:
                    return client.get().status

            visited = pool.submit(visit)
            fake.wait_for(lambda j: j.connections)
            fake.clock.advance("4.9s")
            assert asked(fake) == []
            fake.clock.advance("0.1s")
            assert visited.result(20) == 200

    @both
    @pytest.mark.parametrize("delay", [{}, {"delay": "1s"}])
    @pytest.mark.parametrize("how", [True, "reset", "abrupt"])
    def test_close(self, version, how, delay):
        with playing(one("connect", close=how, **delay)) as fake:
            try:
                with version(fake) as client:
                    if delay:
                        fake.wait_for(lambda j: j.connections)
                        fake.clock.advance("1s")
                    assert is_closed(client)
                    assert how != "reset"
            except (ConnectionResetError, BrokenPipeError):
                assert how != True  # noqa: E712 ("reset" is true as well)
            fake.wait_for(lambda j: j.connections[0].ended_by == "fake")

    @pytest.mark.parametrize("tls", ["none", "implicit"])
    def test_stall(self, tls):
        """Not even a handshake."""
        with playing(one("connect", stall=True), tls=tls) as fake:
            with H1(fake, tls=False) as client:
                client.ask()
                fake.settle()
                assert client.silent()
            fake.wait_for(lambda j: j.connections[0].ended_by == "client")

    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @both
    def test_a_cap_is_exact(self, version, tls):
        """Twenty at a time, of whom seven are let in."""
        with playing(one("connect", over=7, status=503), tls=tls) as fake:
            gate, done = threading.Barrier(20), threading.Barrier(20)

            def visit(_: int) -> int | None:
                gate.wait()
                with version(fake) as client:
                    status = client.get().status
                    done.wait(20)  # until all have been answered they stay
                    return status

            with ThreadPoolExecutor(20) as pool:
                found = list(pool.map(visit, range(20)))
            assert sorted(found) == [200] * 7 + [503] * 13
            fake.wait_for(lambda j: not fake._bridge.sessions)
            with version(fake) as client:
                assert client.get().status == 200


class TestCaps:
    def test_at_request(self):
        with playing(one("request", over=3, status=503)) as fake, H2(fake) as client, H2(fake) as other:
            held = [client.request(method="POST", end=False) for _ in range(3)]
            client.ping()
            assert other.get().status == 503
            assert client.get().status == 503
            client.data(held[0], b"", end=True)
            assert client.answer(held[0]).status == 200
            assert other.get().status == 200
            client.rst(held[1])
            client.ping()
            assert [
                other.answer(other.request(method="POST", end=False, headers=[("x", "1")])).status for _ in ()
            ] == []
            again = other.request(method="POST", end=False)
            other.ping()
            assert other.answer_so_far(again).status is None
            third = other.request(method="POST", end=False)
            other.ping()
            assert other.get().status == 503
            assert other.answer_so_far(third).status is None

    def test_max_streams(self):
        """What is beyond it is refused, and the connection goes on (RFC 9113 §5.1.2)."""
        with playing(head="[server]\nmax_streams = 2\n") as fake:
            with H2(fake) as client:
                client.until(lambda: client.settings)
                assert client.settings[3] == 2
                held = [client.request(method="POST", end=False) for _ in range(2)]
                assert client.get().reset == "REFUSED_STREAM"
                assert client.get("/", b"x" * 100).reset == "REFUSED_STREAM"
                client.data(held[0], b"", end=True)
                assert client.answer(held[0]).status == 200
                assert client.get().status == 200
                client.data(held[1], b"", end=True)
                assert client.answer(held[1]).status == 200
                refused = asked(fake)[2]
                assert (refused.rule, refused.reply) == ("server.max_streams", "RST_STREAM REFUSED_STREAM")
                assert refused.refused


class TestTLS:
    def test_certificates_by_name(self):
        with playing(head=CERTIFICATES) as fake:
            for sni, name in (("a.test", "a.test"), ("x.a.test", "a.test"), ("b.test", "b.test"), (None, "a.test")):
                with H2(fake, sni=sni) as client:
                    assert client.certificate()[0] == name
                    assert client.get().status == 200
            shown = [c.tls.certificate for c in fake.journal.connections]
            assert shown == ["a", "a", "b", "a"]

    def test_a_certificate_that_a_rule_wants(self):
        with playing(one("tls", where={"sni": "a.test"}, certificate="b"), head=CERTIFICATES) as fake:
            with H2(fake, sni="a.test") as client:
                assert client.certificate() == ("b.test",)
                client.get(authority="a.test")
            assert fake.journal.connections[0].tls.certificate == "b"
            assert asked(fake)[0].facts.misdirected == ("certificate",)

    @pytest.mark.parametrize("alert", ["unrecognized_name", "handshake_failure", "internal_error"])
    def test_alert(self, alert):
        with playing(one("tls", where={"sni": "a.test"}, alert=alert), head=CERTIFICATES) as fake:
            with pytest.raises(ssl.SSLError, match=alert.upper().replace("_", ".")):
                H2(fake, sni="a.test")
            with H2(fake, sni="b.test") as client:
                assert client.get().status == 200
            fake.wait_for(lambda j: j.connections[0].ended_by)
            record = fake.journal.connections[0]
            assert (record.tls.sni, record.ended_by) == ("a.test", "fake")
            assert alert in record.tls.error
            assert "TLS handshake failed" in record.error

    @pytest.mark.parametrize("how", [True, "reset"])
    def test_close(self, how):
        with playing(one("tls", times=1, close=how), head=CERTIFICATES) as fake:
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)) as caught:
                H2(fake, sni="a.test")
            assert isinstance(caught.value, ConnectionResetError) is (how == "reset")
            with H2(fake, sni="a.test") as client:
                assert client.get().status == 200


class TestWhere:
    def statuses(self, where: dict, tls: str = CERTIFICATES, *asked_for) -> list[int | None]:
        with playing(one("request", where=where, status=421), head=tls) as fake:
            found = []
            for sni, authority, *given in asked_for:
                with H2(fake, sni=sni) as client:
                    found.append(client.get(authority=authority, **(given[0] if given else {})).status)
            return found

    def test_misdirected(self):
        visits = [
            ("a.test", "a.test"),
            ("a.test", "a.test:8443"),
            ("A.test", "a.TEST"),
            ("a.test", "x.a.test"),
            ("a.test", "b.test"),
            ("b.test", "b.test"),
            (None, "a.test"),
            (None, "b.test"),
        ]
        found = {
            how: self.statuses({"misdirected": how}, CERTIFICATES, *visits) for how in ("sni", "certificate", True)
        }
        assert found["sni"] == [200, 200, 200, 421, 421, 200, 200, 200]
        assert found["certificate"] == [200, 200, 200, 200, 421, 200, 200, 421]
        assert found[True] == [200, 200, 200, 421, 421, 200, 421, 421]

    def test_sni_and_authority(self):
        visits = [("a.test", "a.test"), (None, "a.test"), ("b.test", "x.a.test:1")]
        assert self.statuses({"sni": "none"}, CERTIFICATES, *visits) == [200, 421, 200]
        assert self.statuses({"sni": "*.test"}, CERTIFICATES, *visits) == [421, 200, 421]
        assert self.statuses({"authority": "*.a.test"}, CERTIFICATES, *visits) == [200, 200, 421]

    def test_header_method_path_and_size(self):
        visits = [
            ("a.test", "a.test", {"path": "/x?y=1", "headers": [("x-mine", "1")]}),
            ("a.test", "a.test", {"path": "/z", "method": "PUT", "body": b"123", "headers": [("content-length", "3")]}),
        ]
        for where, wanted in (
            ({"header": {"X-Mine": "1"}}, [421, 200]),
            ({"header": {"x-mine": "none"}}, [200, 421]),
            ({"method": "put"}, [200, 421]),
            ({"path": "/x"}, [421, 200]),
            ({"size": 3}, [200, 421]),
            ({"size": "none"}, [421, 200]),
        ):
            assert self.statuses(where, CERTIFICATES, *visits) == wanted, where

    def test_in_clear_nothing_is_misdirected(self):
        with playing(one("request", where={"misdirected": True}, status=421)) as fake, H2(fake) as client:
            assert client.get(authority="anybody.test").status == 200
            assert asked(fake)[0].facts.misdirected == ()


def test_a_delayed_close_comes_in_its_time_though_the_client_has_cancelled():
    with playing(one("request", delay="5s", close=True, **NO)) as fake, H2(fake) as client:
        number = client.request()
        client.ping()
        client.rst(number)
        for _ in range(20):
            client.ping()
        fake.clock.advance("5s")
        client.rest()
        (connection,) = fake.journal.connections
        assert (connection.ended_by, connection.closed_at) == ("fake", 5)


def test_frames_are_not_seen_where_there_is_no_rule():
    with playing() as fake, H2(fake) as client:
        assert client.get().status == 200
        client.ping()
        assert not [f for f in client.frames if isinstance(f, (AltSvcFrame, GoAwayFrame, RstStreamFrame))]


@both
@pytest.mark.parametrize(
    ("wanted", "refused"),
    [
        ("page=2*", ["/a?page=2&n=5", "/?page=2"]),
        ("none", ["/a"]),
        ("", ["/a?"]),
        ("*", ["/a?page=2&n=5", "/?page=2", "/a?", "/a?b?c"]),
    ],
)
def test_the_query_of_a_request_is_a_fact(version, wanted, refused):
    targets = ["/a?page=2&n=5", "/?page=2", "/a", "/a?", "/a?b?c"]
    with playing(one("request", where={"query": wanted, "path": "/*"}, status=503)) as fake, version(fake) as client:
        assert [target for target in targets if client.get(target).status == 503] == refused


class TestLengthsThatRulesTell:
    """`headers = { content-length = … }` that is not the length of the answer, whoever gives the answer."""

    @pytest.mark.parametrize("given", [{}, {"status": 421, "body": "hello"}], ids=["the app's", "the rule's"])
    @pytest.mark.parametrize("length", ["2", "4000"])
    def test_it_is_told_and_the_app_is_not_blamed(self, given, length, caplog):
        with FakeHTTP(rules(one("request", headers={"content-length": length}, **given)), tls="none") as fake:
            with H2(fake) as client:
                answer = client.answer(client.request("/"))
                assert (answer.headers["content-length"], answer.body != b"") == (length, True)
            with H1(fake) as client:
                client.ask("/")
                with pytest.raises(EOFError):  # the connection closes before the body is whole
                    client.answer()
            asked = [told for told in fake.journal.exchanges if told.moment == "request"]
            assert [told.facts.app_error for told in asked] == [None, None]
            assert [told.facts.status for told in asked] == [given.get("status", 200)] * 2
            assert not caplog.records
            fake._bridge.raise_errors()

    def test_an_app_that_tells_a_wrong_length_itself_is_blamed(self, caplog):
        async def app(scope, receive, send):
            if scope["type"] == "http":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
                await send({"type": "http.response.body", "body": b"hello"})

        with FakeHTTP(app=app, tls="none") as fake, H1(fake) as client:
            client.ask("/")
            with pytest.raises((EOFError, ConnectionResetError)):
                client.answer()
            assert "Content-Length" in fake.journal.exchanges[-1].facts.app_error
            assert "the app has failed" in caplog.text

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Length": "x"}, {"content-length": "-1"}, {"content-length": ["5", "6"]}, {"content-length": ""},
            {"transfer-encoding": "gzip"}, {"transfer-encoding": "gzip, chunked"}, {"TE": "gzip"},
        ],
    )  # fmt: skip
    def test_what_one_version_of_http_cannot_send_does_not_load(self, headers):
        with pytest.raises(ScenarioError, match="RFC 9110 §8.6|RFC 9112 §6.1|RFC 9113 §8.2.2"):
            rules(one("request", headers=headers))
