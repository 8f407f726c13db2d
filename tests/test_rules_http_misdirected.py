"""Rules about the retry after a 421 (Misdirected Request) of an HTTP server."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

GET = "GET b.site.test/"
WRONG = f"{GET} -> 421 Misdirected Request"


@pytest.fixture
def play() -> Play:
    return Play("http")


class TestRetryElsewhere:
    RULE = "http.retry-elsewhere"

    def test_held(self, play: Play) -> None:
        play.connect(WRONG)
        play.connect(GET)
        play.held(self.RULE, "asked again 1 time, on another connection")

    def test_held_on_another_server(self) -> None:
        play = Play("http", "front", "back")
        play.connect(WRONG)
        play.connect(WRONG, server=1)
        play.connect(GET)
        play.held(self.RULE, "asked again 2 times, on another connection")

    def test_broken(self, play: Play) -> None:
        play.connect(WRONG, GET)
        play.broken(self.RULE, "GET was asked again on the connection that had answered 421", f"#1 {GET}", f"#1 {GET}")

    def test_another_request_is_no_retry(self, play: Play) -> None:
        play.connect(WRONG, "GET a.site.test/", "HEAD b.site.test/")
        play.not_exercised(self.RULE, "no request was repeated: a retry is allowed, but not required")

    def test_the_same_request_in_parallel_is_no_retry(self, play: Play) -> None:
        play.connect(f"{GET} -> …", GET, "(1s)").answers("421 Misdirected Request")
        play.not_exercised(self.RULE, "no request was repeated: a retry is allowed, but not required")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(f"{GET} -> !503 busy", GET)
        play.not_exercised(self.RULE)


class TestRetryOnce:
    RULE = "http.retry-once"

    def test_held(self, play: Play) -> None:
        for _ in range(2):
            play.connect(WRONG)
        play.held(self.RULE, "told 421 twice, and one retry at most")

    def test_broken(self, play: Play) -> None:
        for _ in range(2):
            play.connect(WRONG)
        play.connect(GET)
        play.broken(self.RULE, "after the second 421 it asked a third time", f"#1 {GET}", f"#2 {GET}", f"#3 {GET}")

    def test_another_answer_ends_the_row(self, play: Play) -> None:
        for line in (WRONG, GET, WRONG, GET, WRONG):
            play.connect(line)
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize(("gap", "outcome"), [("30s", "broken"), ("30001ms", "held")])
    def test_a_call_lasts_a_minute_from_its_first_try(self, play: Play, gap: str, outcome: str) -> None:
        for _ in range(3):
            play.connect(WRONG).play.wait(gap)
        assert play.find(self.RULE).outcome == outcome

    def test_later_it_is_a_new_call(self, play: Play) -> None:
        for _ in range(3):
            play.connect(WRONG).play.wait("40s")
        play.held(self.RULE, "told 421 3 times, and one retry at most")

    def test_not_exercised_by_a_single_421(self, play: Play) -> None:
        for line in (WRONG, GET):
            play.connect(line)
        play.not_exercised(self.RULE)

    def test_each_client_calls_for_itself(self, play: Play) -> None:
        for number in range(4):
            play.connect(WRONG, client=f"192.0.2.{number % 2}")
        play.held(self.RULE, "told 421 4 times, and one retry at most")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(*[f"{GET} -> !503 busy"] * 3)
        play.not_exercised(self.RULE)


class TestRetryForOrigin:
    RULE = "http.retry-for-origin"

    def test_held(self, play: Play) -> None:
        play.connect(WRONG, sni="a.site.test")
        play.connect(GET, sni="B.site.test")
        play.held(self.RULE, "1 time on a connection with its SNI")

    @pytest.mark.parametrize(("sni", "name"), [("c.site.test", "c.site.test"), (None, "nobody")])
    def test_broken(self, play: Play, sni: str | None, name: str) -> None:
        play.connect(WRONG, sni="a.site.test")
        play.connect(GET, sni=sni)
        why = f"the retry for b.site.test came on a connection that was made for {name}"
        play.broken(self.RULE, why, f"#1 {GET}", f"#2 {GET}")

    def test_the_same_connection_is_another_rule(self, play: Play) -> None:
        play.connect(WRONG, GET, sni="a.site.test")
        play.not_exercised(self.RULE)

    def test_clear_text_has_no_sni(self, play: Play) -> None:
        play.connect(WRONG)
        play.connect(GET)
        play.not_exercised(self.RULE)

    def test_an_address_is_never_an_sni(self, play: Play) -> None:
        play.connect("GET 127.0.0.1/ -> 421 Misdirected Request", sni=None, version="TLSv1.3")
        play.connect("GET 127.0.0.1/", version="TLSv1.3")
        play.not_exercised(self.RULE)

    def test_another_status_is_no_occasion(self, play: Play) -> None:
        play.connect(f"{GET} -> 503 busy", sni="a.site.test")
        play.connect(GET, sni="a.site.test")
        play.not_exercised(self.RULE)
