"""Words of HTTP: status lines."""

from __future__ import annotations

import pytest

from notnow.http_words import phrase, status_line


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, "200 OK"), (421, "421 Misdirected Request"), (503, "503 Service Unavailable"), (799, "799")],
)
def test_a_status_line_has_the_phrase_of_the_rfc_or_none(status: int, line: str) -> None:
    assert status_line(status) == line
    assert phrase(status) == line[4:]
