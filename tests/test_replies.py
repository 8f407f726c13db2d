"""Reply lines: which hold, and where a 1yz ends."""

from __future__ import annotations

from typing import Any

import pytest

from notnow.language.replies import Lines, preliminary
from notnow.language.tables import RefusedError


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("421 no", ("421 no",)),
        ("421", ("421",)),
        ("150 soon", ("150 soon",)),
        (["421-a", "421 b"], ("421-a", "421 b")),
        (["421-a", "free text", " 421 b", "421 c"], ("421-a", "free text", " 421 b", "421 c")),
        (["250 ok", "421 no"], ("250 ok", "421 no")),
        (["421-", "421 "], ("421-", "421 ")),
    ],
)
def test_lines_that_hold(value: Any, lines: tuple[str, ...]) -> None:
    assert Lines.read(value) == lines


WHAT = 'reply lines such as "421 4.3.2 Closing" (three digits, then " " or "-", on one line), not '


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "at least one reply line"),
        ("", WHAT + "''"),
        (5, WHAT + "5"),
        ("no", WHAT + "'no'"),
        ("42 no", WHAT + "'42 no'"),
        ("621 no", WHAT + "'621 no'"),
        ("021 no", WHAT + "'021 no'"),
        ("421no", WHAT + "'421no'"),
        ("421 a\r\nb", WHAT + r"'421 a\r\nb'"),
        (["421-a", "b\nc", "421 d"], WHAT + r"'b\nc'"),
        (["421-a", "b\rc", "421 d"], WHAT + r"'b\rc'"),
        (["421-a", 5, "421 d"], WHAT + "5"),
        ("421-a", "a last line with a space after the code: \"421 …\", not '421-a'"),
        (["421-a", "text"], "a last line with a space after the code: \"421 …\", not 'text'"),
        (
            ["421-a", "450 b"],
            "the same code on every line of a reply: '450 b' goes on a reply that began with 421; "
            "a middle line that begins with three digits has a space before them (RFC 959 §4.2)",
        ),
    ],
)
def test_lines_that_do_not(value: Any, words: str) -> None:
    with pytest.raises(RefusedError) as caught:
        Lines.read(value)
    assert caught.value.allowed == words


@pytest.mark.parametrize(
    ("lines", "first", "rest"),
    [
        (None, (), None),
        ((), (), None),
        (("421 no",), (), ("421 no",)),
        (("150 soon",), ("150 soon",), None),
        (("150 soon", "226 done"), ("150 soon",), ("226 done",)),
        (("150-a", "text", "150 b", "226-c", "226 d"), ("150-a", "text", "150 b"), ("226-c", "226 d")),
        (("226 done", "150 late"), (), ("226 done", "150 late")),
        (("150-a", "2 of them", "150 b", "550 no"), ("150-a", "2 of them", "150 b"), ("550 no",)),
    ],
)
def test_a_1yz_before_the_reply(
    lines: tuple[str, ...] | None, first: tuple[str, ...], rest: tuple[str, ...] | None
) -> None:
    assert preliminary(lines) == (first, rest)


def test_editors_are_told_of_one_line_or_a_list_of_them() -> None:
    texts = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    assert Lines.schema == {"anyOf": [{"type": "string"}, texts]}
