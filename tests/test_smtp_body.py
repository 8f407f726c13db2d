"""A message on its way in: where it ends, whatever pieces it comes in, and what is too large."""

from __future__ import annotations

import pytest

from notnow.servers.smtp.body import Body, Chunks

LIMIT = 12
DOT = b"\r\n.\r\n"


def fed(pieces: list[bytes]) -> tuple[Body, bytes]:
    body, rest = Body(LIMIT), b""
    for piece in pieces:
        rest += body.feed(piece)
    return body, rest


def splits(data: bytes) -> list[list[bytes]]:
    """The data whole, in two pieces at each place, and byte by byte."""
    return [[data], *([data[:i], data[i:]] for i in range(1, len(data))), [bytes([byte]) for byte in data]]


@pytest.mark.parametrize("pieces", splits(b"0123456789" + DOT))
def test_a_message_of_exactly_the_limit_is_kept_wherever_its_final_dot_is_split(pieces: list[bytes]) -> None:
    body, rest = fed(pieces)  # the line end before the dot is part of the message: 12 bytes
    assert (body.complete, body.too_large, body.size, rest) == (True, False, LIMIT, b"")
    assert body.content() == b"0123456789\r\n"


@pytest.mark.parametrize("pieces", splits(b"0123456789x" + DOT))
def test_one_byte_more_is_too_large_wherever_its_final_dot_is_split(pieces: list[bytes]) -> None:
    body, rest = fed(pieces)
    assert (body.complete, body.too_large, body.size, rest) == (True, True, LIMIT + 1, b"")


@pytest.mark.parametrize("pieces", splits(b"hi" + DOT))
def test_what_comes_after_the_dot_is_given_back(pieces: list[bytes]) -> None:
    body, rest = fed([*pieces[:-1], pieces[-1] + b"QUIT\r\n"])
    assert (body.complete, body.content(), rest) == (True, b"hi\r\n", b"QUIT\r\n")


def test_a_dot_that_was_put_before_a_dot_is_taken_away() -> None:
    body, _ = fed([b"..a\r\n..\r\n", b".\r\n"])
    assert body.content() == b".a\r\n.\r\n"


def test_an_empty_message() -> None:
    body, _ = fed([b".\r\n"])
    assert (body.complete, body.size, body.content()) == (True, 0, b"")


def test_chunks_are_too_large_from_one_byte_more() -> None:
    chunks = Chunks(4)
    chunks.feed(b"ab")
    chunks.feed(b"cd")
    assert (chunks.too_large, chunks.content()) == (False, b"abcd")
    chunks.feed(b"e")
    assert (chunks.too_large, chunks.size, chunks.content()) == (True, 5, b"")
