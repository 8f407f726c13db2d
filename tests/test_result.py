"""The result of a run: what became of its items, and whether the client said so."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.expectations.delivery import delivered
from notnow.conduct.reading.ledger import Item, Ledger, Try
from notnow.conduct.reading.result import WORDS, Exit, Word, result
from notnow.conduct.reading.run import Run

GOOD, BAD = Exit(0), Exit(75)
BUSY = "-> !421 busy"


def mail(n: int, end: str = "") -> tuple[str, ...]:
    """A client that sends the message N, whose final dot gets this reply."""
    dot = f". <{n}@x>{f' -> {end}' if end else ''}"
    return (f"MAIL FROM:<s{n}@x>", "RCPT TO:<b@y>", "DATA", dot)


def refused(n: int) -> tuple[str, ...]:
    return (f"MAIL FROM:<s{n}@x> -> !451 later", "QUIT")


def word(play: Play, ended: Exit = GOOD, count: int | None = None) -> Word:
    return result(Run(play.journals, count=count).ledger, ended, count).word


def sentence(play: Play, ended: Exit = GOOD, count: int | None = None) -> str:
    return result(Run(play.journals, count=count).ledger, ended, count).sentence


@pytest.mark.parametrize(
    ("connections", "good", "bad"),
    [
        ([mail(1)], "delivered: 1 item", "false alarm: 1 item came through, but the client exited with 75"),
        (
            [mail(1), mail(2)],
            "delivered: all of 2 items",
            "false alarm: 2 items came through, but the client exited with 75",
        ),
        (
            [mail(1), refused(2), refused(3)],
            "lost: 2 of 3 items, and the client exited with 0",
            "reported: 2 of 3 items, and the client exited with 75",
        ),
        (
            [mail(1), mail(1)],
            "duplicated: 1 item, and the client exited with 0",
            "duplicated: 1 item, and the client exited with 75",
        ),
        (
            [mail(1), mail(2, "!550 no")],
            "refused: 1 of 2 items refused for good, and everything else came through",
            "refused: 1 of 2 items refused for good, and everything else came through",
        ),
        ([mail(1, "!550 no")], *["refused: 1 item refused for good"] * 2),
        (
            [(*mail(1)[:3], ". <1@x> {stored=true} -> !451 no")],
            "delivered: 1 item",
            "reported: 1 item came through although the server did not say so, and the client exited with 75",
        ),
        ([("QUIT",)], *["nothing asked: the client asked the server for nothing"] * 2),
    ],
)
def test_in_a_sentence(connections: list[tuple[str, ...]], good: str, bad: str) -> None:
    play = Play("smtp")
    for lines in connections:
        play.connect(*lines)
        play.wait("1m")
    assert (sentence(play), sentence(play, BAD)) == (good, bad)


def test_a_client_of_which_nobody_knows_how_it_ended() -> None:
    play = Play("smtp")
    play.connect(*mail(1))
    assert word(play, Exit()) == "delivered"
    play.wait("1m").connect(*refused(2))
    said = "unknown: 1 of 2 items did not come through, and it is unknown how the client ended"
    assert sentence(play, Exit()) == said


def test_it_prints_as_a_line_and_its_items_show_how_each_try_ended() -> None:
    play = Play("smtp")
    play.connect(*mail(1))
    play.wait("1m").connect(*refused(2))
    found = result(play.run.ledger, GOOD)
    assert str(found) == found.sentence == sentence(play)
    assert repr(found.lost) == "(<Item 'mail from s2@x', missing: deferred>,)"
    assert repr(found.lost[0].tries) == "[<Try: deferred on #2>]"


def test_a_client_that_raised() -> None:
    play = Play("smtp")
    play.connect(BUSY)
    assert sentence(play, Exit(1, "SMTPConnectError")) == "reported: 1 item, and the client raised SMTPConnectError"


def test_a_client_that_did_not_end() -> None:
    play = Play("smtp")
    play.connect(*mail(1))
    assert sentence(play, Exit(hung=True)) == "hung: the client did not end; 0 of 1 item had not come through"


def test_lost_is_worse_than_duplicated() -> None:
    play = Play("smtp")
    for lines in (mail(1), mail(1), refused(2)):
        play.connect(*lines).play.wait("1m")
    assert word(play) == "lost"


class TestTheNumberOfItems:
    def test_it_settles_a_doubt(self) -> None:
        play = Play("smtp")
        play.connect(BUSY)
        play.connect(BUSY).play.wait("1m")
        play.connect(*mail(1))
        assert word(play) == "unknown"
        assert [word(play, count=n) for n in (1, 2)] == ["delivered", "lost"]
        assert sentence(play, count=3) == "lost: 2 of 3 items, and the client exited with 0"

    def test_equal_messages_without_a_name_were_as_many_as_the_client_was_given(self) -> None:
        play = Play("smtp")
        for _ in range(3):
            play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ".").play.wait("1m")
        assert [word(play, count=n) for n in (1, 2, 3, 4)] == ["duplicated", "duplicated", "delivered", "lost"]
        assert sentence(play, count=3) == "delivered: all of 3 items"
        assert Run(play.journals, count=3).ledger.of_state("duplicated") == []

    def test_equal_messages_with_a_name_are_one(self) -> None:
        play = Play("smtp")
        for _ in range(2):
            play.connect(*mail(1)).play.wait("1m")
        assert word(play, count=2) == "lost"

    def test_what_came_again_after_a_421_was_taken_for_refused(self) -> None:
        play = Play("smtp")
        for _ in range(2):
            play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". -> !250 ok | 421 bye").play.wait("1m")
        assert Run(play.journals, count=2).ledger.of_state("duplicated") != []

    def test_equal_posts_were_as_many_as_the_client_was_given(self) -> None:
        play = Play("http")
        for _ in range(2):
            play.connect("POST a.test/ {body=5, stored=true} -> 200 OK").play.wait("1m")
        assert [word(play), word(play, count=2)] == ["duplicated", "delivered"]

    @pytest.mark.parametrize(
        ("protocol", "line"),
        [("http", "GET a.test/"), ("ftp", "RETR a"), ("http", "POST a.test/ {body=1, idempotency-key=k}")],
    )
    def test_what_may_be_repeated_without_harm_counts_once(self, protocol: str, line: str) -> None:
        play = Play(protocol)
        for _ in range(2):
            play.connect(line).play.wait("1m")
        assert word(play, count=1) == "delivered"
        assert delivered(Run(play.journals, count=1), 1, 1).outcome == "held"

    def test_each_get_counts_where_the_client_was_given_as_many(self) -> None:
        play = Play("http")
        for _ in range(3):
            play.connect("GET a.test/").play.wait("1m")
        assert [word(play, count=n) for n in (3, 4)] == ["delivered", "lost"]

    def test_a_copy_under_another_name_is_beyond_the_number(self) -> None:
        play = Play("smtp")
        for n in (1, 2):
            dot = f". <{n}@x> {{text_sha256=abc}} -> !250 ok | 421 bye"
            play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", dot).play.wait("1m")
        said = "duplicated: 2 items came through, and the client was given 1; the client exited with 0"
        assert [word(play), sentence(play, count=1), word(play, count=2)] == ["unknown", said, "delivered"]

    def test_a_number_that_is_too_small_accuses_nobody(self) -> None:
        """One message to two recipients is two items."""
        play = Play("smtp")
        play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>", "DATA", ". <1@x>")
        assert [word(play, BAD, count=n) for n in (1, 2)] == ["false alarm", "false alarm"]

    def test_what_seems_lost_may_be_one_that_came_later(self) -> None:
        play = Play("smtp")
        play.connect(*refused(1)).play.wait("1m")
        play.connect(*mail(2))
        assert [word(play, count=n) for n in (1, 2)] == ["delivered", "lost"]


def test_what_the_server_keeps_though_it_refuses_is_a_copy_only_where_nobody_can_recognise_it() -> None:
    for name, state in (("1", "delivered"), ("", "duplicated")):
        play = Play("smtp")
        item = Item("a message", marked=bool(name))
        line = play.connect("NOOP", "NOOP")
        first, second = line.connection.exchanges[1:]
        for x, ending in ((first, "deferred"), (second, "accepted")):
            item.add(Try(x, x, ending, x.at, x.index, x.at, x.index, kept=x))  # type: ignore[arg-type]
        assert (item.state, result(Ledger([item]), GOOD).word) == (state, state)


def test_every_word_has_a_sentence() -> None:
    from notnow.conduct.reading import result as module

    assert set(module._SENTENCES) == set(WORDS)


def test_what_was_dropped_is_not_taken_for_whole() -> None:
    ledger = Ledger([Item("a message")], dropped=3)
    ledger.items[0].repeatable = True
    play = Play("smtp")
    x = play.connect("NOOP").connection.exchanges[1]
    ledger.items[0].add(Try(x, x, "accepted", x.at, x.index, x.at, x.index, kept=x))
    found = result(ledger, GOOD)
    assert found.sentence == "unknown: the journal dropped 3 exchanges; a larger journal_limit would settle it"
