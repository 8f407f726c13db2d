"""Rules about HTTP requests that got no answer, and about bodies that come again."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

GET, POST = "GET a.site.test/", "POST a.site.test/pay"
SAFELY = "1 came again that the server had said it had not looked at, or with an Idempotency-Key"
LOST = f"{POST} {{body=5}} -> !"
KEPT = f"{POST} {{body=5, stored=true}}"
GOAWAY = "[enter] -> !GOAWAY NO_ERROR, last stream 1"


@pytest.fixture
def play() -> Play:
    return Play("http")


class TestNoBlindPost:
    RULE = "http.no-blind-post"
    TWICE = "POST got no answer, and came again: it was carried out twice"
    KNOWING = "POST got no answer, and came again: blindly, or because the client is configured to know that it may (RFC 9110 §9.2.2)"

    def test_held_by_leaving_it(self, play: Play) -> None:
        play.connect(LOST)
        play.held(self.RULE, "1 got no answer, and did not come again")

    def test_broken_after_a_close(self, play: Play) -> None:
        play.connect(f"{KEPT} -> !")
        play.connect(KEPT)
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    @pytest.mark.parametrize(("first", "second"), [(KEPT, f"{POST} {{body=5}}"), (f"{POST} {{body=5}}", KEPT)])
    def test_a_client_may_know_that_what_was_carried_out_once_may_come_again(
        self, play: Play, first: str, second: str
    ) -> None:
        play.connect(f"{first} -> !")
        play.connect(second)
        settled = "an Idempotency-Key in the requests, or a server that carries out the first (keep = true)"
        play.inconclusive(self.RULE, self.KNOWING, settled, f"#1 {POST}", f"#2 {POST}")

    def test_broken_after_a_reset_of_the_stream(self, play: Play) -> None:
        play.connect(f"{KEPT} -> !RST_STREAM INTERNAL_ERROR", KEPT)
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#1 {POST}")

    @pytest.mark.parametrize("end", ["(leaves)", "(closes)"])
    def test_broken_after_the_end_of_the_connection(self, play: Play, end: str) -> None:
        play.connect(f"{KEPT} -> …", end)
        play.connect(KEPT)
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    def test_broken_after_half_an_answer(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5, whole=false, stored=true}} -> !200 OK", "(closes)")
        play.connect(KEPT)
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
        play.held(self.RULE, SAFELY)

    def test_the_last_stream_of_a_goaway_was_looked_at(self, play: Play) -> None:
        play.connect(f"{KEPT} -> !GOAWAY NO_ERROR, last stream 1", "(closes)")
        play.connect(KEPT)
        play.broken(self.RULE, self.TWICE, f"#1 {POST}", f"#2 {POST}")

    def test_the_lowest_of_two_goaways_counts(self, play: Play) -> None:
        play.connect(
            "[enter] -> !GOAWAY NO_ERROR, last stream 9", f"{POST} {{stream=3, body=5}} -> …", GOAWAY, "(closes)"
        )
        play.connect(f"{POST} {{body=5}}")
        play.held(self.RULE, SAFELY)

    def test_an_idempotency_key_makes_it_safe(self, play: Play) -> None:
        for line in (" -> !", ""):
            play.connect(f"{POST} {{body=5, idempotency-key=a}}{line}")
        play.held(self.RULE, SAFELY)

    def test_a_request_that_comes_again_and_again_may_be_another_one(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5}}", "(1s)", LOST)
        play.connect(f"{POST} {{body=5}}")
        why = "POST got no answer, and came again: as it does anyway, or as a retry"
        play.inconclusive(self.RULE, why, "an Idempotency-Key in the requests", f"#1 {POST}", f"#2 {POST}")

    def test_much_later_it_is_another_call(self, play: Play) -> None:
        play.connect(LOST)
        play.wait("61s").connect(f"{POST} {{body=5}}")
        play.not_exercised(self.RULE)

    def test_not_exercised(self, play: Play) -> None:
        play.connect(POST, POST)
        play.not_exercised(self.RULE)

    def test_not_exercised_while_it_waits(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5}} -> …")
        play.not_exercised(self.RULE)


class TestNoSecondBlindRetry:
    RULE = "http.no-second-blind-retry"
    GONE = f"{GET} -> !"

    def test_held(self, play: Play) -> None:
        for _ in range(2):
            play.connect(self.GONE)
        play.held(self.RULE, "1 request tried again, once each")

    def test_not_exercised_where_the_retry_is_answered(self, play: Play) -> None:
        for line in (self.GONE, GET):
            play.connect(line, "(closes)")
        play.not_exercised(self.RULE)

    def test_broken(self, play: Play) -> None:
        for _ in range(3):
            play.connect(self.GONE)
        why = "a retry got no answer either, and was tried again"
        play.broken(self.RULE, why, f"#1 {GET}", f"#2 {GET}", f"#3 {GET}")

    def test_an_answer_between_ends_the_row(self, play: Play) -> None:
        for line in (self.GONE, GET, self.GONE, GET):
            play.connect(line)
        play.not_exercised(self.RULE)

    def test_a_request_that_comes_again_and_again_may_be_another_one(self, play: Play) -> None:
        for line in (GET, self.GONE, self.GONE, GET):
            play.connect(line)
        why = "a third request came after two without an answer: as it does anyway, or as a retry"
        play.inconclusive(self.RULE, why, "", f"#2 {GET}", f"#3 {GET}", f"#4 {GET}")

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


class TestWholeBodyAgain:
    RULE = "http.whole-body-again"
    REFUSED = f"{POST} {{body=5000}} -> 421 Misdirected Request"

    def test_held(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=5000}}")
        play.held(self.RULE, "1 body sent again, whole")

    def test_broken(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(POST)
        play.broken(self.RULE, "the body had 5000 bytes before, and 0 when it came again", f"#1 {POST}", f"#2 {POST}")

    def test_a_shorter_body_may_be_another(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=4999}}")
        why = "the body had 5000 bytes before, and 4999 when it came again: a part of it, or another request"
        play.inconclusive(self.RULE, why, "an Idempotency-Key in the requests", f"#1 {POST}", f"#2 {POST}")

    def test_a_shorter_body_with_the_same_idempotency_key(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5000, idempotency-key=a}} -> 421 Misdirected Request")
        play.connect(f"{POST} {{body=4999, idempotency-key=a}}")
        play.broken(
            self.RULE, "the body had 5000 bytes before, and 4999 when it came again", f"#1 {POST}", f"#2 {POST}"
        )

    def test_another_longer_body_is_another_request(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=5001}}")
        play.not_exercised(self.RULE)

    def test_broken_by_leaving_in_the_middle(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=6000, body_sha256=none}} -> …", "(leaves)")
        play.broken(self.RULE, "it came again, and left after 6000 bytes of it", f"#1 {POST}", f"#2 {POST}")

    def test_a_client_that_is_still_sending(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=6000, body_sha256=none}} -> …")
        play.not_exercised(self.RULE)

    def test_a_request_that_is_reset_before_its_body_is_in(self, play: Play) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} -> !reset=INTERNAL_ERROR")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("status", ["400 no", "503 busy"])
    def test_a_request_that_is_refused_need_not_be_sent_whole(self, play: Play, status: str) -> None:
        play.connect(self.REFUSED)
        play.connect(f"{POST} {{body=1}} -> {status}")
        play.not_exercised(self.RULE)

    def test_what_was_lost_comes_again_whole(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5000}} -> !")
        play.connect(POST)
        play.broken(self.RULE, "the body had 5000 bytes before, and 0 when it came again", f"#1 {POST}", f"#2 {POST}")

    def test_what_was_answered_may_be_followed_by_another_body(self, play: Play) -> None:
        play.connect(f"{POST} {{body=5000}}", f"{POST} {{body=10}}")
        play.not_exercised(self.RULE)

    def test_not_exercised_without_a_body(self, play: Play) -> None:
        play.connect(f"{GET} -> 421 Misdirected Request")
        play.connect(GET)
        play.not_exercised(self.RULE)


class TestInStep:
    RULE = "http.in-step"
    SLOW = f"{POST} {{version=1.1}} -> (3s) !200 OK"
    NEXT = f"{GET} {{version=1.1}}"

    def crossing(self, play: Play, first: str, second: str) -> None:
        """The second request arrives one second after the first, whose answer is due after three."""
        line = play.connect(f"{first} -> …")
        play.wait("1s")
        arrival = play.recorders[0].now()
        play.wait("2s")
        line.answers("200 OK").says(second)
        play.recorders[0].arrived(line.connection.exchanges[-1], arrival)

    def test_held(self, play: Play) -> None:
        play.connect(self.SLOW, self.NEXT)
        play.held(self.RULE, "1 answer waited for before the next request")

    def test_broken(self, play: Play) -> None:
        self.crossing(play, f"{POST} {{version=1.1}}", self.NEXT)
        why = "GET was sent on the connection before POST was answered"
        play.broken(self.RULE, why, f"#1 {POST}", f"#1 {GET}")

    @pytest.mark.parametrize("facts", ["version=1.1, idempotency-key=a", "version=2"])
    def test_it_may_recover(self, play: Play, facts: str) -> None:
        self.crossing(play, f"{POST} {{{facts}}}", f"{GET} {{{facts}}}")
        play.not_exercised(self.RULE)

    def test_idempotent_requests_may_be_pipelined(self, play: Play) -> None:
        self.crossing(play, f"{GET} {{version=1.1}}", self.NEXT)
        play.not_exercised(self.RULE)

    def test_a_quick_answer_is_no_occasion(self, play: Play) -> None:
        play.connect(f"{POST} {{version=1.1}}", self.NEXT)
        play.not_exercised(self.RULE)

    def test_another_connection_is_another_order(self, play: Play) -> None:
        play.connect(f"{POST} {{version=1.1}} -> …")
        play.connect(self.NEXT)
        play.not_exercised(self.RULE)
