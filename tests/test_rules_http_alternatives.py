"""Rules about ORIGIN frames and alternative services."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

A, B = "GET a.site.test/", "GET b.site.test/"
NO = "-> 421 Misdirected Request"


@pytest.fixture
def play() -> Play:
    return Play("http")


@pytest.fixture
def two() -> Play:
    return Play("http", "origin", "alternative")


class TestForgetOrigin:
    RULE = "http.forget-origin"
    ORIGIN = "[enter] -> !ORIGIN https://a.site.test https://B.site.test:8443 https://[::1]"

    def test_held(self, play: Play) -> None:
        play.connect(A, self.ORIGIN, f"{B} {NO}", A, sni="a.site.test")
        play.connect(B, sni="b.site.test")
        play.held(self.RULE, "1 origin forgotten")

    def test_broken(self, play: Play) -> None:
        play.connect(A, self.ORIGIN, f"{B} {NO}", "(1s)", "GET b.site.test/2", sni="a.site.test")
        why = "b.site.test was asked for again where it had got 421"
        play.broken(self.RULE, why, f"#1 {B}", "#1 GET b.site.test/2")

    def test_not_exercised_where_the_host_is_not_asked_for_again(self, play: Play) -> None:
        play.connect(A, self.ORIGIN, f"{B} {NO}", A, sni="a.site.test")
        play.not_exercised(self.RULE)

    def test_broken_after_a_connection_of_its_own(self, play: Play) -> None:
        line = play.connect(A, self.ORIGIN, f"{B} {NO}", sni="a.site.test")
        play.connect(B, sni="b.site.test")
        line.says("(1s)", "GET b.site.test/2")
        why = "b.site.test was asked for again where it had got 421"
        play.broken(self.RULE, why, f"#1 {B}", "#1 GET b.site.test/2")

    def test_a_stream_may_meet_the_421_on_the_way(self, play: Play) -> None:
        play.connect(A, self.ORIGIN, f"{B} {NO}", "GET b.site.test/2", sni="a.site.test")
        why = "b.site.test was asked for again where it had got 421, but it may have been on its way when the 421 was sent"
        settled = "a further request more than 20ms later"
        play.inconclusive(self.RULE, why, settled, f"#1 {B}", "#1 GET b.site.test/2")

    def test_over_http1_each_request_waits_for_its_answer(self, play: Play) -> None:
        lines = (f"{B} {{version=1.1}} {NO}", "GET b.site.test/2 {version=1.1}")
        play.connect(A, self.ORIGIN, *lines, sni="a.site.test")
        assert play.find(self.RULE).outcome == "broken"

    def test_the_host_that_the_connection_was_made_for_is_no_such_host(self, play: Play) -> None:
        play.connect(f"{A} -> ORIGIN https://a.site.test | 421 Misdirected Request", A, sni="a.site.test")
        play.not_exercised(self.RULE)

    def test_a_host_that_origin_has_not_named(self, play: Play) -> None:
        play.connect(A, self.ORIGIN, f"GET c.site.test/ {NO}", "GET c.site.test/", sni="a.site.test")
        play.not_exercised(self.RULE)

    def test_another_answer_forgets_nothing(self, play: Play) -> None:
        play.connect(A, self.ORIGIN, f"{B} -> 503 busy", B, sni="a.site.test")
        play.not_exercised(self.RULE)

    def test_not_exercised_by_a_connection_without_requests(self, play: Play) -> None:
        play.connect(self.ORIGIN)
        play.not_exercised(self.RULE)


class TestDropAlternative:
    RULE = "http.drop-alternative"
    AGAIN = "a.site.test was asked for again at the alternative that had answered 421"
    USED = f"{A} {{alt-used=alt.test:8443}}"

    def test_held(self, two: Play) -> None:
        two.connect(f'{A} {{alt-svc=h2=":8443"}}')
        two.connect(f"{A} {NO}", server=1)
        two.connect(A)
        two.held(self.RULE, "1 alternative dropped")

    def test_broken_at_another_server(self, two: Play) -> None:
        two.connect(f'{A} {{alt-svc=h2=":8443"}}')
        two.connect(f"{A} {NO}", server=1)
        two.connect(A, server=1)
        two.broken(self.RULE, self.AGAIN, f"alternative #1 {A}", f"alternative #2 {A}")

    def test_broken_after_an_altsvc_frame(self, two: Play) -> None:
        two.connect(f"{A} -> ALTSVC x | 200 OK")
        two.connect(f"{A} {NO}", server=1)
        two.connect(A, server=1)
        two.broken(self.RULE, self.AGAIN, f"alternative #1 {A}", f"alternative #2 {A}")

    def test_broken_where_alt_used_names_it(self, play: Play) -> None:
        play.connect(f"{self.USED} {NO}")
        play.connect(self.USED)
        play.broken(self.RULE, self.AGAIN, f"#1 {A}", f"#2 {A}")

    def test_broken_after_the_origin_was_used(self, two: Play) -> None:
        two.connect(f'{A} {{alt-svc=h2=":8443"}}')
        two.connect(f"{A} {NO}", server=1)
        two.connect(A)
        two.connect(A, server=1)
        two.broken(self.RULE, self.AGAIN, f"alternative #1 {A}", f"alternative #2 {A}")

    def test_not_exercised_where_the_authority_is_not_asked_for_again(self, play: Play) -> None:
        play.connect(f"{self.USED} {NO}")
        play.not_exercised(self.RULE)

    def test_another_alternative_may_be_used(self, play: Play) -> None:
        play.connect(f"{self.USED} {NO}")
        play.connect(f"{A} {{alt-used=other.test}}", A)
        play.held(self.RULE, "1 alternative dropped")

    @pytest.mark.parametrize(("authority", "client"), [("b.site.test", "192.0.2.1"), ("a.site.test", "192.0.2.2")])
    def test_another_origin_or_client(self, play: Play, authority: str, client: str) -> None:
        play.connect(f"{self.USED} {NO}")
        play.connect(f"GET {authority}/ {{alt-used=alt.test:8443}}", client=client)
        play.not_exercised(self.RULE)

    def test_the_server_that_named_the_alternative_is_the_origin(self, two: Play) -> None:
        two.connect(f'{A} {{alt-svc=h2=":8443"}}', f"{A} {NO}", A)
        two.not_exercised(self.RULE)

    def test_not_exercised_where_nothing_was_named(self, two: Play) -> None:
        two.connect(A)
        two.connect(f"{A} {NO}", A, server=1)
        two.not_exercised(self.RULE)


class TestIgnoreAltSvcIn421:
    RULE = "http.ignore-alt-svc-in-421"
    SENT = f'{A} {{alt-svc=h2=":8443"}} {NO}'
    WHY = "a.site.test was asked for where the Alt-Svc of a 421 had sent it"

    def test_held(self, two: Play) -> None:
        two.connect(self.SENT)
        two.connect(A)
        two.held(self.RULE, "1 authority had an Alt-Svc in a 421")

    def test_broken_at_another_server(self, two: Play) -> None:
        two.connect(self.SENT)
        two.connect(A, server=1)
        two.broken(self.RULE, self.WHY, f"origin #1 {A}", f"alternative #1 {A}")

    def test_broken_where_alt_used_says_so(self, play: Play) -> None:
        play.connect(f'{A} {{alt-svc=h2="alt.test:8443"}} {NO}')
        play.connect(f"{A} {{alt-used=alt.test:8443}}")
        play.broken(self.RULE, self.WHY, f"#1 {A}", f"#2 {A}")

    def test_another_alternative_was_not_named_by_the_421(self, play: Play) -> None:
        play.connect(f'{A} {{alt-svc=h2="alt.test:8443"}} {NO}')
        play.connect(f"{A} {{alt-used=other.test}}")
        play.not_exercised(self.RULE, "a client that goes to a server outside of this run is not seen there")

    @pytest.mark.parametrize("otherwise", [f'{A} {{alt-svc=h2=":8443"}}', f"{A} -> ALTSVC x | 421 Misdirected Request"])
    def test_another_answer_had_an_alternative_as_well(self, two: Play, otherwise: str) -> None:
        two.connect(otherwise, self.SENT)
        two.connect(A, server=1)
        two.not_exercised(self.RULE)

    @pytest.mark.parametrize(("authority", "client"), [("b.site.test", "192.0.2.1"), ("a.site.test", "192.0.2.2")])
    def test_another_origin_or_client_was_not_sent(self, two: Play, authority: str, client: str) -> None:
        two.connect(self.SENT)
        two.connect(f"GET {authority}/", client=client, server=1)
        two.not_exercised(self.RULE)

    def test_not_exercised(self, two: Play) -> None:
        two.connect(f"{A} {NO}")
        two.connect(A, server=1)
        two.not_exercised(self.RULE)
