"""The engine decides what a fake does about each thing that its clients do.

It is pure but for its store: no sockets, no sleep, no wall clock, no chance without a seed. Time comes in with every
event, as seconds of scenario time. Decisions are made in the order in which events reach it, one at a time, so a cap
of N admits exactly N and "the first 3" are three.

    events  ->  feed(event, now)  ->  scripts
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from msgspec import structs

from notnow.engine.actions import BEHAVE, Action, Close, Script, Wait
from notnow.engine.compiling import capacity_of
from notnow.engine.connection import NONE, Connection, FiredRule, Occasion
from notnow.engine.course import Course
from notnow.engine.deciding import decision_request, fired_rule
from notnow.engine.events import (
    NOTHING,
    Answered,
    Asked,
    Closed,
    Event,
    Facts,
    Finished,
    Hello,
    Opened,
    Reached,
)
from notnow.engine.placeholders import Placeholders
from notnow.engine.plans import NO_PLAN, CompiledPhase, Plan
from notnow.engine.progress import Progress, Settled
from notnow.engine.questions import BEHAVES
from notnow.engine.slots import entitled, leave
from notnow.engine.steps import filled, watch
from notnow.engine.store import Memory, Store
from notnow.engine.trail import Explanation, Traced, explain, left
from notnow.engine.unanswered import UNANSWERED
from notnow.language.scenario import Scenario

KICKED = "kicked"  # the fault of a connection that was cut off by hand
LOST = "lost"  # that of a connection that was refused because nobody could count it


class Engine:
    """Plays one scenario for one fake.

    `host` and `port` fill the placeholders of replies; `epoch` is the wall time, in seconds since 1970, at
    scenario time 0, for `{left.date}`.
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
        self.refusal: tuple[Action, ...] = (Close(),)  # for clients that nobody can count, if the store is then shut
        self.swap: Callable[[float], list[Script]] = lambda _now: []  # play what the other replicas play
        self._new_store = store
        self._connections: dict[str, Connection] = {}
        self._course = Course(self._connections, self._unasked, lambda now: self.swap(now))
        self._timers = self._course.timers
        self._load(scenario)

    def _load(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._store = self._new_store()
        if (capacity := capacity_of(scenario)) is not None:
            self._store.equip(capacity)
        self.progress = Progress(scenario, self._store)
        self._course.begin(self.progress, self._store)
        self._decisions = 0

    @property
    def phase(self) -> str:
        """The name of the phase that plays."""
        return self.progress.phase.name

    @property
    def due(self) -> float | None:
        """When the next `Tick` has something to do, in scenario seconds; None while nothing is waiting."""
        ends, timer = self.progress.ends, self._timers.due
        due = ends if ends < timer else timer
        return None if due == math.inf else due

    def has_rules_at(self, moment: str) -> bool:
        """True if a rule of the scenario acts at this moment, in any phase."""
        return moment in self.progress.moments

    # ---- looking back ----------------------------------------------------------------------------

    def explain(self, decision: int, moment: str) -> list[Explanation] | None:
        """See `trail.explain`. Only for an engine whose store is `Traced`."""
        assert isinstance(self._store, Traced), "only a store that is traced can look back"
        return explain(self._store, self.progress.phases, decision, moment)

    def left(self) -> dict[str, int | None]:
        """See `trail.left`, of the phase that plays. Only a store that is traced tells."""
        return left(self._store, self.progress.phase) if isinstance(self._store, Traced) else {}

    # ---- input -----------------------------------------------------------------------------------

    def feed(self, event: Event, now: float) -> list[Script]:
        """Decide about one event, after everything that was due before it. Scripts come in the order of events."""
        progress = self.progress
        if progress.position is self._store.position and progress.ends > now and self._timers.due > now:
            # nearly always
            if progress.settled and isinstance(event, Asked):
                script = self.settled(event.conn, event.moment, event.facts, event.stream, now)
                if script is not None:
                    return [script]
            return self._handle(event, now)
        return self._course.catch_up(now) + self._handle(event, now)

    def absorbs(self, event: Event, now: float) -> bool:
        """Take in an event that asks for no script. False for one that has to be fed: it may ask, or something is due before it."""
        progress = self.progress
        if progress.ends <= now or self._timers.due <= now or progress.position is not self._store.position:
            return False
        return self._take_in(event, now)

    def behaves(self, conn: str, moment: str, facts: Facts, now: float) -> bool:
        """True if the fake behaves at this request, which needs no script: nothing is to be decided at its moment.

        It is what an `Asked` comes to then. False for a request that has to be fed.
        """
        progress = self.progress
        if moment not in progress.undecided or (connection := self._asking(conn, now)) is None:
            return False
        if moment not in connection.passed or progress.phase.moments[moment].lasts:
            connection.let_through(moment, 0, facts, progress.phase, now)
        return True

    def settled(self, conn: str, moment: str, facts: Facts, stream: int, now: float) -> Script | None:
        """The script for a request at whose moment the same rule always fires. None for one that has to be fed.

        It is what an `Asked` comes to then.
        """
        settled = self.progress.settled.get(moment)
        if settled is None or (connection := self._asking(conn, now)) is None:
            return None
        if not settled.rule.candidate.refuses:
            connection.let_through(moment, stream, facts, self.progress.phase, now)
        if settled.seconds:
            connection.answered(now + settled.seconds)
        return self._fire(conn, moment, settled, now)

    def refuse(self, conn: str, now: float) -> Script | None:
        """The script for a client that `progress.refusal` turns away. None for one that has to be fed.

        It is what an `Opened` and `forget` come to then.
        """
        progress, refusal = self.progress, self.progress.refusal
        if refusal is None or progress.ends <= now or progress.position is not self._store.position:
            return None
        self._store.next_connection()
        return self._fire(conn, "connect", refusal, now)

    def _fire(self, conn: str, moment: str, settled: Settled, now: float) -> Script:
        """The script of a rule that always fires. It is on the record of decisions."""
        settled.note(settled.request, now)
        self._decisions += 1
        rule = settled.rule
        return Script(conn, rule.steps, moment, rule.phase, rule.path, settled.fault, self._decisions)

    def _asking(self, conn: str, now: float) -> Connection | None:
        """The connection that asks for something now; None unless the answer follows from the phase alone."""
        progress = self.progress
        if progress.ends <= now or progress.position is not self._store.position:
            return None
        connection = self._connections.get(conn)
        if connection is None or connection.closing:
            return None
        connection.active_at = connection.command_at = now
        return connection

    def start(self, now: float) -> None:
        """Let scenario time begin, unless it has; the first connection does so as well."""
        self.progress.start(now)

    def next_phase(self, now: float) -> list[Script]:
        """Go on to the next phase by hand. The last one stays, unless the scenario repeats."""
        return self._course.follow(now) + self._course.next_phase(now)

    def play(self, scenario: Scenario, now: float) -> list[Script]:
        """Swap the scenario: phases, counts and chance start anew; live connections keep their slots."""
        self._load(scenario)
        for connection in self._connections.values():
            if not connection.closing:
                connection.number = self._store.next_connection()
                connection.draws = connection.deferred = NONE
                self._store.acquire(list(entitled(connection, self.progress.phase)))
        return self._course.enter_phase(now)

    def kick(self, steps: tuple[Action, ...]) -> list[Script]:
        """Cut off every live connection with these steps, as an administrator does; no rule decides it."""
        live = [connection for connection in self._connections.values() if not connection.closing]
        for connection in live:
            connection.closing = True
            leave(connection, self._store)
        phase = self.progress.phase.name
        return [Script(connection.id, steps, "enter", phase, None, KICKED) for connection in live]

    def forget(self, conn: str) -> None:
        """A connection is gone: no event of it will follow."""
        leave(self._connections.pop(conn), self._store)
        self._store.forget(conn)

    # ---- events ----------------------------------------------------------------------------------

    def _handle(self, event: Event, now: float) -> list[Script]:
        if isinstance(event, Opened):
            return self._accept(event, now)
        carry_out = _ANSWERED.get(type(event))
        if carry_out is not None:
            connection = self._connections.get(event.conn)  # type: ignore[union-attr]
            return [] if connection is None else carry_out(self, connection, event, now)
        self._take_in(event, now)
        return []

    def _take_in(self, event: Event, now: float) -> bool:
        """Take in an event that asks for no script. False for any other."""
        kind = type(event)
        take_in = UNANSWERED.get(kind)
        if take_in is None:
            return False
        connection = self._connections.get(event.conn)  # type: ignore[union-attr]
        if connection is not None:
            if kind is Closed:
                del self._connections[connection.id]
            take_in(connection, event, now, self._store, self.progress)
        return True

    def _accept(self, event: Opened, now: float) -> list[Script]:
        self.progress.start(now)
        number = self._store.next_connection()
        facts: dict[str, object] = {"client": event.client, "connection": event.conn, "host": self.host, "tls": False}
        connection, phase = Connection(event.conn, number, now, now, now, now, facts), self.progress.phase
        plan = phase.plan("connect")
        if plan is None and not self._store.remote:
            self._connections[event.conn] = connection
            return self._behave(connection, "connect", NOTHING, 0, phase, now)
        scripts, ends_phase = self._decide(Occasion(connection, "connect", NOTHING, 0, now, phase, plan), awaited=True)
        self._connections[event.conn] = connection
        return scripts + self._course.next_phase(now) if ends_phase else scripts

    def _asked(self, connection: Connection, event: Asked, now: float) -> list[Script]:
        if connection.closing:
            return []
        connection.active_at = connection.command_at = now
        phase = self.progress.phase
        plan = phase.plan(event.moment)
        if plan is None and not self._store.remote:  # nearly always: nothing is to be decided
            return self._behave(connection, event.moment, event.facts, event.stream, phase, now)
        return self._act(Occasion(connection, event.moment, event.facts, event.stream, now, phase, plan), awaited=True)

    def _behave(
        self,
        connection: Connection,
        moment: str,
        facts: Facts,
        stream: int,
        phase: CompiledPhase,
        now: float,
        decision: int = 0,
    ) -> list[Script]:
        """No rule fires, and nothing else is to be done: what `_decide` comes to then."""
        connection.let_through(moment, stream, facts, phase, now)
        if phase.idle_timeouts:
            self._timers.set(connection, phase.idle_timeouts)
        return [Script(connection.id, BEHAVE, moment, phase.name, None, None, decision)]

    def _unasked(
        self, connection: Connection, moment: str, now: float, plan: Plan | None, facts: Facts = NOTHING
    ) -> list[Script]:
        if connection.closing:
            return []
        phase = self.progress.phase
        return self._act(Occasion(connection, moment, facts, 0, now, phase, plan or phase.plan(moment)))

    def _finished(self, connection: Connection, _event: Finished, now: float) -> list[Script]:
        self._course.finish_idle(connection, now)
        return []

    def _answered(self, connection: Connection, event: Answered, now: float) -> list[Script]:
        if event.code < 400:
            return []
        return self._unasked(connection, "error", now, None, {"code": event.code, "command": event.command})

    def _handshake(self, connection: Connection, event: Hello, now: float) -> list[Script]:
        facts = {"tls": True, "sni": event.sni}
        connection.facts = {**connection.facts, **facts}  # a decision keeps the facts that it saw
        phase = self.progress.phase
        return self._act(Occasion(connection, "tls", NOTHING, 0, now, phase, phase.plan("tls")))

    def _reached(self, connection: Connection, event: Reached, now: float) -> list[Script]:
        fired = None if connection.closing else connection.deferred.get(event.stream)
        if fired is None:
            return []
        connection.undefer(event.stream)
        script = self._script(connection, fired, now)
        self._course.restart_idle(connection, script, now)
        return [script]

    # ---- decisions -------------------------------------------------------------------------------

    def _act(self, occasion: Occasion, awaited: bool = False) -> list[Script]:
        """Decide about an occasion, and do so. `awaited`: the client waits for the answer."""
        scripts, ends_phase = self._decide(occasion, awaited)
        return scripts + self._course.next_phase(occasion.at) if ends_phase else scripts

    def _decide(self, occasion: Occasion, awaited: bool) -> tuple[list[Script], bool]:
        """The scripts of an occasion, and whether it ends the phase."""
        fired, ends_phase, plan, wait = None, False, occasion.plan, 0.0
        if plan is None and self.progress.ends_elsewhere:
            plan = NO_PLAN
        if plan is not None:
            request = decision_request(occasion, plan, self.progress.position, self.seed)
            decision = self._store.decide(request, occasion.at)
            self._decisions += 1
            o = occasion
            if decision is BEHAVES and awaited and not o.connection.closing:  # nearly always
                return self._behave(o.connection, o.moment, o.facts, o.stream, o.phase, o.at, self._decisions), False
            if decision is None:
                return self._decide_anew(occasion, awaited)
            if decision.rule is not None:
                fired = fired_rule(occasion, plan, request, decision)
            ends_phase, wait = decision.ends_phase, decision.wait
        script = self._answer(occasion, fired, 0 if plan is None else self._decisions)
        if wait and script is not None:
            script = structs.replace(script, steps=(Wait(wait), *script.steps))
        if awaited:
            self._course.restart_idle(occasion.connection, script, occasion.at)
        return [] if script is None else [script], ends_phase

    def _decide_anew(self, occasion: Occasion, awaited: bool) -> tuple[list[Script], bool]:
        """Another replica has moved the scenario on meanwhile: decide where it stands now."""
        earlier = self._course.follow(occasion.at)
        phase = self.progress.phase
        anew = structs.replace(occasion, phase=phase, plan=phase.plan(occasion.moment))
        scripts, ends_phase = self._decide(anew, awaited)
        return earlier + scripts, ends_phase

    def _answer(self, occasion: Occasion, fired: FiredRule | None, decision: int) -> Script | None:
        """What the fake does; None if that is nothing."""
        connection, moment, stream, phase = occasion.connection, occasion.moment, occasion.stream, occasion.phase
        if connection.closing and moment != "tls":  # a phase entered meanwhile closed it; a handshake still completes
            return None
        if moment == "connect" and fired is None and self._store.shut:
            connection.closing = True
            leave(connection, self._store)
            return Script(connection.id, self.refusal, moment, phase.name, None, LOST, decision)
        kind = phase.moments.get(moment)
        rule = None if fired is None else fired.rule
        if rule is None or not rule.candidate.refuses:
            connection.let_through(moment, stream, occasion.facts, phase, occasion.at)
        if kind is not None and kind.unasked and (rule is None or rule.steps == BEHAVE):
            return None
        if fired is None:
            return Script(connection.id, BEHAVE, moment, phase.name, None, None, decision)
        if not fired.rule.deferred:
            return self._script(connection, fired, occasion.at, decision)
        connection.deferred = {**connection.deferred, stream: fired}
        return Script(connection.id, watch(fired.rule.definition), moment, phase.name, None, None, decision)

    def _script(self, connection: Connection, fired: FiredRule, now: float, decision: int = 0) -> Script:
        rule, steps = fired.rule, fired.rule.steps
        if rule.has_placeholders:
            known = Placeholders(fired, connection.facts, now, self.port, self.progress.ends, self.epoch)
            steps = filled(steps, known.text)
        if rule.closes:
            connection.closing = True
            leave(connection, self._store)
        return Script(connection.id, steps, fired.moment, rule.phase, rule.path, rule.fault or None, decision)


# What is done at each event of a connection that may be answered.
_ANSWERED: dict[type[Event], Callable[[Engine, Connection, Any, float], list[Script]]] = {
    Asked: Engine._asked,
    Answered: Engine._answered,
    Finished: Engine._finished,
    Hello: Engine._handshake,
    Reached: Engine._reached,
}
