"""The three views of `notnow serve`: JSON Lines, plain lines, and a live view."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from notnow._version import __version__
from notnow.cli import _lines
from notnow.cli._lines import Pieces
from notnow.cli._news import News
from notnow.clock import Clock
from notnow.journal import Connection, Entry, Exchange, Mark
from notnow.journal.lines import json_lines
from notnow.journal.repeated import Lines
from notnow.servers.listening import listening
from notnow.units import plural, show

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from notnow.cli._serving import Control
    from notnow.servers.base.fake import Fake

MOST_SERVERS = 8  # that the panel has room for
MOST_PRINTED = 40  # the most lines at a time that a person can follow


class View(Protocol):
    """A view of the journal.

    In real seconds, `refresh` is the longest time between two calls and `pace` the shortest: drawing takes time that
    the fakes need under load.
    """

    refresh: float
    pace: float

    def begin(self, fakes: Sequence[Fake], control: Control | None = None) -> None:
        """The fakes listen, and so does their control API, if they have one."""

    def know(self, fakes: Sequence[Fake]) -> None:
        """These fakes run now: some may have been started or stopped over the control API."""

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        """Show the new entries, perhaps none; `dropped` more came too fast."""

    def end(self) -> None:
        """The fakes have stopped."""


class JSONView:
    """A line for each server, then one for each journal entry, and another when an entry goes on."""

    # A wake-up, a write and a cold cache for each entry would cost more than the entry; one that comes alone is written at once.
    refresh, pace = 1.0, 0.02

    def __init__(self) -> None:
        self._news, self._lines = News(), Lines()
        self._known: set[Fake] = set()

    def begin(self, fakes: Sequence[Fake], control: Control | None = None) -> None:
        if control is not None:
            self._write(json_lines([{"event": "control", "url": control.url, "token": control.token}]))
        self.know(fakes)

    def know(self, fakes: Sequence[Fake]) -> None:
        if new := [fake for fake in fakes if fake not in self._known]:
            self._write(json_lines(map(listening, new)))
            self._known = set(fakes)

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        if dropped:
            self._write(json_lines([{"event": "dropped", "count": dropped}]))
        self._write(self._lines.of(self._news.among(entries)))

    def end(self) -> None:
        """Nothing to clean up."""

    def _write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()


class _Reader:
    """The state of both views for people: the start times, and the lines that are not worth showing."""

    def __init__(self) -> None:
        self._news = News()
        self._zeros: dict[Clock, float] = {}  # when the first client connected
        self._clocks: dict[str, Clock] = {}  # by the names of the servers
        self._width = 0
        self._known: set[str] = set()

    def know(self, fakes: Sequence[Fake]) -> None:
        self._width = max([self._width, *(len(fake.name) for fake in fakes)])
        self._clocks |= {fake.name: fake.clock for fake in fakes}

    def lines(self, entries: Iterable[Entry]) -> list[Pieces]:
        return [line for entry in entries if (line := self._line(entry))]

    def _line(self, entry: Entry) -> Pieces | None:
        new = self._news.of(entry) if isinstance(entry, Exchange) else None
        if self._is_dull(entry) or (new is None and isinstance(entry, Exchange)):
            return None
        return _lines.entry_line(entry, self._zero(entry), self._width, new)

    def _zero(self, entry: Entry) -> float:
        """Times count from the first client's connection under the same clock."""
        clock = self._clocks.get(entry.connection.server if isinstance(entry, Exchange) else entry.server)
        if clock is None:
            return 0.0
        if isinstance(entry, Exchange):
            return self._zeros.setdefault(clock, entry.connection.opened_at)
        return self._zeros.get(clock, 0.0)

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

    refresh, pace = 1.0, 0.01  # a wake-up and a write for each entry would cost more than the entry

    def __init__(self) -> None:
        super().__init__()
        self._told: set[Fake] = set()

    def begin(self, fakes: Sequence[Fake], control: Control | None = None) -> None:
        self._write([_title(fakes), *([_lines.text(_about(control))] if control is not None else [])])
        self.know(fakes)

    def know(self, fakes: Sequence[Fake]) -> None:
        super().know(fakes)
        new = [fake for fake in fakes if fake not in self._told]
        self._told = set(fakes)
        self._write([_lines.text(pieces) for pieces in _lines.server_lines(new)])

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
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
        self._control: Control | None = None
        self._live: Live | None = None

    def begin(self, fakes: Sequence[Fake], control: Control | None = None) -> None:
        from rich.live import Live

        from notnow.page import console

        self._control = control
        self.know(fakes)
        self._live = Live(self._panel(), console=console(), auto_refresh=False, redirect_stderr=False)
        self._live.start(refresh=True)

    def know(self, fakes: Sequence[Fake]) -> None:
        super().know(fakes)
        scores = {score.fake: score for score in self._scores.values()}
        self._scores = {fake.name: scores.get(fake) or Score(fake) for fake in fakes}

    def show(self, entries: Sequence[Entry], dropped: int) -> None:
        from rich.text import Text

        assert self._live is not None
        for entry in entries:
            server = entry.connection.server if isinstance(entry, Exchange) else entry.server
            if server in self._scores:  # it may have been stopped meanwhile
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
        if self._control is not None:
            lines.append(_lines.styled(_about(self._control)))
        scores = list(self._scores.values())
        for score in scores[-MOST_SERVERS:]:
            server, *clients = _lines.server_lines([score.fake])
            lines += map(_lines.styled, (server, status(score), *clients))
        if (hidden := len(scores) - MOST_SERVERS) > 0:
            lines.append(_lines.styled([(f"… and {plural(hidden, 'server')} more", "dim")]))
        # Rules instead of a box, so that copied text has no frame in it.
        title = _title([score.fake for score in scores])
        return Group(Rule(title, align="left", style="dim"), *lines)


def _about(control: Control) -> Pieces:
    """Where the control API listens. With a token its page opens by a link that has it, once."""
    link = control.url if control.token is None else f"{control.url}/?token={control.token}"
    pieces = [("control  ", "bold cyan"), (link, "bold underline")]
    return pieces if control.token is None else [*pieces, (f"   token {control.token}", "")]


def _title(fakes: Sequence[Fake]) -> str:
    speed = getattr(fakes[0].clock, "speed", 1.0) if fakes else 1.0
    seed = f", seed {fakes[0].seed}" if fakes else ""
    fast = ", the clock stands still" if speed == 0 else f", {speed:g} times as fast" if speed != 1 else ""
    return f"notnow {__version__}{seed}{fast}, Ctrl-C stops"


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
