"""The catalogue for HTTP over TLS and HTTP/2: status, headers, bodies, alerts, RST_STREAM and GOAWAY as a client gets them.

The words are written down here once more, and not read from the files under test.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from email.utils import formatdate
from fnmatch import fnmatch
from pathlib import Path

import pytest

from http_client import H1, H2, Answer
from notnow import FakeHTTP, ManualClock
from notnow.language import catalogue

APACHE = b"""<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">
<html><head>
<title>421 Misdirected Request</title>
</head><body>
<h1>Misdirected Request</h1>
<p>The client needs a new connection for this
request as the requested host name does not match
the Server Name Indication (SNI) in use for this
connection.</p>
</body></html>
"""
NGINX = (
    b"<html>\r\n<head><title>421 Misdirected Request</title></head>\r\n<body>\r\n"
    b"<center><h1>421 Misdirected Request</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
HAPROXY = (
    b"<html><body><h1>421 Misdirected Request</h1>\n"
    b"Request sent to a non-authoritative server.\n</body></html>\n"
)  # fmt: skip
FASTLY = (
    b"Requested host does not match any Subject Alternative Names (SANs) on TLS certificate "
    b"[e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855] in use with this connection.\n\n"
    b"Visit https://docs.fastly.com/en/guides/common-400-errors#error-421-misdirected-request for more information.\n"
)
AZURE = (
    b"<h2>Our services aren't available right now</h2><p>We're working to restore all services as soon as possible. "
    b"Please check back soon.</p>"
)
HTML = {"content-type": "text/html"}
WORDS: dict[str, tuple[dict[str, str], bytes]] = {
    "apache": ({"content-type": "text/html; charset=iso-8859-1"}, APACHE),
    "nginx": (HTML, NGINX),
    "caddy": ({}, b""),
    "traefik": ({"content-type": "text/plain"}, b"Misdirected Request\n"),
    "haproxy": ({"cache-control": "no-cache", **HTML}, HAPROXY),
    "contour": ({}, b""),
}
LIKES = {
    "http/sni-mismatch": ("apache", "nginx", "caddy", "traefik"),
    "http/coalesced": ("apache", "nginx", "haproxy", "contour"),
}


def fake(name: str, **knobs: object) -> FakeHTTP:
    return FakeHTTP(name, clock=ManualClock(), **knobs)


def said(answer: Answer) -> tuple[int | None, dict[str, str], bytes]:
    """An answer but for what every answer has: its date, and a length, which has to be right."""
    assert answer.ended
    assert answer.reset is None
    headers = dict(answer.headers)
    assert headers.pop("date").endswith(" GMT")
    assert int(headers.pop("content-length")) == len(answer.body)
    return answer.status, headers, answer.body


def bare(answer: Answer, status: int = 421, **headers: str) -> bool:
    """True for this status, these headers, and nothing beside."""
    return said(answer) == (status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


def served(answer: Answer, authority: str = "", body: bytes = b"") -> bool:
    """True if the app has had the request, and its answer has come whole."""
    status, headers, echo = said(answer)
    assert (status, headers["content-type"]) == (200, "application/json")
    told = json.loads(echo)
    return authority in told["authority"] and told["body"] == body.decode()


# ---- the wrong connection ------------------------------------------------------------------------


def test_a_healthy_server_answers_on_whichever_connection():
    with fake("http/healthy") as http, H2(http, sni="a.site.test") as client:
        assert served(client.get())
        assert served(client.get(host="b.site.test"), "b.site.test")
        assert served(client.post(b"x" * 50_000), body=b"x" * 50_000)
        http.assert_never_exceeded(connections=1)


@pytest.mark.parametrize(("name", "like"), [(name, like) for name, likes in LIKES.items() for like in likes])
def test_a_host_that_is_not_the_sni(name, like):
    with fake(name, like=like) as http:
        with H2(http, sni="a.site.test") as client:
            assert served(client.get())
            assert said(client.get(host="b.site.test")) == (421, *WORDS[like])
            if like == "caddy":
                assert (client.end(), client.farewells) == ("fin", [(3, "NO_ERROR")])
            else:
                assert served(client.get(), "a.site.test")
        with H2(http, sni="b.site.test") as client:
            assert served(client.get(), "b.site.test")


def test_one_certificate_is_shown_for_both_hosts():
    with fake("http/coalesced") as http:
        for sni in ("a.site.test", "b.site.test", "localhost"):
            with H2(http, sni=sni) as client:  # whose TLS has looked at the certificate
                assert served(client.get())
        assert {connection.tls.certificate for connection in http.journal.connections} == {"shared"}
        assert set(http.hosts) == {"a.site.test", "b.site.test", "localhost"}


def test_no_sni():
    with fake("http/no-sni") as http, H2(http, sni=None) as client:
        for host in ("127.0.0.1", "a.site.test"):
            assert said(client.get(host=host)) == (421, *WORDS["apache"])
        assert served(client.get(host="default.site.test"))
        with H2(http, sni="a.site.test") as named:
            assert served(named.get())


def test_a_host_that_the_certificate_does_not_cover():
    with fake("http/certificate-mismatch") as http:
        with H2(http, sni="a.site.test") as client:
            assert served(client.get(host="localhost"))  # which it does cover
            assert said(client.get(host="b.site.test")) == (421, {"content-type": "text/plain; charset=utf-8"}, FASTLY)
            assert (client.end(), client.farewells) == ("fin", [(3, "NO_ERROR")])
        with H2(http, sni="b.site.test") as client:
            assert served(client.get())


def test_a_front_is_not_let_through():
    with fake("http/domain-fronting") as http:
        with H2(http, sni="front.site.test") as client:
            assert said(client.get(host="hidden.site.test")) == (421, HTML, AZURE)
            assert served(client.get(host="front.site.test"))
        with H2(http, sni="hidden.site.test") as client:
            assert served(client.get())


def test_421_for_ever():
    with fake("http/misdirected-forever") as http:
        for sni in ("a.site.test", "b.site.test", None):
            with H2(http, sni=sni) as client:
                assert bare(client.get())
                assert bare(client.post(b"x" * 20_000))
        http.assert_no_duplicates()


def test_421_for_the_first_requests():
    with fake("http/misdirected-times", times=2) as http, H2(http) as client:
        assert bare(client.get())
        assert bare(client.get())
        assert served(client.get())


def test_421_for_the_first_post_to_each_host():
    body = b"x" * 20_000
    with fake("http/misdirected-post") as http, H2(http) as client:
        assert served(client.post(b""))
        for host in ("a.site.test", "b.site.test"):
            assert bare(client.post(body, host=host))
            with H2(http, sni=host) as another:
                assert served(another.post(body), host, body)
        assert served(client.get(host="c.site.test"))


def test_421_for_a_post_whose_body_has_no_length_beforehand():
    with fake("http/misdirected-post") as http, H2(http) as client:
        number = client.request(method="POST", end=False)
        assert bare(client.answer(number))  # before any of it has come
        client.upload(number, b"late")
        assert served(client.post(b"whole"), body=b"whole")


def test_421_while_the_body_is_coming():
    with fake("http/early-421") as http, H2(http) as client:
        number = client.request(method="POST", end=False)
        client.upload(number, b"x" * 9_999, end=False)
        http.wait_for(lambda j: (asked := j.exchanges[-1].http) and asked.body_bytes == 9_999)
        assert client.answer_so_far(number).status is None
        client.upload(number, b"x", end=False)
        assert bare(client.answer(number))
        client.upload(number, b"x" * 30_000)  # the rest is on its way all the same, and does no harm
        assert served(client.post(b"y" * 40_000), body=b"y" * 40_000)


def test_421_for_a_body_that_comes_with_its_head():
    with fake("http/early-421", bytes=1) as http, H2(http) as client:
        assert bare(client.post(b"x" * 20_000))
        assert served(client.post(b"x"), body=b"x")


@pytest.mark.parametrize("answer", ["again", "clear"])
def test_an_alternative_service_that_is_the_wrong_one(answer):
    with fake("http/alt-svc", answer=answer) as http, H2(http, sni="a.site.test") as origin:
        alternative = f"alt.site.test:{http.port}"
        named = f'h2="{alternative}"; ma=3600'
        first = origin.get()
        assert served(first)
        assert first.headers["alt-svc"] == named
        in_421 = named if answer == "again" else "clear"
        with H2(http, sni="a.site.test") as client:  # as RFC 7838 §2.1 has it: SNI and authority are the origin's
            assert bare(client.get(headers=[("alt-used", alternative)]), alt_svc=in_421)
        with H2(http, sni="alt.site.test") as client:
            assert bare(client.get(), alt_svc=in_421)
        assert served(origin.get())


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("http/expired-certificate", "certificate has expired"),
        ("http/untrusted-certificate", "unable to get local issuer|self-signed"),
        ("http/incomplete-chain", "unable to get local issuer"),
    ],
)
def test_a_bad_certificate(name, reason):
    with fake(name) as http:
        for host in ("site.test", "localhost"):
            with pytest.raises(ssl.SSLCertVerificationError, match=reason):
                H2(http, sni=host)
        http.clock.advance("30s")
        with H2(http, sni="site.test") as client:
            assert served(client.get())


def test_an_old_certificate():
    with fake("http/stale-certificate", handshakes=2) as http:
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'new.site.test'"):
            H2(http, sni="new.site.test", check_name=True)
        with H2(http, sni="new.site.test") as careless:
            assert bare(careless.get())
            assert served(careless.get(host="old.site.test"))
        with H2(http, sni="new.site.test", check_name=True) as client:
            assert served(client.get())


def test_a_name_that_the_server_does_not_know():
    with fake("http/unrecognized-name") as http:
        for host in ("a.site.test", "localhost"):
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                H2(http, sni=host)
        with H2(http, sni=None) as client:
            assert served(client.get())
        http.clock.advance("30s")
        with H2(http, sni="a.site.test") as client:
            assert served(client.get())


def test_another_alert():
    with fake("http/unrecognized-name", alert="handshake_failure", names="a.*") as http:
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            H2(http, sni="a.site.test")
        with H2(http, sni="b.site.test") as client:
            assert served(client.get())


# ---- too much ------------------------------------------------------------------------------------


def test_an_overload():
    with fake("http/overload", outage="2m") as http, H2(http) as client:
        assert bare(client.get(), 503, retry_after="120")
        http.clock.advance("90.5s")
        assert bare(client.get(), 503, retry_after="30")
        http.clock.advance("29.5s")
        assert served(client.get())


def test_an_overload_that_says_a_date():
    with fake("http/overload", retry_after="date") as http, H2(http) as client:
        ends = http.clock.epoch + http.clock.now() + 30
        assert client.get().headers["retry-after"] in {formatdate(ends + late, usegmt=True) for late in (0, 1)}
        http.clock.advance("30s")
        assert served(client.get())


def test_a_server_that_is_busy_after_its_outage():
    with fake("http/busy", outage="10s", capacity="0.1/s", queue=0, refusal_cost="0%") as http, H2(http) as client:
        assert bare(client.get(), 503, retry_after="10")
        http.clock.advance("10s")
        first = client.request()
        assert bare(client.get(), 503, retry_after="10")
        http.clock.advance("10s")
        assert served(client.answer(first))


def test_storms_and_calm_spells():
    with fake("http/weather", chance="100%", retry_after="7s") as http, H2(http) as client:
        assert bare(client.get(), 503, retry_after="7")
        http.clock.advance("30s")
        assert served(client.get())
        http.clock.advance("60s")
        assert bare(client.get(), 503, retry_after="7")


def test_a_storm_may_refuse_misdirect_and_cut():
    none = dict.fromkeys(("chance", "misdirected", "refused", "goaway", "lost", "cut", "late"), "0%")
    for knob in ("misdirected", "refused", "cut"):
        with fake("http/weather", **{**none, knob: "100%"}) as http, H2(http) as client:
            answer = client.outcome(client.request("/"))
            assert (answer.status, answer.reset) == {
                "misdirected": (421, None),
                "refused": (None, "REFUSED_STREAM"),
            }.get(knob, (200, None))
            assert answer.ended is (knob == "misdirected")


def test_a_rate_limit():
    with fake("http/rate-limited", requests=2, window="10s") as http, H2(http) as client:
        assert served(client.get())
        http.clock.advance("4s")
        with H2(http) as another:  # of the same address
            assert served(another.get())
            assert bare(another.get(), 429, retry_after="6")
        assert bare(client.get(), 429, retry_after="6")
        http.clock.advance("6s")
        assert served(client.get())
        assert bare(client.get(), 429, retry_after="4")


@pytest.mark.parametrize(("like", "status"), [("unavailable", 503), ("misdirected", 421)])
def test_a_cap_on_connections_that_says_so(like, status):
    with fake("http/connection-cap", cap=1, like=like) as http, H2(http) as first:
        with H2(http) as second:
            assert bare(second.get(), status)
            assert (second.end(), second.farewells) == ("fin", [(1, "NO_ERROR")])
        assert served(first.get())
        first.close()
        with H2(http) as third:
            assert served(third.get())


@pytest.mark.parametrize(("like", "error"), [("closed", ssl.SSLEOFError), ("reset", ConnectionResetError)])
def test_a_cap_on_connections_that_says_nothing(like, error):
    with fake("http/connection-cap", cap=1, like=like) as http, H2(http) as first:
        with pytest.raises(error):
            H2(http)
        assert served(first.get())
        first.close()
        with H2(http) as third:
            assert served(third.get())


@pytest.mark.parametrize("announced", [2, 100])
def test_a_cap_on_streams(announced):
    with fake("http/stream-cap", announced=announced) as http, H2(http) as client:
        client.ping()
        assert client.settings[3] == announced  # SETTINGS_MAX_CONCURRENT_STREAMS
        first, second, third, fourth = (client.request(method="POST", end=False) for _ in range(4))
        for beyond in (third, fourth):
            assert client.answer(beyond) == Answer(reset="REFUSED_STREAM")
        for number in (first, second):
            client.upload(number, b"x")
            assert served(client.answer(number), body=b"x")
        assert served(client.get())
        assert client.farewells == []


# ---- ends ----------------------------------------------------------------------------------------


def test_goaway_that_lets_all_finish():
    with fake("http/goaway-graceful", requests=2) as http, H2(http) as client:
        upload = client.request(method="POST", end=False)
        assert served(client.get())
        assert client.farewells == [(3, "NO_ERROR")]
        late = client.answer(client.request())
        assert late == Answer(reset="REFUSED_STREAM")
        client.upload(upload, b"whole")
        assert served(client.answer(upload), body=b"whole")
        assert client.end() == "fin"
        with H2(http) as another:
            assert served(another.get())


def test_goaway_with_another_code():
    with fake("http/goaway-graceful", requests=1, code="ENHANCE_YOUR_CALM") as http, H2(http) as client:
        assert served(client.get())
        assert (client.end(), client.farewells) == ("fin", [(1, "ENHANCE_YOUR_CALM")])


def test_goaway_that_leaves_a_request_unserved():
    with fake("http/goaway-mid-request") as http:
        with H2(http) as client:
            assert client.post(b"x") == Answer()
            assert (client.end(), client.farewells) == ("fin", [(0, "NO_ERROR")])
        with H2(http) as client:
            assert served(client.post(b"x"), body=b"x")
        assert [x.fault for x in http.journal if x.moment == "request"] == ["goaway", None]


@pytest.mark.parametrize("code", ["REFUSED_STREAM", "INTERNAL_ERROR", "CANCEL", "ENHANCE_YOUR_CALM"])
@pytest.mark.parametrize("stage", ["request", "response"])
def test_a_stream_is_reset(stage, code):
    asked = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            asked.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

    with fake("http/stream-reset", stage=stage, code=code, app=app) as http, H2(http) as client:
        assert client.get("/1") == Answer(reset=code)
        assert bare(client.get("/2"), 200)
        assert client.farewells == []
    assert asked == (["/1", "/2"] if stage == "response" else ["/2"])


@pytest.mark.parametrize(("how", "error"), [("reset", ConnectionResetError), ("fin", ssl.SSLEOFError)])
@pytest.mark.parametrize("stage", ["connect", "tls"])
def test_a_connection_ends_before_there_is_tls(stage, how, error):
    with fake("http/connection-reset", stage=stage, how=how) as http:
        with pytest.raises(error):
            H2(http)
        with H2(http) as client:
            assert served(client.get())


@pytest.mark.parametrize(
    ("how", "end", "farewells"), [("reset", "reset", []), ("fin", "fin", [(1, "NO_ERROR")]), ("abrupt", "fin", [])]
)
@pytest.mark.parametrize("stage", ["request", "response"])
def test_a_connection_ends_in_place_of_an_answer(stage, how, end, farewells):
    with fake("http/connection-reset", stage=stage, how=how) as http:
        with H2(http) as client:
            client.ping()  # all is read: an abrupt close resets nothing
            assert client.outcome(client.request()) == Answer()
            assert (client.end(), client.farewells) == (end, farewells)
        with H2(http) as client:
            assert served(client.get())


@pytest.mark.parametrize("stage", ["request", "response"])
def test_a_request_is_never_answered(stage):
    with fake("http/stalled", stage=stage) as http, H2(http) as client:
        stalled = client.request()
        http.wait_for(lambda j: j.exchanges[-1].fault == "silent")
        http.clock.advance("1h")
        assert served(client.get())  # what comes on the same connection is answered
        assert client.answer_so_far(stalled) == Answer()
        client.rst(stalled)
        assert served(client.get())


def test_a_connection_is_never_served():
    with fake("http/stalled", stage="connect") as http:
        with pytest.raises(TimeoutError):
            H2(http, patience=0.2)
        with H2(http) as client:
            assert served(client.get())


def test_an_answer_stalls_amid_its_body():
    with fake("http/stalled", stage="response", how="amid") as http, H2(http) as client:
        stalled = client.request()
        client.until(lambda: len(client.answer_so_far(stalled).body) >= 100)
        assert served(client.get())
        assert (len(client.answer_so_far(stalled).body), client.answer_so_far(stalled).over) == (100, False)


def test_every_answer_is_late_and_slow():
    with fake("http/slow-drip") as http, H2(http) as client:
        number = client.request()
        answer = client.answer_so_far(number)
        http.wait_for(lambda j: j.count("request"))
        http.settle()
        http.clock.advance("1999ms")
        http.settle()
        assert served_later(client, answer, "1ms", 1)
        for so_far in range(2, 5):
            assert served_later(client, answer, "50ms", so_far)
        http.clock.advance("1m")
        assert served(client.answer(number))


def served_later(client: H2, answer: Answer, span: str, so_far: int) -> bool:
    """True if a byte of the body comes after this time, and none before."""
    assert len(answer.body) == so_far - 1
    client.fake.clock.advance(span)
    client.until(lambda: len(answer.body) >= so_far)
    return answer.status == 200 and len(answer.body) == so_far and not answer.over


@pytest.mark.parametrize(
    ("how", "reset", "farewells"),
    [("stream", "INTERNAL_ERROR", []), ("fin", None, [(1, "NO_ERROR")]), ("reset", None, [])],
)
def test_an_answer_is_cut(how, reset, farewells):
    with fake("http/truncated", how=how) as http:
        with H2(http) as client:
            answer = client.outcome(client.request())
            assert (answer.status, len(answer.body), answer.ended, answer.reset) == (200, 100, False, reset)
            assert int(answer.headers["content-length"]) > 100
            if how == "stream":
                assert served(client.get())
            else:
                assert (client.end(), client.farewells) == (how, farewells)
        with H2(http) as client:
            assert served(client.get())


# ---- what is expected can be missed --------------------------------------------------------------


def missed(http: FakeHTTP) -> str:
    """How a client that has got its answers did not do what is expected of it all the same."""
    http.assert_delivered()
    with pytest.raises(AssertionError) as error:
        http.assert_expected()
    return str(error.value)


def test_who_asks_again_where_it_was_told_421():
    with fake("http/misdirected-times") as http, H2(http) as client:
        assert bare(client.get())
        assert served(client.get())
        http.assert_expected()  # RFC 9110 §15.5.20 neither allows nor forbids that
        with pytest.raises(AssertionError, match="it tried again on the same one, #1"):
            http.assert_new_connection_after(421)


def test_who_comes_back_before_it_was_told_to():
    with fake("http/overload") as http, H2(http) as client:
        assert bare(client.get(), 503, retry_after="30")
        http.clock.advance("29s")
        assert bare(client.get(), 503, retry_after="1")
        http.clock.advance("1s")
        assert served(client.get())
        assert "it was told to wait 30s (Retry-After: 30), and waited 29s" in missed(http)


@pytest.mark.parametrize("name", ["http/misdirected-post", "http/early-421"])
def test_who_sends_only_the_rest_of_its_body(name):
    with fake(name) as http, H2(http) as first, H2(http) as second:
        assert bare(first.post(b"x" * 20_000))
        assert served(second.post(b"x" * 5_000), body=b"x" * 5_000)
        with pytest.raises(AssertionError, match="5000 after"):
            http.assert_expected()
        with pytest.raises(AssertionError, match="never came through"):
            http.assert_delivered()


def test_who_hides_behind_a_front():
    with fake("http/domain-fronting") as http, H2(http, sni="front.site.test") as client:
        assert client.get(host="hidden.site.test").status == 421
        with H2(http, sni="hidden.site.test") as hidden:
            assert served(hidden.get())
        assert "one for hidden.site.test came on a connection with the SNI front.site.test" in missed(http)


def test_who_names_nobody():
    with fake("http/no-sni") as http, H2(http, sni=None) as client:
        assert served(client.get(host="default.site.test"))
        assert "one for default.site.test came on a connection without an SNI" in missed(http)


def test_who_sends_everything_on_one_connection():
    with fake("http/certificate-mismatch") as http, H2(http, sni="a.site.test") as client:
        assert served(client.get())
        assert client.get(host="b.site.test").status == 421
        with H2(http, sni="b.site.test") as another:
            assert served(another.get())
        assert "#1 carried requests for a.site.test and for b.site.test" in missed(http)


@pytest.mark.parametrize("udp", ["silent", "closed"])
def test_http_3_is_named_and_not_spoken(udp):
    with fake("http/alt-svc-h3", udp=udp) as http, H2(http) as client:
        answer = client.get()
        assert served_with(answer, alt_svc=f'h3=":{http.port}"; ma=3600')
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as quic:
            quic.settimeout(5)
            quic.connect((http.host, http.port))
            quic.send(b"\xc0\0\0\0\1\x08" + b"12345678" + b"\0" * 1186)
            if udp == "closed":
                with pytest.raises(ConnectionRefusedError):
                    quic.recv(100)
            else:
                http.wait_for(lambda j: j.count("initial") == 1)
        assert client.get().status == 200
        http.assert_delivered()


def served_with(answer: Answer, **headers: str) -> bool:
    return answer.status == 200 and all(answer.headers[n.replace("_", "-")] == v for n, v in headers.items())


def test_a_shutdown_that_is_announced():
    with fake("http/goaway-two-steps", announced=1, last=3) as http, H2(http) as client:
        assert served(client.get())
        assert client.farewells == [(2**31 - 1, "NO_ERROR")]
        assert served(client.get())
        assert served(client.get())
        assert (client.end(), client.farewells) == ("fin", [(2**31 - 1, "NO_ERROR"), (5, "NO_ERROR")])


@pytest.mark.parametrize("version", [H1, H2])
@pytest.mark.parametrize("known", ["localhost", "*.corp.test"])
def test_a_host_that_the_server_does_not_know_in_clear(version, known):
    with fake("http/invalid-host", known=known) as http, version(http) as client:
        for host, status in [
            ("localhost", known),
            ("mcp.corp.test:8000", known),
            ("gateway.test", ""),
            ("127.0.0.1:1", "*"),
        ]:
            right = status == "*" or fnmatch(host.partition(":")[0], status)
            answer = client.get("/mcp", **({"authority": host} if version is H2 else {"headers": [("Host", host)]}))
            assert answer.status == (200 if right else 421)
            assert right or answer.body == b"Invalid Host header"


# ---- the client says what it wants ---------------------------------------------------------------

STATUSES = ["404", "421", "429", "500", "502", "503", "504"]


class TestByPath:
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    @pytest.mark.parametrize("version", [H1, H2])
    @pytest.mark.parametrize("status", STATUSES)
    @pytest.mark.parametrize("rest", ["", "/", "/api/v1/users?page=2"])
    def test_a_status_every_time(self, version, tls, status, rest):
        with fake("http/by-path", tls=tls, retry_after="90s") as http, version(http) as client:
            for _ in range(3):
                answer = client.get(f"/{status}{rest}")
                assert answer.status == int(status)
                assert answer.headers.get("retry-after") == ("90" if status in ("429", "503") else None)

    @pytest.mark.parametrize("status", ["421", "429", "503"])
    def test_a_status_once(self, status):
        with fake("http/by-path") as http, H1(http) as client:
            for _ in range(2):  # tests side by side have a path each
                assert [client.get(f"/once/{status}/{of}").status for of in "abba"] == [int(status)] * 2 + [200] * 2

    @pytest.mark.parametrize(
        ("path", "late"), [("/delay", 3), ("/delay/x", 3), ("/delay/1s/x", 1), ("/delay/10s", 10), ("/delay/1m/x", 60)]
    )
    def test_a_delay(self, path, late):
        with fake("http/by-path", delay="3s") as http, H1(http) as client:
            client.ask(path)
            http.wait_for(lambda j: j.count("request"))
            http.clock.advance(f"{late - 0.01}s")
            assert client.silent()
            http.clock.advance("10ms")
            assert client.answer().status == 200

    def test_drip_and_stall(self):
        with fake("http/by-path", drip="1s") as http, H2(http) as client:
            drips, stalls = client.request("/drip/x"), client.request("/stall/x")
            client.ping()  # both have been read
            http.clock.advance("20s")
            assert http.journal.exchanges[1].facts.sent == 21
            http.clock.advance("1000s")
            assert client.answer(drips).said["path"] == "/drip/x"
            assert client.answer_so_far(stalls).status is None

    def test_ends(self):
        with fake("http/by-path") as http:
            with H1(http) as client:
                client.ask("/close/x")
                assert client.ended
            with H1(http) as client:
                client.ask("/cut/x")
                answer = client.head()
                assert answer.status == 200
                assert len(client.until_end()) == 20
            with H1(http) as client, pytest.raises(ConnectionResetError):
                client.get("/reset/x")
            with H2(http) as client:
                assert client.get("/reset/x").reset == "INTERNAL_ERROR"
                assert client.get("/refused").reset == "REFUSED_STREAM"
                assert client.get("/resettlement").status == client.get("/").status == 200

    def test_goaway(self):
        with fake("http/by-path") as http:
            with H2(http) as client:
                assert client.get("/goaway/x").status == 200
                client.rest()
                assert client.farewells == [(1, "NO_ERROR")]
            with H2(http) as client:
                number = client.request("/goaway/unserved/x")
                client.rest()
                assert (client.farewells, client.answer_so_far(number).status) == ([(0, "NO_ERROR")], None)
            with H1(http) as client:
                assert client.get("/goaway").headers["connection"] == "close"

    def test_the_file_s_table_is_its_vocabulary(self):
        """What the table names, a rule looks for, and the other way round."""
        made = catalogue.scenario("http/by-path")
        text = catalogue.locate("http/by-path").read_text("utf-8")
        told = set(re.findall(r"/[a-z0-9/]+(?=/…)", "\n".join(re.findall("^# \\|.*", text, re.MULTILINE))))
        wanted = [rule.where["path"] for rule in made.rules()]
        globs = {path for one in wanted for path in ([one] if isinstance(one, str) else one)}
        assert told == {path.removesuffix("/*") for path in globs if path.endswith("/*")}


# ---- HTTP/1.1, where it has to do otherwise ------------------------------------------------------


def test_http_1_1_closes_where_http_2_says_goaway():
    for name, knobs, status in (
        ("http/goaway-graceful", {"requests": 1}, "HTTP/1.1 200 OK\r\n"),
        ("http/goaway-mid-request", {}, ""),
        ("http/connection-cap", {"cap": 1, "like": "misdirected"}, "HTTP/1.1 421 Misdirected Request\r\n"),
    ):
        with fake(name, **knobs) as http, H2(http), H1(http) as client:
            client.ask()
            heard = client.until_end()
            assert heard.startswith(status)
            assert ("\r\nconnection: close\r\n" in heard) == bool(status)
            assert bool(heard) == bool(status)


# ------------------------------------------------------------------------------------------------


def test_every_scenario_is_here():
    here = Path(__file__).read_text("utf-8")
    assert [name for name in catalogue.names("http/*") if f'"{name}"' not in here] == []


def test_an_api_says_what_is_left_of_its_quota_in_each_way():
    limits = {"requests": 2, "window": "60s"}
    with fake("http/api-rate-limited", **limits) as http, H2(http) as client:
        assert client.get().headers["ratelimit-policy"] == '"default";q=2;w=60'
        http.clock.advance("20s")
        assert client.get().headers["ratelimit"] == '"default";r=0;t=40'
        refused = client.get()
        assert (refused.status, refused.headers["retry-after"]) == (429, "40")
        assert refused.headers["ratelimit"] == '"default";r=0;t=40'
    for like in ("seconds", "epoch"):
        with fake("http/api-rate-limited", like=like, **limits) as http, H2(http) as client:
            now = http.clock.epoch + http.clock.now()
            at = {"60"} if like == "seconds" else {str(int(now) + 60 + late) for late in (0, 1)}
            for remaining, status in ((1, 200), (0, 200), (0, 429)):
                answer = client.get()
                told = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
                assert answer.status == status
                assert told.pop("x-ratelimit-reset") in at
                assert told == {"x-ratelimit-limit": "2", "x-ratelimit-remaining": str(remaining)}


def test_an_overloaded_api():
    with fake("http/api-overloaded") as http, H2(http) as client:
        refused = client.get()
        assert (refused.status, json.loads(refused.body)["error"]["type"]) == (529, "overloaded_error")
        http.clock.advance("5s")
        assert served(client.get())
    with fake("http/api-overloaded", like="ms", outage="1500ms") as http, H2(http) as client:
        assert bare(client.get(), 503, retry_after_ms="1500", retry_after="2")


def test_an_event_stream_goes_on_where_the_client_says():
    with fake("http/event-stream-cut") as http, H2(http) as client:
        cut = client.get()
        assert (cut.status, cut.reset, cut.ended) == (200, "INTERNAL_ERROR", False)
        assert cut.headers["content-type"] == "text/event-stream"
        assert cut.body.endswith(b"\n\nid: 3\nda")
        rest = client.get(headers=[("last-event-id", "2")])
        assert rest.ended
        assert rest.body == b"id: 3\ndata: third\n\nid: 4\ndata: fourth\n\n"
