"""What happened in a run at all, which spares rules a look at each exchange."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.reading.occasions import Occasions, occasions
from notnow.journal import ConnectionLost


@pytest.fixture
def play() -> Play:
    return Play("smtp")


def seen(play: Play) -> Occasions:
    return play.run.once(occasions)


def flags(play: Play) -> set[str]:
    found = seen(play)
    return {name for name in ("slow", "silent", "early", "spoken_after") if getattr(found, name)}


def test_a_healthy_run_has_none(play: Play) -> None:
    play.connect("EHLO x", "QUIT", "(leaves)")
    found = seen(play)
    assert (found.moments, found.faulty, found.told_at) == ({"connect", "ehlo", "quit"}, set(), set())
    assert (flags(play), found.tls) == (set(), [])


def test_a_refusal_by_a_rule_and_one_by_the_server(play: Play) -> None:
    play.connect("EHLO x -> !450 no", "MAIL FROM:<a@x> -> 250 ok | 421 bye")
    found = seen(play)
    assert (found.faulty, found.told_at) == ({"ehlo"}, {"mail"})


def test_one_exchange_stands_for_all_of_its_kind(play: Play) -> None:
    play.connect("NOOP", "NOOP", "NOOP -> 250 other", "NOOP -> !250 other")
    assert [(x.moment, x.reply, x.fault is None) for x in seen(play).kinds if x.moment == "noop"] == [
        ("noop", "250 ok", True),
        ("noop", "250 other", True),
        ("noop", "250 other", False),
    ]


@pytest.mark.parametrize(
    ("lines", "flag"),
    [
        (("EHLO x -> (30s) !250 ok",), "slow"),
        (("EHLO x -> !",), "silent"),
        (("EHLO x", "(1m)", "(early 2s) RSET -> 250 ok"), "early"),
        (("EHLO x -> !421 bye", "QUIT"), "spoken_after"),
        (("EHLO x -> …", "(unread) QUIT"), "spoken_after"),
    ],
)
def test_what_one_exchange_shows(play: Play, lines: tuple[str, ...], flag: str) -> None:
    play.connect("EHLO x", "(leaves)")
    play.connect(*lines)
    assert flag in flags(play)


def test_a_kind_with_an_end_is_another_one(play: Play) -> None:
    play.connect("EHLO x", "RSET -> !421 bye (stays)", "RSET -> !421 bye")
    assert [x.end is not None for x in seen(play).kinds if x.moment == "rset"] == [False, True]


def test_connections_that_failed(play: Play) -> None:
    play.connect("EHLO x", "(leaves)")
    broken = play.connect("EHLO x").fails(ConnectionLost("reset"))
    assert seen(play).failed == [broken.connection]


def test_connections_with_a_goaway() -> None:
    play = Play("http")
    play.connect("GET a.test/")
    told = play.connect("GET a.test/ -> !GOAWAY NO_ERROR, last stream 1")
    assert seen(play).with_goaway == [told.connection]


def test_tls(play: Play) -> None:
    play.connect("EHLO x")
    play.connect("EHLO x", defects=("expired",))
    assert [connection.number for connection in seen(play).tls] == [2]
