"""Reading an SMTP connection: the transactions on it, and how each one ended."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.reading.smtp.delivery import mail
from notnow.conduct.reading.smtp.endings import departure
from notnow.conduct.reading.smtp.transactions import Transaction, address, read

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"
NO = "DATA -> !421 no"


@pytest.fixture
def play() -> Play:
    return Play("smtp")


def transactions(play: Play) -> list[Transaction]:
    return play.run.once(mail).transactions


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
    ("reply", "accepted", "ending"),
    [
        ("250", ["b@y"], None),
        ("299", ["b@y"], None),
        ("!450", [], "deferred"),
        ("!552", [], "deferred"),
        ("!550", [], "refused"),
    ],
)
def test_recipients(play: Play, reply: str, accepted: list[str], ending: str | None) -> None:
    play.connect(MAIL, f"{B} -> {reply} x")
    (one,) = transactions(play)
    assert ([r.address for r in one.accepted], one.recipients[0].ending) == (accepted, ending)


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        ("250 ok", "accepted"),
        ("299 ok", "accepted"),
        ("300 what", None),
        ("550 no", "refused"),
        ("!451 no", "deferred"),
    ],
)
def test_the_reply_to_the_dot(play: Play, reply: str, ending: str | None) -> None:
    play.connect(MAIL, B, "DATA", f". -> {reply}")
    (one,) = transactions(play)
    assert one.ending == ending


@pytest.mark.parametrize(
    ("line", "ending"),
    [
        (f"{MAIL} -> !421 no", "deferred"),
        (f"{MAIL} -> !450 no", "deferred"),
        (f"{MAIL} -> !", "unanswered"),
        (f"{MAIL} -> !550 no", "refused"),
        (MAIL, None),
    ],
)
def test_the_reply_to_mail(play: Play, line: str, ending: str | None) -> None:
    play.connect(line)
    (one,) = transactions(play)
    assert one.ending == ending


@pytest.mark.parametrize("last", ["RSET", "QUIT", "EHLO x", "MAIL FROM:<other@x>", "(leaves)"])
def test_a_client_that_turns_away(play: Play, last: str) -> None:
    play.connect(MAIL, B, last)
    assert transactions(play)[0].ending == "abandoned"


def test_a_nested_mail_begins_nothing(play: Play) -> None:
    play.connect(MAIL, B, "MAIL FROM:<other@x> -> 503 nested", "DATA", ". <1@x>")
    assert [one.ending for one in transactions(play)] == ["accepted"]


def test_a_421_amid_a_transaction_ends_it(play: Play) -> None:
    play.connect(MAIL, B, "[idle] -> !421 timeout")
    assert [one.ending for one in transactions(play)] == ["deferred"]


@pytest.mark.parametrize(("reply", "ending"), [("!421 bye (stays)", "deferred"), ("!450 no", "abandoned")])
def test_a_421_to_another_command_voids_the_transaction_that_the_client_then_leaves(
    play: Play, reply: str, ending: str
) -> None:
    play.connect(MAIL, B, f"NOOP -> {reply}", "QUIT")
    assert [one.ending for one in transactions(play)] == [ending]


def test_the_end_of_the_fake_is_no_refusal(play: Play) -> None:
    play.connect(MAIL, B, "(stopped)")
    assert [one.ending for one in transactions(play)] == ["unanswered"]


def test_a_connection_refused_before_mail_counts_as_one(play: Play) -> None:
    play.connect("EHLO x -> !421 no")
    play.connect("EHLO x -> 421 no")  # by a limit of the fake, and not by a rule
    play.connect("QUIT -> !421 no")
    play.connect("NOOP -> 500 what")
    assert [(one.sender, one.ending) for one in transactions(play)] == [(None, "deferred")] * 2


@pytest.mark.parametrize("said", ["RSET", "QUIT"])
def test_what_the_client_says_after_the_close_may_name_mail(play: Play, said: str) -> None:
    play.connect("EHLO x", "NOOP -> !421 bye", said, "mail from:<A@x>", B, "DATA", "MAIL FROM:<body@x>", ".")
    (one,) = transactions(play)
    assert (one.sender, [r.address for r in one.recipients]) == ("a@x", ["b@y"])


def test_what_the_client_says_while_the_fake_stalls_does_too(play: Play) -> None:
    play.connect(MAIL, B, "DATA", ". <1@x> -> …", "(unread) MAIL FROM:<other@x>")
    assert [one.sender for one in transactions(play)] == ["a@x", "other@x"]


class TestDeparture:
    def test_by_the_end_of_its_side(self, play: Play) -> None:
        line = play.connect().leaving().says("(1m)", "(leaves)")
        assert departure(line.connection) == (line.connection.left_index, line.connection.left_at)

    def test_by_its_close(self, play: Play) -> None:
        line = play.connect("(1m)", "(leaves)")
        assert departure(line.connection) == (line.connection.closed_index, line.connection.closed_at)

    def test_none_where_the_fake_closes(self, play: Play) -> None:
        assert departure(play.connect("(closes)").connection) is None


def test_a_reply_to_the_message_for_each_recipient(play: Play) -> None:
    """RFC 2033 §4.2: in LMTP each recipient that was accepted has its own."""
    refused, last = "RCPT TO:<d@y> -> !550 no", "RCPT TO:<e@y>"
    line = play.connect(MAIL, B, refused, C, last, "DATA", ". <1@x>", ". <1@x> -> !451 later", ". <1@x> -> !550 no")
    (one,) = read(line.connection, line.connection.exchanges, each=True).transactions
    assert [(r.address, r.ending, r.kept is not None) for r in one.recipients] == [
        ("b@y", "accepted", True),
        ("d@y", "refused", False),
        ("c@y", "deferred", False),
        ("e@y", "refused", False),
    ]
    first, *_, end = line.connection.exchanges[-3:]
    assert (one.ending, one.by, one.answered) == ("refused", end, first)


def test_of_those_replies_some_may_be_missing(play: Play) -> None:
    line = play.connect(MAIL, B, C, "DATA", ". <1@x>", "(leaves)")
    (one,) = read(line.connection, line.connection.exchanges, each=True).transactions
    assert ([r.ending for r in one.recipients], one.ending) == (["accepted", None], "abandoned")
