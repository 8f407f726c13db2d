"""The engine: what a fake does about each thing that its clients do.

It is pure but for its store: no sockets, no sleep, no wall clock, no chance without a seed. Time comes in
with every event, as seconds of scenario time. Decisions are made in the order in which events reach it, one
at a time, so a cap of N admits exactly N and "the first 3" are three.

    events  ->  feed(event, now)  ->  scripts
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from hashlib import blake2b
from typing import assert_never

from notnow.actions import Hang, Proceed, Script, Wait
from notnow.compiling import CompiledPhase, Group, Plan, Play, compile_phases, filled, watch
from notnow.events import (
    NOTHING,
    Answered,
    Asked,
    Closed,
    Ended,
    Event,
    Facts,
    Heard,
    Hello,
    Left,
    Opened,
    Reached,
    Tick,
)
from notnow.scenario import Scenario
from notnow.store import Candidate, Key, Mark, Memory, Question, Store

BEHAVE = (Proceed(),)


@dataclass(slots=True)
class _Connection:
    """What the engine remembers of a live connection."""

    id: str
    number: int
    opened: float
    heard: float
    facts: dict[str, object]
    asked: int = 0
    over: bool = False  # we have decided to close: nothing more is said here
    left: bool = False  # the client is going: it holds no places
    passed: set[str] = field(default_factory=set)  # moments where it was let through
    lasting: dict[str, str] = field(default_factory=dict)  # owner -> moment of what is in progress
    pending: dict[int, tuple[Play, str]] = field(default_factory=dict)  # stream -> fault that waits for a byte
    armed: bool = False  # it has an entry among the idle timers
    spent: dict[int, float] = field(default_factory=dict)  # idle rule -> when it was last asked


class Engine:
    """Plays one scenario for one fake.

    `host` and `port` fill the placeholders of replies; `epoch` is the wall time, in seconds since 1970, at
    scenario time 0, for `{left.date}`. `due` is when it next wants a `Tick`.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int = 0,
        host: str = "fake.notnow.test",
        port: int = 0,
        epoch: float = 0.0,
        store: Callable[[], Store] = Memory,
    ) -> None:
        self.seed, self.host, self.port, self.epoch = seed, host, port, epoch
        self._new_store = store
        self._connections: dict[str, _Connection] = {}
        self._load(scenario)

    def _load(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._phases = compile_phases(scenario)
        self._store = self._new_store()
        self._opened = 0
        self._idle: list[tuple[float, str]] = []
        self._settle()

    def _settle(self) -> None:
        """Read where the scenario stands; it may be another replica that moved it."""
        self._mark = self._store.mark
        self._phase = self._phases[self._mark.phase]
        since, lasts = self._mark.since, self._phase.lasts
        self._ends = None if since is None or lasts is None or self._is_final else since + lasts

    @property
    def _is_final(self) -> bool:
        return self._mark.phase == len(self._phases) - 1 and not self.scenario.repeat

    @property
    def phase(self) -> str:
        """The name of the phase that is playing."""
        return self._phase.name

    @property
    def due(self) -> float | None:
        """When the next `Tick` has something to do, in scenario seconds; None while nothing is waiting."""
        idle = self._idle[0][0] if self._idle else None
        return min((t for t in (self._ends, idle) if t is not None), default=None)

    # ---- what may be told to it ----------------------------------------------------------------

    def feed(self, event: Event, now: float) -> list[Script]:
        """Decide about one event. Scripts for its own connection come before those for others."""
        scripts = self._pass_time(now) if self._ends is not None and now >= self._ends else []
        match event:
            case Asked(conn, moment, facts, stream):
                self._asked(conn, moment, facts, stream, now, scripts)
            case Opened():
                self._open(event, now, scripts)
            case Heard(conn):
                if connection := self._connections.get(conn):
                    connection.heard = now
            case Ended(conn, moment, stream):
                self._end(conn, moment, stream)
            case Answered(conn, code, command):
                self._answered(conn, code, command, now, scripts)
            case Left(conn):
                if connection := self._connections.get(conn):
                    self._leave(connection)
            case Closed(conn):
                if connection := self._connections.pop(conn, None):
                    self._leave(connection)
            case Reached(conn, stream):
                self._reached(conn, stream, now, scripts)
            case Hello(conn, sni):
                if connection := self._connections.get(conn):
                    connection.facts |= {"tls": True, "sni": sni}
                    self._ask(connection, "tls", NOTHING, 0, now, scripts)
            case Tick():
                self._fire_idle(now, scripts)
            case _:
                assert_never(event)
        return scripts

    def start(self, now: float) -> None:
        """Let scenario time begin, if it has not; the first connection does so as well."""
        if self._mark.since is None:
            self._store.move(self._mark, Mark(self._mark.phase, self._mark.lap, now))
            self._settle()

    def next_phase(self, now: float) -> list[Script]:
        """Go on to the next phase by hand. The last one stays, unless the scenario repeats."""
        scripts: list[Script] = []
        self._turn(now, now, scripts)
        return scripts

    def play(self, scenario: Scenario, now: float) -> list[Script]:
        """Swap the scenario: phases, counts and chance start anew; live connections keep their places."""
        live = [c for c in self._connections.values() if not c.over]
        self._load(scenario)
        for connection in live:
            self._opened += 1
            connection.number, connection.asked = self._opened, 0
            connection.pending.clear()
            self._retake(connection)
        scripts: list[Script] = []
        self._enter(now, scripts)
        return scripts

    # ---- events --------------------------------------------------------------------------------

    def _open(self, event: Opened, now: float, scripts: list[Script]) -> None:
        self.start(now)
        self._opened += 1
        connection = _Connection(
            event.conn, self._opened, now, now, {"client": event.client, "connection": event.conn, "host": self.host, "tls": False}
        )
        self._connections[event.conn] = connection
        self._ask(connection, "connect", NOTHING, 0, now, scripts)
        self._arm(connection)

    def _asked(
        self, conn: str, moment: str, facts: Facts, stream: int, now: float, scripts: list[Script]
    ) -> None:
        connection = self._connections.get(conn)
        if connection is None or connection.over:
            return
        connection.heard = now
        if "user" in facts:
            connection.facts["user"] = facts["user"]
        script = self._ask(connection, moment, facts, stream, now, scripts)
        # A client that waits for our answer is not idle; a delay counts from its end.
        connection.heard = now + _waits(script)
        self._arm(connection)

    def _answered(self, conn: str, code: int, command: str, now: float, scripts: list[Script]) -> None:
        connection = self._connections.get(conn)
        if code >= 400 and connection is not None and not connection.over:
            self._ask(connection, "error", {"code": code, "command": command}, 0, now, scripts, quiet=True)

    def _reached(self, conn: str, stream: int, now: float, scripts: list[Script]) -> None:
        connection = self._connections.get(conn)
        if connection is None or connection.over or stream not in connection.pending:
            return
        play, moment = connection.pending.pop(stream)
        scripts.append(self._script(connection, play, moment, stream, now))

    def _end(self, conn: str, moment: str, stream: int) -> None:
        connection = self._connections.get(conn)
        if connection is None:
            return
        connection.pending.pop(stream, None)
        owner = f"{conn}/{moment}/{stream}"
        if connection.lasting.pop(owner, None):
            self._store.release(owner)

    def _leave(self, connection: _Connection) -> None:
        """Free its places: it is gone, or going, or we have decided to close it."""
        connection.left = True
        self._store.release(connection.id)
        for owner in connection.lasting:
            self._store.release(owner)
        connection.lasting.clear()

    # ---- decisions -----------------------------------------------------------------------------

    def _ask(
        self,
        connection: _Connection,
        moment: str,
        facts: Facts,
        stream: int,
        now: float,
        scripts: list[Script],
        quiet: bool = False,
    ) -> Script | None:
        """Decide about one moment of one connection; `quiet` moments say nothing where no rule fires."""
        connection.asked += 1
        plan = self._phase.plan(moment)
        ends = False
        play = None
        if plan is not None:
            play, ends = self._decide(connection, plan, moment, facts, stream, now)
        if play is None or not play.candidate.refuses:
            connection.passed.add(moment)
        script = self._answer(connection, play, moment, stream, now, quiet)
        if script is not None:
            scripts.append(script)
        if ends:
            self._turn(now, now, scripts)
        return script

    def _decide(
        self, connection: _Connection, plan: Plan, moment: str, facts: Facts, stream: int, now: float
    ) -> tuple[Play | None, bool]:
        known = {**connection.facts, **facts} if facts else connection.facts
        while True:
            question = self._question(connection, plan, moment, known, stream)
            verdict = self._store.decide(question, now)
            if verdict is not None:
                play = None if verdict.rule is None else plan.plays[verdict.rule]
                return play, verdict.ends
            self._settle()  # another replica has moved the scenario on
            plan = self._phase.plan(moment) or Plan()

    def _question(
        self, connection: _Connection, plan: Plan, moment: str, known: Facts, stream: int
    ) -> Question:
        counts: list[Key] = []
        candidates: list[tuple[Candidate, Key]] = []
        groups = plan.groups
        for sieve in plan.sieves:
            if not sieve.rejects(known.get(sieve.fact)):
                groups += sieve.groups
        for group in groups:
            for name, test in group.tests:
                if not test(known.get(name)):
                    break
            else:
                key = group.key_for(known) if group.per else group.key
                if group.counts:
                    counts.append(key)
                candidates += group.asked or self._drawn(group, key, connection)
        if len(groups) > 1:
            candidates.sort(key=lambda pair: pair[0].rule)
        owner, places, windows = connection.id, [], []
        for population in plan.populations if not connection.left else ():
            if population.counts(known):
                (windows if population.within else places).append(population.key_for(known))
                if population.lasting:
                    owner = f"{connection.id}/{moment}/{stream}"
        if owner is not connection.id:
            connection.lasting[owner] = moment
        until = None if plan.until is None else (moment, plan.until)
        return Question(self._mark, owner, counts, candidates, places, windows, until)

    def _drawn(self, group: Group, key: Key, connection: _Connection) -> list[tuple[Candidate, Key]]:
        """The candidates of a group that chance lets through."""
        return [
            (play.candidate, key)
            for play in group.plays
            if play.chance is None or self._draw(connection, play) < play.chance
        ]

    def _draw(self, connection: _Connection, play: Play) -> float:
        """A number in [0, 1) that depends on the seed, the rule, the connection and the event, and no other call."""
        at = f"{self.seed}/{self._mark.lap}/{play.key}/{connection.number}/{connection.asked}"
        return int.from_bytes(blake2b(at.encode(), digest_size=7).digest(), "big") / 2.0**56

    def _answer(
        self, connection: _Connection, play: Play | None, moment: str, stream: int, now: float, quiet: bool
    ) -> Script | None:
        if play is None:
            return None if quiet else Script(connection.id, BEHAVE, moment, self._phase.name, stream=stream)
        if not play.later:
            if quiet and not play.fault:
                return None
            return self._script(connection, play, moment, stream, now)
        connection.pending[stream] = (play, moment)
        return Script(connection.id, watch(play), moment, self._phase.name, stream=stream)

    def _script(self, connection: _Connection, play: Play, moment: str, stream: int, now: float) -> Script:
        steps = filled(play, lambda name: self._live(name, play, connection, now))
        if play.closes:
            connection.over = True
            self._leave(connection)
        return Script(connection.id, steps, moment, self._phase.name, play.key, play.fault or None, stream)

    def _live(self, name: str, play: Play, connection: _Connection, now: float) -> str:
        if name.startswith("left."):
            left = max(0, math.ceil((self._ends or now) - now))
            return str(left) if name == "left.seconds" else formatdate(self.epoch + now + left, usegmt=True)
        if name == "limit":
            rule = play.rule
            return str(next((n for n in (rule.over, rule.after, rule.first, rule.nth) if n is not None), ""))
        return str({"host": self.host, "port": self.port}.get(name, connection.facts.get(name, "")))

    def _retake(self, connection: _Connection) -> None:
        """Its places in a scenario that was not playing when it was let in."""
        for moment in connection.passed:
            plan = self._phase.plan(moment)
            for population in plan.populations if plan else ():
                if population.within or population.lasting or connection.left:
                    continue
                if population.counts(connection.facts):
                    self._store.take(connection.id, [population.key_for(connection.facts)])

    # ---- phases --------------------------------------------------------------------------------

    def _pass_time(self, now: float) -> list[Script]:
        scripts: list[Script] = []
        self._skip_laps(now)
        while self._ends is not None and now >= self._ends:
            self._turn(self._ends, now, scripts)
        return scripts

    def _skip_laps(self, now: float) -> None:
        """Leave out whole laps of a circle in which nothing could happen: a clock may jump by days."""
        since, times = self._mark.since, [phase.lasts for phase in self._phases]
        if since is None or any("enter" in phase.plans for phase in self._phases):
            return
        lap = sum(time or math.inf for time in times)
        if (laps := (now - since) // lap) >= 1:
            self._store.move(self._mark, Mark(self._mark.phase, self._mark.lap + int(laps), since + laps * lap))
            self._settle()

    def _turn(self, at: float, now: float, scripts: list[Script]) -> None:
        """Enter the next phase as of `at`."""
        if self._is_final:
            return
        index = (self._mark.phase + 1) % len(self._phases)
        lap = self._mark.lap + (index <= self._mark.phase)
        self._store.move(self._mark, Mark(index, lap, None if self._mark.since is None else at))
        self._settle()
        self._enter(now, scripts)

    def _enter(self, now: float, scripts: list[Script]) -> None:
        self._idle.clear()
        for connection in list(self._connections.values()):
            if connection.over:
                continue
            connection.spent.clear()
            connection.armed = False
            if "enter" in self._phase.plans:
                self._ask(connection, "enter", NOTHING, 0, now, scripts, quiet=True)
            self._arm(connection)

    # ---- idle ----------------------------------------------------------------------------------

    def _silence_ends(self, connection: _Connection, play: Play) -> float:
        since = connection.opened if play.rule.since == "connect" else connection.heard
        return max(since, connection.spent.get(play.index, since)) + float(play.rule.after or 0)

    def _arm(self, connection: _Connection) -> None:
        """See that the connection has an entry among the timers; a later one than needed is put right there."""
        if not self._phase.idle or connection.armed or connection.over:
            return
        first = min(self._silence_ends(connection, play) for play in self._phase.idle)
        if first < math.inf:  # while it hangs on an answer of ours, no silence is its own
            connection.armed = True
            heapq.heappush(self._idle, (first, connection.id))

    def _fire_idle(self, now: float, scripts: list[Script]) -> None:
        while self._idle and self._idle[0][0] <= now:
            connection = self._connections.get(heapq.heappop(self._idle)[1])
            if connection is None or connection.over or not connection.armed:
                continue
            connection.armed = False
            due = [play for play in self._phase.idle if self._silence_ends(connection, play) <= now]
            if due:
                for play in due:
                    connection.spent[play.index] = now
                self._ask_idle(connection, due, now, scripts)
            self._arm(connection)

    def _ask_idle(
        self, connection: _Connection, due: Iterable[Play], now: float, scripts: list[Script]
    ) -> None:
        plan = self._phase.plans["idle"]
        ready = {play.index for play in due}
        groups = tuple(
            replace(group, plays=plays, asked=())
            for group in (*plan.groups, *(g for sieve in plan.sieves for g in sieve.groups))
            if (plays := tuple(play for play in group.plays if play.index in ready))
        )
        connection.asked += 1
        play, ends = self._decide(
            connection, Plan(groups, until=plan.until, plays=plan.plays), "idle", NOTHING, 0, now
        )
        script = self._answer(connection, play, "idle", 0, now, quiet=True)
        if script is not None:
            scripts.append(script)
        if ends:
            self._turn(now, now, scripts)


def _waits(script: Script | None) -> float:
    """How long a script keeps its client waiting, in seconds; for ever where it hangs."""
    if script is None:
        return 0.0
    return sum(math.inf if isinstance(s, Hang) else s.seconds if isinstance(s, Wait) else 0.0 for s in script.steps)


__all__ = ["CompiledPhase", "Engine"]
