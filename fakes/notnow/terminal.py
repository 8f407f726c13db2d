"""Client text made safe to print.

A client may send anything: escape sequences that recolour a terminal or set its title, a carriage return that fakes a
line, characters that reverse the direction of the following text. All text from clients passes through here before it is
shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})  # the strong classes of UAX #9, and Arabic digits


def safe(text: str) -> str:
    """The text as one harmless line.

    Controls (C0, DEL, C1), format characters (bidi overrides and isolates, zero-width ones), line and paragraph
    separators, lone surrogates and unassigned code points become Python's escapes: `\\x1b`, `\\u202e`.
    Spaces of every width stay. Safe text comes back unchanged.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def safe_lines(text: str) -> str:
    """The same for a text of several lines: its newlines stay."""
    return "\n".join(map(safe, text.split("\n")))


def _shown(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    return char.encode("unicode_escape").decode("ascii")


_WORD = re.compile(r"\S+")


def by_direction(text: str) -> Iterator[tuple[str, bool]]:
    """The pieces of a text, each with a flag: True if the piece needs an isolate because it has right-to-left letters, which
    would otherwise reorder the digits and marks beside them (UAX #9 §3.3).
    """
    start = 0
    for word in () if text.isascii() else _WORD.finditer(text):
        if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in word[0]):
            if word.start() > start:
                yield text[start : word.start()], False
            yield word[0], True
            start = word.end()
    if start < len(text):
        yield text[start:], False


def isolated(text: str) -> str:
    """The text with its right-to-left words in isolates, for output without markup."""
    return "".join(f"\u2068{piece}\u2069" if turns else piece for piece, turns in by_direction(text))
