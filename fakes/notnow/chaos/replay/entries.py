"""The entries of an exported journal, read from JSON Lines, and sorted by the order in which they happened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from notnow.chaos.replay.recording import ReplayError
from notnow.errors import unknown

MOST = 500_000  # entries of a journal; a fake keeps 100,000 exchanges by default
KNOWN = ("exchange", "closed", "play", "phase", "dropped")


class Line(Struct):
    """An entry of a journal, as `notnow.journal` exports it; what it does not have is empty. `event` says which it is."""

    event: str
    index: int = 0
    at: float = 0.0
    server: str = ""
    connection: int = 0
    moment: str = ""
    request: str = ""
    reply: str | None = None
    fault: str | None = None
    rule: str | None = None
    phase: str = ""
    end: Mapping[str, Any] | None = None
    frames: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] = {}
    tls: Any = None  # of a connection its record, of a played scenario the mode
    text: str = ""
    protocol: str = ""
    toml: str = ""
    knobs: Mapping[str, Any] = {}
    count: int = 0

    @property
    def lines(self) -> list[str]:
        return self.reply.split("\n") if self.reply else []

    @property
    def codes(self) -> list[int]:
        """The codes of the replies: a multi-line reply has one."""
        return [int(line[:3]) for line in self.lines if line[:3].isdecimal() and line[3:4] != "-"]


class Entries(Struct):
    """The entries of one server, in order. `others` counts lines that are no entries, `dropped` what the journal has lost."""

    server: str
    found: list[Line]
    others: int = 0
    dropped: int = 0
    listening: dict[str, str] = field(default_factory=dict)


_decode = msgspec.json.Decoder(Line).decode


def read(lines: Iterable[str], name: str, server: str = "") -> Entries:
    """The entries of a server; where there is one, it need not be named. Raises ReplayError."""
    latest: dict[str, dict[tuple[str, int], Line]] = {}
    protocols: dict[str, str] = {}
    others = dropped = 0
    for text in lines:
        line = _line(text)
        if line is None:
            others += bool(text.strip())
        elif line.event == "listening":
            protocols.update(_listening(text))
        elif line.event not in KNOWN:
            continue  # of notnow, and no entry of a journal
        elif line.event == "dropped":
            dropped += line.count
        else:
            mine = latest.setdefault(line.server, {})
            mine[line.event, line.index] = line  # `serve --json` tells an exchange again when it has grown
            if len(mine) > MOST:
                raise ReplayError(f"{name} has more than {MOST} entries; cut out the part that matters")
    chosen = _chosen(latest, name, server)
    found = sorted(latest[chosen].values(), key=lambda one: one.index)
    return Entries(chosen, found, others, dropped, {k: v for k, v in protocols.items() if k == chosen})


def _line(text: str) -> Line | None:
    if not text.startswith("{"):
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return _with_surrogates(text) if r"\ud" in text else None


def _with_surrogates(text: str) -> Line | None:
    """An entry with bytes in it that were no UTF-8: msgspec refuses the lone surrogates that stand for them."""
    try:
        return msgspec.convert(json.loads(text), Line)
    except (ValueError, RecursionError):
        return None


def _listening(text: str) -> dict[str, str]:
    """The protocol of a server, as `serve --json` tells it at first."""
    told = json.loads(text)
    return {str(told.get("name", "")): str(told.get("protocol", ""))}


def _chosen(latest: Mapping[str, Mapping[tuple[str, int], Line]], name: str, server: str) -> str:
    """The server that was named, or the only one, or the only one on which a rule has fired."""
    if not latest:
        raise ReplayError(f"{name} has no entry of a journal; allowed: JSON Lines as `notnow serve --json` prints them")
    if server and server not in latest:
        raise ReplayError(f"{name}: {unknown('server', server, latest)}")
    fired = [one for one, lines in latest.items() if any(line.rule for line in lines.values())]
    among = fired if len(fired) == 1 else list(latest)
    if not server and len(among) > 1:
        raise ReplayError(f"{name} is the journal of several servers ({', '.join(latest)}); name one with --server")
    return server or among[0]
