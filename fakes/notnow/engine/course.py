"""What happens as time passes: phases follow one another, and idle connections time out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from notnow.engine.actions import BEHAVE, Script
from notnow.engine.connection import NONE, Connection
from notnow.engine.idle import IdleTimers, duration, expires
from notnow.engine.plans import IdleTimeout, Plan
from notnow.engine.progress import Progress
from notnow.engine.store import Store

MOST_REPEATS = 1000  # laps of a scenario, and expiries of one idle timeout, that are made up for after one jump of time


Decide = Callable[[Connection, str, float, Plan | None], list[Script]]
"""Decides about a moment that no client has asked for. Without a plan, that of the phase counts."""


class Course:
    """The course of a scenario over the connections that live.

    Each phase and each idle timeout asks `decide` what to do. `swap` plays what the other replicas play by now.
    """

    progress: Progress
    _store: Store

    def __init__(
        self, connections: Mapping[str, Connection], decide: Decide, swap: Callable[[float], list[Script]]
    ) -> None:
        self.timers = IdleTimers()
        self._connections, self._decide, self._swap = connections, decide, swap

    def begin(self, progress: Progress, store: Store) -> None:
        """Another scenario, and where it keeps its counts. Its first phase has yet to be entered."""
        self.progress, self._store = progress, store

    # ---- phases ----------------------------------------------------------------------------------

    def catch_up(self, now: float) -> list[Script]:
        """What was due before now, here and at other replicas."""
        earlier = self.follow(now) if self.progress.position is not self._store.position else []
        if self.progress.ends <= now or self.timers.due <= now:
            earlier += self._pass_time(now)
        return earlier

    def follow(self, now: float) -> list[Script]:
        """Go where another replica has moved the scenario, or play the one that it plays."""
        if self._store.outdated:
            return self._swap(now)
        return self.enter_phase(now) if self.progress.refresh() else []

    def _pass_time(self, now: float) -> list[Script]:
        """Everything that is due up to now, each at its own time and in that order."""
        scripts: list[Script] = []
        self.progress.skip_laps(now, keep=MOST_REPEATS if self._may_speak() else 0)
        while (due := min(self.progress.ends, self.timers.due)) <= now:
            scripts += self.next_phase(due) if due == self.progress.ends else self._expire(due, now)
        return scripts

    def _may_speak(self) -> bool:
        """True if a phase may say something unasked to a connection that is there."""
        unasked = any("enter" in phase.plans or phase.idle_timeouts for phase in self.progress.phases)
        return unasked and any(not connection.closing for connection in self._connections.values())

    def next_phase(self, at: float) -> list[Script]:
        """End the phase. The last one stays, unless the scenario repeats."""
        if self.progress.is_final:
            return []
        self.progress.next_phase(at)
        return self.follow(at) if self._store.outdated else self.enter_phase(at)

    def enter_phase(self, now: float) -> list[Script]:
        """A phase begins: it may say something to each connection, and idle timeouts start anew."""
        scripts: list[Script] = []
        self.timers.clear()
        for connection in list(self._connections.values()):
            connection.timed_out_at = NONE
            connection.has_timer = False
            if "enter" in self.progress.phase.plans:
                scripts += self._decide(connection, "enter", now, None)
            self.timers.set(connection, self.progress.phase.idle_timeouts)
        return scripts

    # ---- idle timeouts ---------------------------------------------------------------------------

    def restart_idle(self, connection: Connection, script: Script | None, now: float) -> None:
        """A client that waits for our answer is not idle: it may time out from the end of the answer on."""
        if connection.closing:
            return
        if script is not None and script.steps is not BEHAVE:
            connection.answered(now + duration(script.steps))
        self.timers.set(connection, self.progress.phase.idle_timeouts)

    def _expire(self, at: float, now: float) -> list[Script]:
        """The first timer has gone off."""
        connection = self._connections.get(self.timers.pop())
        if connection is None or not connection.has_timer:
            return []
        connection.has_timer = False
        if connection.is_busy(now):
            return []
        scripts: list[Script] = []
        phase = self.progress.phase
        for number, timeout in enumerate(phase.idle_timeouts):
            if self.progress.phase is phase and expires(connection, number, timeout) <= at:
                expired = at + _missed(timeout, min(now, self.progress.ends) - at)
                connection.timed_out_at = {**connection.timed_out_at, number: expired}
                scripts += self._decide(connection, "idle", at, timeout.plan)
        begun = sum(script.moment == "idle" for script in scripts)
        if begun:
            connection.unfinished, connection.unfinished_since = connection.unfinished + begun, now
        self.timers.set(connection, self.progress.phase.idle_timeouts)
        return scripts

    def finish_idle(self, connection: Connection, now: float) -> None:
        """An idle script has been carried out. The expiries that it has delayed are left out."""
        connection.unfinished -= 1
        if connection.unfinished:
            return
        timeouts, last = self.progress.phase.idle_timeouts, connection.timed_out_at
        connection.timed_out_at = {n: now if at + timeouts[n].seconds <= now else at for n, at in last.items()}
        self.timers.set(connection, timeouts)


def _missed(timeout: IdleTimeout, span: float) -> float:
    """How much of a jump to leave out, so that the timeout does not expire more than `MOST_REPEATS` times in it."""
    return max(0.0, span // timeout.seconds - MOST_REPEATS) * timeout.seconds
