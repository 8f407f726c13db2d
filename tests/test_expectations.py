"""What each expectation says of a journal that is written by hand: when it is held, and why and by what it is not."""

from __future__ import annotations

import pytest

from conduct_playbook import Play, named
from notnow.conduct import expectations
from notnow.conduct.expectations import comebacks, delivery, requests
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading.attempts import TOLERANCE
from notnow.conduct.reading.ledger import COUNT
from notnow.conduct.reading.result import result
from notnow.conduct.reading.run import Run
from notnow.journal import CertificateRejected, Exchange

NO = "-> !421 no"
MAIL = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA")
SENT = (*MAIL, ". <1@x>", "QUIT")


def is_held(finding: Finding) -> None:
    assert finding == HELD


def is_idle(finding: Finding, why: str) -> None:
    """The run gave no occasion: that fails an assertion, and is nothing to `[expect]`."""
    assert (finding.outcome, finding.why, finding.evidence) == ("not exercised", why, ())


def is_unmet(finding: Finding, why: str, *evidence: str) -> None:
    assert (finding.outcome, finding.why) == ("broken", why)
    assert tuple(map(named, finding.evidence)) == evidence


def seen(play: Play) -> tuple[Exchange, ...]:
    return play.journals[0].exchanges


def run_of(play: Play) -> Run:
    return Run(play.journals)


def refused(*gaps: float, play: Play | None = None) -> Play:
    """A client that is refused, and again after each of these gaps (seconds)."""
    play = play or Play("smtp")
    play.connect(NO)
    for gap in gaps:
        play.wait(gap).connect(NO)
    return play


def test_a_finding_of_a_rule_says_what_was_seen_alone() -> None:
    assert Finding("broken", "it was late").why == "it was late"
    assert expectations.unmet("a", "b").why == "expected a, but b"


def test_the_first_finding_that_was_not_held_counts() -> None:
    late, later = expectations.unmet("a", "b"), expectations.unmet("c", "d")
    assert expectations.first_unmet([HELD, late, later]) is late
    assert expectations.first_unmet([Finding("not exercised"), late]) is late
    assert expectations.first_unmet([Finding("not exercised"), HELD]).outcome == "not exercised"
    assert expectations.first_unmet([]) == HELD


class TestDelivered:
    WHY = "expected every message to be delivered once, but none was delivered: "

    def delivered(self, play: Play, times: int = 1) -> Finding:
        return delivery.delivered(Run(play.journals), times)

    def test_so_many_times(self) -> None:
        play = Play("smtp")
        play.connect(*SENT)
        is_held(self.delivered(play))
        why = "expected every message to be delivered twice, but <1@x> to b@y was stored once"
        is_unmet(self.delivered(play, 2), why, "#1 . <1@x>")
        play.connect(*SENT)
        is_held(self.delivered(play, 2))
        why = "expected every message to be delivered once, but <1@x> to b@y was stored twice"
        is_unmet(self.delivered(play), why, "#1 . <1@x>", "#2 . <1@x>")

    def test_nobody_came(self) -> None:
        is_unmet(self.delivered(Play("smtp")), self.WHY + "nobody connected")

    @pytest.mark.parametrize(
        ("protocol", "noun", "unfinished"),
        [("smtp", "message", "message"), ("ftp", "file", "transfer"), ("http", "request", "request")],
    )
    def test_nothing_was_asked_for(self, protocol: str, noun: str, unfinished: str) -> None:
        """It may be a health check; a client that was given something did not deliver it."""
        play = Play(protocol)
        play.connect("NOOP" if protocol != "http" else "-> ")
        finding = self.delivered(play)
        why = f"the client never asked for anything: it began no {unfinished}"
        assert (finding.outcome, finding.seen, finding.settled_by) == ("inconclusive", why, COUNT)
        why = f"none was delivered: the client never finished a {unfinished}"
        is_unmet(delivery.delivered(play.run, 1, 1), f"expected every {noun} to be delivered once, but {why}")

    def test_it_did_not_come_back(self) -> None:
        why = "the client was told '421 no' at connect and did not come back"
        is_unmet(self.delivered(refused()), self.WHY + why, "#1 connect")

    def test_it_was_refused_each_time(self) -> None:
        why = "the client came back twice and was refused again: the last time it was told '421 no' at connect"
        is_unmet(self.delivered(refused(60, 60)), self.WHY + why, "#3 connect")

    def test_it_came_back_and_left(self) -> None:
        play = refused(60)
        play.connect("QUIT")
        why = (
            "the client came back and got no message through; the last time that it was refused, "
            "it was told '421 no' at connect"
        )
        is_unmet(self.delivered(play), self.WHY + why, "#2 connect")

    def test_a_later_command_is_no_attempt(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL[:2], "DATA -> !451 no", "RSET")
        why = "the client was told '451 no' at data and did not come back"
        is_unmet(self.delivered(play), self.WHY + why, "#1 DATA")

    def test_a_close_in_place_of_a_reply(self) -> None:
        play = Play("smtp")
        play.connect("-> !")
        why = "the client got a close without a word at connect and did not come back"
        is_unmet(self.delivered(play), self.WHY + why, "#1 connect")

    def test_a_file_that_was_interrupted(self) -> None:
        play = Play("ftp")
        play.connect(*["STOR a.bin {bytes=500} -> 426 cut"] * 3, "STOR b.bin -> 226 done")
        why = "the upload of /a.bin never came through: it was cut after 500 bytes"
        is_unmet(self.delivered(play), f"expected every file to be delivered once, but {why}", "#1 STOR a.bin")
        play.connect("STOR a.bin -> 226 done")
        is_held(self.delivered(play))

    def test_none_but_an_interrupted_file(self) -> None:
        play = Play("ftp")
        play.connect(*["RETR a.bin {bytes=500} -> 426 cut"] * 3)
        why = "none was delivered: the client never finished a transfer"
        is_unmet(self.delivered(play), f"expected every file to be delivered once, but {why}", "#1 RETR a.bin")

    def test_a_file_that_never_began(self) -> None:
        play = Play("ftp")
        play.connect("RETR b.bin -> 226 done", "RETR a.bin -> !450 busy")
        why = "the download of /a.bin never came through: the client was told '450 busy'"
        is_unmet(self.delivered(play), f"expected every file to be delivered once, but {why}", "#1 RETR a.bin")

    def test_a_file_that_is_under_way(self) -> None:
        play = Play("ftp")
        play.connect("RETR b.bin -> 226 done", "RETR a.bin -> 150 wait")
        finding = self.delivered(play)
        why = "the download of /a.bin: its last try was still under way"
        assert (finding.outcome, finding.seen) == ("inconclusive", why)

    @pytest.mark.parametrize(("defects", "outcome"), [(("expired",), "not exercised"), ((), "broken")])
    def test_a_client_that_rightly_rejected_the_certificate_had_nothing_to_deliver(
        self, defects: tuple[str, ...], outcome: str
    ) -> None:
        play = Play("http")
        line = play.connect("-> ", version="TLSv1.3", certificate="x", defects=defects)
        line.fails(CertificateRejected("certificate_expired"))
        assert self.delivered(play).outcome == outcome
        why = "the client rejected the certificate, as it must, before it named an item"
        assert (why in result(play.run.ledger).sentence) is bool(defects)

    def test_looking_again_is_not_doing_twice(self) -> None:
        play = Play("ftp")
        play.connect("RETR b.bin -> 226 done")
        play.connect("RETR b.bin -> 226 done")
        is_held(self.delivered(play))

    def test_a_request_that_is_idempotent_may_come_twice(self) -> None:
        play = Play("http")
        play.connect("GET a.test/", "GET a.test/")
        is_held(self.delivered(play))
        play.connect("POST a.test/ {stored=true}")
        is_held(self.delivered(play))
        play.connect("POST a.test/ {stored=true}")
        why = "expected every request to be delivered once, but POST a.test/ was carried out twice"
        is_unmet(self.delivered(play), why, "#2 POST a.test/", "#3 POST a.test/")


class TestDeliveredInNumber:
    GOOD, BAD, LOST = ". <{n}@x>", ". <{n}@x> -> !550 no", ". <{n}@x> -> !451 no"
    TWO = "expected 2 messages to be delivered, but there "
    ONCE = "expected every message to be delivered once, but "

    @pytest.mark.parametrize(
        ("ends", "count", "outcome", "why"),
        [
            ((GOOD,), 1, "held", ""),
            ((GOOD,), 2, "broken", f"{TWO}was 1"),
            ((GOOD, BAD), 2, "held", ""),
            ((GOOD, GOOD, GOOD), 2, "broken", f"{TWO}were 3"),
            ((GOOD, LOST), 2, "broken", f"{ONCE}<1@x> to b@y never came through: the client was told '451 no'"),
            ((GOOD, LOST), 1, "held", ""),
            ((GOOD, GOOD, LOST), 2, "held", ""),
            ((GOOD, ". <0@x>"), 1, "broken", f"{ONCE}<0@x> to b@y was stored twice"),
        ],
    )
    def test_so_many_messages(self, ends: tuple[str, ...], count: int, outcome: str, why: str) -> None:
        play = Play("smtp")
        for n, end in enumerate(ends):
            play.connect(*MAIL, end.format(n=n))
        found = delivery.delivered(Run(play.journals), 1, count)
        assert (found.outcome, found.why) == (outcome, why)

    def test_the_number_settles_a_doubt(self) -> None:
        play = Play("smtp")
        for line in (NO, NO):
            play.connect(line)
        play.wait("1m").connect(*SENT)
        run = Run(play.journals)
        found = [delivery.delivered(run, 1, count) for count in (None, 1, 2)]
        assert [one.outcome for one in found] == ["inconclusive", "held", "broken"]
        assert tuple(map(named, found[2].evidence)) == ("#2 connect",)


class TestNotDelivered:
    def test_nothing_came_through(self) -> None:
        is_held(delivery.not_delivered(Run(refused().journals)))

    def test_one_message(self) -> None:
        play = Play("smtp")
        play.connect(*SENT)
        why = "expected no message to be delivered, but <1@x> to b@y was stored"
        is_unmet(delivery.not_delivered(Run(play.journals)), why, "#1 . <1@x>")

    def test_several(self) -> None:
        play = Play("smtp")
        play.connect(*SENT)
        play.connect(*MAIL, ". <2@x>", *MAIL, ". <1@x>")
        why = "expected no message to be delivered, but <1@x> to b@y was stored, and 1 more came through"
        is_unmet(delivery.not_delivered(Run(play.journals)), why, "#1 . <1@x>", "#2 . <1@x>", "#2 . <2@x>")

    def test_a_file_and_a_piece_of_one(self) -> None:
        play = Play("ftp")
        play.connect("RETR a.bin {bytes=5} -> 426 cut", "RETR b.bin -> 226 done")
        why = "expected no file to be delivered, but the download of /b.bin was made"
        is_unmet(delivery.not_delivered(Run(play.journals)), why, "#1 RETR b.bin")

    def test_the_try_that_came_through_is_the_proof(self) -> None:
        play = Play("http")
        play.connect("GET a.test/ -> !503 busy").play.wait("1m")
        play.connect("GET a.test/")
        why = "expected no request to be delivered, but GET a.test/ was carried out"
        is_unmet(delivery.not_delivered(Run(play.journals)), why, "#2 GET a.test/")


class TestNoDuplicates:
    def test_a_message(self) -> None:
        play = Play("smtp")
        play.connect(*SENT)
        is_held(delivery.no_duplicates(Run(play.journals)))
        play.connect(*SENT)
        why = "expected nothing to be stored twice, but <1@x> to b@y was stored twice"
        is_unmet(delivery.no_duplicates(Run(play.journals)), why, "#1 . <1@x>", "#2 . <1@x>")

    def test_a_request(self) -> None:
        play = Play("http")
        play.connect("POST a.test/ {stored=true, body=3}", "POST a.test/ {stored=true, body=4}")
        is_held(delivery.no_duplicates(Run(play.journals)))
        play.connect("POST a.test/ {stored=true, body=3}")
        why = "expected nothing to be carried out twice, but POST a.test/ was carried out twice"
        is_unmet(delivery.no_duplicates(Run(play.journals)), why, "#1 POST a.test/", "#2 POST a.test/")


def test_partial_files() -> None:
    play = Play("ftp")
    play.connect("STOR a.bin {bytes=4} -> 426 cut", *["STOR a.bin {bytes=5} -> 426 cut"] * 2, "RETR a.bin -> 226 done")
    is_held(delivery.no_partial_files(seen(play), {}))
    why = "expected every file to be whole, but only 5 bytes of a.bin have come"
    found = delivery.no_partial_files(seen(play), {"a.bin": 5})
    is_unmet(found, why, "#1 STOR a.bin")
    assert found.evidence == (seen(play)[3],)
    assert delivery.uploads(seen(play), "//./x/../a.bin") == list(seen(play)[1:4])


class TestRetried:
    def test_nothing_to_retry(self) -> None:
        asked = "expected the client to try again after a refusal, but "
        is_unmet(
            comebacks.retried(run_of(Play("smtp"))),
            asked + "nobody connected, so nothing was refused: there was nothing to retry",
        )
        play = Play("smtp")
        play.connect(*SENT)
        is_unmet(comebacks.retried(run_of(play)), asked + "nothing was refused: there was nothing to retry")

    @pytest.mark.parametrize("times", [None, 1, 2, (0, 2), (2, 2), (2, 3)])
    def test_often_enough(self, times: int | tuple[int, int] | None) -> None:
        is_held(comebacks.retried(run_of(refused(60, 60)), times))

    @pytest.mark.parametrize(
        ("times", "how"),
        [
            (3, "at least three times"),
            (4, "at least 4 times"),
            ((3, 4), "3 to 4 times"),
            ((1, 1), "once"),
            ((0, 1), "0 to 1 times"),
        ],
    )
    def test_not_so_often(self, times: int | tuple[int, int], how: str) -> None:
        why = f"expected the client to try again {how}, but it tried again twice"
        how_often = comebacks.retried(run_of(refused(60, 60)), times)
        is_unmet(how_often, why.replace("three times", "3 times"), "#2 connect", "#3 connect")

    def test_never(self) -> None:
        why = "expected the client to try again at least once, but it never tried again"
        is_unmet(comebacks.retried(run_of(refused())), why, "#1 connect")

    def test_within(self) -> None:
        run = run_of(refused(60, 60))
        is_held(comebacks.retried(run, within=60))
        is_held(comebacks.retried(run, within=59.996))
        is_held(comebacks.retried(run, 2, within=120))
        why = "expected the client to try again once within 59.99s of the first refusal, but it never tried again"
        is_unmet(comebacks.retried(run, within=59.99), why, "#1 connect")
        why = "expected the client to try again twice within 1m of the first refusal, but it tried again once"
        is_unmet(comebacks.retried(run, (2, 3), "1m"), why, "#1 connect")

    def test_a_tick_more_or_less(self) -> None:
        is_held(comebacks.retried(run_of(refused(1 + TOLERANCE)), within=1))
        is_held(comebacks.retried(run_of(refused(1 + TOLERANCE)), first_delay=(0, 1)))
        is_held(comebacks.retried(run_of(refused(1)), first_delay=1 + TOLERANCE))

    def test_within_runs_from_the_answer(self) -> None:
        play = Play("smtp")
        play.connect("-> (10s) !421 no")
        play.wait(5).connect()
        is_held(comebacks.retried(run_of(play), within=5))

    @pytest.mark.parametrize("bound", [60, "1m", 60.004, (60, 60), (59.9, 60.1), (60.004, "2m"), (1, 59.996)])
    def test_the_first_delay(self, bound: comebacks.Bound) -> None:
        is_held(comebacks.retried(run_of(refused(60, 1)), first_delay=bound))

    @pytest.mark.parametrize(
        ("bound", "what"), [(60.006, "at least 1m 0.006s"), ((61, 62), "1m 1s to 1m 2s"), ((1, 59.99), "1s to 59.99s")]
    )
    def test_another_first_delay(self, bound: comebacks.Bound, what: str) -> None:
        found = comebacks.retried(run_of(refused(60, 1)), first_delay=bound)
        assert found.why.startswith("expected a first delay of ")
        assert found.seen == "it was 1m"
        assert tuple(map(named, found.evidence)) == ("#1 connect", "#2 connect")

    def test_no_first_delay(self) -> None:
        why = "expected a first delay, but it never tried again"
        is_unmet(comebacks.retried(run_of(refused()), (0, 1), first_delay=60), why)

    def test_the_shape_of_a_back_off(self) -> None:
        is_held(comebacks.retried(run_of(refused(60, 120, 240)), shape="exponential"))
        is_held(comebacks.retried(run_of(refused(60, 60, 60)), shape="constant"))
        is_held(comebacks.retried(run_of(refused(60, 120, 240)), shape="linear"))  # with equal jitter it may be
        why = (
            "expected an exponential back-off, but the gaps were 1m, 1m, 1m: constant, base 1m, no jitter (sure); "
            "gap 3 (1m) contradicts exponential (p < 0.0001)"
        )
        evidence = ("#2 connect", "#3 connect", "#4 connect")
        is_unmet(comebacks.retried(run_of(refused(60, 60, 60)), shape="exponential"), why, *evidence)
        why = (
            "expected a linear back-off, but the gaps were 1m, 2m, 4m, 8m: "
            "exponential, base 1m, factor 2, no jitter (sure); gap 4 (8m) contradicts linear (p < 0.0001)"
        )
        is_unmet(comebacks.retried(run_of(refused(60, 120, 240, 480)), shape="linear"), why, *evidence, "#5 connect")

    @pytest.mark.parametrize(("gaps", "few"), [((), "no gap"), ((60,), "1 gap (1m)"), ((60, 60), "2 gaps (1m, 1m)")])
    def test_too_few_gaps(self, gaps: tuple[float, ...], few: str) -> None:
        why = f"expected a constant back-off, but {few} cannot tell: it takes 3"
        is_unmet(comebacks.retried(run_of(refused(*gaps)), (0, 9), shape="constant"), why)


REFUSED = ("MAIL FROM:<a@x>", "RCPT TO:<b@y> -> !450 no", "QUIT")
OTHER = ("MAIL FROM:<c@x>", "RCPT TO:<d@y>", "DATA", ". <2@x>", "QUIT")


class TestRetriesOfItems:
    """Other mail of the same client is no retry."""

    def test_other_mail_is_no_retry(self) -> None:
        play = Play("smtp")
        play.connect(*REFUSED)
        play.wait(1).connect(*OTHER)
        why = "expected the client to try again at least once, but it never tried again"
        is_unmet(comebacks.retried(run_of(play)), why, "#1 RCPT TO:<b@y>")
        play.wait(59).connect(*SENT)
        is_held(comebacks.retried(run_of(play), (1, 1), first_delay=(60, 60)))
        is_unmet(
            comebacks.retried(run_of(play), within=59),
            "expected the client to try again once within 59s of the first refusal, but it never tried again",
            "#1 RCPT TO:<b@y>",
        )

    def test_a_batch_that_comes_back_on_one_connection_is_one_attempt(self) -> None:
        play = Play("smtp")
        play.connect(*REFUSED[:2], "(5s)", "MAIL FROM:<c@x>", "RCPT TO:<d@y> -> !450 no", "QUIT")
        play.wait(60).connect(*SENT[:-1], *OTHER)
        is_held(comebacks.retried(run_of(play), (1, 1), first_delay=(60, 60)))

    def test_requests_are_attempts_of_their_own(self) -> None:
        play = Play("http")
        play.connect("GET a.test/1 -> !503 no", "GET a.test/2 -> !503 no")
        play.wait(2).connect("GET a.test/1", "GET a.test/3", "GET a.test/2")
        is_held(comebacks.retried(run_of(play), (2, 2)))

    def test_a_connection_for_one_of_several_items_is_a_try_of_it(self) -> None:
        play = refused(60)
        play.wait(60).connect(*SENT)
        play.wait(60).connect(*OTHER)
        is_held(comebacks.retried(run_of(play), (2, 2)))
        is_held(comebacks.retried(run_of(play), first_delay=60))
        doubtful = comebacks.retried(run_of(play), first_delay=(60, 61))
        why = "the journal does not tell which tries were of the same item"
        assert (doubtful.outcome, doubtful.seen) == ("inconclusive", why)
        assert doubtful.settled_by == "a fault that acts only after the client has named the item"
        assert comebacks.retried(run_of(play), first_delay=61).outcome == "inconclusive"
        assert comebacks.retried(run_of(play), first_delay=600).outcome == "broken"
        assert comebacks.retried(run_of(play), within=60).outcome == "inconclusive"
        is_held(comebacks.retried(run_of(play), within=180))
        assert comebacks.retried(run_of(play), shape="constant").outcome == "inconclusive"

    def test_connections_that_may_have_been_for_mail_that_never_came(self) -> None:
        play = Play("smtp")
        play.connect(NO)
        play.connect(NO)
        play.wait(60).connect(*SENT)
        is_held(comebacks.retried(run_of(play), (2, 2)))  # its next attempts, as far as anyone can see
        is_held(comebacks.retried(run_of(play), (2, 2), count=1))
        is_held(comebacks.retried(run_of(play), count=2))
        assert comebacks.retried(run_of(play), (1, 1), count=2).outcome == "inconclusive"  # or one was never tried
        finding = comebacks.retried(run_of(play), count=3)
        assert finding.outcome == "inconclusive"

    def test_of_several_items_the_one_that_was_tried_most_often_shows_the_back_off(self) -> None:
        play = Play("smtp")
        other = ("MAIL FROM:<c@x>", "RCPT TO:<d@y> -> !450 no", "QUIT")
        play.connect(*REFUSED)
        play.wait(10).connect(*other)
        for gap in (50, 120, 240):
            play.wait(gap).connect(*REFUSED)
        play.wait(1).connect(*other)
        is_held(comebacks.retried(run_of(play), 4, shape="exponential"))
        assert comebacks.retried(run_of(play), shape="constant").outcome == "broken"

    def test_a_listing_that_came_again_is_a_retry(self) -> None:
        play = Play("ftp")
        play.connect("RETR a", "RETR b", "LIST -> !450 no", "LIST")
        is_held(comebacks.retried(run_of(play), (1, 1)))
        play.connect("RETR c", "LIST d -> !450 no")
        is_held(comebacks.retried(run_of(play), (1, 1)))

    def test_what_followed_a_login_that_was_refused_for_good_may_be_the_same_again(self) -> None:
        play = Play("ftp")
        play.connect("USER ann", "PASS x -> !530 too many").play.wait("1m")
        assert comebacks.retried(run_of(play), count=2).outcome == "broken"
        play.connect("USER ann", "PASS x -> 230 ok", "RETR a", "RETR b")
        assert comebacks.retried(run_of(play)).outcome == "inconclusive"
        is_held(comebacks.retried(run_of(play), (1, 1), count=2))

    def test_an_answer_of_a_healthy_server_is_no_refusal(self) -> None:
        play = Play("ftp")
        play.connect("RETR a -> 550 none", "RETR a -> 550 none", "RETR b -> !450 no")
        assert comebacks.retried(run_of(play)).seen == "it never tried again"


class TestNewConnection:
    EXPECTED = "expected the client to come back on another connection after a 421, but "

    def judged(self, play: Play) -> Finding:
        return comebacks.new_connection_after(run_of(play), 421)

    def test_it_was_never_told(self) -> None:
        is_unmet(self.judged(Play("smtp")), self.EXPECTED + "nobody connected")
        play = Play("smtp")
        play.connect("-> !554 no")
        is_unmet(self.judged(play), self.EXPECTED + "it was never told 421")

    def test_it_never_came_back(self) -> None:
        is_unmet(self.judged(refused()), self.EXPECTED + "it never tried again", "#1 connect")
        play = Play("smtp")
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            play.connect(NO, client=client)
        is_unmet(self.judged(play), self.EXPECTED + "it never tried again", "#3 connect")

    def test_another_connection(self) -> None:
        play = refused(60)
        play.connect(*SENT)
        is_held(self.judged(play))

    def test_the_same_connection(self) -> None:
        play = Play("smtp")
        play.connect("MAIL FROM:<a@x> -> !421 no (stays)", "MAIL FROM:<a@x> -> 250 ok")
        why = "it tried again on the same one, #1"
        is_unmet(self.judged(play), self.EXPECTED + why, "#1 MAIL FROM:<a@x>", "#1 MAIL FROM:<a@x>")

    def test_another_code_may_be_retried_on_the_same(self) -> None:
        play = Play("smtp")
        play.connect("MAIL FROM:<a@x> -> !450 no", "MAIL FROM:<a@x> -> !421 no")
        play.connect("MAIL FROM:<a@x>")
        is_held(self.judged(play))

    def test_an_idle_connection_that_is_told_421_is_left(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL, ". <1@x>", "[idle] -> !421 no")
        is_unmet(self.judged(play), self.EXPECTED + "it never tried again", "#1 idle")
        play.wait(1).connect(*MAIL, ". <2@x>")
        is_held(self.judged(play))

    def test_mail_that_is_said_on_the_dead_connection_comes_again_elsewhere(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL, ". <1@x>", "[idle] -> !421 no", "MAIL FROM:<c@x>")
        play.wait(1).connect("MAIL FROM:<c@x>", "RCPT TO:<b@y>")
        is_held(self.judged(play))

    def test_other_mail_on_another_connection_is_no_retry(self) -> None:
        play = Play("smtp")
        play.connect("MAIL FROM:<a@x> -> !421 no")
        play.wait(60).connect("MAIL FROM:<c@x>", "RCPT TO:<d@y>", "DATA", ". <2@x>")
        is_unmet(self.judged(play), self.EXPECTED + "it never tried again", "#1 MAIL FROM:<a@x>")

    def test_connections_that_may_have_been_for_mail_that_never_came(self) -> None:
        play = Play("smtp")
        play.connect(NO)
        play.connect(NO)
        play.wait(60).connect(*SENT)
        is_held(self.judged(play))


class TestFellBack:
    @pytest.fixture
    def play(self) -> Play:
        return Play("smtp", "a", "b")

    def judged(self, play: Play, within: float | str | None = None) -> Finding:
        a, b = play.journals
        return comebacks.fell_back(a, b, within)

    def test_nothing_was_refused(self, play: Play) -> None:
        expected = "expected the client to fall back from a to b, but "
        is_unmet(self.judged(play), expected + "nobody connected to a")
        play.connect()
        is_unmet(self.judged(play), expected + "a refused nothing")

    def test_it_never_came(self, play: Play) -> None:
        play.connect(NO)
        why = "expected the client to fall back from a to b, but it never came to b"
        is_unmet(self.judged(play), why, "a #1 connect")

    def test_it_had_come_before(self, play: Play) -> None:
        play.connect(server=1)
        play.connect(server=1)
        play.connect(NO)
        why = "expected the client to fall back from a to b, but it had been at b before, and not since"
        is_unmet(self.judged(play), why, "a #1 connect", "b #1")

    def test_it_came_in_time(self, play: Play) -> None:
        play.connect("-> (10s) !421 no")
        play.wait(5).connect(server=1)
        is_held(self.judged(play))
        is_held(self.judged(play, "5s"))
        is_held(self.judged(play, 4.996))
        why = "expected the client to fall back from a to b within 4.99s, but that took 5s"
        is_unmet(self.judged(play, 4.99), why, "a #1 connect", "b #1")

    def test_a_tick_more_is_in_time(self, play: Play) -> None:
        play.connect(NO)
        play.wait(1 + TOLERANCE).connect(server=1)
        is_held(self.judged(play, 1))

    def test_the_first_refusal_counts(self, play: Play) -> None:
        play.connect(NO)
        play.wait(9).connect(NO)
        play.wait(1).connect(server=1)
        is_held(self.judged(play, 10))
        assert self.judged(play, 9).outcome == "broken"


class TestGaveUp:
    EXPECTED = "expected the client to try for 10m and then give up, but "

    def judged(self, *gaps: float) -> Finding:
        return comebacks.gave_up(run_of(refused(*gaps)), "10m")

    def test_nothing_was_refused(self) -> None:
        is_unmet(
            comebacks.gave_up(run_of(Play("smtp")), "10m"), self.EXPECTED + "nobody connected, so nothing was refused"
        )

    def test_it_gives_up_with_the_first_try_past_the_limit(self) -> None:
        is_held(self.judged(300, 300))
        is_held(self.judged(300, 301))
        is_held(self.judged(300, 9000))

    def test_it_gives_up_an_interval_before(self) -> None:
        is_held(self.judged(300))
        is_held(self.judged(200, 200))
        is_held(self.judged(299.998))
        why = self.EXPECTED + "its last try came after 4m 59s"
        is_unmet(self.judged(299), why, "#2 connect")
        why = self.EXPECTED + "its last try came after 6m 39s"
        is_unmet(self.judged(200, 199), why, "#3 connect")
        why = self.EXPECTED + "its last try came after 4m 59s"
        is_unmet(self.judged(100, 100, 99), why, "#4 connect")

    def test_a_tick_less_is_enough(self) -> None:
        is_held(comebacks.gave_up(run_of(refused(1)), 2 + TOLERANCE))

    def test_it_never_came_back(self) -> None:
        is_unmet(self.judged(), self.EXPECTED + "its last try came after 0s", "#1 connect")
        assert comebacks.gave_up(run_of(refused()), 1).outcome == "broken"
        play = Play("smtp")
        for client in ("192.0.2.1", "192.0.2.2"):
            play.connect(NO, client=client)
        why = self.EXPECTED + "its last try came after 0s"
        is_unmet(comebacks.gave_up(run_of(play), "10m"), why, "#1 connect")

    def test_other_mail_is_no_further_try(self) -> None:
        play = Play("smtp")
        play.connect(*REFUSED)
        play.wait(600).connect(*REFUSED)
        play.wait(600).connect(*OTHER)
        is_held(comebacks.gave_up(run_of(play), "10m"))
        play.wait(600).connect(*REFUSED)
        why = self.EXPECTED + "it still tried after 30m"
        is_unmet(comebacks.gave_up(run_of(play), "10m"), why, "#4 connect")

    def test_each_item_is_given_up_in_its_time(self) -> None:
        play = Play("smtp")
        one, other = (("MAIL FROM:<a@x>", f"RCPT TO:<{to}@y> -> !450 no", "QUIT") for to in "bc")
        play.connect(*one)
        play.wait(300).connect(*other)
        play.wait(300).connect(*one)
        assert comebacks.gave_up(run_of(play), "10m").seen == "its last try came after 0s"
        play.wait(300).connect(*other)
        is_held(comebacks.gave_up(run_of(play), "10m"))

    def test_connections_that_may_have_been_for_any_mail(self) -> None:
        play = Play("smtp")
        play.connect(NO)
        play.connect(NO)
        play.wait(600).connect("MAIL FROM:<a@x>", "RCPT TO:<b@y> -> !450 no")
        is_held(comebacks.gave_up(run_of(play), "10m"))

    def test_it_goes_on(self) -> None:
        is_unmet(self.judged(600, 1), self.EXPECTED + "it still tried after 10m 1s", "#3 connect")
        why = self.EXPECTED + "it still tried after 30m"
        is_unmet(self.judged(600, 600, 600), why, "#3 connect", "#4 connect")

    def test_the_time_runs_from_the_answer(self) -> None:
        play = Play("smtp")
        play.connect("-> (10m) !421 no")
        play.wait(1).connect(NO)
        is_held(comebacks.gave_up(run_of(play), 2))
        assert comebacks.gave_up(run_of(play), 3).outcome == "broken"


def test_never_exceeded() -> None:
    play = Play("smtp")
    play.connect()
    second = play.connect()
    is_held(comebacks.never_exceeded(play.journals[0].connections, 2))
    why = "expected at most 1 connections at a time, but there were 2"
    is_unmet(comebacks.never_exceeded(play.journals[0].connections, 1), why, "#2")
    second.says("(leaves)")
    play.connect()
    is_held(comebacks.never_exceeded(play.journals[0].connections, 2))
    is_held(comebacks.never_exceeded((), 0))


class TestRequests:
    def test_the_sni_is_the_host(self) -> None:
        play = Play("http")
        expected = "expected every request on a connection that was made for its host, but "
        is_idle(requests.sni_matches_authority(()), expected + "no request came in TLS")
        play.connect("GET b.test/")
        is_idle(requests.sni_matches_authority(seen(play)), expected + "no request came in TLS")
        play.connect("GET a.test/", sni="A.test")
        play.connect("GET 127.0.0.1/")
        play.connect("GET 127.0.0.1/", version="TLSv1.3")
        is_held(requests.sni_matches_authority(seen(play)))
        play.connect("GET b.test/", sni="a.test")
        why = expected + "one for b.test came on a connection with the SNI a.test"
        is_unmet(requests.sni_matches_authority(seen(play)), why, "#5 GET b.test/")

    def test_no_sni(self) -> None:
        play = Play("http")
        play.connect("GET a.test/", version="TLSv1.3")
        why = "expected every request on a connection that was made for its host, but one for a.test came on a connection without an SNI"
        is_unmet(requests.sni_matches_authority(seen(play)), why, "#1 GET a.test/")

    def test_coalesced(self) -> None:
        play = Play("http")
        play.connect("GET a.test/", "GET a.test/b")
        play.connect("GET b.test/")
        is_held(requests.not_coalesced(seen(play)))
        play.connect("GET a.test/", "GET b.test/", "GET a.test/")
        why = "expected a connection for each host, but #3 carried requests for a.test and for b.test"
        is_unmet(requests.not_coalesced(seen(play)), why, "#3 GET b.test/")

    EXPECTED = "expected the client to come back when Retry-After has said, but "

    def after(self, *gaps: float, asked: str = "60") -> Finding:
        play = Play("http")
        play.connect(f"GET a.test/ {{retry-after={asked}}} -> !503 busy")
        for gap in gaps:
            play.wait(gap).connect("GET a.test/ -> !503 busy")
        return requests.retry_after_honoured(run_of(play))

    def test_nothing_asked_to_wait(self) -> None:
        is_idle(self.after(1, asked="soon"), self.EXPECTED + "nothing was refused with a Retry-After")

    def test_it_never_came_back(self) -> None:
        is_unmet(self.after(), self.EXPECTED + "it never came back", "#1 GET a.test/")
        play = Play("http")
        play.connect(*(f"GET a.test/{n} {{retry-after=60}} -> !503 busy" for n in (1, 2, 3)))
        is_unmet(requests.retry_after_honoured(run_of(play)), self.EXPECTED + "it never came back", "#1 GET a.test/3")

    def test_no_sooner(self) -> None:
        is_held(self.after(60))
        is_held(self.after(59.996, 1))
        is_held(self.after(1 - TOLERANCE, asked="1"))
        why = self.EXPECTED + "it was told to wait 1m (Retry-After: 60), and waited 59.99s"
        is_unmet(self.after(59.99), why, "#1 GET a.test/", "#2 GET a.test/")

    def test_the_same_request_side_by_side_was_not_told_to_wait(self) -> None:
        play = Play("http")
        first, second = play.connect(), play.connect()
        first.says("GET a.test/ {retry-after=60} -> …")
        second.says("GET a.test/", "(1s)")
        first.answers("503 busy")
        assert requests.retry_after_honoured(run_of(play)).seen == "it never came back"

    def replayed(self, before: str, after: str) -> Finding:
        play = Play("http")
        play.connect(f"POST a.test/ {{{before}}} -> !421 no")
        play.connect(f"POST a.test/ {{{after}}}")
        return requests.body_replayed(run_of(play))

    BODY = "expected each request that came back to have its whole body again, but "

    def test_the_whole_body_again(self) -> None:
        is_held(self.replayed("body=3", "body=3"))
        is_held(self.replayed("body=0", "body=3"))
        is_held(self.replayed("body_bytes=1", "body=3"))

    @pytest.mark.parametrize(
        ("before", "after", "how"),
        [
            ("body_bytes=1", "body=0", "it came without a body"),
            ("body=0", "body_bytes=2", "only 2 bytes of it have come"),
        ],
    )
    def test_a_piece_of_a_body_is_one(self, before: str, after: str, how: str) -> None:
        is_unmet(self.replayed(before, after), self.BODY + how, "#1 POST a.test/", "#2 POST a.test/")

    def test_no_body(self) -> None:
        why = self.BODY + "no request with a body came back"
        is_idle(self.replayed("body=0", "body=0"), why)
        is_idle(requests.body_replayed(run_of(Play("http"))), why)
        play = Play("http")
        play.connect("-> !")
        play.connect("POST a.test/ {body=3}")
        is_idle(requests.body_replayed(run_of(play)), why)
        is_idle(requests.retry_after_honoured(run_of(play)), self.EXPECTED + "nothing was refused with a Retry-After")
        play = Play("http")
        play.connect(*(f"POST a.test/{n} {{body=3}} -> !503 busy" for n in (1, 2, 3)))
        is_idle(requests.body_replayed(run_of(play)), why)

    @pytest.mark.parametrize(
        ("after", "how"),
        [
            ("body=0", "it came without a body"),
            ("body_bytes=2", "only 2 bytes of it have come"),
        ],
    )
    def test_not_the_whole_body(self, after: str, how: str) -> None:
        is_unmet(self.replayed("body=3", after), self.BODY + how, "#1 POST a.test/", "#2 POST a.test/")

    def test_another_body_may_be_another_request(self) -> None:
        finding = self.replayed("body=3", "body=4")
        why = "the body was another, or it was another request: 3 bytes before, 4 after"
        assert (finding.outcome, finding.seen) == ("inconclusive", why)

    def test_requests_side_by_side_are_no_retries(self) -> None:
        play = Play("http")
        first, second = play.connect(), play.connect()
        first.says("POST a.test/ {body=3} -> …")
        second.says("POST a.test/ {body=4}", "(1s)")
        first.answers("503 busy")
        assert requests.body_replayed(run_of(play)).outcome == "not exercised"
