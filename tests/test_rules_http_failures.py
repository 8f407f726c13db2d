"""Rules about HTTP requests that failed in other ways than by a 421."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

GET, POST = "GET a.site.test/", "POST a.site.test/pay"
LOST = f"{POST} {{body=5}} -> !"
GOAWAY = "[enter] -> !GOAWAY NO_ERROR, last stream 1"


@pytest.fixture
def play() -> Play:
    return Play("http")


class TestNoBlindPost:
    RULE = "http.no-blind-post"
    TWICE = "POST got no answer, and came again: it may have been carried out twice"

    def test_held_by_leaving_it(self, play: Play) -> None:
        play.connect(LOST)
        play.held(self.RULE, "1 got no answer, and did not come again")

    def test_broken_after_a_close(self, play: Play) -> None:
        play.connect(LOST)
        play.connect(f"{POST} {{body=5}}")
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    def test_broken_after_a_reset_of_the_stream(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5}} -> !RST_STREAM INTERNAL_ERROR", f"{POST} {{body=5}}")
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#1 {POST}")

    @pytest.mark.parametrize("end", ["(leaves)", "(closes)"])
    def test_broken_after_the_end_of_the_connection(self, play: Play, end: str) -> None:
        play.connect(f"{POST} {{body=5}} -> …", end)
        play.connect(f"{POST} {{body=5}}")
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    def test_broken_after_half_an_answer(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5, whole=false}} -> !200 OK", "(closes)")
        play.connect(f"{POST} {{body=5}}")
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    @pytest.mark.parametrize("status", ["400 no", "503 busy"])
    def test_a_refusal_is_an_answer_even_in_part(self, play: Play, status: str) -> None:
        play.connect(f"{POST} {{body=5, whole=false}} -> !{status}", "(closes)")
        play.connect(f"{POST} {{body=5}}")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
    def test_idempotent_requests_may_come_again(self, play: Play, method: str) -> None:
        for _ in range(2):
            play.connect(f"{method} a.site.test/pay -> !")
        play.not_exercised(self.RULE)

    def test_another_body_is_another_request(self, play: Play) -> None:
        play.connect(LOST)
        play.connect(f"{POST} {{body=6}}")
        play.held(self.RULE, "1 got no answer, and did not come again")

    @pytest.mark.parametrize("said", ["!RST_STREAM REFUSED_STREAM", "!GOAWAY NO_ERROR, last stream 1"])
    def test_what_the_server_has_not_looked_at_may_come_again(self, play: Play, said: str) -> None:
        play.connect(f"{POST} {{stream=3, body=5}} -> {said}", "(closes)")
        play.connect(f"{POST} {{body=5}}")
        play.held(self.RULE, "1 came again that the server had said it had not looked at")

    def test_the_last_stream_of_a_goaway_was_looked_at(self, play: Play) -> None:
        play.connect(f"{POST} {{stream=1, body=5}} -> !GOAWAY NO_ERROR, last stream 1", "(closes)")
        play.connect(f"{POST} {{body=5}}")
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    def test_the_lowest_of_two_goaways_counts(self, play: Play) -> None:
        play.connect(
            "[enter] -> !GOAWAY NO_ERROR, last stream 9", f"{POST} {{stream=3, body=5}} -> …", GOAWAY, "(closes)"
        )
        play.connect(f"{POST} {{body=5}}")
        play.held(self.RULE, "1 came again that the server had said it had not looked at")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(POST, POST)
        play.not_exercised(self.RULE)


class TestNoSecondBlindRetry:
    RULE = "http.no-second-blind-retry"
    GONE = f"{GET} -> !"

    def test_held(self, play: Play) -> None:
        for line in (f"{GET} -> !", GET):
            play.connect(line, "(closes)")
        play.held(self.RULE, "1 request tried again, once each")

    def test_broken(self, play: Play) -> None:
        for _ in range(3):
            play.connect(self.GONE)
        why = "a retry got no answer either, and was tried again"
        play.broken(self.RULE, why, f"#1 {GET}", f"#2 {GET}", f"#3 {GET}")

    def test_an_answer_between_ends_the_row(self, play: Play) -> None:
        for line in (self.GONE, GET, self.GONE, GET):
            play.connect(line)
        play.held(self.RULE, "2 requests tried again, once each")

    @pytest.mark.parametrize(("gap", "outcome"), [("30s", "broken"), ("30001ms", "held")])
    def test_within_a_minute_of_the_first(self, play: Play, gap: str, outcome: str) -> None:
        for _ in range(3):
            play.connect(self.GONE).play.wait(gap)
        assert play.find(self.RULE).outcome == outcome

    def test_what_was_not_looked_at_was_no_try(self, play: Play) -> None:
        for _ in range(3):
            play.connect(f"{GET} {{stream=3}} -> !RST_STREAM REFUSED_STREAM")
        play.not_exercised(self.RULE)

    def test_not_exercised(self, play: Play) -> None:
        for _ in range(3):
            play.connect(GET)
        play.not_exercised(self.RULE)


class TestNoStreamAfterGoaway:
    RULE = "http.no-stream-after-goaway"

    def test_held(self, play: Play) -> None:
        play.connect(GET, GOAWAY)
        play.connect(GET)
        play.held(self.RULE, "1 GOAWAY")

    def test_broken(self, play: Play) -> None:
        play.connect(GET, GOAWAY, "(5s)", f"{GET} {{stream=3}}")
        play.broken(self.RULE, "stream 3 was opened 5s after a GOAWAY", "#1 enter", f"#1 {GET}")

    @pytest.mark.parametrize(("gap", "outcome"), [("250ms", "held"), ("251ms", "broken")])
    def test_a_stream_may_meet_it_on_the_way(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(GOAWAY, f"({gap})", GET)
        assert play.find(self.RULE).outcome == outcome

    @pytest.mark.parametrize(("gap", "outcome"), [("2500ms", "held"), ("2501ms", "broken")])
    def test_the_way_takes_real_time(self, play: Play, gap: str, outcome: str) -> None:
        play.clock.speed = 10.0  # type: ignore[attr-defined]  # as a clock that runs faster than the real one has
        play.connect(GOAWAY, f"({gap})", GET)
        assert play.find(self.RULE).outcome == outcome

    def test_streams_that_met_it_are_counted(self, play: Play) -> None:
        play.connect(GOAWAY, GET, GET)
        play.held(self.RULE, "1 GOAWAY; 2 streams may have met it on the way")

    def test_the_first_of_two_goaways_counts(self, play: Play) -> None:
        play.connect(GOAWAY, "(5s)", GOAWAY, GET)
        play.broken(self.RULE, "stream 1 was opened 5s after a GOAWAY", "#1 enter", f"#1 {GET}")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(GET, "(5s)", GET)
        play.not_exercised(self.RULE)


class TestWholeBodyAgain:
    RULE = "http.whole-body-again"
    REFUSED = f"{POST} {{body=5000}} -> 421 Misdirected Request"

    def test_held(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=5000}}")
        play.held(self.RULE, "1 body sent again, whole")

    @pytest.mark.parametrize("size", [0, 4999])
    def test_broken(self, play: Play, size: int) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body={size}}}")
        why = f"it had 5000 bytes before, and {size} when it came again"
        play.broken(self.RULE, why, f"#1 {POST}", f"#2 {POST}")

    def test_broken_by_leaving_in_the_middle(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=6000, body_sha256=none}} -> …", "(leaves)")
        play.broken(self.RULE, "it came again, and left after 6000 bytes of it", f"#1 {POST}", f"#2 {POST}")

    def test_a_client_that_is_still_sending(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=6000, body_sha256=none}} -> …")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("status", ["400 no", "503 busy"])
    def test_a_request_that_is_refused_need_not_be_sent_whole(self, play: Play, status: str) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=1}} -> {status}")
        play.not_exercised(self.RULE)

    def test_what_was_lost_comes_again_whole(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5000}} -> !")
        play.connect(f"{POST} {{body=10}}")
        play.broken(self.RULE, "it had 5000 bytes before, and 10 when it came again", f"#1 {POST}", f"#2 {POST}")

    def test_what_was_answered_may_be_followed_by_another_body(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5000}}", f"{POST} {{body=10}}")
        play.not_exercised(self.RULE)

    def test_not_exercised_without_a_body(self, play: Play) -> None:
        play.connect(f"{GET} -> 421 Misdirected Request")
        play.connect(GET)
        play.not_exercised(self.RULE)


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
        play.held(self.RULE, "1 more try for 2 requests, 2 tries at most for one")

    def test_broken(self, play: Play) -> None:
        play.connect(*[f"{GET} -> 503 no", "(1s)"] * 6)
        play.broken(self.RULE, "6 tries within 5s", *[f"#1 {GET}"] * 6)

    def test_broken_where_no_answer_came(self, play: Play) -> None:
        for _ in range(6):
            play.connect(f"{GET} -> !")
        play.broken(self.RULE, "6 tries within 0s", *[f"#{n} {GET}" for n in range(1, 7)])

    @pytest.mark.parametrize(("gap", "outcome"), [("12s", "broken"), ("12001ms", "held")])
    def test_within_a_minute(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(*[f"{GET} -> 503 no", f"({gap})"] * 6)
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
