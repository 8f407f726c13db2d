"""The engine: what a fake does about each thing that its clients do.

It is pure but for its store: no sockets, no sleep, no wall clock, no chance without a seed. Time comes in
with every event, as seconds of scenario time. Decisions are made in the order in which events reach it, one
at a time, so a cap of N admits exactly N and "the first 3" are three.

    events  ->  feed(event, now)  ->  scripts
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import blake2b
from typing import NamedTuple, assert_never

from notnow.engine.actions import BEHAVE, Action, Hang, Proceed, Respond, Script, Send, Wait
from notnow.engine.compiling import (
    NO_PLAN,
    CompiledPhase,
    CompiledRule,
    Group,
    IdleTimeout,
    Plan,
    compile_phases,
    filled,
    key_for,
    watch,
)
from notnow.engine.conditions import Key
from notnow.engine.events import (
    NOTHING,
    Answered,
    Asked,
    Closed,
    Ended,
    Event,
    Facts,
    Heard,
    Hello,
    Known,
    Leaving,
    Opened,
    Reached,
    Tick,
)
from notnow.engine.store import Candidate, Decision, DecisionRequest, Memory, PhasePosition, Place, Store
from notnow.language.conditions import Owners, Quota, limit
from notnow.language.knobs import LATE, TIMES
from notnow.language.scenario import Scenario
from notnow.protocols.moment import CONNECTION_FACTS
from notnow.units import Span


class _Choice(NamedTuple):
    """The rule that fires, and how the quota stands of which its answer may tell: its own, else the first at its moment."""

    play: CompiledRule
    at: float  # when that was decided; a fault may come later
    quota: Quota | None = None
    limit: CompiledRule | None = None  # whose quota that is


@dataclass(slots=True)
class _Connection:
    """What the engine remembers of a live connection."""

    id: str
    number: int
    opened: float
    heard: float
    asked: float  # when it last said a command
    transferred: float  # when something that lasts was last under way
    facts: dict[str, object]
    over: bool = False  # we have decided to close: nothing more is said here
    left: bool = False  # the client is going: it holds no places
    passed: set[str] = field(default_factory=set)  # moments where it was let through
    lasting: dict[str, tuple[str, Facts]] = field(default_factory=dict)  # owner -> what is in progress, since when
    pending: dict[int, tuple[_Choice, str]] = field(default_factory=dict)  # stream -> fault that waits for a byte
    armed: bool = False  # it has an entry among the idle timers
    spent: dict[int, float] = field(default_factory=dict)  # which timeout -> when it last ended
    drawn: dict[str, int] = field(default_factory=dict)  # chance_key -> how often chance has decided


class Engine:
    """Plays one scenario for one fake.

    `host` and `port` fill the placeholders of replies; `epoch` is the wall time, in seconds since 1970, at
    scenario time 0, for `{left.date}`. `due` is when it next wants a `Tick`, `phase` the name of the phase that
    is playing.
    """

    phase: str

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
        self._position = self._store.position
        self._phase = self._phases[self._position.phase]
        self.phase = self._phase.name
        since, lasts = self._position.since, self._phase.lasts
        self._ends = None if since is None or lasts is None or self._is_final else since + lasts

    def _catch_up(self, now: float, scripts: list[Script]) -> None:
        """Another replica has moved the scenario on: go with it."""
        before = self._position
        self._settle()
        if (self._position.phase, self._position.lap) != (before.phase, before.lap):
            self._enter(now, scripts)

    @property
    def _is_final(self) -> bool:
        return self._position.phase == len(self._phases) - 1 and not self.scenario.repeat

    @property
    def due(self) -> float | None:
        """When the next `Tick` has something to do, in scenario seconds; None while nothing is waiting."""
        if not self._idle:
            return self._ends
        idle = self._idle[0][0]
        return idle if self._ends is None else min(self._ends, idle)

    def has_rules_at(self, moment: str) -> bool:
        """True if a rule of the scenario acts at this moment, in whichever phase."""
        return any(moment in phase.plans for phase in self._phases)

    # ---- what may be told to it ----------------------------------------------------------------

    def feed(self, event: Event, now: float) -> list[Script]:  # noqa: C901 (a case for each event)
        """Decide about one event, after all that was due before it. Scripts are in the order of what happened."""
        scripts: list[Script] = []
        if self._store.position is not self._position:
            self._catch_up(now, scripts)
        if (self._ends is not None and self._ends <= now) or (self._idle and self._idle[0][0] <= now):
            self._pass_time(now, scripts)
        match event:
            case Asked(conn, moment, facts, stream):
                self._asked(conn, moment, facts, stream, now, scripts)
            case Opened():
                self._open(event, now, scripts)
            case Heard(conn):
                if connection := self._connections.get(conn):
                    connection.heard = max(connection.heard, now)
                    if connection.lasting:
                        connection.transferred = connection.heard
            case Ended(conn, moment, stream):
                self._end(conn, moment, stream, now)
            case Answered(conn, code, command):
                self._answered(conn, code, command, now, scripts)
            case Leaving(conn):
                if connection := self._connections.get(conn):
                    self._leave(connection)
            case Closed(conn):
                if connection := self._connections.pop(conn, None):
                    self._leave(connection)
                    self._store.forget(conn)
            case Known(conn, facts):
                if connection := self._connections.get(conn):
                    self._know(connection, facts)
            case Reached(conn, stream):
                self._reached(conn, stream, now, scripts)
            case Hello(conn, sni):
                if connection := self._connections.get(conn):
                    connection.facts |= {"tls": True, "sni": sni}
                    self._ask(connection, "tls", NOTHING, 0, now, scripts)
            case Tick():
                pass
            case _:
                assert_never(event)
        return scripts

    def start(self, now: float) -> None:
        """Let scenario time begin, if it has not; the first connection does so as well."""
        if self._position.since is None:
            self._store.move(self._position, PhasePosition(self._position.phase, self._position.lap, now))
            self._settle()

    def next_phase(self, now: float) -> list[Script]:
        """Go on to the next phase by hand. The last one stays, unless the scenario repeats."""
        scripts: list[Script] = []
        self._catch_up(now, scripts)
        self._next_phase(now, scripts)
        return scripts

    def play(self, scenario: Scenario, now: float) -> list[Script]:
        """Swap the scenario: phases, counts and chance start anew; live connections keep their places."""
        live = [c for c in self._connections.values() if not c.over]
        self._load(scenario)
        for connection in live:
            self._opened += 1
            connection.number = self._opened
            connection.drawn.clear()
            connection.pending.clear()
            self._reacquire_slots(connection)
        scripts: list[Script] = []
        self._enter(now, scripts)
        return scripts

    # ---- events --------------------------------------------------------------------------------

    def _open(self, event: Opened, now: float, scripts: list[Script]) -> None:
        self.start(now)
        self._opened += 1
        facts: dict[str, object] = {"client": event.client, "connection": event.conn, "host": self.host, "tls": False}
        connection = _Connection(event.conn, self._opened, now, now, now, now, facts)
        choice, ends = self._decide(connection, "connect", NOTHING, 0, now, scripts)
        self._connections[event.conn] = connection
        script = self._carry_out(connection, choice, "connect", NOTHING, 0, now, scripts)
        if ends:
            self._next_phase(now, scripts)
        self._restart_idle(connection, script, now)

    def _asked(self, conn: str, moment: str, facts: Facts, stream: int, now: float, scripts: list[Script]) -> None:
        connection = self._connections.get(conn)
        if connection is None or connection.over:
            return
        connection.heard = connection.asked = now
        if self._phase.plan(moment) is None:  # nothing in the scenario looks at it
            script = self._carry_out(connection, None, moment, facts, stream, now, scripts)
        else:
            script = self._ask(connection, moment, facts, stream, now, scripts)
        self._restart_idle(connection, script, now)

    def _restart_idle(self, connection: _Connection, script: Script | None, now: float) -> None:
        """A client that waits for our answer is not idle: its timeout begins when that is out."""
        if connection.over:
            return
        if script is not None and script.steps is not BEHAVE:
            answered = now + _takes(script)
            connection.heard, connection.asked = max(connection.heard, answered), max(connection.asked, answered)
        if self._phase.idle_timeouts:
            self._arm(connection)

    def _answered(self, conn: str, code: int, command: str, now: float, scripts: list[Script]) -> None:
        connection = self._connections.get(conn)
        if code >= 400 and connection is not None and not connection.over:
            self._ask(connection, "error", {"code": code, "command": command}, 0, now, scripts)

    def _reached(self, conn: str, stream: int, now: float, scripts: list[Script]) -> None:
        connection = self._connections.get(conn)
        if connection is None or connection.over or stream not in connection.pending:
            return
        choice, moment = connection.pending.pop(stream)
        script = self._script(connection, choice, moment, stream, now)
        scripts.append(script)
        self._restart_idle(connection, script, now)

    def _know(self, connection: _Connection, facts: Facts) -> None:
        lost = {
            n for n in CONNECTION_FACTS.intersection(facts) if facts[n] is None and connection.facts.get(n) is not None
        }
        if lost:
            self._take_back(connection, lost)
        connection.facts |= facts

    def _take_back(self, connection: _Connection, lost: set[str]) -> None:
        """A fact of the connection holds no more (REIN, RFC 959 §4.1.1): the places that it has by it are free.

        These are the ones that it took at moments that are about this fact, and those that are counted `per` it. A place
        that it has by something else as well stays.
        """
        moments = self._phase.moments
        about = {m for m in connection.passed if m in moments and lost & moments[m].facts}
        connection.passed -= about
        freed: set[Key] = set()
        kept: set[Key] = set()
        for moment in connection.passed | about:
            for population in (self._phase.plan(moment) or NO_PLAN).populations:
                if not population.lasting and not population.within:
                    gone = moment in about or not lost.isdisjoint(population.per)
                    (freed if gone else kept).add(key_for(population, connection.facts))
        self._store.give_back([(key, connection.id) for key in freed - kept])

    def _end(self, conn: str, moment: str, stream: int, now: float) -> None:
        connection = self._connections.get(conn)
        if connection is None:
            return
        connection.heard = connection.transferred = max(connection.heard, now)
        connection.pending.pop(stream, None)
        owner = _owner(conn, moment, stream)
        if connection.lasting.pop(owner, None):
            self._store.release(owner)

    def _leave(self, connection: _Connection) -> None:
        """Free its places: it is gone, or going, or we have decided to close it."""
        if connection.left:
            return
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
        plan: Plan | None = None,
    ) -> Script | None:
        """Decide about one moment of one connection, and say what is done; None where that is nothing."""
        over = connection.over
        choice, ends = self._decide(connection, moment, facts, stream, now, scripts, plan)
        if connection.over and not over:  # by what a phase said that another replica has entered meanwhile
            return None
        script = self._carry_out(connection, choice, moment, facts, stream, now, scripts)
        if ends:
            self._next_phase(now, scripts)
        return script

    def _decide(
        self,
        connection: _Connection,
        moment: str,
        facts: Facts,
        stream: int,
        now: float,
        scripts: list[Script],
        plan: Plan | None = None,
    ) -> tuple[_Choice | None, bool]:
        """The rule that fires, and whether the phase ends with this event."""
        plan = plan or self._phase.plan(moment)
        while plan is not None:
            known = {**connection.facts, **facts} if facts else self._known_unasked(connection)
            request = self._request(connection, plan, moment, known, stream)
            decision = self._store.decide(request, now)
            if decision is not None:
                return _choice(plan, request, decision, now), decision.ends
            self._catch_up(now, scripts)
            plan = self._phase.plan(moment)
        return None, False

    def _known_unasked(self, connection: _Connection) -> Facts:
        """What is known where the client has asked for nothing: what it has in progress counts, too."""
        if not connection.lasting:
            return connection.facts
        known = dict(connection.facts)
        for _, facts in connection.lasting.values():
            known |= facts
        return known

    def _request(self, connection: _Connection, plan: Plan, moment: str, known: Facts, stream: int) -> DecisionRequest:
        counts: list[Key] = []
        candidates: list[tuple[Candidate, Key]] = []
        limits: list[tuple[Candidate, Key]] = []
        groups = plan.groups
        for filter_ in plan.filters:
            if not filter_.rejects(known.get(filter_.fact)):
                groups += filter_.groups
        for group in groups:
            for name, test in group.tests:
                if not test(known.get(name)):
                    break
            else:
                key = key_for(group, known) if group.per else group.key
                if group.counts:
                    counts.append(key)
                candidates += group.asked or self._drawn(group, key, connection)
                if plan.tells:
                    limits += [(play.candidate, key) for play in group.plays if play.candidate.limits]
        if len(groups) > 1:
            candidates.sort(key=lambda pair: pair[0].rule)
        owners: Owners = (connection.id,)
        places: Sequence[Place] = ()
        windows: Sequence[Key] = ()
        if plan.populations:
            owners, places, windows = self._joined(connection, plan, moment, known, stream)
        return DecisionRequest(self._position, owners, counts, candidates, places, windows, plan.until, limits)

    def _joined(
        self, connection: _Connection, plan: Plan, moment: str, known: Facts, stream: int
    ) -> tuple[Owners, list[Place], list[Key]]:
        """Who asks, and what it joins if it is let through: places, and windows."""
        owners: Owners = (connection.id,)
        if plan.lasting:
            owners = (connection.id, _owner(connection.id, moment, stream))
        places: list[Place] = []
        windows: list[Key] = []
        for population in plan.populations if not connection.left else ():
            if not population.tests or population.counts(known):
                key = key_for(population, known) if population.per else population.key
                if population.within:
                    windows.append(key)
                else:
                    places.append((key, owners[population.lasting]))
        return owners, places, windows

    def _drawn(self, group: Group, key: Key, connection: _Connection) -> list[tuple[Candidate, Key]]:
        """The candidates of a group that chance lets through."""
        return [
            (play.candidate, key)
            for play in group.plays
            if play.chance is None or self._draw(connection, play) < play.chance
        ]

    def _draw(self, connection: _Connection, play: CompiledRule) -> float:
        """A number in [0, 1) from the seed, the rule, the connection, and how often it drew there; nothing else."""
        drawn = connection.drawn[play.chance_key] = connection.drawn.get(play.chance_key, 0) + 1
        at = f"{self.seed}/{play.chance_key}/{connection.number}/{drawn}"
        return int.from_bytes(blake2b(at.encode(), digest_size=7).digest(), "big") / 2.0**56

    def _carry_out(
        self,
        connection: _Connection,
        choice: _Choice | None,
        moment: str,
        facts: Facts,
        stream: int,
        now: float,
        scripts: list[Script],
    ) -> Script | None:
        known = self._phase.moments.get(moment)
        play = None if choice is None else choice.play
        if play is None or not play.candidate.refuses:
            connection.passed.add(moment)
            if known is not None and known.lasts and not connection.left:
                connection.lasting[_owner(connection.id, moment, stream)] = moment, facts
                connection.transferred = max(connection.transferred, now)
        if known is not None and known.unasked and (play is None or play.steps == BEHAVE):
            return None
        script = self._answer(connection, choice, moment, stream, now)
        scripts.append(script)
        return script

    def _answer(self, connection: _Connection, choice: _Choice | None, moment: str, stream: int, now: float) -> Script:
        if choice is None:
            return Script(connection.id, BEHAVE, moment, self._phase.name, stream=stream)
        if not choice.play.deferred:
            return self._script(connection, choice, moment, stream, now)
        connection.pending[stream] = (choice, moment)
        return Script(connection.id, watch(choice.play), moment, self._phase.name, stream=stream)

    def _script(self, connection: _Connection, choice: _Choice, moment: str, stream: int, now: float) -> Script:
        play = choice.play
        steps = filled(play, lambda name: self._live(name, choice, connection, now))
        if play.closes:
            connection.over = True
            self._leave(connection)
        return Script(connection.id, steps, moment, play.phase, play.key, play.fault or None, stream)

    def _live(self, name: str, choice: _Choice, connection: _Connection, now: float) -> str:
        """The text for a placeholder; none where nothing at hand has that value."""
        if name in TIMES:
            span, unit = name.split(".")
            quota = choice.quota or Quota()
            left = 0.0 if self._ends is None else self._ends - choice.at
            seconds = {"left": left, "wait": quota.wait, "reset": quota.reset}[span]
            return "" if seconds is None else self._said(max(0.0, seconds + choice.at - now), unit, now)
        if name == "remaining":
            held = None if choice.quota is None else choice.quota.remaining
            return "" if held is None else str(held)
        if name in LATE:
            return f"{{{name}}}"
        if name == "limit":
            numbers = (limit(play.definition) for play in (choice.play, choice.limit) if play)
            number = next((number for number in numbers if number is not None), "")
            return f"{number:.15g}" if isinstance(number, Span) else str(number)
        return str({"host": self.host, "port": self.port}.get(name, connection.facts.get(name, "")))

    def _said(self, seconds: float, unit: str, now: float) -> str:
        """A span of time in a unit, rounded up: a client that waits so long is not too early."""
        if unit == "ms":
            return str(math.ceil(round(seconds * 1000, 6)))
        if unit == "seconds":
            return str(math.ceil(round(seconds, 6)))
        at = math.ceil(round(self.epoch + now + seconds, 6))
        return str(at) if unit == "epoch" else formatdate(at, usegmt=True)

    def _reacquire_slots(self, connection: _Connection) -> None:
        """Its places in a scenario that was not playing when it was let in."""
        if connection.left:
            return
        for moment in connection.passed:
            self._take(connection.id, moment, connection.facts, lasting=False)
        for owner, (moment, facts) in connection.lasting.items():
            self._take(owner, moment, {**connection.facts, **facts}, lasting=True)

    def _take(self, owner: str, moment: str, known: Facts, lasting: bool) -> None:
        for population in (self._phase.plan(moment) or NO_PLAN).populations:
            if population.lasting is lasting and not population.within and population.counts(known):
                self._store.take([(key_for(population, known), owner)])

    # ---- time ----------------------------------------------------------------------------------

    def _pass_time(self, now: float, scripts: list[Script]) -> None:
        """All that is due up to now, each at its own time and in that order."""
        self._skip_laps(now)
        while (due := self.due) is not None and due <= now:
            if due == self._ends:
                self._next_phase(due, scripts)
            else:
                self._fire_idle(due, scripts)

    def _skip_laps(self, now: float) -> None:
        """Leave out whole laps of a circle in which nothing could happen: a clock may jump by days."""
        since, lap = self._position.since, sum(phase.lasts or math.inf for phase in self._phases)
        if since is None or self._ends is None or now - since < lap or self._may_speak():
            return
        laps = (now - since) // lap
        self._store.move(
            self._position, PhasePosition(self._position.phase, self._position.lap + int(laps), since + laps * lap)
        )
        self._settle()

    def _may_speak(self) -> bool:
        """True if somebody is there to whom a phase may say something unasked."""
        unasked = any("enter" in phase.plans or phase.idle_timeouts for phase in self._phases)
        return unasked and any(not connection.over for connection in self._connections.values())

    def _next_phase(self, at: float, scripts: list[Script]) -> None:
        """Enter the next phase as of `at`."""
        if self._is_final:
            return
        index = (self._position.phase + 1) % len(self._phases)
        lap = self._position.lap + (index <= self._position.phase)
        self._store.move(self._position, PhasePosition(index, lap, None if self._position.since is None else at))
        self._settle()
        self._enter(at, scripts)

    def _enter(self, now: float, scripts: list[Script]) -> None:
        self._idle.clear()
        for connection in list(self._connections.values()):
            if connection.over:
                continue
            connection.spent.clear()
            connection.armed = False
            if "enter" in self._phase.plans:
                self._ask(connection, "enter", NOTHING, 0, now, scripts)
            self._arm(connection)

    def _timeout_ends(self, connection: _Connection, number: int, timeout: IdleTimeout) -> float:
        known = {"connect": connection.opened, "transfer": connection.transferred, "command": connection.asked}
        since = known.get(timeout.since, connection.heard)
        return max(since, connection.spent.get(number, since)) + timeout.seconds

    def _arm(self, connection: _Connection) -> None:
        """See that the connection has an entry among the timers; a later one than needed is put right there."""
        if not self._phase.idle_timeouts or connection.armed or connection.over:
            return
        first = min(self._timeout_ends(connection, *timeout) for timeout in enumerate(self._phase.idle_timeouts))
        if first < math.inf:  # while it hangs on an answer of ours, no timeout is its own
            connection.armed = True
            heapq.heappush(self._idle, (first, connection.id))

    def _fire_idle(self, now: float, scripts: list[Script]) -> None:
        while self._idle and self._idle[0][0] <= now:
            connection = self._connections.get(heapq.heappop(self._idle)[1])
            if connection is None or not connection.armed:
                continue
            connection.armed = False
            self._end_timeouts(connection, now, scripts)
            self._arm(connection)

    def _end_timeouts(self, connection: _Connection, now: float, scripts: list[Script]) -> None:
        phase = self._phase
        for number, timeout in enumerate(phase.idle_timeouts):
            if connection.over or self._phase is not phase:
                return
            if self._timeout_ends(connection, number, timeout) <= now:
                connection.spent[number] = now
                self._ask(connection, "idle", NOTHING, 0, now, scripts, timeout.plan)


def _choice(plan: Plan, request: DecisionRequest, decision: Decision, now: float) -> _Choice | None:
    """The rule that fires, with the quota that is its own, else the first that counts this event."""
    if decision.rule is None:
        return None
    play = plan.plays[decision.rule]
    told = {limit.rule: quota for (limit, _), quota in zip(request.limits, decision.quotas, strict=True)}
    if not told:
        return _Choice(play, now)
    whose = play.index if play.index in told else min(told)
    return _Choice(play, now, told[whose], plan.plays[whose])


def _owner(conn: str, moment: str, stream: int) -> str:
    """What is in progress on a connection since a moment, as the holder of a place."""
    return f"{conn}/{moment}/{stream}"


def _takes(script: Script) -> float:
    """How long it takes until a client has its answer, in seconds; for ever where it hangs."""
    return sum(_step_takes(step) for step in script.steps)


def _step_takes(step: Action) -> float:
    match step:
        case Hang():
            return math.inf
        case Wait(seconds):
            return seconds
        case Send(lines, drip) | Proceed(tuple(lines), drip):
            return drip * sum(len(line.encode()) + 2 for line in lines)
        case Respond(response, drip):
            return drip * len((response.body or "").encode())
        case _:
            return 0.0


__all__ = ["CompiledPhase", "Engine"]
