"""Text that clients send, cut to a length that the journal can hold."""

from __future__ import annotations

import hashlib

from notnow.bounds import TEXT

LONGEST = TEXT


def clip(text: str) -> str:
    """At most `LONGEST` characters of a text, with a note of its full length if some were cut."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def brief(text: str) -> str:
    """The same for a text that identifies something: a hash keeps two different texts different."""
    if len(text) <= LONGEST:
        return text
    return f"{clip(text)[:-1]}, SHA-256 {hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]})"
