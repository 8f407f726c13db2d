"""A malformed request: over HTTP/2 its stream ends and the connection lives; over HTTP/1.1 a status says what was wrong."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hyperframe.frame import DataFrame, HeadersFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from http_client import H1, H2, frame, one, rules
from notnow import FakeHTTP
from notnow.servers.http import wellformed

GOOD = [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")]
POST = [(":method", "POST"), *GOOD[1:]]


@pytest.fixture(scope="module", params=["none", "implicit"])
def fake(request):
    with FakeHTTP(tls=request.param) as fake:
        yield fake


@pytest.fixture(scope="module")
def clear():
    with FakeHTTP(tls="none") as fake:
        yield fake


def without(*names: str) -> list[tuple[str, str]]:
    return [field for field in GOOD if field[0] not in names]


def put(**changed: str) -> list[tuple[str, str]]:
    return [(name, changed.get(name[1:], value)) for name, value in GOOD]


MALFORMED = {
    # RFC 9113 §8.2.1
    "capitals in a name": [*GOOD, ("X-Up", "1")],
    "a space in a name": [*GOOD, ("x y", "1")],
    "a colon in a name": [*GOOD, ("x:y", "1")],
    "a name of nothing": [*GOOD, ("", "1")],
    "a control character in a name": [*GOOD, ("x\x7f", "1")],
    "a name that is no token": [*GOOD, ("x(y", "1")],
    "a name beyond ASCII": [*GOOD, ("é", "1")],
    "NUL in a value": [*GOOD, ("x", "a\0b")],
    "LF in a value": [*GOOD, ("x", "a\nb")],
    "CR in a value": [*GOOD, ("x", "a\rb")],
    "a space before a value": [*GOOD, ("x", " a")],
    "a tab behind a value": [*GOOD, ("x", "a\t")],
    # RFC 9113 §8.2.2
    "connection": [*GOOD, ("connection", "close")],
    "keep-alive": [*GOOD, ("keep-alive", "5")],
    "proxy-connection": [*GOOD, ("proxy-connection", "close")],
    "transfer-encoding": [*GOOD, ("transfer-encoding", "chunked")],
    "upgrade": [*GOOD, ("upgrade", "h2c")],
    "te": [*GOOD, ("te", "gzip")],
    "te, and more": [*GOOD, ("te", "trailers, gzip")],
    # RFC 9113 §8.3
    "a pseudo-header that is unknown": [(":foo", "1"), *GOOD],
    "one of a response": [*GOOD, (":status", "200")],
    "one of an interim response": [(":status", "100")],
    "one that was not offered": [*GOOD, (":protocol", "websocket")],
    "a pseudo-header behind others": [*GOOD[:3], ("x", "1"), GOOD[3]],
    "two methods": [*GOOD, (":method", "GET")],
    "two paths": [*GOOD, (":path", "/b")],
    "two authorities": [*GOOD, (":authority", "a.test")],
    "two schemes": [*GOOD, (":scheme", "https")],
    # RFC 9113 §8.3.1
    "nothing at all": [],
    "no method": without(":method"),
    "no scheme": without(":scheme"),
    "no path": without(":path"),
    "no authority and no host": without(":authority"),
    "a path of nothing": put(path=""),
    "a path with a space": put(path="/a b"),
    "a path without a slash": put(path="a"),
    "an asterisk for GET": put(path="*"),
    "a method of nothing": put(method=""),
    "a method with a space": put(method="GET /"),
    "a scheme of nothing": put(scheme=""),
    "an authority with a user": put(authority="me@a.test"),
    "an authority with a space": put(authority="a b"),
    "an authority with a path": put(authority="a.test/x"),
    "a host with a space": [*GOOD, ("host", "a b")],
    "two hosts": [*GOOD, ("host", "a.test"), ("host", "a.test")],
    # RFC 9113 §8.5
    "CONNECT with a path": [(":method", "CONNECT"), *GOOD[2:]],
    "CONNECT with a scheme": [(":method", "CONNECT"), *GOOD[1:3]],
    "CONNECT without an authority": [(":method", "CONNECT")],
    "CONNECT without a port": [(":method", "CONNECT"), (":authority", "a.test")],
    # RFC 9110 §8.6, RFC 9113 §8.1.1
    "a length that is none": [*GOOD, ("content-length", "x")],
    "a length below nothing": [*GOOD, ("content-length", "-1")],
    "a length of many digits": [*GOOD, ("content-length", "9" * 5000)],
    "two lengths": [*GOOD, ("content-length", "0"), ("content-length", "1")],
    "a length, and no body": [*POST, ("content-length", "5")],
}
WELL_FORMED = {
    "te: trailers": [*GOOD, ("te", "trailers")],
    "a host that is another": [*GOOD, ("host", "b.test:8080")],
    "a host alone": [*without(":authority"), ("host", "b.test")],
    "an address": put(authority="[::1]:8443"),
    "an asterisk for OPTIONS": [(":method", "OPTIONS"), *GOOD[1:3], (":path", "*")],
    "a value of nothing": [*GOOD, ("x", "")],
    "letters of UTF-8": [*GOOD, ("x", "é")],
    "a path of UTF-8": put(path="/é"),
    "a method of one's own": put(method="get-it"),
    "no body, and a length that says so": [*POST, ("content-length", "0")],
    "the same length twice": [*POST, ("content-length", "0"), ("content-length", "0")],
    "another scheme": put(scheme="coap+tcp"),
}


FAULTY = {  # the type of a frame, its body, and the code that its stream is told
    "a window that grows by nothing": (8, bytes(4), "PROTOCOL_ERROR"),  # RFC 9113 §6.9
    "the same, with the reserved bit": (8, b"\x80\0\0\0", "PROTOCOL_ERROR"),
    "a priority of nothing": (2, b"", "FRAME_SIZE_ERROR"),  # RFC 9113 §6.3
    "a priority of four bytes": (2, bytes(4), "FRAME_SIZE_ERROR"),
    "a priority of six bytes": (2, bytes(6), "FRAME_SIZE_ERROR"),
}


def say(client: H2, fields, end=True) -> int:
    number, client.next = client.next, client.next + 2
    flags = ["END_HEADERS", *(["END_STREAM"] if end else [])]
    client.send(HeadersFrame(number, client.encoder.encode(fields), flags=flags).serialize())
    return number


def lives(client: H2) -> None:
    """The connection goes on, and what HPACK has learnt is still known."""
    assert client.get("/next").said["path"] == "/next"
    assert client.farewells == []


class TestHTTP2:
    @pytest.mark.parametrize(
        ("kind", "end"), [(k, end) for k in MALFORMED for end in (True, False) if end or k != "a length, and no body"]
    )
    def test_the_stream_ends_and_the_connection_lives(self, fake, kind, end):
        """RFC 9113 §8.1.1."""
        with H2(fake) as client:
            number = say(client, [*MALFORMED[kind], ("x-learnt", kind)], end)
            if not end:
                client.send(DataFrame(number, b"123", flags=["END_STREAM"]).serialize())
            answer = client.answer(number)
            assert (answer.status, answer.reset) == (None, "PROTOCOL_ERROR")
            lives(client)
        told = fake.journal.connections[-1].exchanges[1]
        assert (told.moment, told.reply) == ("malformed", "RST_STREAM PROTOCOL_ERROR")
        assert "RFC " in told.facts.malformed
        assert (told.connection.error, fake._bridge.errors) == (None, [])

    @pytest.mark.parametrize("kind", WELL_FORMED)
    def test_the_others_are_answered(self, fake, kind):
        with H2(fake) as client:
            assert client.answer(say(client, WELL_FORMED[kind])).status == 200
            lives(client)

    @pytest.mark.parametrize(
        ("trailers", "end"),
        [
            ([(":path", "/")], True),
            ([("X-Up", "1")], True),
            ([("connection", "close")], True),
            ([("x", "1")], False),
            ([("x", "1")], True),  # and the body was too short
        ],
    )
    def test_trailers(self, fake, trailers, end):
        with H2(fake) as client:
            number = say(client, [*POST, ("content-length", "9")], end=False)
            client.data(number, b"12345")
            block = client.encoder.encode(trailers)
            client.send(
                HeadersFrame(number, block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])]).serialize()
            )
            assert client.answer(number).reset == "PROTOCOL_ERROR"
            lives(client)
        asked = fake.journal.connections[-1].exchanges[1]
        assert (asked.moment, asked.reply) == ("request", "RST_STREAM PROTOCOL_ERROR")
        assert asked.facts.malformed

    def test_trailers_that_are_right(self, fake):
        with H2(fake) as client:
            number = say(client, [*POST, ("content-length", "5")], end=False)
            client.data(number, b"12345")
            block = client.encoder.encode([("x-sum", "1")])
            client.send(HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
            assert client.answer(number).said["body"] == "12345"

    def test_trailers_behind_an_early_answer(self):
        with (
            FakeHTTP(rules(one("request", status=503, where={"method": "POST"})), tls="none") as fake,
            H2(fake) as client,
        ):
            number = say(client, POST, end=False)
            assert client.answer(number).status == 503
            block = client.encoder.encode([("X-Up", "1")])
            client.send(HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
            lives(client)
            fake._bridge.raise_errors()

    def test_a_malformed_request_does_not_touch_its_neighbour(self):
        with (
            FakeHTTP(rules(one("request", where={"path": "/slow"}, stall=True)), tls="none") as fake,
            H2(fake) as client,
        ):
            slow = client.request("/slow")
            say(client, [*GOOD, ("connection", "close")])
            lives(client)
            assert client.answer_so_far(slow).reset is None

    def test_a_thousand_of_them_are_an_attack(self, clear):
        with H2(clear) as client:
            block = b"\x82\x84\x87\x00\x01X\x011"
            client.send(b"".join(frame(1, 5, 2 * i + 1, block) for i in range(1500)))
            client.rest()
            assert client.farewells[-1][1] == "ENHANCE_YOUR_CALM"

    def test_they_are_counted_and_are_no_requests(self):
        with FakeHTTP(tls="none") as fake, H2(fake) as client:
            assert fake.journal.count("malformed") == 0
            assert client.answer(say(client, MALFORMED["te"])).reset
            lives(client)
            assert [fake.journal.count(moment) for moment in ("malformed", "request", "any")] == [1, 1, 1]

    def test_priorities_are_passed_over(self, fake):
        """Also one that depends on itself (RFC 9113 §5.3.2)."""
        with H2(fake) as client:
            client.send(frame(2, 0, 1, struct.pack(">IB", 1, 5)))
            block = struct.pack(">IB", 1, 5) + client.encoder.encode(GOOD)
            client.send(frame(1, 0x25, 1, block))
            assert client.answer(1).status == 200

    @pytest.mark.parametrize("kind", FAULTY)
    @pytest.mark.parametrize("whole", [True, False], ids=["whole", "begun"])
    def test_a_frame_that_is_an_error_of_its_stream(self, kind, whole):
        """RFC 9113 §5.4.2: the stream ends, its neighbours do not, in one piece and byte by byte."""
        kind_of_frame, body, code = FAULTY[kind]
        with (
            FakeHTTP(rules(one("request", where={"path": "/slow"}, stall=True)), tls="none") as fake,
            H2(fake) as client,
        ):
            asked, slow = (client.request("/slow", None if whole else b"123", end=whole) for _ in range(2))
            said = frame(kind_of_frame, 0, asked, body)
            for piece in [said] if whole else [bytes([byte]) for byte in said]:
                client.send(piece)
            assert client.answer(asked).reset == code
            client.send(said)  # on a closed stream it is passed over
            lives(client)
            assert client.answer_so_far(slow).reset is None
            told = fake.journal.connections[-1].exchanges[1]
            assert (told.reply, fake.journal.count("malformed")) == (f"RST_STREAM {code}", 0)
            assert "RFC 9113 §6" in told.facts.malformed
            fake._bridge.raise_errors()

    @pytest.mark.parametrize("kind", FAULTY)
    @pytest.mark.parametrize("number", [0, 4, 9])
    def test_the_same_where_there_is_no_stream(self, clear, kind, number):
        """An idle stream has no RST_STREAM (RFC 9113 §6.4): the connection ends."""
        kind_of_frame, body, code = FAULTY[kind]
        with H2(clear) as client:
            client.ping()
            client.send(frame(kind_of_frame, 0, number, body))
            client.rest()
            assert client.farewells[-1][1] == ("PROTOCOL_ERROR" if kind_of_frame == 2 and not number else code)

    def test_the_same_amid_a_header_block(self, clear):
        """RFC 9113 §6.10: no other frame may come there."""
        with H2(clear) as client:
            client.send(frame(1, 0, 1, client.encoder.encode(GOOD)) + frame(8, 0, 1, bytes(4)))
            client.rest()
            assert client.farewells[-1][1] == "PROTOCOL_ERROR"

    def test_the_reserved_bit_of_a_window_update_is_passed_over(self, clear):
        """RFC 9113 §6.9."""
        with H2(clear, window=2) as client:
            number = client.request("/", b"12345")
            client.send(frame(8, 0, number, b"\x80\x00\xff\xff") + frame(8, 0, 0, b"\x80\x00\x00\x01"))
            assert client.answer(number).said["body"] == "12345"

    def test_host_beside_authority(self, fake):
        """:authority counts (RFC 9113 §8.3.1), for rules and for the app; the journal has both."""
        with H2(fake) as client:
            said = client.answer(say(client, [*GOOD, ("host", "b.test"), ("x", "1")])).said
            assert (said["authority"], [h for h in said["headers"] if h[0] == "host"]) == (
                "a.test",
                [["host", "a.test"]],
            )
            facts = fake.journal.connections[-1].exchanges[1].facts
            assert (facts.authority, facts.host, facts.host_header) == ("a.test", "a.test", "b.test")
            lives(client)
            assert fake.journal.connections[-1].exchanges[2].facts.host_header is None

    def test_rules_may_ask_for_either(self):
        texts = [
            one("request", where={"authority": "b.test"}, status=500),
            one("request", where={"authority": "a.test", "header": {"host": "b.test"}}, status=421),
        ]
        with FakeHTTP(rules(*texts), tls="none") as fake, H2(fake) as client:
            assert client.answer(say(client, [*GOOD, ("host", "b.test")])).status == 421

    @given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=6), st.booleans())
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_the_fields_are(self, clear, fields, base):
        """They are answered, or their stream ends; never more."""
        given = [*((n.encode(), v.encode()) for n, v in GOOD), *fields] if base else fields
        with H2(clear) as client:
            answer = client.answer(say(client, given))
            why = wellformed.in_http2(given, ends=True)
            assert (answer.reset == "PROTOCOL_ERROR") if why else answer.status == 200
            lives(client)
        clear._bridge.raise_errors()


HEAD = b"GET / HTTP/1.1\r\n"
REFUSED = {
    # RFC 9112 §3.2
    "a Host with a space": (HEAD + b"Host: a b\r\n\r\n", 400),
    "a Host with a user": (HEAD + b"Host: me@a\r\n\r\n", 400),
    "a Host with a path": (HEAD + b"Host: a/b\r\n\r\n", 400),
    "a Host with a port that is none": (HEAD + b"Host: a:b\r\n\r\n", 400),
    "a list of Hosts": (HEAD + b"Host: a, b c\r\n\r\n", 400),
    "half an address": (HEAD + b"Host: [::1\r\n\r\n", 400),
    "no Host": (HEAD + b"\r\n", 400),
    "two Hosts": (HEAD + b"Host: a\r\nHost: a\r\n\r\n", 400),
    "a target without a slash": (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an asterisk for GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target with half an address": (b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target with a user": (b"GET http://me@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "an absolute target without a host": (b"GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a fragment": (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # RFC 9110 §9.3.6
    "CONNECT without a port": (b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT to a path": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # RFC 9112 §2.2, §5
    "a CR in a value": (HEAD + b"Host: a\r\nX: a\rb\r\n\r\n", 400),
    "a CR in the request line": (b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a space before a colon": (HEAD + b"Host: a\r\nX : b\r\n\r\n", 400),
    "a field that is folded before the first": (HEAD + b" X: b\r\nHost: a\r\n\r\n", 400),
    "a space between method and target too many": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a method that is no token": (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # RFC 9112 §6, §7
    "a length of many digits": (HEAD + b"Host: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    "a length with a sign": (HEAD + b"Host: a\r\nContent-Length: +3\r\n\r\n", 400),
    "a coding that is unknown": (HEAD + b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "a chunk size that is none": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\n123\r\n",
        400,
    ),
    "a chunk size below nothing": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\n", 400),
    "a chunk that is too long": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n12345\r\n0\r\n\r\n",
        400,
    ),
    "a coding that HTTP/1.0 does not have": (
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    # RFC 9110 §15.6.6, §10.1.1
    "another major version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "an expectation that nobody has": (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n", 417),
}
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: %s\r\nUpgrade: h2c\r\n%s\r\n"
BOTH = b"Upgrade, HTTP2-Settings"
SETTINGS_THAT_ARE_NONE = {
    "half a character": b"A",
    "no base64": b"!!!!",
    "the other base64": b"AAMAAAB+/+A",
    "spaces": b"AAM AAAB",
    "half a setting": b"AAQA",
    "a setting with a value that it cannot have": b"AAIAAAAC",  # ENABLE_PUSH is 2
    "a window beyond all bounds": b"AASAAAAA",
    "a frame size below all bounds": b"AAUAAAAB",
    "too much padding": b"AAMAAABk====",
}


class TestHTTP11:
    @pytest.mark.parametrize("kind", REFUSED)
    def test_a_status_says_so_and_it_closes(self, fake, kind):
        said, status = REFUSED[kind]
        with H1(fake) as client:
            client.send(said + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert client.ended
        record = fake.journal.connections[-1]
        assert record.error.startswith(f"HTTP/1.1 {status} ")
        assert "smuggled" not in str([x.request for x in record.exchanges])
        fake._bridge.raise_errors()

    @pytest.mark.parametrize("lengths", ["Content-Length: 5\r\n%s", "%sContent-Length: 99\r\n"])
    def test_a_length_in_two_ways_is_answered_and_it_closes(self, fake, lengths):
        """RFC 9112 §6.1."""
        head = "POST / HTTP/1.1\r\nHost: a\r\n" + lengths % "Transfer-Encoding: chunked\r\n"
        with H1(fake) as client:
            client.send(head + "\r\n3\r\n123\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.answer()
            assert (answer.said["body"], answer.headers["connection"]) == ("123", "close")
            assert client.ended
        assert "smuggled" not in str([x.request for x in fake.journal.connections[-1].exchanges])

    @pytest.mark.parametrize("empty", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
    @pytest.mark.parametrize("at_once", [True, False])
    def test_empty_lines_before_a_request_are_skipped(self, fake, empty, at_once):
        """RFC 9112 §2.2; old clients send one behind a body."""
        with H1(fake) as client:
            for body in (b"", b"123"):
                said = empty + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body + empty
                for piece in [said] if at_once else [bytes([byte]) for byte in said]:
                    client.send(piece)
                assert client.answer().said["body"] == body.decode()

    def test_methods_are_case_sensitive(self, fake):
        """RFC 9110 §9.1."""
        for version in (H1, H2):
            with version(fake) as client:
                assert client.get(method="get").said["method"] == "get"
        assert fake.journal.exchanges[-1].facts.method == "get"

    def test_a_folded_value_is_one(self, fake):
        """RFC 9112 §5.2."""
        with H1(fake) as client:
            client.send(HEAD + b"Host: a\r\nX: b\r\n\tc\r\n\r\n")
            assert ["x", "b c"] in client.answer().said["headers"]

    def test_line_feeds_alone_end_lines(self, fake):
        """RFC 9112 §2.2."""
        with H1(fake) as client:
            client.send(b"GET / HTTP/1.1\nHost: a\n\n")
            assert client.answer().status == 200

    def test_an_expectation_of_http_1_0_is_passed_over(self, fake):
        """RFC 9110 §10.1.1."""
        with H1(fake) as client:
            client.ask("/", b"123", headers=[("Expect", "100-continue")], version="1.0")
            answer = client.answer()
            assert (answer.early, answer.said["body"]) == ([], "123")

    @pytest.mark.parametrize("kind", SETTINGS_THAT_ARE_NONE)
    def test_an_upgrade_with_settings_that_are_none(self, clear, kind):
        """RFC 7540 §3.2.1."""
        with H1(clear) as client:
            client.send(UPGRADE % (BOTH, b"HTTP2-Settings: %s\r\n" % SETTINGS_THAT_ARE_NONE[kind]))
            assert client.answer().status == 400
            assert client.ended
        clear._bridge.raise_errors()

    @pytest.mark.parametrize(
        ("connection", "told"),
        [
            (BOTH, b""),  # no settings
            (BOTH, b"HTTP2-Settings: AAMAAABk\r\nHTTP2-Settings: AAMAAABk\r\n"),
            (b"keep-alive", b"HTTP2-Settings: AAMAAABk\r\n"),
            (BOTH, b"HTTP2-Settings: AAMAAABk\r\nContent-Length: 0\r\n"),
        ],
    )
    def test_an_upgrade_that_is_not_asked_for_rightly_is_passed_over(self, clear, connection, told):
        """RFC 7540 §3.2.1, RFC 9110 §7.8."""
        with H1(clear) as client:
            client.send(UPGRADE % (connection, told))
            assert client.answer().said["version"] == "1.1"

    def test_in_tls_there_is_no_upgrade(self):
        """RFC 7540 §3.3: h2c is for clear text, whatever its settings are."""
        with FakeHTTP(tls="implicit") as fake:
            for told in (b"AAMAAABk", b"A"):
                with H1(fake) as client:
                    client.send(UPGRADE % (BOTH, b"HTTP2-Settings: %s\r\n" % told))
                    assert client.answer().said["version"] == "1.1"


class TestConnect:
    """A fake is no proxy (RFC 9110 §9.3.6)."""

    @pytest.mark.parametrize("own_app", [True, False])
    def test_it_is_not_implemented(self, own_app):
        async def app(scope, receive, send):
            assert scope["type"] == "lifespan", "no CONNECT gets here"

        with FakeHTTP(tls="none", **({"app": app} if own_app else {})) as fake:
            with H1(fake) as client:
                for _ in range(2):
                    client.ask("other.test:443", method="CONNECT")
                    assert client.answer().status == 501
            with H2(fake) as client:
                number = say(client, [(":method", "CONNECT"), (":authority", "other.test:443")], end=False)
                assert client.answer(number).status == 501
                client.data(number, b"what goes into the tunnel")
                client.ping()

    @pytest.mark.parametrize(
        "rule", [{"status": 200, "body": "x"}, {"status": 204}, {"status": 407}, {"drip": "1ms", "status": 200}]
    )
    def test_rules_may_answer_it(self, rule):
        with FakeHTTP(rules(one("request", **rule)), tls="none") as fake:
            with H1(fake) as client:
                client.ask("other.test:443", method="CONNECT")
                client.send(b"\x16\x03\x01")
                answer = client.head()
                assert answer.status == rule["status"]
                if answer.status == 200:
                    assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
                    assert client.ended
            with H2(fake) as client:
                number = say(client, [(":method", "CONNECT"), (":authority", "other.test:443")], end=False)
                assert (client.answer(number).status, client.answer(number).body) == (rule["status"], b"")
            fake._bridge.raise_errors()


PARTS = st.sampled_from(
    [
        b"GET", b"POST", b"CONNECT", b"PRI", b" ", b"/", b"*", b"a:1", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"\r\n",
        b"\n", b"\r", b"\t", b"Host: a", b"Host:", b"Content-Length: 3", b"Content-Length: 4, 3", b"Expect: 100-continue",
        b"Transfer-Encoding: chunked", b"Connection: close", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
        b"Upgrade: websocket", b"HTTP2-Settings: AAMAAABk", b"HTTP2-Settings: A", b"3", b"0", b"\r\n\r\n", b"abc", b"\0",
        b"\xff", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST /x HTTP/1.1\r\nHost: a\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"SM\r\n\r\n",
    ]
)  # fmt: skip


def to_the_end(client: H1 | H2, pieces: list[bytes]) -> None:
    """Say all of it and no more, and read what comes."""
    with contextlib.suppress(OSError):
        for piece in pieces:
            client.send(piece)
        client.sock.shutdown(socket.SHUT_WR)
        client.until_end()


@given(st.lists(PARTS, max_size=14), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_the_fake_fail(clear, parts, at_once):
    with H1(clear) as client:
        to_the_end(client, [b"".join(parts)] if at_once else parts)
    with H1(clear) as client:
        assert client.get("/next").status == 200
    clear._bridge.raise_errors()


FRAMES = st.tuples(
    st.integers(0, 12), st.integers(0, 255), st.sampled_from([0, 1, 1, 3, 2, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"\x82\x84\x86\x41\x01a", b"\x83\x84\x86\x41\x01a", b"\x82", b"\0" * 4, b"\0" * 6, b"\0" * 8]),
    ),
)  # fmt: skip


@given(st.lists(FRAMES, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_frames_make_the_fake_fail(clear, frames):
    with H2(clear) as client:
        to_the_end(client, [b"".join(frame(*one) for one in frames)])
    with H2(clear) as client:
        assert client.get("/next").status == 200
    clear._bridge.raise_errors()
