"""What the clients of an SMTP run were about: attempts, and which of them was the next try of which."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.reading.mail import Attempt, Mail, address, departure, read
from notnow.conduct.reading.run import Run

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"
NO = "DATA -> !421 no"


@pytest.fixture
def play() -> Play:
    return Play("smtp")


def mail(play: Play) -> Mail:
    return read(Run(play.journals))


def links(play: Play) -> list[tuple[int, int | None]]:
    """Each attempt by the number of its connection, and that of the attempt that it is the next try of."""
    return [(number(a), number(a.earlier) if a.earlier is not None else None) for a in mail(play).attempts]


def number(attempt: Attempt) -> int:
    return attempt.session.connection.number


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ("MAIL FROM:<A@x.test> SIZE=5", "a@x.test"),
        ("RCPT TO: b@y", "b@y"),
        ("mail from:<>", ""),
        ("NOOP", ""),
    ],
)
def test_the_address_of_a_command(request_: str, found: str) -> None:
    assert address(request_) == found


@pytest.mark.parametrize(
    ("reply", "accepted", "refused"),
    [
        ("250", ["b@y"], []),
        ("299", ["b@y"], []),
        ("300", [], []),
        ("!450", [], ["b@y"]),
        ("!552", [], ["b@y"]),
        ("!550", [], []),
    ],
)
def test_recipients(play: Play, reply: str, accepted: list[str], refused: list[str]) -> None:
    play.connect(MAIL, f"{B} -> {reply} x")
    (attempt,) = mail(play).attempts
    assert (attempt.accepted, [recipient for recipient, _ in attempt.refused]) == (accepted, refused)


@pytest.mark.parametrize(
    ("reply", "answered"), [("250 ok", True), ("299 ok", True), ("300 what", False), ("550 no", False)]
)
def test_a_message_that_was_answered(play: Play, reply: str, answered: bool) -> None:
    play.connect(MAIL, B, "DATA", f". -> {reply}")
    (attempt,) = mail(play).attempts
    assert (attempt.answered is not None) is answered
    assert (attempt.session.of_use_from is not None) is answered


@pytest.mark.parametrize("line", [f"{MAIL} -> !421 no", f"{MAIL} -> !450 no", f"{MAIL} -> !"])
def test_what_puts_off_all_of_it(play: Play, line: str) -> None:
    play.connect(line)
    (attempt,) = mail(play).attempts
    assert attempt.failure is not None


@pytest.mark.parametrize("line", [f"{MAIL} -> !550 no", f"{MAIL} -> 421 no", MAIL])
def test_what_does_not(play: Play, line: str) -> None:
    play.connect(line)
    (attempt,) = mail(play).attempts
    assert attempt.failure is None


def test_a_refused_recipient_alone_puts_off_its_mail_when_the_client_turns_away(play: Play) -> None:
    line = play.connect(MAIL, f"{B} -> !450 no")
    assert [a.failure for a in mail(play).attempts if a.failure] != []
    line.says(C, "RSET")
    assert [a.failure for a in mail(play).attempts if a.failure] == []


def test_each_mail_of_a_connection_is_an_attempt(play: Play) -> None:
    play.connect(MAIL, B, "DATA", ". <1@x>", MAIL, C, NO)
    first, second = mail(play).attempts
    assert first.answered is not None
    assert second.failure is not None
    assert first.began.moment == "connect"
    assert second.began.moment == "mail"


def test_a_connection_without_mail_is_an_attempt_as_well(play: Play) -> None:
    play.connect("EHLO x -> !421 no")
    play.connect("QUIT -> !421 no")
    refused, quits = mail(play).attempts
    assert refused.sender is None
    assert refused.failure is not None
    assert quits.failure is None


class TestNextTry:
    def test_of_the_same_sender_and_recipients(self, play: Play) -> None:
        play.connect(MAIL, B, NO)
        play.connect("MAIL FROM:<other@x>", B, NO).play.wait("1m")
        play.connect("MAIL FROM:<other@x>", B, NO)
        play.connect(MAIL, B, NO)
        assert links(play) == [(1, None), (2, None), (3, 2), (4, 1)]

    def test_a_recipient_in_common_is_enough(self, play: Play) -> None:
        play.connect(MAIL, C, NO)
        play.connect(MAIL, B, C, NO).play.wait("1m")
        play.connect(MAIL, B, "RCPT TO:<d@y>", NO)
        assert links(play)[2] == (3, 2)

    def test_the_oldest_comes_first(self, play: Play) -> None:
        for _ in range(3):
            play.connect("-> !421 busy").play.wait("1m")
        assert links(play) == [(1, None), (2, 1), (3, 2)]

    def test_mail_may_be_the_next_try_of_a_connection_that_did_not_say_whose_it_was(self, play: Play) -> None:
        play.connect("-> !421 busy").play.wait("1m")
        play.connect(MAIL, B, NO)
        assert links(play) == [(1, None), (2, 1)]

    def test_mail_of_another_sender_is_not(self, play: Play) -> None:
        play.connect(MAIL, B, NO).play.wait("1m")
        play.connect("MAIL FROM:<other@x>", C, NO)
        assert links(play) == [(1, None), (2, None)]

    def test_workers_side_by_side_may_have_a_message_each(self, play: Play) -> None:
        lines = [play.connect("NOOP") for _ in range(2)]
        for line in lines:
            line.says("NOOP -> !421 no")
        for _ in range(2):
            play.connect("-> !421 busy")
        # At once, and two may be first ones: the first of the late ones is a next try, since two were there.
        assert [earlier for _, earlier in links(play)] == [None, None, 1, 2]

    def test_a_client_that_comes_with_one_after_the_other_has_one_message(self, play: Play) -> None:
        for _ in range(3):
            play.connect("NOOP -> !421 no")
        assert [earlier for _, earlier in links(play)] == [None, 1, 2]

    def test_each_message_may_have_its_first_try_at_once(self, play: Play) -> None:
        for recipient in "bcd":
            play.connect(MAIL, f"RCPT TO:<{recipient}@y> -> !421 no")
        assert [earlier for _, earlier in links(play)] == [None, None, None]

    def test_the_wait_runs_from_the_failure_to_the_connection(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> (5s) !421 no").play.wait("1m")
        play.connect("(3s)", MAIL, B, NO)
        assert [a.delay for a in mail(play).retries] == [60.0]


def test_a_chain_has_all_tries_of_a_message(play: Play) -> None:
    for gap in ("1m", "2m"):
        play.connect(MAIL, B, NO).play.wait(gap)
    play.connect(MAIL, B, "DATA", ". <1@x>")
    assert [[number(a) for a in chain] for chain in mail(play).chains()] == [[1, 2, 3]]


class TestDeparture:
    def test_by_the_end_of_its_side(self, play: Play) -> None:
        line = play.connect().leaving().says("(1m)", "(leaves)")
        assert departure(line.connection.exchanges[0]) == (line.connection.left_index, line.connection.left_at)

    def test_by_its_close(self, play: Play) -> None:
        line = play.connect("(1m)", "(leaves)")
        assert departure(line.connection.exchanges[0]) == (line.connection.closed_index, line.connection.closed_at)

    def test_none_where_the_fake_closes(self, play: Play) -> None:
        assert departure(play.connect("(closes)").connection.exchanges[0]) is None
