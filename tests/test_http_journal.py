"""What the journal of an HTTP fake tells a judge: arrivals, frames with their times, and what was asked after the close."""

from __future__ import annotations

import ssl

import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame

from http_client import H1, H2, one, rules
from notnow import FakeHTTP, ManualClock
from notnow.journal import CertificateRejected, Exchange, GoAwayFrame, HandshakeAbandoned
from notnow.servers.base import turns

pytestmark = pytest.mark.usefixtures("each_loop")


def asked(fake: FakeHTTP) -> list[Exchange]:
    return [x for x in fake.journal if x.moment == "request"]


class TestArrivals:
    def test_a_request_while_the_answer_before_it_is_late(self):
        with FakeHTTP(rules(one("request", delay="3s", times=1)), clock=ManualClock()) as fake, H1(fake) as client:
            client.ask("/1")
            fake.wait_for(lambda j: j.count("request"))
            fake.clock.advance(1)
            client.ask("/2")
            (session,) = fake._bridge.sessions.values()
            came = session.arrivals.count
            fake.wait_for(lambda _: session.arrivals.count > came or session.arrivals._pieces)
            fake.clock.advance(2)
            assert [client.answer().status for _ in range(2)] == [200, 200]
            late, early = asked(fake)
            assert (late.answered_at, early.arrived_at, early.at) == (3, 1, 3)
            assert late.index < early.arrived_index < early.index

    def test_a_request_that_waits_for_the_answer_arrives_when_it_is_read(self):
        with FakeHTTP() as fake, H1(fake) as client:
            for _ in range(3):
                assert client.get(body=b"12345").status == 200
            assert [x.arrival for x in asked(fake)] == [None] * 3

    def test_listeners_are_told_that_two_requests_arrived_together(self):
        told = []
        with FakeHTTP(rules(one("request", status=421))) as fake, H1(fake) as client:
            fake.journal.subscribe(lambda entry: told.append((entry.as_dict().get("arrived_index"), entry)))
            client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n" * 2)
            assert [client.answer().status for _ in range(2)] == [421, 421]
            first, second = asked(fake)
            assert told == [(None, first), (first.index, second)]

    def test_streams_side_by_side_arrive_when_they_are_opened(self):
        with FakeHTTP(rules(one("request", delay="3s", times=1)), clock=ManualClock()) as fake, H2(fake) as client:
            first = client.request("/1")
            fake.wait_for(lambda j: j.count("request"))
            fake.clock.advance(1)
            assert client.get("/2").status == 200
            fake.clock.advance(2)
            assert client.answer(first).status == 200
            assert [(x.arrived_at, x.answered_at) for x in asked(fake)] == [(0, 3), (1, 1)]


class TestCancelled:
    def test_a_stream_that_the_client_resets(self):
        with FakeHTTP(rules(one("request", stall=True, times=1)), clock=ManualClock()) as fake, H2(fake) as client:
            number = client.request("/1")
            fake.wait_for(lambda j: j.count("request"))
            fake.clock.advance(2)
            client.rst(number)
            assert client.get("/1").status == 200
            first, again = asked(fake)
            assert first.http is not None
            assert first.http.cancelled is not None
            assert first.index < first.http.cancelled.index < again.index
            assert first.http.cancelled.at == 2

    def test_a_stream_that_was_answered_or_lost_with_its_connection(self):
        with FakeHTTP(rules(one("request", stall=True, nth=2))) as fake:
            with H2(fake) as client:
                assert client.get("/1").status == 200
                client.request("/2")
                fake.wait_for(lambda j: j.count("request") == 2)
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert [x.http.cancelled for x in asked(fake) if x.http] == [None, None]


class TestFrames:
    def test_a_goaway_keeps_the_time_at_which_it_left(self):
        scenario = rules(one("request", goaway="NO_ERROR", delay="3s", times=1))
        with FakeHTTP(scenario, clock=ManualClock()) as fake, H2(fake) as client:
            number = client.request("/1")
            fake.wait_for(lambda j: j.count("request"))
            fake.clock.advance(3)
            assert client.answer(number).status == 200
            (record,) = fake.journal.connections
            (goaway,) = record.goaways
            assert client.farewells == [(goaway.last_stream, goaway.code)]
            assert (goaway.at, asked(fake)[0].answered_at) == (0, 3)
            assert asked(fake)[0].index < goaway.index

    def test_the_goaway_of_a_close_is_in_the_journal(self):
        with FakeHTTP(rules(one("request", close=True))) as fake, H2(fake) as client:
            client.request("/1")
            client.rest()
            (record,) = fake.journal.connections
            assert [(f.last_stream, f.code) for f in record.goaways] == client.farewells == [(1, "NO_ERROR")]
            (exchange,) = asked(fake)
            assert (exchange.reply, exchange.told) == (None, "GOAWAY NO_ERROR, last stream 1")
            assert exchange.sent(GoAwayFrame) == list(record.goaways)

    def test_the_goaway_to_a_client_that_breaks_the_protocol(self):
        with FakeHTTP() as fake, H2(fake) as client:
            assert client.get("/").status == 200
            client.send(b"\0\0\x01\x06\0\0\0\0\0x")  # PING of one byte
            client.rest()
            (record,) = fake.journal.connections
            assert [(f.last_stream, f.code) for f in record.goaways] == client.farewells


class TestRequests:
    @pytest.mark.parametrize("version", [H1, H2])
    def test_the_idempotency_key_is_known(self, version):
        with FakeHTTP() as fake, version(fake) as client:
            client.get("/a?b=c", b"body", headers=[("idempotency-key", "k1")])
            client.get("/")
            first, second = (x.http for x in asked(fake))
            assert (first.idempotency_key, first["idempotency-key"], first.path) == ("k1", "k1", "/a?b=c")
            assert second.idempotency_key is None

    @pytest.mark.parametrize("version", [H1, H2])
    def test_an_answer_that_is_cut_says_how_far_it_came(self, version):
        scenario = rules(one("response", close="reset", after_bytes=5))
        with FakeHTTP(scenario) as fake, version(fake) as client:
            with pytest.raises((OSError, EOFError)):
                client.get("/")
            fake.wait_for(lambda j: j.connections[0].ended_by)
            (exchange,) = asked(fake)
            assert exchange.told == f"200 OK, then a cut after 5 of {exchange.http.length} bytes"


class TestAfterTheClose:
    def test_requests_of_http2_are_read_in_what_comes_after_the_close(self):
        with FakeHTTP(rules(one("request", close=True))) as fake, H2(fake) as client:
            _, first = client.head("/1")
            _, second = client.head("/2?x=y", method="POST", authority="a.test")
            client.send(first)
            client.until(lambda: client.farewells)
            client.send(second[:20])
            client.send(second[20:])
            fake.wait_for(lambda j: j.connections[0].after)
            (record,) = fake.journal.connections
            assert record.after == "POST /2?x=y HTTP/2\r\nhost: a.test\r\n\r\n"
            assert record.after_bytes >= len(second)  # and the acknowledgement of the fake's settings
            assert record.after_arrival.index > record.closed_index

    def test_what_the_last_request_was_like_makes_no_difference(self, monkeypatch):
        """Trailers before a head, and one without a body before one with a body."""
        monkeypatch.setattr(turns, "PIECE", 1e9)
        with FakeHTTP(rules(one("request", close=True))) as fake, H2(fake) as client:
            number, head = client.head("/1", method="POST", end=False)
            trailers = HeadersFrame(number, client.encoder.encode([("x", "y")]), flags=["END_HEADERS", "END_STREAM"])
            client.send(head + trailers.serialize())
            client.until(lambda: client.farewells)
            client.send(client.head("/2")[1])
            fake.wait_for(lambda j: j.connections[0].after)
        with FakeHTTP(rules(one("request", close=True))) as fake, H2(fake) as client:
            client.request("/1")
            client.until(lambda: client.farewells)
            client.send(client.head("/2", method="POST", headers=[("content-length", "3")], end=False)[1])
            fake.wait_for(lambda j: j.connections[0].after)

    def test_a_head_that_began_before_the_close(self, monkeypatch):
        monkeypatch.setattr(turns, "PIECE", 1e9)  # its beginning is read in the turn of the first request
        with FakeHTTP(rules(one("request", close=True))) as fake, H2(fake) as client:
            client.ping()  # and its settings are acknowledged
            _, first = client.head("/1")
            block = client.encoder.encode(client.headers("GET", "/2", "a.test"))
            client.send(first + HeadersFrame(3, block[:3], flags=["END_STREAM"]).serialize())
            client.until(lambda: client.farewells)
            client.send(ContinuationFrame(3, block[3:], flags=["END_HEADERS"]).serialize())
            fake.wait_for(lambda j: j.connections[0].after)
            assert fake.journal.connections[0].after == "GET /2 HTTP/2\r\nhost: a.test\r\n\r\n"

    def test_garbage_after_the_close_is_no_request(self):
        with FakeHTTP(rules(one("request", close=True))) as fake, H2(fake) as client:
            client.request("/1")
            client.until(lambda: client.farewells)
            client.send(b"\0\0\x05\x01\x04\0\0\0\x03\xff\xff\xff\xff\xff" + b"x" * 100)
            fake.wait_for(lambda j: j.connections[0].after_bytes)
            assert fake.journal.connections[0].after == ""
        assert fake._bridge.errors == []


class TestTLS:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_a_certificate_that_the_client_rejects(self, version):
        with FakeHTTP(tls="implicit") as fake, H1(fake, tls=False) as client:
            context = ssl.create_default_context()
            context.minimum_version = context.maximum_version = version
            with pytest.raises(ssl.SSLCertVerificationError):
                client.wrap(context, "localhost")
            fake.wait_for(lambda j: j.connections[0].ended_by)
            (record,) = fake.journal.connections
            assert (record.failure, record.ended_by) == (CertificateRejected("unknown_ca"), "client")

    def test_a_client_that_leaves_after_the_handshake(self):
        with FakeHTTP(tls="implicit") as fake:
            with H1(fake):
                pass
            fake.wait_for(lambda j: j.connections[0].ended_by)
            assert fake.journal.connections[0].failure == HandshakeAbandoned(done=True)
