"""Rules of conduct for HTTP: each is played over real fakes, by a client that keeps it and by one that breaks it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import http_client
from notnow import FakeHTTP, ManualClock
from notnow.conduct.finding import Finding
from notnow.conduct.judging import judge, of_protocol, select
from notnow.conduct.reading.run import Run
from notnow.journal import Exchange, Journal, OriginFrame, Recorder, Request, RstStreamFrame
from notnow.time_travel.fast_forward import FastForward
from toml_rules import one, rules, then

A, B, C = "a.site.test", "b.site.test", "c.other.test"
PLAIN = '[server]\ntls = "none"\n'
SITE = f'[server]\ntls = "implicit"\n[certificate.site]\nnames = ["{A}", "{B}"]\n'
MISDIRECTED = one("request", where={"misdirected": "sni"}, status=421)
ALWAYS = one("request", status=421)
BARE = {"close": True}


def playing(*texts: str, head: str = SITE, phase: str = "", **given: Any) -> FakeHTTP:
    return FakeHTTP(rules(*texts, protocol="http", head=head, phase=phase), **{"clock": ManualClock(), **given})


class H2(http_client.H2):
    """A connection for A, or for another `sni`, whose answers are a status, "reset", or None for a connection that ended."""

    def __init__(self, fake: FakeHTTP, sni: str | None = A, patience: float = 5.0) -> None:
        super().__init__(fake, sni=sni, patience=patience)

    def begin(
        self, method: str, host: str, path: str = "/", body: bytes = b"", *, end: bool = True, **headers: str
    ) -> int:
        """Send a request, without waiting for the answer; the number of its stream."""
        authority = host if ":" in host else f"{host}:{self.fake.port}"
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        number = self.request(path, method=method, authority=authority, headers=named, end=end and not body)
        if body:
            self.data(number, body, end)
        return number

    def ask(self, method: str, host: str, path: str = "/", body: bytes = b"", **headers: str) -> int | str | None:
        """A request, and its answer."""
        with contextlib.suppress(OSError):
            return self.status(self.begin(method, host, path, body, **headers))
        return None

    def status(self, number: int) -> int | str | None:
        answer = self.outcome(number)
        return "reset" if answer.reset else answer.status if answer.ended else None


def ask(fake: FakeHTTP, method: str = "GET", host: str = A, path: str = "/", body: bytes = b"", sni: str | None = A, **headers: str) -> int | str | None:  # fmt: skip
    """A request on a connection of its own."""
    with H2(fake, sni) as raw:
        return raw.ask(method, host, path, body, **headers)


def found(name: str, *fakes: FakeHTTP) -> tuple[str, str, list[str]]:
    """What a rule says: the outcome, why, and the evidence as connection and moment."""
    finding: Finding = select([f"http.{name}"])[0].judge(Run([fake.journal for fake in fakes]))
    proof = [
        f"#{e.connection.number} {e.moment}" if isinstance(e, Exchange) else f"#{e.number}" for e in finding.evidence
    ]
    assert (finding.outcome in ("broken", "inconclusive")) == bool(proof)
    return finding.outcome, finding.why, proof


def held(name: str, *fakes: FakeHTTP) -> str:
    outcome, why, _ = found(name, *fakes)
    assert outcome == "held", why
    return why


def broken(name: str, *fakes: FakeHTTP) -> tuple[str, list[str]]:
    outcome, why, proof = found(name, *fakes)
    assert outcome == "broken", why
    return why, proof


def not_exercised(name: str, *fakes: FakeHTTP) -> str:
    outcome, why, _ = found(name, *fakes)
    assert outcome == "not exercised", why
    return why


@pytest.mark.parametrize("rule", of_protocol("http"), ids=lambda rule: rule.id)
class TestEveryRule:
    def test_plain_requests_exercise_none(self, rule):
        with playing(head=PLAIN) as fake:
            for method in ("GET", "POST"):
                assert httpx.request(method, fake.url, content=b"12345").status_code == 200
            assert rule.judge(Run([fake.journal])).outcome == "not exercised"

    def test_nobody_does(self, rule):
        with playing() as fake:
            assert rule.judge(Run([fake.journal])).outcome == "not exercised"


class TestRetryElsewhere:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_on_another_connection(self, method: str):
        with playing(MISDIRECTED) as fake:
            assert ask(fake, method, B, body=b"x", sni=A) == 421
            assert ask(fake, method, B, body=b"x", sni=B) == 200
            assert held("retry-elsewhere", fake) == "asked again 1 time, on another connection"

    def test_on_the_same_one(self):
        with playing(MISDIRECTED) as fake:
            with H2(fake) as raw:
                assert [raw.ask("POST", B) for _ in range(2)] == [421, 421]
            why, proof = broken("retry-elsewhere", fake)
            assert why == "POST was asked again on the connection that had answered 421"
            assert proof == ["#1 request", "#1 request"]

    def test_the_same_in_parallel_is_no_retry(self):
        with playing(one("request", times=1, status=421, delay="5s")) as fake:
            with H2(fake) as raw:
                first = raw.begin("GET", A)
                fake.wait_for(lambda j: j.count("request") == 1)
                fake.clock.advance("1s")
                assert raw.ask("GET", A) == 200
                fake.clock.advance("4s")
                assert raw.status(first) == 421
            assert not_exercised("retry-elsewhere", fake).startswith("no request was repeated")

    def test_to_leave_it_to_the_caller_is_well(self):
        with playing(MISDIRECTED) as fake:
            with H2(fake) as raw:
                raw.ask("GET", B)
                raw.ask("GET", A)
            assert not_exercised("retry-elsewhere", fake).startswith("no request was repeated")

    def test_another_refusal_says_nothing_about_the_connection(self):
        with playing(one("request", times=1, status=503)) as fake:
            with H2(fake) as raw:
                assert [raw.ask("GET", A) for _ in range(2)] == [503, 200]
            not_exercised("retry-elsewhere", fake)


class TestRetryOnce:
    def test_once(self):
        with playing(ALWAYS) as fake:
            for _ in range(2):
                ask(fake)
            assert held("retry-once", fake) == "told 421 twice, and one retry at most"

    def test_twice(self):
        with playing(ALWAYS) as fake:
            for _ in range(3):
                ask(fake)
            why, proof = broken("retry-once", fake)
            assert why == "after the second 421 it asked a third time"
            assert proof == ["#1 request", "#2 request", "#3 request"]

    def test_much_later_it_is_a_new_call(self):
        with playing(ALWAYS) as fake:
            for _ in range(3):
                ask(fake)
                ask(fake)
                fake.clock.advance("61s")
            assert held("retry-once", fake) == "told 421 6 times, and one retry at most"

    def test_a_good_answer_begins_anew(self):
        with playing(one("request", every=2, status=421)) as fake:
            for _ in range(8):
                ask(fake)
            not_exercised("retry-once", fake)


class TestRetryForOrigin:
    def test_its_own_name(self):
        with playing(MISDIRECTED) as fake:
            ask(fake, host=B, sni=A)
            ask(fake, host=B, sni=B)
            assert held("retry-for-origin", fake) == "1 time on a connection with its SNI"

    @pytest.mark.parametrize("sni", [A, None])
    def test_another_name_or_none(self, sni: str | None):
        with playing(ALWAYS) as fake:
            ask(fake, host=B, sni=A)
            ask(fake, host=B, sni=sni)
            why, proof = broken("retry-for-origin", fake)
            assert why == f"the retry for {B} came on a connection that was made for {sni or 'nobody'}"
            assert proof == ["#1 request", "#2 request"]

    def test_an_address_has_no_sni(self):
        with playing(ALWAYS) as fake:
            for _ in range(2):
                ask(fake, host="127.0.0.1", sni=None)
            not_exercised("retry-for-origin", fake)


def over_http1(fake: FakeHTTP, host: str, sni: str | None) -> None:
    with http_client.H1(fake, sni=sni) as raw:
        assert raw.get(headers=[("Host", f"{host}:{fake.port}")]).body


class TestSNI:
    def test_on_http2(self):
        with playing() as fake:
            ask(fake)
            assert held("sni-on-http2", fake) == "1 request on connections with an SNI"
            not_exercised("sni-on-http1", fake)
            ask(fake, sni=None)
            assert broken("sni-on-http2", fake) == (
                f"{A} was asked for on a connection without an SNI",
                ["#2", "#2 request"],
            )

    def test_on_http1(self):
        with playing() as fake:
            over_http1(fake, A, A)
            assert held("sni-on-http1", fake) == "1 request on connections with an SNI"
            not_exercised("sni-on-http2", fake)
            over_http1(fake, A, None)
            assert broken("sni-on-http1", fake)[1] == ["#2", "#2 request"]

    def test_an_address_needs_none(self):
        with playing() as fake:
            ask(fake, host="127.0.0.1", sni=None)
            over_http1(fake, "127.0.0.1", None)
            not_exercised("sni-on-http2", fake)
            not_exercised("sni-on-http1", fake)


class TestCoalesceOnlyCovered:
    def test_covered(self):
        with playing() as fake:
            with H2(fake) as raw:
                raw.ask("GET", A)
                raw.ask("GET", B)
            assert held("coalesce-only-covered", fake) == "1 request for other hosts, all covered"

    @pytest.mark.parametrize("sni", [A, None])
    def test_not_covered(self, sni: str | None):
        with playing() as fake:
            with H2(fake, sni) as raw:
                raw.ask("GET", A)
                raw.ask("GET", C)
            why, proof = broken("coalesce-only-covered", fake)
            assert why == f"{C} was asked for on a connection for {A}, whose certificate does not cover it"
            assert proof == ["#1 request", "#1 request"]

    def test_who_does_not_look_at_certificates_has_coalesced_nothing(self):
        with playing() as fake:
            ask(fake, host=C, sni=C)
            ask(fake, host=C, sni=None)
            not_exercised("coalesce-only-covered", fake)


class TestForgetOrigin:
    RULES = (
        one("request", where={"authority": A}, origin=[f"https://{A}", f"https://{B}:443"]),
        one("request", where={"authority": B}, status=421),
    )

    def test_forgotten(self):
        with playing(*self.RULES) as fake:
            with H2(fake) as raw:
                assert [raw.ask("GET", host) for host in (A, B, A)] == [200, 421, 200]
            ask(fake, host=B, sni=B)
            assert held("forget-origin", fake) == "1 origin forgotten"

    def test_not_forgotten(self):
        with playing(*self.RULES) as fake:
            with H2(fake) as raw:
                raw.ask("GET", A)
                raw.ask("GET", B, "/1")
                fake.clock.advance("1s")
                raw.ask("GET", B, "/2")
            why, proof = broken("forget-origin", fake)
            assert (why, proof) == (f"{B} was asked for again where it had got 421", ["#1 request", "#1 request"])

    def test_what_no_origin_has_named_was_in_no_set(self):
        with playing(self.RULES[1]) as fake:
            with H2(fake) as raw:
                for _ in range(3):
                    raw.ask("GET", B)
            not_exercised("forget-origin", fake)


@contextlib.contextmanager
def two(first: str, second: str) -> Iterator[tuple[FakeHTTP, FakeHTTP]]:
    """An origin, and the alternative that it names."""
    clock = ManualClock()
    with playing(second, clock=clock) as alternative, playing(first, clock=clock) as origin:
        yield origin, alternative


class TestAlternatives:
    """The origin's authority, at another server: that is how an alternative is used (RFC 7838 §2)."""

    NAMED = one("response", headers={"alt-svc": 'h2=":8443"'})
    NAMED_IN_FRAME = one("response", altsvc='h2=":8443"')

    @pytest.mark.parametrize("named", [NAMED, NAMED_IN_FRAME], ids=["header", "frame"])
    def test_dropped(self, named: str):
        with two(named, ALWAYS) as (origin, alternative):
            us = f"{A}:{origin.port}"
            assert [ask(origin, host=us), ask(alternative, host=us), ask(origin, host=us)] == [200, 421, 200]
            assert held("drop-alternative", origin, alternative) == "1 alternative dropped"

    @pytest.mark.parametrize("named", [NAMED, NAMED_IN_FRAME], ids=["header", "frame"])
    def test_not_dropped(self, named: str):
        with two(named, ALWAYS) as (origin, alternative):
            us = f"{A}:{origin.port}"
            ask(origin, host=us)
            ask(alternative, host=us, path="/1")
            ask(alternative, host=us, path="/2")
            why, proof = broken("drop-alternative", origin, alternative)
            assert why == f"{us} was asked for again at the alternative that had answered 421"
            assert proof == ["#1 request", "#2 request"]

    def test_told_by_alt_used(self):
        with playing(one("request", where={"header.alt-used": "*"}, status=421), self.NAMED) as fake:
            ask(fake)
            ask(fake, alt_used="alt.site.test")
            ask(fake)
            held("drop-alternative", fake)
            ask(fake, alt_used="alt.site.test")
            assert broken("drop-alternative", fake)[1] == ["#2 request", "#4 request"]

    def test_another_authority_is_its_own(self):
        with two(self.NAMED, ALWAYS) as (origin, alternative):
            ask(origin)
            for _ in range(2):
                ask(alternative)
            not_exercised("drop-alternative", origin, alternative)

    IN_421 = one("request", first=1, status=421, headers={"alt-svc": 'h2="alt.site.test:8443"'})

    def test_ignored(self):
        with two(self.IN_421, ALWAYS) as (origin, alternative):
            assert [ask(origin), ask(origin)] == [421, 200]
            assert held("ignore-alt-svc-in-421", origin, alternative) == "1 authority had an Alt-Svc in a 421"
            assert "not seen" in not_exercised("ignore-alt-svc-in-421", origin)

    def test_followed(self):
        with two(self.IN_421, ALWAYS) as (origin, alternative):
            us = f"{A}:{origin.port}"
            ask(origin, host=us)
            ask(alternative, host=us)
            why, proof = broken("ignore-alt-svc-in-421", origin, alternative)
            assert why == f"{us} was asked for where the Alt-Svc of a 421 had sent it"
            assert proof == ["#1 request", "#1 request"]

    def test_followed_on_the_same_server(self):
        with playing(self.IN_421) as fake:
            ask(fake)
            ask(fake, alt_used="alt.site.test:8443")
            assert broken("ignore-alt-svc-in-421", fake)[1] == ["#1 request", "#2 request"]

    def test_a_good_answer_had_named_it_too(self):
        with two(one("request", nth=2, status=421, headers={"alt-svc": 'h2=":8443"'}) + self.NAMED, ALWAYS) as both:
            us = f"{A}:{both[0].port}"
            assert [ask(both[0], host=us), ask(both[0], host=us), ask(both[1], host=us)] == [200, 421, 421]
            not_exercised("ignore-alt-svc-in-421", *both)


class TestNoBlindPost:
    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    @pytest.mark.parametrize("how", [{"close": True}, {"close": "reset"}, {"reset_stream": "INTERNAL_ERROR"}])
    def test_repeated(self, how: dict[str, Any], method: str):
        with playing(one("request", times=1, keep=True, **how)) as fake:
            assert [ask(fake, method, body=b"pay") for _ in range(2)][1] == 200
            why, proof = broken("no-blind-post", fake)
            assert why == f"{method} got no answer, and came again: it was carried out twice"
            assert proof == ["#1 request", "#2 request"]

    @pytest.mark.parametrize("how", [{"close": True}, {"reset_stream": "INTERNAL_ERROR"}])
    def test_half_an_answer_is_none(self, how: dict[str, Any]):
        with playing(one("response", times=1, after_bytes=3, **how)) as fake:
            for _ in range(2):
                ask(fake, "POST", body=b"pay")
            assert [x.facts.status for x in fake.journal if x.facts] == [200, 200]
            broken("no-blind-post", fake)

    @pytest.mark.parametrize(
        "how", [{"reset_stream": "REFUSED_STREAM"}, {"goaway": {"code": "NO_ERROR", "last": "previous"}}]
    )
    def test_the_server_has_not_looked_at_it(self, how: dict[str, Any]):
        with playing(one("request", times=1, **how)) as fake:
            assert [ask(fake, "POST", body=b"pay") for _ in range(2)][1] == 200
            assert held("no-blind-post", fake).startswith("1 came again that the server had said it had not looked at")

    def test_not_repeated(self):
        with playing(one("request", times=1, **BARE)) as fake:
            ask(fake, "POST", body=b"pay")
            ask(fake, "POST", path="/status")
            assert held("no-blind-post", fake) == "1 got no answer, and did not come again"

    def test_a_get_may_be(self):
        with playing(one("request", times=1, **BARE)) as fake:
            ask(fake)
            ask(fake)
            not_exercised("no-blind-post", fake)

    def test_what_was_answered_421_may_be(self):
        with playing(one("request", times=1, status=421)) as fake:
            assert [ask(fake, "POST", body=b"pay") for _ in range(2)] == [421, 200]
            not_exercised("no-blind-post", fake)

    def test_another_body_is_another_request(self):
        with playing(one("request", times=1, stall=True)) as fake:
            with H2(fake) as raw:
                raw.begin("POST", A, body=b"pay 1")
                fake.wait_for(lambda j: j.exchanges[-1].facts and j.exchanges[-1].facts.body_sha256)
            fake.wait_for(lambda j: j.connections[0].ended_by)
            ask(fake, "POST", body=b"pay 2")
            assert held("no-blind-post", fake) == "1 got no answer, and did not come again"

    def test_it_has_hung_up_itself_and_repeats(self):
        with playing(one("response", times=1, stall=True)) as fake:
            with H2(fake) as raw:
                raw.begin("POST", A, body=b"pay")
                fake.wait_for(lambda j: j.count("request") == 1)
            fake.wait_for(lambda j: j.connections[0].ended_by)
            ask(fake, "POST", body=b"pay")
            broken("no-blind-post", fake)

    def test_over_http1_by_way_of_a_library(self):
        with playing(one("request", times=1, keep=True, **BARE), head=PLAIN) as fake:
            with httpx.Client() as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    client.post(fake.url, content=b"pay")
                client.post(fake.url, content=b"pay")
            broken("no-blind-post", fake)


class TestNoSecondBlindRetry:
    def test_once(self):
        with playing(one("request", first=2, **BARE)) as fake:
            ask(fake)
            ask(fake)
            assert held("no-second-blind-retry", fake) == "1 request tried again, once each"

    def test_twice(self):
        with playing(one("request", first=2, **BARE)) as fake:
            for _ in range(3):
                ask(fake)
            why, proof = broken("no-second-blind-retry", fake)
            assert why == "a retry got no answer either, and was tried again"
            assert proof == ["#1 request", "#2 request", "#3 request"]

    def test_much_later(self):
        with playing(one("request", first=2, **BARE)) as fake:
            for _ in range(3):
                ask(fake)
                fake.clock.advance("31s")
            held("no-second-blind-retry", fake)

    def test_what_was_not_looked_at_does_not_count(self):
        with playing(one("request", first=3, reset_stream="REFUSED_STREAM")) as fake:
            for _ in range(4):
                ask(fake)
            not_exercised("no-second-blind-retry", fake)


class TestNoStreamAfterGoaway:
    """Another request is under way all the while, or the connection would be closed."""

    RULES = (one("request", where={"path": "/slow"}, stall=True), one("request", where={"path": "/bye"}, goaway=True))

    def goodbye(self, fake: FakeHTTP, wait: float, *paths: str, elsewhere: str | None = None) -> None:
        with H2(fake) as raw:
            raw.begin("GET", A, "/slow")
            assert raw.ask("GET", A, "/bye") == 200
            fake.clock.advance(wait)
            for path in paths:
                assert raw.ask("GET", A, path) == "reset"
            if elsewhere is not None:
                assert ask(fake, path=elsewhere) == 200

    def test_none(self):
        with playing(*self.RULES) as fake:
            self.goodbye(fake, 5, elsewhere="/next")
            assert held("no-stream-after-goaway", fake) == "1 GOAWAY"

    def test_one(self):
        with playing(*self.RULES) as fake:
            self.goodbye(fake, 5, "/next")
            why, proof = broken("no-stream-after-goaway", fake)
            assert (why, proof) == ("stream 5 was opened 5s after a GOAWAY", ["#1 request", "#1 request"])

    def test_they_may_have_met_on_the_way(self):
        with playing(*self.RULES) as fake:
            self.goodbye(fake, 0.2, "/next")
            outcome, why, _ = found("no-stream-after-goaway", fake)
            assert (outcome, why) == ("inconclusive", "stream 5 came after a GOAWAY, and may have met it on the way")


class TestWholeBodyAgain:
    FIRST = one("request", times=1, where={"method": "POST"}, status=421)

    def again(self, *bodies: bytes) -> FakeHTTP:
        with playing(self.FIRST) as fake:
            for body in bodies:
                ask(fake, "POST", body=body)
        return fake

    def test_the_same(self):
        assert held("whole-body-again", self.again(b"12345678", b"12345678")) == "1 body sent again, whole"

    def test_nothing(self):
        why, proof = broken("whole-body-again", self.again(b"12345678", b""))
        assert (why, proof) == ("the body had 8 bytes before, and 0 when it came again", ["#1 request", "#2 request"])

    def test_the_rest_of_it_may_be_another_body(self):
        outcome, why, _ = found("whole-body-again", self.again(b"12345678", b"678"))
        assert (outcome, why) == (
            "inconclusive",
            "the body had 8 bytes before, and 3 when it came again: a part of it, or another request",
        )

    def test_it_leaves_in_the_middle(self):
        with playing(self.FIRST) as fake:
            ask(fake, "POST", body=b"12345678")
            with H2(fake) as raw:
                raw.begin("POST", A, body=b"12345678", end=False)
                fake.wait_for(lambda j: (asked := j.exchanges[-1].http) and asked.body_bytes == 8)
            fake.wait_for(lambda j: j.connections[1].ended_by)
            assert broken("whole-body-again", fake)[0] == "it came again, and left after 8 bytes of it"

    def test_who_is_refused_again_need_not_send_it_all(self):
        with playing(one("request", status=421)) as fake:
            ask(fake, "POST", body=b"12345678")
            ask(fake, "POST")
            not_exercised("whole-body-again", fake)


class TestRetryAfter:
    def told(self, value: str, waited: float, status: int = 503, times: int = 2) -> FakeHTTP:
        with playing(one("request", times=1, status=status, headers={"retry-after": value})) as fake:
            for i in range(times):
                fake.clock.advance(waited if i else 0)
                ask(fake)
        return fake

    @pytest.mark.parametrize("status", [429, 503])
    def test_waited_for(self, status: int):
        assert held("retry-after", self.told("120", 121, status)) == "it came back 1s after the time or later"

    @pytest.mark.parametrize("status", [429, 503])
    def test_not_waited_for(self, status: int):
        why, proof = broken("retry-after", self.told("120", 119, status))
        assert why == "told to wait 2m (Retry-After: 120), it waited 1m 59s"
        assert proof == ["#1 request", "#2 request"]

    def test_as_a_date(self):
        rule = one("request", status=503, headers={"retry-after": "{left.date}"})
        for waited, outcome in ((61, "held"), (40, "broken")):
            with playing(rule, then("recovered"), phase='lasts = "1m"') as fake:
                ask(fake)
                fake.clock.advance(waited)
                ask(fake)
                assert found("retry-after", fake)[0] == outcome

    def test_it_gives_up(self):
        assert not_exercised("retry-after", self.told("120", 0, times=1)) == "it did not come back"

    @pytest.mark.parametrize(("value", "status"), [("120", 421), ("soon", 503), ("-5", 503), ("", 503)])
    def test_it_means_nothing(self, value: str, status: int):
        not_exercised("retry-after", self.told(value, 0, status))


class TestRetryBudget:
    def tries(self, n: int, wait: float, **fault: Any) -> FakeHTTP:
        with playing(one("request", **(fault or {"status": 503}))) as fake:
            for _ in range(n):
                ask(fake)
                fake.clock.advance(wait)
        return fake

    def test_a_few(self):
        why = held("retry-budget", self.tries(5, 1))
        assert why == "4 more tries for 1 request, 5 tries at most for one"

    @pytest.mark.parametrize("fault", [{"status": 503}, {"status": 421}, {"close": True}])
    def test_without_end(self, fault: dict[str, Any]):
        why, proof = broken("retry-budget", self.tries(8, 0.1, **fault))
        assert why == "6 tries within 500ms"
        assert proof == [f"#{n} request" for n in range(1, 7)]

    def test_with_patience(self):
        held("retry-budget", self.tries(30, 15))

    def test_good_answers_are_no_failures(self):
        with playing(one("request", every=2, status=503)) as fake:
            for _ in range(20):
                ask(fake)
            assert held("retry-budget", fake) == "9 more tries for 10 requests, 2 tries at most for one"

    def test_what_is_not_there_is_no_overload(self):
        with playing(one("request", status=404)) as fake:
            for _ in range(20):
                ask(fake)
            not_exercised("retry-budget", fake)


# ---- real clients --------------------------------------------------------------------------------


def outcomes(*fakes: FakeHTTP) -> dict[str, str]:
    found = judge(Run([fake.journal for fake in fakes]))
    return {v.rule.id.partition(".")[2]: v.outcome for v in found if v.outcome != "not exercised"}


@contextlib.contextmanager
def library(fake: FakeHTTP, **options: Any) -> Iterator[httpx.Client]:
    with fake.resolving(), httpx.Client(**{"http2": True, "verify": fake.ssl_context(), **options}) as client:
        yield client


def test_httpx_leaves_a_421_to_its_caller():
    with FakeHTTP("http/misdirected-times", clock=ManualClock()) as fake, library(fake) as client:
        assert client.get(fake.url_for(A)).status_code == 421
        assert outcomes(fake) == {"sni-on-http2": "held", "retry-budget": "held"}


def test_httpx_asked_again_uses_the_connection_that_it_has():
    with FakeHTTP("http/misdirected-forever", clock=ManualClock()) as fake, library(fake) as client:
        for _ in range(6):
            assert client.get(fake.url).status_code == 421
        assert outcomes(fake) == {"retry-elsewhere": "broken", "retry-once": "broken", "retry-budget": "broken"}


def test_httpx_waits_as_long_as_it_is_told_to():
    busy = one("request", status=503, headers={"retry-after": "{left.seconds}"})
    with FastForward() as world:
        with (
            playing(busy, then("recovered"), phase='lasts = "30m"', clock=world.clock) as fake,
            library(fake) as client,
        ):
            while (answer := client.get(fake.url_for(A))).status_code == 503:
                time.sleep(int(answer.headers["retry-after"]))
            assert outcomes(fake) == {"sni-on-http2": "held", "retry-after": "held", "retry-budget": "held"}


# ---- any journal at all --------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "POST", "HEAD", "PUT"]),
        st.sampled_from([A, B, C, "127.0.0.1", "[::1]", ":", "x@y:z"]),
        st.sampled_from([b"", b"12345", b"12345678"]),
        st.sampled_from(["ask", "begin", "leave", "wait", "half"]),
    ),
    max_size=6,
)
FAULTS = st.sampled_from(
    [
        one("request", every=2, status=421, headers={"alt-svc": 'h2=":1"'}),
        one("request", every=2, status=503, headers={"retry-after": "soon"}),
        one("request", every=3, status=429, headers={"retry-after": "10"}),
        one("request", every=3, close=True),
        one("request", every=3, close="reset"),
        one("request", every=2, reset_stream="REFUSED_STREAM"),
        one("request", every=3, goaway={"code": "NO_ERROR", "last": "previous"}),
        one("request", every=2, origin=[f"https://{B}", "https://other.test:8443"]),
        one("request", every=4, stall=True),
        one("request", after_bytes=3, status=413),
        one("response", every=2, altsvc='h2=":1"'),
        one("connect", every=2, status=421),
        one("connect", every=2, close=True),
        one("idle", after="30s", goaway=True),
        MISDIRECTED,
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(FAULTS, max_size=3), st.lists(st.tuples(st.sampled_from([A, B, None]), ACTS), max_size=4))
def test_whatever_a_client_does_every_rule_has_a_word_for_it(faults, connections):
    with playing(*faults) as fake:
        with contextlib.ExitStack() as stack:
            for sni, acts in connections:
                with contextlib.suppress(OSError, EOFError):
                    raw = stack.enter_context(H2(fake, sni, patience=0.2))
                    for method, host, body, act in acts:
                        if act == "wait":
                            fake.clock.advance("31s")
                        elif act == "leave":
                            raw.close()
                        elif act == "ask":
                            raw.ask(method, host, "/", body)
                        else:
                            raw.begin(method, host, "/", body, end=act == "begin")
        fake.settle()
        verdicts = judge(Run([fake.journal]))
        assert [v.rule for v in verdicts] == list(of_protocol("http"))
        assert all(v.finding.evidence for v in verdicts if v.outcome == "broken")


def journal_of(n: int) -> Journal:
    """A journal of n requests that all fail and come again, each in time, and each somewhere else."""
    recorder = Recorder(ManualClock(), server="http", protocol="http", limit=n)
    answers = [(421, "421 Misdirected Request"), (503, "503 Service Unavailable"), (None, None)]
    while len(recorder.journal) < n - 9:
        connection = recorder.open("id", "127.0.0.1", 1)
        recorder.tls(connection, sni=A, alpn="h2")
        recorder.ask(connection, "connect", "", "one")
        for i in range(8):
            status, said = answers[i % 3]
            exchange = recorder.ask(connection, "request", f"GET {A}/{i}", "one")
            facts = Request(
                stream=2 * i + 1, version="2", method="GET", authority=A, host=A, path=f"/{i}", misdirected=(), status=status,
                body_bytes=5, body_sha256="0", sent=0, whole=True, stored=False, retry_after="1", alt_svc="x",
            )  # fmt: skip
            recorder.facts(exchange, facts)
            recorder.refused(exchange, "busy", "busy")
            recorder.frame(exchange, OriginFrame((f"https://{B}",)))
            if said is None:
                recorder.frame(exchange, RstStreamFrame("REFUSED_STREAM", 2 * i + 1))
            else:
                recorder.answer(exchange, said)
        recorder.clock.advance(70)
        recorder.close(connection, "client")
    return recorder.journal


def test_judging_takes_time_that_grows_with_the_journal():
    def cost(n: int) -> float:
        journal, took = journal_of(n), float("inf")
        for _ in range(3):
            begun = time.process_time()
            judge(Run([journal]))
            took = min(took, time.process_time() - begun)
        return took

    assert cost(40_000) < 8 * cost(10_000) + 0.1  # a square would be 16 times
