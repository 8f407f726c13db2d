"""The line of each key of a TOML document, for error messages: tomllib reads only the values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
# The tokens to look for, by the kind of long string that the line is in.
_ENDS = {
    "": re.compile(r'"""|\'\'\'|"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*|[\[\]{}]'),
    '"""': re.compile(r'\\.|"""'),
    "'''": re.compile(r"'''"),
}


def key_lines(text: str) -> dict[Path, int]:
    """The line (from 1) of every key and table header of a valid TOML document, by its path.

    `[[phase.rule]]` headers count their tables: the path of the second is `("phase", 0, "rule", 1)`.
    What stands inside a value (an inline table, a list over several lines) has its key's line.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in _statements(text):
        if header := _HEADER.match(line):
            table = _open(_parts(header[2]), header[1] == "[[", counts)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(table + tuple(_parts(key[1])), number)
    return lines


def line_of(lines: dict[Path, int], path: Sequence[str | int]) -> int | None:
    """The line of `path`, or of the innermost table or list around it that has one."""
    full = tuple(path)
    return next((lines[full[:end]] for end in range(len(full), 0, -1) if full[:end] in lines), None)


def show(path: Sequence[str | int]) -> str:
    """`("phase", 0, "rule", 1, "on")` as `phase[0].rule[1].on`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def _parts(dotted: str) -> list[str]:
    return [p.strip("\"'") for p in _PART.findall(dotted)]


def _open(parts: list[str], is_list: bool, counts: dict[Path, int]) -> Path:
    path: Path = ()
    for i, part in enumerate(parts):
        path += (part,)
        if is_list and i == len(parts) - 1:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """The lines on which a statement begins: not those inside a list, a table or a long string."""
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        if not depth and not quote:
            yield number, line
            if _HEADER.match(line):
                continue
        depth, quote = _scan(line, depth, quote)


def _scan(line: str, depth: int, quote: str) -> tuple[int, str]:
    """How deep in lists and tables, and in which long string, the next line begins."""
    at = 0
    while at < len(line):
        token = _ENDS[quote].search(line, at)
        if token is None:
            break
        at = token.end()
        if quote:
            quote = quote if token[0].startswith("\\") else ""
        elif token[0] in _ENDS:
            quote = token[0]
        else:
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
    return depth, quote
