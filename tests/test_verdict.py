"""A verdict in words and as plain data, of rules and journals that are written by hand."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures import verdict
from notnow.conduct.reading.ledger import Ledger
from notnow.conduct.rules.rule import Rule


def rule(why: str = "servers mind") -> Rule:
    return Rule("smtp.waits", "It waits.", "should", "RFC 5321 §4.5.4.1", why, "seen", "example", lambda _run: held())


@pytest.fixture
def play() -> Play:
    play = Play("smtp").wait(5)
    play.connect("-> !421 no")
    play.wait("1m").connect("NOOP", "RSET -> …")
    return play


def test_the_broken_ones_are_offenders(play: Play) -> None:
    found = [
        Verdict(rule(), finding) for finding in (held(), broken("x", play.journals[0].exchanges[0]), NOT_EXERCISED)
    ]
    assert verdict.offenders(found) == [found[1]]


def test_a_broken_rule_says_why_and_what_proves_it(play: Play) -> None:
    first, _, noop, rset = play.journals[0].exchanges
    assert verdict.in_words(Verdict(rule(), broken("it came at once", first, noop, rset))) == (
        "broken: smtp.waits (should): It waits.\n"
        "    it came at once\n"
        "    smtp #1 at 0s: connect -> 421 no\n"
        "    smtp #2 at 1m: NOOP -> 250 ok\n"
        "    smtp #2 at 1m: RSET -> no reply\n"
        "    RFC 5321 §4.5.4.1; `notnow conduct smtp.waits` explains it"
    )


def test_an_expectation_has_no_page_that_explains_it(play: Play) -> None:
    finding = Finding("broken", "it did not", (play.journals[0].connections[1],), "it to come")
    assert verdict.details(Verdict(rule(why=""), finding)) == [
        "expected it to come, but it did not",
        "smtp #2, opened at 1m",
        "RFC 5321 §4.5.4.1",
    ]


def test_the_start_of_the_run_may_be_another(play: Play) -> None:
    (exchange, *_), (first, second) = play.journals[0].exchanges, play.journals[0].connections
    start, later = first.opened_at - 3, first.opened_at + 4
    assert verdict.proof(exchange, start) == "smtp #1 at 3s: connect -> 421 no"
    assert verdict.proof(exchange, later) == "smtp #1 at 0s: connect -> 421 no"
    assert verdict.proof(second, start) == "smtp #2, opened at 1m 3s"
    assert verdict.proof(first, later) == "smtp #1, opened at 0s"
    shown = verdict.in_words(Verdict(rule(), broken("", exchange)), start).splitlines()
    assert shown[1] == "    smtp #1 at 3s: connect -> 421 no"


@pytest.mark.parametrize(("pieces", "more"), [(10, []), (11, ["… and 1 more"]), (13, ["… and 3 more"])])
def test_little_evidence_is_enough(play: Play, pieces: int, more: list[str]) -> None:
    evidence = [play.journals[0].exchanges[0]] * pieces
    lines = verdict.details(Verdict(rule(), broken("", *evidence)))
    assert lines[10:-1] == more
    assert len(lines) == 11 + len(more)


@pytest.mark.parametrize(
    ("tries", "told"),
    [
        (5, "0s, 1m, 2m, 3m, 4m"),
        (6, "0s, 1m, 2m, 3m, … 1 more …, 5m"),
        (9, "0s, 1m, 2m, 3m, … 4 more …, 8m"),
    ],
)
def test_of_many_tries_the_first_and_the_last_are_told(tries: int, told: str) -> None:
    play = Play("smtp")
    for _ in range(tries):
        play.connect("MAIL FROM:<a@x> -> !451 no", "QUIT").play.wait("1m")
    (item,) = play.run.ledger.items
    said = verdict.story(item, item.tries[0].started_at).replace(" mail: 451 no", "")
    assert said == f"{told}; next it said 'QUIT'"


@pytest.mark.parametrize(("why", "lines"), [("", []), ("it waited 1m\x1b", ["it waited 1m\\x1b"])])
def test_a_rule_that_was_held_may_say_how_well(why: str, lines: list[str]) -> None:
    assert verdict.details(Verdict(rule(), held(why))) == lines


def test_as_plain_data(play: Play) -> None:
    exchange = play.journals[0].exchanges[0]
    assert verdict.as_dict(Verdict(rule(), broken("at once", exchange))) == {
        "rule": "smtp.waits",
        "level": "should",
        "outcome": "broken",
        "why": "at once",
        "evidence": [exchange.as_dict()],
        "title": "It waits.",
        "source": "RFC 5321 §4.5.4.1",
    }


def test_items_that_the_wire_does_not_name_with_the_refusals_that_may_have_been_theirs() -> None:
    play = Play("smtp")
    for n in (1, 2):
        play.connect("MAIL FROM:<a@x>", f"RCPT TO:<{n}@y>", "DATA", f". <{n}@x>")
    play.connect("MAIL FROM:<a@x> -> !451 no", "QUIT")
    play.connect("MAIL FROM:<a@x>", "RCPT TO:<3@y>", "DATA", ". <3@x>")
    zero = play.journals[0].connections[0].opened_at
    assert verdict.nameless(1, play.run.ledger, zero) == (
        "1 item that the wire does not name; refused before it was named: 0s mail: 451 no"
    )
    assert verdict.nameless(2, Ledger(), zero) == "2 items that the wire does not name"
