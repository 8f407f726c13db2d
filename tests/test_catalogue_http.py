"""The catalogue for HTTP as playbooks: which request is told what, on which connection, and what comes after it.

The words of the servers are not repeated here: tests/test_catalogue_http_wire.py has them as a client gets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from notnow.engine import actions
from notnow.engine.actions import GoAway, ResetStream, Respond, Response
from notnow.language import catalogue
from playbook import (
    CLIENT,
    Alert,
    Asked,
    Certify,
    Close,
    Closed,
    Ended,
    Hang,
    Hello,
    Leaving,
    Opened,
    Playbook,
    Playing,
    Proceed,
    Reached,
    To,
    Wait,
    Watch,
    playing,
)

BEHAVES = Proceed()
MISDIRECTED = Respond(Response(421))
UPLOADS = ("POST", "PUT", "PATCH")


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


def request(conn: str, method: str = "GET", host: str = "a.site.test", stream: int = 1, **facts: Any) -> Asked:
    known = {"method": method, "command": method, "authority": host, "host": host, "path": "/", "size": None}
    return Asked(conn, "request", stream, **{**known, "header": {}, "misdirected": (), **facts})


def response(conn: str, stream: int = 1) -> Asked:
    return Asked(conn, "response", stream, method="GET", path="/")


def through(book: Playbook, conn: str, stream: int = 1, **facts: Any) -> None:
    """A request that is answered as it should be."""
    book >> request(conn, stream=stream, **facts) << BEHAVES
    book >> response(conn, stream) << BEHAVES
    book >> Ended(conn, "request", stream)


def enter(book: Playbook, *conns: str, sni: str | None = "a.site.test", client: str = CLIENT) -> None:
    """Somebody connects and shakes hands, and is let in."""
    for conn in conns:
        book >> Opened(conn, client) << BEHAVES
        book >> Hello(conn, sni) << BEHAVES


# ---- the wrong connection ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "likes"),
    [
        ("http/sni-mismatch", ("apache", "nginx", "caddy", "traefik")),
        ("http/coalesced", ("apache", "nginx", "haproxy", "contour")),
        ("http/domain-fronting", (None,)),
    ],
)
def test_a_host_that_is_not_the_sni_is_told_421(play, name, likes):
    for like in likes:
        book = play(name, **({"like": like} if like else {}))
        enter(book, "a")
        through(book, "a")
        book >> request("a", host="b.site.test", misdirected=("sni", True), stream=3)
        (script,) = book.scripts
        assert isinstance(script.steps[0], Respond)
        assert script.steps[0].response.status == 421
        assert script.steps[1:] == ((Close(),) if like == "caddy" else ())
        book.skip()
        enter(book, "b", sni="b.site.test")
        through(book, "b", host="b.site.test")
        if like != "caddy":  # what is asked of the right host goes on
            through(book, "a", stream=5)


def test_a_certificate_that_does_not_cover_the_host_is_no_matter_of_the_sni(play):
    for name in ("http/sni-mismatch", "http/coalesced", "http/domain-fronting"):
        book = play(name)
        enter(book, "a")
        through(book, "a", misdirected=("certificate", True))
        enter(book, "b", sni=None)
        through(book, "b", misdirected=(True,))


def test_a_host_that_the_certificate_does_not_cover(play):
    book = play("http/certificate-mismatch")
    enter(book, "a")
    through(book, "a", host="127.0.0.1", misdirected=("sni", True))  # the certificate is good for it
    book >> request("a", host="b.site.test", misdirected=("sni", "certificate", True), stream=3)
    assert [type(step) for step in book.scripts[0].steps] == [Respond, Close]
    book.skip()


def test_no_sni_is_told_421_but_for_the_default_host(play):
    book = play("http/no-sni", default="a.site.test")
    enter(book, "a", sni=None)
    through(book, "a", misdirected=(True,))
    book >> request("a", host="b.site.test", misdirected=(True,), stream=3)
    assert book.scripts[0].steps[0].response.status == 421
    book.skip()
    enter(book, "b", sni="b.site.test")
    through(book, "b", host="b.site.test")
    through(book, "b", host="c.site.test", misdirected=("sni", True), stream=3)  # http/sni-mismatch has that


def test_421_for_ever(play):
    book = play("http/misdirected-forever")
    for conn in ("a", "b"):
        enter(book, conn)
        for now in (0, 3600):
            book.at(now) >> request(conn, "POST") << MISDIRECTED
        book.at(0)


def test_421_for_the_first_requests(play):
    book = play("http/misdirected-times", times=2)
    enter(book, "a", "b")
    for conn in ("a", "b"):
        book >> request(conn) << MISDIRECTED
    through(book, "a", stream=3)


@pytest.mark.parametrize("method", UPLOADS)
def test_421_for_the_first_post_to_each_host(play, method):
    book = play("http/misdirected-post")
    enter(book, "a")
    through(book, "a")
    book >> request("a", method, size=0, stream=3) << BEHAVES
    book >> Ended("a", "request", 3)
    for host, stream in (("a.site.test", 5), ("b.site.test", 7)):
        book >> request("a", method, host, size=5, stream=stream) << MISDIRECTED
        book >> request("a", method, host, size=5, stream=stream + 20) << BEHAVES
        book >> Ended("a", "request", stream + 20)
    through(book, "a", method="POST", host="b.site.test", size=None, stream=51)


def test_421_for_posts_that_one_chooses(play):
    book = play("http/misdirected-post", methods="DELETE", times=2)
    enter(book, "a")
    book >> request("a", "POST") << BEHAVES
    for stream in (3, 5):
        book >> request("a", "DELETE", stream=stream) << MISDIRECTED
    book >> request("a", "DELETE", stream=7) << BEHAVES


@pytest.mark.parametrize("method", UPLOADS)
def test_421_while_the_body_is_coming(play, method):
    book = play("http/early-421", bytes=1000)
    enter(book, "a")
    through(book, "a")
    book >> request("a", method, stream=3) << Watch(1000) << BEHAVES
    book >> Reached("a", 3) << MISDIRECTED
    book >> Ended("a", "request", 3)
    book >> request("a", method, stream=5) << BEHAVES


def test_a_body_that_ends_before_that_byte_is_taken(play):
    book = play("http/early-421")
    enter(book, "a")
    book >> request("a", "POST") << Watch(10000) << BEHAVES
    book >> Ended("a", "request", 1)
    book >> Reached("a", 1)
    book >> request("a", "POST", stream=3) << BEHAVES


@pytest.mark.parametrize(("answer", "said"), [("again", 'h2="other.test:8443"; ma=3600'), ("clear", "clear")])
def test_an_alternative_service_that_is_the_wrong_one(play, answer, said):
    book = play("http/alt-svc", alternative="other.test", answer=answer, port=8443)
    named = actions.Proceed(Response(None, (("alt-svc", 'h2="other.test:8443"; ma=3600'),)))
    refused = Respond(Response(421, (("alt-svc", said),)))
    enter(book, "a", "b")
    book >> request("a") << BEHAVES
    book >> response("a") << named
    book >> request("b", header={"alt-used": "other.test:8443"}) << refused
    book >> request("b", host="other.test", stream=3) << refused
    book >> request("a", stream=3) << BEHAVES
    book >> response("a", 3) << named


# ---- TLS -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("http/expired-certificate", "expired"),
        ("http/untrusted-certificate", "untrusted"),
        ("http/incomplete-chain", "incomplete"),
    ],
)
def test_a_bad_certificate_is_shown_for_a_while(play, name, flaw):
    book = play(name)
    for now in (0, 29.9):
        book.at(now) >> Opened(f"{now}") << BEHAVES
        book >> Hello(f"{now}", "site.test") << Certify(flaw) << BEHAVES
    book.at(30)
    enter(book, "b", sni="site.test")
    made = catalogue.scenario(name).certificates
    assert [key for key in made if getattr(made[key], flaw)] == [flaw]
    assert made["right"].names == made[flaw].names


def test_an_old_certificate_is_shown_to_the_first(play):
    book = play("http/stale-certificate", handshakes=2)
    for conn in ("a", "b"):
        book >> Opened(conn) << BEHAVES
        book >> Hello(conn, "new.site.test") << Certify("old") << BEHAVES
    enter(book, "c", sni="new.site.test")
    book >> request("a", host="new.site.test", misdirected=("certificate", True)) << MISDIRECTED
    through(book, "c", host="new.site.test")


def test_a_name_that_the_server_does_not_know(play):
    book = play("http/unrecognized-name", names="*.site.test")
    book >> Opened("a") << BEHAVES
    book >> Hello("a", "a.site.test") << Alert("unrecognized_name")
    enter(book, "b", sni="other.test")
    enter(book, "c", sni=None)
    book.at(30)
    enter(book, "d")
    book = play("http/unrecognized-name", alert="internal_error")
    book >> Opened("a") << BEHAVES
    book >> Hello("a", "any") << Alert("internal_error")
    enter(book, "b", sni=None)


# ---- too much ------------------------------------------------------------------------------------


def test_an_overload_ends_when_it_has_said(play):
    book = play("http/overload", outage="2m")
    enter(book, "a")
    for now, left in ((0, 120), (59.5, 61), (119.9, 1)):
        book.at(now) >> request("a") << Respond(Response(503, (("retry-after", f"{left}"),)))
    book.at(120)
    through(book, "a")


def test_an_overload_says_a_date(play):
    book = play("http/overload", retry_after="date", epoch=784_111_747)
    enter(book, "a")
    for now in (0, 12):
        date = ("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")
        book.at(now) >> request("a") << Respond(Response(503, (date,)))
    book.at(30)
    through(book, "a")


def test_a_busy_server_says_when_its_queue_has_room(play):
    book = play("http/busy", outage="10s", capacity="2/s", queue=1, refusal_cost="0%")
    enter(book, "a")
    book >> request("a") << Respond(Response(503, (("retry-after", "10"),)))
    book.at(10)
    for wait in (0.5, 1.0):
        book >> request("a") << Wait(wait) << BEHAVES
    book >> request("a") << Respond(Response(503, (("retry-after", "1"),)))
    book.at(10.5) >> request("a") << Wait(1.0) << BEHAVES


def test_a_rate_is_each_addresses_and_its_window_slides(play):
    book = play("http/rate-limited", requests=2, window="10s")
    enter(book, "a", "b")
    enter(book, "c", client="192.0.2.9")
    for now, conn, wait in ((0, "a", 0), (4, "b", 0), (7.5, "a", 3), (9.9, "a", 1), (10, "b", 0), (13, "a", 1)):
        limited = Respond(Response(429, (("retry-after", str(wait)),)))
        book.at(now) >> request(conn) << (limited if wait else BEHAVES)
    through(book, "c")
    book.at(14) >> request("a") << BEHAVES


@pytest.mark.parametrize(
    ("like", "steps"),
    [
        ("unavailable", (Respond(Response(503)), Close())),
        ("misdirected", (MISDIRECTED, Close())),
        ("closed", (Close(),)),
        ("reset", (Close("reset"),)),
    ],
)
def test_a_cap_on_connections_and_what_frees_a_place(play, like, steps):
    book = play("http/connection-cap", cap=2, like=like)
    enter(book, "a", "b")
    for conn in ("c", "d"):
        book >> Opened(conn) << To(conn, *steps)
        book >> Closed(conn)
    book >> Leaving("a")
    enter(book, "e")
    book >> Opened("f") << To("f", *steps)


def test_a_cap_on_streams_is_each_connections(play):
    book = play("http/stream-cap", cap=2, announced=100)
    assert book.engine.scenario.server.max_streams == 100
    enter(book, "a", "b")
    for stream in (1, 3):
        book >> request("a", stream=stream) << BEHAVES
    for stream in (5, 7):
        book >> request("a", stream=stream) << ResetStream("REFUSED_STREAM")
        book >> Ended("a", "request", stream)
    through(book, "b")
    book >> Ended("a", "request", 1)
    book >> request("a", stream=9) << BEHAVES


# ---- ends ----------------------------------------------------------------------------------------


def test_goaway_comes_with_a_request_of_each_connection(play):
    book = play("http/goaway-graceful", requests=2, code="ENHANCE_YOUR_CALM")
    enter(book, "a", "b")
    for conn in ("a", "b"):
        through(book, conn)
        book >> request(conn, stream=3) << GoAway("ENHANCE_YOUR_CALM", "current", closes=True) << BEHAVES
        through(book, conn, 5)


def test_goaway_in_two_steps_on_each_connection(play):
    book = play("http/goaway-two-steps", announced=2, last=3)
    enter(book, "a", "b")
    for conn in ("a", "b"):
        through(book, conn)
        book >> request(conn, stream=3) << GoAway("NO_ERROR", 2**31 - 1, closes=False) << BEHAVES
        book >> request(conn, stream=5) << GoAway("NO_ERROR", "current", closes=True) << BEHAVES


def test_an_alternative_that_nobody_speaks(play):
    book = play("http/alt-svc-h3")
    enter(book, "a")
    book >> request("a") << BEHAVES
    book >> response("a") << actions.Proceed(Response(headers=(("alt-svc", 'h3=":0"; ma=3600'),)))


def test_a_host_that_the_server_does_not_know(play):
    book = play("http/invalid-host", known="*.site.test")
    enter(book, "a")
    for host in ("a.site.test", "127.0.0.1", "::1"):
        through(book, "a", host=host)
    book >> request("a", host="localhost") << Respond(Response(421, body="Invalid Host header"))


def test_goaway_that_leaves_a_request_unserved(play):
    book = play("http/goaway-mid-request", times=2)
    enter(book, "a", "b", "c")
    for conn in ("a", "b"):
        book >> request(conn, "POST") << GoAway("NO_ERROR", "previous", closes=True)
    through(book, "c", method="POST")


@pytest.mark.parametrize("code", ["REFUSED_STREAM", "INTERNAL_ERROR", "CANCEL", "HTTP_1_1_REQUIRED"])
def test_a_stream_is_reset_before_or_after_the_app_was_asked(play, code):
    book = play("http/stream-reset", code=code)
    enter(book, "a")
    book >> request("a") << ResetStream(code)
    book >> Ended("a", "request", 1)
    through(book, "a", 3)
    book = play("http/stream-reset", code=code, stage="response")
    enter(book, "a")
    book >> request("a") << BEHAVES
    book >> response("a") << ResetStream(code)
    book >> Ended("a", "request", 1)
    through(book, "a", 3)


@pytest.mark.parametrize(("how", "close"), [("reset", "reset"), ("fin", "fin"), ("abrupt", "abrupt")])
def test_a_connection_ends_at_a_stage(play, how, close):
    for stage in ("connect", "tls", "request", "response"):
        book = play("http/connection-reset", stage=stage, how=how)
        events = [Opened("a"), Hello("a", "x"), request("a"), response("a")]
        at = ["connect", "tls", "request", "response"].index(stage)
        for event in events[:at]:
            book >> event << BEHAVES
        book >> events[at] << Close(close)
        book >> Closed("a")
        enter(book, "b")
        through(book, "b")


def test_a_request_is_never_answered(play):
    for stage in ("connect", "request", "response"):
        book = play("http/stalled", stage=stage)
        at = ["connect", "request", "response"].index(stage)
        for event in (Opened("a"), request("a"))[:at]:
            book >> event << BEHAVES
        book >> (Opened("a"), request("a"), response("a"))[at] << Hang()
        book >> Closed("a")
        enter(book, "b")
        through(book, "b")


@pytest.mark.parametrize("stage", ["request", "response"])
def test_a_body_stalls_at_a_byte(play, stage):
    book = play("http/stalled", stage=stage, how="amid", bytes=10)
    enter(book, "a")
    if stage == "response":
        book >> request("a") << BEHAVES
    book >> (request("a") if stage == "request" else response("a")) << Watch(10) << BEHAVES
    book >> Reached("a", 1) << Hang()


def test_every_answer_is_late_and_slow(play):
    book = play("http/slow-drip", delay="3s", drip="10ms")
    enter(book, "a")
    for stream in (1, 3):
        book >> request("a", stream=stream) << BEHAVES
        book >> response("a", stream) << Wait(3.0) << Proceed(drip=0.01)


@pytest.mark.parametrize(
    ("how", "step"), [("stream", ResetStream("INTERNAL_ERROR")), ("fin", Close()), ("reset", Close("reset"))]
)
def test_an_answer_is_cut_at_a_byte(play, how, step):
    book = play("http/truncated", how=how, bytes=10)
    enter(book, "a")
    book >> request("a") << BEHAVES
    book >> response("a") << Watch(10) << BEHAVES
    book >> Reached("a", 1) << step
    book >> Closed("a")
    enter(book, "b")
    through(book, "b")
