"""Rules about how soon and how often an HTTP request comes again."""

from __future__ import annotations

import pytest

from conduct_playbook import Line, Play

GET, POST = "GET a.site.test/", "POST a.site.test/pay"


@pytest.fixture
def play() -> Play:
    return Play("http")


class TestRetryAfter:
    RULE = "http.retry-after"

    def test_held(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> !503 busy")
        play.wait("125s").connect(GET)
        play.held(self.RULE, "it came back 5s after the time or later")

    @pytest.mark.parametrize(("gap", "outcome"), [("119994ms", "broken"), ("119996ms", "held")])
    def test_clocks_tick(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> !503 busy")
        play.wait(gap).connect(GET)
        assert play.find(self.RULE).outcome == outcome

    @pytest.mark.parametrize("status", ["503 busy", "429 Too Many Requests"])
    def test_broken(self, play: Play, status: str) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> !{status}")
        play.wait("1s").connect(GET)
        why = "told to wait 2m (Retry-After: 120), it waited 1s"
        play.broken(self.RULE, why, f"#1 {GET}", f"#2 {GET}")

    def test_the_time_runs_from_the_answer(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> (30s) !503 busy")
        play.wait("100s").connect(GET)
        why = "told to wait 2m (Retry-After: 120), it waited 1m 40s"
        play.broken(self.RULE, why, f"#1 {GET}", f"#2 {GET}")

    def test_each_answer_asks_anew(self, play: Play) -> None:
        play.connect(
            f"{GET} {{retry-after=1}} -> !429 slow", "(2s)", f"{GET} {{retry-after=120}} -> !503 busy", "(1s)", GET
        )
        play.broken(self.RULE, "told to wait 2m (Retry-After: 120), it waited 1s", f"#1 {GET}", f"#1 {GET}")

    def test_a_request_that_was_on_its_way_is_no_retry(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> !503 busy", "(20ms)", GET)
        play.not_exercised(self.RULE, "it did not come back")

    def test_it_keeps_asking_before_its_time(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=1}} -> !503 busy", *["(15ms)", f"{GET} {{retry-after=1}} -> !503 busy"] * 3)
        play.broken(self.RULE, "told to wait 1s (Retry-After: 1), it waited 30ms", f"#1 {GET}", f"#1 {GET}")

    def test_a_retry_after_that_is_none_asks_for_nothing(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=soon}} -> !503 busy", GET)
        play.not_exercised(self.RULE, "it did not come back")

    def test_not_exercised_where_it_does_not_come_back(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> !503 busy")
        play.not_exercised(self.RULE, "it did not come back")

    def test_not_exercised_on_a_421(self, play: Play) -> None:
        play.connect(f"{GET} {{retry-after=120}} -> !421 Misdirected Request")
        play.connect(GET)
        play.not_exercised(self.RULE)


class TestRetryBudget:
    RULE = "http.retry-budget"

    @pytest.mark.parametrize("status", [421, 429, 500, 502, 503, 504])
    def test_held(self, play: Play, status: int) -> None:
        play.connect(*[f"{GET} -> {status} no"] * 5)
        play.held(self.RULE, "4 more tries for 1 request, 5 tries at most for one")

    def test_held_by_one_more_try(self, play: Play) -> None:
        play.connect(f"{GET} -> 503 no", GET, GET)
        play.held(self.RULE, "1 more try for 1 request, 2 tries at most for one")

    def test_broken(self, play: Play) -> None:
        play.connect(*[f"{GET} -> 503 no", "(200ms)"] * 6)
        play.broken(self.RULE, "6 tries within 1s", *[f"#1 {GET}"] * 6)

    def test_a_back_off_of_a_second_is_no_storm(self, play: Play) -> None:
        for wait in (1, 2, 4, 8, 16, 32):
            play.connect(f"{GET} -> 503 no").play.wait(wait)
        play.held(self.RULE, "5 more tries for 1 request, 6 tries at most for one")

    def test_a_request_that_comes_again_and_again_anyway_may_be_a_poll(self, play: Play) -> None:
        play.connect(GET, *[f"{GET} -> 503 no", "(2s)"] * 11, GET, GET)
        why = "11 tries within 20s: as it does anyway, or as retries"
        play.inconclusive(self.RULE, why, "an Idempotency-Key in the requests", *[f"#1 {GET}"] * 11)

    def test_side_by_side_they_are_no_retries(self, play: Play) -> None:
        lines = [play.connect(f"{GET} -> …") for _ in range(12)]
        play.wait("1s")
        for line in lines:
            line.answers("503 busy")
        play.held(self.RULE, "0 more tries for 12 requests, 1 try at most for one")

    def test_broken_where_no_answer_came(self, play: Play) -> None:
        for _ in range(6):
            play.connect(f"{GET} -> !")
        play.broken(self.RULE, "6 tries within 0s", *[f"#{n} {GET}" for n in range(1, 7)])

    @pytest.mark.parametrize(("gap", "outcome"), [("6s", "broken"), ("6001ms", "held")])
    def test_within_a_minute(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(*[f"{GET} -> 503 no", f"({gap})"] * 11)
        assert play.find(self.RULE).outcome == outcome

    def test_a_success_ends_the_row(self, play: Play) -> None:
        play.connect(*[f"{GET} -> 503 no"] * 4, GET, *[f"{GET} -> 503 no"] * 4)
        play.held(self.RULE, "7 more tries for 2 requests, 5 tries at most for one")

    def test_another_failure_is_an_answer(self, play: Play) -> None:
        play.connect(*[f"{GET} -> 404 none"] * 9)
        play.not_exercised(self.RULE)

    def test_held_by_giving_up_at_once(self, play: Play) -> None:
        play.connect(f"{GET} -> 503 no")
        play.held(self.RULE, "0 more tries for 1 request, 1 try at most for one")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(GET, GET)
        play.not_exercised(self.RULE)


class TestFinalIsFinal:
    RULE = "http.final-is-final"
    GONE = f"{GET} -> 404 none"

    @pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 413, 414, 422, 451, 501, 505])
    def test_broken(self, play: Play, status: int) -> None:
        play.connect(*[f"{GET} -> {status} no"] * 8)
        play.broken(self.RULE, f"it was answered {status}, and asked 7 times again at once", *[f"#1 {GET}"] * 8)

    def test_broken_though_the_last_is_accepted(self, play: Play) -> None:
        play.connect(self.GONE, self.GONE, GET)
        play.broken(self.RULE, "it was answered 404, and asked twice again at once", *[f"#1 {GET}"] * 3)

    def test_held(self, play: Play) -> None:
        play.connect(self.GONE, "GET a.site.test/2", f"{POST} -> 400 no")
        play.held(self.RULE, "2 requests refused for good, and not asked again")

    def test_once_more_may_be_another_part_of_the_program(self, play: Play) -> None:
        play.connect(self.GONE, self.GONE)
        why = "it was answered 404, and asked once again at once: by another part of the program, or as a retry"
        play.inconclusive(self.RULE, why, "an Idempotency-Key", f"#1 {GET}", f"#1 {GET}")

    def test_once_more_with_the_same_idempotency_key(self, play: Play) -> None:
        play.connect(*[f"{POST} {{body=5, idempotency-key=a}} -> 400 no"] * 2)
        play.broken(self.RULE, "it was answered 400, and asked once again at once", *[f"#1 {POST}"] * 2)

    @pytest.mark.parametrize(("gap", "outcome"), [("1s", "broken"), ("1001ms", "held")])
    def test_a_poll_waits(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(*[self.GONE, f"({gap})"] * 8)
        assert play.find(self.RULE).outcome == outcome

    def test_something_else_may_have_changed_the_answer(self, play: Play) -> None:
        play.connect(*[self.GONE, POST] * 3)
        play.held(self.RULE, "1 request refused for good, and not asked again")

    def test_side_by_side_they_are_different_requests(self, play: Play) -> None:
        lines = [play.connect(f"{GET} -> …") for _ in range(8)]
        play.wait("1s")
        for line in lines:
            line.answers("404 none")
        play.held(self.RULE, "8 requests refused for good, and not asked again")

    @pytest.mark.parametrize("status", [401, 407, 417, 421, 426, 429, 431, 500, 503])
    def test_not_exercised(self, play: Play, status: int) -> None:
        play.connect(*[f"{GET} -> {status} no"] * 8)
        play.not_exercised(self.RULE)


class TestHalfOpen:
    RULE = "http.half-open"

    def refused(self, play: Play, count: int = 6, different: int = 6) -> list[Line]:
        """Six connections with a request of their own each, all refused at the same time."""
        lines = [play.connect(f"GET a.site.test/{n % different} -> …") for n in range(count)]
        for line in lines:
            line.answers("503 busy")
        play.wait("1s")
        return lines

    def test_held(self, play: Play) -> None:
        first, *others = self.refused(play)
        first.says("GET a.site.test/0 -> (300ms) 200 OK")
        for n, line in enumerate(others, 1):
            line.says(f"GET a.site.test/{n}")
        play.held(self.RULE, "one request went ahead of the others")

    def test_broken(self, play: Play) -> None:
        for n, line in enumerate(self.refused(play)):
            line.says(f"GET a.site.test/{n} -> …")
        play.wait("1s")
        for line in [one.connection for one in play.run.ledger.tries[6:]]:
            play.recorders[0].more(line.exchanges[-1], status=200, whole=True)
            play.recorders[0].answer(line.exchanges[-1], "200 OK")
        evidence = [f"#{n + 1} GET a.site.test/{n}" for n in range(6)]
        play.broken(
            self.RULE, "6 requests came at once when the server was back, before it had answered one", *evidence
        )

    def test_a_crowd_right_after_the_first_answer_proves_nothing(self, play: Play) -> None:
        for n, line in enumerate(self.refused(play)):
            line.says(f"GET a.site.test/{n}")
        why = "the others came right after the first good answer: because of it, or together with it"
        play.inconclusive(
            self.RULE, why, "a server that answers later (delay)", *[f"#{n + 1} GET a.site.test/{n}" for n in range(3)]
        )

    @pytest.mark.parametrize(
        ("count", "different", "outcome"),
        [(5, 5, "held"), (5, 3, "held"), (4, 4, "not exercised"), (5, 2, "not exercised")],
    )
    def test_five_refusals_of_three_requests_are_a_streak(
        self, play: Play, count: int, different: int, outcome: str
    ) -> None:
        first, *others = self.refused(play, count, different)
        first.says("GET a.site.test/0 -> (300ms) 200 OK")
        for n, line in enumerate(others, 1):
            line.says(f"GET a.site.test/{n}")
        assert play.find(self.RULE).outcome == outcome

    def test_other_clients_have_a_breaker_of_their_own(self, play: Play) -> None:
        lines = [play.connect(f"GET a.site.test/{n} -> …", client=f"192.0.2.{n}") for n in range(6)]
        for line in lines:
            line.answers("503 busy")
        play.wait("1s")
        for n, line in enumerate(lines):
            line.says(f"GET a.site.test/{n}")
        play.not_exercised(self.RULE)

    def test_not_exercised_by_one_request_alone(self, play: Play) -> None:
        play.connect(*[f"{GET} -> 503 busy", "(1s)"] * 6, GET)
        play.not_exercised(self.RULE)

    def test_not_exercised_without_a_return(self, play: Play) -> None:
        self.refused(play)
        play.not_exercised(self.RULE)
