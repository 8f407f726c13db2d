"""What a fake tells its engine, and what becomes of the scripts: each goes to the session that it is for.

The engine has no clock. Where it is due, an alarm wakes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from notnow.bounds import DECISIONS, FACTS
from notnow.clock import Cancellable
from notnow.engine.actions import Script
from notnow.engine.engine import Engine
from notnow.engine.events import Event, Tick
from notnow.engine.trail import Explanation
from notnow.journal import Exchange, Journal, Recorder
from notnow.language.scenario import Scenario
from notnow.servers.base.services import LoopServices
from notnow.servers.base.session import Session
from notnow.servers.base.sharing import Sharing

T = TypeVar("T")


class Firings(NamedTuple):
    """How often a rule has fired since the last play, and how often it still can in the phase that plays.

    `left` is None if nothing bounds it, or its phase does not play.
    """

    times: int
    left: int | None


class Driving(LoopServices):
    """The engine of one fake, with its alarm."""

    scenario: Scenario
    engine: Engine
    sharing: Sharing
    recorder: Recorder
    journal: Journal
    sessions: Mapping[str, Session]  # by the ids of their connections
    _alarm: Cancellable | None = None
    _alarm_at: float | None = None

    @property
    def phase(self) -> str:
        return self.engine.progress.phase.name

    # ---- events and scripts ----------------------------------------------------------------------

    def feed(self, event: Event, moment: str = "", at: float | None = None) -> Script | None:
        """Tell the engine of an event, now or at a scenario time; return the script at this moment for its connection."""
        now = self.clock.now() if at is None else at
        if not moment and self.engine.absorbs(event, now):  # nearly always
            return None
        own, others = self._decide(event, moment, now)
        if others or self.engine.due != self._alarm_at:
            self._dispatch(others)
        return own

    def _decide(self, event: Event, moment: str, now: float) -> tuple[Script | None, Sequence[Script]]:
        """Tell the engine; return the script for this event, and the scripts for other connections."""
        progress = self.engine.progress
        phase = progress.phase
        scripts = self.engine.feed(event, now)
        if progress.phase is not phase:
            self._note_phase(phase.name)
        if moment:
            conn = event.conn  # type: ignore[union-attr]
            for i, script in enumerate(scripts):
                if script.moment == moment and script.conn == conn:
                    del scripts[i]
                    return script, scripts
        return None, scripts

    def _dispatch(self, scripts: Iterable[Script]) -> None:
        for script in scripts:
            if session := self.sessions.get(script.conn):
                session.unasked(script)
        self._arm()

    def _note_phase(self, before: str) -> None:
        if self.phase != before:
            self.recorder.mark("phase", self.phase)

    def begin(self) -> None:
        """Let scenario time start now, if no connection has started it. For any thread."""
        self.runner.call(self._begin)

    def _begin(self) -> None:
        self.engine.start(self.clock.now())
        self._arm()

    # ---- the alarm of the engine -----------------------------------------------------------------

    def _arm(self) -> None:
        """Have the engine woken when it is next due."""
        due = self.engine.due
        if due == self._alarm_at or not self.running:
            return
        self._disarm()
        self._alarm_at = due
        self._alarm = None if due is None else self.clock.call_at(due, self.loop, self._tick)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_at = None

    def _tick(self) -> None:
        self._alarm = self._alarm_at = None
        self.feed(Tick())

    # ---- looking back ----------------------------------------------------------------------------

    def explain(self, exchange: Exchange) -> list[Explanation]:
        """See `Fake.explain`. For any thread."""
        if exchange.connection.journal is not self.journal:
            raise ValueError(f"the exchange is one of {exchange.connection.server}, not of {self.journal.server}")
        if not any(exchange is one for one in self.journal.since_play()):
            raise ValueError("the exchange is from before the last play or reset, or the journal has dropped it")
        if not exchange._decision:
            return []
        if not self.sharing.can_explain:
            raise ValueError("a shared service keeps no record of what its replicas decided, so it explains nothing")
        found = self._read(lambda: self.engine.explain(exchange._decision, exchange.moment))
        if found is None:
            most = f"its last {DECISIONS:,} calls, and no more than {FACTS // 2**20} MiB of what clients said"
            raise ValueError(f"the exchange is too long ago: the engine remembers {most}")
        return found

    def firings(self) -> dict[str, Firings]:
        """See `Fake.fired`. For any thread."""
        left = self._read(self.engine.left)
        fired = Counter(x.rule for x in self.journal.since_play() if x.rule is not None and not x.stopped)
        return {path: Firings(fired[path], left.get(path)) for path in self.scenario.by_path()}

    def _read(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in the loop's thread where there is one."""
        return self.runner.call(work) if self.running else work()
