"""Assertions about HTTP clients, over real fakes: what passes, and the picture that comes with what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from notnow import FakeHTTP, ManualClock
from notnow.conduct.pictures.timeline import render, timeline
from toml_rules import one, rules, then

TLS = '[server]\ntls = "implicit"\n'
SITE = TLS + '[certificate.site]\nnames = ["a.site.test", "b.site.test"]\n'
MISDIRECTED = one("request", where={"misdirected": "sni"}, status=421)


def playing(*texts: str, head: str = TLS, phase: str = "", **given: object) -> FakeHTTP:
    return FakeHTTP(rules(*texts, protocol="http", head=head, phase=phase), clock=ManualClock(), **given)


@contextmanager
def client(fake: FakeHTTP, **options: object) -> Iterator[httpx.Client]:
    with fake.resolving(), httpx.Client(**{"http2": True, "verify": fake.ssl_context(), **options}) as made:
        yield made


def fails(check: Callable[[], None]) -> str:
    with pytest.raises(AssertionError) as caught:
        check()
    return str(caught.value)


def first_line(check: Callable[[], None]) -> str:
    return fails(check).partition("\n\n")[0]


def a(fake: FakeHTTP, path: str = "/") -> str:
    return fake.url_for("a.site.test", path)


def b(fake: FakeHTTP, path: str = "/") -> str:
    return fake.url_for("b.site.test", path)


def coalesced(fake: FakeHTTP, http: httpx.Client, path: str = "/", **more: object) -> httpx.Response:
    """A request for b that goes down a connection for a, as Chromium would have it."""
    method = more.pop("method", "GET")
    return http.request(method, a(fake, path), headers={"host": f"b.site.test:{fake.port}"}, **more)


class TestNewConnectionAfter:
    def test_another_connection(self):
        with playing(MISDIRECTED, head=SITE) as fake, client(fake) as http:
            http.get(a(fake))
            assert coalesced(fake, http).status_code == 421
            assert http.get(b(fake)).status_code == 200
            fake.assert_new_connection_after(421)
            fake.assert_retried(times=(1, 1))

    def test_the_same_one(self):
        with playing(MISDIRECTED, head=SITE) as fake, client(fake) as http:
            coalesced(fake, http)
            coalesced(fake, http)
            said = first_line(lambda: fake.assert_new_connection_after(421))
            assert said == (
                "expected the client to come back on another connection after a 421, but it tried again on the same one, #1"
            )

    def test_one_of_two_is_not_enough(self):
        with playing(MISDIRECTED, head=SITE) as fake, client(fake) as http:
            coalesced(fake, http, "/x")
            http.get(b(fake, "/x"))
            fake.assert_new_connection_after(421)
            coalesced(fake, http, "/y")
            coalesced(fake, http, "/y")
            assert "on the same one, #1" in fails(lambda: fake.assert_new_connection_after(421))

    def test_it_never_comes_back(self):
        with playing(MISDIRECTED, head=SITE) as fake, client(fake) as http:
            coalesced(fake, http)
            http.get(a(fake, "/other"))
            assert first_line(lambda: fake.assert_new_connection_after(421)).endswith("but it never tried again")

    def test_there_was_no_421(self):
        with playing(one("request", status=503)) as fake, client(fake) as http:
            http.get(fake.url)
            assert first_line(lambda: fake.assert_new_connection_after(421)).endswith("but it was never told 421")


class TestNames:
    def test_a_connection_for_each_host(self):
        with playing(head=SITE) as fake, client(fake) as http:
            for url in (a(fake), b(fake), a(fake, "/2")):
                http.get(url)
            fake.assert_sni_matches_authority()
            fake.assert_not_coalesced()

    def test_two_hosts_on_one(self):
        with playing(head=SITE) as fake, client(fake) as http:
            http.get(a(fake))
            coalesced(fake, http)
            assert first_line(fake.assert_not_coalesced) == (
                "expected a connection for each host, but #1 carried requests for a.site.test and for b.site.test"
            )
            assert first_line(fake.assert_sni_matches_authority).endswith(
                "but one for b.site.test came on a connection with the SNI a.site.test"
            )

    def test_no_sni_is_well_only_for_an_address(self):
        with playing() as fake, client(fake) as http:
            http.get(fake.url)
            fake.assert_sni_matches_authority()
            http.get(fake.url, headers={"host": "a.site.test"})
            assert first_line(fake.assert_sni_matches_authority).endswith(
                "but one for a.site.test came on a connection without an SNI"
            )

    def test_without_tls_there_is_nothing_to_judge(self):
        with FakeHTTP(tls="none") as fake:
            httpx.get(fake.url)
            assert first_line(fake.assert_sni_matches_authority).endswith("but no request came in TLS")


class TestRetryAfter:
    OVER = staticmethod(
        lambda value, **more: one("request", times=1, status=503, headers={"retry-after": value}, **more)
    )

    @pytest.mark.parametrize(("waited", "kept"), [(119, False), (120, True), (500, True)])
    def test_in_seconds(self, waited: float, kept: bool):
        with playing(self.OVER("120")) as fake, client(fake) as http:
            http.get(fake.url)
            fake.clock.advance(waited)
            http.get(fake.url)
            if kept:
                fake.assert_retry_after_honoured()
            else:
                assert first_line(fake.assert_retry_after_honoured).endswith(
                    "but it was told to wait 2m (Retry-After: 120), and waited 1m 59s"
                )

    @pytest.mark.parametrize(("waited", "kept"), [(57, False), (60, True)])
    def test_as_a_date(self, waited: float, kept: bool):
        rule = self.OVER("{left.date}")
        with playing(rule, then("recovered"), phase='lasts = "1m"') as fake, client(fake) as http:
            http.get(fake.url)
            fake.clock.advance(waited)
            http.get(fake.url)
            if kept:
                fake.assert_retry_after_honoured()
            else:
                assert "and waited 57s" in fails(fake.assert_retry_after_honoured)

    def test_what_does_not_come_back_has_not_honoured_it(self):
        with playing(self.OVER("5")) as fake, client(fake) as http:
            http.get(fake.url)
            assert first_line(fake.assert_retry_after_honoured).endswith("but it never came back")

    def test_another_request_is_no_retry(self):
        with playing(self.OVER("5")) as fake, client(fake) as http:
            http.get(fake.url)
            http.get(fake.url + "/other")
            assert first_line(fake.assert_retry_after_honoured).endswith("but it never came back")

    def test_nobody_was_told(self):
        with playing() as fake, client(fake) as http:
            http.get(fake.url)
            assert first_line(fake.assert_retry_after_honoured).endswith("but nothing was refused with a Retry-After")


class TestBodyReplayed:
    FIRST = one("request", times=1, where={"method": "POST"}, status=421)

    def again(self, first: bytes, second: bytes) -> FakeHTTP:
        with playing(self.FIRST) as fake, client(fake) as http:
            http.post(fake.url, content=first)
            http.post(fake.url, content=second)
        return fake

    def test_the_same(self):
        self.again(b"x" * 100_000, b"x" * 100_000).assert_body_replayed()

    def test_none(self):
        assert first_line(self.again(b"abc", b"").assert_body_replayed).endswith("but it came without a body")

    def test_another(self):
        said = first_line(self.again(b"abc", b"abcd").assert_body_replayed)
        assert "but the body was another, or it was another request: 3 bytes before, 4 after" in said

    def test_nothing_to_replay(self):
        assert first_line(self.again(b"", b"").assert_body_replayed).endswith("but no request with a body came back")


class TestDelivered:
    def test_a_good_answer_in_the_end(self):
        with playing(one("request", first=2, status=503)) as fake, client(fake) as http:
            for _ in range(2):
                http.get(fake.url)
            assert first_line(fake.assert_delivered).startswith("expected every request to be delivered once, but none")
            http.get(fake.url)
            http.get(fake.url)  # to ask again does no harm
            fake.assert_delivered()

    def test_one_that_never_gets_through(self):
        with playing(one("request", where={"path": "/bad"}, status=503)) as fake, client(fake) as http:
            http.get(fake.url)
            http.get(fake.url + "/bad")
            said = first_line(fake.assert_delivered)
            assert said.endswith(
                f"but GET 127.0.0.1:{fake.port}/bad never came through: the client was told '503 Service Unavailable'"
            )

    def test_a_post_that_took_effect_and_was_refused_all_the_same(self):
        """The trap of HTTP: a client that repeats it has it carried out twice."""
        with playing(one("request", times=1, status=503, keep=True)) as fake, client(fake) as http:
            assert http.post(fake.url, content=b"pay").status_code == 503
            fake.assert_delivered(times=1)
            assert http.post(fake.url, content=b"pay").status_code == 200
            assert "was carried out twice" in first_line(fake.assert_delivered)
            assert "was carried out twice" in first_line(fake.assert_no_duplicates)

    def test_another_body_is_another_thing(self):
        with playing() as fake, client(fake) as http:
            http.post(fake.url, content=b"pay 1")
            http.post(fake.url, content=b"pay 2")
            fake.assert_delivered(times=1)
            fake.assert_no_duplicates()

    def test_what_the_app_itself_refuses_has_not_been_carried_out(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 409, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        with playing(app=app) as fake, client(fake) as http:
            http.post(fake.url, content=b"pay")
            fake.assert_no_duplicates()
            assert "none was delivered" in first_line(fake.assert_delivered)


class TestExpected:
    @pytest.mark.parametrize(
        "expect",
        [
            "new_connection_after = 421",
            "sni_matches_authority = true",
            "not_coalesced = true",
            "body_replayed = true",
            "retry_after_honoured = true",
        ],
    )
    def test_what_a_scenario_expects_is_judged(self, expect: str):
        rule = one("request", times=1, status=421, headers={"retry-after": "9"}, where={"authority": "b.site.test"})
        scenario = rules(rule, protocol="http", head=SITE + "[expect]\n" + expect)
        with FakeHTTP(scenario, clock=ManualClock()) as fake, client(fake) as http:
            http.post(a(fake), content=b"x")
            coalesced(fake, http, method="POST", content=b"x")
            coalesced(fake, http, method="POST", content=b"xy")
            with pytest.raises(AssertionError):
                fake.assert_expected()
            fake.play(scenario)
            http.post(b(fake), content=b"x")
            fake.clock.advance(10)
            if "new_connection" in expect:
                with fake.resolving(), httpx.Client(http2=True, verify=fake.ssl_context()) as other:
                    other.post(b(fake), content=b"x")
            else:
                http.post(b(fake), content=b"x")
            fake.assert_expected()


class TestPicture:
    def test_connections_are_lanes(self):
        with playing(MISDIRECTED, head=SITE) as fake, client(fake) as http:
            http.get(a(fake, "/x"))
            coalesced(fake, http, "/y")
            fake.clock.advance(5)
            http.get(b(fake, "/y"))
            refused = fake.journal.connections[0].exchanges[-1]
            lines = timeline([fake.journal], [refused]).splitlines()
        assert lines == [
            "timeline (scenario time), a lane for each connection",
            "              #1 SNI a.site.test                         #2 SNI b.site.test",
            "              certificate site, h2                       certificate site, h2",
            "          0s  GET /x 200                                 |",
            "->        0s  GET b.site.test/y 421 (sni)                |",
            "          5s  |                                          GET /y 200",
            "              (still open)                               (still open)",
        ]

    def test_many_connections_are_lines(self):
        with playing() as fake:
            for _ in range(5):
                with client(fake) as http:
                    http.get(fake.url)
            fake.wait_for(lambda j: all(c.ended_by for c in j.connections))
            lines = timeline([fake.journal]).splitlines()
        assert lines[1:] == [f"          0s  #{n}    + 1 request answered; the client left" for n in range(1, 6)]

    def test_what_goes_wrong_before_any_request(self):
        with playing(one("tls", alert="unrecognized_name")) as fake:
            with pytest.raises(httpx.ConnectError), client(fake) as http:
                http.get(f"https://localhost:{fake.port}")
            fake.wait_for(lambda j: j.connections[0].ended_by)
            picture = render([fake.journal])
        assert "#1 SNI localhost" in picture
        assert "refused with the alert unrecognized_name" in picture

    def test_frames_and_resets(self):
        with (
            playing(
                one("request", where={"path": "/reset"}, reset_stream="REFUSED_STREAM"), one("request", goaway=True)
            ) as fake,
            client(fake) as http,
        ):
            with pytest.raises(httpx.RemoteProtocolError):
                http.get(fake.url + "/reset")
            with pytest.raises(httpx.RemoteProtocolError):  # it gives up what is under way
                http.get(fake.url + "/last")
            fake.wait_for(lambda j: j.connections[0].ended_by)
            lines = timeline([fake.journal]).splitlines()
        assert "GET 127.0.0.1/reset RST_STREAM REFUSED_STREAM" in lines[3]
        assert "GET 127.0.0.1/last GOAWAY NO_ERROR 200" in lines[4]
