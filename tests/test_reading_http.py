"""What several rules of HTTP need to know of an exchange, and what came through."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.reading.attempts import items
from notnow.conduct.reading.http import is_lost

GET, POST = "GET a.site.test/", "POST a.site.test/pay"


@pytest.fixture
def play() -> Play:
    return Play("http")


@pytest.mark.parametrize(
    ("line", "incomplete"),
    [
        (GET, False),
        (f"{GET} -> 399 see there", False),
        (f"{GET} -> 400 no", True),
        (f"{GET} {{whole=false}}", True),
        (f"{GET} -> !", True),
        (f"{POST} {{stored=true}}", False),
        (POST, True),
    ],
)
def test_what_came_through(play: Play, line: str, incomplete: bool) -> None:
    play.connect(line)
    (item,) = items(play.journals[0])
    assert item.incomplete is incomplete


def test_copies_are_requests_of_the_same_body(play: Play) -> None:
    play.connect(*[f"{POST} {{body={size}, stored=true}}" for size in (5, 6, 5)], GET, GET)
    post, get = items(play.journals[0])
    assert [len(copies) for copies in post.copies] == [2, 1]
    assert get.copies == []


def test_a_request_is_lost_with_the_first_end_of_its_connection(play: Play) -> None:
    line = play.connect(f"{GET} -> …").leaving()
    play.connect(GET)
    line.says("(leaves)")
    before, again = play.journals[0].exchanges[1], play.journals[0].exchanges[-1]
    assert is_lost(before, again)
