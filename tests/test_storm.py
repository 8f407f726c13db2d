"""The load that a client puts on a server, in scenario time."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.expectations import load
from notnow.conduct.reading.attempts import TOLERANCE
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.storm import Storm, storm

BUSY = "-> !421 busy"
MAIL = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". <1@x>", "QUIT")


def of(play: Play) -> Storm:
    return storm(Run(play.journals))


def test_nobody_came() -> None:
    assert of(Play("smtp")) == Storm()
    assert of(Play("smtp")).in_words() == "0 tries, at most 0 in a second, 0 at a server known to be busy"


def test_one_message_at_once() -> None:
    play = Play("smtp")
    play.connect(*MAIL)
    assert of(play) == Storm(tries=1, items=1, amplification=1.0, peak=1)


def test_tries_an_item_and_tries_at_a_busy_server() -> None:
    play = Play("smtp")
    for _ in range(3):
        play.connect(BUSY).play.wait("10s")
    play.connect(*MAIL)
    found = of(play)
    assert (found.tries, found.items, found.amplification, found.peak, found.wasted) == (4, 1, 4.0, 1, 2)
    assert found.drained == 10.0
    assert found.in_words() == (
        "4 tries (4 an item), at most 1 in a second, 2 at a server known to be busy, drained 10s after recovery"
    )


def test_the_server_recovers_with_the_phase_after_its_last_refusal() -> None:
    play = Play("smtp")
    play.connect(BUSY).play.wait("10s")
    play.recorders[0].mark("phase", "recovered")
    play.wait("2s").recorders[0].mark("phase", "healthy")
    play.wait("3s").connect(*MAIL)
    assert of(play).drained == 5.0


def test_most_tries_in_a_second() -> None:
    play = Play("smtp")
    for gap in (0.5, 0.4, 0.2, 5.0):
        play.connect(BUSY).play.wait(gap)
    assert of(play).peak == 3


def test_what_is_accepted_makes_the_server_healthy_again() -> None:
    play = Play("smtp")
    play.connect(BUSY).play.wait("10s")
    play.connect(*MAIL).play.wait("10s")
    play.connect("MAIL FROM:<c@x> -> !451 later", "QUIT")
    assert of(play).wasted == 0


@pytest.mark.parametrize(
    ("tries", "at_most", "why"),
    [(1, 1, ""), (3, 3.0, ""), (4, 3, "expected at most 3 tries an item, but there were 4.00: 4 tries (4 an item), ")],
)
def test_an_assertion_about_amplification(tries: int, at_most: float, why: str) -> None:
    play = Play("smtp")
    for _ in range(tries - 1):
        play.connect(BUSY).play.wait("10s")
    play.connect(*MAIL)
    finding = load.amplification(of(play), at_most)
    assert (finding.outcome == "held", finding.why.startswith(why)) == (not why, True)
    assert load.amplification(Storm(), at_most).why.endswith("but the client asked for no item")


def test_an_assertion_about_the_time_to_drain() -> None:
    play = Play("smtp")
    assert load.drained(of(play), "5m").why.endswith("but nothing came through after a refusal")
    play.connect(BUSY).play.wait("10s")
    play.connect(*MAIL)
    assert load.drained(of(play), "10s").outcome == "held"
    assert load.drained(Storm(drained=10 + TOLERANCE), 10).outcome == "held"
    assert load.drained(of(play), 9).why.endswith("within 9s of the recovery, but it took 10s")
