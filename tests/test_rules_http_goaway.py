"""Rules about GOAWAY."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

GET = "GET a.site.test/"
GOAWAY = "[enter] -> !GOAWAY NO_ERROR, last stream 1"


@pytest.fixture
def play() -> Play:
    return Play("http")


class TestNoStreamAfterGoaway:
    RULE = "http.no-stream-after-goaway"

    def test_held(self, play: Play) -> None:
        play.connect(GET, GOAWAY)
        play.connect(GET)
        play.held(self.RULE, "1 GOAWAY")

    def test_broken(self, play: Play) -> None:
        play.connect(GET, GOAWAY, "(5s)", f"{GET} {{stream=3}}")
        play.broken(self.RULE, "stream 3 was opened 5s after a GOAWAY", "#1 enter", f"#1 {GET}")

    @pytest.mark.parametrize(("gap", "outcome"), [("250ms", "inconclusive"), ("251ms", "broken")])
    def test_a_stream_may_meet_it_on_the_way(self, play: Play, gap: str, outcome: str) -> None:
        play.connect(GOAWAY, f"({gap})", GET)
        assert play.find(self.RULE).outcome == outcome

    @pytest.mark.parametrize(("gap", "outcome"), [("2500ms", "inconclusive"), ("2501ms", "broken")])
    def test_the_way_takes_real_time(self, play: Play, gap: str, outcome: str) -> None:
        play.clock.speed = 10.0  # type: ignore[attr-defined]  # as a clock that runs faster than the real one has
        play.connect(GOAWAY, f"({gap})", GET)
        assert play.find(self.RULE).outcome == outcome

    def test_a_stream_that_met_it_proves_nothing(self, play: Play) -> None:
        play.connect(GOAWAY, GET)
        why = "stream 1 came after a GOAWAY, and may have met it on the way"
        settled = "a further request more than 250ms after the GOAWAY"
        play.inconclusive(self.RULE, why, settled, "#1 enter", f"#1 {GET}")

    def test_held_after_one_that_met_it(self, play: Play) -> None:
        play.connect(GOAWAY, GET)
        play.connect(GET)
        play.held(self.RULE, "1 GOAWAY")

    def test_broken_after_another_connection_was_used(self, play: Play) -> None:
        line = play.connect(GET, GOAWAY)
        play.connect(GET)
        line.says("(4s)", f"{GET} {{stream=3}}")
        play.broken(self.RULE, "stream 3 was opened 4s after a GOAWAY", "#1 enter", f"#1 {GET}")

    def test_the_time_is_that_of_the_frame_and_not_of_the_answer(self, play: Play) -> None:
        line = play.connect(f"{GET} -> (1s) GOAWAY NO_ERROR, last stream 1")
        play.wait("4s")
        line.says(f"{GET} {{stream=3}}")
        play.recorders[0].answer(line.connection.exchanges[1], "200 OK")
        play.broken(self.RULE, "stream 3 was opened 4s after a GOAWAY", f"#1 {GET}", f"#1 {GET}")

    def test_not_exercised_where_nothing_is_asked_after_it(self, play: Play) -> None:
        play.connect(GET, GOAWAY)
        play.not_exercised(self.RULE, "no request followed it while the connection was open")

    def test_not_exercised_by_a_connection_that_is_closed(self, play: Play) -> None:
        play.connect(GET, GOAWAY, "(closes)")
        play.connect(GET)
        play.not_exercised(self.RULE, "no request followed it while the connection was open")

    def test_another_client_was_not_told(self, play: Play) -> None:
        play.connect(GET, GOAWAY)
        play.connect(GET, client="192.0.2.2")
        play.not_exercised(self.RULE, "no request followed it while the connection was open")

    def test_the_first_of_two_goaways_counts(self, play: Play) -> None:
        play.connect(GOAWAY, "(5s)", GOAWAY, GET)
        play.broken(self.RULE, "stream 1 was opened 5s after a GOAWAY", "#1 enter", f"#1 {GET}")

    def test_not_exercised(self, play: Play) -> None:
        play.connect(GET, "(5s)", GET)
        play.not_exercised(self.RULE)


class TestFinishBelowLast:
    RULE = "http.finish-below-last"
    WAITS = f"{GET} {{stream=1}} -> …"

    def test_held(self, play: Play) -> None:
        play.connect(self.WAITS, GOAWAY, "(1s)").answers("200 OK")
        play.held(self.RULE, "1 request waited for after a GOAWAY")

    def test_broken(self, play: Play) -> None:
        play.connect(self.WAITS, GOAWAY, "(100ms)", "(leaves)")
        why = "it left 100ms after the GOAWAY, and stream 1 was still served"
        play.broken(self.RULE, why, "#1 enter", f"#1 {GET}")

    def test_a_client_that_has_waited_may_leave(self, play: Play) -> None:
        play.connect(self.WAITS, GOAWAY, "(1s)", "(leaves)")
        play.not_exercised(self.RULE)

    def test_the_fake_may_end_it(self, play: Play) -> None:
        play.connect(self.WAITS, GOAWAY, "(closes)")
        play.not_exercised(self.RULE)

    def test_a_stream_above_the_last_is_not_served(self, play: Play) -> None:
        play.connect(f"{GET} {{stream=3}} -> …", GOAWAY, "(leaves)")
        play.not_exercised(self.RULE)

    def test_the_real_last_stream_comes_with_the_second_goaway(self, play: Play) -> None:
        first = "[enter] -> !GOAWAY NO_ERROR, last stream 2147483647"
        play.connect(f"{GET} {{stream=3}} -> …", first, GOAWAY, "(leaves)")
        play.not_exercised(self.RULE)

    def test_an_answer_that_comes_with_the_goaway_is_no_occasion(self, play: Play) -> None:
        play.connect(f"{GET} {{stream=1}} -> !GOAWAY NO_ERROR, last stream 1 | 200 OK")
        play.not_exercised(self.RULE)

    def test_a_request_after_the_goaway_is_another_rules(self, play: Play) -> None:
        play.connect(GOAWAY, self.WAITS, "(leaves)")
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize(("gap", "outcome"), [("2500ms", "not exercised"), ("2501ms", "held")])
    def test_the_answer_comes_a_while_later_in_real_time(self, play: Play, gap: str, outcome: str) -> None:
        play.clock.speed = 10.0  # type: ignore[attr-defined]  # as a clock that runs faster than the real one has
        play.connect(self.WAITS, GOAWAY, f"({gap})").answers("200 OK")
        assert play.find(self.RULE).outcome == outcome

    def test_a_client_that_says_that_it_leaves_has_left(self, play: Play) -> None:
        line = play.connect(self.WAITS, GOAWAY, "(100ms)").leaving()
        line.says("(closes)")
        assert play.find(self.RULE).outcome == "broken"
