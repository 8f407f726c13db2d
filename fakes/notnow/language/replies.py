"""Reply lines of SMTP and FTP, as they are sent (RFC 5321 §4.2.1, RFC 959 §4.2)."""

from __future__ import annotations

import re

from notnow.language.tables import Kind, refuse
from notnow.language.values import one_or_more

REPLY_LINE = re.compile(r"[1-5][0-9][0-9](?:[ -][^\r\n]*)?")


def _lines(value: object) -> tuple[str, ...]:
    lines: list[object] = list(value) if isinstance(value, (list, tuple)) else [value]
    if not lines:
        raise refuse("at least one reply line")
    code = ""  # of a multi-line reply that goes on (RFC 959 §4.2, RFC 5321 §4.2.1)
    for line in lines:
        code = _code_after(line, code)
    if code:
        raise refuse(f'a last line with a space after the code: "{code} …", not {lines[-1]!r:.80}')
    return tuple(map(str, lines))


def _code_after(line: object, code: str) -> str:
    """The code of the multi-line reply that goes on after this line; "" if the reply has ended."""
    middle = code and isinstance(line, str) and not re.match(r"\d{3}", line)
    if middle and "\r" not in str(line) and "\n" not in str(line):
        return code
    if not isinstance(line, str) or not REPLY_LINE.fullmatch(line):
        raise refuse(
            f'reply lines such as "421 4.3.2 Closing" (three digits, then " " or "-", on one line), not {line!r:.80}'
        )
    if code and line[:3] != code:
        raise refuse(
            f"the same code on every line of a reply: {line!r} goes on a reply that began with {code}; "
            "a middle line that begins with three digits has a space before them (RFC 959 §4.2)"
        )
    return line[:3] if line[3:4] == "-" else ""


def preliminary(lines: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The 1yz replies at the beginning of reply lines (RFC 959 §4.2), and the lines after them; None if there are none."""
    lines = lines or ()
    size = next((i for i, line in enumerate(lines) if line[0] in "2345" and line[:3].isdecimal()), len(lines))
    return lines[:size], lines[size:] or None


Lines = Kind(_lines, one_or_more({"type": "string"}))
