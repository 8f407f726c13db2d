"""The three views of `notnow serve`: JSON Lines, plain lines, and a live view."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from notnow._version import __version__
from notnow.cli import _lines
from notnow.cli._lines import Pieces
from notnow.cli._news import News
from notnow.journal import Connection, Entry, Exchange, Mark
from notnow.servers.listening import listening
from notnow.units import show

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from notnow.servers.base.fake import Fake

MOST_PRINTED = 40  # the most lines at a time that a person can follow


class View(Protocol):
    """A view of the journal.

    In real seconds, `refresh` is the longest time between two calls and `pace` the shortest: drawing takes time that
    the fakes need under load.
    """

    refresh: float
    pace: float

    def begin(self, fakes: Sequence[Fake]) -> None:
        """The fakes listen."""

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        """Show the new entries, perhaps none; `dropped` more came too fast."""

    def end(self) -> None:
        """The fakes have stopped."""


class JSONView:
    """A line for each server, then one for each journal entry, and another when an entry goes on."""

    refresh, pace = 1.0, 0.0

    def __init__(self) -> None:
        self._news = News()

    def begin(self, fakes: Sequence[Fake]) -> None:
        self._write(map(listening, fakes))

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        if dropped:
            self._write([{"event": "dropped", "count": dropped}])
        self._write(entry.as_dict() for entry in entries if not isinstance(entry, Exchange) or self._news.of(entry))

    def end(self) -> None:
        """Nothing to clean up."""

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        if text := "".join(json.dumps(line) + "\n" for line in lines):
            sys.stdout.write(text)
            sys.stdout.flush()


class _Reader:
    """The state of both views for people: the start time, and the lines that are not worth showing."""

    def __init__(self) -> None:
        self._news = News()
        self._zero: float | None = None
        self._width = 0
        self._known: set[str] = set()

    def know(self, fakes: Sequence[Fake]) -> None:
        self._width = max(len(fake.name) for fake in fakes)

    def lines(self, entries: Iterable[Entry]) -> list[Pieces]:
        return [line for entry in entries if (line := self._line(entry))]

    def _line(self, entry: Entry) -> Pieces | None:
        new = self._news.of(entry) if isinstance(entry, Exchange) else None
        if self._is_dull(entry) or (new is None and isinstance(entry, Exchange)):
            return None
        return _lines.entry_line(entry, self._zero or 0.0, self._width, new)

    def look_for_start(self, entries: Iterable[Entry]) -> None:
        """Times count from the first client's connection."""
        if self._zero is None:
            self._zero = next((e.connection.opened_at for e in entries if isinstance(e, Exchange)), None)

    def _is_dull(self, entry: Entry) -> bool:
        """True for known facts: the scenario that plays from the start, and the fake's own close."""
        if isinstance(entry, Connection):
            return entry.ended_by == "fake" and not entry.error
        if not isinstance(entry, Mark) or entry.kind != "play" or entry.server in self._known:
            return False
        self._known.add(entry.server)
        return True


class LinesView(_Reader):
    """Plain text, a line for each event."""

    refresh, pace = 1.0, 0.0

    def begin(self, fakes: Sequence[Fake]) -> None:
        self.know(fakes)
        lines = [_lines.text(pieces) for pieces in _lines.server_lines(fakes)]
        self._write([_title(fakes[0]), *lines])

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        self.look_for_start(entries)
        missing = [f"… {dropped} entries came too fast to be shown"] if dropped else []
        self._write([*missing, *map(_lines.text, self.lines(entries))])

    def end(self) -> None:
        self._write(["stopped"])

    def _write(self, lines: Sequence[str]) -> None:
        if lines:
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()


@dataclass(slots=True)
class Score:
    """The counters of one server. `since` is the start of its phase, in scenario seconds."""

    fake: Fake
    connections: int = 0
    gone: int = 0
    stored: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    since: float | None = None
    news: News = field(default_factory=News)

    def count(self, entry: Entry) -> None:
        match entry:
            case Connection():
                self.gone += 1
            case Mark():
                if entry.kind in ("phase", "play"):
                    self.since = entry.at if entry.kind == "phase" else None
            case Exchange():
                self._exchange(entry)

    def _exchange(self, exchange: Exchange) -> None:
        new = self.news.of(exchange)
        if new is None:
            return
        if exchange.moment == "connect" and new.first:
            self.connections += 1
            self.since = exchange.at if self.since is None else self.since
        self.stored += new.stored
        codes = [str(code) for code in new.codes if code >= 400]
        silent = exchange.refused and not any(code >= 400 for code in exchange.codes)
        ended = exchange.told.rpartition(", then ")[2].partition(",")[0]  # without the parts that differ each time
        self.refusals.update(codes or ([ended] if silent and (new.first or new.closed) else []))


class LiveView(_Reader):
    """Scrolling lines above a panel with each server, its phase and its counters."""

    refresh, pace = 0.2, 0.1

    def __init__(self) -> None:
        super().__init__()
        self._scores: dict[str, Score] = {}
        self._live: Live | None = None

    def begin(self, fakes: Sequence[Fake]) -> None:
        from rich.live import Live

        from notnow.cli._page import console

        self.know(fakes)
        self._scores = {fake.name: Score(fake) for fake in fakes}
        self._live = Live(self._panel(), console=console(), auto_refresh=False, redirect_stderr=False)
        self._live.start(refresh=True)

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        from rich.text import Text

        assert self._live is not None
        self.look_for_start(entries)
        for entry in entries:
            server = entry.connection.server if isinstance(entry, Exchange) else entry.server
            self._scores[server].count(entry)
        lines = [_lines.styled(pieces) for pieces in self.lines(entries[-MOST_PRINTED:])]
        if hidden := dropped + max(0, len(entries) - MOST_PRINTED):
            lines.insert(0, Text(f"… {hidden} more", style="dim"))
        if lines:
            self._live.console.print(Text("\n").join(lines))
        self._live.update(self._panel(), refresh=True)

    def end(self) -> None:
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)
            self._live.stop()

    def _panel(self) -> RenderableType:
        from rich.console import Group
        from rich.rule import Rule

        lines: list[RenderableType] = []
        for score in self._scores.values():
            server, *clients = _lines.server_lines([score.fake])
            lines += map(_lines.styled, (server, status(score), *clients))
        # Rules instead of a box, so that copied text has no frame in it.
        return Group(Rule(_title(score.fake), align="left", style="dim"), *lines)


def _title(fake: Fake) -> str:
    speed = getattr(fake.clock, "speed", 1.0)
    fast = f", {speed:g} times as fast" if speed != 1 else ""
    return f"notnow {__version__}, seed {fake.seed}{fast}, Ctrl-C stops"


def status(score: Score) -> Pieces:
    """The counters of one server, in a line."""
    live = score.connections - score.gone
    many = "1 connection" if score.connections == 1 else f"{score.connections} connections"
    told = ", ".join(f"{code} x{n}" for code, n in score.refusals.most_common())
    pieces = [(f"    {_phase(score)}", "bold magenta"), (f" | {many}" + (f" ({live} live)" if live else ""), "")]
    if told:
        pieces.append((f" | {told}", "bold red"))
    if score.stored:
        pieces.append((f" | {score.stored} stored", "green"))
    return pieces


def _phase(score: Score) -> str:
    """The current phase and, if it ends by time, the rest of it."""
    fake = score.fake
    name = fake.phase if fake.running else "stopped"
    lasts = next((phase.lasts for phase in fake.scenario.phases if phase.name == name), None)
    if lasts is None:
        return name
    if score.since is None:
        return f"{name}, {show(lasts)} from the first connection"
    left = max(0.0, lasts - (fake.clock.now() - score.since))
    return f"{name}, {show(round(left))} left"
