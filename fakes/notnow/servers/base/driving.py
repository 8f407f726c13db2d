"""What a fake tells its engine, and what becomes of the scripts: each goes to the session that it is for.

The engine has no clock. Where it is due, an alarm wakes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from notnow.clock import Cancellable
from notnow.engine.actions import Script
from notnow.engine.engine import Engine
from notnow.engine.events import Event, Tick
from notnow.journal import Recorder
from notnow.servers.base.services import LoopServices
from notnow.servers.base.session import Session


class Driving(LoopServices):
    """The engine of one fake, with its alarm."""

    engine: Engine
    recorder: Recorder
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
